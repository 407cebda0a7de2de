"""The WebSocket of the pages: who is connected to a lesson, and what they are told when.

A socket keeps no history. What changes often (`lesson`, `seats`, `waiting`) is sent as a whole
state at most twice a second, the newest winning; so neither a crowd that joins nor a slow reader
makes anything grow.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from time import monotonic, time
from typing import Protocol

import msgspec
from aiohttp import WSMessage, WSMsgType, web

from signaling import permissions
from signaling.admission import Offer, StreamAdmission
from signaling.lessons import Lesson, LessonRegistry
from signaling.logs import new_incident
from signaling.outputs import OutputStream
from signaling.presence import Seat, rate
from signaling.problems import Language, Problem
from signaling.requests import decode, language
from signaling.sessions import MediaSession
from signaling.sockets import (
    CLOSE_GOING_AWAY,
    CLOSE_NORMAL,
    CLOSE_POLICY,
    CLOSE_UNSUPPORTED,
    FloorSign,
    HandSign,
    LowerHand,
    QualityReport,
    Socket,
    hello_decoder,
    incoming_decoder,
)
from signaling.tokens import Claims, TokenAuthority

log = logging.getLogger(__name__)

HELLO_TIMEOUT_S = 5.0
FLUSH_INTERVAL_S = 0.5
HEARTBEAT_S = 15.0
MAX_FRAME_BYTES = 16 * 1024
MAX_SOCKETS = 20_000
CLOSE_ALL_TIMEOUT_S = 1.0


class Floors(Protocol):
    """What the floors of lessons do with what pages sign, and what a new page must know of them."""

    def sign(self, lesson: Lesson, claims: Claims, sign: FloorSign) -> None: ...
    def greetings(
        self, lesson: Lesson, claims: Claims
    ) -> Iterable[tuple[dict[str, object], str]]: ...


class Hub:
    """All sockets of all lessons; the audience of the media desk."""

    def __init__(
        self,
        registry: LessonRegistry,
        tokens: TokenAuthority,
        base_url: Callable[[], str],
        gate: Callable[[web.Request], None],
    ) -> None:
        self._registry = registry
        self._tokens = tokens
        self._base_url = base_url
        self._gate = gate
        self.floors: Floors | None = None  # set when the server is put together
        self.sockets_per_token: Callable[[], int] = lambda: MAX_SOCKETS
        # Told how well a seat receives a stream, by session.
        self.reported: Callable[[str, QualityReport], None] = lambda _session, _report: None
        self._per_token: Counter[str] = Counter()
        self._sockets: dict[str, set[Socket]] = {}
        self._count = 0
        self._changed: dict[str, Lesson] = {}
        self._wake = asyncio.Event()

    def __len__(self) -> int:
        return self._count

    # --- a socket's life -----------------------------------------------------------------------

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """`GET /api/v1/lessons/{id}/events`."""
        self._gate(request)
        if self._count >= MAX_SOCKETS:
            raise Problem("too-many-sessions")
        ws = web.WebSocketResponse(
            heartbeat=HEARTBEAT_S, max_msg_size=MAX_FRAME_BYTES, compress=False
        )
        if not ws.can_prepare(request).ok:
            raise Problem("invalid-request", status=426, field="Upgrade")
        await ws.prepare(request)
        self._count += 1
        try:
            socket = await self._greet(ws, request)
            if socket is not None:
                await self._serve(socket)
        finally:
            self._count -= 1
        return ws

    async def _greet(self, ws: web.WebSocketResponse, request: web.Request) -> Socket | None:
        """Wait for the hello and check its token; None when the socket is closed instead."""
        spoken = language(request)
        try:
            async with asyncio.timeout(HELLO_TIMEOUT_S):
                message = await ws.receive()
        except TimeoutError:
            await ws.close(code=CLOSE_POLICY, message=b"hello expected")
            return None
        if message.type is not WSMsgType.TEXT:
            await ws.close(code=CLOSE_POLICY, message=b"hello expected")
            return None
        try:
            claims = self._tokens.verify(decode(message.data, hello_decoder).token)
            lesson = self._registry.running_lesson(request.match_info["lesson"])
            permissions.require_sight(claims, lesson)
            # A seat has one page anyway: the earlier one is closed.
            if claims.seat is None and self._per_token[claims.sub] >= self.sockets_per_token():
                raise Problem("too-many-sessions")
            socket = Socket(ws, lesson, claims, spoken)
            if claims.seat is not None:
                socket.seat = self._registry.known_seat(
                    lesson, claims.seat, claims.name or "", claims.role
                )
            return socket
        except Problem as problem:
            await ws.send_str(_error(problem, spoken).decode())
            if problem.type == "lesson-ended":
                await ws.send_str('{"type":"ended"}')
            await ws.close(code=CLOSE_POLICY)
            return None

    async def _serve(self, socket: Socket) -> None:
        lesson = socket.lesson
        self._replace_others(socket)
        self._per_token[socket.claims.sub] += 1
        self._sockets.setdefault(lesson.id, set()).add(socket)
        if socket.seat is not None:
            lesson.roster.socket_opened(socket.seat)
        self._welcome(socket)
        self.changed(lesson)
        socket.writer = writer = asyncio.create_task(socket.write())
        try:
            async for message in socket.ws:
                if not self._received(socket, message):
                    break
        finally:
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)
            self._forget(socket)

    def _replace_others(self, socket: Socket) -> None:
        """A seat has one page: the one that came last."""
        if socket.seat is None:
            return
        for other in self._of(socket.lesson):
            if other.seat is socket.seat:
                other.send({"type": "released", "reason": "replaced"})
                other.close(CLOSE_NORMAL)

    def _forget(self, socket: Socket) -> None:
        self._per_token[socket.claims.sub] -= 1
        if not self._per_token[socket.claims.sub]:
            del self._per_token[socket.claims.sub]
        sockets = self._sockets.get(socket.lesson.id, set())
        sockets.discard(socket)
        if not sockets:
            self._sockets.pop(socket.lesson.id, None)
        if socket.seat is not None:
            socket.lesson.roster.socket_closed(socket.seat, monotonic())
        self.changed(socket.lesson)

    def _welcome(self, socket: Socket) -> None:
        lesson = socket.lesson
        socket.send(
            {
                "type": "welcome",
                "lesson": lesson.document(self._base_url()),
                "role": socket.claims.role,
                "seat": socket.seat.id if socket.seat is not None else None,
                "now": time(),
            }
        )
        if socket.seat is not None:
            socket.send({"type": "hand", "raised": lesson.hands.is_raised(socket.seat.id)})
        if self.floors is not None:
            for message, state in self.floors.greetings(lesson, socket.claims):
                socket.send(message, state)

    # --- from pages ----------------------------------------------------------------------------

    def _received(self, socket: Socket, message: WSMessage) -> bool:
        """Act on one frame; False ends the socket."""
        if socket.budget.take(monotonic()):
            socket.close(CLOSE_POLICY)
            return True  # read on until the close is through
        if message.type is not WSMsgType.TEXT:
            return message.type is WSMsgType.BINARY and self._refuse_binary(socket)
        try:
            match decode(message.data, incoming_decoder):
                case HandSign(raised=raised):
                    self._hand(socket, raised)
                case LowerHand(seat=seat):
                    self._lower_hand(socket, seat)
                case QualityReport() as report:
                    self._quality(socket, report)
                case sign:
                    self._floor(socket, sign)
        except Problem as problem:
            socket.send_encoded(_error(problem, socket.language))
        return True

    def _refuse_binary(self, socket: Socket) -> bool:
        socket.close(CLOSE_UNSUPPORTED)
        return True

    def _hand(self, socket: Socket, raised: bool) -> None:
        seat, hands = socket.seat, socket.lesson.hands
        permissions.require(socket.claims.role == "point" and seat is not None, socket.claims)
        assert seat is not None
        now = monotonic()
        outcome = (
            hands.raise_hand(seat.id, now=now, wall_s=time())
            if raised
            else hands.take_down(seat.id, now=now)
        )
        # Answered even if nothing changed: the page shows the hand as the server has it.
        socket.send({"type": "hand", "raised": hands.is_raised(seat.id)}, "hand")
        if outcome == "too-fast":
            raise Problem("too-many-requests", retry_after=2)
        if outcome == "changed":
            self.changed(socket.lesson)

    def _lower_hand(self, socket: Socket, seat_id: str) -> None:
        lesson = socket.lesson
        permissions.require_owner(socket.claims, lesson)
        if lesson.roster.get(seat_id) is None:
            raise Problem("no-such-seat")
        if lesson.hands.lower(seat_id) == "changed":
            for other in self._of(lesson):
                if other.seat is not None and other.seat.id == seat_id:
                    other.send({"type": "hand", "raised": False}, "hand")
            self.changed(lesson)

    def _floor(self, socket: Socket, sign: FloorSign) -> None:
        if self.floors is not None:
            self.floors.sign(socket.lesson, socket.claims, sign)

    def _quality(self, socket: Socket, report: QualityReport) -> None:
        lesson = socket.lesson
        stream = (lesson.any_stream(report.stream) or lesson.stream(report.stream)).name
        if socket.seat is None or stream not in socket.seat.sessions:
            return  # a page that has just stopped receiving may still have sent this
        socket.seat.quality[stream] = rate(
            fps=report.fps,
            loss=report.loss,
            rtt_ms=report.rtt_ms,
            kbps=report.kbps,
            freezes=report.freezes,
            moving=stream != "slides",
        )
        self.reported(socket.seat.sessions[stream], report)
        self.changed(socket.lesson)

    # --- to pages (the audience of the desk) ---------------------------------------------------

    def changed(self, lesson: Lesson) -> None:
        """Something that a page shows has changed."""
        self._changed[lesson.id] = lesson
        self._wake.set()

    def offered(self, lesson: Lesson, stream: OutputStream, offers: Iterable[Offer]) -> None:
        now = monotonic()
        sockets = self._of(lesson)
        for offer in offers:
            message = {
                "type": "seat-offered",
                "stream": stream.name,
                "expires_s": round(max(0.0, offer.expires_at - now), 1),
            }
            for socket in sockets:
                if socket.concerns(offer.identity):
                    socket.positions.pop(stream.name, None)
                    socket.send(message)

    def rejoin(self, sessions: Iterable[MediaSession]) -> None:
        """Call back those whose sessions ended with a worker."""
        wanted: dict[Socket, set[str]] = {}
        for session in sessions:
            for socket in self._of(session.lesson):
                same_seat = session.seat is not None and socket.seat is session.seat
                if same_seat or socket.claims.sub == session.claims.sub:
                    wanted.setdefault(socket, set()).add(session.stream.public_name)
        for socket, streams in wanted.items():
            socket.send(
                {"type": "rejoin", "streams": sorted(streams), "reason": "worker-restarted"}
            )

    def tell_all(
        self, lesson: Lesson, message: Mapping[str, object], state: str | None = None
    ) -> None:
        """Tell every page of a lesson; a `state` replaces one that was not sent yet."""
        self._tell(self._of(lesson), message, state)

    def tell_owners(
        self, lesson: Lesson, message: Mapping[str, object], state: str | None = None
    ) -> None:
        """Tell the pages of those who run the lesson."""
        owners = [s for s in self._of(lesson) if permissions.owns(s.claims, lesson)]
        self._tell(owners, message, state)

    def tell_seat(
        self, lesson: Lesson, seat_id: str, message: Mapping[str, object], state: str | None = None
    ) -> None:
        """Tell a seat's page."""
        pages = [s for s in self._of(lesson) if s.seat is not None and s.seat.id == seat_id]
        self._tell(pages, message, state)

    @staticmethod
    def _tell(sockets: list[Socket], message: Mapping[str, object], state: str | None) -> None:
        if sockets:
            encoded = msgspec.json.encode(message)
            for socket in sockets:
                socket.send_encoded(encoded, state)

    def released(self, lesson: Lesson, seat: Seat, reason: str) -> None:
        for socket in self._of(lesson):
            if socket.seat is seat:
                socket.send({"type": "released", "reason": reason})
                socket.close(CLOSE_NORMAL)

    def cut(self, lesson: Lesson, stream: OutputStream, seat: Seat) -> None:
        """A seat lost its place because the cap was lowered; without any other it is released."""
        if not seat.sessions:
            self.released(lesson, seat, "cap-lowered")
            return
        message: dict[str, object] = {"type": "cut", "stream": stream.name, "reason": "cap-lowered"}
        self.tell_seat(lesson, seat.id, message)

    def ended(self, lesson: Lesson) -> None:
        document = lesson.document(self._base_url())
        for socket in self._of(lesson):
            socket.send({"type": "lesson", "lesson": document}, "lesson")
            socket.send({"type": "ended"})
            socket.close(CLOSE_NORMAL)

    def touch_waiting(self, lesson: Lesson, now: float) -> None:
        """Whoever waits with an open socket need not ask again to keep the turn."""
        for stream in lesson.streams.values():
            for places in stream.all_places():
                if places.waiting:
                    open_for = {
                        s.seat.id if s.seat is not None else s.claims.sub for s in self._of(lesson)
                    }
                    for identity, ticket in places.line():
                        if identity in open_for:
                            places.touch(ticket, now)

    # --- time ----------------------------------------------------------------------------------

    async def flush_forever(self) -> None:
        """Tell what has changed: at once when it was quiet, else twice a second."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            changed, self._changed = self._changed, {}
            for lesson in changed.values():
                try:
                    if lesson.ended_at is None:
                        self._flush(lesson)
                except Exception:  # the next change must still be told
                    log.exception("incident %s: lesson %s", new_incident(), lesson.id)
            await asyncio.sleep(FLUSH_INTERVAL_S)

    def _flush(self, lesson: Lesson) -> None:
        sockets = self._of(lesson)
        if not sockets:
            return
        whole = msgspec.json.encode({"type": "lesson", "lesson": lesson.document(self._base_url())})
        seats: bytes | None = None
        for socket in sockets:
            socket.send_encoded(whole, "lesson")
            if permissions.owns(socket.claims, lesson):
                if seats is None:
                    seats = msgspec.json.encode({"type": "seats", "seats": lesson.seat_documents()})
                socket.send_encoded(seats, "seats")
        for stream in lesson.streams.values():
            for places in stream.all_places():
                if places.waiting:
                    concerned = [s for s in sockets if stream.places_for(s.claims.role) is places]
                    self._tell_positions(concerned, stream, places)

    def _tell_positions(
        self, sockets: list[Socket], stream: OutputStream, places: StreamAdmission
    ) -> None:
        positions: dict[str, int] = {}
        now = monotonic()
        for position, (identity, _) in enumerate(places.line(), start=1):
            positions.setdefault(identity, position)
        for socket in sockets:
            identity = socket.seat.id if socket.seat is not None else socket.claims.sub
            mine = positions.get(identity)
            if mine is None:
                socket.positions.pop(stream.name, None)
            elif socket.positions.get(stream.name) != mine:
                socket.positions[stream.name] = mine
                socket.send(
                    {
                        "type": "waiting",
                        "stream": stream.name,
                        "position": mine,
                        "ahead": mine - 1,
                        "expected_wait_s": places.expected_wait_s(mine, now),
                    },
                    f"waiting {stream.name}",
                )

    def close_expired(self, wall_s: float) -> None:
        """A socket lives no longer than the token that opened it."""
        for sockets in self._sockets.values():
            for socket in sockets:
                if socket.claims.exp <= wall_s:
                    socket.send_encoded(_error(Problem("invalid-token"), socket.language))
                    socket.close(CLOSE_POLICY)

    async def close_all(self) -> None:
        """The server stops: say so, and give the sockets a moment to close."""
        writers: list[asyncio.Task[None]] = []
        for sockets in self._sockets.values():
            for socket in sockets:
                socket.close(CLOSE_GOING_AWAY)
                if socket.writer is not None:
                    writers.append(socket.writer)
        if writers:
            await asyncio.wait(writers, timeout=CLOSE_ALL_TIMEOUT_S)

    def _of(self, lesson: Lesson) -> list[Socket]:
        return list(self._sockets.get(lesson.id, ()))


def _error(problem: Problem, spoken: Language) -> bytes:
    return msgspec.json.encode({"type": "error", "problem": problem.document(spoken)})
