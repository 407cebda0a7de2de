"""The media sessions that exist, as the control process knows them, and how fast they joined."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from signaling.lessons import Lesson
from signaling.outputs import OutputStream
from signaling.presence import Seat
from signaling.problems import Problem
from signaling.tokens import Claims
from streamer.control import Histogram, SessionState

# Upper bounds of the time from a WHEP request to the first key frame sent, in seconds.
JOIN_BOUNDS_S = (0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0)

Kind = Literal["publisher", "receiver"]


@dataclass(slots=True, eq=False)
class MediaSession:
    """One WHIP or WHEP session; the worker that carries it knows it by `id`."""

    id: str
    kind: Kind
    lesson: Lesson
    stream: OutputStream
    worker: int
    claims: Claims
    seat: Seat | None = None
    etag: str = ""
    state: SessionState = "new"
    output: str = ""  # what a receiver gets now: a classroom's sound is moved about


MAX_LOST = 4096


class SessionTable:
    """All media sessions by id, counted by lesson."""

    def __init__(self) -> None:
        self.per_lesson: Counter[str] = Counter()
        self._sessions: dict[str, MediaSession] = {}
        # Receivers that were lost while their place is kept: a goodbye may still come for them.
        self._lost: dict[str, MediaSession] = {}

    def __len__(self) -> int:
        return len(self._sessions)

    def __iter__(self) -> Iterator[MediaSession]:
        """A copy is walked, so that sessions may be removed on the way."""
        return iter(list(self._sessions.values()))

    def __contains__(self, session: MediaSession) -> bool:
        return session.id in self._sessions

    def add(self, session: MediaSession) -> None:
        self._sessions[session.id] = session
        self.per_lesson[session.lesson.id] += 1

    def remove(self, session: MediaSession) -> bool:
        """False when it was not there any more."""
        if self._sessions.pop(session.id, None) is None:
            return False
        self.per_lesson[session.lesson.id] -= 1
        if not self.per_lesson[session.lesson.id]:
            del self.per_lesson[session.lesson.id]
        return True

    def keep_lost(self, session: MediaSession) -> None:
        """Remember a receiver whose place is kept; the oldest are forgotten beyond MAX_LOST."""
        self._lost[session.id] = session
        while len(self._lost) > MAX_LOST:
            del self._lost[next(iter(self._lost))]

    def take_lost(self, session: MediaSession) -> bool:
        """Whether it was remembered; it no longer is."""
        return self._lost.pop(session.id, None) is not None

    def get(self, session_id: str | None) -> MediaSession | None:
        return self._sessions.get(session_id) if session_id is not None else None

    def find(self, session_id: str, lesson_id: str, stream: str, kind: Kind) -> MediaSession:
        """The session of a location, a lost one included. Raises Problem `no-such-session`."""
        session = self._sessions.get(session_id) or self._lost.get(session_id)
        if (
            session is None
            or session.kind != kind
            or session.lesson.id != lesson_id
            or stream not in (session.stream.name, session.stream.public_name)
        ):
            raise Problem("no-such-session")
        return session


class JoinTimes:
    """How long receivers took from their request to the first complete key frame."""

    def __init__(self) -> None:
        self._counts = [0] * (len(JOIN_BOUNDS_S) + 1)
        self._sum_s = 0.0

    def observe(self, after_s: float) -> None:
        self._counts[sum(after_s > bound for bound in JOIN_BOUNDS_S)] += 1
        self._sum_s += after_s

    @property
    def histogram(self) -> Histogram:
        return Histogram(bounds=list(JOIN_BOUNDS_S), counts=list(self._counts), sum=self._sum_s)
