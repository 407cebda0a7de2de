"""Two-way interaction on real media: who is heard by whom, the wall's colours, the stage, a kill.

A teacher and three classrooms, each one colour and one tone, in Chromium; the server mixes.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from tests.e2e.browsers import Browsers, Tab
from tests.e2e.polling import Figures, until
from tests.e2e.real_server import RealServer

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(150, method="signal"),
]

SCRIPT = Path(__file__).with_name("interaction.js").read_text(encoding="utf-8")
TEACHER_HZ = 400
# Off each other's harmonics, and of colours that no scaling or coding turns into one another.
ROOMS = (
    ("红星小学", "#d01818", 730),
    ("清水教学点", "#18a018", 1130),
    ("Hilltop", "#1828d0", 1790),
)
TONES = [TEACHER_HZ, *(hertz for _name, _colour, hertz in ROOMS)]
PRESENT_DB, ABSENT_DB = -62.0, -75.0
MIXER_BACK_WITHIN_S = 10.0  # it takes one second; a busy test machine may take more


@dataclass
class Room:
    tab: Tab
    token: str
    seat: str
    index: int


@dataclass
class Class:
    """The lesson of this module, with all its pages open."""

    server: RealServer
    lesson: str
    teacher: Tab
    rooms: list[Room]
    events: list[dict[str, Any]] = field(default_factory=list)

    @property
    def token(self) -> str:
        return self.server.token("ops")

    async def act(self, action: str, **fields: object) -> dict[str, Any]:
        floor: dict[str, Any] = await self.server.api(
            "POST",
            f"/lessons/{self.lesson}/floor",
            token=self.token,
            json_body={"action": action, **fields},
        )
        return floor

    async def set_floor(self, *rooms: Room) -> None:
        """Exactly these are on the floor."""
        floor = await self.server.api("GET", f"/lessons/{self.lesson}/floor", token=self.token)
        wanted = [room.seat for room in rooms]
        for seat in floor["seats"]:
            if seat not in wanted:
                await self.act("revoke", seat=seat)
        for seat in wanted:
            await self.act("grant", seat=seat)

    def last(self, kind: str) -> dict[str, Any]:
        return next((e for e in reversed(self.events) if e["type"] == kind), {})

    async def hears(self, tab: Tab, name: str, *hertz: int, within_s: float = 15) -> None:
        """Wait until a page hears these tones under `name` and none of the others."""

        async def look() -> tuple[list[float], int]:
            levels: list[float] = await tab.page.evaluate(
                "([name, tones]) => window.room.hear(name, tones)", [name, TONES]
            )
            return levels, (await tab.reception()).audio_packets

        def right(heard: tuple[list[float], int]) -> bool:
            return all(
                level > PRESENT_DB if tone in hertz else level < ABSENT_DB
                for tone, level in zip(TONES, heard[0], strict=True)
            )

        await until(
            look, right, within_s=within_s, what=f"{tab.name} hears {hertz} of {TONES} in {name}"
        )

    async def sees(
        self, tab: Tab, name: str, *colours: tuple[tuple[float, float], str], within_s: float = 15
    ) -> None:
        """Wait until a picture shows these colours at these places."""
        places = [place for place, _colour in colours]

        async def look() -> list[list[int]] | None:
            seen: list[list[int]] | None = await tab.page.evaluate(
                "([name, places]) => window.room.see(name, places)", [name, places]
            )
            return seen

        def right(seen: list[list[int]] | None) -> bool:
            return seen is not None and all(
                near(pixel, colour) for pixel, (_place, colour) in zip(seen, colours, strict=True)
            )

        await until(look, right, within_s=within_s, what=f"{tab.name} sees {colours} in {name}")


def near(pixel: list[int], colour: str) -> bool:
    wanted = [int(colour[at : at + 2], 16) for at in (1, 3, 5)]
    return all(abs(a - b) < 70 for a, b in zip(pixel, wanted, strict=True))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def lesson(server: RealServer, browsers: Browsers) -> AsyncIterator[Class]:
    made = await server.new_lesson(caps={"camera": 10, "slides": 10})
    lesson_id = made["id"]
    address = f"{server.origin}/healthz"
    teacher = await browsers.tab("teacher", address, scripts=(SCRIPT,))
    school = Class(server, lesson_id, teacher, [])
    listening = asyncio.create_task(listen(school))
    await publish(school, teacher, "camera", school.token, "#808080", 0, TEACHER_HZ)
    for index, (name, colour, hertz) in enumerate(ROOMS):
        joined = await server.api(
            "POST", "/join", json_body={"code": made["join_code"], "name": name}
        )
        tab = await browsers.tab(name, address, scripts=(SCRIPT,))
        room = Room(tab, joined["token"], joined["seat"]["id"], index)
        school.rooms.append(room)
        await publish(school, tab, "return", room.token, colour, index + 1, hertz)
        await receive(school, tab, "class", room.token, "audio")
    await receive(school, teacher, "wall", school.token, "video")
    await receive(school, teacher, "teacher-mix", school.token, "audio")
    await receive(school, teacher, "stage", school.token, "audio", "video")
    yield school
    listening.cancel()
    await browsers.close_tabs()


async def publish(
    school: Class, tab: Tab, stream: str, token: str, colour: str, number: int, hertz: int
) -> None:
    what = {"colour": colour, "number": number, "hertz": hertz, "width": 320, "height": 180}
    await tab.page.evaluate(
        "([url, token, what]) => window.room.publish(url, token, what)",
        [f"/whip/{school.lesson}/{stream}", token, what],
    )


async def receive(school: Class, tab: Tab, stream: str, token: str, *kinds: str) -> None:
    await tab.page.evaluate(
        "([url, token, name, kinds]) => window.room.receive(url, token, name, kinds)",
        [f"/whep/{school.lesson}/{stream}", token, stream, list(kinds)],
    )


async def listen(school: Class) -> None:
    """Keep what the teacher's page would be told."""
    url = f"{school.server.origin}/api/v1/lessons/{school.lesson}/events"
    async with school.server.http.ws_connect(url) as socket:
        await socket.send_json({"type": "hello", "token": school.token})
        async for message in socket:
            if message.type is aiohttp.WSMsgType.TEXT:
                school.events.append(message.json())


async def test_off_the_floor_all_hear_the_teacher_only(lesson: Class) -> None:
    for room in lesson.rooms:
        await lesson.hears(room.tab, "class", TEACHER_HZ, within_s=25)
    await lesson.hears(lesson.teacher, "teacher-mix")


async def test_on_the_floor_each_hears_the_others_and_not_itself(lesson: Class) -> None:
    await lesson.set_floor(*lesson.rooms)
    for room in lesson.rooms:
        others = [tone for tone in TONES if tone != ROOMS[room.index][2]]
        await lesson.hears(room.tab, "class", *others)
    await lesson.hears(lesson.teacher, "teacher-mix", *TONES[1:])
    await lesson.hears(lesson.teacher, "stage", *TONES)


async def test_a_muted_one_is_heard_by_nobody_and_an_answering_class_by_all(
    lesson: Class,
) -> None:
    first, second, third = lesson.rooms
    await lesson.set_floor(first)
    await lesson.act("mute", seat=first.seat)
    await lesson.hears(second.tab, "class", TEACHER_HZ)
    await lesson.act("unmute", seat=first.seat)
    await lesson.hears(second.tab, "class", TEACHER_HZ, ROOMS[0][2])
    await lesson.act("all-answer", on=True)
    await lesson.hears(third.tab, "class", TEACHER_HZ, ROOMS[0][2], ROOMS[1][2])
    await lesson.hears(lesson.teacher, "teacher-mix", *TONES[1:])
    await lesson.act("all-answer", on=False)
    await lesson.hears(third.tab, "class", TEACHER_HZ, ROOMS[0][2])


async def test_the_wall_shows_each_colour_in_its_tile(lesson: Class) -> None:
    async def tiles() -> list[dict[str, Any]]:
        wall = lesson.last("wall")
        return wall.get("tiles", [])

    shown = await until(
        tiles, lambda now: len(now) == 3, within_s=10, what="the wall is told with three tiles"
    )
    assert {tile["seat"] for tile in shown} == {room.seat for room in lesson.rooms}
    await wall_is_right(lesson)


async def wall_is_right(lesson: Class) -> None:
    """Wait until each tile that the teacher was told of shows its classroom's colour."""
    wall = lesson.last("wall")
    colours = {room.seat: ROOMS[room.index][1] for room in lesson.rooms}
    middles = [
        (
            (tile["x"] + tile["width"] / 2) / wall["width"],
            (tile["y"] + tile["height"] / 2) / wall["height"],
        )
        for tile in wall["tiles"]
    ]
    wanted = [colours[tile["seat"]] for tile in wall["tiles"]]
    await lesson.sees(lesson.teacher, "wall", *zip(middles, wanted, strict=True), within_s=20)


async def test_the_stage_follows_the_floor(lesson: Class) -> None:
    first, second, _third = lesson.rooms
    for room in (first, second):
        await lesson.set_floor(room)
        await lesson.act("layout", layout="side-by-side")
        colour = ROOMS[room.index][1]
        await lesson.sees(
            lesson.teacher, "stage", ((0.25, 0.6), "#808080"), ((0.75, 0.6), colour), within_s=20
        )
    await lesson.set_floor()
    await lesson.act("layout", layout="teacher")
    await lesson.sees(
        lesson.teacher, "stage", ((0.25, 0.6), "#808080"), ((0.75, 0.6), "#808080"), within_s=20
    )


async def test_a_killed_mixer_is_back_and_the_camera_never_stopped(
    lesson: Class, figures: Figures
) -> None:
    first, second, third = lesson.rooms
    await lesson.set_floor(first)
    await lesson.hears(second.tab, "class", TEACHER_HZ, ROOMS[0][2])
    await receive(lesson, third.tab, "camera", third.token, "audio", "video")
    await third.tab.receives(frames=10, sound=False)
    before = await third.tab.reception()
    pids = [p for p, c in lesson.server.process.family().items() if "mixer.process" in c]
    assert len(pids) == 1
    killed_at = time.monotonic()
    os.kill(pids[0], signal.SIGKILL)

    async def back() -> list[int]:
        family = lesson.server.process.family().items()
        return [p for p, c in family if "mixer.process" in c and p not in pids]

    await until(back, bool, within_s=MIXER_BACK_WITHIN_S, what="another mixer runs")
    heard = await second.tab.reception()
    await until(
        second.tab.reception,
        lambda now: now.audio_packets > heard.audio_packets + 25,
        within_s=15,
        what="the mixed sound is back",
    )
    figures.append(f"mixed sound again {time.monotonic() - killed_at:.1f} s after the kill")
    await lesson.hears(second.tab, "class", TEACHER_HZ, ROOMS[0][2])
    await wall_is_right(lesson)
    after = await third.tab.reception()
    seconds = time.monotonic() - killed_at
    assert after.frames - before.frames > 5 * seconds, "the camera stood still meanwhile"
    assert after.freezes == before.freezes


async def test_returns_and_mixes_come_back_after_a_worker_was_killed(lesson: Class) -> None:
    first, second, _third = lesson.rooms
    await lesson.set_floor(first)
    lesson.server.kill_worker()
    await until(
        lesson.server.stats,
        lambda now: now["workers"][0]["ready"] and now["workers"][0]["restarts"] == 1,
        within_s=15,
        what="the worker is there again",
    )
    # What pages do when they are told to rejoin.
    await publish(lesson, lesson.teacher, "camera", lesson.token, "#808080", 0, TEACHER_HZ)
    for room in (first, second):
        _name, colour, hertz = ROOMS[room.index]
        await publish(lesson, room.tab, "return", room.token, colour, room.index + 1, hertz)
        await receive(lesson, room.tab, "class", room.token, "audio")
    await receive(lesson, lesson.teacher, "teacher-mix", lesson.token, "audio")
    await lesson.hears(first.tab, "class", TEACHER_HZ, within_s=25)
    await lesson.hears(second.tab, "class", TEACHER_HZ, ROOMS[0][2])
    await lesson.hears(lesson.teacher, "teacher-mix", ROOMS[0][2])
