"""Serves a late joiner from history when the publisher cannot make a key frame on request.

A file sent without transcoding has its key frames where it has them. The joiner gets everything
since the newest one, faster than it was sent, with timestamps drawn together before "now": its
decoder runs through the backlog at once and the picture is live from then on.
"""

from __future__ import annotations

from collections.abc import Sequence

from .fanout import FanoutGroup
from .publisher import PublishedTrack
from .receiver import ReceiverTrack
from .rtp import HEADER, HEADER_BYTES, SEQ_MASK, TIMESTAMP_MASK, Packet

PACKETS_PER_STEP = 40  # a step is 20 ms: 18 Mbit/s while catching up
FRAME_STEP_TICKS = 90  # 1 ms of the 90 kHz clock between backlog frames


class CatchUp:
    """One receiver on its way from the last key frame to the present."""

    __slots__ = ("_index", "_next_seq", "_packets", "_source", "_timestamps", "group", "receiver")

    def __init__(
        self,
        receiver: ReceiverTrack,
        group: FanoutGroup,
        source: PublishedTrack,
        packets: Sequence[Packet],
    ) -> None:
        self.receiver = receiver
        self.group = group
        self._source = source
        self._packets = packets
        self._index = 0
        self._next_seq = packets[-1].seq
        self._timestamps = compressed_timestamps([packet.timestamp for packet in packets])
        receiver.backlog_timestamps = {
            packet.seq: timestamp
            for packet, timestamp in zip(packets, self._timestamps, strict=True)
        }
        # Live timestamps continue behind the backlog: the offset is set for the newest packet.
        ours_now = receiver.last_timestamp + FRAME_STEP_TICKS * (len(set(self._timestamps)) + 1)
        receiver.timestamp_offset = (ours_now - packets[-1].timestamp) & TIMESTAMP_MASK

    def step(self, abs_send_time: bytes) -> int:
        """Send the next packets; return how many."""
        sent = 0
        while sent < PACKETS_PER_STEP and self._index < len(self._packets):
            packet = self._packets[self._index]
            self._send(packet, self._timestamps[self._index], abs_send_time)
            self._index += 1
            sent += 1
        while sent < PACKETS_PER_STEP and not self.finished:
            self._next_seq = (self._next_seq + 1) & SEQ_MASK
            newer = self._source.history.get(self._next_seq)
            if newer is not None:  # a hole is repaired by NACK like any other
                self._send(newer, newer.timestamp, abs_send_time)
                sent += 1
        return sent

    @property
    def finished(self) -> bool:
        return self._index >= len(self._packets) and self._next_seq == self._source.history.highest

    def _send(self, packet: Packet, timestamp: int, abs_send_time: bytes) -> None:
        receiver = self.receiver
        plain = bytearray(self.group.render(packet, abs_send_time))
        HEADER.pack_into(
            plain,
            0,
            plain[0],
            plain[1],
            (packet.seq + receiver.seq_offset) & SEQ_MASK,
            (timestamp + receiver.timestamp_offset) & TIMESTAMP_MASK,
            receiver.ssrc,
        )
        protected = receiver.srtp.protect(bytes(plain))
        if protected:
            receiver.path.send(protected)
            receiver.packets += 1
            receiver.octets += len(plain) - HEADER_BYTES


def compressed_timestamps(timestamps: Sequence[int]) -> list[int]:
    """The same frames, one millisecond apart, ending at the last timestamp (modulo 2^32)."""
    distances: list[int] = []
    frame = 0
    following: int | None = None
    for timestamp in reversed(timestamps):
        if following is not None and timestamp != following:
            frame += 1
        following = timestamp
        distances.append(frame)
    last = timestamps[-1]
    return [
        (last - distance * FRAME_STEP_TICKS) & TIMESTAMP_MASK for distance in reversed(distances)
    ]
