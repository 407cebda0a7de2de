"""Places of one stream kept for named teaching points until a set time into the lesson.

A name fills its reservation when it gets a place and opens it again when it gives the place up,
until all of them lapse `hold_s` after the start of the lesson. Before the start they stand.
Names are compared by `turns.match_key`. No clock: `now` is monotonic seconds.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from signaling.allowances import Allowance
from signaling.turns import match_key


class Reservations:
    """The reservations of one stream; sets places aside at the levels it is given."""

    __slots__ = ("_filled", "_keys", "_levels", "_names", "_past", "_started_at", "hold_s")

    def __init__(self, levels: Sequence[Allowance]) -> None:
        self.hold_s = 0.0
        self._levels = tuple(levels)
        self._names: list[str] = []
        self._keys: set[str] = set()  # in force
        self._past: set[str] = set()  # lapsed
        self._filled: set[str] = set()
        self._started_at: float | None = None

    @property
    def levels(self) -> tuple[Allowance, ...]:
        return self._levels

    @property
    def ever(self) -> bool:
        """Whether there are or were any."""
        return bool(self._names)

    @property
    def all_names(self) -> list[str]:
        """All names of the list, lapsed ones included."""
        return list(self._names)

    @property
    def names(self) -> list[str]:
        """The names in force, as they were given."""
        return [name for name in self._names if match_key(name) in self._keys]

    @property
    def open(self) -> int:
        """Reservations in force whose teaching point has no place yet."""
        return len(self._keys) - len(self._filled)

    @property
    def lapses_at(self) -> float | None:
        """When those in force lapse; None while there are none or the lesson has not started."""
        if not self._keys or self._started_at is None:
            return None
        return self._started_at + self.hold_s

    def is_open(self, key: str) -> bool:
        """Whether the reservation of a name is in force and not filled."""
        return key in self._keys and key not in self._filled

    def knows(self, key: str) -> bool:
        """Whether the name is or was on the list."""
        return key in self._keys or key in self._past

    def set(self, names: Iterable[str], hold_s: float) -> None:
        """Replace the list; all are open until `fill` says whose teaching point has a place."""
        if hold_s < 0 or not math.isfinite(hold_s):
            raise ValueError("hold_s must be a number of seconds, not negative")
        self._set_aside(-self.open)
        self._names = [name for name in names if match_key(name)]
        self._keys = {match_key(name) for name in self._names}
        self._past.clear()
        self._filled = set()
        self.hold_s = hold_s
        self._set_aside(self.open)

    def start(self, now: float) -> None:
        """The lesson has started: from now the hold time runs. Only the first start counts."""
        if self._started_at is None:
            self._started_at = now

    def fill(self, key: str) -> None:
        if self.is_open(key):
            self._filled.add(key)
            self._set_aside(-1)

    def reopen(self, key: str) -> bool:
        """The place is free again. True if it is set aside once more."""
        if key not in self._filled:
            return False
        self._filled.discard(key)
        self._set_aside(1)
        return True

    def lapse(self, now: float) -> list[str]:
        """Let lapse what is past its time; returns the keys that were still open."""
        at = self.lapses_at
        if at is None or at > now:
            return []
        lapsed = sorted(self._keys - self._filled)
        self._set_aside(-self.open)
        self._past |= self._keys
        self._keys = set()
        self._filled = set()
        return lapsed

    def _set_aside(self, count: int) -> None:
        for level in self._levels:
            level.reserved += count
