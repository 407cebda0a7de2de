"""Workers as processes: started, spoken to, killed, hung, stopped."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from signaling import supervisor as module
from signaling.placement import EXPECTED_SESSIONS, Placement
from signaling.supervisor import (
    Listener,
    Supervisor,
    WorkerRefusedError,
    WorkerUnavailableError,
)
from streamer import control
from tests.signaling.conftest import FAKE_WORKER, OFFER, ROOT

Events = list[tuple[str, int]]
Make = Callable[..., Awaitable[tuple[Supervisor, Events]]]


def settings(index: int, *, dies: bool = False) -> control.WorkerSettings:
    return control.WorkerSettings(
        worker=index,
        binds=[control.Address("127.0.0.1", 0)],
        announce=["192.0.2.66"] if dies else [],
        certificate_pem="",
        key_pem="",
    )


@pytest.fixture
async def make(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Make]:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    made: list[Supervisor] = []

    async def make(count: int = 1, **options: Any) -> tuple[Supervisor, Events]:
        events: Events = []
        listener = Listener(
            notified=lambda worker, message: events.append((type(message).__name__, worker)),
            ready=lambda worker: events.append(("ready", worker)),
            lost=lambda worker: events.append(("lost", worker)),
        )
        supervisor = Supervisor(
            count,
            options.pop("settings_for", settings),
            listener,
            **{"module": FAKE_WORKER, **options},
        )
        made.append(supervisor)
        await supervisor.start()
        return supervisor, events

    yield make
    for supervisor in made:
        await supervisor.stop()
        for worker in supervisor.workers:
            assert worker.process is None or worker.process.returncode is not None


def receiver(session_id: str = "a", extra: str = "") -> control.OpenReceiver:
    return control.OpenReceiver(
        request_id=0, session_id=session_id, output_id="l/camera", offer=OFFER + extra
    )


async def seen(events: Events, event: tuple[str, int], times: int = 1) -> None:
    async with asyncio.timeout(15):
        while events.count(event) < times:  # noqa: ASYNC110 - another process is awaited
            await asyncio.sleep(0.01)


async def test_workers_get_ready_and_answer_each_request_once(make: Make) -> None:
    supervisor, events = await make(2)
    await supervisor.wait_ready()
    assert supervisor.all_ready
    replies = await asyncio.gather(
        *(supervisor.request(n % 2, receiver(f"s{n}")) for n in range(50))
    )
    etags = [reply.etag for reply in replies if isinstance(reply, control.Opened)]
    assert etags == [f"s{n}-1" for n in range(50)]
    await seen(events, ("FirstKeyframe", 1), times=25)


async def test_a_refusal_is_an_error_with_its_code(make: Make) -> None:
    supervisor, _ = await make()
    await supervisor.wait_ready()
    with pytest.raises(WorkerRefusedError) as error:
        await supervisor.request(0, control.CloseSession(request_id=0, session_id="none"))
    assert error.value.code == "no-such-session"


async def test_a_killed_worker_is_restarted_and_its_requests_fail(make: Make) -> None:
    supervisor, events = await make()
    await supervisor.wait_ready()
    with pytest.raises(WorkerUnavailableError):
        await supervisor.request(0, receiver(extra="a=fake:die\r\n"))
    await seen(events, ("lost", 0))
    await supervisor.request(0, receiver())  # waits until the new one is ready
    assert events.index(("lost", 0)) < len(events) - 1 - events[::-1].index(("ready", 0))
    assert supervisor.workers[0].restarts == 1


async def test_a_worker_killed_from_outside_comes_back_as_another_process(make: Make) -> None:
    supervisor, events = await make(2)
    await supervisor.wait_ready()
    victim, other = (worker.process for worker in supervisor.workers)
    assert victim is not None
    assert other is not None
    os.kill(victim.pid, signal.SIGKILL)
    await seen(events, ("ready", 0), times=2)
    assert supervisor.workers[0].process is not victim
    assert supervisor.workers[1].process is other
    assert other.returncode is None


async def test_a_worker_that_hangs_is_killed(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "POLL_S", 0.1)
    supervisor, events = await make()
    await supervisor.wait_ready()
    with pytest.raises(WorkerUnavailableError):
        await supervisor.request(0, receiver(extra="a=fake:hang\r\n"), timeout_s=0.1)
    await seen(events, ("ready", 0), times=2)
    assert supervisor.workers[0].restarts == 1


async def test_a_worker_that_dies_at_once_is_restarted_ever_later(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    delays: list[float] = []
    sleep = asyncio.sleep

    async def note(seconds: float) -> None:
        delays.append(seconds)
        await sleep(0)

    # Only the supervisor's restarts sleep here, and its polls, which are left out.
    monkeypatch.setattr("signaling.supervisor.asyncio.sleep", note)
    monkeypatch.setattr(module, "POLL_S", 0.011)
    monkeypatch.setattr(module.Supervisor, "_poll", lambda self: sleep(3600))
    supervisor, events = await make(settings_for=lambda index: settings(index, dies=True))
    async with asyncio.timeout(15):
        while len(delays) < 5:
            await sleep(0.01)
    assert delays[:5] == [0.0, 0.25, 0.5, 1.0, 2.0]
    assert not supervisor.all_ready
    assert ("lost", 0) not in events  # nothing was lost: it never served


async def test_a_worker_that_never_gets_ready_is_named(make: Make) -> None:
    supervisor, _ = await make(settings_for=lambda index: settings(index, dies=True))
    with pytest.raises(WorkerUnavailableError, match="worker 0 did not start"):
        await supervisor.wait_ready(0.2)


async def test_a_module_that_does_not_exist_only_keeps_the_server_unready(make: Make) -> None:
    supervisor, _ = await make(module="tests.signaling.no_such_module")
    with pytest.raises(WorkerUnavailableError):
        await supervisor.wait_ready(0.3)


async def test_a_worker_ends_when_its_channel_closes(make: Make) -> None:
    supervisor, events = await make()
    await supervisor.wait_ready()
    process = supervisor.workers[0].process
    assert process is not None
    supervisor._stopping = True  # as if this process were gone: nobody restarts or kills it
    writer = supervisor.workers[0]._writer
    assert writer is not None
    writer.close()
    async with asyncio.timeout(10):
        assert await process.wait() == 0
    assert events[-1][0] != "lost"


async def test_stop_ends_a_hung_worker_too(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DRAIN_TIMEOUT_S", 0.1)
    monkeypatch.setattr(module, "EXIT_TIMEOUT_S", 0.1)
    supervisor, _ = await make()
    await supervisor.wait_ready()
    with pytest.raises(WorkerUnavailableError):
        await supervisor.request(0, receiver(extra="a=fake:hang\r\n"), timeout_s=0.05)
    await supervisor.stop()
    process = supervisor.workers[0].process
    assert process is not None
    assert process.returncode is not None


async def test_statistics_of_a_dead_worker_are_kept(make: Make) -> None:
    supervisor, events = await make()
    await supervisor.wait_ready()
    await supervisor.refresh_stats(sessions=False)
    worker = supervisor.workers[0]
    assert worker.process is not None
    worker.process.kill()
    await seen(events, ("lost", 0))
    assert worker.past.counters["rtp_packets_forwarded"] >= 100
    assert worker.past.cpu_seconds == 1.5
    assert worker.past.drops == {"stun-rejected": 2}


async def test_a_listener_that_fails_costs_no_worker(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))

    def fail(*_: object) -> None:
        raise ZeroDivisionError

    supervisor = Supervisor(
        1, settings, Listener(notified=fail, ready=fail, lost=fail), module=FAKE_WORKER
    )
    await supervisor.start()
    try:
        await supervisor.wait_ready()
        await supervisor.request(0, receiver("a"))
        await supervisor.request(0, receiver("b"))
        assert supervisor.workers[0].restarts == 0
        assert "incident" in caplog.text
    finally:
        await supervisor.stop()


# --- placement -----------------------------------------------------------------------------------


def test_lessons_spread_over_the_workers_and_stay_where_they_are() -> None:
    placement = Placement(3)
    assert [placement.place(lesson, {}) for lesson in "abcd"] == [0, 1, 2, 0]
    assert placement.place("b", {"b": 10_000}) == 1
    assert placement.lessons_on(0) == ["a", "d"]


def test_a_busy_worker_gets_no_new_lesson() -> None:
    placement = Placement(2)
    placement.place("a", {})
    sessions = {"a": 5 * EXPECTED_SESSIONS}
    assert [placement.place(lesson, sessions) for lesson in "bcde"] == [1, 1, 1, 1]
    placement.forget("a")
    assert placement.place("f", {}) == 0


def test_a_worker_that_is_down_is_avoided_while_another_is_up() -> None:
    placement = Placement(2)
    assert placement.place("a", {}, ready=[1]) == 1
    assert placement.place("b", {}, ready=[]) == 0


def test_histograms_of_other_bounds_are_left_out_of_the_sum() -> None:
    one = control.Histogram(bounds=[1.0], counts=[1, 2], sum=3.0)
    other = control.Histogram(bounds=[2.0], counts=[5, 5], sum=9.0)
    assert module.merge([one, one, other]) == control.Histogram(
        bounds=[1.0], counts=[2, 4], sum=6.0
    )
