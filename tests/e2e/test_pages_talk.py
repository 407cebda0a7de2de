"""The pages of a class that talks, against a stand-in server: consent, signs, wall and floor.

`test_classroom_talks.py` judges real media through the real server.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.e2e.browsers import Browsers, Tab
from tests.e2e.fake_server import (
    CODE,
    FakeServer,
    make_floor,
    make_return,
    make_seat,
    make_wall,
)
from tests.e2e.polling import until
from tests.e2e.test_screens import FOLDER, IN_THE_WAY, SIZES

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(120, method="signal"),
]

SENT = """async () => {
  const sent = { frames: 0, packets: 0, kinds: [] };
  for (const sender of __tongke.pcs.return?.getSenders() ?? []) {
    if (sender.track?.readyState === "live") sent.kinds.push(sender.track.kind);
  }
  for (const entry of (await __tongke.pcs.return?.getStats())?.values() ?? []) {
    if (entry.type === "outbound-rtp") sent.packets += entry.packetsSent;
  }
  return sent;
}"""


@pytest_asyncio.fixture(loop_scope="module")
async def fake() -> AsyncIterator[FakeServer]:
    server = FakeServer(floor=make_floor(), return_size=make_return())
    await server.start()
    yield server
    await server.stop()


async def join(
    fake: FakeServer, tabs: Browsers, *scripts: str, locale: str = "zh-CN", **more: Any
) -> Tab:
    tab = await tabs.tab("join", f"{fake.base}/join/{CODE}", scripts=scripts, locale=locale, **more)
    await tab.by("join-name").fill("红星小学" if locale == "zh-CN" else "Red Star School")
    await tab.by("join-submit").click()
    return tab


async def agree(fake: FakeServer, tabs: Browsers) -> Tab:
    tab = await join(fake, tabs)
    await tab.by("return-open").click()
    await tab.by("return-agree").click()
    await tab.state_is("return-sign", "both")
    return tab


async def kinds(tab: Tab) -> list[str]:
    sent = await tab.page.evaluate(SENT)
    return sorted(sent["kinds"])


async def becomes(tab: Tab, condition: str) -> None:
    async def look() -> bool:
        return bool(await tab.page.evaluate(condition))

    await until(look, bool, within_s=10, what=condition)


async def text_becomes(tab: Tab, testid: str, part: str) -> None:
    async def look() -> str:
        return " ".join([await one.inner_text() for one in await tab.by(testid).all()])

    await until(look, lambda text: part in text, within_s=10, what=f"{testid} says {part}")


# --- the teaching point's page -----------------------------------------------------------------


async def test_nothing_is_sent_before_the_class_has_seen_itself_and_agreed(
    fake: FakeServer, tabs: Browsers
) -> None:
    tab = await join(fake, tabs)
    await tab.by("return-open").click()
    await tab.shows_moving_picture("return-preview")
    assert "whip/return" not in fake.posts
    await tab.by("return-agree").click()
    await tab.state_is("return-sign", "both")
    assert await kinds(tab) == ["audio", "video"]
    await tab.shows_moving_picture("self-video")
    assert tabs.console_errors() == {}


async def test_the_question_is_asked_once_and_the_answer_is_remembered(
    fake: FakeServer, tabs: Browsers
) -> None:
    tab = await join(fake, tabs)
    await tab.by("return-decline").click()
    await tab.state_is("return-sign", "none")
    await tab.page.reload()
    await tab.state_is("return-sign", "none")
    assert not await tab.by("return-ask").is_visible()
    await tab.by("return-reopen").click()
    await tab.by("return-agree").click()
    await tab.state_is("return-sign", "both")
    await tab.page.reload()
    await tab.state_is("return-sign", "both")
    assert tabs.console_errors() == {}


async def test_a_lesson_without_returns_asks_nothing(fake: FakeServer, tabs: Browsers) -> None:
    fake.return_size = make_return("off")
    tab = await join(fake, tabs)
    await tab.by("raise-hand").wait_for()
    await becomes(tab, "!document.querySelector('[data-testid=raise-hand]').disabled")
    assert not await tab.by("return-ask").is_visible()
    assert not await tab.by("return-sign").is_visible()


async def test_the_local_switches_win_and_are_remembered(fake: FakeServer, tabs: Browsers) -> None:
    tab = await agree(fake, tabs)
    await tab.by("return-camera").click()
    assert (
        await tab.page.evaluate(
            "document.querySelector('#self').srcObject?.getVideoTracks().length ?? 0"
        )
        == 0
    )
    await tab.state_is("return-sign", "sound")
    assert await kinds(tab) == ["audio"]
    await fake.set_floor(seats=["s_1"])
    await fake.tell(make_return("full"))
    await text_becomes(tab, "floor-banner", "轮到你们了")
    assert await kinds(tab) == ["audio"]
    await tab.by("return-mic").click()
    await tab.state_is("return-sign", "none")
    assert "whip/return" in fake.deletes
    await tab.page.reload()
    await tab.state_is("return-sign", "none")
    assert await kinds(tab) == []
    await tab.by("return-mic").click()
    await tab.state_is("return-sign", "sound")
    assert tabs.console_errors() == {}


async def test_what_is_sent_follows_the_quality_asked_for(fake: FakeServer, tabs: Browsers) -> None:
    tab = await agree(fake, tabs)
    limits = """() => {
      const sender = __tongke.pcs.return.getSenders().find((s) => s.track.kind === "video");
      const [one, ...more] = sender.getParameters().encodings;
      const height = sender.track.getSettings().height / one.scaleResolutionDownBy;
      return [one.maxBitrate, one.maxFramerate, Math.round(height), more.length];
    }"""
    assert (await tab.page.evaluate(limits))[:2] == [200_000, 15]
    assert (await tab.page.evaluate(limits))[2] <= 180
    await fake.tell(make_return("full"))
    await becomes(tab, f"({limits})()[0] === 1500000")
    _rate, fps, height, more = await tab.page.evaluate(limits)
    assert (fps, more) == (25, 0) and height > 180
    await fake.tell(make_return("off"))
    await until(deleted(fake, "whip/return"), bool, within_s=5, what="the return is taken down")
    await becomes(tab, "!document.querySelector('#self').srcObject")
    assert tabs.console_errors() == {}


def deleted(fake: FakeServer, what: str) -> Any:
    async def look() -> bool:
        return what in fake.deletes

    return look


async def test_without_a_camera_sound_alone_is_sent(fake: FakeServer, tabs: Browsers) -> None:
    no_camera = """const open = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
    navigator.mediaDevices.getUserMedia = async (wanted) => {
      if (wanted.video) throw new DOMException("none", "NotFoundError");
      return open(wanted);
    };
    navigator.mediaDevices.enumerateDevices = async () => [{ kind: "audioinput" }];"""
    tab = await join(fake, tabs, no_camera)
    await tab.by("return-open").click()
    await tab.by("return-agree").click()
    await tab.state_is("return-sign", "sound")
    assert await kinds(tab) == ["audio"]


async def test_without_permission_the_class_just_watches(fake: FakeServer, tabs: Browsers) -> None:
    denied = """navigator.mediaDevices.getUserMedia = async () => {
      throw new DOMException("no", "NotAllowedError"); };"""
    tab = await join(fake, tabs, denied)
    await tab.by("return-open").click()
    await text_becomes(tab, "return-ask", "浏览器没有得到")
    await tab.by("return-decline").click()
    await tab.state_is("return-sign", "none")
    assert "whip/return" not in fake.posts
    assert tabs.console_errors() == {}


async def test_the_queue_the_floor_and_handing_it_back_are_shown(
    fake: FakeServer, tabs: Browsers
) -> None:
    tab = await agree(fake, tabs)
    await fake.set_floor(queue=["s_9", "s_1"])
    await text_becomes(tab, "queue-place", "2")
    await fake.set_floor(queue=[], seats=["s_1"])
    await text_becomes(tab, "floor-banner", "轮到你们了")
    await text_becomes(tab, "return-sign", "全班现在看得见、听得见你们")
    await fake.set_floor(muted=["s_1"])
    await text_becomes(tab, "return-sign", "静音")
    await tab.by("hand-back").focus()
    await tab.page.keyboard.press("Enter")
    await tab.by("floor-banner").wait_for(state="hidden")
    assert {"type": "hand-back"} in fake.heard
    assert tabs.console_errors() == {}


async def test_the_mixed_sound_takes_the_place_of_the_teachers_while_others_speak(
    fake: FakeServer, tabs: Browsers
) -> None:
    fake.lesson["streams"]["stage"] = dict(fake.lesson["streams"]["camera"])
    tab = await join(fake, tabs)
    await fake.set_live("camera")
    await tab.state_is("connection-state", "live")
    await until(posted(fake, "whep/class"), bool, within_s=5, what="the mixed sound is asked for")
    await becomes(tab, "!camera.muted && voices.muted")
    await fake.set_floor(seats=["s_2"])
    await becomes(tab, "camera.muted && !voices.muted")
    await fake.set_floor(seats=["s_1"])
    await becomes(tab, "!camera.muted && voices.muted")


def posted(fake: FakeServer, what: str) -> Any:
    async def look() -> bool:
        return what in fake.posts

    return look


# --- the teacher's page ------------------------------------------------------------------------


async def teach(fake: FakeServer, tabs: Browsers, **more: Any) -> Tab:
    tab = await tabs.tab("teach", f"{fake.base}/teach#token=teacher", **more)
    await tab.by("start-lesson").click()
    await tab.state_is("air-state", "connected")
    fake.lesson["streams"]["stage"] = dict(fake.lesson["streams"]["camera"])
    now = time.time()
    names = ("红星小学 三年级", "清水教学点", "青山小学", "河湾希望小学")
    if more.get("locale") == "en":
        names = ("Red Star School, year 3", "Clearwater Point", "Green Hill", "Riverbend Hope")
    hands = (now - 9, None, now - 2, None)
    fake.seats = [
        make_seat(n, name, "good", hand=hand)
        for n, (name, hand) in enumerate(zip(names, hands, strict=True), 1)
    ]
    fake.wall = make_wall("s_1", "s_2", "s_3", "s_4")
    await fake.publish()
    await fake.set_floor(queue=["s_1", "s_3"])
    await fake.tell(fake.wall)
    await tab.by("wall-tile").first.wait_for()
    return tab


async def test_the_wall_appears_with_the_first_return_and_a_tile_is_enlarged_by_keyboard(
    fake: FakeServer, tabs: Browsers
) -> None:
    tab = await teach(fake, tabs)
    await tab.shows_moving_picture("wall-video")
    assert {"whep/wall", "whep/teacher-mix"} <= set(fake.posts)
    await tab.by("wall-tile").nth(1).focus()
    await tab.page.keyboard.press("Enter")
    await tab.shows_moving_picture("enlarged-video")
    assert "whep/return~s_2" in fake.posts
    await tab.page.keyboard.press("Escape")
    await tab.by("enlarged-video").wait_for(state="hidden")
    focused = await tab.page.evaluate("document.activeElement.dataset.key")
    assert focused == "s_2"
    assert tabs.console_errors() == {}


async def test_the_teacher_conducts_the_floor(fake: FakeServer, tabs: Browsers) -> None:
    tab = await teach(fake, tabs)
    await tab.by("grant-floor").first.click()
    await tab.by("revoke-floor").wait_for()
    await text_becomes(tab, "floor-count", "1 / 2")
    await tab.by("mute-seat").nth(2).click()
    await tab.by("mute-all").click()
    await text_becomes(tab, "mute-all", "取消全部静音")
    await tab.by("all-answer").click()
    await text_becomes(tab, "all-answer", "结束")
    await tab.by("stage-layout").select_option("grid")
    await tab.by("revoke-floor").click()
    await tab.by("revoke-floor").wait_for(state="detached")
    asked = [one for one in fake.heard if one["type"] != "hand"]
    assert asked == [
        {"type": "grant", "seat": "s_1"},
        {"type": "mute", "seat": "s_3"},
        {"type": "mute-all"},
        {"type": "all-answer", "on": True},
        {"type": "layout", "layout": "grid"},
        {"type": "revoke", "seat": "s_1"},
    ]
    assert tabs.console_errors() == {}


async def test_a_refusal_and_a_howl_are_said(fake: FakeServer, tabs: Browsers) -> None:
    tab = await teach(fake, tabs)
    full = {"type": "https://tongke.dev/problems/floor-full", "status": 409, "size": 2}
    await fake.tell({"type": "error", "problem": full})
    await text_becomes(tab, "floor-refusal", "2")
    await fake.tell({"type": "howl", "seat": "s_2", "frequency_hz": 1200})
    await text_becomes(tab, "howl", "清水教学点")


# --- how it looks ------------------------------------------------------------------------------


@pytest.mark.parametrize("locale", ["zh-CN", "en"])
async def test_the_talking_pages_fit_their_screens(
    fake: FakeServer, tabs: Browsers, locale: str
) -> None:
    teacher = await teach(fake, tabs, locale=locale, size=SIZES[0])
    await fake.set_floor(seats=["s_2"], queue=["s_1", "s_3"], muted=["s_4"])
    await fake.tell({"type": "howl", "seat": "s_2", "frequency_hz": 1200})
    await fake.tell({"type": "stage", "layout": "pip", "why": "floor", "seat": "s_2"})
    await teacher.shows_moving_picture("wall-video")
    await shoot(teacher, f"teach-wall-{locale}")
    for size in SIZES:
        await teacher.page.set_viewport_size({"width": size[0], "height": size[1]})
        for testid in ("wall-video", "join-code", "seat", "share-slides", "end-lesson"):
            box = await teacher.by(testid).first.bounding_box()
            assert box and box["y"] + box["height"] <= size[1], f"{testid} is off the screen"
    point = await join(fake, tabs, locale=locale, size=SIZES[0])
    await shoot(point, f"join-ask-{locale}")
    await point.by("return-open").click()
    await point.shows_moving_picture("return-preview")
    await shoot(point, f"join-preview-{locale}")
    await point.by("return-agree").click()
    await point.state_is("return-sign", "both")
    await fake.set_floor(seats=["s_2"], queue=["s_3", "s_1"])
    await fake.tell({"type": "hand", "raised": True})
    await point.by("queue-place").wait_for()
    await point.state_is("connection-state", "live")
    await shoot(point, f"join-visible-{locale}")
    await fake.set_floor(seats=["s_1"], queue=[])
    await point.by("hand-back").wait_for()
    await shoot(point, f"join-floor-{locale}")
    assert tabs.console_errors() == {}


async def shoot(tab: Tab, name: str) -> None:
    """One picture per size; the page must fit each."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for width, height in SIZES:
        await tab.page.set_viewport_size({"width": width, "height": height})
        await tab.page.screenshot(path=FOLDER / f"{name}-{width}x{height}.png")
        in_the_way = await tab.page.evaluate(IN_THE_WAY)
        assert in_the_way == [], f"{name} at {width}×{height}: {in_the_way}"
