"""Puts a track's packets back in order and cuts them into whole frames, for who can wait a second.

A hole is waited for; then it is given up, and of a picture nothing more comes out until a key
frame, because what depends on a lost frame cannot be decoded. Time is an argument.
"""

from __future__ import annotations

from dataclasses import dataclass

from .codecs import KEYFRAME_TESTS
from .depacketize import DEPACKETIZERS, IS_KEYFRAME
from .errors import PacketError
from .rtp import SEQ_MASK, Packet, seq_newer

PATIENCE_S = 1.0  # a resend takes some round trips; nobody waits for a recording
MAX_HELD_PACKETS = 2048
MAX_FRAME_PACKETS = 4096


@dataclass(frozen=True, slots=True)
class CodedFrame:
    """One whole coded picture, or one sound packet. `arrival` is that of its first packet."""

    data: bytes
    timestamp: int
    keyframe: bool
    arrival: float


class Sequencer:
    """Takes packets in any order, gives each once and in order, and says where some are missing."""

    __slots__ = ("_held", "_next", "lost")

    def __init__(self) -> None:
        self._next: int | None = None
        self._held: dict[int, Packet] = {}
        self.lost = 0

    def put(self, packet: Packet, now: float) -> list[tuple[Packet, bool]]:
        """The packets that are due now, each with whether something before it is missing."""
        seq = packet.seq
        restarted = False
        if self._next is None:
            self._next = seq
        elif seq != self._next and not seq_newer(seq, self._next):
            if (self._next - seq) & SEQ_MASK < MAX_HELD_PACKETS:
                return []  # a duplicate, or so late that it was given up
            restarted = self._restart(seq)
        elif (seq - self._next) & SEQ_MASK >= MAX_HELD_PACKETS:
            restarted = self._restart(seq)
        self._held.setdefault(seq, packet)
        due = self._advance(restarted)
        return due + self.late(now) if self._held else due

    def late(self, now: float) -> list[tuple[Packet, bool]]:
        """Gives up what has been missing for too long. Call it now and then."""
        due: list[tuple[Packet, bool]] = []
        while self._held and self._next is not None:
            # A hole has been known since the first packet behind it came.
            known_since = min(packet.arrival for packet in self._held.values())
            if now - known_since < PATIENCE_S and len(self._held) < MAX_HELD_PACKETS:
                break
            base = self._next
            self._next = min(self._held, key=lambda seq: (seq - base) & SEQ_MASK)
            self.lost += (self._next - base) & SEQ_MASK
            due += self._advance(True)
        return due

    def _restart(self, seq: int) -> bool:
        """The numbering began anew."""
        self._next = seq
        self._held.clear()
        return True

    def _advance(self, gap: bool) -> list[tuple[Packet, bool]]:
        due: list[tuple[Packet, bool]] = []
        assert self._next is not None
        while (packet := self._held.pop(self._next, None)) is not None:
            self._next = (self._next + 1) & SEQ_MASK
            due.append((packet, gap))
            gap = False
        return due


class VideoAssembler:
    """Whole frames of one layer, from a key frame on and without a break in between."""

    __slots__ = (
        "_depacketize",
        "_is_keyframe",
        "_packets",
        "_sequencer",
        "_starts_keyframe",
        "dropped",
        "needs_keyframe",
    )

    def __init__(self, codec: str) -> None:
        self._sequencer = Sequencer()
        self._depacketize = DEPACKETIZERS[codec]
        self._is_keyframe = IS_KEYFRAME[codec]
        self._starts_keyframe = KEYFRAME_TESTS[codec]
        self._packets: list[Packet] = []
        self.needs_keyframe = True
        self.dropped = 0

    @property
    def lost(self) -> int:
        return self._sequencer.lost

    def put(self, packet: Packet, now: float) -> list[CodedFrame]:
        return self._take(self._sequencer.put(packet, now))

    def late(self, now: float) -> list[CodedFrame]:
        return self._take(self._sequencer.late(now))

    def _take(self, due: list[tuple[Packet, bool]]) -> list[CodedFrame]:
        frames: list[CodedFrame] = []
        for packet, gap in due:
            if gap:
                self._break()
            if not packet.payload:
                continue  # padding only
            if self._packets and self._packets[0].timestamp != packet.timestamp:
                self._finish(frames)
            waits = self.needs_keyframe and not self._packets
            if waits and not self._starts_keyframe(packet.payload):
                continue
            self._packets.append(packet)
            if packet.marker:
                self._finish(frames)
            elif len(self._packets) > MAX_FRAME_PACKETS:
                self._break()
        return frames

    def _break(self) -> None:
        self.dropped += bool(self._packets)
        self._packets = []
        self.needs_keyframe = True

    def _finish(self, frames: list[CodedFrame]) -> None:
        packets, self._packets = self._packets, []
        try:
            data = self._depacketize([packet.payload for packet in packets])
        except PacketError:
            self.dropped += 1
            self.needs_keyframe = True
            return
        keyframe = self._is_keyframe(data)
        if self.needs_keyframe and not keyframe:
            self.dropped += 1
            return
        self.needs_keyframe = False
        frames.append(CodedFrame(data, packets[0].timestamp, keyframe, packets[0].arrival))


class AudioAssembler:
    """Opus packets in order; what is lost shows as a gap in the timestamps."""

    __slots__ = ("_sequencer",)

    def __init__(self) -> None:
        self._sequencer = Sequencer()

    @property
    def lost(self) -> int:
        return self._sequencer.lost

    def put(self, packet: Packet, now: float) -> list[CodedFrame]:
        return self._take(self._sequencer.put(packet, now))

    def late(self, now: float) -> list[CodedFrame]:
        return self._take(self._sequencer.late(now))

    def _take(self, due: list[tuple[Packet, bool]]) -> list[CodedFrame]:
        return [
            CodedFrame(packet.payload, packet.timestamp, True, packet.arrival)
            for packet, _gap in due
            if packet.payload
        ]
