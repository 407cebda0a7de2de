"""`/api/v1/lessons/{id}/floor`: read a lesson's floor, and act on it."""

from __future__ import annotations

import msgspec
from aiohttp import web

from signaling import permissions
from signaling.api import answer
from signaling.context import Context
from signaling.interaction import Action
from signaling.requests import bearer, client_address, read_json
from signaling.tokens import Claims

_decoder = msgspec.json.Decoder(Action)


class FloorApi:
    """The two handlers of a lesson's floor."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def routes(self) -> list[web.RouteDef]:
        path = "/api/v1/lessons/{lesson}/floor"
        return [web.get(path, self._read), web.post(path, self._act)]

    async def _read(self, request: web.Request) -> web.Response:
        claims = self._claims(request)
        lesson = self._context.registry.running_lesson(request.match_info["lesson"])
        permissions.require_sight(claims, lesson)
        return answer(lesson.floor.document())

    async def _act(self, request: web.Request) -> web.Response:
        claims = self._claims(request)
        lesson = self._context.registry.running_lesson(request.match_info["lesson"])
        permissions.require_sight(claims, lesson)
        action = await read_json(request, self._context.config.limits.body_bytes, _decoder)
        lesson = self._context.registry.running_lesson(lesson.id)
        self._context.interaction.act(lesson, claims, action)
        return answer(lesson.floor.document())

    def _claims(self, request: web.Request) -> Claims:
        self._context.gates.request(client_address(request, self._context.config))
        return bearer(request, self._context.tokens)
