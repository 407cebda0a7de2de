"""The operations page with a simulated county: what it shows, and what it costs the browser."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import CDPSession

from tests.e2e.browsers import Browsers, Tab
from tests.e2e.fake_server import FakeServer, make_county, make_seat

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120, method="signal")]
in_browser = pytest.mark.asyncio(loop_scope="module")

MOST_NODES = 12_000
WATCHED_S = 10


@pytest_asyncio.fixture(loop_scope="module")
async def county() -> AsyncIterator[FakeServer]:
    fake = FakeServer(county=make_county(), seats=[make_seat(n, f"第{n}教学点") for n in range(30)])
    await fake.start()
    yield fake
    await fake.stop()


async def open_desk(tabs: Browsers, county: FakeServer, **options: Any) -> Tab:
    tab = await tabs.tab("ops", f"{county.base}/ops#token=ops", **options)
    await tab.by("stream-row").nth(79).wait_for()
    return tab


async def busy_s(metrics: CDPSession) -> float:
    """Seconds of work of the page's main thread since it began: scripts, styles, layout, paint."""
    found = await metrics.send("Performance.getMetrics")
    return float(next(m["value"] for m in found["metrics"] if m["name"] == "TaskDuration"))


@in_browser
async def test_a_county_of_1200_receivers_stays_a_small_page(
    county: FakeServer, tabs: Browsers, capsys: pytest.CaptureFixture[str]
) -> None:
    tab = await open_desk(tabs, county, size=(1366, 768))
    await tab.page.wait_for_timeout(2500)
    metrics = await tab.page.context.new_cdp_session(tab.page)
    await metrics.send("Performance.enable")
    before = await busy_s(metrics)
    await tab.page.wait_for_timeout(WATCHED_S * 1000)
    per_second_ms = (await busy_s(metrics) - before) / WATCHED_S * 1000
    nodes = await tab.page.evaluate("document.querySelectorAll('*').length")
    with capsys.disabled():
        print(f"\nops page: {per_second_ms:.0f} ms of work per second, {nodes} elements")
    assert nodes < MOST_NODES
    assert await tab.by("ops-summary").inner_text()
    wide = await tab.page.evaluate("document.documentElement.scrollWidth - innerWidth")
    assert wide <= 0


@in_browser
async def test_an_alarm_is_acknowledged_and_the_sound_can_be_muted(
    county: FakeServer, tabs: Browsers
) -> None:
    tab = await open_desk(tabs, county)
    first = tab.by("alarm-row").first
    assert "第4教学点" in await first.inner_text()
    await first.get_by_test_id("alarm-ack").click()
    await tab.page.wait_for_function(
        "document.querySelectorAll('[data-testid=alarm-row][data-acknowledged=true]').length === 2"
    )
    assert county.county is not None
    assert county.county["alarms"][0]["acknowledged"]
    mute = tab.by("alarms-mute")
    await mute.click()
    await tab.page.reload()
    await tab.by("stream-row").first.wait_for()
    assert await mute.get_attribute("aria-pressed") == "true"
    assert tabs.console_errors() == {}


@in_browser
async def test_one_receiver_is_shown_with_its_hour_and_a_diff_before_saving(
    county: FakeServer, tabs: Browsers
) -> None:
    county.seats = [make_seat(1, "红星镇第1教学点") | {"id": "s_0_1"}]
    tab = await open_desk(tabs, county)
    await tab.page.locator("[data-lesson=l_0] .show-seats").click()
    await tab.by("seat-watch").click()
    await tab.by("ops-plot").nth(7).wait_for()
    path = await tab.page.locator("[data-testid=ops-plot] path").first.get_attribute("d")
    assert path is not None and len(re.findall("M", path)) >= 3  # gaps are gaps
    await tab.by("profile-editor").fill("[limits]\nlessons = 60\n")
    change = tab.by("config-change")
    await change.wait_for()
    assert "limits.lessons" in await change.inner_text()
    assert not [one for one in county.heard if one["type"] == "config"]
    assert tabs.console_errors() == {}


@in_browser
@pytest.mark.skipif("TONGKE_SHOTS" not in os.environ, reason="pictures only where they are wanted")
@pytest.mark.parametrize("locale", ["zh-CN", "en"])
@pytest.mark.parametrize("size", [(1366, 768), (1920, 1080)])
async def test_pictures_of_the_county(
    county: FakeServer, tabs: Browsers, locale: str, size: tuple[int, int]
) -> None:
    county.seats = [make_seat(1, "红星镇第1教学点") | {"id": "s_0_1"}]
    tab = await open_desk(tabs, county, locale=locale, size=size)
    folder = Path(os.environ["TONGKE_SHOTS"])
    await tab.page.screenshot(path=folder / f"ops-{locale}-{size[0]}.png")
    await tab.page.locator("[data-lesson=l_0] .show-seats").click()
    await tab.by("seat-watch").click()
    await tab.by("ops-plot").nth(7).wait_for()
    await tab.page.locator("#seats-card").scroll_into_view_if_needed()
    await tab.page.screenshot(path=folder / f"ops-{locale}-{size[0]}-all.png", full_page=True)
