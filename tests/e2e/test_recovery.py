"""What breaks in mid-lesson mends itself: a killed worker, a reloaded page, a server gone."""

from __future__ import annotations

import asyncio
import time

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

NAMES = ("红星小学", "清水教学点", "河口小学")
RECOVERS_WITHIN_S = 5.0


async def test_pages_recover_within_five_seconds_when_the_worker_is_killed(
    server: RealServer, tabs: Browsers, figures: Figures
) -> None:
    teacher = await classroom.teacher_starts(server, tabs)
    code = await classroom.join_code(teacher)
    points = await classroom.points_join(server, tabs, code, *NAMES)
    await asyncio.gather(*(point.receives(frames=30) for point in points))

    [old_worker] = server.worker_pids()
    known = [await _connections_made(point) for point in points]
    killed_at = server.kill_worker()
    recovered_s = await asyncio.gather(
        *(
            _first_new_frame_after(point, made, killed_at, within_s=20)
            for point, made in zip(points, known, strict=True)
        )
    )
    figures.append(f"frames again after {', '.join(f'{s:.2f}' for s in recovered_s)} s")
    assert max(recovered_s) <= RECOVERS_WITHIN_S

    await asyncio.gather(*(_goes_on(point) for point in points))
    assert server.worker_pids() != [old_worker]
    await classroom.teacher_sees(teacher, *NAMES)


async def _connections_made(tab: Tab) -> int:
    return int(await tab.page.evaluate("window.e2e.peers.length"))


async def _first_new_frame_after(
    point: Tab, connections_before: int, since: float, *, within_s: float
) -> float:
    """Seconds until a frame was decoded through a connection that was made after the kill.

    The old connection may still decode what its jitter buffer holds, so only frames of peer
    connections that the page opened since then count.
    """

    async def look() -> int:
        frames = await point.page.evaluate(
            """async (known) => {
              let frames = 0;
              for (const peer of window.e2e.peers.slice(known)) {
                for (const entry of (await peer.getStats()).values()) {
                  if (entry.type === "inbound-rtp" && entry.kind === "video") {
                    frames += entry.framesDecoded || 0;
                  }
                }
              }
              return frames;
            }""",
            connections_before,
        )
        return int(frames)

    await until(
        look,
        lambda frames: frames >= 1,
        within_s=within_s,
        what=f"{point.name} decodes frames of a new connection",
        every_s=0.05,
    )
    return time.monotonic() - since


async def _goes_on(point: Tab) -> None:
    now = await point.reception()
    await point.receives(frames=30, since=now)
    await point.shows_moving_picture("lesson-video")
    await point.state_is("connection-state", "live")


async def test_a_teacher_who_reloads_the_page_goes_on_with_the_same_lesson(
    server: RealServer, tabs: Browsers
) -> None:
    teacher = await classroom.teacher_starts(server, tabs)
    code = await classroom.join_code(teacher)
    point = await classroom.point_joins(server, tabs, code, NAMES[0])
    await point.receives(frames=20)

    await teacher.page.reload()
    await classroom.is_on_air(teacher)
    assert await classroom.join_code(teacher) == code
    await _goes_on(point)
    await classroom.teacher_sees(teacher, NAMES[0])
    assert tabs.console_errors() == {}


async def test_a_classroom_that_reloads_the_page_gets_its_own_seat_back(
    server: RealServer, tabs: Browsers
) -> None:
    teacher = await classroom.teacher_starts(server, tabs)
    code = await classroom.join_code(teacher)
    lesson = await classroom.lesson_of(server, code)
    point = await classroom.point_joins(server, tabs, code, NAMES[0])
    await point.receives(frames=20)
    [seat] = await server.seats(lesson["id"])

    await point.page.reload()
    await point.receives(frames=20)
    await _goes_on(point)
    assert [one["id"] for one in await server.seats(lesson["id"])] == [seat["id"]]
    assert tabs.console_errors() == {}


async def test_pages_recover_when_the_whole_server_is_killed_and_started_again(
    server: RealServer, tabs: Browsers, figures: Figures
) -> None:
    teacher = await classroom.teacher_starts(server, tabs)
    code = await classroom.join_code(teacher)
    point = await classroom.point_joins(server, tabs, code, NAMES[0])
    await point.receives(frames=20)

    known = await _connections_made(point)
    server.kill()
    await server.start()
    taken_s = await _first_new_frame_after(point, known, time.monotonic(), within_s=25)
    figures.append(f"frames again {taken_s:.2f} s after the server was back")
    await _goes_on(point)
    assert await classroom.join_code(teacher) == code
    await classroom.teacher_sees(teacher, NAMES[0])
