"""The floor of one lesson: who is heard and seen by all, who is muted, what the stage shows.

A state machine without clock or I/O. It shares the lesson's raised hands, because granting the
floor lowers a hand, and it is stored as a `FloorState`, so that it outlives the process.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal, get_args

import msgspec

from signaling.hands import Hand, Hands

Layout = Literal["auto", "teacher", "side-by-side", "pip", "slides", "grid"]
LAYOUTS: Final[tuple[Layout, ...]] = get_args(Layout)

Outcome = Literal["changed", "unchanged"]
Refusal = Literal["full", "not-here", "no-slides", "nobody-on-the-floor"]


class FloorRefusedError(Exception):
    """The lesson's floor does not allow it; nothing was changed."""

    def __init__(self, reason: Refusal) -> None:
        super().__init__(reason)
        self.reason: Refusal = reason


class FloorState(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Everything that must survive a restart. `seats` and `hands` are in their order."""

    seats: list[str] = []
    hands: list[Hand] = []
    muted: list[str] = []
    all_answer: bool = False
    layout: Layout = "auto"


class Floor:
    """Grants, mutes and the layout of one lesson. `size` is how many may be on the floor."""

    __slots__ = ("_hands", "_muted", "_seats", "all_answer", "layout", "size")

    def __init__(self, hands: Hands, size: int = 0) -> None:
        self.size = size
        self.all_answer = False
        self.layout: Layout = "auto"
        self._hands = hands
        self._seats: dict[str, None] = {}  # in the order of the grants
        self._muted: dict[str, None] = {}

    # --- what is ------------------------------------------------------------------------------

    @property
    def seats(self) -> tuple[str, ...]:
        """Who is on the floor, the longest first."""
        return tuple(self._seats)

    @property
    def muted(self) -> tuple[str, ...]:
        return tuple(self._muted)

    def queue(self) -> list[str]:
        """Whose hand is up, the longest raised first."""
        return [hand.seat for hand in self._hands.order()]

    def __contains__(self, seat: str) -> bool:
        return seat in self._seats

    def heard(self, seat: str) -> bool:
        """Whether the others are to hear a seat: on the floor or all answer, and not muted."""
        return (self.all_answer or seat in self._seats) and seat not in self._muted

    def document(self) -> dict[str, object]:
        return {
            "size": self.size,
            "seats": list(self._seats),
            "queue": self.queue(),
            "muted": list(self._muted),
            "all_answer": self.all_answer,
            "layout": self.layout,
        }

    # --- who is on it -------------------------------------------------------------------------

    def grant(self, seat: str, *, here: bool) -> Outcome:
        """Give a seat the floor, hand raised or not; its hand goes down.

        `here` tells that the seat has not left the lesson. Raises FloorRefusedError.
        """
        if not here:
            raise FloorRefusedError("not-here")
        if seat in self._seats:
            return "changed" if self._hands.lower(seat) == "changed" else "unchanged"
        if len(self._seats) >= self.size:
            raise FloorRefusedError("full")
        self._seats[seat] = None
        self._hands.lower(seat)
        return "changed"

    def revoke(self, seat: str) -> Outcome:
        """Take the floor back from a seat, or take it back as the seat itself."""
        if seat not in self._seats:
            return "unchanged"
        del self._seats[seat]
        return "changed"

    def left(self, seat: str) -> Outcome:
        """A seat has left the lesson: floor and hand are gone, a mute stays for its return."""
        hand = self._hands.forget(seat) == "changed"
        return "changed" if self.revoke(seat) == "changed" or hand else "unchanged"

    # --- who is heard -------------------------------------------------------------------------

    def mute(self, seats: Iterable[str]) -> Outcome:
        return self._set_muted(seats, muted=True)

    def unmute(self, seats: Iterable[str]) -> Outcome:
        return self._set_muted(seats, muted=False)

    def _set_muted(self, seats: Iterable[str], *, muted: bool) -> Outcome:
        outcome: Outcome = "unchanged"
        for seat in seats:
            if (seat in self._muted) is not muted:
                outcome = "changed"
                if muted:
                    self._muted[seat] = None
                else:
                    del self._muted[seat]
        return outcome

    def answer_together(self, on: bool) -> Outcome:
        """The whole class answers: every microphone is heard until it is over."""
        changed = on is not self.all_answer
        self.all_answer = on
        return "changed" if changed else "unchanged"

    # --- what is shown ------------------------------------------------------------------------

    def show(self, layout: Layout, *, slides: bool, seen: Iterable[str]) -> Outcome:
        """Choose the stage's layout.

        `slides` tells whether slides are sent, `seen` whose picture comes: a layout made for what
        is not there is refused. Raises FloorRefusedError.
        """
        if layout == "slides" and not slides:
            raise FloorRefusedError("no-slides")
        if layout in ("side-by-side", "pip") and not any(
            seat in self._seats or self.all_answer for seat in seen
        ):
            raise FloorRefusedError("nobody-on-the-floor")
        changed = layout != self.layout
        self.layout = layout
        return "changed" if changed else "unchanged"

    # --- keep and restore ---------------------------------------------------------------------

    def state(self) -> FloorState:
        return FloorState(
            seats=list(self._seats),
            hands=self._hands.order(),
            muted=list(self._muted),
            all_answer=self.all_answer,
            layout=self.layout,
        )

    def restore(self, state: FloorState) -> None:
        """Go on where an earlier process stopped; a floor that is smaller now keeps the first."""
        self._seats = dict.fromkeys(list(dict.fromkeys(state.seats))[: self.size])
        self._muted = dict.fromkeys(state.muted)
        self.all_answer = state.all_answer
        self.layout = state.layout
        self._hands.restore(state.hands)
