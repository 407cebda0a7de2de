"""One thing that `tongke doctor` looked at: how it is, and how to mend it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

from .words import say

Level = Literal["ok", "warn", "fail"]
MARKS = {"ok": "✓", "warn": "!", "fail": "✗"}


@dataclass(frozen=True, slots=True)
class Finding:
    """`name` is stable, for scripts; `what` and `mend` are in the user's language.

    `fail` is what a lesson breaks on, `warn` what makes it worse under load.
    """

    name: str
    level: Level
    what: str
    mend: str = ""

    def document(self) -> dict[str, object]:
        return asdict(self)

    def rows(self) -> list[str]:
        rows = [f"{MARKS[self.level]} {self.name}: {self.what}"]
        if self.mend:
            rows.append(f"    {say('办法', 'to mend it')}: {self.mend}")
        return rows


def fine(name: str, zh: str, en: str) -> Finding:
    return Finding(name, "ok", say(zh, en))


def trouble(name: str, level: Level, what: tuple[str, str], mend: tuple[str, str]) -> Finding:
    """A finding with its remedy, each as (Chinese, English)."""
    return Finding(name, level, say(*what), say(*mend))
