"""Where a key frame begins in each payload format; the only thing we read of a codec's bytes."""

from __future__ import annotations

from collections.abc import Callable

KeyframeTest = Callable[[bytes], bool]

NAL_IDR = 5
NAL_SPS = 7
NAL_STAP_A = 24
NAL_FU_A = 28


def vp8_starts_keyframe(payload: bytes) -> bool:
    """RFC 7741: first packet of partition 0 (S=1, PID=0) whose frame header has P=0."""
    size = len(payload)
    if size < 2 or not payload[0] & 0x10 or payload[0] & 0x07:
        return False
    offset = 1
    if payload[0] & 0x80:
        extended = payload[1]
        offset = 2
        if extended & 0x80:
            if size <= offset:
                return False
            offset += 2 if payload[offset] & 0x80 else 1
        if extended & 0x40:
            offset += 1
        if extended & 0x30:
            offset += 1
    return offset < size and not payload[offset] & 0x01


def vp9_starts_keyframe(payload: bytes) -> bool:
    """RFC 9628: start of a frame (B=1) that is not inter-predicted (P=0), base spatial layer."""
    size = len(payload)
    if size < 2:
        return False
    first = payload[0]
    if not first & 0x08 or first & 0x40:
        return False
    if not first & 0x20:  # no layer indices
        return True
    offset = 1
    if first & 0x80:  # picture id
        offset += 2 if payload[1] & 0x80 else 1
    return offset < size and not payload[offset] & 0x0E and not payload[offset] & 0x01


def h264_starts_keyframe(payload: bytes) -> bool:
    """RFC 6184: a parameter set, or the start of an IDR slice, alone, in STAP-A or in FU-A."""
    size = len(payload)
    if size < 2:
        return False
    kind = payload[0] & 0x1F
    if kind in (NAL_SPS, NAL_IDR):
        return True
    if kind == NAL_FU_A:
        return bool(payload[1] & 0x80) and payload[1] & 0x1F in (NAL_SPS, NAL_IDR)
    if kind == NAL_STAP_A:
        offset = 1
        while offset + 3 <= size:
            if payload[offset + 2] & 0x1F in (NAL_SPS, NAL_IDR):
                return True
            offset += 2 + (payload[offset] << 8 | payload[offset + 1])
    return False


def av1_starts_keyframe(payload: bytes) -> bool:
    """AV1 RTP specification 4.4: the N bit, first packet of a coded video sequence."""
    return len(payload) > 1 and bool(payload[0] & 0x08) and not payload[0] & 0x80


KEYFRAME_TESTS: dict[str, KeyframeTest] = {
    "vp8": vp8_starts_keyframe,
    "vp9": vp9_starts_keyframe,
    "h264": h264_starts_keyframe,
    "av1": av1_starts_keyframe,
}
