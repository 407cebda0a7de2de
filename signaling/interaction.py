"""The interaction of all lessons: carries floor actions out and keeps everybody at the same state.

`sync` compares a lesson with what its pages, its returns and the mixer were told, and tells what
differs. It is called after every action and a few times a second, so whatever changed, by whomever,
is told once and nothing is told twice.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from time import monotonic
from typing import Annotated, Literal

import msgspec

from mixer import control
from signaling import mixplan, permissions, returns
from signaling.config_model import Config
from signaling.desk import Desk
from signaling.events import Hub
from signaling.floor import FloorRefusedError, FloorState, Layout, Outcome
from signaling.lessons import Lesson, LessonRegistry
from signaling.logs import new_incident
from signaling.mixing import Mixing
from signaling.presence import Seat
from signaling.problems import Problem
from signaling.ratelimit import KeyedBuckets
from signaling.requests import invalid
from signaling.returns import ReturnSize
from signaling.sessions import MediaSession
from signaling.sockets import FloorSign
from signaling.supervisor import Supervisor, WorkerRefusedError, WorkerUnavailableError
from signaling.tokens import Claims
from streamer import control as workers

log = logging.getLogger(__name__)

# Actions of one person in one lesson: a teacher may click fast, a stuck key may not.
ACTIONS_PER_S = 4.0
ACTIONS_BURST = 20.0

ActionName = Literal[
    "grant",
    "revoke",
    "hand-back",
    "mute",
    "unmute",
    "mute-all",
    "unmute-all",
    "all-answer",
    "layout",
]


class Action(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One thing done to a floor, as it comes by HTTP; by WebSocket the action is the type."""

    action: ActionName
    seat: Annotated[str, msgspec.Meta(max_length=200)] | None = None
    on: bool = True
    layout: Layout | None = None


@dataclass(slots=True)
class _Told:
    """What was told of one lesson last."""

    state: FloorState = field(default_factory=FloorState)
    floor: dict[str, object] = field(default_factory=dict)
    sizes: dict[str, ReturnSize] = field(default_factory=dict)  # seat → what its page was told
    limits: dict[str, int] = field(default_factory=dict)  # session → kbit/s
    wall: dict[str, object] | None = None
    shed: dict[str, object] | None = None


class Interaction:
    """Floors, returns and mixes. `start_task` runs a coroutine as a task that somebody owns."""

    def __init__(
        self,
        config: Callable[[], Config],
        registry: LessonRegistry,
        desk: Desk,
        hub: Hub,
        supervisor: Supervisor,
        mixing: Mixing,
        start_task: Callable[[Coroutine[object, object, None]], asyncio.Task[None]],
    ) -> None:
        self.mixing = mixing
        self.shed: dict[str, str] = {}  # lesson → what its mix gives up
        self._config = config
        self._registry = registry
        self._desk = desk
        self._hub = hub
        self._supervisor = supervisor
        self._start_task = start_task
        self._told: dict[str, _Told] = {}
        self._actions = KeyedBuckets(ACTIONS_PER_S, ACTIONS_BURST)

    # --- what people do -----------------------------------------------------------------------

    def act(self, lesson: Lesson, claims: Claims, action: Action) -> None:
        """Carry an action out and tell everybody. Raises Problem, and then nothing happened."""
        permissions.require_sight(claims, lesson)
        wait_s = self._actions.take(f"{lesson.id} {claims.seat or claims.sub}", monotonic())
        if wait_s:
            raise Problem("too-many-requests", retry_after=max(1, round(wait_s)))
        if action.action == "hand-back":
            permissions.require(claims.role == "point" and claims.seat is not None, claims)
            outcome = lesson.floor.revoke(claims.seat or "")
        else:
            permissions.require_owner(claims, lesson)
            outcome = self._conduct(lesson, claims, action)
        if outcome == "changed":
            self.sync(lesson)

    def sign(self, lesson: Lesson, claims: Claims, sign: FloorSign) -> None:
        """An action that came by WebSocket."""
        tag = str(sign.__struct_config__.tag)
        action = msgspec.convert({"action": tag, **msgspec.structs.asdict(sign)}, Action)
        self.act(lesson, claims, action)

    def _conduct(self, lesson: Lesson, claims: Claims, action: Action) -> Outcome:
        """What the teacher does."""
        floor = lesson.floor
        match action.action:
            case "grant":
                return self._grant(lesson, claims, _seat(action))
            case "revoke":
                return floor.revoke(_seat(action))
            case "mute":
                return floor.mute([self._known(lesson, _seat(action)).id])
            case "unmute":
                return floor.unmute([_seat(action)])
            case "mute-all":
                return floor.mute([s.id for s in lesson.roster.all() if s.role == "point"])
            case "unmute-all":
                return floor.unmute(floor.muted)
            case "all-answer":
                if action.on and returns.offered(self._config(), lesson) == "off":
                    raise returns.no_returns(claims, lesson)
                return floor.answer_together(action.on)
            case _:
                return self._show(lesson, action)

    def _grant(self, lesson: Lesson, claims: Claims, seat_id: str) -> Outcome:
        if returns.offered(self._config(), lesson) == "off":
            raise returns.no_returns(claims, lesson)
        seat = lesson.roster.get(seat_id)
        here = seat is not None and seat.role == "point" and seat.left_at is None
        hand = lesson.hands.is_raised(seat_id)
        try:
            outcome = lesson.floor.grant(seat_id, here=here)
        except FloorRefusedError as error:
            if error.reason == "not-here":
                raise Problem("no-such-seat") from error
            raise Problem(
                "floor-full", extra={"size": lesson.floor.size, "seats": list(lesson.floor.seats)}
            ) from error
        if hand:
            self._hub.tell_seat(lesson, seat_id, {"type": "hand", "raised": False}, "hand")
            self._hub.changed(lesson)
        return outcome

    def _show(self, lesson: Lesson, action: Action) -> Outcome:
        if action.layout is None:
            raise invalid("layout", "请给出布局", "name the layout")
        slides = lesson.streams.get("slides")
        seen = [seat for seat in lesson.returns if self._sends(lesson, seat, "video")]
        try:
            return lesson.floor.show(
                action.layout, slides=slides is not None and bool(slides.tracks), seen=seen
            )
        except FloorRefusedError as error:
            missing = (
                {"zh-CN": "课件", "en": "the slides"}
                if error.reason == "no-slides"
                else {"zh-CN": "上台者的画面", "en": "the picture of a seat on the floor"}
            )
            raise Problem(
                "absent-stream", field="layout", detail_args={"missing": missing}
            ) from None

    @staticmethod
    def _sends(lesson: Lesson, seat_id: str, kind: str) -> bool:
        stream = lesson.inner.get(f"return~{seat_id}")
        return stream is not None and any(track.kind == kind for track in stream.tracks)

    @staticmethod
    def _known(lesson: Lesson, seat_id: str) -> Seat:
        seat = lesson.roster.get(seat_id)
        if seat is None:
            raise Problem("no-such-seat")
        return seat

    # --- what a page is told when it comes ----------------------------------------------------

    def greetings(self, lesson: Lesson, claims: Claims) -> Iterable[tuple[dict[str, object], str]]:
        """What a page must know at once, each with the name of the state it is."""
        told = self._told.setdefault(lesson.id, _Told())
        yield {"type": "floor", **lesson.floor.document()}, "floor"
        if claims.role == "point" and claims.seat is not None:
            size = told.sizes[claims.seat] = returns.size(self._config(), lesson, claims.seat)
            yield size.document(), "return"
        if permissions.owns(claims, lesson):
            if told.wall is not None:
                yield told.wall, "wall"
            if told.shed is not None:
                yield told.shed, "mixer"

    # --- keeping everybody at the same state --------------------------------------------------

    def tick(self) -> None:
        """A few times a second: whatever has changed anywhere is told."""
        by_lesson: dict[str, list[MediaSession]] = {}
        for session in self._desk.sessions:
            by_lesson.setdefault(session.lesson.id, []).append(session)
        running = self._registry.running()
        for lesson in running:
            try:
                self._sync(lesson, by_lesson.get(lesson.id, []))
            except Exception:  # the other lessons must go on
                log.exception("incident %s: lesson %s", new_incident(), lesson.id)
        if len(self._told) > len(running):
            for lesson_id in self._told.keys() - {lesson.id for lesson in running}:
                del self._told[lesson_id]
                self.shed.pop(lesson_id, None)
                self.mixing.end(lesson_id)

    def sync(self, lesson: Lesson) -> None:
        """Tell at once what an action has changed."""
        self._sync(lesson, [s for s in self._desk.sessions if s.lesson is lesson])

    def _sync(self, lesson: Lesson, sessions: list[MediaSession]) -> None:
        told = self._told.setdefault(lesson.id, _Told())
        state, document = lesson.floor.state(), lesson.floor.document()
        if state != told.state:
            told.state = state
            self._registry.floor_changed(lesson)
        if document != told.floor:
            told.floor = document
            self._hub.tell_all(lesson, {"type": "floor", **document}, "floor")
        self._sync_sizes(lesson, told)
        config = self._config()
        if lesson.id in self.mixing or mixplan.wanted(config, lesson, sessions):
            if returns.offered(config, lesson) != "off" and self._registry.add_stage(lesson):
                self._hub.changed(lesson)
            home = self._desk.home(lesson)
            self.mixing.want(lesson.id, mixplan.plan(config, lesson, sessions, home))

    def _sync_sizes(self, lesson: Lesson, told: _Told) -> None:
        """Tell pages what to send, and hold what is sent to it."""
        config = self._config()
        seats = [s for s in lesson.roster.all() if s.role == "point" and s.left_at is None]
        sizes = {seat.id: returns.size(config, lesson, seat.id) for seat in seats}
        for seat_id, size in sizes.items():
            if told.sizes.get(seat_id, size) != size:  # a page that comes is told by `greetings`
                self._hub.tell_seat(lesson, seat_id, size.document(), "return")
        told.sizes = sizes
        limits: dict[str, int] = {}
        for seat_id, session_id in lesson.returns.items():
            session = self._desk.sessions.get(session_id)
            if session is None or session.state != "connected" or seat_id not in sizes:
                continue
            limits[session_id] = sizes[seat_id].kbps + returns.AUDIO_KBPS
            if told.limits.get(session_id) != limits[session_id]:
                self._start_task(self._limit(session, limits[session_id]))
        told.limits = limits

    async def _limit(self, session: MediaSession, kbps: int) -> None:
        request = workers.LimitPublisher(request_id=0, session_id=session.id, kbps=kbps)
        try:
            await self._supervisor.request(session.worker, request)
        except (WorkerRefusedError, WorkerUnavailableError) as error:
            log.debug("a return was not limited: %s", error)

    # --- what the mixer tells -----------------------------------------------------------------

    def notified(self, message: control.AnyNotification) -> None:
        """Pass the mixer's news on to whom they concern."""
        self.mixing.notified(message)
        if isinstance(message, control.Ready):
            return
        lesson = self._registry.get(message.lesson_id)
        if lesson is None:
            return
        told = self._told.get(lesson.id)
        match message:
            case control.Levels():
                self._hub.tell_owners(
                    lesson,
                    {"type": "levels", "seats": message.seats, "teacher": message.teacher},
                    "levels",
                )
            case control.HowlRound():
                self._hub.tell_owners(
                    lesson,
                    {
                        "type": "howl",
                        "seat": message.seat or None,
                        "frequency_hz": round(message.frequency_hz),
                    },
                )
            case control.InputState(seat=seat) if seat:
                self._hub.tell_owners(
                    lesson,
                    {"type": "return-state", "seat": seat, "state": message.state},
                    f"return-state {seat}",
                )
            case control.DirectorCut():
                self._hub.tell_all(
                    lesson,
                    {
                        "type": "stage",
                        "layout": message.layout,
                        "why": message.why,
                        "seat": message.seat or None,
                    },
                    "stage",
                )
            case control.WallChanged():
                wall: dict[str, object] = {
                    "type": "wall",
                    "width": message.width,
                    "height": message.height,
                    "tiles": message.tiles,
                }
                if told is not None:
                    told.wall = wall
                self._hub.tell_owners(lesson, wall, "wall")
            case control.Shed():
                self.shed[lesson.id] = message.what
                shed: dict[str, object] = {
                    "type": "mixer",
                    "shed": message.what,
                    "wall_fps": message.wall_fps,
                    "stage_fps": message.stage_fps,
                }
                if told is not None:
                    told.shed = shed
                self._hub.tell_owners(lesson, shed, "mixer")


def _seat(action: Action) -> str:
    if action.seat is None:
        raise invalid("seat", "请给出席位", "name the seat")
    return action.seat
