"""What admission has to tell and nobody has heard yet: offers, lapsed claims, decisions.

Any call may make offers, but not every call can tell them; they wait here for one that can.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Container
from typing import Final

from signaling.admission_answers import Dropped, DropReason, Offer
from signaling.admission_book import Book
from signaling.decisions import Decision, Verb
from signaling.turns import Claim

# Whoever owns an admission reads its decisions now and then; these bound what is kept if not.
MAX_UNREAD_DECISIONS: Final = 10_000
MAX_REFUSED_REMEMBERED: Final = 500


class News:
    """The news of one stream."""

    __slots__ = ("_book", "_decisions", "_dropped", "_offers", "_refused")

    def __init__(self, book: Book) -> None:
        self._book = book
        self._offers: list[Offer] = []
        self._dropped: list[Dropped] = []
        self._decisions: deque[Decision] = deque(maxlen=MAX_UNREAD_DECISIONS)
        self._refused: dict[str, None] = {}

    @property
    def waits_to_be_told(self) -> bool:
        """Whether there are offers or lapsed claims."""
        return bool(self._offers or self._dropped)

    def offered(self, claim: Claim, now: float) -> None:
        self._offers.append(Offer(claim.identity, claim.ticket, claim.expires_at))
        self.note(now, "offered", "reserved" if claim.reserved else "free", claim)

    def lapsed(self, claim: Claim, ticket: str | None, reason: DropReason, now: float) -> None:
        self._dropped.append(Dropped(claim.identity, ticket, reason))
        self.note(now, "lapsed", reason, claim)

    def refused(self, claim: Claim, now: float) -> None:
        """Who asks again and again is written down once."""
        if claim.identity in self._refused:
            return
        self._refused[claim.identity] = None
        if len(self._refused) > MAX_REFUSED_REMEMBERED:
            del self._refused[next(iter(self._refused))]
        self.note(now, "refused", "waiting-list-full", claim)

    def admitted(self, claim: Claim, reason: str, now: float) -> None:
        self._refused.pop(claim.identity, None)
        self.note(now, "admitted", reason, claim)

    def note(
        self,
        now: float,
        verb: Verb,
        reason: str,
        claim: Claim | None = None,
        position: int | None = None,
    ) -> None:
        """Write a decision down, with the counts as they are after it."""
        self._decisions.append(
            Decision(
                now,
                verb,
                reason,
                claim.identity if claim is not None else None,
                claim.unique if claim is not None else True,
                claim.priority.word if claim is not None else None,
                position,
                self._book.stream.limit or 0,
                self._book.stream.used,
                self._book.reservations.open,
                len(self._book.line),
            )
        )

    def take_offers(self, standing: Container[str]) -> list[Offer]:
        """Offers not yet told, less those (by ticket) that were claimed or lapsed meanwhile."""
        offers, self._offers = self._offers, []
        return [offer for offer in offers if offer.ticket in standing]

    def take_dropped(self) -> list[Dropped]:
        dropped, self._dropped = self._dropped, []
        return dropped

    def take_decisions(self) -> list[Decision]:
        decisions = list(self._decisions)
        self._decisions.clear()
        return decisions
