"""Keeps the claims of one output stream: who has a place (session, hold or offer), and who waits.

The book only moves claims from one state to another and keeps every count true; what should
happen when is decided by `admission.StreamAdmission`. A place is counted at every level of its
claim from `place` to `free`, whichever of the three states it is in between.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import chain

from signaling.allowances import Allowance, House, Level, binding
from signaling.reservations import Reservations
from signaling.turns import Claim, Line, Priority, match_key


class Book:
    """The claims of one stream, and the levels at which their places count."""

    __slots__ = (
        "_house",
        "_levels",
        "_make_ticket",
        "_session_of",
        "_ticket_of",
        "holds",
        "line",
        "offers",
        "reservations",
        "stream",
        "taken",
    )

    def __init__(
        self, cap: int, house: House, lesson: Allowance | None, make_ticket: Callable[[], str]
    ) -> None:
        self.stream = Allowance("stream", cap)
        above = (house.node,) if lesson is None else (lesson, house.node)
        self._levels = (self.stream, *above)
        self._house = house
        self._make_ticket = make_ticket
        self.reservations = Reservations(self._levels)
        self.taken: dict[str, Claim] = {}  # by session
        self.holds: dict[str, Claim] = {}  # by unique identity
        self.offers: dict[str, Claim] = {}  # by ticket, the oldest first
        self.line = Line()
        self._session_of: dict[str, str] = {}  # unique identity → its session
        self._ticket_of: dict[str, str] = {}  # unique identity → its waiting or offered ticket

    # --- find ----------------------------------------------------------------------------------

    def session_of(self, identity: str) -> str | None:
        """The session of a seat's identity."""
        return self._session_of.get(identity)

    def turn(self, key: str) -> Claim | None:
        """The waiting claim of a seat's identity or of a ticket."""
        return self.line.get(self._ticket_of.get(key, key))

    def offer_of(self, key: str) -> Claim | None:
        """The offered claim of a seat's identity or of a ticket."""
        return self.offers.get(self._ticket_of.get(key, key))

    def offer_for(self, identity: str, ticket: str | None, unique: bool) -> Claim | None:
        """The offer that a request may claim."""
        if unique:
            return self.offers.get(self._ticket_of.get(identity, ""))
        if ticket is not None:
            offer = self.offers.get(ticket)
            if offer is not None:
                return offer if _owns(offer, identity) else None
            if ticket in self.line:
                return None
        # Without a ticket, or with one that has lapsed: a player that cannot send tickets gets
        # in by asking again, with whatever was offered first to the token it uses.
        return next((o for o in self.offers.values() if _owns(o, identity)), None)

    def turn_for(self, identity: str, ticket: str | None, unique: bool) -> Claim | None:
        """The turn that a request keeps."""
        if unique:
            return self.line.get(self._ticket_of.get(identity, ""))
        claim = self.line.get(ticket) if ticket is not None else None
        return claim if claim is not None and _owns(claim, identity) else None

    def with_places(self) -> list[tuple[str | None, Claim]]:
        """Every claim that has a place, with its session where it has one."""
        without: list[tuple[str | None, Claim]] = [
            (None, claim) for claim in chain(self.holds.values(), self.offers.values())
        ]
        return [*self.taken.items(), *without]

    def next_to_place(self) -> Claim | None:
        """The first claim of the line for which there is a place at every level."""
        anybody = self.stream.has_room(from_reserve=False)
        for claim in self.line:
            if not anybody and claim.priority is not Priority.RESERVED:
                return None
            if self.blocked_by(claim) is None:
                return claim
        return None

    def blocked_by(self, claim: Claim) -> Level | None:
        """The level that has no place for the claim."""
        mine = self.reservations.is_open(claim.name)
        return binding(claim.levels, self.reservations.levels if mine else ())

    def earliest(self) -> float:
        """When the first claim or reservation lapses; infinity if none does."""
        claims = chain(self.offers.values(), self.line, self.holds.values())
        earliest = min((claim.expires_at for claim in claims), default=math.inf)
        lapses_at = self.reservations.lapses_at
        return earliest if lapses_at is None else min(earliest, lapses_at)

    # --- move ----------------------------------------------------------------------------------

    def claim(
        self, identity: str, unique: bool, base: Priority, name: str, organisation: str | None
    ) -> Claim:
        """A new claim, in no state yet."""
        levels = self._levels
        if organisation is not None:
            levels = (*levels, self._house.organisation(organisation))
        key = match_key(name)
        claim = Claim(identity, unique, base, key, levels, self._house.next_arrival(), base)
        reserved = self.reservations.is_open(key)
        claim.priority = Priority.RESERVED if reserved else self._ordinary(claim)
        return claim

    def place(self, claim: Claim) -> None:
        """Count a place for the claim, the one that is reserved for it where there is one."""
        for level in claim.levels:
            level.used += 1
        claim.placed = self._house.next_arrival()
        if self.reservations.is_open(claim.name):
            self._fill(claim)
            self.rank_line()

    def free(self, claim: Claim) -> None:
        """The place is free; a reserved one is set aside again."""
        for level in claim.levels:
            level.used -= 1
        if claim.reserved:
            claim.reserved = False
            self.reservations.reopen(claim.name)
            claim.priority = self._ordinary(claim)
            self.rank_line()

    def seat(self, claim: Claim, session_id: str) -> None:
        self.taken[session_id] = claim
        if claim.unique:
            self._session_of[claim.identity] = session_id

    def unseat(self, session_id: str) -> Claim | None:
        claim = self.taken.pop(session_id, None)
        if claim is not None and claim.unique:
            del self._session_of[claim.identity]
        return claim

    def hold(self, claim: Claim, expires_at: float) -> None:
        claim.expires_at = expires_at
        self.holds[claim.identity] = claim

    def offer(self, claim: Claim, expires_at: float) -> None:
        claim.expires_at = expires_at
        self.offers[claim.ticket] = claim
        if claim.unique:
            self._ticket_of[claim.identity] = claim.ticket

    def take_offer(self, claim: Claim) -> None:
        del self.offers[claim.ticket]
        if claim.unique:
            del self._ticket_of[claim.identity]

    def wait(self, claim: Claim, expires_at: float) -> None:
        claim.ticket = claim.ticket or self._make_ticket()
        claim.expires_at = expires_at
        self.line.add(claim)
        if claim.unique:
            self._ticket_of[claim.identity] = claim.ticket
        self.rank_line()

    def leave_line(self, claim: Claim) -> None:
        self.line.remove(claim)
        if claim.unique:
            del self._ticket_of[claim.identity]

    def clear(self) -> None:
        """Free every place at every level and forget who waits."""
        self.reservations.set((), 0.0)
        for _, claim in self.with_places():
            claim.reserved = False
            self.free(claim)
        self.taken.clear()
        self.holds.clear()
        self.offers.clear()
        self.line = Line()
        self._session_of.clear()
        self._ticket_of.clear()

    # --- reservations --------------------------------------------------------------------------

    def reserve(self, names: Sequence[str], hold_s: float) -> None:
        """Replace the reservations. Who is on the list and has a place fills theirs at once."""
        self.reservations.set(names, hold_s)
        for _, claim in sorted(self.with_places(), key=lambda pair: pair[1].placed):
            claim.reserved = False
            if self.reservations.is_open(claim.name):
                self._fill(claim)
            else:
                claim.priority = self._ordinary(claim)
        self.rank_line()

    def rank_line(self) -> None:
        """Give each open reservation to the first of its name in the line, to no other."""
        if not self.reservations.ever:
            return
        seen: set[str] = set()
        for claim in sorted(self.line, key=lambda claim: claim.arrived):
            first = self.reservations.is_open(claim.name) and claim.name not in seen
            seen.add(claim.name)
            self.line.set_priority(claim, Priority.RESERVED if first else self._ordinary(claim))

    def _fill(self, claim: Claim) -> None:
        self.reservations.fill(claim.name)
        claim.reserved = True
        claim.priority = Priority.RESERVED

    def _ordinary(self, claim: Claim) -> Priority:
        """The priority without a reservation in force: a lapsed one counts as announced."""
        if self.reservations.knows(claim.name):
            return min(claim.base, Priority.SCHEDULED)
        return claim.base


def _owns(claim: Claim, identity: str) -> bool:
    return not claim.unique and claim.identity == identity
