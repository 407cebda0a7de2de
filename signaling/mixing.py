"""Brings the mixer to what each lesson wants: pipes in and out, floor, mutes, tiles and layout.

A lesson's `Plan` is computed from its state; its `LessonMixing` compares it with what the mixer
was told and does what is missing, one step after the other. So a mixer that died, a worker that
was restarted and a new publisher are all the same: something is missing again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import shutil
import tempfile
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Protocol

import msgspec

from mixer import control
from signaling.floor import Layout
from signaling.logs import new_incident
from signaling.mixers import MixerRefusedError, MixerUnavailableError
from signaling.sessions import MediaSession
from signaling.supervisor import WorkerRefusedError, WorkerUnavailableError
from streamer import control as workers

log = logging.getLogger(__name__)

RETRY_S = 0.5
LAYOUT_RETRY_S = 1.0
# A pipe that broke is opened anew after this, then ever later: what comes may not be decodable.
FIRST_BACKOFF_S = 1.0
LONGEST_BACKOFF_S = 30.0


class Workers(Protocol):
    """What mixing needs of the workers' supervisor."""

    async def request(self, index: int, message: workers.AnyRequest) -> workers.AnyReply: ...


class Mixer(Protocol):
    """What mixing needs of the mixer process."""

    ready: asyncio.Event
    lives: int

    def start(self) -> None: ...

    async def request(self, message: control.AnyRequest) -> control.AnyReply: ...


@dataclass(frozen=True, slots=True)
class Input:
    """A published stream that the mixer is to take. `serial` changes with each publisher."""

    role: control.Role
    serial: int
    tracks: tuple[workers.PipedTrack, ...]
    seat: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What one lesson wants of the mixer now.

    `kept` are inputs that have stopped but whose tile stays; `listeners` are sessions with the
    output that each is to receive.
    """

    home: int
    inputs: dict[str, Input] = field(default_factory=dict)
    kept: frozenset[str] = frozenset()
    outputs: dict[str, control.AddOutput] = field(default_factory=dict)
    floor: tuple[str, ...] = ()
    all_answer: bool = False
    tiles: dict[str, control.SetTile] = field(default_factory=dict)
    muted: frozenset[str] = frozenset()
    layout: Layout = "auto"
    listeners: tuple[tuple[MediaSession, str], ...] = ()


@dataclass(slots=True)
class _Told:
    """What the mixer has been told of a lesson in its present life."""

    life: int = 0
    inputs: dict[str, tuple[int, int]] = field(default_factory=dict)  # name → home, serial
    outputs: dict[str, tuple[int, control.AddOutput]] = field(default_factory=dict)
    floor: tuple[tuple[str, ...], bool] = ((), False)
    tiles: dict[str, control.SetTile] = field(default_factory=dict)
    muted: frozenset[str] = frozenset()
    layout: Layout = "auto"


@dataclass(slots=True)
class _Backoff:
    not_before: float
    delay_s: float


class LessonMixing:
    """One lesson in the mixer. `run` is the task that does the work; the rest only tells it."""

    def __init__(self, lesson_id: str, supervisor: Workers, mixer: Mixer, folder: Path) -> None:
        self.lesson_id = lesson_id
        self._workers = supervisor
        self._mixer = mixer
        self._folder = folder
        self._plan: Plan | None = None
        self._told = _Told()
        self._backoffs: dict[str, _Backoff] = {}
        self._layout_not_before = 0.0
        self._wake = asyncio.Event()

    def want(self, plan: Plan) -> None:
        self._plan = plan
        self._wake.set()

    def input_state(self, name: str, state: str) -> None:
        """The mixer told how an input does; a broken one is opened again, ever later."""
        if state == "ok":
            self._backoffs.pop(name, None)
        elif state == "broken":
            if name in self._told.inputs:
                self._told.inputs[name] = (-1, -1)
            self._put_off(name)

    def output_broken(self, name: str) -> None:
        self._told.outputs.pop(name, None)
        self._wake.set()

    def _put_off(self, name: str) -> None:
        old = self._backoffs.get(name)
        delay_s = FIRST_BACKOFF_S if old is None else min(2 * old.delay_s, LONGEST_BACKOFF_S)
        self._backoffs[name] = _Backoff(monotonic() + delay_s, delay_s)

    async def run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            await self._mixer.ready.wait()
            try:
                await self._step()
            except (MixerUnavailableError, WorkerUnavailableError) as error:
                log.info("lesson %s: not mixed yet: %s", self.lesson_id, error)
                await asyncio.sleep(RETRY_S)
                self._wake.set()
            except Exception:  # the lesson's next change must still be carried out
                log.exception("incident %s: lesson %s", new_incident(), self.lesson_id)
                await asyncio.sleep(RETRY_S)

    async def _step(self) -> None:
        """Everything that the plan says and the mixer does not know."""
        plan = self._plan
        if plan is None:
            return
        if self._told.life != self._mixer.lives:
            self._told = _Told(life=self._mixer.lives)
            self._backoffs.clear()
        await self._close_inputs(plan)
        for name, wanted in plan.inputs.items():
            if self._told.inputs.get(name) != (plan.home, wanted.serial):
                await self._open_input(plan, name, wanted)
        for seat, tile in plan.tiles.items():
            if self._told.tiles.get(seat) != tile:
                await self._ask(tile)
                self._told.tiles[seat] = tile
        for name, output in plan.outputs.items():
            if self._told.outputs.get(name) != (plan.home, output):
                await self._open_output(plan, name, output)
        # Whoever gets the floor leaves the common sound first, so that nobody hears itself.
        await self._move(plan, own=True)
        await self._set_floor(plan)
        await self._set_layout(plan)
        await self._move(plan, own=False)
        for name in [name for name in self._told.outputs if name not in plan.outputs]:
            await self._ask(
                control.RemoveOutput(request_id=0, lesson_id=self.lesson_id, output=name)
            )
            self._told.outputs.pop(name, None)

    async def _ask(self, message: control.AnyRequest) -> bool:
        """Ask the mixer; False, and a line in the log, when it refused."""
        try:
            await self._mixer.request(message)
        except MixerRefusedError as error:
            log.info("lesson %s: %s: %s", self.lesson_id, type(message).__name__, error)
            return False
        return True

    # --- pipes --------------------------------------------------------------------------------

    async def _close_inputs(self, plan: Plan) -> None:
        staying = {*plan.inputs, *plan.kept}
        for name in [name for name in self._told.inputs if name not in staying]:
            await self._ask(
                control.RemoveInput(request_id=0, lesson_id=self.lesson_id, input_id=name)
            )
            self._told.inputs.pop(name, None)
            self._backoffs.pop(name, None)

    async def _open_input(self, plan: Plan, name: str, wanted: Input) -> None:
        backoff = self._backoffs.get(name)
        if backoff is not None and monotonic() < backoff.not_before:
            return
        pipe_id = secrets.token_hex(8)
        path = str(self._folder / pipe_id)
        if not await self._listen(name, wanted, path):
            self._put_off(name)
            return
        self._told.inputs[name] = (plan.home, wanted.serial)
        try:
            await self._workers.request(
                plan.home,
                workers.OpenPipeOut(
                    request_id=0,
                    pipe_id=pipe_id,
                    output_id=f"{self.lesson_id}/{name}",
                    path=path,
                    one_picture=True,
                ),
            )
        except (WorkerRefusedError, WorkerUnavailableError) as error:
            log.info("lesson %s: no pipe for %s yet: %s", self.lesson_id, name, error)
            self._told.inputs[name] = (plan.home, -1)
            self._put_off(name)

    async def _listen(self, name: str, wanted: Input, path: str) -> bool:
        """Have the mixer take an input; one whose picture it cannot decode, by its sound only."""
        sounds = [track for track in wanted.tracks if track.kind == "audio"][:1]
        pictures = [track for track in wanted.tracks if track.kind == "video"][:1]
        for tracks in ([*sounds, *pictures], sounds):
            if tracks and await self._ask(
                control.AddInput(
                    request_id=0,
                    lesson_id=self.lesson_id,
                    input_id=name,
                    path=path,
                    role=wanted.role,
                    tracks=tracks,
                    seat=wanted.seat,
                    name=wanted.name[: control.MAX_NAME_CHARACTERS],
                )
            ):
                return True
        return False

    async def _open_output(self, plan: Plan, name: str, output: control.AddOutput) -> None:
        backoff = self._backoffs.get(f"> {name}")
        if backoff is not None and monotonic() < backoff.not_before:
            return
        pipe_id = secrets.token_hex(8)
        path = str(self._folder / pipe_id)
        inward = workers.OpenPipeIn(
            request_id=0,
            pipe_id=pipe_id,
            output_id=f"{self.lesson_id}/{name}",
            path=path,
            tracks=control.output_tracks(name, output.video_codec),
        )
        try:
            await self._workers.request(plan.home, inward)
        except WorkerRefusedError as error:
            log.info("lesson %s: no pipe for %s yet: %s", self.lesson_id, name, error)
            self._put_off(f"> {name}")
            return
        if await self._ask(msgspec.structs.replace(output, path=path)):
            self._told.outputs[name] = (plan.home, output)
            self._backoffs.pop(f"> {name}", None)
            return
        self._put_off(f"> {name}")
        with contextlib.suppress(WorkerRefusedError):
            await self._workers.request(plan.home, workers.ClosePipe(request_id=0, pipe_id=pipe_id))

    # --- who hears what -----------------------------------------------------------------------

    async def _move(self, plan: Plan, *, own: bool) -> None:
        """Put listeners where they belong: to a sound of their `own`, or to the common one."""
        for session, output in plan.listeners:
            if session.output == output or ("~" in output) is not own:
                continue
            with contextlib.suppress(WorkerRefusedError):  # it has just ended
                await self._workers.request(
                    session.worker,
                    workers.MoveReceiver(
                        request_id=0,
                        session_id=session.id,
                        output_id=f"{self.lesson_id}/{output}",
                    ),
                )
            session.output = output

    async def _set_floor(self, plan: Plan) -> None:
        for seat in plan.muted - self._told.muted:
            await self._mute(seat, muted=True)
        floor = (plan.floor, plan.all_answer)
        if self._told.floor != floor and await self._ask(
            control.SetFloor(
                request_id=0,
                lesson_id=self.lesson_id,
                seats=list(plan.floor),
                all_answer=plan.all_answer,
            )
        ):
            self._told.floor = floor
        for seat in self._told.muted - plan.muted:
            await self._mute(seat, muted=False)

    async def _mute(self, seat: str, *, muted: bool) -> None:
        await self._ask(
            control.MuteSeat(request_id=0, lesson_id=self.lesson_id, seat=seat, muted=muted)
        )
        self._told.muted = self._told.muted | {seat} if muted else self._told.muted - {seat}

    async def _set_layout(self, plan: Plan) -> None:
        """A layout whose pictures have not come yet is refused, and asked for again."""
        if plan.layout == self._told.layout or monotonic() < self._layout_not_before:
            return
        if await self._ask(
            control.SetLayout(request_id=0, lesson_id=self.lesson_id, layout=plan.layout)
        ):
            self._told.layout = plan.layout
        else:
            self._layout_not_before = monotonic() + LAYOUT_RETRY_S


class Mixing:
    """All lessons that are mixed. `start` runs a coroutine as a task that somebody owns."""

    def __init__(
        self,
        supervisor: Workers,
        mixer: Mixer,
        start: Callable[[Coroutine[object, object, None]], asyncio.Task[None]],
    ) -> None:
        self._workers = supervisor
        self._mixer = mixer
        self._start = start
        self._lessons: dict[str, tuple[LessonMixing, asyncio.Task[None]]] = {}
        # Socket paths are at most 108 bytes, so not below a data directory of any length.
        self._folder = Path(tempfile.mkdtemp(prefix="tongke-mix-"))

    def __contains__(self, lesson_id: str) -> bool:
        return lesson_id in self._lessons

    def want(self, lesson_id: str, plan: Plan) -> None:
        """Bring a lesson to its plan; the first of all lessons starts the mixer."""
        known = self._lessons.get(lesson_id)
        if known is None:
            self._mixer.start()
            mixing = LessonMixing(lesson_id, self._workers, self._mixer, self._folder)
            known = self._lessons[lesson_id] = (mixing, self._start(mixing.run()))
        known[0].want(plan)

    def end(self, lesson_id: str) -> None:
        known = self._lessons.pop(lesson_id, None)
        if known is not None:
            known[1].cancel()
            self._start(self._close(lesson_id))

    async def _close(self, lesson_id: str) -> None:
        with contextlib.suppress(MixerUnavailableError, MixerRefusedError):
            await self._mixer.request(control.CloseLesson(request_id=0, lesson_id=lesson_id))

    def notified(self, message: control.AnyNotification) -> None:
        """Act on the mixer's news of pipes."""
        if isinstance(message, control.InputState | control.OutputBroken):
            known = self._lessons.get(message.lesson_id)
            if known is None:
                return
            if isinstance(message, control.InputState):
                known[0].input_state(message.input_id, message.state)
            else:
                known[0].output_broken(message.output)

    def close(self) -> None:
        for _mixing, task in self._lessons.values():
            task.cancel()
        self._lessons.clear()
        shutil.rmtree(self._folder, ignore_errors=True)
