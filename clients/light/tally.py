"""What many receivers measure together: delays and join times, in histograms of constant size."""

from __future__ import annotations

import math
from collections import Counter

STEPS_PER_OCTAVE = 32  # buckets 2.2 % apart
FIRST_NS = 1_000.0
OCTAVES = 24  # 1 µs … 16 s


class LogHistogram:
    """Percentiles of nanoseconds within 2.2 %, whatever the number of observations."""

    __slots__ = ("_counts", "count", "max_ns")

    def __init__(self) -> None:
        self._counts = [0] * (OCTAVES * STEPS_PER_OCTAVE + 1)
        self.count = 0
        self.max_ns = 0

    def observe(self, value_ns: int) -> None:
        index = int(math.log2(value_ns / FIRST_NS) * STEPS_PER_OCTAVE) if value_ns > FIRST_NS else 0
        counts = self._counts
        counts[index if index < len(counts) else -1] += 1
        self.count += 1
        if value_ns > self.max_ns:
            self.max_ns = value_ns

    def percentile_ms(self, percent: float) -> float | None:
        """The upper edge of the bucket that holds the percentile; None without observations."""
        if not self.count:
            return None
        wanted = max(1, math.ceil(self.count * percent / 100))
        seen = 0
        for index, count in enumerate(self._counts):
            seen += count
            if seen >= wanted:
                edge_ns: float = FIRST_NS * 2.0 ** ((index + 1) / STEPS_PER_OCTAVE)
                return min(edge_ns, float(self.max_ns)) / 1e6
        return self.max_ns / 1e6

    def report(self) -> dict[str, float | int] | None:
        """Percentiles for people and for JSON; None without observations."""
        if not self.count:
            return None
        return {
            "p50": round(self.percentile_ms(50) or 0.0, 3),
            "p99": round(self.percentile_ms(99) or 0.0, 3),
            "max": round(self.max_ns / 1e6, 3),
            "samples": self.count,
        }


class Phase:
    """The delays of one part of a run (while receivers join, and after)."""

    __slots__ = ("audio", "video")

    def __init__(self) -> None:
        self.audio = LogHistogram()
        self.video = LogHistogram()

    def report(self) -> dict[str, object] | None:
        if not self.audio.count and not self.video.count:
            return None
        return {"audio": self.audio.report(), "video": self.video.report()}


class Tally:
    """Shared by all receivers of a run; `phase` is where delays go at the moment."""

    def __init__(self) -> None:
        self.phase = Phase()
        self.connect_s: list[float] = []
        self.join_s: list[float] = []
        self.failures: Counter[str] = Counter()

    def begin_phase(self) -> Phase:
        """Direct delays into a new phase; return the one that has ended."""
        ended, self.phase = self.phase, Phase()
        return ended


def percentile(values: list[float], percent: float) -> float | None:
    """The nearest-rank percentile of a list; None of an empty one."""
    if not values:
        return None
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]
