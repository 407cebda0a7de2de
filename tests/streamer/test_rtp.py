"""RTP parsing and writing, checked against aiortc's own and against arbitrary bytes."""

from __future__ import annotations

import pytest
from aiortc import rtp as aiortc_rtp
from hypothesis import given
from hypothesis import strategies as st

from streamer import rtp
from streamer.errors import PacketError

URIS = {1: rtp.AUDIO_LEVEL, 4: rtp.VIDEO_ORIENTATION, 12: rtp.DEPENDENCY_DESCRIPTOR}


def parse(data: bytes) -> rtp.Packet:
    return rtp.parse(memoryview(data), URIS, 1.5)


def test_a_packet_written_by_aiortc_is_read_the_same() -> None:
    theirs = aiortc_rtp.RtpPacket(
        payload_type=96, marker=1, sequence_number=65535, timestamp=4294967295, ssrc=0xDEADBEEF
    )
    theirs.payload = b"payload"
    packet = parse(theirs.serialize())
    assert (packet.payload_type, packet.marker, packet.seq) == (96, True, 65535)
    assert (packet.timestamp, packet.ssrc) == (4294967295, 0xDEADBEEF)
    assert packet.payload == b"payload"
    assert packet.arrival == 1.5


def test_padding_is_stripped_and_contributing_sources_are_dropped() -> None:
    theirs = aiortc_rtp.RtpPacket(payload_type=0, sequence_number=1, ssrc=2)
    theirs.csrc = [7, 8, 9]
    theirs.payload = b"abc"
    theirs.padding_size = 8
    assert parse(theirs.serialize()).payload == b"abc"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x80" * 11,
        b"\x40" + bytes(11),
        b"\x8f" + bytes(11),
        b"\x90" + bytes(11),
        b"\x90" + bytes(11) + b"\xbe\xde\x00\x09",
        b"\xa0" + bytes(11),
        b"\xa0" + bytes(11) + b"\x00",
        b"\xa0" + bytes(11) + b"\x09",
    ],
)
def test_what_is_not_an_rtp_packet_is_refused(data: bytes) -> None:
    with pytest.raises(PacketError):
        parse(data)


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_parsed_or_refused_and_nothing_else(data: bytes) -> None:
    try:
        packet = parse(data)
    except PacketError:
        return
    assert len(packet.payload) <= len(data)


@given(
    st.lists(
        st.tuples(st.sampled_from([1, 4, 12]), st.binary(min_size=1, max_size=16)), max_size=4
    ),
    st.binary(max_size=50),
)
def test_one_byte_extensions_survive_a_round_trip(
    elements: list[tuple[int, bytes]], payload: bytes
) -> None:
    block = rtp.extension_block(elements)
    packet = parse(rtp.header(96, False, 1, 2, 3, block) + payload)
    assert packet.extensions == tuple((URIS[i], data) for i, data in elements)
    assert packet.payload == payload


def test_an_element_too_long_for_one_byte_form_uses_the_two_byte_form() -> None:
    block = rtp.extension_block([(12, b"d" * 40), (1, b"x")])
    assert block[:2] == b"\x10\x00"
    packet = parse(rtp.header(96, True, 1, 2, 3, block) + b"p")
    assert packet.extensions == (
        (rtp.DEPENDENCY_DESCRIPTOR, b"d" * 40),
        (rtp.AUDIO_LEVEL, b"x"),
    )


def test_unknown_extension_ids_are_left_out() -> None:
    packet = parse(rtp.header(96, True, 1, 2, 3, rtp.extension_block([(9, b"zz")])) + b"p")
    assert packet.extensions == ()


@pytest.mark.parametrize(
    ("a", "b", "newer"), [(1, 0, True), (0, 65535, True), (0, 1, False), (5, 5, False)]
)
def test_sequence_numbers_compare_modulo_2_to_16(a: int, b: int, newer: bool) -> None:
    assert rtp.seq_newer(a, b) is newer


def test_abs_send_time_is_6_18_fixed_point_and_wraps() -> None:
    assert rtp.abs_send_time(1.0) == (1 << 18).to_bytes(3, "big")
    assert rtp.abs_send_time(64.5) == (1 << 17).to_bytes(3, "big")
