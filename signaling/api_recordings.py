"""`/api/v1/lessons/{id}/recordings`: list, fetch (in ranges) and delete what was recorded.

For the lesson's teacher and for operations. Operations may also reach the files of a lesson that
the store has forgotten, by its id.
"""

from __future__ import annotations

import asyncio

from aiohttp import web

from signaling import permissions
from signaling.api import answer
from signaling.context import Context
from signaling.lessons import Lesson
from signaling.problems import Problem
from signaling.recording_files import CONTENT_TYPES, RecordingFile
from signaling.recordings import Recordings
from signaling.requests import bearer, client_address
from signaling.tokens import Claims


class RecordingsApi:
    """The three handlers of a lesson's recordings."""

    def __init__(self, context: Context, recordings: Recordings) -> None:
        self._context = context
        self._recordings = recordings

    def routes(self) -> list[web.RouteDef]:
        path = "/api/v1/lessons/{lesson}/recordings"
        return [
            web.get(path, self._list),
            web.get(path + "/{file}", self._fetch),
            web.delete(path + "/{file}", self._delete),
        ]

    async def _list(self, request: web.Request) -> web.Response:
        _, lesson = self._opened(request)
        lesson_id = request.match_info["lesson"]
        files = await asyncio.to_thread(self._recordings.files.of_lesson, lesson_id)
        document: dict[str, object] = {
            "recording": False,
            "state": "off",
            "recordings": [file.document() for file in files],
        }
        if lesson is not None:
            document["recording"] = lesson.recording
            document["state"] = self._recordings.state(lesson)
            if detail := self._recordings.trouble(lesson):
                document["detail"] = detail
        return answer(document)

    async def _fetch(self, request: web.Request) -> web.StreamResponse:
        self._opened(request)
        file = await self._file(request)
        # aiohttp answers Range, If-Range, If-None-Match and the like (RFC 9110 section 14).
        return web.FileResponse(
            file.path,
            headers={
                "Content-Type": CONTENT_TYPES[file.path.suffix],
                "Content-Disposition": f'attachment; filename="{file.path.name}"',
                "Cache-Control": "private, no-store",
            },
        )

    async def _delete(self, request: web.Request) -> web.Response:
        claims, _ = self._opened(request)
        file = await self._file(request)
        if file.state == "recording":
            reason = {
                "zh-CN": "正在录制，请在课程结束后或录完这一段后再删除",
                "en": "it is being recorded: delete it when this part, or the lesson, has ended",
            }
            raise Problem(
                "invalid-request", status=409, field="file", detail_args={"reason": reason}
            )
        await asyncio.to_thread(self._recordings.files.delete, file)
        subject = f"{request.match_info['lesson']}/{file.path.name}"
        self._context.audit.record(claims, "recording-deleted", subject)
        return web.Response(status=204)

    def _opened(self, request: web.Request) -> tuple[Claims, Lesson | None]:
        """Who asks, and the lesson if it is still known. Raises Problem."""
        context = self._context
        context.gates.request(client_address(request, context.config))
        claims = bearer(request, context.tokens)
        lesson_id = request.match_info["lesson"]
        try:
            lesson = context.registry.find(lesson_id)
        except Problem:
            if claims.role == "ops" and self._recordings.files.has(lesson_id):
                return claims, None
            raise
        permissions.require_owner(claims, lesson)
        return claims, lesson

    async def _file(self, request: web.Request) -> RecordingFile:
        file = await asyncio.to_thread(
            self._recordings.files.find, request.match_info["lesson"], request.match_info["file"]
        )
        if file is None:
            raise Problem("not-found")
        return file
