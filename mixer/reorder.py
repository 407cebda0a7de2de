"""Puts a video sender's packets back in order and cuts them into frames.

A missing packet is waited for as long as a retransmission may take; then the frame it belongs to
and all that depend on it are given up, and a key frame must be asked for. Time is an argument.
"""

from __future__ import annotations

from typing import NamedTuple

from streamer.rtp import SEQ_MASK, Packet, seq_newer

PATIENCE_S = 0.120
MAX_HELD_PACKETS = 1024
MAX_FRAME_PACKETS = 2048  # a key frame of 2.3 MB


class CodedFrame(NamedTuple):
    """The packets of one picture, in order. `complete` is False when some of it was lost;
    `broken` when anything before it was lost since the last frame handed out."""

    packets: list[Packet]
    broken: bool
    complete: bool


class Reorder:
    """Takes packets in any order, gives whole frames in theirs."""

    __slots__ = ("_broken", "_damaged", "_frame", "_held", "_next", "lost")

    def __init__(self) -> None:
        self._next: int | None = None
        self._held: dict[int, Packet] = {}
        self._frame: list[Packet] = []
        self._damaged = False  # the frame being gathered has lost its beginning
        self._broken = False
        self.lost = 0

    def put(self, packet: Packet, now: float) -> list[CodedFrame]:
        """A packet came; the frames that it completes."""
        seq = packet.seq
        if self._next is None:
            self._next = seq
        elif seq != self._next and not seq_newer(seq, self._next):
            if (self._next - seq) & SEQ_MASK < MAX_HELD_PACKETS:
                return []  # older than what was handed out, or given up
            self._restart(seq)  # the numbering began anew
        elif (seq - self._next) & SEQ_MASK >= MAX_HELD_PACKETS:
            self._restart(seq)
        self._held[seq] = packet
        frames = self._advance()
        return frames + self.late(now) if self._held else frames

    def late(self, now: float) -> list[CodedFrame]:
        """Gives up what has been missing too long. Call it now and then."""
        frames: list[CodedFrame] = []
        while self._held:
            # A hole has been known since the first packet behind it came.
            known_since = min(packet.arrival for packet in self._held.values())
            if now - known_since < PATIENCE_S and len(self._held) < MAX_HELD_PACKETS:
                break
            frames += self._give_up()
        return frames

    def _give_up(self) -> list[CodedFrame]:
        """Go on behind the hole."""
        assert self._next is not None
        frames: list[CodedFrame] = []
        base = self._next
        self._next = min(self._held, key=lambda seq: (seq - base) & SEQ_MASK)
        self.lost += (self._next - base) & SEQ_MASK
        self._broken = True
        # The rest of the frame under way went with the hole, unless the hole was between frames.
        if self._frame and self._held[self._next].timestamp == self._frame[0].timestamp:
            self._damaged = True
        else:
            frames += self._finish(complete=False)
            self._damaged = False
            # If the hole took the next frame's beginning too, the depacketizer finds that out.
        return frames + self._advance()

    def _restart(self, seq: int) -> None:
        self._next = seq
        self._held.clear()
        self._frame.clear()
        self._broken = True
        self._damaged = False

    def _advance(self) -> list[CodedFrame]:
        """Hand on everything that follows without a hole."""
        frames: list[CodedFrame] = []
        assert self._next is not None
        while (packet := self._held.pop(self._next, None)) is not None:
            self._next = (self._next + 1) & SEQ_MASK
            if not packet.payload:
                continue  # padding only
            if self._frame and self._frame[0].timestamp != packet.timestamp:
                frames += self._finish(complete=not self._damaged)
                self._damaged = False
            self._frame.append(packet)
            if packet.marker or len(self._frame) >= MAX_FRAME_PACKETS:
                frames += self._finish(complete=not self._damaged)
                self._damaged = False
        return frames

    def _finish(self, *, complete: bool) -> list[CodedFrame]:
        if not self._frame:
            return []
        frame = CodedFrame(self._frame, self._broken, complete)
        self._frame = []
        self._broken = not complete
        return [frame]
