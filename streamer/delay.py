"""A fixed-bucket histogram of forwarding delays, cheap enough for the hot path."""

from __future__ import annotations

from array import array
from bisect import bisect_left

from . import control

BOUNDS_S = (0.0001, 0.00025, 0.0005, 0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5)


class DelayHistogram:
    """Counts delays (seconds) in buckets of `BOUNDS_S`, the last bucket being everything above.

    Plain arrays, so that the C loop can count into them too.
    """

    __slots__ = ("bounds", "counts", "total_s")

    def __init__(self) -> None:
        self.bounds = array("d", BOUNDS_S)
        self.counts = array("Q", [0] * (len(BOUNDS_S) + 1))
        self.total_s = array("d", [0.0])

    def observe(self, delay_s: float, weight: int = 1) -> None:
        self.counts[bisect_left(BOUNDS_S, delay_s)] += weight
        self.total_s[0] += delay_s * weight

    def snapshot(self) -> control.Histogram:
        return control.Histogram(
            bounds=list(BOUNDS_S), counts=list(self.counts), sum=self.total_s[0]
        )
