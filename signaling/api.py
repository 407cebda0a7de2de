"""The JSON API under `/api/v1`: joining, lessons, seats, configuration and figures."""

from __future__ import annotations

import io
from importlib import metadata
from typing import Annotated, Literal

import msgspec
import segno
from aiohttp import web

from signaling import admission_bodies, permissions
from signaling import config as configuration
from signaling.admission_bodies import Body, Cap, Names, Reservation, StreamWish
from signaling.audit import acting
from signaling.context import Context
from signaling.doors import claims_of
from signaling.lessons import Lesson
from signaling.problems import LANGUAGES, Problem
from signaling.requests import (
    clean_name,
    client_address,
    decode,
    invalid,
    read_body,
    read_json,
)
from signaling.tokens import MAX_TOKEN_BYTES, Claims

LONGEST_TITLE = 80
LONGEST_NAME = 40
# A configuration file may be longer than other bodies.
CONFIG_BYTES = 1024 * 1024
MAX_STREAMS = 8

_Line = Annotated[str, msgspec.Meta(max_length=1000)]


class CreateLesson(Body, frozen=True):
    """`reserved` is for every stream that has none of its own; `cap` for all of them together."""

    title: _Line
    mode: Literal["dispatch", "masterclass", "open"] = "dispatch"
    streams: (
        Annotated[list[_Line], msgspec.Meta(max_length=MAX_STREAMS)]
        | Annotated[dict[str, StreamWish], msgspec.Meta(max_length=MAX_STREAMS)]
        | None
    ) = None
    cap: Cap | None = None
    scheduled: Names | None = None
    reserved: Reservation | None = None


class Join(Body, frozen=True):
    code: Annotated[str, msgspec.Meta(max_length=40)]
    name: _Line
    seat: Annotated[str, msgspec.Meta(max_length=MAX_TOKEN_BYTES)] | None = None


class PutConfig(Body, frozen=True):
    toml: str


_create_lesson_decoder = msgspec.json.Decoder(CreateLesson)
_join_decoder = msgspec.json.Decoder(Join)
_put_config_decoder = msgspec.json.Decoder(PutConfig)


class Api:
    """The handlers of `/api/v1`."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._version = metadata.version("tongke")

    def routes(self) -> list[web.RouteDef]:
        base = "/api/v1"
        lesson = base + "/lessons/{lesson}"
        return [
            web.get(base + "/hello", self._hello),
            web.get(base + "/me", self._me),
            web.post(base + "/join", self._join),
            web.get(base + "/lessons", self._list),
            web.post(base + "/lessons", self._create),
            web.get(lesson, self._read),
            web.delete(lesson, self._end),
            web.get(lesson + "/join.svg", self._qr),
            web.get(lesson + "/seats", self._seats),
            web.delete(lesson + "/seats/{seat}", self._release),
            web.get(lesson + "/events", self._context.hub.handle),
            web.get(base + "/config", self._config),
            web.put(base + "/config", self._put_config),
            web.get(base + "/config/toml", self._config_toml),
            web.get(base + "/stats", self._stats),
        ]

    # --- for everybody -------------------------------------------------------------------------

    async def _hello(self, request: web.Request) -> web.Response:
        return answer(
            {
                "version": self._version,
                "languages": list(LANGUAGES),
                "modes": list(self._context.config.modes),
                "ice_servers": [],
            }
        )

    async def _me(self, request: web.Request) -> web.Response:
        claims = self._claims(request)
        return answer(
            {
                "role": claims.role,
                "lesson": claims.lesson,
                "seat": claims.seat,
                "name": claims.name,
                "exp": claims.exp,
            }
        )

    async def _join(self, request: web.Request) -> web.Response:
        context = self._context
        self._gate(request)
        body = await read_json(request, self._limit, _join_decoder)
        name = clean_name(body.name, "name", LONGEST_NAME)
        if context.desk.draining:
            raise Problem("draining")
        lesson = self._lesson_of_code(request, body)
        claims = self._earlier_join(body.seat, lesson)
        if claims is not None and claims.seat is not None:
            seat = context.registry.known_seat(lesson, claims.seat, name, claims.role)
        else:
            context.gates.new_seat(client_address(request, context.config))
            seat = context.registry.new_seat(lesson, name, "point", durable=True)
        token = context.tokens.issue(
            "point",
            ttl_s=context.config.auth.token_ttl_s,
            lesson=lesson.id,
            seat=seat.id,
            name=seat.name,
        )
        context.hub.changed(lesson)
        return answer(
            {
                "token": token,
                "seat": {"id": seat.id, "name": seat.name},
                "lesson": lesson.document(context.base_url),
            },
            status=201,
        )

    def _lesson_of_code(self, request: web.Request, body: Join) -> Lesson:
        """The lesson with the code; a wrong one counts against the address."""
        code = "".join(c for c in body.code if c.isdigit() and c.isascii())
        address = client_address(request, self._context.config)
        if self._returns_to(body, code):
            # Guessing by others may have used up the budget of all: a class comes back anyway.
            return self._context.registry.by_code(code)
        self._context.gates.code(address)
        try:
            return self._context.registry.by_code(code)
        except Problem as problem:
            if problem.type == "unknown-join-code":
                self._context.gates.wrong_code(address)
            raise

    def _returns_to(self, body: Join, code: str) -> bool:
        """Whether the request brings a token that was given for this very code."""
        if body.seat is None:
            return False
        try:
            claims = self._context.tokens.verify(body.seat)
        except Problem:
            return False
        lesson = self._context.registry.get(claims.lesson or "")
        return claims.seat is not None and lesson is not None and lesson.join_code == code

    def _earlier_join(self, token: str | None, lesson: Lesson) -> Claims | None:
        """The claims by which the seat comes back; None for a new seat.

        A token that no longer counts is no error: the page kept it from whatever it joined last.
        """
        if token is None:
            return None
        try:
            claims = self._context.tokens.verify(token)
        except Problem:
            return None
        usable = (
            claims.role == "point"
            and claims.lesson == lesson.id
            and claims.seat is not None
            and claims.seat not in lesson.released_seats
        )
        return claims if usable else None

    # --- lessons -------------------------------------------------------------------------------

    async def _create(self, request: web.Request) -> web.Response:
        claims = self._claims(request)
        may = claims.role == "ops" or (claims.role == "teacher" and claims.lesson is None)
        permissions.require(may, claims)
        body = await read_json(request, self._limit, _create_lesson_decoder)
        title = clean_name(body.title, "title", LONGEST_TITLE)
        if self._context.desk.draining or self._context.desk.refusing_lessons:
            raise Problem("draining")
        caps: dict[str, int | None] | None = None
        if isinstance(body.streams, list):
            caps = dict.fromkeys(body.streams)
        elif body.streams is not None:
            caps = {name: wish.cap for name, wish in body.streams.items()}
        admission_bodies.check(body.reserved, body.scheduled, body.streams)
        lesson = self._context.registry.create(title, body.mode, claims.sub, caps)
        admission_bodies.set_up(
            self._context.desk, lesson, body.cap, body.reserved, body.scheduled, body.streams
        )
        self._context.audit.record(claims, "lesson-created", lesson.id, body.mode)
        response = self._answer_lesson(lesson, status=201)
        response.headers["Location"] = f"/api/v1/lessons/{lesson.id}"
        return response

    async def _list(self, request: web.Request) -> web.Response:
        claims = self._claims(request)
        permissions.require(claims.role in ("ops", "teacher"), claims)
        registry = self._context.registry
        return answer(
            {
                "lessons": [
                    lesson.document(self._context.base_url)
                    for lesson in registry.running() + registry.recently_ended()
                    if permissions.owns(claims, lesson)
                ]
            }
        )

    async def _read(self, request: web.Request) -> web.Response:
        return self._answer_lesson(self._seen_lesson(request))

    async def _end(self, request: web.Request) -> web.Response:
        claims = self._claims(request)
        lesson = self._context.registry.find(request.match_info["lesson"])
        permissions.require_owner(claims, lesson)
        if lesson.ended_at is None:
            self._context.desk.end_lesson(lesson)
            self._context.audit.record(claims, "lesson-ended", lesson.id)
        return self._answer_lesson(lesson)

    async def _qr(self, request: web.Request) -> web.Response:
        self._gate(request)
        lesson = self._context.registry.running_lesson(request.match_info["lesson"])
        url = f"{self._context.base_url}/join/{lesson.join_code}"
        image = io.BytesIO()
        segno.make(url, error="m", micro=False).save(
            image, kind="svg", scale=8, border=4, light="#fff", xmldecl=False
        )
        return web.Response(
            body=image.getvalue(),
            content_type="image/svg+xml",
            headers={"Cache-Control": "no-cache"},
        )

    # --- seats ---------------------------------------------------------------------------------

    async def _seats(self, request: web.Request) -> web.Response:
        return answer({"seats": self._owned_lesson(request).seat_documents()})

    async def _release(self, request: web.Request) -> web.Response:
        claims = self._claims(request)
        lesson = self._owned_lesson(request)
        seat = lesson.roster.get(request.match_info["seat"])
        if seat is None or seat.released:
            raise Problem("no-such-seat")
        reason = "ops" if claims.role == "ops" else "teacher"
        self._context.desk.release_seat(lesson, seat, reason)
        self._context.audit.record(claims, "seat-released", f"{lesson.id}/{seat.id}", reason)
        return web.Response(status=204)

    # --- operations ----------------------------------------------------------------------------

    async def _config(self, request: web.Request) -> web.Response:
        permissions.require_ops(self._claims(request))
        return answer(
            {
                "config": configuration.public(self._context.config),
                "source": self._context.configuring.source,
            }
        )

    async def _config_toml(self, request: web.Request) -> web.Response:
        permissions.require_ops(self._claims(request))
        return web.Response(
            text=self._context.configuring.toml,
            content_type="application/toml",
            charset="utf-8",
            headers={"Cache-Control": "no-store"},
        )

    async def _put_config(self, request: web.Request) -> web.Response:
        claims = self._claims(request)
        permissions.require_ops(claims)
        body = decode(await read_body(request, CONFIG_BYTES), _put_config_decoder)
        try:
            with acting(claims):
                changes = self._context.configuring.replace_toml(body.toml)
        except configuration.ConfigError as error:
            raise error.problem() from error
        except OSError as error:
            reason = error.strerror or "error"
            raise invalid(
                "toml", f"无法写入配置文件：{reason}", f"cannot be saved: {reason}"
            ) from error
        return answer(
            {
                "config": configuration.public(self._context.config),
                "source": self._context.configuring.source,
                "changes": changes,
            }
        )

    async def _stats(self, request: web.Request) -> web.Response:
        permissions.require_ops(self._claims(request))
        context = self._context
        await context.supervisor.refresh_stats(sessions=True)
        workers: list[dict[str, object]] = []
        sessions: list[object] = []
        for worker in context.supervisor.workers:
            stats = worker.stats
            workers.append(
                {
                    "worker": worker.index,
                    "ready": worker.ready.is_set(),
                    "restarts": worker.restarts,
                    "pid": worker.process.pid if worker.process is not None else None,
                    "sessions": len(stats.sessions) if stats is not None else 0,
                    "candidates": worker.candidates,
                    "cpu_seconds": stats.cpu_seconds if stats is not None else None,
                    "rss_bytes": stats.rss_bytes if stats is not None else None,
                    "counters": stats.counters if stats is not None else None,
                }
            )
            sessions += stats.sessions if stats is not None else []
        lessons = [x.document(context.base_url) for x in context.registry.running()]
        return answer({"workers": workers, "lessons": lessons, "sessions": sessions})

    # --- inside --------------------------------------------------------------------------------

    @property
    def _limit(self) -> int:
        return self._context.config.limits.body_bytes

    def _gate(self, request: web.Request) -> None:
        self._context.gates.request(client_address(request, self._context.config))

    def _claims(self, request: web.Request) -> Claims:
        """Who asks, within the limits of requests. Raises Problem."""
        return claims_of(request, self._context)

    def _seen_lesson(self, request: web.Request) -> Lesson:
        """The lesson of the path, ended or not, which the token opens. Raises Problem."""
        claims = self._claims(request)
        lesson = self._context.registry.find(request.match_info["lesson"])
        permissions.require_sight(claims, lesson)
        return lesson

    def _owned_lesson(self, request: web.Request) -> Lesson:
        claims = self._claims(request)
        lesson = self._context.registry.find(request.match_info["lesson"])
        permissions.require_owner(claims, lesson)
        return lesson

    def _answer_lesson(self, lesson: Lesson, status: int = 200) -> web.Response:
        return answer(lesson.document(self._context.base_url), status=status)


def answer(document: object, status: int = 200) -> web.Response:
    """A JSON response that no cache keeps."""
    return web.Response(
        status=status,
        body=msgspec.json.encode(document),
        content_type="application/json",
        headers={"Cache-Control": "no-store"},
    )
