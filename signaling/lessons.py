"""Lessons: their streams, seats and hands while they run, and the registry that keeps them.

What must survive a restart of the control process is written to the store as it happens; the
rest (who is connected, who waits) is rebuilt by the clients that come back.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from time import monotonic, time

from signaling.admission import StreamAdmission
from signaling.allowances import House
from signaling.config_model import MAX_CAP, Config, Limits, Stream
from signaling.floor import Floor
from signaling.hands import Hands
from signaling.lesson_admission import LessonAdmission, apart
from signaling.outputs import OutputStream as OutputStream
from signaling.presence import Roster, Seat
from signaling.problems import Problem
from signaling.store.database import Store, StoredLesson, StoredSeat

JOIN_CODE_DIGITS = 6
# How long the code of an ended lesson answers "ended" instead of "unknown".
ENDED_CODE_S = 24 * 3600.0
LISTED_ENDED_S = 24 * 3600.0
LISTED_ENDED = 100
# A lesson nobody publishes to or looks at ends by itself, so that forgotten ones free their code.
IDLE_END_S = 12 * 3600.0
RESTORED_GRACE_S = 600.0
# Each join makes a seat; this bounds what a script with one right code can make.
MAX_SEATS = 20_000


@dataclass(slots=True)
class Lesson:
    """A lesson that runs, or one that has ended and only answers so."""

    id: str
    title: str
    mode: str
    owner: str
    join_code: str
    created_at: float
    started_at: float | None = None
    ended_at: float | None = None
    streams: dict[str, OutputStream] = field(default_factory=dict)
    roster: Roster = field(default_factory=Roster)
    hands: Hands = field(default_factory=Hands)
    released_seats: set[str] = field(default_factory=set)
    active_at: float = 0.0  # monotonic
    inner: dict[str, OutputStream] = field(default_factory=dict)
    returns: dict[str, str] = field(default_factory=dict)  # seat → media session, sent or lost
    floor: Floor = field(init=False)
    admission: LessonAdmission = field(default_factory=LessonAdmission)
    recording: bool = False  # what it sends out is recorded, or will be as soon as it is sent

    def __post_init__(self) -> None:
        self.floor = Floor(self.hands)

    @property
    def state(self) -> str:
        if self.ended_at is not None:
            return "ended"
        return "waiting" if self.started_at is None else "live"

    def stream(self, name: str) -> OutputStream:
        """Raises Problem `no-such-stream`."""
        stream = self.streams.get(name)
        if stream is None:
            raise Problem(
                "no-such-stream", detail_args={"stream": name, "available": list(self.streams)}
            )
        return stream

    def inner_stream(self, name: str) -> OutputStream:
        """A stream of the interaction, made when it is asked for first."""
        stream = self.inner.get(name)
        if stream is None:
            stream = OutputStream(name, StreamAdmission(MAX_CAP, 0, 0.0, 1.0), inner=True)
            self.inner[name] = stream
        return stream

    def any_stream(self, name: str) -> OutputStream | None:
        """A stream of either kind that there is."""
        return self.streams.get(name) or self.inner.get(name)

    def output_id(self, stream: str) -> str:
        """The name by which workers know the stream."""
        return f"{self.id}/{stream}"

    def document(self, base_url: str) -> dict[str, object]:
        return {
            "id": self.id,
            "title": self.title,
            "mode": self.mode,
            "state": self.state,
            "join_code": self.join_code,
            "join_url": f"{base_url}/join/{self.join_code}",
            "join_qr": f"/api/v1/lessons/{self.id}/join.svg",
            "created_at": self.created_at,
            "started_at": self.started_at,
            "ended_at": self.ended_at,
            "cap": self.admission.allowance.limit,
            "recording": self.recording,
            "streams": {name: stream.document() for name, stream in self.streams.items()},
        }

    def seat_documents(self) -> list[dict[str, object]]:
        """All seats: raised hands first, in their order, then in the order of arrival."""
        hands = {hand.seat: hand.since for hand in self.hands.order()}
        ranks = {seat_id: rank for rank, seat_id in enumerate(hands)}
        seats = sorted(self.roster.all(), key=lambda seat: ranks.get(seat.id, len(ranks)))
        lines = self.roster.lines
        return [
            _seat_document(seat, hands.get(seat.id)) | {"line": lines.get(seat.id)}
            for seat in seats
        ]

    def stored(self) -> StoredLesson:
        return StoredLesson(
            id=self.id,
            title=self.title,
            mode=self.mode,
            owner=self.owner,
            join_code=self.join_code,
            created_at=self.created_at,
            started_at=self.started_at,
            ended_at=self.ended_at,
            caps={name: stream.admission.cap for name, stream in self.streams.items()},
            admission=self.admission.stored(
                (name, stream.admission) for name, stream in self.streams.items()
            ),
        )


def _seat_document(seat: Seat, hand_since: float | None) -> dict[str, object]:
    return {
        "id": seat.id,
        "name": seat.name,
        "role": seat.role,
        "state": seat.state,
        "streams": sorted(seat.sessions),
        "hand": hand_since,
        "quality": seat.worst_quality,
    }


class LessonRegistry:
    """All running lessons; ended ones are looked up in the store."""

    def __init__(
        self,
        store: Store,
        config: Callable[[], Config],
        *,
        clock: Callable[[], float] = monotonic,
        wall_clock: Callable[[], float] = time,
    ) -> None:
        self._store = store
        self._config = config
        self._clock = clock
        self._wall_clock = wall_clock
        limits = config().limits
        self.house = House(limits.receivers or None, limits.receivers_per_organisation or None)
        self._running: dict[str, Lesson] = {}
        self._by_code: dict[str, Lesson] = {}

    def restore(self) -> None:
        """Load the running lessons; every place that a seat held is held for it again."""
        self._store.purge(self._wall_clock())
        now = self._clock()
        for stored in self._store.running():
            lesson = _from_store(stored)
            age_s = self._wall_clock() - (stored.started_at or stored.created_at)
            # An old one gets some minutes for its people to come back before it counts as idle.
            lesson.active_at = now - min(max(age_s, 0.0), IDLE_END_S - RESTORED_GRACE_S)
            self._restore_admission(lesson, stored, age_s)
            self._restore_seats(lesson, now)
            self._restore_floor(lesson, now)
            self._keep(lesson)

    def _restore_seats(self, lesson: Lesson, now: float) -> None:
        for stored in self._store.seats(lesson.id):
            if stored.released:
                lesson.released_seats.add(stored.id)
        places = self._store.places(lesson.id)
        seats = {seat.id: seat for seat in self._store.seats(lesson.id) if not seat.released}
        for stream_name, seat_id in places:
            stream, seat = lesson.streams.get(stream_name), seats.get(seat_id)
            if stream is None or seat is None:
                continue
            stream.places_for(seat.role).restore(
                seat_id,
                now,
                priority=lesson.admission.priority(seat.role, seat.name),
                name=seat.name,
                organisation=seat.organisation,
            )
            restored = lesson.roster.open(seat_id, seat.name, seat.role, durable=True, now=now)
            restored.has_received = True

    def _restore_admission(self, lesson: Lesson, stored: StoredLesson, age_s: float) -> None:
        """The caps, lists and reservations as they were; the time of the lesson has gone on."""
        now, kept = self._clock(), stored.admission
        self._set_up_admission(lesson)
        lesson.admission.set_cap(kept.cap)
        lesson.admission.scheduled = list(kept.scheduled)
        if kept.observers is not None:
            lesson.admission.observers = kept.observers
        for name, cap in stored.caps.items():
            stream = lesson.streams[name] = self._output_stream(lesson, name, cap)
            reserved = kept.reserved.get(name)
            if reserved is not None:
                stream.admission.reserve(reserved.names, reserved.hold_s, now)
                stream.admission.take_decisions()  # it was written down when it was decided
            if stored.started_at is not None:
                stream.admission.start(now - max(age_s, 0.0))

    def _restore_floor(self, lesson: Lesson, now: float) -> None:
        """Who had the floor has it; a seat that does not come back leaves like any other."""
        lesson.floor.size = self._floor_size(lesson.mode)
        state = self._store.floor(lesson.id)
        if state is None:
            return
        lesson.floor.restore(state)
        stored = {seat.id: seat for seat in self._store.seats(lesson.id) if not seat.released}
        for seat_id in (*lesson.floor.seats, *lesson.floor.queue()):
            seat = stored.get(seat_id)
            if seat is None:
                lesson.floor.left(seat_id)
            elif lesson.roster.get(seat_id) is None:
                lesson.roster.open(seat_id, seat.name, seat.role, durable=True, now=now)

    def floor_changed(self, lesson: Lesson) -> None:
        self._store.save_floor(lesson.id, lesson.floor.state())

    def _floor_size(self, mode: str) -> int:
        chosen = self._config().modes.get(mode)
        return chosen.floor_size if chosen is not None else 0

    # --- find ----------------------------------------------------------------------------------

    def running(self) -> list[Lesson]:
        return list(self._running.values())

    def find(self, lesson_id: str) -> Lesson:
        """A lesson, running or ended. Raises Problem `no-such-lesson`."""
        lesson = self._running.get(lesson_id)
        if lesson is None:
            stored = self._store.lesson(lesson_id)
            if stored is None:
                raise Problem("no-such-lesson")
            lesson = self._ended_lesson(stored)
        return lesson

    def running_lesson(self, lesson_id: str) -> Lesson:
        """A running lesson. Raises Problem `no-such-lesson` or `lesson-ended`."""
        lesson = self.find(lesson_id)
        if lesson.ended_at is not None:
            raise Problem("lesson-ended")
        return lesson

    def get(self, lesson_id: str) -> Lesson | None:
        return self._running.get(lesson_id)

    def by_code(self, code: str) -> Lesson:
        """The running lesson with a code. Raises `unknown-join-code` or `lesson-ended`."""
        lesson = self._by_code.get(code)
        if lesson is not None:
            return lesson
        if self._store.ended_by_code(code, self._wall_clock() - ENDED_CODE_S) is not None:
            raise Problem("lesson-ended")
        raise Problem("unknown-join-code")

    def recently_ended(self) -> list[Lesson]:
        since = self._wall_clock() - LISTED_ENDED_S
        return [self._ended_lesson(stored) for stored in self._store.ended(since, LISTED_ENDED)]

    # --- change --------------------------------------------------------------------------------

    def create(
        self, title: str, mode: str, owner: str, caps: Mapping[str, int | None] | None = None
    ) -> Lesson:
        """A new lesson in a mode of the configuration; no `caps` gives the mode's own streams.

        Raises Problem `too-many-lessons`, or `invalid-request` for an unknown mode or stream.
        """
        config = self._config()
        if len(self._running) >= config.limits.lessons:
            raise Problem("too-many-lessons", detail_args={"limit": config.limits.lessons})
        chosen = config.modes.get(mode)
        if chosen is None:
            raise _not_one_of("mode", list(config.modes))
        wanted = caps if caps is not None else dict.fromkeys(chosen.streams)
        known = dict.fromkeys((*config.profiles[chosen.profile].streams, "stage"))
        if not wanted or not set(wanted) <= set(known):
            raise _not_one_of("streams", list(known))
        lesson = Lesson(
            id="l_" + secrets.token_urlsafe(9),
            title=title,
            mode=mode,
            owner=owner,
            join_code=self._new_code(),
            created_at=self._wall_clock(),
            active_at=self._clock(),
        )
        lesson.floor.size = chosen.floor_size
        lesson.recording = chosen.recording
        self._set_up_admission(lesson)
        for name, cap in wanted.items():
            lesson.streams[name] = self._output_stream(lesson, name, cap)
        self._keep(lesson)
        self._store.save_lesson(lesson.stored())
        return lesson

    def add_stage(self, lesson: Lesson) -> bool:
        """Give a lesson that begins to interact its stage; False when it has one."""
        if "stage" in lesson.streams:
            return False
        lesson.streams["stage"] = self._output_stream(lesson, "stage", None)
        self._store.save_lesson(lesson.stored())
        return True

    def started(self, lesson: Lesson) -> None:
        """Media has arrived: the lesson is live from now on."""
        lesson.active_at = self._clock()
        if lesson.started_at is None:
            lesson.started_at = self._wall_clock()
            for stream in lesson.streams.values():
                stream.admission.start(lesson.active_at)
            self._store.save_lesson(lesson.stored())

    def admission_changed(self, lesson: Lesson) -> None:
        """A cap, a list or the reservations have changed."""
        self._store.save_lesson(lesson.stored())

    def configure(self, limits: Limits) -> None:
        """Put changed limits of the node and of organisations into effect."""
        self.house.configure(
            limits.receivers or None, limits.receivers_per_organisation or None, self._clock()
        )

    def end(self, lesson: Lesson) -> None:
        """The lesson is over; its code is free for another."""
        lesson.ended_at = self._wall_clock()
        lesson.recording = False
        for stream in (*lesson.streams.values(), *lesson.inner.values()):
            stream.live = False
            stream.publisher = None
            stream.admission.close()
        self._running.pop(lesson.id, None)
        if self._by_code.get(lesson.join_code) is lesson:
            del self._by_code[lesson.join_code]
        self._store.end_lesson(lesson.stored())

    def idle(self) -> list[Lesson]:
        """Lessons that nobody has used for so long that they should end."""
        now = self._clock()
        for lesson in self._running.values():
            present = any(seat.present for seat in lesson.roster.all())
            if present or any(stream.publisher for stream in lesson.streams.values()):
                lesson.active_at = now
        return [x for x in self._running.values() if now - x.active_at >= IDLE_END_S]

    def new_seat(self, lesson: Lesson, name: str, role: str, *, durable: bool) -> Seat:
        """A seat that nobody had before. Raises Problem `too-many-sessions`."""
        if len(lesson.roster) >= MAX_SEATS:
            raise Problem("too-many-sessions")
        seat_id = "s_" + secrets.token_urlsafe(9)
        seat = lesson.roster.open(seat_id, name, role, durable=durable, now=self._clock())
        if durable:
            self._store.save_seat(lesson.id, StoredSeat(seat_id, name, role, released=False))
        return seat

    def known_seat(self, lesson: Lesson, seat_id: str, name: str, role: str) -> Seat:
        """The seat of a token, brought back if it had left. Raises Problem `no-such-seat`."""
        if seat_id in lesson.released_seats:
            raise Problem("no-such-seat")
        existed = lesson.roster.get(seat_id) is not None
        seat = lesson.roster.open(seat_id, name, role, durable=True, now=self._clock())
        if name and name != seat.name:
            seat.name = name
            existed = False
        if not existed:
            self._store.save_seat(lesson.id, StoredSeat(seat_id, seat.name, role, released=False))
        return seat

    def release_seat(self, lesson: Lesson, seat: Seat) -> None:
        lesson.roster.released(seat, self._clock())
        if seat.durable:
            lesson.released_seats.add(seat.id)
            self._store.save_seat(
                lesson.id, StoredSeat(seat.id, seat.name, seat.role, released=True)
            )

    def _set_up_admission(self, lesson: Lesson) -> None:
        """What the mode says, as long as the lesson does not say otherwise."""
        mode = self._config().modes.get(lesson.mode)
        if mode is not None:
            lesson.admission.set_cap(mode.lesson_receivers)
            lesson.admission.observers = mode.observers
            lesson.admission.hold_s = mode.reserve_minutes * 60.0

    def _output_stream(self, lesson: Lesson, name: str, cap: int | None) -> OutputStream:
        settings = self.settings(lesson.mode, name)
        config = self._config()
        limits, mode = config.limits, config.modes.get(lesson.mode)
        inspectors = mode.inspectors if mode is not None else 0
        return OutputStream(
            name,
            StreamAdmission(
                settings.receiver_cap if cap is None else cap,
                settings.waiting_list,
                limits.seat_hold_s,
                limits.offer_s,
                house=self.house,
                lesson=lesson.admission.allowance,
            ),
            apart=apart(lesson.admission.observers, inspectors, limits.seat_hold_s, limits.offer_s),
        )

    def settings(self, mode: str, stream: str) -> Stream:
        """A stream's settings; those of any mode that has it when its own has it no more."""
        config = self._config()
        try:
            return config.stream(mode, stream)
        except KeyError:
            profiles = config.profiles.values()
            return next(p.streams.get(stream) or next(iter(p.streams.values())) for p in profiles)

    def _keep(self, lesson: Lesson) -> None:
        self._running[lesson.id] = lesson
        self._by_code[lesson.join_code] = lesson

    def _new_code(self) -> str:
        while True:
            code = f"{secrets.randbelow(10**JOIN_CODE_DIGITS):0{JOIN_CODE_DIGITS}}"
            if code not in self._by_code:
                return code

    def _ended_lesson(self, stored: StoredLesson) -> Lesson:
        lesson = _from_store(stored)
        for name, cap in stored.caps.items():
            lesson.streams[name] = OutputStream(name, StreamAdmission(cap, 0, 0.0, 1.0))
        return lesson


def _from_store(stored: StoredLesson) -> Lesson:
    return Lesson(
        id=stored.id,
        title=stored.title,
        mode=stored.mode,
        owner=stored.owner,
        join_code=stored.join_code,
        created_at=stored.created_at,
        started_at=stored.started_at,
        ended_at=stored.ended_at,
    )


def _not_one_of(name: str, allowed: list[str]) -> Problem:
    listed = ", ".join(allowed)
    return Problem(
        "invalid-request",
        field=name,
        detail_args={"reason": {"zh-CN": f"可用的有：{listed}", "en": f"available: {listed}"}},
    )
