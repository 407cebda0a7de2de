"""Every codec that browsers speak is forwarded as it is, Chromium to Chromium, Opus beside it."""

from __future__ import annotations

import pytest

from tests.e2e.browsers import Browsers
from tests.e2e.real_server import RealServer

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(90, method="signal"),
]


@pytest.mark.parametrize("codec", ["vp8", "h264", "vp9", "av1"])
async def test_the_codec_arrives_as_it_was_sent(
    server: RealServer, tabs: Browsers, codec: str
) -> None:
    lesson = await server.new_lesson()
    stream = f"{lesson['id']}/camera"
    teacher = await tabs.tab("publisher", f"{server.origin}/healthz")
    await teacher.page.evaluate(
        "([url, token, codec]) => window.e2e.publish(url, token, codec)",
        [f"/whip/{stream}", server.token("teacher", lesson=lesson["id"]), codec],
    )
    point = await tabs.tab("player", f"{server.origin}/healthz")
    await point.page.evaluate(
        "([url, token]) => window.e2e.watch(url, token)",
        [f"/whep/{stream}", server.token("observer", lesson=lesson["id"])],
    )
    first = await point.receives(frames=20)
    assert first.video_codecs == (f"video/{codec.upper()}",)
    assert first.audio_codecs == ("audio/opus",)
    later = await point.receives(frames=30, since=first)
    assert later.peers == 1
    await point.shows_moving_picture("watched")


async def test_a_player_that_lacks_the_codec_is_told_so_or_stays_dark_and_hears_the_sound(
    server: RealServer, tabs: Browsers
) -> None:
    lesson = await server.new_lesson()
    stream = f"{lesson['id']}/camera"
    teacher = await tabs.tab("publisher", f"{server.origin}/healthz")
    await teacher.page.evaluate(
        "([url, token, codec]) => window.e2e.publish(url, token, codec)",
        [f"/whip/{stream}", server.token("teacher", lesson=lesson["id"]), "vp8"],
    )
    point = await tabs.tab("player", f"{server.origin}/healthz")
    refusal = await point.page.evaluate(
        """([url, token]) => window.e2e.watch(url, token, "h264").then(() => "", String)""",
        [f"/whep/{stream}", server.token("observer", lesson=lesson["id"])],
    )
    if refusal:
        assert " 400 " in refusal or " 406 " in refusal, refusal
        return
    heard = await point.receives(frames=0)
    assert heard.frames == 0, "VP8 was decoded by a player that offered only H.264"
