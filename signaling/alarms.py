"""Turns readings into alarms: raised when a limit is passed for a while, until it no longer is.

No clock and no I/O: `now` is monotonic seconds, `wall_s` seconds since 1970. An alarm names what it
is about by ids only. Acknowledging one silences it; it ends by itself when its cause does.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

import msgspec

Kind = Literal["loss", "freeze", "no-picture", "cpu", "uplink", "worker-restart", "disk"]

MAX_ACTIVE: Final = 500
MAX_LOG: Final = 500


class Reading(msgspec.Struct, frozen=True):
    """A value that is too high (or, if `low_is_bad`, too low) beyond `limit`; 0 is no limit.

    `subject` is an id: `LESSON/SEAT/STREAM`, `LESSON/STREAM`, a worker's number or `server`.
    """

    kind: Kind
    subject: str
    value: float
    limit: float
    low_is_bad: bool = False

    @property
    def bad(self) -> bool:
        if not self.limit:
            return False
        return self.value < self.limit if self.low_is_bad else self.value > self.limit


class LogEntry(msgspec.Struct, frozen=True):
    """One line of the log of alarms; `by` is the role that acknowledged."""

    at: float
    alarm: int
    kind: Kind
    subject: str
    what: Literal["raised", "acknowledged", "cleared"]
    value: float
    limit: float
    by: str = ""


@dataclass(slots=True)
class _Alarm:
    reading: Reading
    bad_since: float
    number: int = 0  # 0 until it has lasted long enough
    raised_at: float = 0.0  # wall clock
    acknowledged: bool = False


class Alarms:
    """The alarms that stand, and the log of those that did."""

    def __init__(self) -> None:
        self._by_cause: dict[tuple[Kind, str], _Alarm] = {}
        self._log: deque[LogEntry] = deque(maxlen=MAX_LOG)
        self._last_number = 0

    def judge(
        self, readings: Iterable[Reading], now: float, wall_s: float, hold_s: float
    ) -> list[LogEntry]:
        """Take all readings of this moment: what is not among them is no longer bad.

        Answers what was raised or cleared. At most MAX_ACTIVE alarms stand at once.
        """
        news: list[LogEntry] = []
        bad: set[tuple[Kind, str]] = set()
        for reading in readings:
            if not reading.bad:
                continue
            cause = (reading.kind, reading.subject)
            alarm = self._by_cause.get(cause)
            if alarm is None:
                if len(self._by_cause) >= MAX_ACTIVE:
                    continue
                alarm = self._by_cause[cause] = _Alarm(reading, now)
            bad.add(cause)
            alarm.reading = reading
            if not alarm.number and now - alarm.bad_since >= hold_s:
                self._last_number += 1
                alarm.number, alarm.raised_at = self._last_number, wall_s
                news.append(self._note(alarm, "raised", wall_s))
        for cause in self._by_cause.keys() - bad:
            alarm = self._by_cause.pop(cause)
            if alarm.number:
                news.append(self._note(alarm, "cleared", wall_s))
        return news

    def acknowledge(self, number: int, by: str, wall_s: float) -> bool:
        """Silence an alarm; False when no such alarm stands. Twice is as good as once."""
        for alarm in self._by_cause.values():
            if number and alarm.number == number:
                if not alarm.acknowledged:
                    alarm.acknowledged = True
                    self._note(alarm, "acknowledged", wall_s, by)
                return True
        return False

    def standing(self) -> list[dict[str, object]]:
        """What stands, the newest first."""
        alarms = sorted(
            (alarm for alarm in self._by_cause.values() if alarm.number),
            key=lambda alarm: -alarm.number,
        )
        return [
            {
                "id": alarm.number,
                "kind": alarm.reading.kind,
                "subject": alarm.reading.subject,
                "value": round(alarm.reading.value, 1),
                "limit": round(alarm.reading.limit, 1),
                "since": round(alarm.raised_at),
                "acknowledged": alarm.acknowledged,
            }
            for alarm in alarms
        ]

    def log(self) -> list[LogEntry]:
        """The newest first."""
        return list(reversed(self._log))

    def _note(
        self,
        alarm: _Alarm,
        what: Literal["raised", "acknowledged", "cleared"],
        wall_s: float,
        by: str = "",
    ) -> LogEntry:
        reading = alarm.reading
        entry = LogEntry(
            round(wall_s, 1),
            alarm.number,
            reading.kind,
            reading.subject,
            what,
            round(reading.value, 1),
            round(reading.limit, 1),
            by,
        )
        self._log.append(entry)
        return entry
