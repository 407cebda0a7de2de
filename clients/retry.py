"""Delays between attempts: doubling, capped, with a little spread so that clients do not march."""

from __future__ import annotations

import random

FIRST_DELAY_S = 0.3
LONGEST_DELAY_S = 5.0
SPREAD = 0.15


class Backoff:
    """Hands out the next delay; `attempts_left` of None means for ever."""

    def __init__(
        self,
        *,
        attempts: int | None = None,
        first_s: float = FIRST_DELAY_S,
        longest_s: float = LONGEST_DELAY_S,
        rng: random.Random | None = None,
    ) -> None:
        self._attempts = attempts
        self._first_s = first_s
        self._longest_s = longest_s
        self._rng = rng or random.Random()
        self._failures = 0

    @property
    def exhausted(self) -> bool:
        """True when the allowed number of consecutive failures has been used up."""
        return self._attempts is not None and self._failures >= self._attempts

    def next_delay_s(self, at_least_s: float = 0.0) -> float:
        """Count one failure and say how long to wait; the server's Retry-After is a lower bound."""
        exponent = min(self._failures, 16)
        self._failures += 1
        delay_s = min(self._longest_s, self._first_s * 2.0**exponent)
        delay_s *= 1.0 + self._rng.uniform(-SPREAD, SPREAD)
        return max(at_least_s, min(delay_s, self._longest_s))

    def succeeded(self) -> None:
        self._failures = 0
