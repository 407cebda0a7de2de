"""WHIP (RFC 9725) and WHEP: an SDP offer comes in, a session with its own location goes out."""

from __future__ import annotations

from aiohttp import web

from signaling import permissions, returns
from signaling.context import Context
from signaling.lessons import Lesson
from signaling.problems import Problem
from signaling.requests import bearer, client_address, read_text
from signaling.sessions import Kind, MediaSession
from signaling.tokens import Claims

SDP = "application/sdp"
FRAGMENT = "application/trickle-ice-sdpfrag"
MAX_TICKET_CHARS = 64

_PREFLIGHT_HEADERS = {
    "Accept-Post": SDP,
    "Access-Control-Allow-Methods": "POST, PATCH, DELETE, OPTIONS",
    "Access-Control-Allow-Headers": (
        "Authorization, Content-Type, If-Match, Accept-Language, Tongke-Ticket"
    ),
    "Access-Control-Max-Age": "86400",
}


class Media:
    """The handlers of `/whip/…` and `/whep/…`."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def routes(self) -> list[web.RouteDef]:
        endpoint, location = "/{lesson}/{stream}", "/{lesson}/{stream}/{session}"
        routes = [
            web.post("/whip" + endpoint, self._publish),
            web.post("/whep" + endpoint, self._receive),
        ]
        for protocol in ("/whip", "/whep"):
            routes += [
                web.options(protocol + endpoint, self._options),
                web.options(protocol + location, self._options),
                web.patch(protocol + location, self._patch),
                web.delete(protocol + location, self._delete),
            ]
        return routes

    async def _options(self, request: web.Request) -> web.Response:
        return web.Response(status=204, headers=_PREFLIGHT_HEADERS)

    async def _publish(self, request: web.Request) -> web.Response:
        claims = self._claims(request)
        lesson = self._context.registry.running_lesson(request.match_info["lesson"])
        if request.match_info["stream"] == "return":
            return await self._publish_return(request, claims, lesson)
        permissions.require_owner(claims, lesson)
        stream = lesson.stream(request.match_info["stream"]).name
        offer = await self._read(request, SDP)
        self._context.gates.join(claims)
        lesson = self._context.registry.running_lesson(lesson.id)
        session, answer = await self._context.desk.open_publisher(lesson, stream, claims, offer)
        return self._created(request, session, answer)

    async def _publish_return(
        self, request: web.Request, claims: Claims, lesson: Lesson
    ) -> web.Response:
        """What a teaching point sends back, under its own seat whatever it says."""
        config = self._context.config
        returns.require_return(config, lesson, claims)
        offer = await self._read(request, SDP)
        self._context.gates.join(claims)
        lesson = self._context.registry.running_lesson(lesson.id)
        session, answer = await self._context.desk.open_return(
            lesson, claims, offer, config.mixer.full_kbps
        )
        return self._created(request, session, answer)

    async def _receive(self, request: web.Request) -> web.Response:
        claims = self._claims(request)
        lesson = self._context.registry.running_lesson(request.match_info["lesson"])
        config, name = self._context.config, request.match_info["stream"]
        stream = returns.receivable(config, lesson, name, claims)
        offer = await self._read(request, SDP)
        ticket = request.headers.get("Tongke-Ticket")
        if ticket is not None and len(ticket) > MAX_TICKET_CHARS:
            ticket = None
        self._context.gates.join(claims)
        lesson = self._context.registry.running_lesson(lesson.id)
        session, answer = await self._context.desk.open_receiver(
            lesson, stream, claims, offer, ticket
        )
        return self._created(request, session, answer)

    def _created(self, request: web.Request, session: MediaSession, answer: str) -> web.Response:
        return web.Response(
            status=201,
            text=answer,
            content_type=SDP,
            headers={
                "Location": f"{request.rel_url.raw_path}/{session.id}",
                "ETag": f'"{session.etag}"',
                "Accept-Patch": FRAGMENT,
                "Cache-Control": "no-store",
            },
        )

    async def _patch(self, request: web.Request) -> web.Response:
        session = self._session(request)
        if_match = request.headers.get("If-Match")
        if if_match is None:
            raise Problem("precondition-required")
        if session not in self._context.desk.sessions:
            raise Problem("no-such-session")
        fragment = await self._read(request, FRAGMENT)
        patched = await self._context.desk.patch(session, fragment, _entity_tag(if_match))
        headers = {"ETag": f'"{patched.etag}"', "Cache-Control": "no-store"}
        if patched.fragment is None:
            return web.Response(status=204, headers=headers)
        return web.Response(text=patched.fragment, content_type=FRAGMENT, headers=headers)

    async def _delete(self, request: web.Request) -> web.Response:
        self._context.desk.close(self._session(request))
        return web.Response(status=200)

    # --- inside --------------------------------------------------------------------------------

    def _claims(self, request: web.Request) -> Claims:
        """The token's claims. A wrong one counts against the address, a right one does not:
        hundreds of receivers may share an address."""
        try:
            return bearer(request, self._context.tokens)
        except Problem:
            self._context.gates.request(client_address(request, self._context.config))
            raise

    def _session(self, request: web.Request) -> MediaSession:
        """The session of a location, for whoever opened it. Raises Problem."""
        claims = self._claims(request)
        kind: Kind = "publisher" if request.path.startswith("/whip/") else "receiver"
        names = request.match_info
        session = self._context.desk.sessions.find(
            names["session"], names["lesson"], names["stream"], kind
        )
        same_seat = claims.seat is not None and claims.seat == session.claims.seat
        permissions.require(claims.sub == session.claims.sub or same_seat, claims)
        return session

    async def _read(self, request: web.Request, content_type: str) -> str:
        return await read_text(request, self._context.config.limits.body_bytes, content_type)


def _entity_tag(if_match: str) -> str:
    """`"tag"` → `tag`, `*` stays. Weak or several tags match nothing (RFC 9110 section 13.1.1)."""
    value = if_match.strip()
    if value in ("*", '"*"'):
        return "*"
    if len(value) >= 2 and value.startswith('"') and value.endswith('"'):
        return value[1:-1]
    return value if value.isalnum() else ""
