"""Keeps what was measured of every session, lesson and worker: an hour of it, every 5 seconds.

No clock and no I/O: `now` is monotonic seconds. A series is a ring of 32-bit numbers, in which NaN
stands for "not measured"; all series together are bounded by their number.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Mapping
from typing import Final

GRAIN_S: Final = 5
# An hour.
SLOTS: Final = 720
# With eight fields each, some 45 MiB when all of them are full.
MAX_SERIES: Final = 2000
# How long the series of something that is gone can still be looked at.
KEEP_GONE_S: Final = 600.0

_NAN: Final = math.nan


class Series:
    """The fields of one thing over the last hour; grows to its full size only when it lives on."""

    def __init__(self, fields: tuple[str, ...]) -> None:
        self.fields = fields
        self.last_slot = -1
        self._rings = [array("f") for _ in fields]
        self._next = 0  # where the ring goes on once it is full

    def __len__(self) -> int:
        return len(self._rings[0])

    def put(self, now: float, values: Mapping[str, float | None]) -> None:
        """Write the slot of `now`; slots in which nothing was measured stay empty.

        A second sample in the same slot replaces what it measured and keeps the rest.
        """
        slot = int(now // GRAIN_S)
        if slot < self.last_slot:
            return
        if self.last_slot >= 0 and slot == self.last_slot:
            self._amend(values)
            return
        missed = min(slot - self.last_slot - 1, SLOTS) if self.last_slot >= 0 else 0
        for _ in range(missed):
            self._append({})
        self._append(values)
        self.last_slot = slot

    def values(self, field: str) -> list[float | None]:
        """Oldest first, None where nothing was measured."""
        ring = self._rings[self.fields.index(field)]
        ordered = ring if len(ring) < SLOTS else ring[self._next :] + ring[: self._next]
        return [None if math.isnan(value) else round(value, 3) for value in ordered]

    def latest(self, field: str) -> float | None:
        values = self._rings[self.fields.index(field)]
        if not values:
            return None
        value = values[self._newest]
        return None if math.isnan(value) else round(value, 3)

    @property
    def _newest(self) -> int:
        return len(self) - 1 if len(self) < SLOTS else (self._next - 1) % SLOTS

    def _append(self, values: Mapping[str, float | None]) -> None:
        full = len(self) >= SLOTS
        for field, ring in zip(self.fields, self._rings, strict=True):
            value = _number(values.get(field))
            if full:
                ring[self._next] = value
            else:
                ring.append(value)
        if full:
            self._next = (self._next + 1) % SLOTS

    def _amend(self, values: Mapping[str, float | None]) -> None:
        at = self._newest
        for field, ring in zip(self.fields, self._rings, strict=True):
            value = _number(values.get(field))
            if not math.isnan(value):
                ring[at] = value


class SeriesBook:
    """All series by key. The one not written for longest goes first when there are too many."""

    def __init__(self, most: int = MAX_SERIES) -> None:
        self._most = most
        self._series: dict[str, Series] = {}

    def __len__(self) -> int:
        return len(self._series)

    def get(self, key: str) -> Series | None:
        return self._series.get(key)

    def put(
        self, key: str, fields: tuple[str, ...], now: float, values: Mapping[str, float | None]
    ) -> None:
        series = self._series.pop(key, None) or Series(fields)
        self._series[key] = series  # the order of the dictionary is that of the last writing
        series.put(now, values)
        while len(self._series) > self._most:
            del self._series[next(iter(self._series))]

    def forget_gone(self, now: float, is_there: Callable[[str], bool]) -> None:
        """Drop the series of what has been gone for KEEP_GONE_S."""
        oldest_slot = int((now - KEEP_GONE_S) // GRAIN_S)
        gone = [
            key
            for key, series in self._series.items()
            if series.last_slot < oldest_slot and not is_there(key)
        ]
        for key in gone:
            del self._series[key]

    def document(self, key: str, now: float) -> dict[str, object] | None:
        """A series as plain data; `age_s` is how long ago its last point was measured."""
        series = self._series.get(key)
        if series is None:
            return None
        return {
            "grain_s": GRAIN_S,
            "age_s": max(0.0, round(now - series.last_slot * GRAIN_S, 1)),
            "fields": {field: series.values(field) for field in series.fields},
        }


def _number(value: float | None) -> float:
    """A value that a ring can hold; what no 32-bit number holds was not measured."""
    if value is None or not math.isfinite(value) or abs(value) > 3e38:
        return _NAN
    return value
