"""A bad line without I/O: what goes in comes out late, thinned, doubled or not at all, by seed.

A `Line` is one direction. Datagrams pass, in this order: the outage windows, a queue of bounded
bytes in front of a sender of limited rate (drop tail), random and burst loss, duplication, delay
with jitter. Time is an argument in seconds on any clock that does not run backwards.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from dataclasses import dataclass
from typing import Generic, TypeVar

Item = TypeVar("Item")


@dataclass(frozen=True)
class BurstLoss:
    """The Gilbert–Elliott model, stepped once per datagram: a good and a bad state.

    `mean_burst` and `mean_gap` are how many datagrams pass, on average, in the bad and in the good
    state before it changes; `loss_in_burst` and `loss_in_gap` are the odds of loss in each.
    """

    mean_burst: float
    mean_gap: float
    loss_in_burst: float = 1.0
    loss_in_gap: float = 0.0

    def __post_init__(self) -> None:
        for name in ("mean_burst", "mean_gap"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: a state lasts at least 1 datagram, give 1 or more")
        _odds(self, "loss_in_burst", "loss_in_gap")

    @classmethod
    def averaging(cls, loss: float, mean_burst: float) -> BurstLoss:
        """Whole bursts of `mean_burst` lost datagrams that make up `loss` of all (0 to 0.5)."""
        if not 0 < loss <= 0.5:
            raise ValueError(f"loss: {loss} is not above 0 and at most 0.5")
        return cls(mean_burst, mean_burst * (1 - loss) / loss)


@dataclass(frozen=True)
class Conditions:
    """How bad a line is; the default is a perfect one.

    `jitter_s` is the largest extra delay, drawn evenly for each datagram; only with `reorder` may
    a datagram overtake an earlier one. `queue_bytes` bounds what waits for a sender of `rate_bps`,
    the datagram being sent included. In `outages`, (start, end) on the caller's clock, all is lost.
    """

    delay_s: float = 0.0
    jitter_s: float = 0.0
    reorder: bool = False
    loss: float = 0.0
    burst_loss: BurstLoss | None = None
    duplicate: float = 0.0
    rate_bps: float | None = None
    queue_bytes: int = 64 * 1024
    outages: tuple[tuple[float, float], ...] = ()

    def __post_init__(self) -> None:
        for name in ("delay_s", "jitter_s"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}: nothing arrives before it was sent, give 0 or more")
        _odds(self, "loss", "duplicate")
        if self.rate_bps is not None and self.rate_bps <= 0:
            raise ValueError("rate_bps: give a rate above 0, None for no limit, or an outage")
        if self.queue_bytes <= 0:
            raise ValueError("queue_bytes: give room for at least one datagram")
        if any(end < start for start, end in self.outages):
            raise ValueError("outages: each ends after it starts")

    def out_at(self, now: float) -> bool:
        return any(start <= now < end for start, end in self.outages)


def _odds(values: object, *names: str) -> None:
    for name in names:
        if not 0 <= getattr(values, name) <= 1:
            raise ValueError(f"{name}: odds are 0 to 1, not {getattr(values, name)}")


@dataclass
class Counts:
    """What became of the datagrams so far; a duplicated one is passed twice."""

    entered: int = 0
    passed: int = 0
    lost: int = 0
    lost_in_bursts: int = 0
    lost_in_outages: int = 0
    queue_full: int = 0
    duplicated: int = 0


class Line(Generic[Item]):
    """One direction of a path. `enter` datagrams, then `leave` them when `next_at` has come.

    The fates of datagrams depend on the seed and on their order, not on when they come; only the
    queue and the outages depend on time.
    """

    def __init__(self, conditions: Conditions | None = None, seed: int = 0) -> None:
        self.conditions = conditions or Conditions()
        self.counts = Counts()
        self.queued_bytes = 0
        self._random = random.Random(seed)
        self._in_burst = False
        self._queue: deque[tuple[Item, int]] = deque()
        self._head_sent_at = 0.0
        self._flying: list[tuple[float, int, Item]] = []
        self._last_arrival = 0.0
        self._order = 0

    def change(self, conditions: Conditions, now: float) -> None:
        """Other conditions from now on; what waits in the queue is sent at the new rate."""
        self._send_queued(now)
        old_rate, self.conditions = self.conditions.rate_bps, conditions
        if not self._queue or old_rate is None:
            return
        if conditions.rate_bps is None:
            while self._queue:
                self._depart(self._take_head(), now)
        else:
            unsent_bits = (self._head_sent_at - now) * old_rate
            self._head_sent_at = now + unsent_bits / conditions.rate_bps

    def enter(self, item: Item, size: int, now: float) -> None:
        """A datagram of `size` bytes (with headers, when the rate shall count them) sets out."""
        self.counts.entered += 1
        conditions = self.conditions
        if conditions.outages and conditions.out_at(now):
            self.counts.lost_in_outages += 1
            return
        rate = conditions.rate_bps
        if rate is None:
            self._depart(item, now)
            return
        self._send_queued(now)
        # An idle line takes any datagram, or one larger than the queue would never pass.
        if self._queue and self.queued_bytes + size > conditions.queue_bytes:
            self.counts.queue_full += 1
            return
        if not self._queue:
            self._head_sent_at = now + size * 8 / rate
        self._queue.append((item, size))
        self.queued_bytes += size

    def leave(self, now: float) -> list[Item]:
        """What arrives at the far end by `now`, in order of arrival."""
        if self._queue:
            self._send_queued(now)
        flying = self._flying
        arrived: list[Item] = []
        while flying and flying[0][0] <= now:
            arrived.append(heapq.heappop(flying)[2])
        self.counts.passed += len(arrived)
        return arrived

    @property
    def next_at(self) -> float | None:
        """When `leave` may next have something; None while the line is empty."""
        soonest = [self._flying[0][0]] if self._flying else []
        if self._queue:
            soonest.append(self._head_sent_at + self.conditions.delay_s)
        return min(soonest, default=None)

    # --- stages --------------------------------------------------------------------------------

    def _send_queued(self, now: float) -> None:
        rate = self.conditions.rate_bps
        while self._queue and rate is not None and self._head_sent_at <= now:
            sent_at = self._head_sent_at
            self._depart(self._take_head(), sent_at)
            if self._queue:
                self._head_sent_at = sent_at + self._queue[0][1] * 8 / rate

    def _take_head(self) -> Item:
        item, size = self._queue.popleft()
        self.queued_bytes -= size
        return item

    def _depart(self, item: Item, now: float) -> None:
        """The last bit is on its way: lost, or due after the delay, perhaps twice."""
        conditions, draw = self.conditions, self._random.random
        if conditions.loss and draw() < conditions.loss:
            self.counts.lost += 1
            return
        if conditions.burst_loss is not None and self._lost_in_burst(conditions.burst_loss):
            self.counts.lost_in_bursts += 1
            return
        self._fly(item, now)
        if conditions.duplicate and draw() < conditions.duplicate:
            self.counts.duplicated += 1
            self._fly(item, now)

    def _lost_in_burst(self, model: BurstLoss) -> bool:
        draw = self._random.random
        if draw() < 1 / (model.mean_burst if self._in_burst else model.mean_gap):
            self._in_burst = not self._in_burst
        odds = model.loss_in_burst if self._in_burst else model.loss_in_gap
        return odds > 0 and draw() < odds

    def _fly(self, item: Item, now: float) -> None:
        conditions = self.conditions
        arrival = now + conditions.delay_s
        if conditions.jitter_s:
            arrival += self._random.random() * conditions.jitter_s
        if not conditions.reorder:
            arrival = self._last_arrival = max(arrival, self._last_arrival)
        self._order += 1
        heapq.heappush(self._flying, (arrival, self._order, item))
