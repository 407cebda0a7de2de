"""`tongke publish`, `watch` and `token` against a real server, as separate processes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests import media
from tests.e2e.aiortc_peers import Player
from tests.e2e.commands import Command
from tests.e2e.polling import until
from tests.e2e.real_server import RealServer

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(100, method="signal"),
]


def _publish(server: RealServer, lesson_id: str, source: object, folder: Path) -> Command:
    url = f"{server.origin}/whip/{lesson_id}/camera"
    token = server.token("teacher", lesson=lesson_id)
    return Command(
        folder, "publish", str(source), url, "--token", token, "--loop", "--kbps", "500", "--json"
    )


def _watch(server: RealServer, lesson_id: str, folder: Path, *more: str) -> Command:
    url = f"{server.origin}/whep/{lesson_id}/camera"
    token = server.token("observer", lesson=lesson_id)
    return Command(folder, "watch", url, "--token", token, "--json", *more)


async def _becomes_live(server: RealServer, lesson_id: str, publish: Command) -> None:
    async def live_and_said() -> tuple[bool, str]:
        lesson = await server.lesson(lesson_id)
        return bool(lesson["streams"]["camera"]["live"]), publish.err

    await until(live_and_said, lambda seen: seen[0], within_s=20, what="the stream is live")


@pytest.mark.parametrize(
    ("clip", "codec", "passthrough"),
    [
        pytest.param(media.h264_clip, "h264", True, id="h264-as-it-is"),
        pytest.param(media.vp8_clip, "vp8", True, id="vp8-as-it-is"),
        pytest.param(media.long_gop_clip, "vp8", False, id="too-few-key-frames-so-encoded"),
        pytest.param(media.foreign_clip, "vp8", False, id="foreign-codec-so-encoded"),
    ],
)
async def test_a_published_file_is_watched(
    server: RealServer,
    tmp_path: Path,
    clip: Callable[[], Path],
    codec: str,
    passthrough: bool,
) -> None:
    lesson = await server.new_lesson()
    async with _publish(server, lesson["id"], clip(), tmp_path) as publish:
        await _becomes_live(server, lesson["id"], publish)
        async with _watch(server, lesson["id"], tmp_path, "--seconds", "4") as watch:
            watched = await watch.outcome(within_s=20)
        sent_as = {
            track["codec"].lower()
            for session in (await server.stats())["sessions"]
            if session["role"] == "publisher"
            for track in session["tracks"]
            if track["kind"] == "video"
        }
        published = await publish.stop()

    assert watched.status == 0, watched.err
    seen = watched.json
    assert seen["ok"] is True
    assert (seen["video"]["width"], seen["video"]["height"]) == (640, 360)
    # 25 frames a second for the four seconds, less the wait for a first key frame.
    assert seen["video"]["frames"] >= 50
    assert seen["video"]["lost"] == 0
    assert seen["audio"]["seconds"] > 2.5
    assert seen["audio"]["rms"] > 0.005
    assert sent_as == {codec}
    assert published.status == 0, published.err
    assert published.json["video"]["codec"] == codec
    assert published.json["video"]["passthrough"] is passthrough
    assert published.json["connections"] == 1


async def test_publishing_and_watching_survive_restarts_of_the_server(
    server: RealServer, tmp_path: Path
) -> None:
    lesson = await server.new_lesson()
    async with (
        _publish(server, lesson["id"], media.h264_clip(), tmp_path) as publish,
        _watch(server, lesson["id"], tmp_path) as watch,
    ):
        await _becomes_live(server, lesson["id"], publish)
        async with Player(server, lesson["id"]) as player:
            await player.receives(frames=25, within_s=20)

        await server.stop()
        await server.start()
        await _becomes_live(server, lesson["id"], publish)
        server.kill()
        await server.start()
        await _becomes_live(server, lesson["id"], publish)

        async with Player(server, lesson["id"]) as player:
            await player.receives(frames=25, within_s=20)

        async def receivers() -> int:
            return int((await server.lesson(lesson["id"]))["streams"]["camera"]["receivers"])

        await until(receivers, lambda n: n == 1, within_s=15, what="the watcher came back")
        published, watched = await publish.stop(), await watch.stop()
    assert published.status == 0, published.err
    assert published.json["connections"] == 3
    assert watched.status == 0, watched.err
    assert watched.json["connections"] >= 2


async def test_watch_records_what_it_saw(server: RealServer, tmp_path: Path) -> None:
    lesson = await server.new_lesson()
    recording = tmp_path / "lesson.mkv"
    async with _publish(server, lesson["id"], media.vp8_clip(), tmp_path) as publish:
        await _becomes_live(server, lesson["id"], publish)
        seconds = ("--seconds", "3", "--record", str(recording))
        async with _watch(server, lesson["id"], tmp_path, *seconds) as watch:
            watched = await watch.outcome(within_s=20)
    assert watched.status == 0, watched.err
    assert media.frames_in(recording) >= 30


async def test_watch_says_what_is_wrong_and_fails(server: RealServer, tmp_path: Path) -> None:
    async with _watch(server, "l_nothing", tmp_path, "--seconds", "2") as watch:
        outcome = await watch.outcome(within_s=15)
    assert outcome.status == 1
    assert outcome.json["ok"] is False
    assert outcome.json["error"]
    assert "Traceback" not in outcome.err


async def test_the_token_command_signs_what_the_server_believes(
    server: RealServer, tmp_path: Path
) -> None:
    lesson = await server.new_lesson()
    arguments = ("--role", "teacher", "--lesson", lesson["id"], "--ttl", "60", "--json")
    async with Command(tmp_path, "token", *arguments, *server.arguments()) as command:
        outcome = await command.outcome(within_s=15)
    assert outcome.status == 0, outcome.err
    me = await server.api("GET", "/me", token=outcome.json["token"])
    assert (me["role"], me["lesson"]) == ("teacher", lesson["id"])
