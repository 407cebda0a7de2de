"""What may be asked of a lesson's admission, as request bodies, and how it is put into effect."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Final

import msgspec
from msgspec import UNSET, Meta, UnsetType

from signaling.config_model import MAX_CAP
from signaling.desk import Desk
from signaling.lessons import Lesson
from signaling.outputs import OutputStream
from signaling.requests import clean_name, invalid
from signaling.turns import match_key

LONGEST_NAME: Final = 40
MAX_NAMES: Final = 500

Cap = Annotated[int, Meta(ge=0, le=MAX_CAP)]
Names = Annotated[list[Annotated[str, Meta(max_length=1000)]], Meta(max_length=MAX_NAMES)]


class Body(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of request bodies: what we do not know we refuse, so that typing errors show."""


class Reservation(Body, frozen=True):
    """Places kept for these names until so many minutes into the lesson (default: of the mode)."""

    names: Names
    hold_minutes: Annotated[float, Meta(ge=0, le=600)] | None = None


class StreamWish(Body, frozen=True):
    cap: Cap | None = None
    reserved: Reservation | None = None


class PatchStream(Body, frozen=True):
    """`now` makes those leave at once who are beyond a lowered cap."""

    cap: Cap | UnsetType = UNSET
    now: bool = False
    reserved: Reservation | UnsetType = UNSET


class PatchLesson(Body, frozen=True):
    """`cap` is that of all streams together, null is none; `reserved` is for every stream."""

    cap: Cap | UnsetType | None = UNSET
    scheduled: Names | UnsetType = UNSET
    reserved: Reservation | UnsetType = UNSET


def clean_names(names: Iterable[str], field: str) -> list[str]:
    """The names as people see them, each once. Raises Problem `invalid-request`."""
    kept: dict[str, str] = {}
    for name in names:
        cleaned = clean_name(name, field, LONGEST_NAME)
        kept.setdefault(match_key(cleaned), cleaned)
    return list(kept.values())


def reserve(
    desk: Desk, lesson: Lesson, streams: Iterable[OutputStream], wish: Reservation, field: str
) -> int:
    """Replace the reservations of some streams; returns how many names they have now.

    Raises Problem `invalid-request`, and then nothing has changed.
    """
    names = clean_names(wish.names, field + ".names")
    hold_s = lesson.admission.hold_s if wish.hold_minutes is None else wish.hold_minutes * 60
    desk.capping.reserve(lesson, streams, names, hold_s)
    return len(names)


def require_something(body: PatchStream | PatchLesson) -> None:
    """Raises Problem `invalid-request` for a body that changes nothing."""
    named = [name for name in body.__struct_fields__ if name != "now"]
    if all(getattr(body, name) is UNSET for name in named):
        listed = ", ".join(named)
        raise invalid("body", f"应至少有其一：{listed}", f"give at least one of {listed}")


def reservations_document(stream: OutputStream) -> dict[str, object]:
    """The reservations of a stream, for those who run the lesson."""
    reservations = stream.admission.reservations
    return {
        "names": reservations.names,
        "hold_minutes": reservations.hold_s / 60,
        "open": reservations.open,
    }


Streams = list[str] | dict[str, StreamWish] | None


def check(reserved: Reservation | None, scheduled: list[str] | None, streams: Streams) -> None:
    """Raises Problem for names that cannot be kept, before a lesson is made for them."""
    clean_names(scheduled or (), "scheduled")
    if reserved is not None:
        clean_names(reserved.names, "reserved.names")
    for name, wish in _reserved_by_stream(streams).items():
        clean_names(wish.names, f"streams.{name}.reserved.names")


def set_up(
    desk: Desk,
    lesson: Lesson,
    cap: int | None,
    reserved: Reservation | None,
    scheduled: list[str] | None,
    streams: Streams,
) -> None:
    """Give a new lesson the cap, the list and the reservations that it was asked for with."""
    if cap is not None:
        desk.capping.set_lesson_cap(lesson, cap)
    if scheduled:
        desk.capping.schedule(lesson, clean_names(scheduled, "scheduled"))
    own = _reserved_by_stream(streams)
    for name, stream in lesson.streams.items():
        wish = own.get(name, reserved)
        if wish is not None:
            reserve(desk, lesson, [stream], wish, "reserved")


def _reserved_by_stream(streams: Streams) -> dict[str, Reservation]:
    if not isinstance(streams, dict):
        return {}
    return {name: wish.reserved for name, wish in streams.items() if wish.reserved is not None}
