"""RTP payloads back into coded frames, as files want them: VP8, VP9, H.264 and AV1.

Each function takes the payloads of one frame in order and raises PacketError when they do not make
one. H.264 comes out with a four-byte length before each NAL unit (ISO/IEC 14496-15), AV1 as OBUs
that carry their size, without temporal delimiters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from .codecs import NAL_FU_A, NAL_IDR, NAL_STAP_A
from .errors import PacketError

MAX_FRAME_BYTES = 4 << 20

OBU_SEQUENCE_HEADER = 1
OBU_TEMPORAL_DELIMITER = 2
OBU_TILE_LIST = 8
OBU_HAS_SIZE = 0x02


def vp8(payloads: Sequence[bytes]) -> bytes:
    """RFC 7741: descriptors cut off, partitions joined."""
    parts: list[bytes] = []
    for index, payload in enumerate(payloads):
        start = _vp8_descriptor_bytes(payload)
        begins = bool(payload[0] & 0x10) and not payload[0] & 0x07
        if (index == 0) != begins:
            raise PacketError("VP8: the first packet of the frame is missing or comes twice")
        parts.append(payload[start:])
    return _joined(parts)


def _vp8_descriptor_bytes(payload: bytes) -> int:
    """RFC 7741 section 4.2."""
    try:
        offset = 1
        if payload[0] & 0x80:  # X: extension
            extended = payload[1]
            offset = 2
            if extended & 0x80:  # I: picture id of one or two bytes
                offset += 2 if payload[2] & 0x80 else 1
            if extended & 0x40:  # L: TL0PICIDX
                offset += 1
            if extended & 0x30:  # T, K: temporal layer, key index
                offset += 1
    except IndexError:
        raise PacketError("VP8: the descriptor is cut off") from None
    if offset >= len(payload):
        raise PacketError("VP8: a descriptor without picture data")
    return offset


def vp9(payloads: Sequence[bytes]) -> bytes:
    """RFC 9628: descriptors cut off, the layers of the picture joined."""
    parts: list[bytes] = []
    for index, payload in enumerate(payloads):
        start = _vp9_descriptor_bytes(payload)
        if index == 0 and not payload[0] & 0x08:
            raise PacketError("VP9: the first packet of the frame is missing")
        parts.append(payload[start:])
    return _joined(parts)


def _vp9_descriptor_bytes(payload: bytes) -> int:
    """RFC 9628 section 4.2."""
    try:
        first = payload[0]
        offset = 1
        if first & 0x80:  # I: picture id of one or two bytes
            offset += 2 if payload[offset] & 0x80 else 1
        if first & 0x20:  # L: layer indices, and TL0PICIDX in non-flexible mode
            offset += 1 if first & 0x10 else 2
        if first & 0x50 == 0x50:  # F and P: up to three reference differences
            for _ in range(3):
                offset += 1
                if not payload[offset - 1] & 0x01:
                    break
        if first & 0x02:  # V: scalability structure
            offset = _vp9_structure_end(payload, offset)
    except IndexError:
        raise PacketError("VP9: the descriptor is cut off") from None
    if offset >= len(payload):
        raise PacketError("VP9: a descriptor without picture data")
    return offset


def _vp9_structure_end(payload: bytes, offset: int) -> int:
    structure = payload[offset]
    offset += 1
    if structure & 0x10:  # Y: the sizes of the layers
        offset += 4 * ((structure >> 5) + 1)
    if structure & 0x08:  # G: the pictures of a group
        pictures = payload[offset]
        offset += 1
        for _ in range(pictures):
            offset += 1 + (payload[offset] >> 2 & 0x03)
    return offset


def h264(payloads: Sequence[bytes]) -> bytes:
    """RFC 6184: single NAL units, STAP-A and FU-A."""
    units: list[bytes] = []
    fragments: list[bytes] = []
    for payload in payloads:
        kind = payload[0] & 0x1F if payload else 0
        if kind == NAL_FU_A:
            if len(payload) < 3:
                raise PacketError("H.264: FU-A is cut off")
            if payload[1] & 0x80:
                fragments = [bytes((payload[0] & 0xE0 | payload[1] & 0x1F,))]
            elif not fragments:
                raise PacketError("H.264: FU-A without its start")
            fragments.append(payload[2:])
            if payload[1] & 0x40:
                units.append(b"".join(fragments))
                fragments = []
            continue
        if fragments:
            raise PacketError("H.264: FU-A without its end")
        if kind == NAL_STAP_A:
            units += _stap_a_units(payload)
        elif 1 <= kind <= 23:
            units.append(payload)
        else:
            raise PacketError(f"H.264: packet type {kind} is not of packetization mode 0 or 1")
    if fragments:
        raise PacketError("H.264: FU-A without its end")
    return _joined([part for unit in units for part in (len(unit).to_bytes(4, "big"), unit)])


def _stap_a_units(payload: bytes) -> Iterator[bytes]:
    """RFC 6184 section 5.7.1."""
    offset = 1
    while offset + 2 < len(payload):
        size = payload[offset] << 8 | payload[offset + 1]
        offset += 2
        if not size or offset + size > len(payload):
            raise PacketError("H.264: STAP-A is cut off")
        yield payload[offset : offset + size]
        offset += size


def av1(payloads: Sequence[bytes]) -> bytes:
    """AV1 RTP specification section 4: elements of several packets joined to OBUs."""
    obus: list[bytes] = []
    unfinished: bytes | None = None
    for payload in payloads:
        elements = _av1_elements(payload)
        continues, goes_on = bool(payload[0] & 0x80), bool(payload[0] & 0x40)
        if continues != (unfinished is not None):
            raise PacketError("AV1: an OBU without its start or its end")
        for index, element in enumerate(elements):
            if index == 0 and unfinished is not None:
                element = unfinished + element
                unfinished = None
            if goes_on and index == len(elements) - 1:
                unfinished = element
            else:
                obus.append(element)
    if unfinished is not None:
        raise PacketError("AV1: an OBU without its end")
    return _joined([_sized(obu) for obu in obus if _kept(obu)])


def _av1_elements(payload: bytes) -> list[bytes]:
    """AV1 RTP specification section 4.3; the aggregation header is section 4.4."""
    if len(payload) < 2:
        raise PacketError("AV1: a packet without an OBU")
    count = payload[0] >> 4 & 0x03
    elements: list[bytes] = []
    offset = 1
    while offset < len(payload):
        if count and len(elements) == count - 1:  # the last of a known number has no length
            elements.append(payload[offset:])
            return elements
        size, offset = read_leb128(payload, offset)
        if offset + size > len(payload):
            raise PacketError("AV1: an OBU element beyond its packet")
        elements.append(payload[offset : offset + size])
        offset += size
    if count and len(elements) != count:
        raise PacketError("AV1: fewer OBU elements than announced")
    return elements


def _kept(obu: bytes) -> bool:
    if not obu:
        raise PacketError("AV1: an empty OBU")
    return obu_type(obu[0]) not in (OBU_TEMPORAL_DELIMITER, OBU_TILE_LIST)


def _sized(obu: bytes) -> bytes:
    """The OBU with its size in it (AV1 specification section 5.3)."""
    if obu[0] & OBU_HAS_SIZE:
        return obu
    head = 2 if obu[0] & 0x04 else 1  # with an extension byte
    if len(obu) < head:
        raise PacketError("AV1: an OBU header is cut off")
    body = obu[head:]
    return bytes((obu[0] | OBU_HAS_SIZE,)) + obu[1:head] + leb128(len(body)) + body


def obu_type(header: int) -> int:
    return header >> 3 & 0x0F


def read_leb128(data: bytes, offset: int) -> tuple[int, int]:
    """A number of AV1 specification section 4.10.5, and the offset behind it."""
    value = 0
    for index in range(8):
        if offset >= len(data):
            break
        byte = data[offset]
        offset += 1
        value |= (byte & 0x7F) << (7 * index)
        if not byte & 0x80:
            return value, offset
    raise PacketError("AV1: a length is cut off")


def leb128(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _joined(parts: list[bytes]) -> bytes:
    frame = b"".join(parts)
    if not frame:
        raise PacketError("an empty frame")
    if len(frame) > MAX_FRAME_BYTES:
        raise PacketError(f"a frame of {len(frame)} bytes, at most {MAX_FRAME_BYTES} accepted")
    return frame


# --- what is in a frame ------------------------------------------------------------------------


def nal_units(frame: bytes) -> Iterator[bytes]:
    """The NAL units of a frame from `h264`."""
    offset = 0
    while offset + 4 <= len(frame):
        size = int.from_bytes(frame[offset : offset + 4], "big")
        yield frame[offset + 4 : offset + 4 + size]
        offset += 4 + size


def obus(frame: bytes) -> Iterator[tuple[int, bytes]]:
    """Type and whole bytes of the OBUs of a frame from `av1`; ends at the first malformed one."""
    offset = 0
    while offset < len(frame):
        header = frame[offset]
        if not header & OBU_HAS_SIZE:
            return
        try:
            size, end = read_leb128(frame, offset + (2 if header & 0x04 else 1))
        except PacketError:
            return
        yield obu_type(header), frame[offset : end + size]
        offset = end + size


def vp8_is_keyframe(frame: bytes) -> bool:
    return not frame[0] & 0x01


def vp9_is_keyframe(frame: bytes) -> bool:
    """VP9 bitstream section 6.2: frame marker, profile, show_existing_frame, frame_type."""
    first = frame[0]
    if first >> 6 != 2:
        return False
    if first & 0x30 == 0x30:  # profile 3 has a reserved bit
        return not first & 0x04 and not first & 0x02
    return not first & 0x08 and not first & 0x04


def h264_is_keyframe(frame: bytes) -> bool:
    """Whether the first slice is of an IDR picture and begins it (first_mb_in_slice is 0)."""
    for unit in nal_units(frame):
        kind = unit[0] & 0x1F if unit else 0
        if 1 <= kind <= NAL_IDR:
            return kind == NAL_IDR and len(unit) > 1 and bool(unit[1] & 0x80)
    return False


def av1_is_keyframe(frame: bytes) -> bool:
    """Senders put the sequence header before each key frame (AV1 RTP specification 4.4, N)."""
    return any(kind == OBU_SEQUENCE_HEADER for kind, _obu in obus(frame))


DEPACKETIZERS: dict[str, Callable[[Sequence[bytes]], bytes]] = {
    "vp8": vp8,
    "vp9": vp9,
    "h264": h264,
    "av1": av1,
}
IS_KEYFRAME: dict[str, Callable[[bytes], bool]] = {
    "vp8": vp8_is_keyframe,
    "vp9": vp9_is_keyframe,
    "h264": h264_is_keyframe,
    "av1": av1_is_keyframe,
}
