"""RTCP packets, parsed from and built into compound datagrams (RFC 3550, 4585, 5104, REMB draft).

Reduced-size RTCP (RFC 5506) is accepted: any packet may come first. Of each datagram at most
`MAX_PACKETS` packets are taken, and no list that a sender chooses the length of is unbounded.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .errors import PacketError

SENDER_REPORT = 200
RECEIVER_REPORT = 201
SOURCE_DESCRIPTION = 202
BYE = 203
TRANSPORT_FEEDBACK = 205
PAYLOAD_FEEDBACK = 206
FIRST_TYPE, LAST_TYPE = 192, 223  # RFC 5761 section 4

FMT_NACK = 1  # RFC 4585 section 6.2
FMT_PICTURE_LOSS = 1  # RFC 4585 section 6.3
FMT_FULL_INTRA = 4  # RFC 5104 section 4.3.1
FMT_APPLICATION = 15  # RFC 4585 section 6.4; REMB is one
SDES_CNAME = 1

MAX_PACKETS = 64
MAX_BLOCKS = 31  # five bits of count
MAX_NACK_WORDS = 253
MAX_NACK_NUMBERS = 1000
MAX_BITRATE_BPS = 10_000_000_000  # REMB could say 2**81; nothing we serve is faster than this
NTP_EPOCH_OFFSET_S = 2_208_988_800  # 1900 to 1970

_HEADER = struct.Struct("!BBH")
_UINT32 = struct.Struct("!I")
_SENDER_INFO = struct.Struct("!IQIII")
_BLOCK = struct.Struct("!IIIIII")
_FEEDBACK = struct.Struct("!BBHII")
_SSRC_PAIR = struct.Struct("!II")
_PID_BLP = struct.Struct("!HH")
_FIR_ENTRY = struct.Struct("!IBxxx")
_MASK32 = 0xFFFFFFFF


# Not frozen: building a frozen dataclass costs three times as much, and thousands a second come in.


@dataclass(slots=True)
class ReportBlock:
    """How a receiver fares with one of our streams; `fraction_lost` is in 1/256, `lsr` the middle
    32 bits of the NTP time in the last sender report, `dlsr` in 1/65536 s."""

    ssrc: int
    fraction_lost: int
    packets_lost: int
    highest_seq: int
    jitter: int
    lsr: int
    dlsr: int


@dataclass(slots=True)
class SenderReport:
    """`ntp` is the whole 64-bit NTP timestamp, `rtp` the RTP timestamp of the same instant."""

    ssrc: int
    ntp: int
    rtp: int
    packets: int
    octets: int
    blocks: tuple[ReportBlock, ...] = ()


@dataclass(slots=True)
class ReceiverReport:
    ssrc: int
    blocks: tuple[ReportBlock, ...] = ()


@dataclass(slots=True)
class SourceDescription:
    """Canonical names by SSRC; other SDES items are left out."""

    cnames: dict[int, str]


@dataclass(slots=True)
class Bye:
    ssrcs: tuple[int, ...]
    reason: str = ""


@dataclass(slots=True)
class Nack:
    """Sequence numbers asked for again: each once, in the order asked, at most 1,000."""

    sender_ssrc: int
    media_ssrc: int
    sequence_numbers: tuple[int, ...]


@dataclass(slots=True)
class PictureLoss:
    sender_ssrc: int
    media_ssrc: int


@dataclass(slots=True)
class FullIntra:
    """`requests` are (media SSRC, command sequence number): a repeated number is a repetition."""

    sender_ssrc: int
    requests: tuple[tuple[int, int], ...]


@dataclass(slots=True)
class Remb:
    """The receiver's estimate of the bandwidth for all `ssrcs` together."""

    sender_ssrc: int
    bitrate_bps: int
    ssrcs: tuple[int, ...]


@dataclass(slots=True)
class Unknown:
    """A well-formed packet of a type we do not read; `count` is its five-bit count or format."""

    packet_type: int
    count: int


AnyPacket = (
    SenderReport
    | ReceiverReport
    | SourceDescription
    | Bye
    | Nack
    | PictureLoss
    | FullIntra
    | Remb
    | Unknown
)


# --- parsing -----------------------------------------------------------------------------------


def parse(data: bytes | memoryview) -> list[AnyPacket]:
    """All packets of a compound datagram; one malformed packet refuses the whole datagram."""
    data = bytes(data)
    size = len(data)
    if size < 4 or size % 4:
        raise PacketError(f"RTCP of {size} bytes: whole 32-bit words, at least one, are accepted")
    packets: list[AnyPacket] = []
    start = 0
    while start < size:
        if len(packets) == MAX_PACKETS:
            raise PacketError(f"more than {MAX_PACKETS} RTCP packets in one datagram")
        first, kind, words = _HEADER.unpack_from(data, start)
        if first >> 6 != 2 or not FIRST_TYPE <= kind <= LAST_TYPE:
            raise PacketError("not RTCP: wrong version or packet type")
        following = start + 4 + words * 4
        if following > size:
            raise PacketError(f"RTCP packet type {kind} is cut off")
        end = following
        if first & 0x20:
            end -= _padding(data, start, following)
        packets.append(_parse_one(data, start + 4, end, kind, first & 0x1F))
        start = following
    return packets


def _padding(data: bytes, start: int, end: int) -> int:
    """The padding of the packet at `start`; only the last one may have some (RFC 3550 6.4.1)."""
    padding = data[end - 1]
    if end != len(data) or not padding or padding % 4 or padding > end - start - 4:
        raise PacketError("RTCP padding is invalid")
    return padding


def _parse_one(data: bytes, start: int, end: int, kind: int, count: int) -> AnyPacket:
    """One packet whose body is data[start:end]."""
    length = end - start
    if kind == RECEIVER_REPORT:
        _need(kind, length, 4 + 24 * count)
        blocks = _blocks(data, start + 4, count) if count else ()
        return ReceiverReport(_UINT32.unpack_from(data, start)[0], blocks)
    if kind == SENDER_REPORT:
        _need(kind, length, 24 + 24 * count)
        ssrc, ntp, rtp, sent, octets = _SENDER_INFO.unpack_from(data, start)
        blocks = _blocks(data, start + 24, count) if count else ()
        return SenderReport(ssrc, ntp, rtp, sent, octets, blocks)
    if kind == TRANSPORT_FEEDBACK:
        _need(kind, length, 8)
        return _nack(data, start, end) if count == FMT_NACK else Unknown(kind, count)
    if kind == PAYLOAD_FEEDBACK:
        _need(kind, length, 8)
        if count == FMT_PICTURE_LOSS:
            return PictureLoss(*_SSRC_PAIR.unpack_from(data, start))
        if count == FMT_APPLICATION and data[start + 8 : min(start + 12, end)] == b"REMB":
            return _remb(data, start, end)
        if count == FMT_FULL_INTRA:
            return _full_intra(data, start, end)
        return Unknown(kind, count)
    if kind == SOURCE_DESCRIPTION:
        return SourceDescription(_cnames(data, start, end, count))
    if kind == BYE:
        _need(kind, length, 4 * count)
        return _bye(data, start, end, count)
    return Unknown(kind, count)


def _need(kind: int, length: int, wanted: int) -> None:
    if length < wanted:
        raise PacketError(f"RTCP packet type {kind} has {length} bytes, {wanted} needed")


def _blocks(data: bytes, start: int, count: int) -> tuple[ReportBlock, ...]:
    blocks: list[ReportBlock] = []
    for offset in range(start, start + 24 * count, 24):
        ssrc, loss, highest_seq, jitter, lsr, dlsr = _BLOCK.unpack_from(data, offset)
        lost = loss & 0xFFFFFF
        if lost & 0x800000:  # signed: duplicates can make the loss negative
            lost -= 0x1000000
        blocks.append(ReportBlock(ssrc, loss >> 24, lost, highest_seq, jitter, lsr, dlsr))
    return tuple(blocks)


def _nack(data: bytes, start: int, end: int) -> Nack:
    words = (end - start - 8) // 4
    if not 1 <= words <= MAX_NACK_WORDS:
        raise PacketError(f"RTCP NACK with {words} entries, 1 to {MAX_NACK_WORDS} accepted")
    sender_ssrc, media_ssrc = _SSRC_PAIR.unpack_from(data, start)
    numbers: list[int] = []
    for offset in range(start + 8, end, 4):
        pid, blp = _PID_BLP.unpack_from(data, offset)
        numbers.append(pid)
        while blp:
            pid = (pid + 1) & 0xFFFF
            if blp & 1:
                numbers.append(pid)
            blp >>= 1
    return Nack(sender_ssrc, media_ssrc, tuple(dict.fromkeys(numbers))[:MAX_NACK_NUMBERS])


def _full_intra(data: bytes, start: int, end: int) -> FullIntra:
    fci = end - start - 8
    if not fci or fci % 8:
        raise PacketError(f"RTCP FIR with {fci} bytes of requests, a multiple of 8 needed")
    sender_ssrc = _UINT32.unpack_from(data, start)[0]
    requests = [_FIR_ENTRY.unpack_from(data, offset) for offset in range(start + 8, end, 8)]
    return FullIntra(sender_ssrc, tuple(requests))


def _remb(data: bytes, start: int, end: int) -> Remb:
    length = end - start
    _need(PAYLOAD_FEEDBACK, length, 16)
    count = data[start + 12]
    _need(PAYLOAD_FEEDBACK, length, 16 + 4 * count)
    value = _UINT32.unpack_from(data, start + 12)[0]
    bitrate_bps = min(MAX_BITRATE_BPS, (value & 0x3FFFF) << (value >> 18 & 0x3F))
    ssrcs = struct.unpack_from(f"!{count}I", data, start + 16)
    return Remb(_UINT32.unpack_from(data, start)[0], bitrate_bps, ssrcs)


def _cnames(data: bytes, start: int, end: int, count: int) -> dict[int, str]:
    """RFC 3550 section 6.5: chunks of an SSRC and items, ended by zeros up to a whole word."""
    cnames: dict[int, str] = {}
    offset = start
    for _ in range(count):
        if offset + 8 > end:
            raise PacketError("RTCP SDES chunk is cut off")
        ssrc = _UINT32.unpack_from(data, offset)[0]
        offset += 4
        while (item := data[offset]) != 0:
            if offset + 2 >= end or (value_end := offset + 2 + data[offset + 1]) >= end:
                raise PacketError("RTCP SDES item is cut off")
            if item == SDES_CNAME:
                cnames[ssrc] = data[offset + 2 : value_end].decode("utf-8", "replace")
            offset = value_end
        offset += 4 - (offset - start) % 4
    return cnames


def _bye(data: bytes, start: int, end: int, count: int) -> Bye:
    ssrcs = struct.unpack_from(f"!{count}I", data, start)
    reason_start = start + 4 * count
    if reason_start == end:
        return Bye(ssrcs)
    reason_end = reason_start + 1 + data[reason_start]
    if reason_end > end:
        raise PacketError("RTCP BYE reason is cut off")
    return Bye(ssrcs, data[reason_start + 1 : reason_end].decode("utf-8", "replace"))


# --- building ----------------------------------------------------------------------------------
# Reports are compound (with SDES) and can be sent alone. The others are single packets: append
# them to a report, or send them alone where `a=rtcp-rsize` was agreed.


def sender_report(
    ssrc: int,
    ntp: int,
    rtp: int,
    packets: int,
    octets: int,
    cname: str,
    blocks: Sequence[ReportBlock] = (),
) -> bytes:
    """Compound SR and SDES; blocks past the thirty-first go into RRs in between."""
    info = _SENDER_INFO.pack(
        ssrc,
        ntp & 0xFFFFFFFFFFFFFFFF,
        *(rtp & _MASK32, packets & _MASK32, octets & _MASK32),
    )
    first = blocks[:MAX_BLOCKS]
    report = _packet(SENDER_REPORT, len(first), info + _packed_blocks(first))
    rest = blocks[MAX_BLOCKS:]
    return report + (_receiver_reports(ssrc, rest) if rest else b"") + _sdes(ssrc, cname)


def receiver_report(ssrc: int, blocks: Sequence[ReportBlock], cname: str) -> bytes:
    """Compound RR (as many as the blocks need, one without blocks) and SDES."""
    return _receiver_reports(ssrc, blocks) + _sdes(ssrc, cname)


def nack(sender_ssrc: int, media_ssrc: int, seqs: Iterable[int]) -> bytes:
    """One generic NACK; `seqs` in any order, at least one.

    Takes what fits into `MAX_NACK_WORDS` entries, oldest first: what is left out stays missing and
    is asked for with the next one.
    """
    numbers = list(dict.fromkeys(seqs))
    if not numbers:
        raise ValueError("a NACK names at least one sequence number")
    base = numbers[0]
    # Distances from the first, as signed 16-bit numbers, put 65535 before 0 when both are near.
    numbers.sort(key=lambda seq: ((seq - base + 0x8000) & 0xFFFF) - 0x8000)
    entries: list[list[int]] = []
    for seq in numbers:
        distance = (seq - entries[-1][0]) & 0xFFFF if entries else 0
        if 1 <= distance <= 16:
            entries[-1][1] |= 1 << (distance - 1)
        elif len(entries) == MAX_NACK_WORDS:
            break
        else:
            entries.append([seq, 0])
    fci = b"".join(_PID_BLP.pack(pid, blp) for pid, blp in entries)
    return _feedback(TRANSPORT_FEEDBACK, FMT_NACK, sender_ssrc, media_ssrc, fci)


def picture_loss(sender_ssrc: int, media_ssrc: int) -> bytes:
    return _feedback(PAYLOAD_FEEDBACK, FMT_PICTURE_LOSS, sender_ssrc, media_ssrc, b"")


def full_intra(sender_ssrc: int, requests: Sequence[tuple[int, int]]) -> bytes:
    """A FIR for (media SSRC, command sequence number) pairs."""
    fci = b"".join(_FIR_ENTRY.pack(ssrc, seq & 0xFF) for ssrc, seq in requests)
    return _feedback(PAYLOAD_FEEDBACK, FMT_FULL_INTRA, sender_ssrc, 0, fci)


def remb(sender_ssrc: int, bps: int, ssrcs: Sequence[int]) -> bytes:
    """REMB holds 18 significant bits: the estimate is rounded down to what it can say."""
    bps = max(0, min(MAX_BITRATE_BPS, bps))
    exponent = max(0, bps.bit_length() - 18)
    head = (len(ssrcs) << 24) | (exponent << 18) | (bps >> exponent)
    fci = b"REMB" + struct.pack(f"!I{len(ssrcs)}I", head, *ssrcs)
    return _feedback(PAYLOAD_FEEDBACK, FMT_APPLICATION, sender_ssrc, 0, fci)


def bye(ssrcs: Sequence[int], reason: str = "") -> bytes:
    body = struct.pack(f"!{len(ssrcs)}I", *ssrcs)
    if reason:
        text = reason.encode()[:255]
        body += bytes((len(text),)) + text
        body += bytes(-len(body) % 4)
    return _packet(BYE, len(ssrcs), body)


def ntp_from_unix(t: float) -> int:
    """Unix seconds as a 64-bit NTP timestamp; whole and fractional part apart for precision."""
    seconds = int(t // 1)
    fraction = int((t - seconds) * 2**32)
    return (((seconds + NTP_EPOCH_OFFSET_S) << 32) + fraction) & 0xFFFFFFFFFFFFFFFF


def _packet(kind: int, count: int, body: bytes) -> bytes:
    if count > MAX_BLOCKS:
        raise ValueError(f"an RTCP packet counts at most {MAX_BLOCKS} items, not {count}")
    return _HEADER.pack(0x80 | count, kind, len(body) // 4) + body


def _feedback(kind: int, fmt: int, sender_ssrc: int, media_ssrc: int, fci: bytes) -> bytes:
    return _FEEDBACK.pack(0x80 | fmt, kind, 2 + len(fci) // 4, sender_ssrc, media_ssrc) + fci


def _receiver_reports(ssrc: int, blocks: Sequence[ReportBlock]) -> bytes:
    reports = b""
    for first in range(0, max(1, len(blocks)), MAX_BLOCKS):
        part = blocks[first : first + MAX_BLOCKS]
        reports += _packet(RECEIVER_REPORT, len(part), _UINT32.pack(ssrc) + _packed_blocks(part))
    return reports


def _packed_blocks(blocks: Sequence[ReportBlock]) -> bytes:
    packed = b""
    for block in blocks:
        # RFC 3550 section 6.4.1: the cumulative loss is clamped to 24 signed bits, not wrapped.
        lost = max(-0x800000, min(0x7FFFFF, block.packets_lost)) & 0xFFFFFF
        packed += _BLOCK.pack(
            block.ssrc,
            (block.fraction_lost << 24) | lost,
            *(block.highest_seq, block.jitter, block.lsr, block.dlsr),
        )
    return packed


def _sdes(ssrc: int, cname: str) -> bytes:
    text = cname.encode()[:255]
    body = _UINT32.pack(ssrc) + bytes((SDES_CNAME, len(text))) + text
    return _packet(SOURCE_DESCRIPTION, 1, body + bytes(4 - len(body) % 4))
