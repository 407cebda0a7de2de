"""Judges a rehearsal: each promise of the plan beside what the synthetic classrooms measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Literal

from .words import say

Name = Literal["joined", "lost", "join", "delay", "cpu"]
MOST_LOST_PERCENT = 0.1


@dataclass(frozen=True, slots=True)
class Limits:
    """What may be: seconds of joining and milliseconds of delay (p99), percent of one core."""

    join_s: float
    delay_ms: float
    cpu_percent: float


@dataclass(frozen=True, slots=True)
class Check:
    """One promise. `ok` is None where it could not be measured; `stream` empty: the server."""

    name: Name
    stream: str
    ok: bool | None
    measured: float | None
    limit: float

    def document(self) -> dict[str, object]:
        return asdict(self)

    @classmethod
    def of(cls, document: Mapping[str, object]) -> Check:
        return cls(**document)  # type: ignore[arg-type]

    def row(self) -> str:
        mark = {True: "✓", False: "✗", None: "–"}[self.ok]
        measured = say("未测", "not measured") if self.measured is None else f"{self.measured:g}"
        sign = "≥" if self.name == "joined" else "≤"
        words = {
            "joined": say("收到画面的教室", "classrooms with a picture"),
            "lost": say("丢包 %", "lost, %"),
            "join": say("加入用时 p99，秒", "joining p99, s"),
            "delay": say("延迟 p99，毫秒", "delay p99, ms"),
            "cpu": say("服务器 CPU，% 核", "CPU of the server, % of a core"),
        }[self.name]
        where = f"{self.stream}: " if self.stream else ""
        return f"  {mark} {where}{words}: {measured} ({sign} {self.limit:g})"


def judge(reports: Mapping[str, Mapping[str, object]], limits: Limits) -> list[Check]:
    """All checks over the reports of `clients.light.report.build`, by stream."""
    checks: list[Check] = []
    cpu: float | None = None
    for stream, report in reports.items():
        receivers = _part(report, "receivers")
        asked = _number(receivers, "asked") or 0.0
        streaming = (_number(receivers, "joined") or 0.0) - (
            (_number(receivers, "ended_early") or 0.0) + (_number(receivers, "silent") or 0.0)
        )
        checks.append(Check("joined", stream, streaming >= asked, streaming, asked))
        lost = _number(_part(report, "packets"), "lost_percent")
        checks.append(_at_most("lost", stream, lost, MOST_LOST_PERCENT))
        join_s = _number(_part(report, "join_s"), "p99")
        checks.append(_at_most("join", stream, join_s, limits.join_s))
        delays = _part(report, "delay_ms")
        worst = [
            p99
            for kind in ("audio", "video")
            if (p99 := _number(_part(delays, kind), "p99")) is not None
        ]
        checks.append(_at_most("delay", stream, max(worst, default=None), limits.delay_ms))
        measured = _number(_part(report, "server"), "cpu_percent")
        if measured is not None:
            # Every report sees the whole server: the streams' windows are the same.
            cpu = max(cpu or 0.0, measured)
    checks.append(_at_most("cpu", "", cpu, limits.cpu_percent))
    return checks


def _at_most(name: Name, stream: str, measured: float | None, limit: float) -> Check:
    ok = None if measured is None else measured <= limit
    if name == "lost" and measured is not None:
        ok = measured < limit  # "below 0.1 %"
    return Check(name, stream, ok, measured, limit)


def _part(report: Mapping[str, object], name: str) -> Mapping[str, object]:
    part = report.get(name)
    return part if isinstance(part, Mapping) else {}


def _number(report: Mapping[str, object], name: str) -> float | None:
    value = report.get(name)
    usable = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if usable else None  # type: ignore[arg-type]
