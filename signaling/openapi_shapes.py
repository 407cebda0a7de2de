"""The shapes of the API's answers, for the OpenAPI document and for the tests that hold it true.

The handlers write plain dictionaries; a test decodes real answers into these, and a member that
is missing here or there fails it.
"""

from __future__ import annotations

from typing import Literal

import msgspec


class Shape(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of answers: a member that is not listed is an error of the document."""


class Open(msgspec.Struct, frozen=True, kw_only=True):
    """An object whose members are described in docs/protocol.md."""


class Reservations(Shape, frozen=True, kw_only=True):
    """`open` counts those whose teaching point has no place yet."""

    names: list[str]
    hold_minutes: float
    open: int


class OutputStream(Shape, frozen=True, kw_only=True):
    """`reserved` counts places kept for names that have not come, `observers` places apart."""

    cap: int
    receivers: int
    waiting: int
    reserved: int
    observers: int
    live: bool
    reservations: Reservations | None = None


class Lesson(Shape, frozen=True, kw_only=True):
    """`cap` is that of all streams together, null is none."""

    id: str
    title: str
    mode: str
    state: Literal["waiting", "live", "ended"]
    join_code: str
    join_url: str
    join_qr: str
    created_at: float
    started_at: float | None
    ended_at: float | None
    cap: int | None
    recording: bool
    streams: dict[str, OutputStream]


class LessonList(Shape, frozen=True, kw_only=True):
    lessons: list[Lesson]


class Recording(Shape, frozen=True, kw_only=True):
    """One file. `interrupted` was cut off, and plays up to there; null where it has no picture."""

    file: str
    stream: str
    state: Literal["recording", "complete", "interrupted"]
    started_at: float
    duration_s: float
    bytes: int
    codec: str | None
    width: int | None
    height: int | None
    sound: bool


class RecordingList(Shape, frozen=True, kw_only=True):
    """`detail` says what is wrong when `state` is `disk-full` or `failing`."""

    recording: bool
    state: Literal["off", "waiting", "recording", "disk-full", "failing"]
    recordings: list[Recording]
    detail: str | None = None


class SeatList(Shape, frozen=True, kw_only=True):
    seats: list[Open]


class Decision(Shape, frozen=True, kw_only=True):
    """Why somebody has a place or has none."""

    number: int
    at: float
    stream: str
    decision: str
    reason: str
    cap: int
    used: int
    reserved: int
    waiting: int
    who: str | None = None
    priority: str | None = None
    position: int | None = None


class DecisionList(Shape, frozen=True, kw_only=True):
    decisions: list[Decision]


class Hello(Shape, frozen=True, kw_only=True):
    version: str
    languages: list[str]
    modes: list[str]
    ice_servers: list[Open]


class Me(Shape, frozen=True, kw_only=True):
    role: str
    lesson: str | None
    seat: str | None
    name: str | None
    exp: int


class JoinedSeat(Shape, frozen=True, kw_only=True):
    id: str
    name: str


class Joined(Shape, frozen=True, kw_only=True):
    token: str
    seat: JoinedSeat
    lesson: Lesson


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """RFC 9457; further members by type, see docs/protocol.md."""

    type: str
    title: str
    status: int
    detail: str
    field: str | None = None
