"""Which worker gets a receiver, and which pipes that makes necessary."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine

import pytest
import pytest_asyncio

from signaling import spread as module
from signaling.spread import Spread, receiving_worker
from signaling.supervisor import WorkerUnavailableError
from streamer import control

TRACKS = [
    control.PipedTrack(kind="video", codec="vp8", clock_rate=90000, channels=1, payload_type=96)
]


class Workers:
    """Remembers what each worker was asked; refuses as often as told."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, control.AnyRequest]] = []
        self.refusals = 0

    async def request(self, index: int, request: control.AnyRequest) -> control.AnyReply:
        if self.refusals:
            self.refusals -= 1
            raise WorkerUnavailableError("restarting")
        self.asked.append((index, request))
        return control.Done(request_id=0)

    def pipes(self) -> list[tuple[int, str]]:
        return [(index, type(request).__name__) for index, request in self.asked]


class Bench:
    def __init__(self) -> None:
        self.workers = Workers()
        self.tasks: list[asyncio.Task[None]] = []
        self.spread = Spread(self.workers, self.start)

    def start(self, work: Coroutine[object, object, None]) -> None:
        self.tasks.append(asyncio.ensure_future(work))

    async def settle(self) -> None:
        while any(not task.done() for task in self.tasks):
            await asyncio.gather(*self.tasks)

    def publish(self, generation: int = 1, home: int = 0) -> None:
        self.spread.changed(
            home,
            control.OutputChanged(output_id="o", live=True, generation=generation, tracks=TRACKS),
        )


@pytest_asyncio.fixture
async def bench(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    monkeypatch.setattr(module, "RETRY_S", 0.01)
    made = Bench()
    yield made
    made.spread.close()


async def test_the_first_receiver_elsewhere_opens_one_pipe_and_the_second_none(
    bench: Bench,
) -> None:
    bench.publish()
    for _ in range(2):
        bench.spread.wants("o", 1, 0)
    await bench.settle()
    assert bench.workers.pipes() == [(1, "OpenPipeIn"), (0, "OpenPipeOut")]


async def test_receivers_at_home_need_no_pipe(bench: Bench) -> None:
    bench.publish()
    bench.spread.wants("o", 0, 0)
    await bench.settle()
    assert bench.workers.asked == []


async def test_a_receiver_that_comes_before_the_publisher_is_served_when_it_comes(
    bench: Bench,
) -> None:
    bench.spread.wants("o", 1, 0)
    assert bench.workers.asked == []
    bench.publish()
    await bench.settle()
    assert len(bench.workers.asked) == 2


async def test_a_new_publisher_gets_new_pipes_and_the_same_news_none(bench: Bench) -> None:
    bench.spread.wants("o", 1, 0)
    for generation in (1, 1, 2):
        bench.publish(generation)
        await bench.settle()
    assert len(bench.workers.asked) == 4


async def test_a_pipe_that_could_not_be_opened_is_tried_again(bench: Bench) -> None:
    bench.workers.refusals = 2
    bench.publish()
    bench.spread.wants("o", 1, 0)
    await bench.settle()
    assert bench.workers.pipes() == [(1, "OpenPipeIn"), (0, "OpenPipeOut")]


async def test_a_restarted_worker_gets_its_pipe_again_when_its_receivers_come_back(
    bench: Bench,
) -> None:
    bench.publish()
    bench.spread.wants("o", 1, 0)
    await bench.settle()
    bench.spread.worker_lost(1)
    bench.spread.wants("o", 1, 0)
    await bench.settle()
    assert len(bench.workers.asked) == 4


async def test_the_end_of_an_output_names_the_workers_that_knew_it(bench: Bench) -> None:
    bench.publish()
    bench.spread.wants("o", 1, 0)
    bench.spread.wants("o", 2, 0)
    await bench.settle()
    assert bench.spread.forget("o") == {1, 2}
    assert bench.spread.forget("o") == set()


@pytest.mark.parametrize(
    ("loads", "ready", "worker"),
    [
        ([5, 0], [0, 1], 0),  # a small lesson stays in one place
        ([25, 0], [0, 1], 1),
        ([25, 6], [0, 1], 0),
        ([60, 30, 10], [0, 1, 2], 2),
        ([0, 40], [1], 1),  # home is being restarted: whoever is ready
        ([0, 0], [], 0),
    ],
)
def test_a_receiver_goes_where_there_is_clearly_more_room(
    loads: list[int], ready: list[int], worker: int
) -> None:
    assert receiving_worker(0, loads, ready) == worker
