"""The line test before class: what a teaching point measured, how it is judged, and how much of
the server's own line all tests together may take.

No clock and no I/O: `now` is monotonic seconds. Throughput and round trip are measured by the
page over HTTP; loss cannot be seen there and is an estimate (docs/planner.md says how).
"""

from __future__ import annotations

import math
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from signaling.planner import Lines, ModePlan, sort_lines

Verdict = Literal["full", "smaller", "too-slow"]
Decode = Literal["smooth", "slow", "none", "unknown"]

# One transfer; a line of 8 Mbit/s takes eight seconds for it.
MOST_TRANSFER_BYTES: Final = 8 * 1024 * 1024
# A test is some transfers either way. More within a minute is no test any more.
SEAT_BYTES_PER_WINDOW: Final = 64 * 1024 * 1024
WINDOW_S: Final = 60.0
# Transfers at the same time: beyond it classrooms would measure each other, and a lesson that is
# running would feel it.
MOST_AT_ONCE: Final = 8
RETRY_S: Final = 5

Kbps = Annotated[float, Meta(ge=0, le=100_000_000)]


class LineResult(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the page measured; None is what it could not."""

    down_kbps: Kbps
    up_kbps: Kbps
    rtt_ms: Annotated[float, Meta(ge=0, le=60_000)] | None = None
    loss: Annotated[float, Meta(ge=0, le=1)] | None = None
    camera: bool | None = None
    microphone: bool | None = None
    decode: Decode = "unknown"


class LineTest(msgspec.Struct, frozen=True, kw_only=True):
    """A result and when it came (seconds since 1970), as the seats list shows it."""

    at: float
    verdict: Verdict
    result: LineResult


def judge(result: LineResult, plan: ModePlan) -> Verdict:
    """Whether the line carries the lesson of a plan in full, in its smallest picture, or not."""
    lines = needs(plan)
    if result.down_kbps >= lines.full_kbps:
        return "full"
    return "smaller" if result.down_kbps >= lines.least_kbps else "too-slow"


def needs(plan: ModePlan) -> Lines:
    """What a line must carry for a plan."""
    return sort_lines((), {one.stream: one.demand for one in plan.streams})


class TestGate:
    """Grants transfers: a few at once in all, and so many bytes a minute for each seat."""

    __test__ = False  # the name begins as pytest's test classes do

    def __init__(self, most_at_once: int = MOST_AT_ONCE) -> None:
        self._most_at_once = most_at_once
        self._running = 0
        self._windows: dict[str, tuple[float, int]] = {}

    @property
    def running(self) -> int:
        return self._running

    def begin(self, seat: str, size_bytes: int, now: float) -> int:
        """0 and the transfer may run until `end`; else the seconds after which to try again."""
        self._forget(now)
        started, spent = self._windows.get(seat, (now, 0))
        if spent + size_bytes > SEAT_BYTES_PER_WINDOW:
            return max(1, math.ceil(started + WINDOW_S - now))
        if self._running >= self._most_at_once:
            return RETRY_S
        self._windows[seat] = (started, spent + size_bytes)
        self._running += 1
        return 0

    def end(self) -> None:
        """A transfer that `begin` granted is over."""
        self._running -= 1

    def _forget(self, now: float) -> None:
        over = [seat for seat, (started, _) in self._windows.items() if now - started >= WINDOW_S]
        for seat in over:
            del self._windows[seat]
