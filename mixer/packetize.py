"""Encoded pictures and sound into RTP packets, framed for a pipe (RFC 6184, RFC 7741, RFC 7587).

A `RtpStream` numbers the packets of one output track and makes its sender reports.
"""

from __future__ import annotations

import secrets
import struct
from collections.abc import Iterator

from streamer import rtcp, rtp

MAX_PAYLOAD_BYTES = 1150  # leaves room for SRTP, extensions and tunnels within 1,200 bytes
NAL_STAP_A = 24
NAL_FU_A = 28
CNAME = "mixer"
_FRAMED_HEADER = struct.Struct("!HBBHII")  # RFC 4571 length, RFC 3550 header


def nal_units(annexb: bytes) -> Iterator[bytes]:
    """The NAL units between start codes of three or four bytes."""
    position = annexb.find(b"\0\0\1")
    while position >= 0:
        start = position + 3
        position = annexb.find(b"\0\0\1", start)
        end = len(annexb) if position < 0 else position
        # Trailing zeros belong to the next start code (or are trailing_zero_8bits).
        unit = annexb[start:end].rstrip(b"\0")
        if unit:
            yield unit


def h264(annexb: bytes) -> list[bytes]:
    """Payloads of packetization mode 1: small units together, large ones in equal fragments."""
    payloads: list[bytes] = []
    together: list[bytes] = []
    size = 1

    def flush() -> None:
        nonlocal size
        if len(together) == 1:
            payloads.append(together[0])
        elif together:
            importance = max(unit[0] & 0x60 for unit in together)
            body = b"".join(len(unit).to_bytes(2, "big") + unit for unit in together)
            payloads.append(bytes((importance | NAL_STAP_A,)) + body)
        together.clear()
        size = 1

    for unit in nal_units(annexb):
        if size + 2 + len(unit) > MAX_PAYLOAD_BYTES:
            flush()
        if 1 + 2 + len(unit) > MAX_PAYLOAD_BYTES:
            payloads += _fragments(unit)
        else:
            together.append(unit)
            size += 2 + len(unit)
    flush()
    return payloads


def _fragments(unit: bytes) -> list[bytes]:
    """RFC 6184 section 5.8; a unit that fits stays whole."""
    if len(unit) <= MAX_PAYLOAD_BYTES:
        return [unit]
    indicator = unit[0] & 0xE0 | NAL_FU_A
    kind = unit[0] & 0x1F
    body = unit[1:]
    pieces = list(_equal_pieces(body, MAX_PAYLOAD_BYTES - 2))
    last = len(pieces) - 1
    return [
        bytes((indicator, kind | (0x80 if i == 0 else 0) | (0x40 if i == last else 0))) + piece
        for i, piece in enumerate(pieces)
    ]


def _equal_pieces(body: bytes, at_most: int) -> Iterator[bytes]:
    """As few pieces as possible, of nearly the same size (they then leave as one datagram run)."""
    count = -(-len(body) // at_most)
    step = -(-len(body) // count)
    for start in range(0, len(body), step):
        yield body[start : start + step]


def vp8(frame: bytes, picture_id: int) -> list[bytes]:
    """Payloads with a 15-bit picture id (RFC 7741 section 4.2)."""
    extension = bytes((0x80, 0x80 | picture_id >> 8 & 0x7F, picture_id & 0xFF))
    return [
        bytes((0x90 if index == 0 else 0x80,)) + extension + piece
        for index, piece in enumerate(_equal_pieces(frame, MAX_PAYLOAD_BYTES - 4))
    ]


class RtpStream:
    """Sequence numbers, timestamps and sender reports of one output track."""

    __slots__ = ("_seq", "_timestamp", "clock_rate", "octets", "packets", "payload_type", "ssrc")

    def __init__(self, payload_type: int, clock_rate: int, ssrc: int = 0) -> None:
        self.payload_type = payload_type
        self.clock_rate = clock_rate
        self.ssrc = ssrc  # on a pipe: the track's place in the list of tracks
        self.packets = 0
        self.octets = 0
        self._seq = secrets.randbelow(0x8000)
        self._timestamp = secrets.randbits(32)

    def timestamp(self, media_s: float) -> int:
        """The RTP timestamp of an instant on the lesson's clock."""
        return (self._timestamp + round(media_s * self.clock_rate)) & rtp.TIMESTAMP_MASK

    def frame(self, payloads: list[bytes], media_s: float, *, marker: bool) -> bytes:
        """The packets of one frame, one after the other, each with its length in front."""
        timestamp = self.timestamp(media_s)
        out: list[bytes] = []
        last = len(payloads) - 1
        for index, payload in enumerate(payloads):
            head = rtp.header(
                self.payload_type, marker and index == last, self._seq, timestamp, self.ssrc
            )
            self._seq = (self._seq + 1) & rtp.SEQ_MASK
            self.octets += len(payload)
            out += ((len(head) + len(payload)).to_bytes(2, "big"), head, payload)
        self.packets += len(payloads)
        return b"".join(out)

    def sound(self, payload: bytes, media_s: float) -> bytes:
        """The one packet of a sound frame: done fifty times a second for each output."""
        seq = self._seq
        self._seq = (seq + 1) & rtp.SEQ_MASK
        self.packets += 1
        size = len(payload)
        self.octets += size
        timestamp = (self._timestamp + round(media_s * self.clock_rate)) & rtp.TIMESTAMP_MASK
        head = _FRAMED_HEADER.pack(
            rtp.HEADER_BYTES + size, 0x80, self.payload_type, seq, timestamp, self.ssrc
        )
        return head + payload

    def report(self, media_s: float, unix_s: float) -> bytes:
        """A framed sender report: `media_s` on the lesson's clock is `unix_s`."""
        body = rtcp.sender_report(
            self.ssrc,
            rtcp.ntp_from_unix(unix_s),
            self.timestamp(media_s),
            self.packets & 0xFFFFFFFF,
            self.octets & 0xFFFFFFFF,
            CNAME,
        )
        return len(body).to_bytes(2, "big") + body
