"""Admission: the cap is exact, the line is in order, nobody is forgotten."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from signaling.admission import (
    MISSED_TURNS,
    Admitted,
    Dropped,
    Offer,
    Refused,
    StreamAdmission,
    Waiting,
)

HOLD_S, OFFER_S = 60.0, 15.0


def admission(cap: int, waiting_list: int = 200, hold_s: float = HOLD_S) -> StreamAdmission:
    numbers = itertools.count(1)
    return StreamAdmission(
        cap, waiting_list, hold_s, OFFER_S, make_ticket=lambda: f"t{next(numbers)}"
    )


def join(place: StreamAdmission, *seats: str, now: float = 0.0) -> list[object]:
    """Each seat asks with a session named after it."""
    return [place.request(seat, f"{seat}-1", now, unique=True) for seat in seats]


def test_two_hundred_joins_against_a_cap_of_thirty_give_thirty_seats() -> None:
    place = admission(30)
    answers = join(place, *(f"s{n}" for n in range(200)))
    assert answers[:30] == [Admitted()] * 30
    assert [a.position for a in answers[30:] if isinstance(a, Waiting)] == list(range(1, 171))
    assert (place.receivers, place.waiting, place.offered) == (30, 170, 0)


def test_two_hundred_receivers_with_one_token_count_two_hundred() -> None:
    place = admission(30)
    answers = [place.request("token", f"x{n}", 0.0, unique=False) for n in range(200)]
    assert answers.count(Admitted()) == 30
    tickets = {a.ticket for a in answers if isinstance(a, Waiting)}
    assert len(tickets) == 170


def test_a_freed_seat_goes_to_the_first_waiting() -> None:
    place = admission(1)
    join(place, "a", "b", "c")
    assert place.release("a-1", 1.0, hold=False) == [Offer("b", "t1", 1.0 + OFFER_S)]
    assert place.request("c", "c-2", 2.0, unique=True) == Waiting(1, 0, "t2", 5)
    assert place.request("b", "b-2", 3.0, unique=True) == Admitted()
    assert (place.receivers, place.offered) == (1, 0)


def test_a_newcomer_never_overtakes_who_was_offered_the_place() -> None:
    place = admission(1)
    join(place, "a", "b")
    place.release("a-1", 1.0, hold=False)
    assert place.waiting == 0
    assert place.request("new", "n-1", 2.0, unique=True) == Waiting(1, 0, "t2", 5)


def test_a_newcomer_takes_a_place_that_is_free_beside_an_offered_one() -> None:
    place = admission(2)
    join(place, "a", "b", "c")
    place.release("a-1", 1.0, hold=False)
    place.release("b-1", 1.0, hold=False)
    assert (place.offered, place.waiting) == (1, 0)
    assert place.request("new", "n-1", 2.0, unique=True) == Admitted()
    assert place.request("late", "l-1", 2.0, unique=True) == Waiting(1, 0, "t2", 5)
    assert place.request("c", "c-2", 2.0, unique=True) == Admitted()


def test_an_unclaimed_offer_goes_to_the_next_and_its_holder_is_dropped() -> None:
    place = admission(1)
    join(place, "a", "b", "c", now=0.0)
    place.release("a-1", 10.0, hold=False)
    assert place.next_deadline() == 15.0  # c must ask again by then
    place.touch("c", 10.0)
    assert place.next_deadline() == 25.0
    place.touch("c", 24.0)
    gone = place.expire(25.0)
    assert gone.offers == [Offer("c", "t2", 25.0 + OFFER_S)]
    assert gone.dropped == [Dropped("b", "t1", "offer-expired")]
    assert place.request("b", "b-2", 26.0, unique=True) == Waiting(1, 0, "t3", 5)


def test_who_stops_asking_loses_the_turn_and_who_asks_keeps_it() -> None:
    place = admission(1)
    join(place, "a", "b", "c", now=0.0)
    for now in (5.0, 10.0, 14.9):
        assert place.request("c", f"c-{now}", now, unique=True) == Waiting(2, 1, "t2", 5)
    gone = place.expire(15.0)
    assert gone.dropped == [Dropped("b", "t1", "stopped-asking")]
    assert place.position("c") == 1


def test_a_listening_page_keeps_its_turn_without_asking() -> None:
    place = admission(1)
    join(place, "a", "b", now=0.0)
    for now in range(10, 100, 10):
        place.touch("b", float(now))
    assert place.position("b") == place.position("t1") == 1
    place.touch("t1", 100.0)
    place.touch("nobody", 100.0)
    assert place.expire(114.0).dropped == []


def test_a_second_session_of_a_seat_takes_the_place_over() -> None:
    place = admission(1)
    join(place, "a")
    assert place.request("a", "a-2", 1.0, unique=True) == Admitted("a-1")
    assert place.receivers == 1
    assert place.release("a-1", 2.0, hold=True) == []  # the replaced one is no longer a place
    assert (place.receivers, place.held) == (1, 0)


def test_the_same_session_asking_twice_has_one_place() -> None:
    place = admission(2)
    assert join(place, "a", "a") == [Admitted(), Admitted()]
    assert place.receivers == 1


def test_a_lost_seat_is_held_and_comes_back_before_everybody_else() -> None:
    place = admission(1)
    join(place, "a", "b")
    assert place.release("a-1", 1.0, hold=True) == []
    assert (place.receivers, place.held, place.waiting) == (0, 1, 1)
    assert place.request("a", "a-2", 10.0, unique=True) == Admitted()
    assert (place.receivers, place.held) == (1, 0)


def test_a_held_place_that_nobody_comes_back_to_is_offered() -> None:
    place = admission(1)
    join(place, "a", "b")
    place.release("a-1", 1.0, hold=True)
    place.touch("b", 14.0)
    place.touch("b", 28.0)
    place.touch("b", 42.0)
    place.touch("b", 56.0)
    gone = place.expire(61.0)
    assert gone.dropped == [Dropped("a", None, "hold-expired")]
    assert [offer.identity for offer in gone.offers] == ["b"]


def test_no_place_is_held_for_a_token_without_a_seat() -> None:
    place = admission(1)
    place.request("token", "x1", 0.0, unique=False)
    place.release("x1", 1.0, hold=True)
    assert (place.receivers, place.held) == (0, 0)


def test_a_ticket_keeps_the_turn_of_a_receiver_without_a_seat() -> None:
    place = admission(1)
    for session in ("x1", "x2", "x3"):
        place.request("token", session, 0.0, unique=False)
    second = place.request("token", "x3b", 1.0, ticket="t2", unique=False)
    assert second == Waiting(2, 1, "t2", 5)
    place.release("x1", 2.0, hold=False)
    third = place.request("token", "x3c", 3.0, ticket="t2", unique=False)
    assert third == Waiting(1, 0, "t2", 5)  # the offer is t1's, a valid ticket does not take it
    assert place.request("token", "x2b", 3.0, ticket="t1", unique=False) == Admitted()


def test_a_player_without_tickets_claims_the_oldest_offer_of_its_token() -> None:
    place = admission(2)
    for session in ("x1", "x2", "x3", "x4"):
        place.request("token", session, 0.0, unique=False)
    place.release("x1", 1.0, hold=False)
    place.release("x2", 2.0, hold=False)
    assert place.request("token", "x3b", 3.0, unique=False) == Admitted()
    assert [ticket for ticket in ("t1", "t2") if ticket in place._book.offers] == ["t2"]
    assert place.request("token", "x4b", 3.0, ticket="lapsed", unique=False) == Admitted()
    assert (place.receivers, place.offered) == (2, 0)


def test_a_ticket_of_somebody_else_is_worth_nothing() -> None:
    place = admission(1)
    place.request("mine", "m1", 0.0, unique=False)
    place.request("mine", "m2", 0.0, unique=False)
    assert place.request("other", "o1", 0.0, ticket="t1", unique=False) == Waiting(2, 1, "t2", 5)
    place.release("m1", 1.0, hold=False)
    assert place.request("other", "o2", 1.0, ticket="t1", unique=False) == Waiting(2, 1, "t3", 5)
    assert place.request("t1", "o3", 1.0, ticket="t1", unique=True) == Waiting(3, 2, "t4", 5)


def test_a_full_waiting_list_refuses() -> None:
    place = admission(1, waiting_list=1)
    assert join(place, "a", "b", "c")[2] == Refused("waiting-list-full")
    assert isinstance(place.request("b", "b-2", 1.0, unique=True), Waiting)
    assert admission(0, waiting_list=0).request("a", "a-1", 0.0, unique=True) == Refused()


def test_raising_the_cap_offers_the_new_places_at_once_in_order() -> None:
    place = admission(1)
    join(place, *"abcd")
    assert [offer.identity for offer in place.set_cap(3, 1.0)] == ["b", "c"]
    assert (place.receivers, place.offered, place.waiting) == (1, 2, 1)


def test_lowering_the_cap_drops_nobody_and_admits_nobody() -> None:
    place = admission(3)
    join(place, *"abcd")
    assert place.set_cap(1, 1.0) == []
    assert (place.cap, place.receivers) == (1, 3)
    assert place.request("a", "a-2", 1.0, unique=True) == Admitted("a-1")
    assert place.release("a-2", 2.0, hold=False) == []
    assert place.release("b-1", 2.0, hold=False) == []
    assert [offer.identity for offer in place.release("c-1", 2.0, hold=False)] == ["d"]


def test_a_withdrawn_seat_gives_up_its_hold_its_offer_or_its_turn() -> None:
    place = admission(1)
    join(place, *"abc")
    place.release("a-1", 1.0, hold=True)
    assert [offer.identity for offer in place.withdraw("a", 2.0)] == ["b"]
    assert [offer.identity for offer in place.withdraw("b", 3.0)] == ["c"]
    assert place.withdraw("t2", 4.0) == []
    assert place.withdraw("nobody", 4.0) == []
    assert (place.receivers, place.held, place.offered, place.waiting) == (0, 0, 0, 0)


def test_an_offer_that_arose_while_somebody_asked_is_told_by_the_next_call() -> None:
    place = admission(1)
    join(place, "a", "b", "c")
    place.release("a-1", 1.0, hold=False)
    place.touch("c", 10.0)
    place.request("new", "n-1", 17.0, unique=True)  # b's offer lapsed at 16
    assert place.next_deadline() == 17.0
    gone = place.expire(17.0)
    assert [offer.identity for offer in gone.offers] == ["c"]
    assert [dropped.identity for dropped in gone.dropped] == ["b"]
    assert place.expire(17.0).offers == []


def test_an_offer_claimed_before_it_was_told_is_not_told() -> None:
    place = admission(1)
    join(place, "a", "b", "c")
    place.release("a-1", 1.0, hold=False)
    place.touch("c", 10.0)
    assert place.request("c", "c-2", 17.0, unique=True) == Admitted()  # b's offer lapsed at 16
    assert place.expire(17.0).offers == []


def test_nothing_can_lapse_where_nobody_waits() -> None:
    place = admission(2)
    assert place.next_deadline() is None
    join(place, "a")
    assert place.next_deadline() is None


def test_a_player_that_only_polls_comes_by_while_its_offer_stands() -> None:
    for offer_s in (3.0, 4.0, 15.0, 600.0):
        assert 2 * StreamAdmission(1, 1, 1, offer_s).retry_after_s <= max(offer_s, 2)


@pytest.mark.parametrize("bad", [(-1, 0, 0, 1), (0, -1, 0, 1), (0, 0, -1, 1), (0, 0, 0, 0)])
def test_impossible_settings_are_refused(bad: tuple[int, int, float, float]) -> None:
    with pytest.raises(ValueError, match="must not be negative"):
        StreamAdmission(*bad)


def test_tickets_are_random_by_default() -> None:
    place = StreamAdmission(0, 10, 1, 15)
    tickets = {
        answer.ticket
        for n in range(10)
        if isinstance(answer := place.request("t", f"x{n}", 0.0, unique=False), Waiting)
    }
    assert len(tickets) == 10
    assert all(len(ticket) >= 16 for ticket in tickets)


class AdmissionMachine(RuleBasedStateMachine):
    """Any sequence of calls, against what an outside observer can count."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.limit = 4
        self.place = admission(2, waiting_list=self.limit, hold_s=30.0)
        self.bound = 2
        self.sessions: dict[str, tuple[str, bool]] = {}
        self.arrived: list[str] = []  # tickets in order of arrival
        self.asked: dict[str, float] = {}  # ticket → when it last showed it is there
        self.offered: set[str] = set()
        self.gone: set[str] = set()
        self.numbers = itertools.count()

    def occupied(self) -> int:
        return self.place.receivers + self.place.held + self.place.offered

    def told(self, offers: list[Offer]) -> None:
        order = [self.arrived.index(offer.ticket) for offer in offers]
        assert order == sorted(order), "offers come in the order of arrival"
        waiting = [self.arrived.index(ticket) for _, ticket in self.place.line()]
        for offer, number in zip(offers, order, strict=True):
            assert all(number < other for other in waiting), "nobody who waits was overtaken"
            assert offer.ticket not in self.offered | self.gone, "offered once"
            assert offer.expires_at > self.now
            self.offered.add(offer.ticket)

    def ask(self, identity: str, ticket: str | None, unique: bool) -> None:
        session = f"x{next(self.numbers)}"
        self.lapse()
        had_session = unique and any(s == (identity, True) for s in self.sessions.values())
        waited = self.place.waiting
        claims_before = self.place.held + self.place.offered
        answer = self.place.request(identity, session, self.now, ticket=ticket, unique=unique)
        claimed = self.place.held + self.place.offered < claims_before
        if isinstance(answer, Admitted):
            assert (answer.replaced_session is not None) == had_session
            assert had_session or claimed or not waited, "a newcomer overtook the line"
            if answer.replaced_session is not None:
                assert self.sessions.pop(answer.replaced_session) == (identity, True)
            self.sessions[session] = (identity, unique)
        elif isinstance(answer, Waiting):
            if answer.ticket not in self.arrived:
                self.arrived.append(answer.ticket)
            self.asked[answer.ticket] = self.now
            assert self.place.line()[answer.position - 1] == (identity, answer.ticket)
            assert answer.ahead == answer.position - 1
        else:
            assert waited == self.limit

    def lapse(self) -> None:
        expired = self.place.expire(self.now)
        for dropped in expired.dropped:
            if dropped.reason == "stopped-asking":
                assert dropped.ticket is not None
                silence_s = self.now - self.asked[dropped.ticket]
                assert silence_s >= MISSED_TURNS * self.place.retry_after_s
            if dropped.ticket is not None:
                self.gone.add(dropped.ticket)
        self.told(expired.offers)

    @rule(seat=st.sampled_from("abcdefg"))
    def a_seat_asks(self, seat: str) -> None:
        self.ask(seat, None, unique=True)

    @rule(token=st.sampled_from(["T", "U"]), data=st.data())
    def a_receiver_without_seat_asks(self, token: str, data: st.DataObject) -> None:
        ticket = data.draw(st.none() | st.sampled_from([*self.arrived[-8:], "made-up"]))
        self.ask(token, ticket, unique=False)

    @precondition(lambda self: self.sessions)
    @rule(data=st.data(), hold=st.booleans())
    def a_session_ends(self, data: st.DataObject, hold: bool) -> None:
        session = data.draw(st.sampled_from(sorted(self.sessions)))
        self.lapse()
        before = self.occupied()
        identity, unique = self.sessions.pop(session)
        offers = self.place.release(session, self.now, hold=hold)
        if hold and unique:
            assert self.occupied() == before
            assert offers == []
        elif before <= self.place.cap and self.place.waiting + len(offers):
            assert len(offers) == 1, f"the place of {identity} was not offered"
        self.told(offers)

    @rule(key=st.sampled_from("abcdefg"))
    def a_seat_is_withdrawn(self, key: str) -> None:
        self.told(self.place.withdraw(key, self.now))

    @rule(seat=st.sampled_from("abcdefg"))
    def a_page_listens(self, seat: str) -> None:
        self.lapse()
        before = dict(self.place.line())
        self.place.touch(seat, self.now)
        if seat in before:
            self.asked[before[seat]] = self.now

    @rule(cap=st.integers(0, 5))
    def the_cap_changes(self, cap: int) -> None:
        self.lapse()
        self.bound = max(cap, self.occupied())
        self.told(self.place.set_cap(cap, self.now))

    @rule(seconds=st.sampled_from([0.5, 4.0, 9.0, 20.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def the_owner_wakes(self) -> None:
        self.lapse()
        deadline = self.place.next_deadline()
        assert deadline is None or deadline > self.now

    @invariant()
    def the_cap_is_never_exceeded(self) -> None:
        self.bound = max(self.place.cap, min(self.bound, self.occupied()))
        assert self.occupied() <= self.bound

    @invariant()
    def every_admitted_session_has_a_place_and_no_other(self) -> None:
        assert self.place.receivers == len(self.sessions)
        seats = [identity for identity, unique in self.sessions.values() if unique]
        assert len(seats) == len(set(seats))

    @invariant()
    def nobody_waits_while_a_place_is_free(self) -> None:
        assert not self.place.waiting or self.occupied() >= self.place.cap

    @invariant()
    def the_line_is_in_order_of_arrival_and_bounded(self) -> None:
        order = [self.arrived.index(ticket) for _, ticket in self.place.line()]
        assert order == sorted(order)
        assert len(order) <= self.limit
        seats = [identity for identity, _ in self.place.line() if identity in "abcdefg"]
        assert len(seats) == len(set(seats))

    def teardown(self) -> None:
        """No starvation: whoever goes on asking gets a place, in order."""
        self.lapse()
        self.told(self.place.set_cap(1, self.now))
        line = self.place.line()
        for _, ticket in line:
            self.place.touch(ticket, self.now)
        served: list[tuple[str, str]] = []
        for session in list(self.sessions):
            self.told_and_serve(self.place.release(session, self.now, hold=False), served)
        for identity in "abcdefg":
            if identity not in {waiting for waiting, _ in line}:
                self.told_and_serve(self.place.withdraw(identity, self.now), served)
        for _ in range(4 * (len(line) + len(self.offered) + 2)):
            self.now += self.place.retry_after_s
            self.told_and_serve(self.place.expire(self.now).offers, served)
            for _, ticket in self.place.line():
                self.place.touch(ticket, self.now)
        assert served == line
        assert (self.place.waiting, self.place.offered) == (0, 0)

    def told_and_serve(self, offers: list[Offer], served: list[tuple[str, str]]) -> None:
        for offer in offers:
            unique = offer.identity in "abcdefg"
            answer = self.place.request(
                offer.identity, "served", self.now, ticket=offer.ticket, unique=unique
            )
            assert answer == Admitted()
            served.append((offer.identity, offer.ticket))
            self.told_and_serve(self.place.release("served", self.now, hold=False), served)


TestAdmissionMachine = AdmissionMachine.TestCase
TestAdmissionMachine.settings = settings(max_examples=120, stateful_step_count=40, deadline=None)
