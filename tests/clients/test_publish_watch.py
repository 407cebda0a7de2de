"""`Publisher` and `Watcher` against a WHIP and WHEP server of aiortc's own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from clients.publish import Publisher
from clients.sources import open_source
from clients.watch import Watcher
from clients.whip import WhipClient
from clients.words import CommandError
from tests import media

from .conftest import TOKEN, FakeServer, Refusal

FULL = Refusal(
    503, "receiver-cap-reached", {"position": 2, "ticket": "ticket-1"}, {"Retry-After": "1"}
)


@asynccontextmanager
async def publishing(fake: FakeServer, source: str, **more: int) -> AsyncIterator[Publisher]:
    opened = open_source(source, loop=True)
    async with WhipClient(fake.url("whip"), TOKEN) as client:
        publisher = Publisher(opened, client, kbps=500, **more)
        task = asyncio.ensure_future(publisher.run())
        try:
            yield publisher
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            opened.close()


async def until(condition: Callable[[], bool], within_s: float = 20.0) -> None:
    for _ in range(round(within_s / 0.05)):
        if condition():
            return
        await asyncio.sleep(0.05)
    raise AssertionError("it did not come true in time")


@pytest.mark.parametrize(
    ("clip", "promises_keyframes"),
    [
        pytest.param(media.h264_clip, False, id="h264-as-it-is"),
        pytest.param(media.vp8_clip, False, id="vp8-as-it-is"),
        pytest.param(media.foreign_clip, True, id="encoded"),
    ],
)
async def test_what_is_published_can_be_decoded(
    fake: FakeServer, clip: Callable[[], Path], promises_keyframes: bool
) -> None:
    async with publishing(fake, str(clip())) as publisher:
        await until(lambda: fake.frames >= 25 and fake.audio_frames >= 25)
    assert fake.sizes == {(640, 360)}
    assert ("nack pli" in fake.offers[0]) is promises_keyframes
    assert len(fake.deleted) == 1, "it said goodbye"
    assert publisher.tally.frames >= 25


async def test_a_forgotten_publisher_comes_back_by_itself(fake: FakeServer) -> None:
    async with publishing(fake, str(media.h264_clip())) as publisher:
        await until(lambda: fake.frames >= 10)
        await fake.forget()
        fake.refusals = [Refusal(503, "draining", {}, {"Retry-After": "0"})] * 2
        before = fake.frames
        await until(lambda: fake.frames >= before + 10)
    assert publisher.tally.connections == 2


@pytest.mark.parametrize("kind", ["forbidden", "no-such-lesson", "lesson-ended"])
async def test_what_cannot_get_better_is_not_tried_again(fake: FakeServer, kind: str) -> None:
    fake.refusals = [Refusal({"forbidden": 403, "lesson-ended": 410}.get(kind, 404), kind)]
    with pytest.raises(CommandError, match=kind):
        await _publish_once(fake)
    assert len(fake.tickets) == 1


async def test_retries_end_where_the_user_said(fake: FakeServer) -> None:
    fake.refusals = [Refusal(503, "draining")] * 10
    with pytest.raises(CommandError, match="draining"):
        await _publish_once(fake, retry=1)
    assert len(fake.tickets) == 2


async def _publish_once(fake: FakeServer, retry: int | None = None) -> None:
    source = open_source(str(media.vp8_clip()), loop=True)
    async with WhipClient(fake.url("whip"), TOKEN) as client:
        try:
            publisher = Publisher(source, client, kbps=500, retry=retry)
            await asyncio.wait_for(publisher.run(), 20)
        finally:
            source.close()


async def test_a_watcher_sees_and_hears_the_lesson(fake: FakeServer) -> None:
    async with publishing(fake, str(media.vp8_clip())):
        await until(lambda: fake.frames >= 5)
        watcher = await _watch(fake, seconds=2.0)
    report = watcher.report()
    assert report["connections"] == 1
    assert watcher.reception.frames >= 20
    assert (watcher.reception.width, watcher.reception.height) == (640, 360)
    assert watcher.reception.audio_s > 1.0 and watcher.reception.rms > 0.005
    assert watcher.totals.video.packets > 20 and watcher.totals.video.lost == 0
    assert watcher.first_frame_s is not None


async def test_a_full_lesson_is_waited_for_with_the_ticket(fake: FakeServer) -> None:
    fake.refusals = [FULL, FULL]
    watcher = await _watch(fake, seconds=0.2)
    assert fake.tickets == [None, "ticket-1", "ticket-1"]
    assert watcher.totals.connections == 1 and watcher.totals.waited_s == 2.0


async def test_who_will_not_wait_is_told_the_lesson_is_full(fake: FakeServer) -> None:
    fake.refusals = [FULL]
    with pytest.raises(CommandError, match="receiver-cap-reached"):
        await _watch(fake, seconds=1, wait=False)


async def test_a_watcher_whose_server_forgot_it_comes_back(fake: FakeServer) -> None:
    async with publishing(fake, str(media.vp8_clip())):
        await until(lambda: fake.frames >= 5)
        async with WhipClient(fake.url("whep"), TOKEN) as client:
            watcher = Watcher(client)
            task = asyncio.ensure_future(watcher.run())
            await until(lambda: watcher.reception.frames > 5)
            await fake.forget()
            before = watcher.reception.frames
            # The watcher may be back before the publisher is, and then comes back once more.
            await until(lambda: watcher.totals.connections >= 2)
            await asyncio.sleep(0)
            assert watcher.reception.frames >= before
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
    assert fake.sessions == 0, "everybody said goodbye"


async def test_a_server_that_never_answered_is_a_failure_and_not_an_endless_wait() -> None:
    async with WhipClient("http://127.0.0.1:9/whep/l/camera", TOKEN) as client:
        with pytest.raises(CommandError, match=r"127\.0\.0\.1:9"):
            await asyncio.wait_for(Watcher(client).run(), 10)


async def _watch(fake: FakeServer, *, seconds: float, wait: bool = True) -> Watcher:
    async with WhipClient(fake.url("whep"), TOKEN) as client:
        watcher = Watcher(client, seconds=seconds, wait=wait)
        await asyncio.wait_for(watcher.run(), 30)
        return watcher
