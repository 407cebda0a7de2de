"""RFC 4571 framing for ICE-TCP: a 16-bit length in front of every packet on a byte stream."""

from __future__ import annotations

import struct

from .errors import PacketError

MAX_FRAME_BYTES = 2048  # STUN, DTLS and RTP of WebRTC fit an Ethernet MTU; this leaves headroom
MAX_NULL_FRAMES = 8
_LENGTH = struct.Struct("!H")


class Deframer:
    """Turns what one TCP connection delivers back into packets, holding at most one frame.

    After a PacketError the position in the stream is lost: every further `feed` raises as well and
    the connection should be closed.
    """

    __slots__ = ("_broken", "_buffer", "_null_frames")

    def __init__(self) -> None:
        self._buffer = b""
        self._null_frames = 0
        self._broken = False

    def feed(self, data: bytes) -> list[bytes]:
        """Take the next bytes of the stream and return the packets that they complete."""
        if self._broken:
            raise PacketError("TCP framing was lost earlier: close this connection")
        if self._buffer:
            data = self._buffer + data
        packets: list[bytes] = []
        size = len(data)
        position = 0
        while position + 2 <= size:
            length = (data[position] << 8) | data[position + 1]
            if length == 0 or length > MAX_FRAME_BYTES:
                self._check_unusual(length)
            end = position + 2 + length
            if end > size:
                break
            if length:
                packets.append(data[position + 2 : end])
                self._null_frames = 0
            position = end
        self._buffer = data[position:]
        return packets

    def _check_unusual(self, length: int) -> None:
        """Refuse oversized frames, and null packets (RFC 4571 section 2) when they keep coming."""
        if length == 0:
            self._null_frames += 1
            if self._null_frames <= MAX_NULL_FRAMES:
                return
        self._broken = True
        self._buffer = b""
        if length:
            raise PacketError(f"TCP frame of {length} bytes, at most {MAX_FRAME_BYTES} accepted")
        raise PacketError(f"more than {MAX_NULL_FRAMES} empty TCP frames in a row")

    @property
    def buffered_bytes(self) -> int:
        """How much of an unfinished frame is held: never more than one frame."""
        return len(self._buffer)


def frame(packet: bytes) -> bytes:
    """Put the length in front of one packet of 1 to 65,535 bytes."""
    if not 0 < len(packet) <= 0xFFFF:
        raise PacketError(f"{len(packet)} bytes cannot be framed: 1 to 65535 accepted")
    return _LENGTH.pack(len(packet)) + packet
