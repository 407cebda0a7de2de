"""Decides who holds the places of one output stream: an exact cap, and a waiting list in order.

A place is taken by a session, held for an identity whose connection was lost, or offered to the
first of the waiting list. Taken, held and offered places together never exceed the cap, except
for what was already there when the cap was lowered: lowering drops nobody.

Two kinds of token ask. One that stands for a seat (`unique`) has one place: a second session of
it takes the place over, and its turn in the waiting list is kept by its identity. One without a
seat may be used by many receivers at once: each session is a place of its own, and a turn is kept
by a ticket.

No clock and no I/O: `now` is monotonic seconds. Whoever owns an instance calls `expire` at
`next_deadline`; being late is harmless, because every call first lets lapse what has lapsed and
keeps what must be told for the next call that can tell it.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Final, Literal

import msgspec

MAX_RETRY_AFTER_S: Final = 5
# A waiting entry that missed this many turns of asking has gone away.
MISSED_TURNS: Final = 3


class Admitted(msgspec.Struct, frozen=True):
    """The session has a place; `replaced_session` lost it and is to be closed."""

    replaced_session: str | None = None


class Waiting(msgspec.Struct, frozen=True):
    """The session has no place but a turn: `position` 1 is next, `ahead` is one less."""

    position: int
    ahead: int
    ticket: str
    retry_after_s: int


class Refused(msgspec.Struct, frozen=True):
    reason: Literal["waiting-list-full"] = "waiting-list-full"


class Offer(msgspec.Struct, frozen=True):
    """A place kept until `expires_at` for who waited first. To be told to them."""

    identity: str
    ticket: str
    expires_at: float


class Dropped(msgspec.Struct, frozen=True):
    """A claim that lapsed. `ticket` is None for a held place."""

    identity: str
    ticket: str | None
    reason: Literal["offer-expired", "stopped-asking", "hold-expired"]


class Expired(msgspec.Struct, frozen=True):
    offers: list[Offer]
    dropped: list[Dropped]


class _Entry(msgspec.Struct):
    """A turn: in the waiting list until `expires_at` unless it asks, or offered until then."""

    identity: str
    ticket: str
    unique: bool
    expires_at: float


class _Taken(msgspec.Struct, frozen=True):
    identity: str
    unique: bool


class StreamAdmission:
    """The places of one output stream."""

    __slots__ = (
        "_cap",
        "_hold_s",
        "_holds",
        "_make_ticket",
        "_now",
        "_offer_s",
        "_offers",
        "_session_of",
        "_taken",
        "_ticket_of",
        "_untold_dropped",
        "_untold_offers",
        "_waiting",
        "_waiting_limit",
        "retry_after_s",
    )

    def __init__(
        self,
        cap: int,
        waiting_list: int,
        hold_s: float,
        offer_s: float,
        *,
        make_ticket: Callable[[], str] = lambda: secrets.token_urlsafe(12),
    ) -> None:
        if cap < 0 or waiting_list < 0 or hold_s < 0 or offer_s <= 0:
            raise ValueError("cap, waiting_list and hold_s must not be negative, offer_s not 0")
        self._cap = cap
        self._waiting_limit = waiting_list
        self._hold_s = hold_s
        self._offer_s = offer_s
        self._make_ticket = make_ticket
        # Whoever only polls must come by at least twice while an offer stands.
        self.retry_after_s = max(1, min(MAX_RETRY_AFTER_S, int(offer_s / 2)))
        self._taken: dict[str, _Taken] = {}
        self._session_of: dict[str, str] = {}  # unique identity → its session
        self._holds: dict[str, float] = {}  # unique identity → expires_at
        # Both by ticket; dictionaries keep the order of insertion, which is the order of turns.
        self._waiting: dict[str, _Entry] = {}
        self._offers: dict[str, _Entry] = {}
        self._ticket_of: dict[str, str] = {}  # unique identity → its waiting or offered ticket
        self._untold_offers: list[Offer] = []
        self._untold_dropped: list[Dropped] = []
        self._now = 0.0

    # --- what there is -----------------------------------------------------------------------

    @property
    def cap(self) -> int:
        return self._cap

    @property
    def receivers(self) -> int:
        """Places taken by sessions."""
        return len(self._taken)

    @property
    def held(self) -> int:
        """Places kept for identities whose session was lost."""
        return len(self._holds)

    @property
    def offered(self) -> int:
        """Places kept for those who waited first."""
        return len(self._offers)

    @property
    def waiting(self) -> int:
        """Turns in the waiting list, offered ones not included."""
        return len(self._waiting)

    def line(self) -> list[tuple[str, str]]:
        """(identity, ticket) of all who wait, the next one first."""
        return [(entry.identity, entry.ticket) for entry in self._waiting.values()]

    def position(self, key: str) -> int | None:
        """The position (1 = next) of a seat's identity or of a ticket, None if it does not wait."""
        wanted = self._ticket_of.get(key, key)
        if wanted not in self._waiting:
            return None
        for number, ticket in enumerate(self._waiting, start=1):
            if ticket == wanted:
                return number
        return None

    def next_deadline(self) -> float | None:
        """When `expire` has something to do, None while nothing can lapse."""
        if self._untold_offers or self._untold_dropped:
            return self._now
        deadlines = [entry.expires_at for entry in self._offers.values()]
        deadlines += [entry.expires_at for entry in self._waiting.values()]
        deadlines += self._holds.values()
        return min(deadlines, default=None)

    # --- what may happen ---------------------------------------------------------------------

    def request(
        self,
        identity: str,
        session_id: str,
        now: float,
        *,
        ticket: str | None = None,
        unique: bool,
    ) -> Admitted | Waiting | Refused:
        """A session asks for a place. A newcomer never overtakes who waits or was offered one."""
        self._lapse(now)
        if session_id in self._taken:
            return Admitted()
        if unique and identity in self._session_of:
            replaced = self._session_of[identity]
            del self._taken[replaced]
            return self._take(identity, session_id, unique, replaced)
        if unique and self._holds.pop(identity, None) is not None:
            return self._take(identity, session_id, unique)
        offer = self._offer_for(identity, ticket, unique)
        if offer is not None:
            self._forget(self._offers, offer)
            return self._take(identity, session_id, unique)
        entry = self._entry_for(identity, ticket, unique)
        if entry is None:
            # A free place means that nobody waits: every free one was offered by `_raise_offers`.
            if self._occupied() < self._cap:
                return self._take(identity, session_id, unique)
            if len(self._waiting) >= self._waiting_limit:
                return Refused()
            entry = self._append(identity, unique)
        entry.expires_at = now + MISSED_TURNS * self.retry_after_s
        position = self.position(entry.ticket) or len(self._waiting)
        return Waiting(position, position - 1, entry.ticket, self.retry_after_s)

    def release(self, session_id: str, now: float, *, hold: bool) -> list[Offer]:
        """A session is gone. `hold` keeps the place of a seat for `hold_s` seconds.

        A session without a place (never admitted, or replaced) changes nothing.
        """
        self._lapse(now)
        place = self._taken.pop(session_id, None)
        if place is not None and place.unique:
            del self._session_of[place.identity]
            if hold and self._hold_s > 0:
                self._holds[place.identity] = now + self._hold_s
        return self._offer_free_places(now)

    def withdraw(self, key: str, now: float) -> list[Offer]:
        """Give up what a seat's identity or a ticket keeps without a session: hold, offer, turn."""
        self._lapse(now)
        self._holds.pop(key, None)
        ticket = self._ticket_of.get(key, key)
        for entries in (self._offers, self._waiting):
            entry = entries.get(ticket)
            if entry is not None:
                self._forget(entries, entry)
        return self._offer_free_places(now)

    def touch(self, key: str, now: float) -> None:
        """Keep the turn of a seat's identity or of a ticket: it is listening for its offer."""
        self._lapse(now)
        entry = self._waiting.get(self._ticket_of.get(key, key))
        if entry is not None:
            entry.expires_at = now + MISSED_TURNS * self.retry_after_s

    def set_cap(self, cap: int, now: float) -> list[Offer]:
        """Raising offers the new places at once; lowering drops nobody, it only admits nobody."""
        if cap < 0:
            raise ValueError("the cap must not be negative")
        self._lapse(now)
        self._cap = cap
        return self._offer_free_places(now)

    def expire(self, now: float) -> Expired:
        """Let lapse what has lapsed; the offers and drops since the last call that told them."""
        self._lapse(now)
        dropped, self._untold_dropped = self._untold_dropped, []
        return Expired(self._tell_offers(), dropped)

    # --- inside ------------------------------------------------------------------------------

    def _occupied(self) -> int:
        return len(self._taken) + len(self._holds) + len(self._offers)

    def _take(
        self, identity: str, session_id: str, unique: bool, replaced: str | None = None
    ) -> Admitted:
        self._taken[session_id] = _Taken(identity, unique)
        if unique:
            self._session_of[identity] = session_id
        return Admitted(replaced)

    def _offer_for(self, identity: str, ticket: str | None, unique: bool) -> _Entry | None:
        if unique:
            return self._offers.get(self._ticket_of.get(identity, ""))
        if ticket is not None:
            offer = self._offers.get(ticket)
            if offer is not None:
                return offer if _owns(offer, identity) else None
            if ticket in self._waiting:
                return None
        # Without a ticket, or with one that has lapsed: a player that cannot send tickets gets
        # in by asking again, with whatever was offered first to the token it uses.
        return next((o for o in self._offers.values() if _owns(o, identity)), None)

    def _entry_for(self, identity: str, ticket: str | None, unique: bool) -> _Entry | None:
        if unique:
            return self._waiting.get(self._ticket_of.get(identity, ""))
        entry = self._waiting.get(ticket) if ticket is not None else None
        return entry if entry is not None and _owns(entry, identity) else None

    def _append(self, identity: str, unique: bool) -> _Entry:
        entry = _Entry(identity, self._make_ticket(), unique, 0.0)
        self._waiting[entry.ticket] = entry
        if unique:
            self._ticket_of[identity] = entry.ticket
        return entry

    def _forget(self, entries: dict[str, _Entry], entry: _Entry) -> None:
        del entries[entry.ticket]
        if entry.unique:
            del self._ticket_of[entry.identity]

    def _lapse(self, now: float) -> None:
        """Drop what is past its time, then offer the places that became free."""
        self._now = max(self._now, now)
        for identity in [key for key, at in self._holds.items() if at <= now]:
            del self._holds[identity]
            self._untold_dropped.append(Dropped(identity, None, "hold-expired"))
        self._lapse_entries(self._offers, "offer-expired", now)
        self._lapse_entries(self._waiting, "stopped-asking", now)
        self._raise_offers(now)

    def _lapse_entries(
        self,
        entries: dict[str, _Entry],
        reason: Literal["offer-expired", "stopped-asking"],
        now: float,
    ) -> None:
        for entry in [entry for entry in entries.values() if entry.expires_at <= now]:
            self._forget(entries, entry)
            self._untold_dropped.append(Dropped(entry.identity, entry.ticket, reason))

    def _raise_offers(self, now: float) -> None:
        while self._waiting and self._occupied() < self._cap:
            entry = self._waiting.pop(next(iter(self._waiting)))
            # Counted from now, not from when the place became free: they are only told now.
            entry.expires_at = now + self._offer_s
            self._offers[entry.ticket] = entry
            self._untold_offers.append(Offer(entry.identity, entry.ticket, entry.expires_at))

    def _offer_free_places(self, now: float) -> list[Offer]:
        self._raise_offers(now)
        return self._tell_offers()

    def _tell_offers(self) -> list[Offer]:
        """Offers not yet told; one that was claimed or lapsed in the meantime is left out."""
        offers, self._untold_offers = self._untold_offers, []
        return [offer for offer in offers if offer.ticket in self._offers]


def _owns(entry: _Entry, identity: str) -> bool:
    return not entry.unique and entry.identity == identity
