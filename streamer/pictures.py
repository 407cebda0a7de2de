"""What a file must say of a picture before its first frame: size and the decoder's configuration.

Read from the headers of a key frame, never by decoding. Raises PacketError for what is none.
"""

from __future__ import annotations

from dataclasses import dataclass

from .depacketize import OBU_SEQUENCE_HEADER, nal_units, obus, read_leb128
from .errors import PacketError

NAL_SPS, NAL_PPS = 7, 8
MAX_SIDE_PX = 16_384
# H.264 profiles whose parameter sets say more of the colours (ITU-T H.264 section 7.3.2.1.1).
_HIGH_PROFILES = frozenset((100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135))


@dataclass(frozen=True, slots=True)
class Picture:
    """`private` is the decoder's configuration: an avcC or av1C record, empty for VP8 and VP9."""

    codec: str
    width: int
    height: int
    private: bytes = b""

    @property
    def area(self) -> int:
        return self.width * self.height


def describe(codec: str, keyframe: bytes) -> Picture:
    """The picture that a key frame (from `depacketize`) begins."""
    try:
        picture = _DESCRIBERS[codec](keyframe)
    except IndexError:
        raise PacketError(f"{codec}: the header of the key frame is cut off") from None
    if not (0 < picture.width <= MAX_SIDE_PX and 0 < picture.height <= MAX_SIDE_PX):
        raise PacketError(f"{codec}: a picture of {picture.width} × {picture.height}")
    return picture


class Bits:
    """Reads a header bit by bit; IndexError behind its end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    def take(self, count: int) -> int:
        value = 0
        for _ in range(count):
            byte = self._data[self._position >> 3]
            value = value << 1 | (byte >> (7 - (self._position & 7)) & 1)
            self._position += 1
        return value

    def flag(self) -> bool:
        return bool(self.take(1))

    def golomb(self) -> int:
        """ue(v) of H.264 section 9.1, and uvlc of AV1 section 4.10.3."""
        zeros = 0
        while not self.take(1):
            zeros += 1
            if zeros > 32:
                raise PacketError("a number in a header is out of range")
        return (1 << zeros) - 1 + self.take(zeros)

    def signed_golomb(self) -> int:
        value = self.golomb()
        return (value + 1) // 2 if value & 1 else -(value // 2)


def _vp8(frame: bytes) -> Picture:
    """RFC 6386 section 9.1."""
    if frame[3:6] != b"\x9d\x01\x2a":
        raise PacketError("VP8: no start code in the key frame")
    width = (frame[6] | frame[7] << 8) & 0x3FFF
    height = (frame[8] | frame[9] << 8) & 0x3FFF
    return Picture("vp8", width, height)


def _vp9(frame: bytes) -> Picture:
    """VP9 bitstream sections 6.2 and 7.2."""
    bits = Bits(frame[:32])
    bits.take(2)
    profile = bits.take(1) | bits.take(1) << 1
    if profile == 3:
        bits.take(1)
    bits.take(4)  # show_existing_frame, frame_type, show_frame, error_resilient_mode
    if bits.take(24) != 0x498342:
        raise PacketError("VP9: no sync code in the key frame")
    if profile >= 2:
        bits.take(1)  # bit depth
    if bits.take(3) != 7:  # color_space, 7 is RGB
        bits.take(1)
        if profile in (1, 3):
            bits.take(3)
    elif profile in (1, 3):
        bits.take(1)
    return Picture("vp9", bits.take(16) + 1, bits.take(16) + 1)


def _h264(frame: bytes) -> Picture:
    sps = [unit for unit in nal_units(frame) if unit and unit[0] & 0x1F == NAL_SPS]
    pps = [unit for unit in nal_units(frame) if unit and unit[0] & 0x1F == NAL_PPS]
    if not sps or not pps:
        raise PacketError("H.264: a key frame without its parameter sets")
    if len(sps[0]) < 4:
        raise PacketError("H.264: the sequence parameter set is cut off")
    width, height = _sps_size(sps[0])
    return Picture("h264", width, height, _avcc(sps[:31], pps[:255]))


def _avcc(sps: list[bytes], pps: list[bytes]) -> bytes:
    """AVCDecoderConfigurationRecord (ISO/IEC 14496-15 section 5.3.3.1), lengths of four bytes."""
    record = bytearray((1, *sps[0][1:4], 0xFF, 0xE0 | len(sps)))
    for unit in sps:
        record += len(unit).to_bytes(2, "big") + unit
    record.append(len(pps))
    for unit in pps:
        record += len(unit).to_bytes(2, "big") + unit
    return bytes(record)


def _sps_size(sps: bytes) -> tuple[int, int]:
    """Width and height after cropping: ITU-T H.264 sections 7.3.2.1.1 and 7.4.2.1.1."""
    bits = Bits(sps[1:].replace(b"\0\0\3", b"\0\0"))
    profile = bits.take(8)
    bits.take(16)
    bits.golomb()  # seq_parameter_set_id
    chroma, separate = 1, False
    if profile in _HIGH_PROFILES:
        chroma = bits.golomb()
        if chroma == 3:
            separate = bits.flag()
        bits.golomb()
        bits.golomb()
        bits.take(1)
        if bits.flag():
            _skip_scaling_lists(bits, 12 if chroma == 3 else 8)
    bits.golomb()  # log2_max_frame_num_minus4
    order = bits.golomb()
    if order == 0:
        bits.golomb()
    elif order == 1:
        bits.take(1)
        bits.signed_golomb()
        bits.signed_golomb()
        for _ in range(min(bits.golomb(), 255)):
            bits.signed_golomb()
    bits.golomb()  # max_num_ref_frames
    bits.take(1)
    width = (bits.golomb() + 1) * 16
    units = bits.golomb() + 1
    frames_only = bits.flag()
    if not frames_only:
        bits.take(1)
    bits.take(1)
    height = units * 16 * (1 if frames_only else 2)
    if bits.flag():
        across = 2 if chroma in (1, 2) and not separate else 1
        down = (2 if chroma == 1 and not separate else 1) * (1 if frames_only else 2)
        left, right, top, bottom = (bits.golomb() for _ in range(4))
        width -= across * (left + right)
        height -= down * (top + bottom)
    return width, height


def _skip_scaling_lists(bits: Bits, count: int) -> None:
    """ITU-T H.264 section 7.3.2.1.1.1."""
    for index in range(count):
        if not bits.flag():
            continue
        last = following = 8
        for _ in range(16 if index < 6 else 64):
            if following:
                following = (last + bits.signed_golomb()) & 0xFF
            last = following or last


def _av1(frame: bytes) -> Picture:
    for kind, obu in obus(frame):
        if kind == OBU_SEQUENCE_HEADER:
            _size, start = read_leb128(obu, 2 if obu[0] & 0x04 else 1)
            return _av1_sequence(obu, Bits(obu[start:]))
    raise PacketError("AV1: a key frame without its sequence header")


def _av1_sequence(obu: bytes, bits: Bits) -> Picture:
    """AV1 specification section 5.5.1."""
    profile = bits.take(3)
    bits.take(1)
    reduced = bits.flag()
    if reduced:
        level, tier = bits.take(5), 0
    else:
        level, tier = _av1_operating_points(bits)
    width_bits, height_bits = bits.take(4) + 1, bits.take(4) + 1
    width, height = bits.take(width_bits) + 1, bits.take(height_bits) + 1
    _skip_av1_tools(bits, reduced)
    colours = _av1_colours(bits, profile)
    # AV1CodecConfigurationRecord (AV1 in ISO BMFF, section 2.3.3).
    record = bytes((0x81, profile << 5 | level, tier << 7 | colours, 0)) + obu
    return Picture("av1", width, height, record)


def _av1_operating_points(bits: Bits) -> tuple[int, int]:
    """Level and tier of the first operating point."""
    delay_bits = 0
    model = False
    if bits.flag():  # timing_info
        bits.take(64)
        if bits.flag():
            bits.golomb()
        model = bits.flag()
        if model:
            delay_bits = bits.take(5) + 1
            bits.take(42)
    display_delay = bits.flag()
    first: tuple[int, int] | None = None
    for _ in range(bits.take(5) + 1):
        bits.take(12)
        level = bits.take(5)
        tier = bits.take(1) if level > 7 else 0
        if model and bits.flag():
            bits.take(2 * delay_bits + 1)
        if display_delay and bits.flag():
            bits.take(4)
        first = first or (level, tier)
    assert first is not None
    return first


def _skip_av1_tools(bits: Bits, reduced: bool) -> None:
    if not reduced and bits.flag():  # frame_id_numbers_present
        bits.take(7)
    bits.take(3)
    if not reduced:
        bits.take(4)
        order_hint = bits.flag()
        if order_hint:
            bits.take(2)
        screen_tools = 2 if bits.flag() else bits.take(1)
        if screen_tools and not bits.flag():
            bits.take(1)
        if order_hint:
            bits.take(3)
    bits.take(3)


def _av1_colours(bits: Bits, profile: int) -> int:
    """The third byte of the configuration record, without the tier (AV1 section 5.5.2)."""
    deep = bits.take(1)
    twelve = bits.take(1) if profile == 2 and deep else 0
    mono = 0 if profile == 1 else bits.take(1)
    description = (bits.take(8), bits.take(8), bits.take(8)) if bits.flag() else (2, 2, 2)
    position = 0
    if mono:
        across, down = 1, 1
    elif description == (1, 13, 0):  # sRGB
        across, down = 0, 0
    else:
        bits.take(1)
        if profile == 2 and twelve:
            across = bits.take(1)
            down = bits.take(1) if across else 0
        else:
            across, down = {0: (1, 1), 1: (0, 0)}.get(profile, (1, 0))
        if across and down:
            position = bits.take(2)
    return deep << 6 | twelve << 5 | mono << 4 | across << 3 | down << 2 | position


_DESCRIBERS = {"vp8": _vp8, "vp9": _vp9, "h264": _h264, "av1": _av1}
