"""Video payloads back into what a decoder takes: VP8 (RFC 7741), VP9 (RFC 9628), H.264 (RFC 6184).

Each function takes the payloads of one frame in order and raises MediaError when they do not make
one. H.264 comes out with start codes (Annex B).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .errors import MediaError

START_CODE = b"\0\0\0\1"
MAX_FRAME_BYTES = 4 << 20

NAL_IDR = 5
NAL_STAP_A = 24
NAL_FU_A = 28


def vp8(payloads: Sequence[bytes]) -> bytes:
    """The VP8 frame: descriptors cut off, partitions joined."""
    parts: list[bytes] = []
    for index, payload in enumerate(payloads):
        start = vp8_descriptor_bytes(payload)
        begins = bool(payload[0] & 0x10) and not payload[0] & 0x07
        if (index == 0) != begins:
            raise MediaError("VP8: the first packet of the frame is missing or comes twice")
        parts.append(payload[start:])
    return _joined(parts)


def vp8_descriptor_bytes(payload: bytes) -> int:
    """RFC 7741 section 4.2."""
    try:
        offset = 1
        if payload[0] & 0x80:
            extended = payload[1]
            offset = 2
            if extended & 0x80:
                offset += 2 if payload[2] & 0x80 else 1
            if extended & 0x40:
                offset += 1
            if extended & 0x30:
                offset += 1
    except IndexError:
        raise MediaError("VP8: descriptor is cut off") from None
    if offset >= len(payload):
        raise MediaError("VP8: descriptor without picture data")
    return offset


def vp9(payloads: Sequence[bytes]) -> bytes:
    """The VP9 superframe of all spatial layers of the picture."""
    parts: list[bytes] = []
    for index, payload in enumerate(payloads):
        start = _vp9_descriptor_bytes(payload)
        if index == 0 and not payload[0] & 0x08:
            raise MediaError("VP9: the first packet of the frame is missing")
        parts.append(payload[start:])
    return _joined(parts)


def _vp9_descriptor_bytes(payload: bytes) -> int:
    """RFC 9628 section 4.2."""
    try:
        first = payload[0]
        offset = 1
        if first & 0x80:  # I: picture id
            offset += 2 if payload[offset] & 0x80 else 1
        if first & 0x20:  # L: layer indices, and TL0PICIDX in non-flexible mode
            offset += 1 if first & 0x10 else 2
        if first & 0x50 == 0x50:  # F and P: up to three reference differences
            for _ in range(3):
                offset += 1
                if not payload[offset - 1] & 0x01:
                    break
        if first & 0x02:  # V: scalability structure
            structure = payload[offset]
            offset += 1
            if structure & 0x10:  # Y: sizes
                offset += 4 * ((structure >> 5) + 1)
            if structure & 0x08:  # G: picture group
                pictures = payload[offset]
                offset += 1
                for _ in range(pictures):
                    offset += 1 + (payload[offset] >> 2 & 0x03)
    except IndexError:
        raise MediaError("VP9: descriptor is cut off") from None
    if offset >= len(payload):
        raise MediaError("VP9: descriptor without picture data")
    return offset


def h264(payloads: Sequence[bytes]) -> bytes:
    """The access unit with start codes: single NAL units, STAP-A and FU-A."""
    parts: list[bytes] = []
    in_fragment = False
    for payload in payloads:
        kind = payload[0] & 0x1F if payload else 0
        if kind == NAL_FU_A:
            if len(payload) < 3:
                raise MediaError("H.264: FU-A is cut off")
            if payload[1] & 0x80:
                parts += (START_CODE, bytes((payload[0] & 0xE0 | payload[1] & 0x1F,)))
                in_fragment = True
            elif not in_fragment:
                raise MediaError("H.264: FU-A without its start")
            parts.append(payload[2:])
            if payload[1] & 0x40:
                in_fragment = False
            continue
        if in_fragment:
            raise MediaError("H.264: FU-A without its end")
        if kind == NAL_STAP_A:
            offset = 1
            while offset + 2 < len(payload):
                size = payload[offset] << 8 | payload[offset + 1]
                offset += 2
                if not size or offset + size > len(payload):
                    raise MediaError("H.264: STAP-A is cut off")
                parts += (START_CODE, payload[offset : offset + size])
                offset += size
        elif 1 <= kind <= 23:
            parts += (START_CODE, payload)
        else:
            raise MediaError(f"H.264: packet type {kind} is not of packetization mode 0 or 1")
    if in_fragment:
        raise MediaError("H.264: FU-A without its end")
    return _joined(parts)


def _joined(parts: list[bytes]) -> bytes:
    frame = b"".join(parts)
    if not frame:
        raise MediaError("an empty frame")
    if len(frame) > MAX_FRAME_BYTES:
        raise MediaError(f"a frame of {len(frame)} bytes, at most {MAX_FRAME_BYTES} accepted")
    return frame


def vp8_is_keyframe(frame: bytes) -> bool:
    return not frame[0] & 0x01


def vp9_is_keyframe(frame: bytes) -> bool:
    """VP9 bitstream section 6.2: frame marker, profile, show_existing_frame, frame_type."""
    first = frame[0]
    if first >> 6 != 2:
        return False
    shift = 2 if first & 0x30 == 0x30 else 3  # profile 3 has a reserved bit
    if shift == 3:
        return not first & 0x08 and not first & 0x04
    return not first & 0x04 and not first & 0x02


def h264_is_keyframe(frame: bytes) -> bool:
    position = frame.find(START_CODE)
    while position >= 0 and position + 4 < len(frame):
        if frame[position + 4] & 0x1F == NAL_IDR:
            return True
        position = frame.find(START_CODE, position + 4)
    return False


DEPACKETIZERS: dict[str, Callable[[Sequence[bytes]], bytes]] = {
    "vp8": vp8,
    "vp9": vp9,
    "h264": h264,
}
KEYFRAME_TESTS: dict[str, Callable[[bytes], bool]] = {
    "vp8": vp8_is_keyframe,
    "vp9": vp9_is_keyframe,
    "h264": h264_is_keyframe,
}
