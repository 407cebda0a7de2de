"""Which payload formats we forward, and which two of them are the same to a decoder."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable

from .description import Codec

VIDEO_CODECS = ("vp8", "h264", "vp9", "av1")
VIDEO_CLOCK_RATE = 90000
OPUS_CLOCK_RATE = 48000
OPUS_BITRATES_BPS = (6_000, 510_000)  # RFC 7587 section 6.1

# With RTP and RTCP on one port these would look like RTCP (RFC 5761 section 4).
RTCP_PAYLOAD_TYPES = range(64, 96)

CONSTRAINED_BASELINE = "constrained-baseline"
DEFAULT_H264_PROFILE = "42000a"  # RFC 6184 section 8.1: Baseline, level 1

_PROFILE_LEVEL_ID = re.compile(r"[0-9a-fA-F]{6}")
_SMALL_NUMBER = re.compile(r"[0-9]{1,3}")

# Format parameters that describe the stream itself: an answer repeats them as they were offered.
STREAM_PARAMETERS = {
    "h264": ("level-asymmetry-allowed", "packetization-mode", "profile-level-id"),
    "vp9": ("profile-id",),
    "av1": ("level-idx", "profile", "tier"),
}


def forwardable(codec: Codec, kind: str) -> Codec | None:
    """The codec as we can forward it in an m-line of that kind, or None when we cannot."""
    if codec.payload_type in RTCP_PAYLOAD_TYPES:
        return None
    if kind == "audio":
        if (codec.name, codec.clock_rate, codec.channels) != ("opus", OPUS_CLOCK_RATE, 2):
            return None
        # Sound is not resent: by the time a resend arrives, concealment has been heard.
        return dataclasses.replace(codec, rtx_payload_type=None)
    if codec.name not in VIDEO_CODECS or codec.clock_rate != VIDEO_CLOCK_RATE:
        return None
    if not all(_well_formed(codec, name) for name in STREAM_PARAMETERS.get(codec.name, ())):
        return None
    if codec.name == "h264" and h264_packetization_mode(codec) not in ("0", "1"):
        return None  # interleaved mode: nobody in WebRTC decodes it (RFC 7742 section 6.2)
    if codec.rtx_payload_type in RTCP_PAYLOAD_TYPES:
        return dataclasses.replace(codec, rtx_payload_type=None)
    return codec


def _well_formed(codec: Codec, name: str) -> bool:
    value = codec.parameter(name)
    pattern = _PROFILE_LEVEL_ID if name == "profile-level-id" else _SMALL_NUMBER
    return value is None or pattern.fullmatch(value) is not None


def h264_packetization_mode(codec: Codec) -> str:
    return codec.parameter("packetization-mode") or "0"


def h264_profile(codec: Codec) -> str:
    """The profile: `constrained-baseline`, or profile_idc and constraint flags in hex.

    RFC 6184 table 5 writes Constrained Baseline in three ways; all mean the same decoder.
    """
    text = (codec.parameter("profile-level-id") or DEFAULT_H264_PROFILE).lower()
    idc, flags = int(text[:2], 16), int(text[2:4], 16)
    if (
        (idc == 0x42 and flags & 0x4F == 0x40)
        or (idc == 0x4D and flags & 0x8F == 0x80)
        or (idc == 0x58 and flags & 0xCF == 0xC0)
    ):
        return CONSTRAINED_BASELINE
    return text[:4]


def profile(codec: Codec) -> str:
    """The VP9 or AV1 profile; 0 when not given (RFC 9628, AV1 RTP specification 7.2)."""
    return codec.parameter("profile-id" if codec.name == "vp9" else "profile") or "0"


def preference_rank(codec: Codec) -> tuple[bool, bool]:
    """Sorts variants of one codec: what most receivers decode comes first.

    For H.264 that is single-NAL fragmentation (mode 1) and Constrained Baseline, which every
    WebRTC peer must decode (RFC 7742 section 6.2); for VP9 and AV1 it is profile 0.
    """
    if codec.name == "h264":
        return (
            h264_packetization_mode(codec) != "1",
            h264_profile(codec) != CONSTRAINED_BASELINE,
        )
    if codec.name in ("vp9", "av1"):
        return profile(codec) != "0", False
    return False, False


def best_match(published: Codec, accepted: Iterable[Codec]) -> Codec | None:
    """The accepted codec that decodes the published one, or None when none does.

    An H.264 profile need not match, only the packetization mode: decoders mostly know more than
    they offer, and a mode that was not agreed is not even depacketized.
    """
    named = [codec for codec in accepted if codec.name == published.name]
    if published.name == "h264":
        mode, wanted = h264_packetization_mode(published), h264_profile(published)
        named = [codec for codec in named if h264_packetization_mode(codec) == mode]
        named.sort(key=lambda codec: h264_profile(codec) != wanted)
    elif published.name in ("vp9", "av1"):
        named = [codec for codec in named if profile(codec) == profile(published)]
    return named[0] if named else None


def answer_parameters(
    codec: Codec, bandwidth_bps: int | None = None
) -> tuple[tuple[str, str], ...]:
    """The format parameters of our answer to this codec; `bandwidth_bps` limits an Opus sender."""
    if codec.name != "opus":
        return tuple(
            (name, value)
            for name in STREAM_PARAMETERS.get(codec.name, ())
            if (value := codec.parameter(name)) is not None
        )
    parameters = (("minptime", "10"), ("useinbandfec", "1"))
    if bandwidth_bps is None:
        return parameters
    low, high = OPUS_BITRATES_BPS
    limit = min(max(bandwidth_bps, low), high)
    return (*parameters, ("usedtx", "0"), ("maxaveragebitrate", str(limit)))
