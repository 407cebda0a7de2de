"""The mixer's process, and what a lesson's plan makes of the pipes and settings of the mixer."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest
import pytest_asyncio

from mixer import control
from signaling import mixers as process_module
from signaling import mixing as module
from signaling.mixers import MixerProcess, MixerRefusedError, MixerUnavailableError
from signaling.mixing import Input, LessonMixing, Mixing, Plan
from signaling.sessions import MediaSession
from signaling.supervisor import WorkerRefusedError, WorkerUnavailableError
from streamer import control as workers
from tests.signaling.fakeworker import TRACKS

ROOT = Path(__file__).resolve().parents[2]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(15):
        while not condition():  # noqa: ASYNC110 - what is awaited has no event
            await asyncio.sleep(0.01)


# --- the process --------------------------------------------------------------------------------


@pytest_asyncio.fixture
async def mixer(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[MixerProcess]:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    made = MixerProcess(
        lambda: control.MixerSettings(mixer=0),
        lambda message: None,
        module="tests.signaling.fakemixer",
    )
    yield made
    await made.stop()


async def test_nothing_runs_until_somebody_needs_it(mixer: MixerProcess) -> None:
    with pytest.raises(MixerUnavailableError):
        await mixer.request(control.GetStats(request_id=0))
    assert mixer.pid is None


async def test_a_killed_mixer_is_there_again_and_its_caller_is_told(mixer: MixerProcess) -> None:
    mixer.start()
    mixer.start()  # once is enough
    await until(mixer.ready.is_set)
    first, life = mixer.pid, mixer.lives
    assert first is not None
    with pytest.raises(MixerUnavailableError):
        await mixer.request(control.CloseLesson(request_id=0, lesson_id="die"))
    await until(lambda: mixer.ready.is_set() and mixer.lives > life)
    assert mixer.pid != first
    assert isinstance(await mixer.request(control.GetStats(request_id=0)), control.Stats)
    assert mixer.restarts == 1


async def test_a_refusal_says_which_field_and_why(mixer: MixerProcess) -> None:
    mixer.start()
    await until(mixer.ready.is_set)
    with pytest.raises(MixerRefusedError, match="layout: no child"):
        await mixer.request(control.SetLayout(request_id=0, lesson_id="l", layout="pip"))


async def test_a_hung_mixer_is_killed(mixer: MixerProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_module, "POLL_S", 0.1)
    mixer.start()
    await until(mixer.ready.is_set)
    with pytest.raises(MixerUnavailableError):
        await mixer.request(control.CloseLesson(request_id=0, lesson_id="hang"), 0.05)
    await until(lambda: mixer.lives == 2)


async def test_stopping_leaves_no_process(mixer: MixerProcess) -> None:
    mixer.start()
    await until(mixer.ready.is_set)
    pid = mixer.pid
    assert pid is not None
    await mixer.stop()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)


# --- a lesson's plan ----------------------------------------------------------------------------


class FakeMixer:
    """Says yes to everything but what is to be refused, and remembers it."""

    def __init__(self, log: list[str]) -> None:
        self.ready = asyncio.Event()
        self.ready.set()
        self.lives = 1
        self.started = 0
        self.asked: list[control.AnyRequest] = []
        self.refuse: Callable[[control.AnyRequest], bool] = lambda request: False
        self.log = log

    def start(self) -> None:
        self.started += 1

    async def request(self, message: control.AnyRequest) -> control.AnyReply:
        if not self.ready.is_set():
            raise MixerUnavailableError("the mixer is not running")
        self.asked.append(message)
        self.log.append(type(message).__name__)
        if self.refuse(message):
            raise MixerRefusedError(
                control.Failed(request_id=0, code="invalid", field="tracks", detail="no")
            )
        return control.Done(request_id=0)

    def die(self) -> None:
        self.ready.clear()

    def live_again(self) -> None:
        self.lives += 1
        self.asked.clear()
        self.ready.set()

    def of(self, kind: type) -> list[Any]:
        return [request for request in self.asked if isinstance(request, kind)]


class FakeWorkers:
    def __init__(self, log: list[str]) -> None:
        self.asked: list[tuple[int, workers.AnyRequest]] = []
        self.refusals: list[Exception] = []
        self.log = log

    async def request(self, index: int, message: workers.AnyRequest) -> workers.AnyReply:
        self.asked.append((index, message))
        self.log.append(type(message).__name__)
        if self.refusals:
            raise self.refusals.pop()
        return workers.Done(request_id=0)

    def of(self, kind: type) -> list[Any]:
        return [request for _index, request in self.asked if isinstance(request, kind)]


class Bench:
    def __init__(self, folder: Path) -> None:
        self.log: list[str] = []
        self.mixer = FakeMixer(self.log)
        self.workers = FakeWorkers(self.log)
        self.mixing = LessonMixing("l", self.workers, self.mixer, folder)
        self.task = asyncio.create_task(self.mixing.run())

    async def bring(self, plan: Plan) -> None:
        """Have a plan carried out; ask twice, as the clock does, so that late ones show."""
        for _ in range(2):
            self.mixing.want(plan)
            await asyncio.sleep(0.02)


@pytest_asyncio.fixture
async def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    monkeypatch.setattr(module, "RETRY_S", 0.01)
    monkeypatch.setattr(module, "FIRST_BACKOFF_S", 0.0)
    monkeypatch.setattr(module, "LAYOUT_RETRY_S", 0.0)
    made = Bench(tmp_path)
    yield made
    made.task.cancel()


def child(seat: str, serial: int = 1) -> Input:
    return Input("return", serial, tuple(TRACKS), seat=seat, name="红星小学")


CAMERA = Input("teacher", 1, tuple(TRACKS))


def output(name: str) -> control.AddOutput:
    return control.AddOutput(request_id=0, lesson_id="l", output=name, path="")


def listener(name: str = "class") -> MediaSession:
    return cast(MediaSession, SimpleNamespace(id="session", worker=1, output=name))


FULL_PLAN = Plan(
    home=0,
    inputs={"camera": CAMERA, "return~a": child("a"), "return~b": child("b")},
    outputs={name: output(name) for name in ("wall", "stage", "class", "class~a")},
    floor=("a",),
    muted=frozenset({"b"}),
    tiles={"a": control.SetTile(request_id=0, lesson_id="l", seat="a", name="A", hand=True)},
    layout="grid",
)


async def test_every_input_and_output_gets_its_pipe_where_the_other_end_listens(
    bench: Bench,
) -> None:
    await bench.bring(FULL_PLAN)
    inputs = {request.input_id: request.path for request in bench.mixer.of(control.AddInput)}
    sent = {r.output_id: (r.path, r.one_picture) for r in bench.workers.of(workers.OpenPipeOut)}
    assert sent == {f"l/{name}": (path, True) for name, path in inputs.items()}
    received = {r.output_id: r.path for r in bench.workers.of(workers.OpenPipeIn)}
    connected = {f"l/{r.output}": r.path for r in bench.mixer.of(control.AddOutput)}
    assert received == connected
    assert received.keys() == {"l/wall", "l/stage", "l/class", "l/class~a"}
    assert [t.kind for t in bench.workers.of(workers.OpenPipeIn)[0].tracks] == ["video"]
    assert bench.mixer.of(control.SetFloor)[0].seats == ["a"]
    assert bench.mixer.of(control.MuteSeat)[0].seat == "b"
    assert bench.mixer.of(control.SetLayout)[0].layout == "grid"


async def test_what_the_mixer_knows_is_not_told_again(bench: Bench) -> None:
    await bench.bring(FULL_PLAN)
    told, asked = len(bench.mixer.asked), len(bench.workers.asked)
    await bench.bring(FULL_PLAN)
    assert (len(bench.mixer.asked), len(bench.workers.asked)) == (told, asked)


async def test_a_mixer_that_died_is_told_everything_again(bench: Bench) -> None:
    await bench.bring(FULL_PLAN)
    told = {msgspec.json.encode(_without_path(request)) for request in bench.mixer.asked}
    bench.mixer.die()
    await bench.bring(FULL_PLAN)
    bench.mixer.live_again()
    await bench.bring(FULL_PLAN)
    again = {msgspec.json.encode(_without_path(request)) for request in bench.mixer.asked}
    assert again == told


def _without_path(request: control.AnyRequest) -> control.AnyRequest:
    if isinstance(request, control.AddInput | control.AddOutput):
        return msgspec.structs.replace(request, path="")
    return request


async def test_a_new_publisher_gets_a_new_pipe_and_the_others_keep_theirs(bench: Bench) -> None:
    await bench.bring(FULL_PLAN)
    bench.mixer.asked.clear()
    inputs = {**FULL_PLAN.inputs, "return~a": child("a", serial=2)}
    await bench.bring(Plan(home=0, inputs=inputs, outputs=FULL_PLAN.outputs))
    assert [request.input_id for request in bench.mixer.of(control.AddInput)] == ["return~a"]


async def test_a_lost_return_keeps_its_tile_and_one_that_has_gone_does_not(bench: Bench) -> None:
    await bench.bring(FULL_PLAN)
    kept = Plan(home=0, inputs={"camera": CAMERA}, kept=frozenset({"return~a"}))
    await bench.bring(kept)
    assert [request.input_id for request in bench.mixer.of(control.RemoveInput)] == ["return~b"]
    assert len(bench.mixer.of(control.RemoveOutput)) == 4


async def test_whoever_gets_the_floor_leaves_the_common_sound_before_it_is_heard(
    bench: Bench,
) -> None:
    session = listener()
    common = Plan(home=0, inputs=FULL_PLAN.inputs, outputs={"class": output("class")})
    await bench.bring(common)
    bench.log.clear()
    own = {"class": output("class"), "class~a": output("class~a")}
    await bench.bring(
        Plan(
            home=0,
            inputs=FULL_PLAN.inputs,
            outputs=own,
            floor=("a",),
            listeners=((session, "class~a"),),
        )
    )
    assert bench.log == ["OpenPipeIn", "AddOutput", "MoveReceiver", "SetFloor"]
    assert session.output == "class~a"
    bench.log.clear()
    await bench.bring(
        Plan(
            home=0,
            inputs=FULL_PLAN.inputs,
            outputs={"class": output("class")},
            listeners=((session, "class"),),
        )
    )
    assert bench.log == ["SetFloor", "MoveReceiver", "RemoveOutput"]
    assert [r.output_id for r in bench.workers.of(workers.MoveReceiver)] == ["l/class~a", "l/class"]


async def test_a_picture_that_cannot_be_decoded_still_brings_its_sound(bench: Bench) -> None:
    bench.mixer.refuse = lambda request: (
        isinstance(request, control.AddInput) and len(request.tracks) > 1
    )
    await bench.bring(Plan(home=0, inputs={"camera": CAMERA}))
    last = bench.mixer.of(control.AddInput)[-1]
    assert [track.kind for track in last.tracks] == ["audio"]
    assert len(bench.workers.of(workers.OpenPipeOut)) == 1


async def test_a_worker_that_is_away_is_asked_again(bench: Bench) -> None:
    bench.workers.refusals = [
        WorkerUnavailableError("restarting"),
        WorkerRefusedError(workers.Failed(request_id=0, code="no-such-output", detail="none yet")),
    ]
    await bench.bring(Plan(home=0, inputs={"camera": CAMERA}))
    await until(lambda: len(bench.workers.of(workers.OpenPipeOut)) == 2)
    for _ in range(3):
        await bench.bring(Plan(home=0, inputs={"camera": CAMERA}))
    paths = [request.path for request in bench.workers.of(workers.OpenPipeOut)]
    assert len(paths) == 3
    assert len(set(paths)) == 3


async def test_broken_pipes_are_opened_anew(bench: Bench) -> None:
    await bench.bring(FULL_PLAN)
    bench.mixer.asked.clear()
    bench.mixing.input_state("return~a", "broken")
    bench.mixing.output_broken("stage")
    await bench.bring(FULL_PLAN)
    assert [request.input_id for request in bench.mixer.of(control.AddInput)] == ["return~a"]
    assert [request.output for request in bench.mixer.of(control.AddOutput)] == ["stage"]
    bench.mixing.input_state("return~a", "ok")
    await bench.bring(FULL_PLAN)
    assert len(bench.mixer.of(control.AddInput)) == 1


async def test_a_layout_whose_pictures_have_not_come_is_asked_for_again(bench: Bench) -> None:
    refusals = [True]
    bench.mixer.refuse = lambda request: (
        isinstance(request, control.SetLayout) and bool(refusals) and refusals.pop()
    )
    await bench.bring(Plan(home=0, layout="pip"))
    await bench.bring(Plan(home=0, layout="pip"))
    assert [request.layout for request in bench.mixer.of(control.SetLayout)] == ["pip", "pip"]


async def test_the_first_lesson_starts_the_mixer_and_an_ended_one_is_closed_there() -> None:
    log: list[str] = []
    mixer, tasks = FakeMixer(log), set[asyncio.Task[None]]()

    def start(work: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.ensure_future(work)
        tasks.add(task)
        return task

    mixing = Mixing(FakeWorkers(log), mixer, start)
    try:
        assert mixer.started == 0
        mixing.want("l", Plan(home=0))
        mixing.want("m", Plan(home=0))
        assert mixer.started >= 1
        assert "l" in mixing
        mixing.notified(control.OutputBroken(lesson_id="unknown", output="wall"))
        mixing.end("l")
        await asyncio.sleep(0.02)
        assert "l" not in mixing
        assert [request.lesson_id for request in mixer.of(control.CloseLesson)] == ["l"]
    finally:
        mixing.close()
    assert all(task.done() or task.cancelling() for task in tasks)
