"""Counts places at four levels (stream, lesson, node, organisation) and shares out what is free.

A place takes one unit of every level it belongs to, from the moment it is offered or taken until
it is free. A place reserved for somebody who has not come yet is set aside at the levels that are
known before they come; only who it was reserved for may use it.

The `House` holds every waiting list whose places share a level. Whatever is freed anywhere goes
at once to the turn with the best rank that can use it, so that a newcomer finds a free place only
where nobody who could use it waits.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, Protocol
from weakref import WeakValueDictionary

Level = Literal["stream", "lesson", "node", "organisation"]
# Lower is served first: the priority, then the order of arrival.
Rank = tuple[int, int]


class Allowance:
    """The places of one level; `limit` None is no limit."""

    __slots__ = ("__weakref__", "level", "limit", "reserved", "used")

    def __init__(self, level: Level, limit: int | None = None) -> None:
        self.level: Level = level
        self.limit = limit
        self.used = 0
        self.reserved = 0  # set aside for those who have not come yet

    def has_room(self, *, from_reserve: bool) -> bool:
        """Whether one more place fits; one that was set aside before counts once only."""
        if self.limit is None:
            return True
        return self.used + (0 if from_reserve else self.reserved) < self.limit

    @property
    def excess(self) -> int:
        """How many places too many there are, after the limit was lowered."""
        return 0 if self.limit is None else max(0, self.used - self.limit)


def binding(levels: Iterable[Allowance], reserved_at: Iterable[Allowance]) -> Level | None:
    """The first level that has no room for one more place, None if all have.

    `reserved_at` are the levels where this very place was set aside.
    """
    set_aside = list(reserved_at)
    for allowance in levels:
        if not allowance.has_room(from_reserve=allowance in set_aside):
            return allowance.level
    return None


class Member(Protocol):
    """A waiting list, as the house sees it."""

    def next_rank(self, now: float) -> Rank | None:
        """The rank of the first turn for which there is a place at every level."""

    def offer_next(self, now: float) -> None:
        """Offer a place to that turn."""


class House:
    """The levels above the streams of one node, and the waiting lists that share them."""

    def __init__(
        self, node_limit: int | None = None, organisation_limit: int | None = None
    ) -> None:
        self.node = Allowance("node", node_limit)
        self._organisation_limit = organisation_limit
        # Only as long as a place or a turn refers to it: names come from outside.
        self._organisations: WeakValueDictionary[str, Allowance] = WeakValueDictionary()
        self._waiting: dict[Member, None] = {}
        self._arrivals = 0

    def configure(self, node_limit: int | None, organisation_limit: int | None, now: float) -> None:
        """Change the limits. What a raised one frees is offered, a lowered one drops nobody."""
        self.node.limit = node_limit
        self._organisation_limit = organisation_limit
        for organisation in self._organisations.values():
            organisation.limit = organisation_limit
        self.share_out(now)

    def organisation(self, name: str) -> Allowance:
        allowance = self._organisations.get(name)
        if allowance is None:
            allowance = Allowance("organisation", self._organisation_limit)
            self._organisations[name] = allowance
        return allowance

    def next_arrival(self) -> int:
        """A number that orders what happens on this node."""
        self._arrivals += 1
        return self._arrivals

    def note_waiting(self, member: Member, waits: bool) -> None:
        """A member has turns in its list from now on, or none any more."""
        if waits:
            self._waiting[member] = None
        else:
            self._waiting.pop(member, None)

    def share_out(self, now: float) -> None:
        """Offer every place that is free and that somebody who waits can use, best rank first."""
        while True:
            best: tuple[Rank, Member] | None = None
            for member in list(self._waiting):
                rank = member.next_rank(now)
                if rank is not None and (best is None or rank < best[0]):
                    best = (rank, member)
            if best is None:
                return
            best[1].offer_next(now)
