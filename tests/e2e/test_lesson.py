"""A whole lesson in browsers: one teacher, three classrooms, from start to end by the buttons."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from tests.e2e import classroom
from tests.e2e.browsers import Browsers, Tab
from tests.e2e.polling import Figures, until
from tests.e2e.real_server import RealServer

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(120, method="signal"),
]

NAMES = ("红星小学", "清水教学点", "Hilltop School")
# As in test_aiortc.py; here the browser's own start of playback is in it too.
FIRST_FRAME_WITHIN_S = 2.5


async def test_a_teacher_and_three_classrooms_hold_a_lesson(
    server: RealServer, tabs: Browsers
) -> None:
    teacher = await classroom.teacher_starts(server, tabs)
    code = await classroom.join_code(teacher)
    points = await classroom.points_join(server, tabs, code, *NAMES)

    await _all_see_and_hear(points)
    await classroom.teacher_sees(teacher, *NAMES)
    await _how_well_they_receive_is_told(server, code)
    await _a_raised_hand_is_seen_and_lowered(teacher, points[1], NAMES[1])
    await _slides_are_shared_and_taken_back(teacher, points)
    await _it_ends_for_all_after_a_question(server, teacher, points, code)
    assert tabs.console_errors() == {}


async def _all_see_and_hear(points: list[Tab]) -> None:
    first = await asyncio.gather(*(point.receives(frames=15) for point in points))
    later = await asyncio.gather(
        *(
            point.receives(frames=40, since=before)
            for point, before in zip(points, first, strict=True)
        )
    )
    for point, before, now in zip(points, first, later, strict=True):
        assert now.audio_codecs == ("audio/opus",)
        assert now.audio_energy > before.audio_energy
        assert now.audio_packets > before.audio_packets + 30
        await point.shows_moving_picture("lesson-video")
        await point.state_is("connection-state", "live")


async def _how_well_they_receive_is_told(server: RealServer, code: str) -> None:
    lesson = await classroom.lesson_of(server, code)

    async def qualities() -> list[dict[str, Any] | None]:
        return [seat["quality"] for seat in await server.seats(lesson["id"])]

    # The very first report counts: a classroom must not begin as one with a poor line.
    told = await until(qualities, lambda now: all(now), within_s=15, what="all told their quality")
    for quality in told:
        assert quality is not None
        assert quality["fps"] >= 5
        assert quality["kbps"] > 50
        assert quality["loss"] < 0.05


async def _a_raised_hand_is_seen_and_lowered(teacher: Tab, point: Tab, name: str) -> None:
    flags = teacher.page.locator(
        '[data-testid="seat"]:has([data-testid="raise-hand-flag"]:visible)'
    )

    async def raised() -> list[str]:
        return list(await flags.all_inner_texts())

    assert await raised() == []
    await point.by("raise-hand").click()
    shown = await until(raised, lambda now: len(now) == 1, within_s=5, what="one hand is up")
    assert name in shown[0]
    await point.by("raise-hand").click()
    await until(raised, lambda now: now == [], within_s=5, what="the hand is down again")


async def _slides_are_shared_and_taken_back(teacher: Tab, points: list[Tab]) -> None:
    before = await asyncio.gather(*(point.reception() for point in points))
    await teacher.by("share-slides").click()
    for point, earlier in zip(points, before, strict=True):
        await point.shows_moving_picture("slides-video", within_s=15)
        # The camera goes on beside the slides, with its sound.
        await point.receives(frames=20, since=earlier)
        assert (await point.reception()).peers == 2
        await point.shows_moving_picture("lesson-video")
    await teacher.by("share-slides").click()

    async def slides_shown() -> list[bool]:
        return [bool(await point.by("slides-video").is_visible()) for point in points]

    await until(slides_shown, lambda now: not any(now), within_s=10, what="the slides are gone")


async def _it_ends_for_all_after_a_question(
    server: RealServer, teacher: Tab, points: list[Tab], code: str
) -> None:
    lesson = await classroom.lesson_of(server, code)
    await teacher.by("end-lesson").click()
    await teacher.page.get_by_role("dialog").get_by_role("button").first.click()
    assert (await server.lesson(lesson["id"]))["state"] == "live", "no is no"
    await teacher.by("end-lesson").click()
    await teacher.by("confirm-yes").click()
    for point in points:
        await point.state_is("connection-state", "ended")
        assert (await point.reception()).peers == 0
    assert (await server.lesson(lesson["id"]))["state"] == "ended"
    assert (await teacher.reception()).peers == 0


async def test_a_classroom_that_joins_late_sees_the_lesson_at_once(
    server: RealServer, tabs: Browsers, figures: Figures
) -> None:
    teacher = await classroom.teacher_starts(server, tabs)
    code = await classroom.join_code(teacher)
    early = await classroom.point_joins(server, tabs, code, "红星小学")
    await early.receives(frames=60)

    late = await tabs.tab("late", f"{server.origin}/join/{code}")
    await late.by("join-name").fill("清水教学点")
    pressed_at = time.monotonic()
    await late.by("join-submit").click()
    await until(
        late.reception,
        lambda now: now.frames >= 1,
        within_s=10,
        what="the late classroom decodes its first frame",
        every_s=0.03,
    )
    taken_s = time.monotonic() - pressed_at
    figures.append(f"first frame {taken_s:.2f} s after pressing join")
    assert taken_s <= FIRST_FRAME_WITHIN_S
    await late.receives(frames=20)
    await classroom.teacher_sees(teacher, "红星小学", "清水教学点")
    assert tabs.console_errors() == {}


async def test_a_full_lesson_shows_the_place_in_line_and_lets_the_next_one_in(
    server: RealServer, tabs: Browsers
) -> None:
    teacher = await classroom.teacher_starts(server, tabs)
    code = await classroom.join_code(teacher)
    lesson = await classroom.lesson_of(server, code)
    await server.api(
        "PATCH",
        f"/lessons/{lesson['id']}/streams/camera",
        token=server.token("ops"),
        json_body={"cap": 1},
    )
    inside = await classroom.point_joins(server, tabs, code, "红星小学")
    await inside.receives(frames=10)
    waiting = await classroom.point_joins(server, tabs, code, "清水教学点")

    async def position() -> str:
        shown = waiting.by("waiting-position")
        return str(await shown.inner_text()) if await shown.is_visible() else ""

    await until(position, lambda text: "1" in text, within_s=10, what="the place in line is shown")
    await inside.page.goto("about:blank")
    await waiting.receives(frames=20, within_s=25)
    await waiting.state_is("connection-state", "live")


async def test_a_wrong_code_says_so_and_the_right_one_still_works(
    server: RealServer, tabs: Browsers
) -> None:
    teacher = await classroom.teacher_starts(server, tabs)
    code = await classroom.join_code(teacher)
    wrong = f"{(int(code) + 1) % 1_000_000:06d}"
    point = await classroom.point_joins(server, tabs, wrong, "红星小学")
    alert = point.page.get_by_role("alert").first

    async def said() -> str:
        return str(await alert.inner_text()) if await alert.is_visible() else ""

    await until(said, lambda text: len(text) > 4, within_s=10, what="the page says what is wrong")
    assert (await point.reception()).peers == 0
    await point.by("join-code-input").fill(code)
    await point.by("join-submit").click()
    await point.receives(frames=10)
