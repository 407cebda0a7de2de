"""What admission answers: places, turns, refusals, and what has lapsed or was taken away."""

from __future__ import annotations

from typing import Literal

import msgspec

from signaling.allowances import Level

DropReason = Literal["offer-expired", "stopped-asking", "hold-expired"]


class Admitted(msgspec.Struct, frozen=True):
    """The session has a place; `replaced_session` lost it and is to be closed."""

    replaced_session: str | None = None


class Waiting(msgspec.Struct, frozen=True):
    """The session has no place but a turn: `position` 1 is next, `ahead` is one less.

    `level` is whose cap it waits for; `expected_wait_s` is None when nothing was measured yet.
    """

    position: int
    ahead: int
    ticket: str
    retry_after_s: int
    level: Level = "stream"
    expected_wait_s: int | None = None


class Refused(msgspec.Struct, frozen=True):
    reason: Literal["waiting-list-full"] = "waiting-list-full"


class Offer(msgspec.Struct, frozen=True):
    """A place kept until `expires_at` for who waited first. To be told to them."""

    identity: str
    ticket: str
    expires_at: float


class Cut(msgspec.Struct, frozen=True):
    """A place that was taken away. `session_id` is to be closed; None was a held place."""

    identity: str
    session_id: str | None


class Dropped(msgspec.Struct, frozen=True):
    """A claim that lapsed. `ticket` is None for a held place."""

    identity: str
    ticket: str | None
    reason: DropReason


class Expired(msgspec.Struct, frozen=True):
    offers: list[Offer]
    dropped: list[Dropped]
