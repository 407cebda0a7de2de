"""A ring of the packets a track received last, for resending and for late joiners."""

from __future__ import annotations

from .rtp import SEQ_MASK, Packet


class History:
    """The last `size` packets (a power of two) by RTP sequence number, without growth."""

    __slots__ = ("_mask", "_slots", "highest")

    def __init__(self, size: int) -> None:
        if size <= 0 or size & (size - 1) or size > 32768:
            raise ValueError("size must be a power of two up to 32768")
        self._mask = size - 1
        self._slots: list[Packet | None] = [None] * size
        self.highest: int | None = None

    def add(self, packet: Packet) -> bool:
        """Keep a packet; False when it is a duplicate of one that is still held."""
        index = packet.seq & self._mask
        held = self._slots[index]
        if held is not None and held.seq == packet.seq:
            return False
        if held is not None and (packet.seq - held.seq) & SEQ_MASK >= 0x8000:
            return True  # so late that a newer packet has its place: forwarded, not kept
        self._slots[index] = packet
        if self.highest is None or (packet.seq - self.highest) & SEQ_MASK < 0x8000:
            self.highest = packet.seq
        return True

    def get(self, seq: int) -> Packet | None:
        """The packet with this sequence number, or None when it never came or is too old."""
        packet = self._slots[seq & self._mask]
        return packet if packet is not None and packet.seq == seq else None

    def since_keyframe(self) -> list[Packet]:
        """All packets from the start of the newest key frame on, in order; empty when any of
        them is missing or the start is no longer held."""
        if self.highest is None:
            return []
        found: list[Packet] = []
        seq = self.highest
        for _ in range(self._mask + 1):
            packet = self.get(seq)
            if packet is None:
                return []
            found.append(packet)
            if packet.starts_keyframe:
                found.reverse()
                return found
            seq = (seq - 1) & SEQ_MASK
        return []
