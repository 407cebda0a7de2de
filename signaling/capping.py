"""Changes how a running lesson admits: caps, reservations, lists; and writes its decisions down."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from time import monotonic, time

from signaling.admission import Cut, Offer
from signaling.audience import Audience
from signaling.decisions import DecisionLog
from signaling.lessons import Lesson, LessonRegistry
from signaling.outputs import OutputStream
from signaling.sessions import MediaSession, SessionTable
from signaling.store.database import Store


class Capping:
    """The part of the desk that operations and teachers steer. `close` ends a worker's session."""

    def __init__(
        self,
        registry: LessonRegistry,
        store: Store,
        sessions: SessionTable,
        audience: Audience,
        close: Callable[[MediaSession, str], None],
    ) -> None:
        self.decisions = DecisionLog(store)
        self._registry = registry
        self._store = store
        self._sessions = sessions
        self._audience = audience
        self._close = close

    def set_cap(
        self, lesson: Lesson, stream: OutputStream, cap: int, *, cut_now: bool = False
    ) -> int:
        """Change a cap while the lesson runs: raising offers places, lowering drops nobody.

        With `cut_now` those beyond the cap leave at once; returns how many did.
        """
        now = monotonic()
        self._offer(lesson, stream, stream.admission.set_cap(cap, now))
        cuts = stream.admission.cut_excess(now) if cut_now else []
        for cut in cuts:
            self._cut(lesson, stream, cut, now)
        self._registry.admission_changed(lesson)
        self._audience.changed(lesson)
        return len(cuts)

    def set_lesson_cap(self, lesson: Lesson, cap: int | None) -> None:
        """Change the cap of all streams together; None is no limit. Nobody is dropped."""
        lesson.admission.set_cap(cap)
        self._registry.house.share_out(monotonic())
        self._registry.admission_changed(lesson)
        self._audience.changed(lesson)

    def reserve(
        self, lesson: Lesson, streams: Iterable[OutputStream], names: list[str], hold_s: float
    ) -> None:
        """Replace the reservations of some streams."""
        for stream in streams:
            offers = stream.admission.reserve(names, hold_s, monotonic())
            self._offer(lesson, stream, offers)
        self._registry.admission_changed(lesson)
        self._audience.changed(lesson)

    def schedule(self, lesson: Lesson, names: list[str]) -> None:
        """Replace the list of announced teaching points; it counts for who asks from now on."""
        lesson.admission.scheduled = names
        self._registry.admission_changed(lesson)

    def write_decisions(self, lesson: Lesson) -> None:
        """Put into the store what admission has decided since the last time."""
        offset_s = time() - monotonic()
        for stream in lesson.streams.values():
            for places in stream.all_places():
                self.decisions.add(lesson.id, stream.name, places.take_decisions(), offset_s)

    def _cut(self, lesson: Lesson, stream: OutputStream, cut: Cut, now: float) -> None:
        """A place was taken away because the cap was lowered: end its session and say so."""
        session = self._sessions.get(cut.session_id)
        seat = session.seat if session is not None else lesson.roster.get(cut.identity)
        if session is not None and self._sessions.remove(session):
            self._close(session, "cap-lowered")
            if seat is not None:
                lesson.roster.session_closed(seat, stream.name, session.id, now, goodbye=True)
        if seat is not None:
            self._store.free_place(lesson.id, stream.name, seat.id)
            self._audience.cut(lesson, stream, seat)

    def _offer(self, lesson: Lesson, stream: OutputStream, offers: list[Offer]) -> None:
        if offers:
            self._audience.offered(lesson, stream, offers)
