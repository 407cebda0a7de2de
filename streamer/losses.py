"""Finds the holes in a received sequence and says when to ask for which packet again (RFC 4585)."""

from __future__ import annotations

from .rtp import SEQ_MASK

MAX_MISSING = 512  # more than this at once is not loss but a restart or an outage
MAX_TRIES = 10
FIRST_NACK_DELAY_S = 0.0
MIN_RETRY_S = 0.02


MAX_RTT_S = 1.0
RTT_RISE = 0.125  # RFC 6298 section 2; downwards at once, since a sample is never too small


class _Missing:
    __slots__ = ("asked_at", "due", "tries")

    def __init__(self, due: float) -> None:
        self.due = due
        self.tries = 0
        self.asked_at = 0.0


class LossDetector:
    """Tracks which sequence numbers are missing; time comes in as an argument (seconds).

    `received` returns False after a jump too wide to repair: the caller should ask for a key
    frame. `due` returns the numbers to put into a NACK now, each at most MAX_TRIES times: again
    after a round trip, then ever farther apart. `rtt_s` is how long resends take to come, None
    before the first.
    """

    __slots__ = ("_highest", "_missing", "abandoned", "rtt_s")

    def __init__(self) -> None:
        self._highest: int | None = None
        self._missing: dict[int, _Missing] = {}
        self.abandoned = 0
        self.rtt_s: float | None = None

    @property
    def pending(self) -> int:
        return len(self._missing)

    def received(self, seq: int, now: float, *, resent: bool = False) -> bool:
        highest = self._highest
        if highest is None:
            self._highest = seq
            return True
        delta = (seq - highest) & SEQ_MASK
        if delta == 0:
            return True
        if delta >= 0x8000:  # late or resent
            missing = self._missing.pop(seq, None)
            if resent and missing is not None and missing.tries:
                self._measure_rtt(now - missing.asked_at)
            return True
        self._highest = seq
        if delta == 1:
            return True
        if delta - 1 + len(self._missing) > MAX_MISSING:
            self.abandoned += len(self._missing)
            self._missing.clear()
            return False
        for step in range(1, delta):
            self._missing[(highest + step) & SEQ_MASK] = _Missing(now + FIRST_NACK_DELAY_S)
        return True

    def _measure_rtt(self, sample_s: float) -> None:
        """From the first time of asking: a round trip, or more when that was not answered."""
        if self.rtt_s is None or sample_s < self.rtt_s:
            self.rtt_s = sample_s
        else:
            self.rtt_s = min(MAX_RTT_S, self.rtt_s + (sample_s - self.rtt_s) * RTT_RISE)

    def missing(self, seq: int) -> bool:
        """Whether a packet is still waited for."""
        return seq in self._missing

    def due(self, now: float, rtt_s: float) -> list[int]:
        if not self._missing:
            return []
        retry_s = max(MIN_RETRY_S, rtt_s * 1.2)
        wanted: list[int] = []
        given_up: list[int] = []
        for seq, missing in self._missing.items():
            if missing.due > now:
                continue
            if missing.tries >= MAX_TRIES:
                given_up.append(seq)
                continue
            if not missing.tries:
                missing.asked_at = now
            missing.tries += 1
            missing.due = now + retry_s * missing.tries  # a queue may have grown since
            wanted.append(seq)
        for seq in given_up:
            del self._missing[seq]
        self.abandoned += len(given_up)
        return wanted
