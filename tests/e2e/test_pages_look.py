"""The pages against a stand-in server: words, hooks, keyboard, states and errors, without workers.

`test_lesson.py` and its neighbours judge real media through the real server; here every state that
a page can show is brought about on purpose.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.e2e.browsers import Browsers, Tab
from tests.e2e.fake_server import CODE, WEB, FakeServer, make_seat
from tests.e2e.polling import until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120, method="signal")]
in_browser = pytest.mark.asyncio(loop_scope="module")

LOCALES = {
    name: json.loads((WEB / "locales" / f"{name}.json").read_text(encoding="utf-8"))
    for name in ("zh-CN", "en")
}
SOURCES = sorted(
    path for path in WEB.rglob("*") if path.suffix in (".js", ".html") and path.is_file()
)
NAMESPACES = {key.split(".")[0] for key in LOCALES["en"]}
HOOKS = {
    "teach": "lesson-title lesson-mode start-lesson end-lesson share-slides join-code seat "
    "raise-hand-flag",
    "join": "join-code-input join-name join-submit lesson-video slides-video raise-hand "
    "connection-state waiting-position",
    "ops": "stream-row cap-input cap-save profile-editor",
}


@pytest_asyncio.fixture(loop_scope="module")
async def fake() -> AsyncIterator[FakeServer]:
    server = FakeServer()
    await server.start()
    yield server
    await server.stop()


# --- what can be judged from the files ---------------------------------------------------------


def used_keys() -> set[str]:
    """Every key of a text that a page names: quoted in a script, or in a data-i18n mark."""
    keys: set[str] = set()
    for path in SOURCES:
        text = path.read_text(encoding="utf-8")
        for found in re.findall(r'"([a-z][a-z-]*(?:\.[a-z0-9-]+)+)"', text):
            if found.split(".")[0] in NAMESPACES:
                keys.add(found)
        if path.suffix == ".html":
            for marks in re.findall(r'data-i18n-attr="([^"]*)"', text):
                keys |= {mark.split(":")[1].strip() for mark in marks.split(";")}
    return keys


def test_every_text_exists_in_both_languages_with_the_same_blanks() -> None:
    chinese, english = LOCALES["zh-CN"], LOCALES["en"]
    assert chinese.keys() == english.keys()
    for key in chinese:
        assert chinese[key].strip() and english[key].strip(), key
        blanks = [set(re.findall(r"\{\w+\}", text)) for text in (chinese[key], english[key])]
        assert blanks[0] == blanks[1], key


def test_every_text_that_is_used_is_defined_and_none_is_left_over() -> None:
    used = used_keys()
    assert used - LOCALES["en"].keys() == set()
    assert LOCALES["en"].keys() - used == set()


@pytest.mark.parametrize("path", [p for p in SOURCES if p.suffix == ".html"], ids=str)
def test_pages_hold_no_inline_code_or_style_and_nothing_from_elsewhere(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"\son[a-z]+=|\sstyle=|<style|<script(?![^>]*\ssrc=)", text)
    for address in re.findall(r'(?:src|href)="([^"]+)"', text):
        assert address.startswith("/"), f"{address} is not one of ours"


def test_scripts_are_type_checked_and_say_what_they_do() -> None:
    for path in SOURCES:
        if path.suffix == ".js":
            text = path.read_text(encoding="utf-8")
            assert text.startswith("// @ts-check\n/**"), path
            assert text.count("\n") <= 400, f"{path} holds more than one idea"


@pytest.mark.parametrize(
    ("ink", "paper"),
    [
        ("ink", "paper"),
        ("ink-soft", "paper"),
        ("ink-soft", "card"),
        ("card", "board"),
        ("board-dark", "board-tint"),
        ("good", "good-tint"),
        ("fair", "fair-tint"),
        ("poor", "poor-tint"),
        ("stage-ink", "stage"),
        ("stage-soft", "stage-raised"),
        ("hand", "stage"),
    ],
)
def test_text_stands_out_from_its_ground(ink: str, paper: str) -> None:
    theme = (WEB / "shared" / "theme.css").read_text(encoding="utf-8")

    def luminance(name: str) -> float:
        found = re.search(rf"--{name}: #([0-9a-f]{{6}});", theme)
        assert found, f"the theme has no colour {name}"
        channels = [int(found[1][at : at + 2], 16) / 255 for at in (0, 2, 4)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    light, dark = sorted((luminance(ink), luminance(paper)), reverse=True)
    assert (light + 0.05) / (dark + 0.05) >= 4.5  # WCAG 2.2, success criterion 1.4.3


# --- the teacher's page ------------------------------------------------------------------------


async def teach(fake: FakeServer, tabs: Browsers, *scripts: str, **options: Any) -> Tab:
    return await tabs.tab("teach", f"{fake.base}/teach#token=teacher", scripts=scripts, **options)


async def start_lesson(fake: FakeServer, tabs: Browsers) -> Tab:
    tab = await teach(fake, tabs)
    await tab.by("start-lesson").click()
    await tab.state_is("air-state", "connected")
    return tab


@in_browser
async def test_a_lesson_is_started_and_ended_by_keyboard_alone(
    fake: FakeServer, tabs: Browsers
) -> None:
    tab = await teach(fake, tabs)
    await becomes(tab, "!document.querySelector('[data-testid=start-lesson]').disabled")
    assert "token" not in tab.page.url
    await press_tab_until(tab, "lesson-title")
    await tab.page.keyboard.type("Fractions")
    await press_tab_until(tab, "lesson-mode")
    await tab.page.keyboard.press("ArrowDown")
    await press_tab_until(tab, "start-lesson")
    await tab.page.keyboard.press("Enter")
    await tab.state_is("air-state", "connected")
    assert (fake.lesson["title"], fake.lesson["mode"]) == ("Fractions", "masterclass")

    await press_tab_until(tab, "end-lesson")
    await tab.page.keyboard.press("Enter")
    await tab.page.keyboard.press("Enter")  # the safe answer has the focus
    assert fake.lesson["state"] == "live"
    await tab.page.keyboard.press("Enter")
    await press_tab_until(tab, "confirm-yes")
    await tab.page.keyboard.press("Enter")
    await tab.page.wait_for_selector("#over:not([hidden])")
    assert fake.lesson["state"] == "ended"
    assert tabs.console_errors() == {}


async def becomes(tab: Tab, condition: str) -> None:
    """Wait for a condition in the page; not by `wait_for_function`, which needs unsafe-eval."""

    async def look() -> bool:
        return bool(await tab.page.evaluate(condition))

    await until(look, bool, within_s=10, what=condition)


async def press_tab_until(tab: Tab, testid: str) -> None:
    for _ in range(25):
        await tab.page.keyboard.press("Tab")
        focused = await tab.page.evaluate("document.activeElement?.dataset.testid")
        if focused == testid:
            return
    pytest.fail(f"{testid} is not reached by the Tab key")


@in_browser
async def test_the_teacher_sees_classrooms_their_reception_and_hands_in_order(
    fake: FakeServer, tabs: Browsers
) -> None:
    tab = await start_lesson(fake, tabs)
    now = time.time()
    fake.seats = [
        make_seat(1, "红星小学", "good", hand=now - 2),
        make_seat(2, "清水教学点", "poor"),
        make_seat(3, "青山小学", None, hand=now - 9, state="reconnecting"),
        make_seat(4, "走了的", state="left"),
    ]
    await fake.publish()
    await becomes(tab, "document.querySelectorAll('[data-testid=raise-hand-flag]').length === 2")
    seats = [
        (await seat.get_attribute("data-state"), " ".join((await seat.inner_text()).split()))
        for seat in await tab.by("seat").all()
    ]
    text = LOCALES["zh-CN"]
    assert seats == [
        ("receiving", f"红星小学 {text['seat.good']} {text['teach.hand']}"),
        ("receiving", f"清水教学点 {text['seat.poor']}"),
        ("reconnecting", f"青山小学 {text['seat.reconnecting']} {text['teach.hand']}"),
    ]
    assert await tab.page.locator("#hands strong").all_inner_texts() == ["青山小学", "红星小学"]
    await tab.page.locator("#hands button").first.click()
    await becomes(tab, "document.querySelectorAll('#hands li').length === 1")
    assert {"type": "lower-hand", "seat": "s_3"} in fake.heard
    assert await tab.by("join-code").inner_text() == CODE
    size = await tab.page.evaluate("parseFloat(getComputedStyle(code).fontSize)")
    assert size >= 96
    for testid in HOOKS["teach"].split():
        assert await tab.by(testid).count() > 0, testid
    assert tabs.console_errors() == {}


@in_browser
async def test_publishing_begins_again_when_told_and_when_the_session_is_gone(
    fake: FakeServer, tabs: Browsers
) -> None:
    tab = await start_lesson(fake, tabs)
    await fake.drop_media()
    await fake.tell({"type": "rejoin", "streams": ["camera"], "reason": "worker-restarted"})
    await until(posts(fake, "whip/camera"), lambda n: n == 2, within_s=3, what="a second POST")
    await tab.state_is("air-state", "connected")
    await fake.drop_media()
    await until(posts(fake, "whip/camera"), lambda n: n == 3, within_s=20, what="a third POST")
    await tab.state_is("air-state", "connected")


def posts(fake: FakeServer, what: str) -> Any:
    async def count() -> int:
        return fake.posts.count(what)

    return count


@in_browser
async def test_a_reload_goes_on_with_the_lesson_without_a_question(
    fake: FakeServer, tabs: Browsers
) -> None:
    tab = await start_lesson(fake, tabs)
    await tab.page.reload()
    await tab.state_is("air-state", "connected")
    assert fake.posts == ["whip/camera", "whip/camera"]
    assert tabs.console_errors() == {}


REFUSE = """navigator.mediaDevices.getUserMedia = async (wanted) => {
  if (wanted.video || %s) throw new DOMException("no", "%s");
  return new AudioContext().createMediaStreamDestination().stream;
};"""


@in_browser
@pytest.mark.parametrize(
    ("reason", "sound_too", "text"),
    [
        ("NotAllowedError", "true", "error.denied"),
        ("NotReadableError", "false", "error.busy-camera"),
        ("NotReadableError", "true", "error.busy-microphone"),
        ("AbortError", "true", "error.device"),
    ],
)
async def test_a_device_that_does_not_open_says_why_and_what_to_do(
    fake: FakeServer, tabs: Browsers, reason: str, sound_too: str, text: str
) -> None:
    tab = await teach(fake, tabs, REFUSE % (sound_too, reason), locale="en")
    await says(tab, text)
    assert await tab.by("start-lesson").is_disabled()


@in_browser
async def test_without_a_camera_the_lesson_can_be_given_with_sound_only(
    fake: FakeServer, tabs: Browsers
) -> None:
    no_camera = """const { mediaDevices } = navigator;
    const list = mediaDevices.enumerateDevices.bind(mediaDevices);
    mediaDevices.enumerateDevices = async () =>
      (await list()).filter((device) => device.kind !== "videoinput");"""
    tab = await teach(fake, tabs, REFUSE % ("false", "NotFoundError") + no_camera, locale="en")
    await says(tab, "error.no-camera")
    await tab.page.get_by_role("button", name=LOCALES["en"]["media.sound-only"]).click()
    await tab.by("start-lesson").click()
    await tab.state_is("air-state", "connected")
    kinds = await tab.page.evaluate("__tongke.pcs.camera.getSenders().map((s) => s.track.kind)")
    assert kinds == ["audio"]


async def says(tab: Tab, text: str) -> None:
    """The page's notice shows what happened and what to do."""
    shown = tab.page.locator("tk-notice .notice").first
    await shown.wait_for()
    words = await shown.inner_text()
    locale = await tab.page.evaluate("document.documentElement.lang")
    assert LOCALES[locale][f"{text}.what"] in words
    assert LOCALES[locale][f"{text}.todo"].split("{")[0] in words


@in_browser
@pytest.mark.parametrize("page", ["teach", "ops"])
async def test_a_page_without_a_valid_token_says_where_to_get_one(
    fake: FakeServer, tabs: Browsers, page: str
) -> None:
    missing = await tabs.tab("missing", f"{fake.base}/{page}", locale="en")
    await missing.page.get_by_text(LOCALES["en"][f"{page}.no-token.todo"]).wait_for()
    fake.token_valid = False
    expired = await tabs.tab("expired", f"{fake.base}/{page}#token=old", locale="en")
    await expired.page.get_by_text(LOCALES["en"]["error.token.todo"]).wait_for()
    assert missing.console_errors == []


# --- the teaching point's page -----------------------------------------------------------------


async def join(fake: FakeServer, tabs: Browsers, *scripts: str, code: str = CODE) -> Tab:
    tab = await tabs.tab("join", f"{fake.base}/join/{code}", scripts=scripts)
    await tab.by("join-name").fill("红星小学")
    await tab.by("join-submit").click()
    return tab


async def join_live(fake: FakeServer, tabs: Browsers, *scripts: str) -> Tab:
    await fake.set_live("camera")
    tab = await join(fake, tabs, *scripts)
    await tab.state_is("connection-state", "live")
    return tab


@in_browser
async def test_a_classroom_sees_the_teacher_then_slides_beside_then_the_end(
    fake: FakeServer, tabs: Browsers
) -> None:
    tab = await join(fake, tabs)
    await tab.state_is("connection-state", "waiting-for-teacher")
    await fake.drop_media()
    await fake.set_live("camera")
    await fake.tell({"type": "rejoin", "streams": ["camera"], "reason": "worker-restarted"})
    await tab.state_is("connection-state", "live")
    await tab.shows_moving_picture("lesson-video")
    assert not await tab.by("slides-video").is_visible()
    alone = (await tab.by("lesson-video").bounding_box())["width"]

    await fake.set_live("slides")
    await tab.shows_moving_picture("slides-video")
    slides = (await tab.by("slides-video").bounding_box())["width"]
    beside = (await tab.by("lesson-video").bounding_box())["width"]
    assert alone >= slides > 2 * beside > 0
    for testid in HOOKS["join"].split():
        assert await tab.by(testid).count() == 1, testid

    await fake.tell({"type": "ended"})
    await tab.state_is("connection-state", "ended")
    assert tabs.console_errors() == {}


@in_browser
async def test_a_hand_goes_up_and_down_as_the_server_has_it(
    fake: FakeServer, tabs: Browsers
) -> None:
    tab = await join_live(fake, tabs)
    for pressed in ("true", "false"):
        await tab.by("raise-hand").click()
        await tab.page.wait_for_selector(f'[data-testid=raise-hand][aria-pressed="{pressed}"]')
    await tab.by("raise-hand").click()
    await fake.tell({"type": "hand", "raised": False})  # the teacher lowers it
    await tab.page.wait_for_selector('[data-testid=raise-hand][aria-pressed="false"]')
    assert [m["raised"] for m in fake.heard if m["type"] == "hand"] == [True, False, True]


@in_browser
async def test_a_full_lesson_shows_the_place_in_line_and_takes_the_offered_seat(
    fake: FakeServer, tabs: Browsers
) -> None:
    await fake.set_live("camera")
    refusal = {"kind": "receiver-cap-reached", "retry_after": 5, "position": 4, "ticket": "t"}
    fake.refuse_whep = (503, refusal)
    tab = await join(fake, tabs)
    await tab.state_is("connection-state", "full")
    assert await tab.by("waiting-position").inner_text() == "4"
    await fake.tell({"type": "waiting", "stream": "camera", "position": 1, "ahead": 0})
    await becomes(tab, "position.textContent === '1'")
    assert fake.posts == ["whep/camera"]
    fake.refuse_whep = None
    await fake.tell({"type": "seat-offered", "stream": "camera", "expires_s": 10})
    await tab.state_is("connection-state", "live")
    assert not await tab.by("waiting-position").is_visible()


@in_browser
async def test_a_lost_line_comes_back_by_itself(fake: FakeServer, tabs: Browsers) -> None:
    tab = await join_live(fake, tabs)
    await fake.drop_sockets()
    await fake.drop_media()
    await tab.state_is("connection-state", "reconnecting", within_s=12)
    await tab.state_is("connection-state", "live", within_s=12)
    await tab.shows_moving_picture("lesson-video")


@in_browser
async def test_a_reload_comes_back_to_the_same_seat(fake: FakeServer, tabs: Browsers) -> None:
    tab = await join_live(fake, tabs)
    await tab.page.reload()
    await tab.state_is("connection-state", "live")
    assert [one.get("seat") for one in fake.joins] == [None, "point"]
    assert fake.deletes == ["whep/camera"]
    assert tabs.console_errors() == {}


@in_browser
async def test_a_seat_taken_elsewhere_is_not_fought_over(fake: FakeServer, tabs: Browsers) -> None:
    tab = await join_live(fake, tabs)
    before = len(fake.posts)
    await fake.tell({"type": "released", "reason": "replaced"})
    await tab.state_is("connection-state", "released")
    await tab.page.wait_for_timeout(1500)
    assert len(fake.posts) == before
    await tab.page.locator("#again").click()
    await tab.state_is("connection-state", "live")


@in_browser
async def test_a_browser_that_wants_a_gesture_gets_a_button_for_sound(
    fake: FakeServer, tabs: Browsers
) -> None:
    shy = """const play = HTMLMediaElement.prototype.play;
    HTMLMediaElement.prototype.play = function () {
      return this.muted || navigator.userActivation.isActive && window.allowed
        ? play.call(this) : Promise.reject(new DOMException("gesture", "NotAllowedError"));
    };"""
    tab = await join_live(fake, tabs, shy)
    await tab.by("enable-sound").wait_for()
    await tab.page.evaluate("window.allowed = true")
    await tab.by("enable-sound").click()
    assert not await tab.by("enable-sound").is_visible()
    assert not await tab.page.evaluate("camera.muted")


@in_browser
@pytest.mark.parametrize(
    ("status", "members", "text"),
    [
        (404, {"kind": "unknown-join-code"}, "error.wrong-code"),
        (410, {"kind": "lesson-ended"}, "error.ended"),
        (429, {"kind": "too-many-requests", "retry_after": 30}, "error.too-many-requests"),
        (503, {"kind": "draining", "retry_after": 5}, "error.busy"),
    ],
)
async def test_a_refused_join_says_why_and_what_to_do(
    fake: FakeServer, tabs: Browsers, status: int, members: dict[str, Any], text: str
) -> None:
    fake.refuse_join = (status, members)
    tab = await join(fake, tabs)
    await says(tab, text)
    fake.refuse_join = None
    await tab.by("join-submit").click()
    await tab.state_is("connection-state", "waiting-for-teacher")


@in_browser
async def test_a_server_that_is_away_is_said_so(fake: FakeServer, tabs: Browsers) -> None:
    tab = await tabs.tab("join", f"{fake.base}/join/{CODE}")
    await tab.page.route("**/api/v1/join", lambda route: route.abort())
    await tab.by("join-name").fill("红星小学")
    await tab.by("join-submit").click()
    await says(tab, "error.unreachable")


# --- operations, languages, and small parts ----------------------------------------------------


@in_browser
async def test_operators_change_a_cap_release_a_seat_and_see_what_is_wrong_in_a_config(
    fake: FakeServer, tabs: Browsers
) -> None:
    fake.exists = True
    fake.seats = [make_seat(1, "红星小学")]
    fake.config_errors = [{"key": "profiles.x.receiver_cap", "value": -1, "allowed": "0…10000"}]
    tab = await tabs.tab("ops", f"{fake.base}/ops#token=ops")
    row = tab.page.locator('[data-testid=stream-row][data-stream="camera"]')
    await row.get_by_test_id("cap-input").fill("12")
    await tab.page.wait_for_timeout(2500)  # a poll must not overwrite what is being typed
    await row.get_by_test_id("cap-save").click()
    await until(cap_of(fake), lambda cap: cap == 12, within_s=5, what="the cap is 12")
    await row.locator(".show-seats").click()
    await tab.by("seat-release").click()
    await tab.by("confirm-yes").click()
    await tab.page.wait_for_selector("[data-testid=ops-seat]", state="detached")
    assert fake.seats == []
    assert "receiver_cap" in await tab.by("profile-editor").input_value()
    for testid in HOOKS["ops"].split():
        assert await tab.by(testid).count() > 0, testid
    assert tabs.console_errors() == {}
    await tab.by("profile-save").click()
    assert "profiles.x.receiver_cap" in await tab.by("config-error").inner_text()


def cap_of(fake: FakeServer) -> Any:
    async def look() -> int:
        return int(fake.lesson["streams"]["camera"]["cap"])

    return look


@in_browser
@pytest.mark.parametrize("path", ["/", "/teach", "/join", "/ops"])
async def test_the_language_follows_the_browser_and_then_the_switch(
    fake: FakeServer, tabs: Browsers, path: str
) -> None:
    tab = await tabs.tab("page", f"{fake.base}{path}", locale="en-GB")
    english = tab.page.get_by_role("button", name="English").first
    await tab.page.wait_for_selector("tk-language-switch [aria-pressed=true]")
    assert await english.get_attribute("aria-pressed") == "true"
    await tab.page.get_by_role("button", name="中文").first.click()
    await becomes(tab, "document.documentElement.lang === 'zh-CN'")
    await tab.page.reload()
    await becomes(tab, "document.documentElement.dataset.ready === ''")
    assert "同课" in await tab.page.locator("body").inner_text()
    assert tabs.console_errors() == {}


@in_browser
async def test_an_ice_restart_names_the_new_credentials_and_takes_the_servers(
    fake: FakeServer, tabs: Browsers
) -> None:
    tab = await tabs.tab("page", f"{fake.base}/")
    made, applied = await tab.page.evaluate(
        r"""async () => {
          const { restartFragment, applyFragment } = await import("/static/shared/sdpfrag.js");
          const media = (mid) => `m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:${mid}\r\n` +
            "a=ice-ufrag:old\r\na=ice-pwd:oldoldoldoldoldoldoldold\r\n";
          const sdp = `v=0\r\na=group:BUNDLE 0 1\r\n${media(0)}` +
            `a=candidate:1 1 udp 1 10.0.0.1 1 typ host\r\n${media(1)}`;
          const given = "a=ice-ufrag:new\r\na=ice-pwd:newnewnewnewnewnewnewnew\r\n" +
            "a=candidate:1 1 udp 1 10.0.0.2 2 typ host\r\n";
          return [restartFragment(sdp), applyFragment(sdp, given)];
        }"""
    )
    assert made == (
        "a=group:BUNDLE 0 1\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\n"
        "a=ice-ufrag:old\r\na=ice-pwd:oldoldoldoldoldoldoldold\r\n"
    )
    assert applied.count("ice-ufrag:new") == 2 and "old" not in applied
    assert applied.count("a=candidate:") == 1 and "10.0.0.2" in applied
    assert applied.index("10.0.0.2") < applied.index("a=mid:1")
