"""The raised hands of one lesson, in the order they went up, with a limit per seat on toggling.

No clock: `now` is monotonic seconds for the limit, `wall_s` (seconds since 1970) is only what is
shown as the time since which a hand is up. The order is the order of arrival, so that a clock
that is set back never lets anyone jump the queue.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal

import msgspec

BURST: Final = 5.0
REFILL_PER_S: Final = 0.5

Outcome = Literal["changed", "unchanged", "too-fast"]


class Hand(msgspec.Struct, frozen=True):
    """A hand that is up since `since` (seconds since 1970)."""

    seat: str
    since: float


class _Bucket(msgspec.Struct):
    tokens: float
    at: float


class Hands:
    """Which seats have a hand up. What a seat does is limited, what the teacher does is not."""

    __slots__ = ("_buckets", "_since")

    def __init__(self) -> None:
        self._since: dict[str, float] = {}  # insertion order is the order of the hands
        self._buckets: dict[str, _Bucket] = {}

    def raise_hand(self, seat: str, *, now: float, wall_s: float) -> Outcome:
        """A seat raises its hand. One that is up already keeps its turn and its time."""
        if not self._may_act(seat, now):
            return "too-fast"
        if seat in self._since:
            return "unchanged"
        self._since[seat] = wall_s
        return "changed"

    def take_down(self, seat: str, *, now: float) -> Outcome:
        """A seat lowers its own hand."""
        if not self._may_act(seat, now):
            return "too-fast"
        return self.lower(seat)

    def lower(self, seat: str) -> Outcome:
        """The teacher lowers a seat's hand."""
        return "unchanged" if self._since.pop(seat, None) is None else "changed"

    def forget(self, seat: str) -> Outcome:
        """The seat has left the lesson: its hand goes down and nothing of it is kept."""
        self._buckets.pop(seat, None)
        return self.lower(seat)

    def restore(self, hands: Iterable[Hand]) -> None:
        """Take over the raised hands of an earlier process, in their order."""
        self._since = {hand.seat: hand.since for hand in hands}

    def order(self) -> list[Hand]:
        """All raised hands, the longest raised first."""
        return [Hand(seat, since) for seat, since in self._since.items()]

    def since(self, seat: str) -> float | None:
        """Since when the seat's hand is up, None if it is down."""
        return self._since.get(seat)

    def is_raised(self, seat: str) -> bool:
        return seat in self._since

    def __len__(self) -> int:
        return len(self._since)

    def _may_act(self, seat: str, now: float) -> bool:
        bucket = self._buckets.get(seat)
        if bucket is None:
            bucket = self._buckets[seat] = _Bucket(BURST, now)
        elapsed_s = max(0.0, now - bucket.at)
        bucket.tokens = min(BURST, bucket.tokens + elapsed_s * REFILL_PER_S)
        bucket.at = max(bucket.at, now)
        if bucket.tokens < 1.0:
            return False
        bucket.tokens -= 1.0
        return True
