"""`tongke demo`: the server with a lesson already running, and the addresses to look at it."""

from __future__ import annotations

import argparse
import asyncio
import unicodedata
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import uvloop

from signaling.app import Server
from signaling.config import Config

from .arguments import TOKEN_VARIABLE, Stopper
from .family import Child
from .hosting import running_server, set_up_logs
from .settings import load_config
from .whip import problem_of, tls_for
from .words import OK, CommandError, accept_language, emit_json, progress, say

LIVE_WITHIN_S = 20.0
POLL_S = 0.2
CAMERA_KBPS = 900
SLIDES_KBPS = 700


def run(args: argparse.Namespace) -> int:
    if args.source is not None and not Path(args.source).is_file():
        raise CommandError(
            say(f"没有这个文件：{args.source}", f"no such file: {args.source}"), kind="no-source"
        )
    config = load_config(args)
    set_up_logs("WARNING")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_demo(config, args))


async def _demo(config: Config, args: argparse.Namespace) -> int:
    async with Stopper() as stopper:
        error = await stopper.run(_until_cancelled(config, args))
    if error is not None:
        raise error
    return OK


async def _until_cancelled(config: Config, args: argparse.Namespace) -> None:
    progress(say("正在启动……", "starting…"))
    async with running_server(config, args) as server, Api(server) as api:
        lesson = await api.create_lesson()
        publishers = [
            asyncio.ensure_future(child.run()) for child in _publishers(server, lesson, args.source)
        ]
        try:
            await api.wait_live(lesson)
            _announce(server, api, lesson, as_json=args.json)
            await asyncio.gather(*publishers)
        finally:
            for publisher in publishers:
                publisher.cancel()
            await asyncio.gather(*publishers, return_exceptions=True)
            await api.end(lesson)


@dataclass(frozen=True, slots=True)
class Lesson:
    id: str
    join_code: str
    streams: tuple[str, ...]


class Api:
    """What the demo asks of its own server, over HTTP like anybody else."""

    def __init__(self, server: Server) -> None:
        self.teacher_token = server.issue_token("teacher")
        self._url = f"{server.url}/api/v1"

    async def __aenter__(self) -> Api:
        connector = aiohttp.TCPConnector(ssl=tls_for(self._url, insecure=True))
        self._http = aiohttp.ClientSession(
            connector=connector,
            headers={
                "Authorization": f"Bearer {self.teacher_token}",
                "Accept-Language": accept_language(),
            },
            timeout=aiohttp.ClientTimeout(total=10),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.close()

    async def create_lesson(self) -> Lesson:
        title = say("演示课：分数加法", "Demonstration: adding fractions")
        asked = {"title": title, "mode": "dispatch", "streams": ["camera", "slides"]}
        lesson = await self._call("POST", "/lessons", asked)
        streams = lesson["streams"]
        assert isinstance(streams, dict)
        return Lesson(str(lesson["id"]), str(lesson["join_code"]), tuple(streams))

    async def wait_live(self, lesson: Lesson) -> None:
        """Wait until every stream sends; go on with a warning when one does not."""
        for _ in range(round(LIVE_WITHIN_S / POLL_S)):
            if await self._all_live(lesson):
                return
            await asyncio.sleep(POLL_S)
        progress(say("演示画面还没有到", "the demonstration's pictures are still to come"))

    async def _all_live(self, lesson: Lesson) -> bool:
        streams = (await self._call("GET", f"/lessons/{lesson.id}"))["streams"]
        assert isinstance(streams, dict)
        return all(stream["live"] for stream in streams.values())

    async def end(self, lesson: Lesson) -> None:
        try:
            await self._call("DELETE", f"/lessons/{lesson.id}")
        except (CommandError, aiohttp.ClientError, TimeoutError) as error:
            progress(str(error))  # we are leaving: the lesson ends as an idle one later

    async def _call(self, method: str, path: str, body: object = None) -> dict[str, object]:
        async with self._http.request(method, self._url + path, json=body) as response:
            if response.status >= 300:
                problem = problem_of(response.status, response.headers, await response.text())
                raise CommandError(str(problem), kind=problem.kind)
            document = await response.json()
            assert isinstance(document, dict)
            return document


def _publishers(server: Server, lesson: Lesson, source: str | None) -> list[Child]:
    """One process per stream, so that encoding never shares a loop with the server."""
    token = server.issue_token("teacher", lesson=lesson.id)
    sources = {"camera": source or "test:teacher", "slides": "test:blackboard"}
    kbps = {"camera": CAMERA_KBPS, "slides": SLIDES_KBPS}
    return [
        Child(
            stream,
            [
                *("publish", sources[stream], f"{server.url}/whip/{lesson.id}/{stream}"),
                *("--loop", "--insecure", "--kbps", str(kbps[stream])),
            ],
            {TOKEN_VARIABLE: token},
        )
        for stream in lesson.streams
        if stream in sources
    ]


def _announce(server: Server, api: Api, lesson: Lesson, *, as_json: bool) -> None:
    ops_token = server.issue_token("ops")
    point_token = server.issue_token("point", lesson=lesson.id)
    teacher_url = f"{server.url}/teach#token={api.teacher_token}"
    ops_url = f"{server.url}/ops#token={ops_token}"
    join_url = f"{server.url}/join/{lesson.join_code}"
    if as_json:
        emit_json(
            {
                "url": server.url,
                "base_url": server.base_url,
                "lesson": lesson.id,
                "join_code": lesson.join_code,
                "teacher_url": teacher_url,
                "join_url": join_url,
                "ops_url": ops_url,
                "teacher_token": api.teacher_token,
                "ops_token": ops_token,
                "point_token": point_token,
            }
        )
        return
    elsewhere = f"{server.base_url}/join"
    code = " ".join((lesson.join_code[:3], lesson.join_code[3:]))
    for line in box(
        [
            say(f"同课演示已开始    课堂码 {code}", f"The demonstration runs    join code {code}"),
            "",
            say("听课教室", "teaching point"),
            f"  {join_url}",
            say(f"  （其他设备：{elsewhere}）", f"  (other devices: {elsewhere})"),
            say("按 Ctrl-C 停止", "Ctrl-C stops it"),
        ]
    ):
        print(line)
    # Outside the box: these are longer than a terminal is wide, and are copied whole.
    print(say("主讲教师", "teacher"), teacher_url, sep="\n")
    print(say("运维", "operations"), ops_url, sep="\n", flush=True)


def box(lines: list[str]) -> list[str]:
    """Put a frame around lines; Chinese characters count as two columns."""
    width = max(columns(line) for line in lines)
    framed = [f"│ {line}{' ' * (width - columns(line))} │" for line in lines]
    return [f"╭{'─' * (width + 2)}╮", *framed, f"╰{'─' * (width + 2)}╯"]


def columns(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)
