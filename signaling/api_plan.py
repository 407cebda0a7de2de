"""The plan and the line test over HTTP: `/api/v1/plan` and `/api/v1/lessons/{id}/linetest`."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections import Counter
from pathlib import Path
from time import monotonic, time

import msgspec
from aiohttp import web

from signaling import permissions
from signaling.api import answer
from signaling.calibration import stored
from signaling.config import worker_count
from signaling.context import Context
from signaling.lessons import Lesson
from signaling.linetest import (
    MOST_TRANSFER_BYTES,
    LineResult,
    LineTest,
    TestGate,
    judge,
    needs,
)
from signaling.plan_document import document
from signaling.plan_drawing import svg
from signaling.planner import ModePlan, Node, plan_mode
from signaling.problems import Problem
from signaling.requests import bearer, client_address, invalid, language, read_json
from signaling.store.linetests import FILE_NAME, LineTests
from signaling.tokens import Claims

CHUNK_BYTES = 64 * 1024
# Noise that no proxy can compress: longer than the window of any common compressor.
NOISE_BYTES = 1024 * 1024
TRANSFER_S = 20.0
MOST_LINES = 1000
# A measured line, and the plan that follows from it, are no secret; caches must not answer tests.
_FRESH = {"Cache-Control": "no-store, no-transform"}

_result_decoder = msgspec.json.Decoder(LineResult)


class PlanApi:
    """The handlers; one per server."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._gate = TestGate()
        self._noise = memoryview(secrets.token_bytes(NOISE_BYTES))
        self._directory = Path(context.config.server.data_dir)
        self._tests = LineTests(self._directory / FILE_NAME)
        for lesson in context.registry.running():
            lesson.roster.lines.update(self._tests.of_lesson(lesson.id))

    def routes(self) -> list[web.RouteDef]:
        linetest = "/api/v1/lessons/{lesson}/linetest"
        return [
            web.get("/api/v1/plan", self._plan),
            web.get("/api/v1/plan/{mode}.svg", self._drawing),
            web.get(linetest + "/ping", self._ping),
            web.get(linetest + "/down", self._down),
            web.post(linetest + "/up", self._up),
            web.post(linetest + "/result", self._result),
        ]

    async def close(self, _app: web.Application | None = None) -> None:
        self._tests.close()

    # --- the plan ------------------------------------------------------------------------------

    async def _plan(self, request: web.Request) -> web.Response:
        """All modes for ops; with `?lesson=`, the plan of one lesson with its measured lines."""
        claims = self._claims(request)
        wanted = request.query.get("lesson")
        if wanted is not None:
            lesson = self._context.registry.find(wanted)
            permissions.require_owner(claims, lesson)
            return answer(self._of_lesson(lesson))
        permissions.require_ops(claims)
        lines = _lines(request.query.get("lines"))
        return answer(
            {"plans": [document(self._of_mode(mode, lines)) for mode in self._context.config.modes]}
        )

    async def _drawing(self, request: web.Request) -> web.Response:
        permissions.require_ops(self._claims(request))
        mode = request.match_info["mode"]
        if mode not in self._context.config.modes:
            raise Problem("not-found")
        drawn = svg(self._of_mode(mode, _lines(request.query.get("lines"))), language(request))
        return web.Response(text=drawn, content_type="image/svg+xml", headers=_FRESH)

    def _of_mode(self, mode: str, lines: list[float]) -> ModePlan:
        config = self._context.config
        # Read each time: `tongke plan --calibrate` may have measured since.
        measured = stored(self._directory)
        node = Node.of(
            config.planner,
            workers=worker_count(config.server),
            cores=os.cpu_count() or 1,
            measured_us=None if measured is None else measured.packet_us,
        )
        return plan_mode(config, mode, node, lines_kbps=lines)

    def _of_lesson(self, lesson: Lesson) -> dict[str, object]:
        """The plan, the lesson's own caps and lines beside it, and what rehearsals need to know.

        Measured lines do not bind here: who has not tested yet may well come.
        """
        plan = self._lesson_plan(lesson)
        verdicts = Counter(test.verdict for test in lesson.roster.lines.values())
        own: dict[str, object] = {}
        for name, stream in lesson.streams.items():
            settings = self._context.registry.settings(lesson.mode, name)
            own[name] = {
                **stream.document(),
                "above": stream.admission.cap > plan.cap,
                "video_kbps": settings.video_kbps,
                "fps": settings.fps,
            }
        return {
            "lesson": lesson.id,
            "join_code": lesson.join_code,
            "plan": document(plan),
            "streams": own,
            "tested_lines": {
                "full": verdicts["full"],
                "smaller": verdicts["smaller"],
                "too_slow": verdicts["too-slow"],
            },
        }

    def _lesson_plan(self, lesson: Lesson) -> ModePlan:
        try:
            return self._of_mode(lesson.mode, [])
        except KeyError as error:  # its mode has left the configuration since
            raise Problem("not-found") from error

    # --- the line test -------------------------------------------------------------------------

    async def _ping(self, request: web.Request) -> web.Response:
        self._tester(request)
        return web.Response(status=204, headers=_FRESH)

    async def _down(self, request: web.Request) -> web.StreamResponse:
        _, _, key = self._tester(request)
        size = _size(request.query.get("bytes"))
        self._begin(key, size)
        try:
            response = web.StreamResponse(
                headers={
                    **_FRESH,
                    "Content-Type": "application/octet-stream",
                    "Content-Length": str(size),
                    "Content-Encoding": "identity",
                }
            )
            await response.prepare(request)
            async with asyncio.timeout(TRANSFER_S):
                await self._send_noise(response, size)
            await response.write_eof()
        except TimeoutError:
            # Said by closing: a line this slow has measured itself, and the length is promised.
            if request.transport is not None:
                request.transport.close()
        finally:
            self._gate.end()
        return response

    async def _send_noise(self, response: web.StreamResponse, size: int) -> None:
        start = secrets.randbelow(NOISE_BYTES - CHUNK_BYTES)
        while size > 0:
            part = min(size, CHUNK_BYTES, NOISE_BYTES - start)
            await response.write(self._noise[start : start + part])
            size -= part
            start = (start + part) % NOISE_BYTES

    async def _up(self, request: web.Request) -> web.Response:
        _, _, key = self._tester(request)
        size = request.content_length
        if size is None:
            raise invalid("Content-Length", "缺少长度", "it is missing")
        if size > MOST_TRANSFER_BYTES:
            raise Problem("body-too-large", extra={"limit": MOST_TRANSFER_BYTES})
        self._begin(key, size)
        received = 0
        started = monotonic()
        try:
            async with asyncio.timeout(TRANSFER_S):
                async for chunk in request.content.iter_any():
                    received += len(chunk)
        except TimeoutError:
            # What did arrive in that time is the answer.
            pass
        finally:
            self._gate.end()
        response = answer({"bytes": received, "seconds": round(monotonic() - started, 3)})
        if received < size:
            response.force_close()
        return response

    async def _result(self, request: web.Request) -> web.Response:
        lesson, claims, _ = self._tester(request)
        body = await read_json(request, self._context.config.limits.body_bytes, _result_decoder)
        plan = self._lesson_plan(lesson)
        verdict = judge(body, plan)
        test = LineTest(at=time(), verdict=verdict, result=body)
        if claims.seat is not None:
            lesson.roster.lines[claims.seat] = test
            self._tests.save(lesson.id, claims.seat, test)
            self._context.hub.changed(lesson)
        lines = needs(plan)
        return answer(
            {
                "verdict": verdict,
                "full_kbps": lines.full_kbps,
                "least_kbps": lines.least_kbps,
                "kept": claims.seat is not None,
            }
        )

    # --- inside --------------------------------------------------------------------------------

    def _claims(self, request: web.Request) -> Claims:
        context = self._context
        context.gates.request(client_address(request, context.config))
        return bearer(request, context.tokens)

    def _tester(self, request: web.Request) -> tuple[Lesson, Claims, str]:
        """The lesson, who tests, and the key that its bytes are counted under."""
        claims = self._claims(request)
        lesson = self._context.registry.running_lesson(request.match_info["lesson"])
        permissions.require_sight(claims, lesson)
        if claims.seat in lesson.released_seats:
            raise Problem("no-such-seat")
        return lesson, claims, claims.seat or claims.sub

    def _begin(self, key: str, size: int) -> None:
        wait_s = self._gate.begin(key, size, monotonic())
        if wait_s:
            raise Problem("too-many-requests", retry_after=wait_s)


def _size(text: str | None) -> int:
    size = int(text) if text and len(text) < 10 and text.isascii() and text.isdigit() else 0
    if not 1 <= size <= MOST_TRANSFER_BYTES:
        raise invalid(
            "bytes",
            f"应为 1 到 {MOST_TRANSFER_BYTES} 的整数",
            f"it must be a whole number from 1 to {MOST_TRANSFER_BYTES}",
        )
    return size


def _lines(text: str | None) -> list[float]:
    """`2000,4000` as kbit/s; none when the query has none."""
    if not text:
        return []
    words = text.split(",")
    try:
        found = [float(word) for word in words[: MOST_LINES + 1]]
    except ValueError:
        found = [-1.0]
    if len(words) > MOST_LINES or not all(0 <= line <= 100_000_000 for line in found):
        raise invalid(
            "lines",
            f"应为至多 {MOST_LINES} 个 kbit/s 数，用逗号分隔",
            f"it must be at most {MOST_LINES} figures in kbit/s, with commas between",
        )
    return found
