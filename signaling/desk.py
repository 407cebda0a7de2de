"""The media desk: opens, patches and closes media sessions, and acts on what workers tell.

Places are decided before anything is awaited, so that concurrent joins can never exceed a cap;
whatever fails after that gives the place back.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import Counter
from collections.abc import Callable, Coroutine
from time import monotonic

from signaling import refusals
from signaling.admission import Admitted, Offer, StreamAdmission
from signaling.audience import Audience
from signaling.capping import Capping
from signaling.config_model import Config
from signaling.lessons import Lesson, LessonRegistry
from signaling.outputs import OutputStream
from signaling.placement import Placement
from signaling.presence import Seat
from signaling.problems import Problem
from signaling.returns import AUDIO_KBPS, CODECS, class_output
from signaling.sessions import JoinTimes, Kind, MediaSession, SessionTable
from signaling.spread import Spread, receiving_worker
from signaling.store.database import Store
from signaling.supervisor import Supervisor, WorkerRefusedError, WorkerUnavailableError
from signaling.tokens import Claims
from streamer import control

log = logging.getLogger(__name__)

# How often the turns of waiting pages are kept alive: the shortest turn lasts three seconds.
TOUCH_S = 1.0


class Desk:
    """All media sessions of the server."""

    def __init__(
        self,
        config: Callable[[], Config],
        registry: LessonRegistry,
        store: Store,
        supervisor: Supervisor,
        audience: Audience,
    ) -> None:
        self.sessions = SessionTable()
        self.refused: Counter[str] = Counter()
        self.join_times = JoinTimes()
        self.placement = Placement(len(supervisor.workers))
        self.spread = Spread(supervisor, self._start)
        self.draining = False
        self.refusing_lessons = False  # running ones go on: the server is about to be replaced
        self.drained: set[int] = set()  # workers that get no new lesson and no new receiver
        self._config = config
        self._registry = registry
        self._store = store
        self._supervisor = supervisor
        self._audience = audience
        self.capping = Capping(registry, store, self.sessions, audience, self._tell_worker)
        self._next_touch = 0.0
        self._lost: dict[int, list[MediaSession]] = {}
        self._errands: set[asyncio.Task[None]] = set()

    # --- open ----------------------------------------------------------------------------------

    async def open_publisher(
        self, lesson: Lesson, stream_name: str, claims: Claims, offer: str
    ) -> tuple[MediaSession, str]:
        """A session that sends the stream, in place of whichever did before; and the answer."""
        stream = lesson.stream(stream_name)
        self._require_room()
        settings = self._registry.settings(lesson.mode, stream_name)
        session = self._add("publisher", lesson, stream, claims)
        opened = await self._open(
            session,
            control.OpenPublisher(
                request_id=0,
                session_id=session.id,
                output_id=lesson.output_id(stream_name),
                offer=offer,
                video_codecs=list(settings.codecs),
                video_kbps=settings.video_kbps,
                audio_kbps=settings.audio_kbps,
            ),
        )
        if session in self.sessions:
            stream.publisher = session.id
        return session, opened.answer

    async def open_return(
        self, lesson: Lesson, claims: Claims, offer: str, video_kbps: int
    ) -> tuple[MediaSession, str]:
        """A session by which a seat is seen and heard, in place of the one it had; the answer."""
        self._require_room()
        seat = self._registry.known_seat(lesson, claims.seat or "", claims.name or "", claims.role)
        stream = lesson.inner_stream(f"return~{seat.id}")
        session = self._add("publisher", lesson, stream, claims)
        session.seat = seat
        opened = await self._open(
            session,
            control.OpenPublisher(
                request_id=0,
                session_id=session.id,
                output_id=lesson.output_id(stream.name),
                offer=offer,
                video_codecs=CODECS,
                video_kbps=video_kbps,
                audio_kbps=AUDIO_KBPS,
            ),
        )
        if session in self.sessions:
            stream.publisher = session.id
            lesson.returns[seat.id] = session.id
            lesson.roster.session_opened(seat, stream.public_name, session.id)
            self._audience.changed(lesson)
        return session, opened.answer

    async def open_receiver(
        self, lesson: Lesson, stream_name: str, claims: Claims, offer: str, ticket: str | None
    ) -> tuple[MediaSession, str]:
        """A session that receives the stream, and the answer.

        Raises Problem `receiver-cap-reached` with the place in the waiting list.
        """
        stream = lesson.any_stream(stream_name) or lesson.stream(stream_name)
        self._require_room()
        seat = None
        if claims.seat is not None:
            seat = self._registry.known_seat(lesson, claims.seat, claims.name or "", claims.role)
        session = self._add("receiver", lesson, stream, claims)
        name = seat.name if seat is not None else claims.name or ""
        places = stream.places_for(claims.role)
        decision = places.request(
            seat.id if seat is not None else claims.sub,
            session.id,
            monotonic(),
            ticket=ticket,
            unique=seat is not None,
            priority=lesson.admission.priority_of(claims, name),
            name=name,
            organisation=claims.org,
        )
        if not isinstance(decision, Admitted):
            self.sessions.remove(session)
            self._audience.changed(lesson)
            self.refused[refusals.reason(decision)] += 1
            raise refusals.at_the_cap(stream.name, places, decision)
        try:
            # Whoever watches the wall takes no place, and so no seat.
            if seat is None and not stream.inner:
                seat = self._registry.new_seat(
                    lesson, claims.name or "", claims.role, durable=False
                )
        except Problem:
            self._forget(session, hold=False, goodbye=True)
            raise
        session.seat = seat
        if seat is not None:
            lesson.roster.session_opened(seat, stream_name, session.id)
        if seat is not None and seat.durable and not stream.inner:
            self._store.take_place(lesson.id, stream_name, seat.id)
        session.output = stream_name
        if stream_name == "class" and seat is not None:
            session.output = class_output(lesson, seat.id)
        replaced = self.sessions.get(decision.replaced_session)
        if replaced is not None:
            self.sessions.remove(replaced)
            self._tell_worker(replaced, "replaced")
        self._audience.changed(lesson)
        opened = await self._open(
            session,
            control.OpenReceiver(
                request_id=0,
                session_id=session.id,
                output_id=lesson.output_id(session.output),
                offer=offer,
            ),
        )
        self.spread.wants(lesson.output_id(stream_name), session.worker, self.home(lesson))
        return session, opened.answer

    def home(self, lesson: Lesson) -> int:
        """The worker that the lesson's publishers talk to."""
        return self.placement.place(lesson.id, self.sessions.per_lesson)

    def _require_room(self) -> None:
        if self.draining:
            raise Problem("draining")
        if len(self.sessions) >= self._config().limits.sessions:
            self.refused["too-many-sessions"] += 1
            raise Problem("too-many-sessions")

    def _add(
        self,
        kind: Kind,
        lesson: Lesson,
        stream: OutputStream,
        claims: Claims,
    ) -> MediaSession:
        ready = [w.index for w in self._supervisor.workers if w.ready.is_set()]
        ready = [index for index in ready if index not in self.drained] or ready
        worker = self.placement.place(lesson.id, self.sessions.per_lesson, ready)
        # What is moved between outputs must be where they are made: at home.
        if kind == "receiver" and len(self._supervisor.workers) > 1 and not stream.inner:
            worker = receiving_worker(worker, self._loads(), ready)
        # 128 random bits: the location that holds this id cannot be guessed (RFC 9725 section 4.3).
        session = MediaSession(secrets.token_urlsafe(16), kind, lesson, stream, worker, claims)
        self.sessions.add(session)
        return session

    def _loads(self) -> list[int]:
        """How many sessions each worker has now."""
        counts = Counter(session.worker for session in self.sessions)
        return [counts[worker.index] for worker in self._supervisor.workers]

    async def _open(
        self, session: MediaSession, request: control.OpenPublisher | control.OpenReceiver
    ) -> control.Opened:
        try:
            reply = await self._supervisor.request(session.worker, request)
        except WorkerRefusedError as error:
            self.refused[error.code] += 1
            # A seat keeps its place when it can come back with an offer that works.
            self._forget(session, hold=error.code == "internal", goodbye=False, reason=error.code)
            raise refusals.by_worker(error) from error
        except WorkerUnavailableError as error:
            log.warning("a session could not be opened: %s", error)
            self.refused["worker-unavailable"] += 1
            self._forget(session, hold=True, goodbye=False, reason="worker-unavailable")
            self._tell_worker(session, "abandoned")
            raise Problem("worker-unavailable") from error
        if session.lesson.ended_at is not None:
            raise Problem("lesson-ended")
        if not isinstance(reply, control.Opened):
            raise TypeError(f"a worker answered {type(reply).__name__} to a request to open")
        session.etag = reply.etag
        return reply

    # --- patch and close -----------------------------------------------------------------------

    async def patch(self, session: MediaSession, fragment: str, if_match: str) -> control.Patched:
        """Hand an ICE fragment to the worker; the session's tag is then the one it answers."""
        request = control.PatchSession(
            request_id=0, session_id=session.id, fragment=fragment, if_match=if_match
        )
        try:
            reply = await self._supervisor.request(session.worker, request)
        except WorkerRefusedError as error:
            raise refusals.by_worker(error) from error
        except WorkerUnavailableError as error:
            raise Problem("worker-unavailable") from error
        if not isinstance(reply, control.Patched):
            raise TypeError(f"a worker answered {type(reply).__name__} to a patch")
        session.etag = reply.etag
        return reply

    def close(self, session: MediaSession) -> None:
        """The client has ended its session: its place goes to the next at once.

        When the browser's goodbye on the media path came first, the session is gone already and
        its place kept for a return that will not be.
        """
        if self.sessions.take_lost(session):
            self._give_up_place(session)
            return
        self._forget(session, hold=False, goodbye=True)
        self._tell_worker(session, "deleted")

    def end_lesson(self, lesson: Lesson) -> None:
        """End a lesson: nobody sends or receives it any more, and all are told."""
        if lesson.ended_at is not None:
            return
        for session in self._of_lesson(lesson):
            self.sessions.remove(session)
        self._registry.end(lesson)
        self.capping.write_decisions(lesson)
        self.capping.decisions.forget(lesson.id)
        worker = self.placement.place(lesson.id, self.sessions.per_lesson)
        for name in (*lesson.streams, *lesson.inner):
            output_id = lesson.output_id(name)
            for place in {worker} | self.spread.forget(output_id):
                self._errand(
                    place,
                    control.CloseOutput(request_id=0, output_id=output_id, reason="lesson-ended"),
                )
        self.placement.forget(lesson.id)
        self._audience.ended(lesson)

    def release_seat(self, lesson: Lesson, seat: Seat, reason: str) -> None:
        """Take a seat's places back, for good."""
        for session in [s for s in self._of_lesson(lesson) if s.seat is seat]:
            self._forget(session, hold=False, goodbye=True, reason=f"released-by-{reason}")
            self._tell_worker(session, "released")
        self._registry.release_seat(lesson, seat)
        self._give_up(lesson, seat)
        self._audience.released(lesson, seat, reason)
        self._audience.changed(lesson)

    # --- what workers tell ---------------------------------------------------------------------

    def notified(self, worker: int, message: control.AnyNotification) -> None:
        """Act on a worker's notification. While draining all sessions end, which means nothing."""
        if self.draining:
            return
        if isinstance(message, control.SessionChanged):
            session = self.sessions.get(message.session_id)
            if session is not None:
                self._session_changed(session, message)
        elif isinstance(message, control.OutputChanged):
            self._output_changed(worker, message)
        elif isinstance(message, control.FirstKeyframe):
            self.join_times.observe(message.after_s)

    def _session_changed(self, session: MediaSession, message: control.SessionChanged) -> None:
        session.state = message.state
        if message.state == "closed":
            seat = session.seat.id if session.seat is not None else ""
            ids = {"lesson": session.lesson.id, "seat": seat}
            log.info("%s %s closed: %s", session.kind, session.id[:6], message.reason, extra=ids)
            if message.reason == "replaced" and session.kind == "publisher":
                self.sessions.remove(session)  # the stream goes on: another publisher has it
            else:
                self._forget(session, hold=True, goodbye=False)
        elif session.seat is not None and session.kind == "receiver":
            connected = message.state == "connected"
            session.lesson.roster.session_connected(session.seat, session.stream.name, connected)
            self._audience.changed(session.lesson)

    def _output_changed(self, worker: int, message: control.OutputChanged) -> None:
        lesson_id, _, stream_name = message.output_id.partition("/")
        lesson = self._registry.get(lesson_id)
        stream = lesson.any_stream(stream_name) if lesson is not None else None
        if lesson is None or stream is None:
            return
        if worker != self.placement.place(lesson.id, self.sessions.per_lesson):
            return  # a worker that has it through a pipe: the home speaks for the output
        self.spread.changed(worker, message)
        stream.live = message.live
        stream.published(message.generation, message.tracks)
        if message.live and not stream.inner:
            self._registry.started(lesson)
        self._audience.changed(lesson)

    def worker_lost(self, worker: int) -> None:
        """Its sessions are gone; seats keep their places, and are called back when it is ready."""
        lost = [session for session in self.sessions if session.worker == worker]
        for session in lost:
            self._forget(session, hold=True, goodbye=False)
        self._lost.setdefault(worker, []).extend(lost)
        self.spread.worker_lost(worker)
        for lesson_id in self.placement.lessons_on(worker):
            lesson = self._registry.get(lesson_id)
            if lesson is not None:
                for stream in (*lesson.streams.values(), *lesson.inner.values()):
                    stream.live = False
                    stream.published(0, [])
                self._audience.changed(lesson)

    def worker_ready(self, worker: int) -> None:
        self._audience.rejoin(self._lost.pop(worker, []))

    # --- time ----------------------------------------------------------------------------------

    def tick(self, now: float) -> None:
        """Let offers, holds and lost seats lapse. Called a few times a second."""
        hold_s = self._config().limits.seat_hold_s
        touch = now >= self._next_touch
        if touch:
            self._next_touch = now + TOUCH_S
        for lesson in self._registry.running():
            if touch:
                self._audience.touch_waiting(lesson, now)
            changed = False
            for stream in lesson.streams.values():
                for places in stream.all_places():
                    deadline = places.next_deadline()
                    if deadline is not None and deadline <= now:
                        changed |= self._expire(lesson, stream, places, now)
            self.capping.write_decisions(lesson)
            for seat in lesson.roster.expire(now, hold_s):
                self._give_up(lesson, seat)
                changed = True
            if changed:
                self._audience.changed(lesson)

    def _expire(
        self, lesson: Lesson, stream: OutputStream, places: StreamAdmission, now: float
    ) -> bool:
        expired = places.expire(now)
        for dropped in expired.dropped:
            if dropped.reason == "hold-expired":
                self._store.free_place(lesson.id, stream.name, dropped.identity)
        self._offered(lesson, stream, expired.offers)
        return bool(expired.offers or expired.dropped)

    def end_idle(self) -> list[Lesson]:
        """End the lessons that nobody has used for long; returns them."""
        idle = self._registry.idle()
        for lesson in idle:
            log.info("lesson %s ends: nobody has used it for long", lesson.id)
            self.end_lesson(lesson)
        return idle

    # --- inside --------------------------------------------------------------------------------

    def _of_lesson(self, lesson: Lesson) -> list[MediaSession]:
        return [session for session in self.sessions if session.lesson is lesson]

    def _forget(
        self, session: MediaSession, *, hold: bool, goodbye: bool, reason: str | None = None
    ) -> None:
        """The session is no more: free or hold its place and tell who that concerns."""
        if not self.sessions.remove(session):
            return
        lesson, stream, seat = session.lesson, session.stream, session.seat
        if session.kind == "publisher":
            if stream.publisher == session.id:
                stream.publisher = None
                stream.live = False
            if seat is not None:
                lesson.roster.session_closed(
                    seat, stream.public_name, session.id, monotonic(), goodbye=goodbye
                )
                if goodbye and lesson.returns.get(seat.id) == session.id:
                    del lesson.returns[seat.id]
        else:
            now = monotonic()
            hold = hold and seat is not None and seat.durable and not stream.inner
            places = stream.places_of(session.id)
            why = reason or ("goodbye" if goodbye else "connection-lost")
            offers = places.release(session.id, now, hold=hold, reason=why)
            if seat is not None:
                if seat.durable and not hold:
                    self._store.free_place(lesson.id, stream.name, seat.id)
                lesson.roster.session_closed(seat, stream.name, session.id, now, goodbye=goodbye)
            if hold:
                self.sessions.keep_lost(session)
            self._offered(lesson, stream, offers)
        self._audience.changed(lesson)

    def _give_up(self, lesson: Lesson, seat: Seat) -> None:
        """A seat has left: what it kept without a session is free."""
        lesson.floor.left(seat.id)
        lesson.returns.pop(seat.id, None)
        for stream in lesson.streams.values():
            self._withdraw(lesson, stream, seat)

    def _give_up_place(self, session: MediaSession) -> None:
        """Free the place that is kept for a lost session, unless its seat has come back."""
        lesson, stream, seat = session.lesson, session.stream, session.seat
        if seat is None or stream.name in seat.sessions:
            return
        seat.said_goodbye = not seat.sessions
        self._withdraw(lesson, stream, seat)
        self._audience.changed(lesson)

    def _withdraw(self, lesson: Lesson, stream: OutputStream, seat: Seat) -> None:
        for places in stream.all_places():
            self._offered(lesson, stream, places.withdraw(seat.id, monotonic()))
        self._store.free_place(lesson.id, stream.name, seat.id)

    def _offered(self, lesson: Lesson, stream: OutputStream, offers: list[Offer]) -> None:
        if offers:
            self._audience.offered(lesson, stream, offers)

    def ask_to_rejoin(self, session: MediaSession) -> None:
        """Close a session whose place is kept: its page comes back at once, perhaps elsewhere."""
        self._tell_worker(session, "moved")

    def _tell_worker(self, session: MediaSession, reason: str) -> None:
        self._errand(
            session.worker,
            control.CloseSession(request_id=0, session_id=session.id, reason=reason),
        )

    def _errand(self, worker: int, request: control.AnyRequest) -> None:
        """Send what needs no outcome: if the worker is gone, so is the session."""

        async def run() -> None:
            try:
                await self._supervisor.request(worker, request)
            except (WorkerUnavailableError, WorkerRefusedError) as error:
                log.debug("worker %d: %s", worker, error)

        self._start(run())

    def _start(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.create_task(work)
        self._errands.add(task)
        task.add_done_callback(self._errands.discard)

    async def finish_errands(self) -> None:
        """Wait for what is under way to workers; called before they are stopped."""
        await asyncio.gather(*self._errands)
        self.spread.close()
