"""Pictures of every page in both languages and two sizes, taken from a lesson that is running.

They are written to `build/screenshots/` for people to look at. What a machine can judge is judged
here: nothing is wider than the screen, no text is cut off in a button, no console error.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e import classroom
from tests.e2e.browsers import Browsers, Tab
from tests.e2e.polling import until
from tests.e2e.real_server import RealServer

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(120, method="signal"),
]

FOLDER = Path(__file__).resolve().parents[2] / "build" / "screenshots"
SIZES = ((1366, 768), (1920, 1080))
TITLES = {"zh-CN": "五年级数学：圆的面积", "en": "Grade 5 maths: the area of a circle"}
NAMES = {"zh-CN": ("红星小学", "清水教学点"), "en": ("Red Star School", "Clearwater Point")}

IN_THE_WAY = """() => {
  const root = document.documentElement;
  const found = [];
  if (root.scrollWidth > root.clientWidth) found.push(`page: ${root.scrollWidth} px wide`);
  for (const element of document.querySelectorAll("button, label, h1, h2, [data-testid]")) {
    const box = element.getBoundingClientRect();
    if (box.width === 0 || getComputedStyle(element).visibility === "hidden") continue;
    const name = element.dataset.testid || element.id || element.textContent.trim().slice(0, 20);
    if (box.right > root.clientWidth + 1) found.push(`${name}: beyond the right edge`);
    if (element.tagName === "BUTTON" && element.scrollWidth > element.clientWidth + 1) {
      found.push(`${name}: its text is cut off`);
    }
  }
  return found;
}"""


@pytest.mark.parametrize("locale", ["zh-CN", "en"])
async def test_every_page_fits_its_screen_in_a_running_lesson(
    server: RealServer, tabs: Browsers, locale: str
) -> None:
    names = NAMES[locale]
    setup = await classroom.teacher_page(server, tabs, locale=locale, size=SIZES[0])
    await setup.shows_moving_picture("preview")
    await _shoot(setup, f"teach-setup-{locale}")
    await setup.by("lesson-title").fill(TITLES[locale])
    await setup.by("start-lesson").click()
    teacher = setup
    await classroom.is_on_air(teacher)
    code = await classroom.join_code(teacher)
    await _shoot(teacher, f"teach-alone-{locale}")

    empty = await tabs.tab("join-form", f"{server.origin}/join", locale=locale, size=SIZES[0])
    await empty.by("join-code-input").fill(code)
    await _shoot(empty, f"join-form-{locale}")
    await empty.by("join-name").fill(names[0])
    await empty.by("join-submit").click()
    point = empty
    other = await classroom.point_joins(server, tabs, code, names[1], locale=locale)
    await point.receives(frames=15)
    await other.receives(frames=15)
    await point.shows_moving_picture("lesson-video")
    await _shoot(point, f"join-lesson-{locale}")

    await other.by("raise-hand").click()
    await teacher.by("share-slides").click()
    await point.shows_moving_picture("slides-video")
    await teacher.by("raise-hand-flag").first.wait_for()
    await _shoot(point, f"join-slides-{locale}")
    await _shoot(teacher, f"teach-lesson-{locale}")

    ops_address = f"{server.origin}/ops#token={server.token('ops')}"
    ops = await tabs.tab("ops", ops_address, locale=locale, size=SIZES[0])
    await ops.by("stream-row").first.wait_for()
    # Rates need two readings, two seconds apart.
    await until(
        lambda: ops.page.evaluate("document.body.innerText"),
        lambda text: "…" not in text,
        within_s=10,
        what="the operations page shows rates",
    )
    await _shoot(ops, f"ops-{locale}")
    landing = await tabs.tab("landing", f"{server.origin}/", locale=locale, size=SIZES[0])
    await _shoot(landing, f"landing-{locale}")

    await teacher.by("end-lesson").click()
    await teacher.by("confirm-yes").wait_for()
    await _shoot(teacher, f"teach-question-{locale}")
    await teacher.by("confirm-yes").click()
    await point.state_is("connection-state", "ended")
    await _shoot(point, f"join-ended-{locale}")
    await _shoot(teacher, f"teach-ended-{locale}")
    assert tabs.console_errors() == {}


async def _shoot(tab: Tab, name: str) -> None:
    """One picture per size; the page must fit each."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for width, height in SIZES:
        await tab.page.set_viewport_size({"width": width, "height": height})
        await tab.page.evaluate("document.fonts.ready.then(() => null)")
        await tab.page.screenshot(path=FOLDER / f"{name}-{width}x{height}.png")
        in_the_way = await tab.page.evaluate(IN_THE_WAY)
        assert in_the_way == [], f"{name} at {width}×{height}: {in_the_way}"
