"""A class that talks, by its pages: a return on the wall, the floor given and taken, the switch.

A teacher and two teaching points in Chromium on the real server with its mixer.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.e2e import classroom
from tests.e2e.browsers import Browsers, Tab
from tests.e2e.polling import until
from tests.e2e.real_server import RealServer
from tests.e2e.test_screens import FOLDER

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(120, method="signal"),
]

MEASURE = """async ([stream, direction]) => {
  const sum = { packets: 0, energy: 0, frames: 0, video: 0 };
  const report = await window.__tongke.pcs[stream]?.getStats();
  report?.forEach((entry) => {
    if (entry.type !== direction) return;
    sum.packets += entry.packetsReceived ?? entry.packetsSent ?? 0;
    sum.energy += entry.totalAudioEnergy ?? 0;
    sum.frames += entry.framesDecoded ?? entry.framesSent ?? 0;
    if (entry.kind === "video") sum.video += 1;
  });
  return sum;
}"""


# The share of grass-green pixels in a tile: a placeholder has none.
MEADOW = """(at) => {
  const video = document.querySelector('[data-testid="wall-video"]');
  const tile = document.querySelectorAll('[data-testid="wall-tile"]')[at];
  if (!video.videoWidth || !tile) return 0;
  const [x, y, width, height] = ["left", "top", "width", "height"].map(
    (side) => parseFloat(tile.style[side]) / 100);
  const pen = new OffscreenCanvas(64, 36).getContext("2d");
  pen.drawImage(video, x * video.videoWidth, y * video.videoHeight,
    width * video.videoWidth, height * video.videoHeight, 0, 0, 64, 36);
  const { data } = pen.getImageData(0, 0, 64, 36);
  let green = 0;
  for (let i = 0; i < data.length; i += 4) {
    if (data[i + 1] > 40 && data[i + 1] > data[i] + 8 && data[i + 1] > data[i + 2] + 25) green += 1;
  }
  return green / (64 * 36);
}"""


async def measured(tab: Tab, stream: str, direction: str = "inbound-rtp") -> dict[str, Any]:
    found: dict[str, Any] = await tab.page.evaluate(MEASURE, [stream, direction])
    return found


async def agrees(point: Tab) -> None:
    """The class opens camera and microphone, looks at itself, and lets itself be seen."""
    await point.by("return-open").click()
    await point.shows_moving_picture("return-preview")
    await point.by("return-agree").click()
    await point.state_is("return-sign", "both", within_s=15)


async def test_a_child_is_seen_on_the_wall_and_heard_from_the_floor(
    server: RealServer, tabs: Browsers
) -> None:
    teacher = await classroom.teacher_starts(server, tabs)
    code = await classroom.join_code(teacher)
    first, second = await classroom.points_join(server, tabs, code, "红星小学", "清水教学点")
    await agrees(first)
    await agrees(second)

    await teacher.shows_moving_picture("wall-video", within_s=25)
    await tiles_are(teacher, 2)
    for index in range(2):
        await until(
            lambda at=index: teacher.page.evaluate(MEADOW, at),  # type: ignore[misc]
            lambda green: green > 0.2,
            within_s=20,
            what=f"tile {index} of the wall shows the meadow of that classroom's camera",
        )

    FOLDER.mkdir(parents=True, exist_ok=True)
    await teacher.page.set_viewport_size({"width": 1366, "height": 768})
    await teacher.page.screenshot(path=FOLDER / "teach-talks-1366x768.png")

    # The teacher is silent from here on, so what is heard is the child.
    await teacher.page.locator("#mute").click()
    await first.by("raise-hand").click()
    await teacher.by("raise-hand-flag").wait_for()
    seat = teacher.by("seat").filter(has_text="红星小学")
    await seat.get_by_test_id("grant-floor").click()
    await first.by("hand-back").wait_for()
    assert not await second.by("hand-back").is_visible()
    before = await measured(second, "class")
    await until(
        lambda: measured(second, "class"),
        lambda now: now["energy"] > before["energy"] + 1e-4,
        within_s=20,
        what="the other classroom hears the child",
    )
    await seat.get_by_test_id("revoke-floor").click()
    await first.by("hand-back").wait_for(state="hidden")
    await seat.get_by_test_id("grant-floor").click()
    await first.by("hand-back").click()
    await seat.get_by_test_id("grant-floor").wait_for()

    await first.by("return-camera").click()
    await first.state_is("return-sign", "sound", within_s=15)
    sent = await measured(first, "return", "outbound-rtp")
    assert sent["video"] == 0, "no picture is sent any more"
    await first.by("return-mic").click()
    await first.state_is("return-sign", "none")
    assert await first.page.evaluate("window.__tongke.pcs.return === undefined")
    await tiles_are(teacher, 1)
    assert tabs.console_errors() == {}


async def tiles_are(teacher: Tab, count: int) -> None:
    await until(
        teacher.by("wall-tile").count,
        lambda shown: shown == count,
        within_s=15,
        what=f"the wall has {count} tiles",
    )
