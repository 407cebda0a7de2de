"""“Test my line” in a real browser: over a line made slow, and on a free one with the seat kept."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.e2e.browsers import Browsers, Tab
from tests.e2e.fake_server import WEB
from tests.e2e.polling import until
from tests.e2e.real_server import RealServer

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]

# Between the smallest picture of the default profile (745) and the full lesson (3,655 kbit/s).
LINE_KBPS = 1500
WITHIN_S = 60


async def form(server: RealServer, tabs: Browsers, code: str, locale: str) -> Tab:
    page = await tabs.tab("point", f"{server.origin}/join", locale=locale)
    if code:
        await page.by("join-code-input").fill(code)
        await page.by("join-name").fill("红星小学")
    return page


async def slow_down(tab: Tab, kbps: int) -> None:
    devtools = await tab.page.context.new_cdp_session(tab.page)
    await devtools.send("Network.enable")
    octets_per_s = kbps * 1000 / 8
    await devtools.send(
        "Network.emulateNetworkConditions",
        {
            "offline": False,
            "latency": 40,
            "downloadThroughput": octets_per_s,
            "uploadThroughput": octets_per_s,
        },
    )


async def finished(tab: Tab) -> str:
    """What the page says in the end."""

    async def look() -> str:
        return str(await tab.by("linetest-result").get_attribute("data-state"))

    await until(look, lambda state: state == "done", within_s=WITHIN_S, what="the line is tested")
    return str(await tab.by("linetest-result").inner_text())


async def the_seat(server: RealServer, lesson: dict[str, Any]) -> dict[str, Any]:
    (seat,) = await server.seats(lesson["id"])
    return seat


async def test_a_slow_line_is_measured_judged_and_kept_with_the_seat(
    server: RealServer, tabs: Browsers
) -> None:
    lesson = await server.new_lesson()
    page = await form(server, tabs, lesson["join_code"], "zh-CN")
    await slow_down(page, LINE_KBPS)
    await page.by("linetest-start").click()
    said = await finished(page)
    words = json.loads((WEB / "locales/zh-CN.json").read_text("utf-8"))
    assert words["linetest.verdict.smaller"] in said
    seat = await the_seat(server, lesson)
    line = seat["line"]
    assert seat["name"] == "红星小学" and line["verdict"] == "smaller"
    measured = line["result"]
    # A browser's throttle is no line: what counts is that both ways are neither 0 nor unbounded.
    assert LINE_KBPS / 3 < measured["down_kbps"] < LINE_KBPS * 1.5
    assert LINE_KBPS / 3 < measured["up_kbps"] < LINE_KBPS * 3
    assert measured["rtt_ms"] >= 40
    assert measured["camera"] is True and measured["microphone"] is True
    assert measured["decode"] in ("smooth", "slow")
    # Joining afterwards takes the seat that was tested.
    await page.by("join-submit").click()
    await page.by("connection-state").wait_for(state="visible")
    assert (await the_seat(server, lesson))["id"] == seat["id"]


async def test_without_a_code_the_form_says_what_is_missing(
    server: RealServer, tabs: Browsers
) -> None:
    page = await form(server, tabs, "", "en")
    assert await page.by("linetest-start").inner_text() == "Test my line"
    await page.by("linetest-start").click()
    words = json.loads((WEB / "locales/en.json").read_text("utf-8"))
    notice = page.page.locator("#notice")
    await notice.get_by_text(words["join.no-code.what"]).wait_for()
    assert await page.by("linetest-start").is_enabled()


async def test_a_wrong_code_is_explained_beside_the_button(
    server: RealServer, tabs: Browsers
) -> None:
    page = await form(server, tabs, "000001", "en")
    await page.by("linetest-start").click()
    said = page.by("linetest-result")
    await until(
        said.inner_text, lambda text: "code" in text.lower(), within_s=10, what="it says why"
    )
    assert await page.by("linetest-start").is_enabled()
