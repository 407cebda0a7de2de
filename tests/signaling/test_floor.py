"""The floor: who is on it, in which order, and what no sequence of actions can break."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from signaling.floor import Floor, FloorRefusedError, FloorState
from signaling.hands import Hands

SEATS = [f"s_{number}" for number in range(6)]


def floor_of(size: int = 2) -> tuple[Floor, Hands]:
    hands = Hands()
    return Floor(hands, size), hands


def reason(error: pytest.ExceptionInfo[FloorRefusedError]) -> str:
    return error.value.reason


def test_granting_lowers_the_hand_and_keeps_the_order_of_the_others() -> None:
    floor, hands = floor_of()
    for number, seat in enumerate(SEATS[:3]):
        hands.raise_hand(seat, now=float(number), wall_s=float(number))
    assert floor.queue() == SEATS[:3]
    assert floor.grant(SEATS[1], here=True) == "changed"
    assert floor.seats == (SEATS[1],)
    assert floor.queue() == [SEATS[0], SEATS[2]]


def test_somebody_who_did_not_raise_a_hand_may_be_called_on() -> None:
    floor, _hands = floor_of()
    assert floor.grant(SEATS[4], here=True) == "changed"
    assert SEATS[4] in floor


def test_a_grant_beyond_the_size_is_refused_and_changes_nothing() -> None:
    floor, hands = floor_of(size=1)
    floor.grant(SEATS[0], here=True)
    hands.raise_hand(SEATS[1], now=0.0, wall_s=0.0)
    before = floor.state()
    with pytest.raises(FloorRefusedError) as caught:
        floor.grant(SEATS[1], here=True)
    assert reason(caught) == "full"
    assert floor.state() == before


def test_a_second_grant_to_the_same_seat_is_no_second_place() -> None:
    floor, hands = floor_of(size=1)
    floor.grant(SEATS[0], here=True)
    assert floor.grant(SEATS[0], here=True) == "unchanged"
    hands.raise_hand(SEATS[0], now=0.0, wall_s=0.0)
    assert floor.grant(SEATS[0], here=True) == "changed"  # its hand is down again
    assert floor.seats == (SEATS[0],)


def test_who_has_left_cannot_get_the_floor_and_whoever_leaves_loses_it() -> None:
    floor, hands = floor_of()
    with pytest.raises(FloorRefusedError) as caught:
        floor.grant(SEATS[0], here=False)
    assert reason(caught) == "not-here"
    floor.grant(SEATS[0], here=True)
    hands.raise_hand(SEATS[1], now=0.0, wall_s=0.0)
    assert floor.left(SEATS[0]) == "changed"
    assert floor.left(SEATS[1]) == "changed"
    assert floor.left(SEATS[1]) == "unchanged"
    assert (floor.seats, floor.queue()) == ((), [])


def test_a_mute_wins_over_floor_and_class_answer_and_outlasts_leaving() -> None:
    floor, _hands = floor_of()
    floor.grant(SEATS[0], here=True)
    assert floor.heard(SEATS[0])
    assert not floor.heard(SEATS[1])
    floor.answer_together(True)
    assert floor.heard(SEATS[1])
    floor.mute(SEATS[:2])
    assert not floor.heard(SEATS[0])
    assert not floor.heard(SEATS[1])
    floor.left(SEATS[0])
    assert floor.muted == tuple(SEATS[:2])
    assert floor.unmute([SEATS[1], "nobody"]) == "changed"
    assert floor.unmute([SEATS[1]]) == "unchanged"
    assert floor.heard(SEATS[1])


def test_layouts_made_for_what_is_not_there_are_refused() -> None:
    floor, _hands = floor_of()
    with pytest.raises(FloorRefusedError) as caught:
        floor.show("slides", slides=False, seen=[])
    assert reason(caught) == "no-slides"
    with pytest.raises(FloorRefusedError) as caught:
        floor.show("side-by-side", slides=True, seen=SEATS)
    assert reason(caught) == "nobody-on-the-floor"
    assert floor.layout == "auto"
    floor.grant(SEATS[0], here=True)
    assert floor.show("side-by-side", slides=False, seen=SEATS) == "changed"
    assert floor.show("side-by-side", slides=False, seen=SEATS) == "unchanged"
    with pytest.raises(FloorRefusedError):
        floor.show("pip", slides=False, seen=SEATS[1:])


def test_a_floor_that_has_become_smaller_keeps_those_who_came_first() -> None:
    floor, _hands = floor_of(size=1)
    floor.restore(FloorState(seats=SEATS[:3], muted=[SEATS[5]], layout="grid", all_answer=True))
    assert floor.seats == (SEATS[0],)
    assert floor.muted == (SEATS[5],)
    assert (floor.layout, floor.all_answer) == ("grid", True)


class FloorMachine(RuleBasedStateMachine):
    """Anything may happen to a lesson, in any order, restarts of the process included."""

    def __init__(self) -> None:
        super().__init__()
        self.size = 2
        self.floor, self.hands = floor_of(self.size)
        self.here = set(SEATS)
        self.muted: set[str] = set()
        self.queue: list[str] = []
        self.now = 0.0

    seats = st.sampled_from(SEATS)

    @rule(seat=seats)
    def raise_hand(self, seat: str) -> None:
        self.now += 10.0
        if seat in self.here:
            self.hands.raise_hand(seat, now=self.now, wall_s=self.now)
            if seat not in self.queue:
                self.queue.append(seat)

    @rule(seat=seats)
    def take_down(self, seat: str) -> None:
        self.now += 10.0
        self.hands.take_down(seat, now=self.now)
        self._unqueue(seat)

    @rule(seat=seats)
    def grant(self, seat: str) -> None:
        before = self.floor.state()
        try:
            self.floor.grant(seat, here=seat in self.here)
        except FloorRefusedError as error:
            assert self.floor.state() == before
            assert error.reason == ("full" if seat in self.here else "not-here")
        else:
            assert seat in self.floor
            self._unqueue(seat)

    @rule(seat=seats)
    def revoke(self, seat: str) -> None:
        self.floor.revoke(seat)
        assert seat not in self.floor

    @rule(seat=seats)
    def leave(self, seat: str) -> None:
        self.here.discard(seat)
        self.floor.left(seat)
        self._unqueue(seat)

    @rule(seat=seats)
    def come_back(self, seat: str) -> None:
        self.here.add(seat)

    @rule(seats=st.lists(seats))
    def mute(self, seats: list[str]) -> None:
        self.floor.mute(seats)
        self.muted.update(seats)

    @rule(seat=seats)
    def unmute(self, seat: str) -> None:
        self.floor.unmute([seat])
        self.muted.discard(seat)

    @rule(on=st.booleans())
    def answer_together(self, on: bool) -> None:
        self.floor.answer_together(on)

    @precondition(lambda self: self.floor.seats)
    @rule()
    def show_side_by_side(self) -> None:
        self.floor.show("side-by-side", slides=False, seen=self.floor.seats)

    @rule()
    def restart(self) -> None:
        stored = msgspec.json.encode(self.floor.state())
        before = self.floor.document()
        self.floor, self.hands = floor_of(self.size)
        self.floor.restore(msgspec.json.decode(stored, type=FloorState))
        assert self.floor.document() == before

    def _unqueue(self, seat: str) -> None:
        if seat in self.queue:
            self.queue.remove(seat)

    @invariant()
    def never_above_its_size(self) -> None:
        assert len(self.floor.seats) <= self.size

    @invariant()
    def only_those_who_are_here(self) -> None:
        assert set(self.floor.seats) <= self.here
        assert set(self.floor.queue()) <= self.here

    @invariant()
    def hands_keep_their_order(self) -> None:
        assert self.floor.queue() == self.queue

    @invariant()
    def mutes_stay_until_they_are_lifted(self) -> None:
        assert set(self.floor.muted) == self.muted
        assert not any(self.floor.heard(seat) for seat in self.muted)

    @invariant()
    def the_document_says_what_is(self) -> None:
        assert self.floor.document()["seats"] == list(self.floor.seats)


TestFloorMachine = FloorMachine.TestCase
TestFloorMachine.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
