"""How one lesson admits: its overall cap, who was announced, and who has places of their own.

Observers and inspectors (巡课: tokens of operations that look in) never take a teaching point's
place: inspectors always have places apart, observers where the mode or the lesson gives them some;
without, an observer has the least priority among the others.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from signaling.admission import Priority, StreamAdmission
from signaling.allowances import Allowance
from signaling.store.database import StoredAdmission, StoredReservations
from signaling.tokens import Claims
from signaling.turns import match_key

# Apart there is no crowd: a handful of visitors, most of whom know each other.
APART_WAITING_LIST = 20


@dataclass(slots=True)
class LessonAdmission:
    """The admission of a lesson beyond the caps of its streams."""

    allowance: Allowance = field(default_factory=lambda: Allowance("lesson"))
    observers: int = 0
    scheduled: list[str] = field(default_factory=list)
    hold_s: float = 0.0  # for reservations that do not say

    def set_cap(self, cap: int | None) -> None:
        """None (or 0 in a configuration) is no limit."""
        self.allowance.limit = cap or None

    def priority_of(self, claims: Claims, name: str) -> Priority:
        """The priority of a token, reservations aside.

        A token that was made for this lesson and this name before class is an announcement; one
        that was given for the join code is not.
        """
        made_before = claims.lesson is not None and claims.seat is None and claims.name is not None
        return self.priority(claims.role, name, announced=made_before)

    def priority(self, role: str, name: str, *, announced: bool = False) -> Priority:
        """The priority of a seat: scheduled is who was announced or is on the lesson's list."""
        if role == "observer":
            return Priority.OBSERVER
        key = match_key(name)
        listed = bool(key) and any(match_key(other) == key for other in self.scheduled)
        if announced or listed or role in ("teacher", "ops"):
            return Priority.SCHEDULED
        return Priority.WALK_IN

    def stored(self, streams: Iterable[tuple[str, StreamAdmission]]) -> StoredAdmission:
        return StoredAdmission(
            cap=self.allowance.limit,
            observers=self.observers,
            scheduled=self.scheduled,
            reserved={
                name: StoredReservations(stream.reservations.all_names, stream.reservations.hold_s)
                for name, stream in streams
                if stream.reservations.ever
            },
        )


def apart(
    observers: int, inspectors: int, hold_s: float, offer_s: float
) -> dict[str, StreamAdmission]:
    """The places apart of one stream, by role."""
    caps = {"ops": inspectors} | ({"observer": observers} if observers else {})
    return {
        role: StreamAdmission(cap, APART_WAITING_LIST, hold_s, offer_s)
        for role, cap in caps.items()
    }
