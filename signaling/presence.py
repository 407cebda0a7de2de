"""Who is in a lesson: seats, what each receives and how well, and when a lost one has left.

No clock and no I/O: `now` is monotonic seconds. A seat is `durable` when a token stands for it, so
that it can come back; one opened by a token without a seat lasts as long as its session.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import msgspec

from signaling.linetest import LineTest

SeatState = Literal["joining", "receiving", "reconnecting", "left"]
Level = Literal["good", "fair", "poor"]

# A seat that has left stays in the teacher's list for this long, so that it can be noticed.
LEFT_SHOWN_S = 60.0
# One that has joined but not received yet may be asking for its camera or waiting without a socket.
FIRST_MEDIA_S = 30.0
# Beyond these, faces freeze and words go missing; between the two pairs, one notices.
FAIR_LOSS, POOR_LOSS = 0.01, 0.05
FAIR_FPS, POOR_FPS = 12.0, 5.0
FAIR_RTT_MS, POOR_RTT_MS = 300.0, 800.0


class Quality(msgspec.Struct, frozen=True):
    """How well a seat receives one stream, as it told last; None is what it could not measure."""

    level: Level
    fps: float | None
    loss: float | None
    rtt_ms: float | None
    kbps: float | None


def rate(
    *,
    fps: float | None,
    loss: float | None,
    rtt_ms: float | None,
    kbps: float | None,
    freezes: int,
    moving: bool,
) -> Quality:
    """The quality in one word: the worst of what was measured.

    `freezes` are those since the last report. Only a `moving` picture is judged by its frames a
    second: a slide that stands still sends hardly any.
    """
    steps = [
        _step(loss or 0.0, FAIR_LOSS, POOR_LOSS),
        _step(rtt_ms or 0.0, FAIR_RTT_MS, POOR_RTT_MS),
        _step(float(freezes), 0.0, 2.0),
    ]
    if moving and fps is not None:
        steps.append(_step(-fps, -FAIR_FPS, -POOR_FPS))
    level: Level = ("good", "fair", "poor")[max(steps)]
    return Quality(level, fps, loss, rtt_ms, kbps)


def _step(value: float, fair: float, poor: float) -> int:
    return (value > fair) + (value > poor)


@dataclass(slots=True)
class Seat:
    """One teaching point (or observer, or teacher watching) and what connects it."""

    id: str
    name: str
    role: str
    durable: bool
    sessions: dict[str, str] = field(default_factory=dict)  # stream → media session
    connected: set[str] = field(default_factory=set)  # streams whose session is connected
    sockets: int = 0
    has_received: bool = False
    said_goodbye: bool = False  # closed its last session itself
    released: bool = False
    lost_at: float | None = None  # since when nothing connects it
    left_at: float | None = None
    quality: dict[str, Quality] = field(default_factory=dict)

    @property
    def present(self) -> bool:
        return bool(self.sessions) or self.sockets > 0

    @property
    def state(self) -> SeatState:
        if self.left_at is not None:
            return "left"
        if self.connected:
            return "receiving"
        return "reconnecting" if self.has_received else "joining"

    @property
    def worst_quality(self) -> Quality | None:
        order = ("poor", "fair", "good")
        reports = sorted(self.quality.values(), key=lambda report: order.index(report.level))
        return reports[0] if reports else None


class Roster:
    """The seats of one lesson, in the order in which they came."""

    def __init__(self) -> None:
        self._seats: dict[str, Seat] = {}
        # The latest line test by seat id; kept while the lesson runs, also of who has left.
        self.lines: dict[str, LineTest] = {}

    def __len__(self) -> int:
        return len(self._seats)

    def get(self, seat_id: str) -> Seat | None:
        return self._seats.get(seat_id)

    def all(self) -> list[Seat]:
        return list(self._seats.values())

    def open(self, seat_id: str, name: str, role: str, *, durable: bool, now: float) -> Seat:
        """The seat with this id, made or brought back. Its clock for leaving starts."""
        seat = self._seats.get(seat_id)
        if seat is None:
            seat = self._seats[seat_id] = Seat(seat_id, name, role, durable, lost_at=now)
        seat.left_at = None
        seat.said_goodbye = False
        if not seat.present:
            seat.lost_at = now
        return seat

    def session_opened(self, seat: Seat, stream: str, session_id: str) -> None:
        seat.sessions[stream] = session_id
        seat.connected.discard(stream)
        self._back(seat)

    def session_connected(self, seat: Seat, stream: str, connected: bool) -> None:
        if connected:
            seat.connected.add(stream)
            seat.has_received = True
        else:
            seat.connected.discard(stream)

    def session_closed(
        self, seat: Seat, stream: str, session_id: str, now: float, *, goodbye: bool
    ) -> None:
        """A session is gone. One that another of the same stream has replaced changes nothing."""
        if seat.sessions.get(stream) != session_id:
            return
        del seat.sessions[stream]
        seat.connected.discard(stream)
        seat.quality.pop(stream, None)
        if not seat.sessions:
            seat.said_goodbye = goodbye
        if not seat.durable:
            del self._seats[seat.id]
        elif not seat.present:
            seat.lost_at = now

    def socket_opened(self, seat: Seat) -> None:
        seat.sockets += 1
        self._back(seat)

    def socket_closed(self, seat: Seat, now: float) -> None:
        seat.sockets -= 1
        if not seat.present:
            seat.lost_at = now

    def released(self, seat: Seat, now: float) -> None:
        """The teacher took the place back: the seat has left for good."""
        seat.released = True
        self._leave(seat, now)

    def expire(self, now: float, hold_s: float) -> list[Seat]:
        """Seats that have left just now. Those that left a while ago are forgotten."""
        patience_s = max(hold_s, FIRST_MEDIA_S)
        gone: list[Seat] = []
        for seat in self.all():
            if seat.left_at is not None:
                if now - seat.left_at >= LEFT_SHOWN_S and not seat.present:
                    del self._seats[seat.id]
            elif seat.lost_at is not None and not seat.present:
                allowed_s = hold_s if seat.has_received else patience_s
                if seat.said_goodbye or now - seat.lost_at >= allowed_s:
                    self._leave(seat, now)
                    gone.append(seat)
        return gone

    def _back(self, seat: Seat) -> None:
        seat.lost_at = None
        seat.left_at = None
        seat.said_goodbye = False

    def _leave(self, seat: Seat, now: float) -> None:
        seat.left_at = now
        seat.connected.clear()
        seat.quality.clear()
