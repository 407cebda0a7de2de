"""One page's WebSocket: what it may say, and the queue of what it is told.

The queue is bounded: a state (`lesson`, `seats`, a place in line) replaces the one of its kind
that was not sent yet, and a reader that falls behind on the rest is closed.
"""

from __future__ import annotations

import asyncio
from typing import Annotated

import msgspec
from aiohttp import web

from signaling.floor import Layout
from signaling.lessons import Lesson
from signaling.presence import Seat
from signaling.problems import Language
from signaling.ratelimit import TokenBucket
from signaling.tokens import MAX_TOKEN_BYTES, Claims

FRAMES_PER_S = 20.0
# Messages that wait for one slow reader; states replace each other and so count once.
MAX_PENDING = 100
# RFC 6455 section 7.4.1
CLOSE_NORMAL = 1000
CLOSE_GOING_AWAY = 1001
CLOSE_UNSUPPORTED = 1003
CLOSE_POLICY = 1008
CLOSE_TOO_SLOW = 1013


class Incoming(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type"):
    """Base of what pages send."""


class Hello(Incoming, frozen=True, tag="hello"):
    token: Annotated[str, msgspec.Meta(max_length=MAX_TOKEN_BYTES)]


class HandSign(Incoming, frozen=True, tag="hand"):
    raised: bool


class LowerHand(Incoming, frozen=True, tag="lower-hand"):
    seat: Annotated[str, msgspec.Meta(max_length=200)]


_Measure = Annotated[float, msgspec.Meta(ge=0, le=1e6)] | None
_Share = Annotated[float, msgspec.Meta(ge=0, le=1)] | None


class QualityReport(Incoming, frozen=True, tag="quality"):
    stream: Annotated[str, msgspec.Meta(max_length=40)]
    fps: _Measure = None
    loss: _Share = None
    rtt_ms: _Measure = None
    kbps: _Measure = None
    freezes: Annotated[int, msgspec.Meta(ge=0, le=10**6)] = 0
    audio_level: _Share = None


_SeatId = Annotated[str, msgspec.Meta(max_length=200)]


class Grant(Incoming, frozen=True, tag="grant"):
    seat: _SeatId


class Revoke(Incoming, frozen=True, tag="revoke"):
    seat: _SeatId


class HandBack(Incoming, frozen=True, tag="hand-back"):
    pass


class Mute(Incoming, frozen=True, tag="mute"):
    seat: _SeatId


class Unmute(Incoming, frozen=True, tag="unmute"):
    seat: _SeatId


class MuteAll(Incoming, frozen=True, tag="mute-all"):
    pass


class UnmuteAll(Incoming, frozen=True, tag="unmute-all"):
    pass


class AllAnswer(Incoming, frozen=True, tag="all-answer"):
    on: bool


class SetLayout(Incoming, frozen=True, tag="layout"):
    layout: Layout


# What is done to the floor: the HTTP interface takes the same, with the type as `action`.
FloorSign = Grant | Revoke | HandBack | Mute | Unmute | MuteAll | UnmuteAll | AllAnswer | SetLayout

hello_decoder = msgspec.json.Decoder(Hello)
incoming_decoder = msgspec.json.Decoder(HandSign | LowerHand | QualityReport | FloorSign)


class Socket:
    """One page's socket after its hello, with what waits to be sent to it."""

    def __init__(
        self, ws: web.WebSocketResponse, lesson: Lesson, claims: Claims, spoken: Language
    ) -> None:
        self.ws = ws
        self.lesson = lesson
        self.claims = claims
        self.language = spoken
        self.seat: Seat | None = None
        self.positions: dict[str, int] = {}  # stream → position told last
        self.budget = TokenBucket(FRAMES_PER_S, FRAMES_PER_S)
        self._pending: dict[str, bytes] = {}
        self._serial = 0
        self._wake = asyncio.Event()
        self._close_code: int | None = None
        self.writer: asyncio.Task[None] | None = None

    def send(self, message: dict[str, object], state: str | None = None) -> None:
        """Queue a message. A `state` replaces one of the same name that was not sent yet."""
        self.send_encoded(msgspec.json.encode(message), state)

    def send_encoded(self, message: bytes, state: str | None = None) -> None:
        if self._close_code is not None:
            return
        self._serial += 1
        self._pending[state if state is not None else f"#{self._serial}"] = message
        if len(self._pending) > MAX_PENDING:
            self._pending.clear()
            self.close(CLOSE_TOO_SLOW)
        self._wake.set()

    def close(self, code: int) -> None:
        """Close the socket once everything queued is sent."""
        if self._close_code is None:
            self._close_code = code
        self._wake.set()

    async def write(self) -> None:
        """Send what is queued until told to close. One task per socket runs this."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._pending:
                name = next(iter(self._pending))
                await self.ws.send_str(self._pending.pop(name).decode())
            if self._close_code is not None:
                await self.ws.close(code=self._close_code)
                return

    def concerns(self, identity: str) -> bool:
        """Whether the socket is of a seat, or of a token without one."""
        return identity == (self.seat.id if self.seat is not None else self.claims.sub)
