"""The lesson of a rehearsal as the server knows it: its plan, and seats for its classrooms."""

from __future__ import annotations

import asyncio
import contextlib
from urllib.parse import quote

import aiohttp
import msgspec

from .light.endpoint import Shared
from .whip import problem_of
from .words import CommandError, accept_language, say

REQUESTS_AT_ONCE = 32


class _StreamState(msgspec.Struct):
    cap: int
    receivers: int
    live: bool
    video_kbps: int
    fps: int
    above: bool = False


class _Node(msgspec.Struct):
    workers: int
    packet_us: float
    packet_us_source: str
    target_cpu_percent: float


class _Plan(msgspec.Struct):
    cap: int
    binding: str
    mode: str
    node: _Node


class _Seat(msgspec.Struct):
    id: str


class _Joined(msgspec.Struct):
    """What `POST /api/v1/join` answers, as far as a rehearsal needs it."""

    token: str
    seat: _Seat


class LessonPlan(msgspec.Struct):
    """What `GET /api/v1/plan?lesson=` says, as far as a rehearsal needs it."""

    lesson: str
    join_code: str
    plan: _Plan
    streams: dict[str, _StreamState]

    def room(self) -> int:
        """How many classrooms the caps still admit to all streams."""
        return min((one.cap - one.receivers for one in self.streams.values()), default=0)


class Seats:
    """The seats of the synthetic classrooms: taken with the join code, as a classroom's page does.

    `release` gives them all back, so that they do not stay in the teacher's list.
    """

    def __init__(self, shared: Shared, base: str, token: str, plan: LessonPlan) -> None:
        self._http = shared.http
        self._base = base
        self._token = token
        self._plan = plan
        self._taken: list[str] = []
        self._at_once = asyncio.Semaphore(REQUESTS_AT_ONCE)

    async def take(self, count: int) -> list[str]:
        """The tokens of so many seats."""
        return await asyncio.gather(*(self._join(number + 1) for number in range(count)))

    async def _join(self, number: int) -> str:
        body = {"code": self._plan.join_code, "name": say(f"排练 {number}", f"Rehearsal {number}")}
        async with self._at_once:
            try:
                async with self._http.post(
                    f"{self._base}/api/v1/join",
                    json=body,
                    headers={"Accept-Language": accept_language()},
                    allow_redirects=False,
                ) as response:
                    text = await response.text(errors="replace")
                    if response.status != 201:
                        problem = problem_of(response.status, response.headers, text)
                        raise CommandError(str(problem), kind=problem.kind or "refused")
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                raise _unreachable(self._base, error) from error
        try:
            joined = msgspec.json.decode(text, type=_Joined)
        except msgspec.MsgspecError as error:
            raise _bad_answer("/api/v1/join", error) from error
        self._taken.append(joined.seat.id)
        return joined.token

    async def release(self) -> None:
        await asyncio.gather(*(self._release(seat) for seat in self._taken))

    async def _release(self, seat: str) -> None:
        lesson = quote(self._plan.lesson, safe="")
        url = f"{self._base}/api/v1/lessons/{lesson}/seats/{quote(seat, safe='')}"
        headers = {"Authorization": f"Bearer {self._token}"}
        # A server that has gone has no list to clear.
        async with self._at_once:
            with contextlib.suppress(aiohttp.ClientError, TimeoutError, OSError):
                async with self._http.delete(url, headers=headers, allow_redirects=False):
                    pass


async def ask_plan(shared: Shared, base: str, token: str, lesson: str) -> LessonPlan:
    """Ask the server. Raises CommandError with its own words when it refuses."""
    url = f"{base}/api/v1/plan?lesson={quote(lesson, safe='')}"
    headers = {"Authorization": f"Bearer {token}", "Accept-Language": accept_language()}
    try:
        async with shared.http.get(url, headers=headers, allow_redirects=False) as response:
            body = await response.text(errors="replace")
            if response.status != 200:
                problem = problem_of(response.status, response.headers, body)
                raise CommandError(str(problem), kind=problem.kind or "refused")
        return msgspec.json.decode(body, type=LessonPlan)
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise _unreachable(base, error) from error
    except msgspec.MsgspecError as error:
        raise _bad_answer("/api/v1/plan", error) from error


def _unreachable(base: str, error: Exception) -> CommandError:
    reason = str(error) or type(error).__name__
    return CommandError(
        say(
            f"连不上 {base}：{reason}。服务器在运行吗？",
            f"cannot reach {base}: {reason}. Is the server running?",
        ),
        kind="unreachable",
    )


def _bad_answer(path: str, error: Exception) -> CommandError:
    return CommandError(
        say(f"{path} 的回答看不懂：{error}", f"{path} answered something else: {error}"),
        kind="bad-answer",
    )
