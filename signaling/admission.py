"""Decides who holds the places of one output stream: an exact cap, and a waiting list in order.

A place is taken by a session, held for an identity whose connection was lost, offered to the
first of the waiting list, or set aside for a teaching point that reserved it. Together they never
exceed the cap (nor that of the lesson, the node or the organisation), except for what was already
there when a cap was lowered: lowering drops nobody unless `cut_excess` is asked for.

Two kinds of token ask. One that stands for a seat (`unique`) has one place: a second session of
it takes the place over, and its turn in the waiting list is kept by its identity. One without a
seat may be used by many receivers at once: each session is a place of its own, and a turn is kept
by a ticket. Turns are served by priority (reserved, scheduled, walk-in, observer), then by
arrival; a turn whose organisation is full lets those of others pass until it is not.

No clock and no I/O: `now` is monotonic seconds. Whoever owns an instance calls `expire` at
`next_deadline`; being late is harmless, because every call first lets lapse what has lapsed and
keeps what must be told for the next call that can tell it.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable, Sequence
from typing import Final

from signaling.admission_answers import (
    Admitted,
    Cut,
    Dropped,
    Expired,
    Offer,
    Refused,
    Waiting,
)
from signaling.admission_book import Book
from signaling.admission_news import News
from signaling.allowances import Allowance, House, Rank
from signaling.decisions import Decision, Verb
from signaling.departures import Departures
from signaling.reservations import Reservations
from signaling.turns import Claim, Priority

__all__ = [
    "Admitted",
    "Cut",
    "Dropped",
    "Expired",
    "Offer",
    "Priority",
    "Refused",
    "StreamAdmission",
    "Waiting",
]

MAX_RETRY_AFTER_S: Final = 5
# A waiting entry that missed this many turns of asking has gone away.
MISSED_TURNS: Final = 3


class StreamAdmission:
    """The places of one output stream.

    `house` and `lesson` are the levels above it; without them the stream stands alone.
    """

    def __init__(
        self,
        cap: int,
        waiting_list: int,
        hold_s: float,
        offer_s: float,
        *,
        make_ticket: Callable[[], str] = lambda: secrets.token_urlsafe(12),
        house: House | None = None,
        lesson: Allowance | None = None,
    ) -> None:
        if cap < 0 or waiting_list < 0 or hold_s < 0 or offer_s <= 0:
            raise ValueError("cap, waiting_list and hold_s must not be negative, offer_s not 0")
        self.waiting_limit = waiting_list
        self._hold_s = hold_s
        self._offer_s = offer_s
        # Whoever only polls must come by at least twice while an offer stands.
        self.retry_after_s = max(1, min(MAX_RETRY_AFTER_S, int(offer_s / 2)))
        self._turn_s = MISSED_TURNS * self.retry_after_s
        self._house = house or House()
        self._book = Book(cap, self._house, lesson, make_ticket)
        self._departures = Departures()
        self._news = News(self._book)
        self._now = 0.0
        self._lapse_not_before = math.inf

    # --- what there is -----------------------------------------------------------------------

    @property
    def cap(self) -> int:
        return self._book.stream.limit or 0

    @property
    def receivers(self) -> int:
        """Places taken by sessions."""
        return len(self._book.taken)

    @property
    def held(self) -> int:
        """Places kept for identities whose session was lost."""
        return len(self._book.holds)

    @property
    def offered(self) -> int:
        """Places kept for those who waited first."""
        return len(self._book.offers)

    @property
    def reserved(self) -> int:
        """Places set aside for named teaching points that have not come yet."""
        return self._book.reservations.open

    @property
    def reservations(self) -> Reservations:
        """To be read only."""
        return self._book.reservations

    @property
    def waiting(self) -> int:
        """Turns in the waiting list, offered ones not included."""
        return len(self._book.line)

    def has(self, session_id: str) -> bool:
        """Whether the session has a place here."""
        return session_id in self._book.taken

    def line(self) -> list[tuple[str, str]]:
        """(identity, ticket) of all who wait, the next one first."""
        return [(claim.identity, claim.ticket) for claim in self._book.line]

    def position(self, key: str) -> int | None:
        """The position (1 = next) of a seat's identity or of a ticket, None if it does not wait."""
        claim = self._book.turn(key)
        return self._book.line.position(claim) if claim is not None else None

    def expected_wait_s(self, position: int, now: float) -> int | None:
        """How long a position will take at the pace of the departures so far, None if unknown."""
        wait_s = self._departures.expected_wait_s(position + self._book.stream.excess, now)
        lapses_at = self._book.reservations.lapses_at
        if lapses_at is not None and position <= self.reserved:
            until_lapse_s = max(1, math.ceil(lapses_at - now))
            wait_s = until_lapse_s if wait_s is None else min(wait_s, until_lapse_s)
        return wait_s

    def next_deadline(self) -> float | None:
        """When `expire` has something to do, None while nothing can lapse."""
        if self._news.waits_to_be_told:
            return self._now
        earliest = self._book.earliest()
        return earliest if earliest < math.inf else None

    def take_decisions(self) -> list[Decision]:
        """The decisions since the last call."""
        return self._news.take_decisions()

    # --- what may happen ---------------------------------------------------------------------

    def request(
        self,
        identity: str,
        session_id: str,
        now: float,
        *,
        ticket: str | None = None,
        unique: bool,
        priority: Priority = Priority.WALK_IN,
        name: str = "",
        organisation: str | None = None,
    ) -> Admitted | Waiting | Refused:
        """A session asks for a place. A newcomer never overtakes who waits for the same place.

        `name` is what reservations match; `organisation` adds the level of that name.
        """
        self._lapse(now)
        book = self._book
        if session_id in book.taken:
            return Admitted()
        replaced = book.session_of(identity) if unique else None
        if replaced is not None and (claim := book.unseat(replaced)) is not None:
            return self._seat(claim, session_id, "replaced", replaced)
        held = book.holds.pop(identity, None) if unique else None
        if held is not None:
            return self._seat(held, session_id, "came-back")
        offer = book.offer_for(identity, ticket, unique)
        if offer is not None:
            book.take_offer(offer)
            return self._seat(offer, session_id, "offer-claimed")
        turn = book.turn_for(identity, ticket, unique)
        if turn is None:
            turn = book.claim(identity, unique, priority, name, organisation)
            blocked = book.blocked_by(turn)
            if blocked is None:
                book.place(turn)
                return self._seat(turn, session_id, "reserved" if turn.reserved else "free")
            # As many names as are reserved may come on top: the list's walk-ins do not block them.
            if turn.priority is not Priority.RESERVED and self.waiting >= self.waiting_limit:
                self._news.refused(turn, now)
                return Refused()
            self._wait(turn, now)
            self._note("waiting", f"{blocked}-cap", turn, book.line.position(turn))
        turn.expires_at = now + self._turn_s
        return self._turn_answer(turn, now)

    def release(
        self, session_id: str, now: float, *, hold: bool, reason: str = "ended"
    ) -> list[Offer]:
        """A session is gone. `hold` keeps the place of a seat for `hold_s` seconds.

        A session without a place (never admitted, or replaced) changes nothing.
        """
        self._lapse(now)
        claim = self._book.unseat(session_id)
        if claim is not None and hold and claim.unique and self._hold_s > 0:
            self._hold(claim, now)
            self._note("held", reason, claim)
        elif claim is not None:
            self._depart(claim, reason, now)
        return self._offer_free_places(now)

    def withdraw(self, key: str, now: float) -> list[Offer]:
        """Give up what a seat's identity or a ticket keeps without a session: hold, offer, turn."""
        self._lapse(now)
        held = self._book.holds.pop(key, None)
        if held is not None:
            self._depart(held, "gave-up", now)
        offer, turn = self._book.offer_of(key), self._book.turn(key)
        if offer is not None:
            self._book.take_offer(offer)
            self._book.free(offer)
            self._note("left", "gave-up-offer", offer)
        elif turn is not None:
            self._leave_line(turn)
            self._note("left", "gave-up-turn", turn)
        return self._offer_free_places(now)

    def touch(self, key: str, now: float) -> None:
        """Keep the turn of a seat's identity or of a ticket: it is listening for its offer."""
        self._lapse(now)
        turn = self._book.turn(key)
        if turn is not None:
            turn.expires_at = now + self._turn_s

    def set_cap(self, cap: int, now: float) -> list[Offer]:
        """Raising offers the new places at once; lowering drops nobody, it only admits nobody."""
        if cap < 0:
            raise ValueError("the cap must not be negative")
        self._lapse(now)
        before = self.cap
        self._book.stream.limit = cap
        if cap != before:
            self._note("cap", f"from {before} to {cap}")
        return self._offer_free_places(now)

    def cut_excess(self, now: float) -> list[Cut]:
        """Take the places beyond the cap away: the least prioritised first, the latest of equals.

        An offer that is taken back becomes the turn that it was.
        """
        self._lapse(now)
        places = sorted(self._book.with_places(), key=lambda pair: pair[1].place_rank, reverse=True)
        cuts: list[Cut] = []
        for session_id, claim in places[: self._book.stream.excess]:
            self._note("cut", "cap-lowered", claim)
            if session_id is not None:
                self._book.unseat(session_id)
            elif self._book.offers.get(claim.ticket) is claim:
                self._book.take_offer(claim)
                self._book.free(claim)
                self._wait(claim, now)
                continue
            else:
                del self._book.holds[claim.identity]
            self._book.free(claim)
            cuts.append(Cut(claim.identity, session_id))
        self._house.share_out(now)
        return cuts

    def reserve(self, names: Sequence[str], hold_s: float, now: float) -> list[Offer]:
        """Replace the reservations, which hold until `hold_s` seconds into the lesson."""
        self._lapse(now)
        self._book.reserve(names, hold_s)
        self._note("reservations", f"{len(names)} names, {hold_s / 60:g} min into the lesson")
        self._lapse_not_before = -math.inf
        return self._offer_free_places(now)

    def start(self, now: float) -> None:
        """The lesson has started: the time for which reservations hold runs from now."""
        self._book.reservations.start(now)
        self._lapse_not_before = -math.inf

    def restore(
        self,
        identity: str,
        now: float,
        *,
        priority: Priority = Priority.WALK_IN,
        name: str = "",
        organisation: str | None = None,
    ) -> None:
        """Hold the place that a seat had before a restart, whatever the cap is now."""
        claim = self._book.claim(identity, True, priority, name, organisation)
        self._book.place(claim)
        self._hold(claim, now)

    def close(self) -> None:
        """The lesson has ended: what its places took of the other levels is free."""
        self._book.clear()
        self._house.note_waiting(self, False)
        self._house.share_out(self._now)

    def expire(self, now: float) -> Expired:
        """Let lapse what has lapsed; the offers and drops since the last call that told them."""
        self._lapse(now)
        return Expired(self._tell_offers(), self._news.take_dropped())

    # --- the house's side ----------------------------------------------------------------------

    def next_rank(self, now: float) -> Rank | None:
        """The rank of the first turn for which there is a place at every level."""
        self._drop_lapsed(now)
        claim = self._book.next_to_place()
        return claim.rank if claim is not None else None

    def offer_next(self, now: float) -> None:
        """Offer a place to that turn."""
        claim = self._book.next_to_place()
        if claim is None:
            return
        self._leave_line(claim)
        self._book.place(claim)
        # Counted from now, not from when the place became free: they are only told now.
        self._book.offer(claim, now + self._offer_s)
        self._wake_by(claim.expires_at)
        self._news.offered(claim, now)

    # --- inside ------------------------------------------------------------------------------

    def _seat(
        self, claim: Claim, session_id: str, reason: str, replaced: str | None = None
    ) -> Admitted:
        self._book.seat(claim, session_id)
        self._news.admitted(claim, reason, self._now)
        return Admitted(replaced)

    def _hold(self, claim: Claim, now: float) -> None:
        self._book.hold(claim, now + self._hold_s)
        self._wake_by(claim.expires_at)

    def _depart(self, claim: Claim, reason: str, now: float) -> None:
        self._book.free(claim)
        self._departures.note(now)
        self._note("left", reason, claim)

    def _wait(self, claim: Claim, now: float) -> None:
        self._book.wait(claim, now + self._turn_s)
        self._wake_by(claim.expires_at)
        self._house.note_waiting(self, True)

    def _leave_line(self, claim: Claim) -> None:
        self._book.leave_line(claim)
        if not self._book.line:
            self._house.note_waiting(self, False)

    def _turn_answer(self, turn: Claim, now: float) -> Waiting:
        position = self._book.line.position(turn)
        return Waiting(
            position,
            position - 1,
            turn.ticket,
            self.retry_after_s,
            self._book.blocked_by(turn) or "stream",
            self.expected_wait_s(position, now),
        )

    def _lapse(self, now: float) -> None:
        """Drop what is past its time, then offer the places that became free."""
        self._drop_lapsed(now)
        self._house.share_out(now)

    def _drop_lapsed(self, now: float) -> None:
        self._now = max(self._now, now)
        if now < self._lapse_not_before:
            return
        book = self._book
        for held in [claim for claim in book.holds.values() if claim.expires_at <= now]:
            del book.holds[held.identity]
            book.free(held)
            self._departures.note(now)
            self._news.lapsed(held, None, "hold-expired", now)
        for offer in [claim for claim in book.offers.values() if claim.expires_at <= now]:
            book.take_offer(offer)
            book.free(offer)
            self._news.lapsed(offer, offer.ticket, "offer-expired", now)
        for turn in [claim for claim in book.line if claim.expires_at <= now]:
            self._leave_line(turn)
            self._news.lapsed(turn, turn.ticket, "stopped-asking", now)
        open_names = book.reservations.lapse(now)
        if open_names:
            book.rank_line()
            self._note("lapsed", f"{len(open_names)} reservations")
        # A deadline may move on meanwhile: then the next look comes early and finds nothing.
        self._lapse_not_before = book.earliest()

    def _wake_by(self, at: float) -> None:
        self._lapse_not_before = min(self._lapse_not_before, at)

    def _offer_free_places(self, now: float) -> list[Offer]:
        self._house.share_out(now)
        return self._tell_offers()

    def _tell_offers(self) -> list[Offer]:
        return self._news.take_offers(self._book.offers)

    def _note(
        self, verb: Verb, reason: str, claim: Claim | None = None, position: int | None = None
    ) -> None:
        self._news.note(self._now, verb, reason, claim, position)
