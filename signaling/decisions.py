"""Why somebody has a place or has none: the decisions of admission, kept for operations to read.

A decision names a seat or a hashed token, never a person or a school. Of each lesson the newest
`KEPT` decisions stay in the store, for as long as the lesson itself does.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Final, Literal

import msgspec

from signaling.store.database import Store, StoredDecision

KEPT: Final = 2000

Verb = Literal[
    "admitted",
    "waiting",
    "refused",
    "offered",
    "held",
    "lapsed",
    "left",
    "cut",
    "cap",
    "reservations",
]


class Decision(msgspec.Struct, frozen=True):
    """One decision of one stream at `at` (monotonic seconds).

    `identity` is None where it concerns nobody in particular.
    """

    at: float
    verb: Verb
    reason: str
    identity: str | None = None
    unique: bool = True
    priority: str | None = None
    position: int | None = None
    cap: int = 0
    used: int = 0
    reserved: int = 0
    waiting: int = 0


class DecisionLog:
    """Numbers the decisions of each lesson and writes them to the store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._numbers: dict[str, int] = {}

    def add(
        self, lesson: str, stream: str, decisions: Iterable[Decision], wall_offset_s: float
    ) -> None:
        """Keep decisions; `wall_offset_s` turns their monotonic seconds into those since 1970."""
        number = self._numbers.get(lesson)
        if number is None:
            number = self._store.last_decision(lesson)
        rows: list[StoredDecision] = []
        for decision in decisions:
            number += 1
            rows.append(_stored(number, stream, decision, decision.at + wall_offset_s))
        if rows:
            self._numbers[lesson] = number
            self._store.save_decisions(lesson, rows, KEPT)

    def forget(self, lesson: str) -> None:
        """The lesson has ended: its number is read from the store should it be needed again."""
        self._numbers.pop(lesson, None)

    def read(self, lesson: str, before: int | None, limit: int) -> list[dict[str, object]]:
        """Decisions of a lesson as documents, the newest first, those before a number only."""
        return [
            {"number": row.number, "at": row.at, "stream": row.stream}
            | msgspec.json.decode(row.body, type=dict[str, object])
            for row in self._store.decisions(lesson, before, limit)
        ]


def who(identity: str, *, unique: bool) -> str:
    """A seat's id as it is; of a token without a seat a hash, since its subject is its own."""
    return identity if unique else token_hash(identity)


def token_hash(subject: str) -> str:
    """What stands for a token in logs: enough to tell two apart, useless to sign one."""
    return "t_" + hashlib.sha256(subject.encode()).hexdigest()[:12]


def _stored(number: int, stream: str, decision: Decision, wall_s: float) -> StoredDecision:
    body: dict[str, object] = {"decision": decision.verb, "reason": decision.reason}
    if decision.identity is not None:
        body["who"] = who(decision.identity, unique=decision.unique)
    for name in ("priority", "position"):
        value = getattr(decision, name)
        if value is not None:
            body[name] = value
    for name in ("cap", "used", "reserved", "waiting"):
        body[name] = getattr(decision, name)
    return StoredDecision(number, wall_s, stream, msgspec.json.encode(body).decode())
