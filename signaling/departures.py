"""Estimates how long a turn in a waiting list will take, from the departures measured so far.

The model is the simplest one that is honest: places become free at the mean pace of the last
departures, so the n-th turn waits n times that. With too few departures, or none for a long time,
the answer is "unknown" (None) rather than a guess.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Final

REMEMBERED: Final = 20
FEWEST: Final = 3
# Teaching points leave in waves (a break, the end): what was true half an hour ago says nothing.
FORGOTTEN_AFTER_S: Final = 1800.0


class Departures:
    """The last places that became free for good."""

    __slots__ = ("_times",)

    def __init__(self) -> None:
        self._times: deque[float] = deque(maxlen=REMEMBERED)

    def note(self, now: float) -> None:
        self._times.append(now)

    def expected_wait_s(self, turns: int, now: float) -> int | None:
        """Seconds until `turns` more places have become free, None if that is unknown."""
        while self._times and now - self._times[0] > FORGOTTEN_AFTER_S:
            self._times.popleft()
        if len(self._times) < FEWEST or turns < 1:
            return None
        # The time since the last one counts, so that the estimate grows when nobody leaves.
        mean_gap_s = (now - self._times[0]) / len(self._times)
        return max(1, math.ceil(turns * mean_gap_s))
