"""The JSON API of admission: caps, reservations and lists of running lessons, and decisions."""

from __future__ import annotations

from typing import Final

import msgspec
from aiohttp import web
from msgspec import UNSET

from signaling import admission_bodies as bodies
from signaling import permissions
from signaling.api import answer
from signaling.context import Context
from signaling.desk import Desk
from signaling.doors import claims_of
from signaling.lessons import Lesson
from signaling.outputs import OutputStream
from signaling.requests import invalid, read_json
from signaling.tokens import Claims

MAX_DECISIONS: Final = 500
DEFAULT_DECISIONS: Final = 100

patch_stream_decoder = msgspec.json.Decoder(bodies.PatchStream)
patch_lesson_decoder = msgspec.json.Decoder(bodies.PatchLesson)


class AdmissionApi:
    """The handlers of streams, of a lesson's lists, and of its decisions."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def routes(self) -> list[web.RouteDef]:
        lesson = "/api/v1/lessons/{lesson}"
        return [
            web.patch(lesson, self._patch_lesson),
            web.get(lesson + "/streams/{stream}", self._stream),
            web.patch(lesson + "/streams/{stream}", self._patch_stream),
            web.get(lesson + "/decisions", self._decisions),
        ]

    async def _stream(self, request: web.Request) -> web.Response:
        claims = claims_of(request, self._context)
        lesson = self._context.registry.find(request.match_info["lesson"])
        permissions.require_sight(claims, lesson)
        return _answer_stream(claims, lesson, lesson.stream(request.match_info["stream"]))

    async def _patch_stream(self, request: web.Request) -> web.Response:
        claims = claims_of(request, self._context)
        permissions.require(claims.role in ("ops", "teacher"), claims)
        body = await read_json(request, self._limit, patch_stream_decoder)
        bodies.require_something(body)
        lesson = self._context.registry.running_lesson(request.match_info["lesson"])
        permissions.require_owner(claims, lesson)
        if body.cap is not UNSET:
            permissions.require_ops(claims)
        stream = lesson.stream(request.match_info["stream"])
        subject = f"{lesson.id}/{stream.name}"
        if body.reserved is not UNSET:
            count = bodies.reserve(self._desk, lesson, [stream], body.reserved, "reserved")
            self._context.audit.record(claims, "reservations-changed", subject, f"{count} names")
        if body.cap is not UNSET:
            before = stream.admission.cap
            left = self._desk.capping.set_cap(lesson, stream, body.cap, cut_now=body.now)
            reason = f"from {before} to {body.cap}" + (f", {left} had to leave" if left else "")
            self._context.audit.record(claims, "cap-changed", subject, reason)
        return _answer_stream(claims, lesson, stream)

    async def _patch_lesson(self, request: web.Request) -> web.Response:
        claims = claims_of(request, self._context)
        permissions.require(claims.role in ("ops", "teacher"), claims)
        body = await read_json(request, self._limit, patch_lesson_decoder)
        bodies.require_something(body)
        lesson = self._context.registry.running_lesson(request.match_info["lesson"])
        permissions.require_owner(claims, lesson)
        if body.cap is not UNSET:
            permissions.require_ops(claims)
        if body.reserved is not UNSET:
            streams = lesson.streams.values()
            count = bodies.reserve(self._desk, lesson, streams, body.reserved, "reserved")
            self._context.audit.record(
                claims, "reservations-changed", lesson.id, f"{count} names, every stream"
            )
        if body.scheduled is not UNSET:
            names = bodies.clean_names(body.scheduled, "scheduled")
            self._desk.capping.schedule(lesson, names)
            self._context.audit.record(claims, "schedule-changed", lesson.id, f"{len(names)} names")
        if body.cap is not UNSET:
            before = lesson.admission.allowance.limit
            self._desk.capping.set_lesson_cap(lesson, body.cap)
            self._context.audit.record(
                claims, "lesson-cap-changed", lesson.id, f"from {before} to {body.cap}"
            )
        return answer(lesson.document(self._context.base_url))

    async def _decisions(self, request: web.Request) -> web.Response:
        permissions.require_ops(claims_of(request, self._context))
        lesson = self._context.registry.find(request.match_info["lesson"])
        limit = _number(request, "limit", DEFAULT_DECISIONS, MAX_DECISIONS)
        before = _number(request, "before", 0, 2**53) or None
        self._desk.capping.write_decisions(lesson)
        return answer({"decisions": self._desk.capping.decisions.read(lesson.id, before, limit)})

    @property
    def _desk(self) -> Desk:
        return self._context.desk

    @property
    def _limit(self) -> int:
        return self._context.config.limits.body_bytes


def _answer_stream(claims: Claims, lesson: Lesson, stream: OutputStream) -> web.Response:
    document = stream.document()
    if permissions.owns(claims, lesson):
        document["reservations"] = bodies.reservations_document(stream)
    return answer(document)


def _number(request: web.Request, name: str, default: int, most: int) -> int:
    """A whole number of the query. Raises Problem `invalid-request`."""
    text = request.query.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 17 and 0 < int(text) <= most):
        raise invalid(name, f"应为 1 到 {most} 的整数", f"a whole number from 1 to {most}")
    return int(text)
