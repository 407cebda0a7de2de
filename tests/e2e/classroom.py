"""A lesson held by its pages: a teacher who presses the buttons, and points who join by code."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.e2e.browsers import Browsers, Tab
from tests.e2e.polling import until
from tests.e2e.real_server import RealServer

SIZE = (960, 540)


async def teacher_starts(
    server: RealServer,
    tabs: Browsers,
    *,
    title: str = "圆的面积",
    locale: str = "zh-CN",
    size: tuple[int, int] = SIZE,
) -> Tab:
    """The teacher's page, in a lesson that is on air: frames of the camera leave the browser."""
    teacher = await teacher_page(server, tabs, locale=locale, size=size)
    await teacher.by("lesson-title").fill(title)
    await teacher.by("lesson-mode").select_option("dispatch")
    await teacher.by("start-lesson").click()
    await is_on_air(teacher)
    return teacher


async def teacher_page(
    server: RealServer, tabs: Browsers, *, locale: str = "zh-CN", size: tuple[int, int] = SIZE
) -> Tab:
    address = f"{server.origin}/teach#token={server.token('teacher')}"
    return await tabs.tab("teacher", address, locale=locale, size=size)


async def is_on_air(teacher: Tab, within_s: float = 15) -> None:
    """Wait until the page sends frames through a connection that stands."""
    await until(
        teacher.reception,
        lambda sent: "connected" in sent.states and sent.frames_sent > 5,
        within_s=within_s,
        what="the teacher's camera is on air",
    )


async def join_code(teacher: Tab) -> str:
    """The six digits as the class reads them."""

    async def look() -> str:
        shown: str = await teacher.by("join-code").inner_text()
        return "".join(character for character in shown if character.isdigit())

    return await until(look, lambda code: len(code) == 6, within_s=10, what="a join code is shown")


async def point_joins(
    server: RealServer,
    tabs: Browsers,
    code: str,
    name: str,
    *,
    locale: str = "zh-CN",
    size: tuple[int, int] = SIZE,
) -> Tab:
    """A classroom that types the code and its name."""
    point = await tabs.tab(name, f"{server.origin}/join", locale=locale, size=size)
    await point.by("join-code-input").fill(code)
    await point.by("join-name").fill(name)
    await point.by("join-submit").click()
    return point


async def points_join(server: RealServer, tabs: Browsers, code: str, *names: str) -> list[Tab]:
    return list(await asyncio.gather(*(point_joins(server, tabs, code, name) for name in names)))


async def seats_shown(teacher: Tab) -> list[dict[str, Any]]:
    """What the teacher sees of the classrooms: text and state of each."""
    seats: list[dict[str, Any]] = await teacher.page.evaluate(
        """() => [...document.querySelectorAll('[data-testid="seat"]')].map(
             (seat) => ({ text: seat.textContent, state: seat.dataset.state }))"""
    )
    return seats


async def teacher_sees(teacher: Tab, *names: str, within_s: float = 15) -> None:
    """Wait until exactly these classrooms are shown, each as receiving."""

    def all_there(seats: list[dict[str, Any]]) -> bool:
        return len(seats) == len(names) and all(
            any(name in seat["text"] and seat["state"] == "receiving" for seat in seats)
            for name in names
        )

    await until(
        lambda: seats_shown(teacher),
        all_there,
        within_s=within_s,
        what=f"the teacher sees {', '.join(names)} receiving",
    )


async def lesson_of(server: RealServer, code: str) -> dict[str, Any]:
    """The lesson with that join code, as the operations role sees it."""
    listed = await server.api("GET", "/lessons", token=server.token("ops"))
    [lesson] = [one for one in listed["lessons"] if one["join_code"] == code]
    assert isinstance(lesson, dict)
    return lesson
