"""SRTP in place, against pylibsrtp's own public interface; the private names it leans on."""

from __future__ import annotations

import os

import pylibsrtp
import pytest

from streamer import srtp
from streamer.rtp import header


def key_for(profile: srtp.SrtpProfile) -> bytes:
    return os.urandom(profile.key_bytes + profile.salt_bytes)


def test_the_private_names_of_pylibsrtp_are_still_there() -> None:
    from pylibsrtp import _binding

    for name in ("srtp_protect", "srtp_unprotect", "srtp_protect_rtcp", "srtp_unprotect_rtcp"):
        assert callable(getattr(_binding.lib, name))
    assert hasattr(_binding.ffi, "from_buffer")
    policy = pylibsrtp.Policy(key=os.urandom(30), ssrc_type=pylibsrtp.Policy.SSRC_ANY_OUTBOUND)
    assert pylibsrtp.Session(policy)._srtp[0]


@pytest.mark.parametrize("profile", srtp.PROFILES, ids=lambda profile: profile.name)
def test_what_we_protect_pylibsrtp_unprotects(profile: srtp.SrtpProfile) -> None:
    key = key_for(profile)
    ours = srtp.SrtpContext(profile, key, outbound=True)
    theirs = pylibsrtp.Session(
        pylibsrtp.Policy(
            key=key,
            ssrc_type=pylibsrtp.Policy.SSRC_ANY_INBOUND,
            srtp_profile=profile.libsrtp_id,
        )
    )
    packet = header(96, True, 7, 9, 11) + b"payload" * 20
    protected = ours.protect(packet)
    assert len(protected) == len(packet) + profile.tag_bytes
    assert theirs.unprotect(protected) == packet
    report = bytes.fromhex("80c9000100000001")
    assert theirs.unprotect_rtcp(ours.protect_rtcp(report)) == report


@pytest.mark.parametrize("profile", srtp.PROFILES, ids=lambda profile: profile.name)
def test_a_forged_or_replayed_packet_is_refused(profile: srtp.SrtpProfile) -> None:
    key = key_for(profile)
    sender = srtp.SrtpContext(profile, key, outbound=True)
    receiver = srtp.SrtpContext(profile, key, outbound=False)
    buffer = srtp.PinnedBuffer(2048)
    protected = sender.protect(header(96, True, 7, 9, 11) + b"payload")
    forged = bytearray(protected)
    forged[-1] ^= 1
    buffer.data[: len(forged)] = forged
    assert receiver.unprotect(buffer, len(forged)) == -1
    buffer.data[: len(protected)] = protected
    assert receiver.unprotect(buffer, len(protected)) == len(protected) - profile.tag_bytes
    buffer.data[: len(protected)] = protected
    assert receiver.unprotect(buffer, len(protected)) == -1


def test_a_resend_without_rtx_repeats_the_very_same_bytes() -> None:
    context = srtp.SrtpContext(srtp.AEAD_AES_128_GCM, key_for(srtp.AEAD_AES_128_GCM), outbound=True)
    packet = header(96, True, 7, 9, 11) + b"payload"
    assert context.protect(packet) == context.protect(packet)


def test_a_packet_that_does_not_fit_is_refused_quietly() -> None:
    context = srtp.SrtpContext(srtp.AEAD_AES_128_GCM, key_for(srtp.AEAD_AES_128_GCM), outbound=True)
    assert context.protect(bytes(5000)) == b""
    assert context.protect_rtcp(bytes(5000)) == b""
