"""A lesson that is published for some seconds is there as files, with every frame of them."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests import media
from tests.e2e import classroom
from tests.e2e.browsers import Browsers
from tests.e2e.commands import Command
from tests.e2e.polling import Figures, until
from tests.e2e.real_server import RealServer
from tests.streamer import recorded

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(100, method="signal"),
]

SERVER_SETTINGS = {"modes.dispatch.recording": "true", "recording.min_free_mb": "0"}
FPS = 25

# Plays a file of the recordings as a page could: fetched with the token, from a blob.
PLAY = """async ({ url, token }) => {
  const answer = await fetch(url, { headers: { Authorization: `Bearer ${token}` } });
  const video = document.createElement("video");
  video.muted = true;
  video.src = URL.createObjectURL(await answer.blob());
  await video.play();
  await new Promise((done) => setTimeout(done, 700));
  const { currentTime, videoWidth } = video;
  const { totalVideoFrames } = video.getVideoPlaybackQuality();
  video.pause();
  return { currentTime, videoWidth, totalVideoFrames, sound: video.webkitAudioDecodedByteCount };
}"""


def _publish(server: RealServer, lesson_id: str, source: object, folder: Path) -> Command:
    url = f"{server.origin}/whip/{lesson_id}/camera"
    token = server.token("teacher", lesson=lesson_id)
    return Command(folder, "publish", str(source), url, "--token", token, "--loop", "--json")


async def _listed(server: RealServer, lesson_id: str) -> dict[str, Any]:
    found: dict[str, Any] = await server.api(
        "GET", f"/lessons/{lesson_id}/recordings", token=server.token("ops")
    )
    return found


async def _grown(server: RealServer, lesson_id: str, seconds: float) -> dict[str, Any]:
    """The list once a file that is being written is so long."""
    return await until(
        lambda: _listed(server, lesson_id),
        lambda seen: any(
            one["state"] == "recording" and one["duration_s"] >= seconds
            for one in seen["recordings"]
        ),
        within_s=30,
        what=f"{seconds} s are recorded",
    )


async def _fetch(server: RealServer, lesson_id: str, name: str, folder: Path) -> Path:
    url = f"{server.origin}/api/v1/lessons/{lesson_id}/recordings/{name}"
    headers = {"Authorization": f"Bearer {server.token('teacher', lesson=lesson_id)}"}
    async with server.http.get(url, headers=headers) as response:
        assert response.status == 200
        body = await response.read()
    path = folder / name
    await asyncio.to_thread(path.write_bytes, body)
    return path


@pytest.mark.parametrize(
    ("clip", "codec", "suffix"),
    [
        pytest.param(media.h264_clip, "h264", ".mp4", id="h264"),
        pytest.param(media.flash_and_beep_clip, "vp8", ".webm", id="vp8"),
    ],
)
async def test_what_is_published_is_recorded_frame_by_frame(
    server: RealServer,
    tmp_path: Path,
    clip: Callable[[], Path],
    codec: str,
    suffix: str,
    figures: Figures,
) -> None:
    lesson = await server.new_lesson()
    assert lesson["recording"] is True
    async with _publish(server, lesson["id"], clip(), tmp_path) as publish:
        running = await _grown(server, lesson["id"], 3.0)
        assert (running["recording"], running["state"]) == (True, "recording")
        await publish.stop()
    ended = await server.api("DELETE", f"/lessons/{lesson['id']}", token=server.token("ops"))
    assert ended["recording"] is False
    listed = await until(
        lambda: _listed(server, lesson["id"]),
        lambda seen: all(one["state"] == "complete" for one in seen["recordings"]),
        within_s=15,
        what="the recording is complete",
    )
    assert listed["state"] == "off"
    (one,) = listed["recordings"]
    assert (one["codec"], one["width"], one["height"]) == (codec, 640, 360)
    path = await _fetch(server, lesson["id"], one["file"], tmp_path)
    assert path.suffix == suffix
    found = recorded.probe(path)
    # Nothing is lost on loopback, so what is not there would be our fault.
    assert found["frames"]["video"] == pytest.approx(one["duration_s"] * FPS, abs=3)
    assert found["length_s"] == pytest.approx(one["duration_s"], abs=0.2)
    if codec == "vp8":
        assert found["frames"]["audio"] == pytest.approx(one["duration_s"] * 50, abs=10)
        flash_s, beep_s = recorded.flash_and_beep_s(path)
        figures.append(f"the beep is {(beep_s - flash_s) * 1000:.0f} ms behind the flash")
        assert abs(flash_s - beep_s) < 0.040


async def test_a_killed_recording_process_costs_a_second_and_is_replaced(
    server: RealServer, tmp_path: Path
) -> None:
    lesson = await server.new_lesson()
    async with _publish(server, lesson["id"], media.vp8_clip(), tmp_path) as publish:
        before = await _grown(server, lesson["id"], 2.0)
        family = server.process.family()
        (pid,) = [pid for pid, command in family.items() if "recording_process" in command]
        os.kill(pid, signal.SIGKILL)
        listed = await until(
            lambda: _listed(server, lesson["id"]),
            lambda seen: (
                [one["state"] for one in seen["recordings"]] == ["interrupted", "recording"]
            ),
            within_s=20,
            what="another file is being written",
        )
        await publish.stop()
    one = listed["recordings"][0]
    assert one["file"] == before["recordings"][0]["file"]
    path = await _fetch(server, lesson["id"], one["file"], tmp_path)
    assert recorded.probe(path)["frames"]["video"] >= FPS


async def test_a_lesson_from_a_browser_is_recorded_and_the_pages_say_so(
    server: RealServer, tabs: Browsers, tmp_path: Path
) -> None:
    teacher = await classroom.teacher_starts(server, tabs)
    code = await classroom.join_code(teacher)
    lesson = await classroom.lesson_of(server, code)
    point = await classroom.point_joins(server, tabs, code, "红星小学")
    await point.receives(frames=10)
    for page in (teacher, point):
        sign = page.by("recording")
        assert await sign.is_visible()
        assert await sign.inner_text() == "正在录制"
    await _grown(server, lesson["id"], 1.5)
    await server.api("DELETE", f"/lessons/{lesson['id']}", token=server.token("ops"))
    listed = await until(
        lambda: _listed(server, lesson["id"]),
        lambda seen: all(one["state"] == "complete" for one in seen["recordings"]),
        within_s=15,
        what="the recording is complete",
    )
    # While the layers of the picture grow, each begins a file; the last is the largest there was.
    longest = max(listed["recordings"], key=lambda one: one["duration_s"])
    path = await _fetch(server, lesson["id"], longest["file"], tmp_path)
    found = recorded.probe(path)
    assert found["frames"]["video"] > longest["duration_s"] * 5
    assert found["frames"]["audio"] > longest["duration_s"] * 45
    played = await point.page.evaluate(
        PLAY,
        {
            "url": f"/api/v1/lessons/{lesson['id']}/recordings/{longest['file']}",
            "token": server.token("ops"),
        },
    )
    assert played["videoWidth"] == longest["width"]
    assert played["currentTime"] > 0.2
    assert played["totalVideoFrames"] > 2
    assert played["sound"] > 0
    assert tabs.console_errors() == {}
