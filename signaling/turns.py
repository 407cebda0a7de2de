"""Claims to a place, and the line in which they wait: by priority, then by arrival.

A claim is one record from its first request to its end; it waits, is offered a place, has it with
a session, or keeps it while the session is lost.
"""

from __future__ import annotations

import bisect
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

from signaling.allowances import Allowance, Rank


class Priority(IntEnum):
    """Who goes first when there are fewer places than claims."""

    RESERVED = 0
    SCHEDULED = 1
    WALK_IN = 2
    OBSERVER = 3

    @property
    def word(self) -> str:
        return self.name.lower().replace("_", "-")


@dataclass(slots=True, eq=False)
class Claim:
    """One claim. `base` is its priority without a reservation, `name` what reservations match."""

    identity: str
    unique: bool
    base: Priority
    name: str
    levels: tuple[Allowance, ...]
    arrived: int
    priority: Priority
    ticket: str = ""  # given with the first turn
    reserved: bool = False  # fills a reservation
    placed: int = 0  # when it got its place, in the order of the house
    expires_at: float = 0.0

    @property
    def rank(self) -> Rank:
        return (int(self.priority), self.arrived)

    @property
    def place_rank(self) -> Rank:
        """The greatest leaves first when places are taken away."""
        return (int(self.priority), self.placed)


class Line:
    """The claims that wait, the next one first."""

    __slots__ = ("_by_ticket", "_order")

    def __init__(self) -> None:
        self._by_ticket: dict[str, Claim] = {}
        self._order: list[Claim] = []

    def __len__(self) -> int:
        return len(self._order)

    def __iter__(self) -> Iterator[Claim]:
        return iter(self._order)

    def __contains__(self, ticket: str) -> bool:
        return ticket in self._by_ticket

    def get(self, ticket: str) -> Claim | None:
        return self._by_ticket.get(ticket)

    def add(self, claim: Claim) -> None:
        self._by_ticket[claim.ticket] = claim
        bisect.insort(self._order, claim, key=_rank)

    def remove(self, claim: Claim) -> None:
        del self._by_ticket[claim.ticket]
        self._order.remove(claim)

    def position(self, claim: Claim) -> int:
        """1 is next."""
        return bisect.bisect_left(self._order, claim.rank, key=_rank) + 1

    def set_priority(self, claim: Claim, priority: Priority) -> bool:
        """Move a claim to where its new priority belongs; False if it had that one already."""
        if claim.priority is priority:
            return False
        self.remove(claim)
        claim.priority = priority
        self.add(claim)
        return True


def _rank(claim: Claim) -> Rank:
    return claim.rank


def match_key(name: str) -> str:
    """How names of classrooms are compared: width, case and spaces make no difference."""
    return "".join(unicodedata.normalize("NFKC", name).casefold().split())
