"""Those who are told what happens in a lesson: the pages, as the media desk sees them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from signaling.admission import Offer
from signaling.lessons import Lesson
from signaling.outputs import OutputStream
from signaling.presence import Seat
from signaling.sessions import MediaSession


class Audience(Protocol):
    """Those who are told: the pages."""

    def changed(self, lesson: Lesson) -> None: ...
    def offered(self, lesson: Lesson, stream: OutputStream, offers: Iterable[Offer]) -> None: ...
    def rejoin(self, sessions: Iterable[MediaSession]) -> None: ...
    def released(self, lesson: Lesson, seat: Seat, reason: str) -> None: ...
    def cut(self, lesson: Lesson, stream: OutputStream, seat: Seat) -> None: ...
    def ended(self, lesson: Lesson) -> None: ...
    def touch_waiting(self, lesson: Lesson, now: float) -> None: ...
