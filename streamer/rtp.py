"""RTP packets as the forwarder sees them: parsed once on arrival (RFC 3550, RFC 8285)."""

from __future__ import annotations

import struct
from collections.abc import Mapping

from .errors import PacketError

HEADER = struct.Struct("!BBHII")
HEADER_BYTES = 12
SEQ_MASK = 0xFFFF
TIMESTAMP_MASK = 0xFFFFFFFF
ONE_BYTE_PROFILE = 0xBEDE  # RFC 8285 section 4.2
TWO_BYTE_PROFILE = 0x1000  # RFC 8285 section 4.3
MAX_EXTENSION_ELEMENTS = 16

# Header extensions that are carried from the publisher to receivers, by URI.
AUDIO_LEVEL = "urn:ietf:params:rtp-hdrext:ssrc-audio-level"
VIDEO_ORIENTATION = "urn:3gpp:video-orientation"
DEPENDENCY_DESCRIPTOR = (
    "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension"
)
ABS_SEND_TIME = "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time"
MID = "urn:ietf:params:rtp-hdrext:sdes:mid"
CARRIED_EXTENSIONS = (AUDIO_LEVEL, VIDEO_ORIENTATION, DEPENDENCY_DESCRIPTOR)


class Packet:
    """One received RTP packet. `extensions` holds (URI, bytes) of those worth carrying on;
    `arrival` is the monotonic second it was read; `starts_keyframe` is set by the track, and
    `late` when packets behind it in the sequence came before it."""

    __slots__ = (
        "arrival",
        "extensions",
        "late",
        "marker",
        "payload",
        "payload_type",
        "seq",
        "ssrc",
        "starts_keyframe",
        "timestamp",
    )

    def __init__(
        self,
        payload_type: int,
        marker: bool,
        seq: int,
        timestamp: int,
        ssrc: int,
        payload: bytes,
        extensions: tuple[tuple[str, bytes], ...] = (),
        arrival: float = 0.0,
    ) -> None:
        self.payload_type = payload_type
        self.marker = marker
        self.seq = seq
        self.timestamp = timestamp
        self.ssrc = ssrc
        self.payload = payload
        self.extensions = extensions
        self.arrival = arrival
        self.starts_keyframe = False
        self.late = False

    def __repr__(self) -> str:
        return (
            f"Packet(pt={self.payload_type}, marker={self.marker}, seq={self.seq}, "
            f"ts={self.timestamp}, ssrc={self.ssrc:#x}, {len(self.payload)} bytes)"
        )


def parse(data: memoryview, extension_uris: Mapping[int, str], arrival: float = 0.0) -> Packet:
    """Parse a decrypted RTP packet; `extension_uris` maps the sender's ids to URIs.

    Padding is stripped and contributing sources are dropped. Elements with other ids are dropped.
    Raises PacketError when the bytes are not an RTP packet.
    """
    size = len(data)
    if size < HEADER_BYTES:
        raise PacketError("shorter than an RTP header")
    first, second, seq, timestamp, ssrc = HEADER.unpack_from(data)
    if first >> 6 != 2:
        raise PacketError("RTP version is not 2")
    offset = HEADER_BYTES + 4 * (first & 0x0F)
    extensions: tuple[tuple[str, bytes], ...] = ()
    if first & 0x10:
        if size < offset + 4:
            raise PacketError("header extension beyond the packet")
        profile = (data[offset] << 8) | data[offset + 1]
        end = offset + 4 + 4 * ((data[offset + 2] << 8) | data[offset + 3])
        if size < end:
            raise PacketError("header extension beyond the packet")
        if extension_uris:
            extensions = _elements(data, profile, offset + 4, end, extension_uris)
        offset = end
    if first & 0x20:
        if size <= offset:
            raise PacketError("padding beyond the packet")
        padding = data[size - 1]
        if padding == 0 or offset + padding > size:
            raise PacketError("padding beyond the packet")
        size -= padding
    if size < offset:
        raise PacketError("contributing sources beyond the packet")
    return Packet(
        second & 0x7F,
        second >= 0x80,
        seq,
        timestamp,
        ssrc,
        bytes(data[offset:size]),
        extensions,
        arrival,
    )


def _elements(
    data: memoryview, profile: int, start: int, end: int, uris: Mapping[int, str]
) -> tuple[tuple[str, bytes], ...]:
    """The header extension elements (RFC 8285) whose ids are in `uris`."""
    found: list[tuple[str, bytes]] = []
    one_byte = profile == ONE_BYTE_PROFILE
    if not one_byte and profile & 0xFFF0 != TWO_BYTE_PROFILE:
        return ()
    while start < end and len(found) < MAX_EXTENSION_ELEMENTS:
        head = data[start]
        if head == 0:  # padding between elements
            start += 1
            continue
        if one_byte:
            identifier, length = head >> 4, (head & 0x0F) + 1
            if identifier == 15:  # RFC 8285 section 4.2: stop
                break
            start += 1
        else:
            if start + 2 > end:
                break
            identifier, length = head, data[start + 1]
            start += 2
        if start + length > end:
            break
        uri = uris.get(identifier)
        if uri is not None:
            found.append((uri, bytes(data[start : start + length])))
        start += length
    return tuple(found)


def extension_block(elements: list[tuple[int, bytes]]) -> bytes:
    """The header extension (RFC 8285) for (id, bytes) elements; empty for none.

    One-byte form where it fits, else the two-byte form (needs extmap-allow-mixed).
    """
    if not elements:
        return b""
    one_byte = all(identifier <= 14 and 1 <= len(data) <= 16 for identifier, data in elements)
    body = bytearray()
    for identifier, data in elements:
        if one_byte:
            body.append(identifier << 4 | len(data) - 1)
        else:
            body.append(identifier)
            body.append(len(data))
        body += data
    body += b"\0" * (-len(body) % 4)
    profile = ONE_BYTE_PROFILE if one_byte else TWO_BYTE_PROFILE
    return struct.pack("!HH", profile, len(body) // 4) + body


def header(
    payload_type: int, marker: bool, seq: int, timestamp: int, ssrc: int, extension: bytes = b""
) -> bytes:
    """A 12-byte RTP header, followed by an extension block from `extension_block`."""
    return (
        HEADER.pack(
            0x90 if extension else 0x80,
            payload_type | (0x80 if marker else 0),
            seq,
            timestamp,
            ssrc,
        )
        + extension
    )


def seq_newer(a: int, b: int) -> bool:
    """Whether sequence number `a` comes after `b` modulo 2^16 (RFC 1982)."""
    return a != b and (a - b) & SEQ_MASK < 0x8000


def abs_send_time(unix_s: float) -> bytes:
    """The 24-bit 6.18 fixed-point seconds of the abs-send-time extension."""
    return (int(unix_s * 262144.0) & 0xFFFFFF).to_bytes(3, "big")
