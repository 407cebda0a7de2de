"""Admission over several levels: reservations, priorities, shared caps, cuts, restarts."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from signaling.admission import (
    Admitted,
    Cut,
    Offer,
    Priority,
    Refused,
    StreamAdmission,
    Waiting,
)
from signaling.allowances import Allowance, House
from signaling.departures import FEWEST, FORGOTTEN_AFTER_S, Departures
from signaling.turns import Claim, match_key

HOLD_S, OFFER_S = 30.0, 15.0


def stream(
    cap: int, *, waiting_list: int = 50, house: House | None = None, lesson: Allowance | None = None
) -> StreamAdmission:
    numbers = itertools.count(1)
    return StreamAdmission(
        cap,
        waiting_list,
        HOLD_S,
        OFFER_S,
        make_ticket=lambda: f"t{next(numbers)}",
        house=house,
        lesson=lesson,
    )


def ask(
    place: StreamAdmission,
    seat: str,
    now: float = 0.0,
    *,
    priority: Priority = Priority.WALK_IN,
    name: str = "",
    organisation: str | None = None,
) -> Admitted | Waiting | Refused:
    """A seat asks with the session that is named after it."""
    return place.request(
        seat,
        f"{seat}-1",
        now,
        unique=True,
        priority=priority,
        name=name,
        organisation=organisation,
    )


def seats(line: list[tuple[str, str]]) -> list[str]:
    return [identity for identity, _ in line]


def identities(offers: list[Offer]) -> list[str]:
    return [offer.identity for offer in offers]


# --- reservations --------------------------------------------------------------------------------


def test_a_reserved_place_is_kept_for_its_name_and_no_other() -> None:
    place = stream(2)
    place.reserve(["红星小学"], 600.0, 0.0)
    assert ask(place, "a") == Admitted()
    assert isinstance(ask(place, "b"), Waiting)
    assert place.reserved == 1
    assert ask(place, "c", name=" 红星 小学 ") == Admitted()
    assert (place.receivers, place.reserved, place.waiting) == (2, 0, 1)


def test_an_unclaimed_reservation_lapses_to_the_list_so_many_minutes_into_the_lesson() -> None:
    place = stream(1)
    place.reserve(["红星小学"], 600.0, 0.0)
    ask(place, "a", 90.0)
    place.touch("a", 100.0)
    assert place.next_deadline() == 115.0  # before the start a reservation does not lapse
    place.start(100.0)
    for now in range(110, 700, 10):
        place.touch("a", float(now))
    assert place.expected_wait_s(1, 690.0) == 10
    gone = place.expire(700.0)
    assert identities(gone.offers) == ["a"]
    assert place.reserved == 0
    late = ask(place, "r", 701.0, name="红星小学")
    assert late == Waiting(1, 0, "t2", 5)


def test_a_lapsed_reservation_still_comes_before_those_who_walk_in() -> None:
    place = stream(1)
    place.reserve(["红星小学"], 0.0, 0.0)
    place.start(0.0)
    assert ask(place, "a", 1.0) == Admitted()
    ask(place, "b", 2.0)
    ask(place, "r", 3.0, name="红星小学")
    assert seats(place.line()) == ["r", "b"]


def test_a_name_fills_one_place_however_many_come_with_it() -> None:
    place = stream(2)
    place.reserve(["甲", "乙"], 600.0, 0.0)
    assert ask(place, "one", name="甲") == Admitted()
    assert isinstance(ask(place, "two", name="甲"), Waiting)
    assert (place.receivers, place.reserved) == (1, 1)


def test_in_a_line_only_the_first_of_a_name_goes_before_the_others() -> None:
    place = stream(1)
    ask(place, "a")
    place.reserve(["甲"], 600.0, 0.0)
    for seat, name in (("b", ""), ("one", "甲"), ("two", "甲")):
        ask(place, seat, name=name)
    assert seats(place.line()) == ["one", "two", "b"] or seats(place.line())[0] == "one"
    assert place.position("two") != 1
    assert identities(place.release("a-1", 1.0, hold=False)) == ["one"]


def test_a_place_given_up_is_kept_for_its_name_until_the_reservation_lapses() -> None:
    place = stream(1)
    place.reserve(["甲"], 600.0, 0.0)
    place.start(0.0)
    ask(place, "r", name="甲")
    ask(place, "b")
    assert place.release("r-1", 1.0, hold=False) == []
    assert (place.reserved, place.waiting) == (1, 1)
    assert ask(place, "r2", 2.0, name="甲") == Admitted()


def test_reserving_for_who_is_here_or_waits_takes_effect_at_once() -> None:
    place = stream(2)
    ask(place, "a", name="甲")
    ask(place, "b")
    ask(place, "c")
    ask(place, "d", name="丁")
    assert seats(place.line()) == ["c", "d"]
    place.reserve(["甲", "丁"], 600.0, 1.0)
    assert (place.reserved, seats(place.line())) == (1, ["d", "c"])
    assert identities(place.release("b-1", 2.0, hold=False)) == ["d"]
    assert place.reserve([], 0.0, 3.0) == []
    assert place.reserved == 0


def test_a_full_waiting_list_does_not_keep_a_reserved_name_out() -> None:
    place = stream(1, waiting_list=1)
    ask(place, "a")
    ask(place, "b")
    place.reserve(["甲"], 600.0, 0.0)
    assert ask(place, "c") == Refused()
    assert isinstance(ask(place, "r", name="甲"), Waiting)
    assert seats(place.line()) == ["r", "b"]


def test_names_match_whatever_their_width_case_or_spaces() -> None:
    assert match_key("Ｈope  School") == match_key("hopeschool")
    assert match_key("红星小学") != match_key("红旗小学")


# --- priorities ----------------------------------------------------------------------------------


def test_turns_are_served_by_priority_and_then_by_arrival() -> None:
    place = stream(1)
    ask(place, "a")
    for seat, priority in (
        ("o", Priority.OBSERVER),
        ("w1", Priority.WALK_IN),
        ("s1", Priority.SCHEDULED),
        ("w2", Priority.WALK_IN),
        ("s2", Priority.SCHEDULED),
    ):
        ask(place, seat, priority=priority)
    assert seats(place.line()) == ["s1", "s2", "w1", "w2", "o"]
    assert [place.position(seat) for seat in ("s1", "s2", "w1", "w2", "o")] == [1, 2, 3, 4, 5]


# --- lowering with "now" -------------------------------------------------------------------------


def test_lowering_now_takes_the_least_prioritised_and_of_equals_the_latest() -> None:
    place = stream(4)
    place.reserve(["甲"], 600.0, 0.0)
    ask(place, "w1", 1.0)
    ask(place, "r", 2.0, name="甲")
    ask(place, "s", 3.0, priority=Priority.SCHEDULED)
    ask(place, "w2", 4.0)
    place.set_cap(2, 5.0)
    assert (place.cap, place.receivers) == (2, 4)
    assert place.cut_excess(6.0) == [Cut("w2", "w2-1"), Cut("w1", "w1-1")]
    assert (place.receivers, place.waiting) == (2, 0)
    assert place.cut_excess(7.0) == []


def test_an_offer_taken_back_becomes_its_turn_again_and_a_held_place_is_gone() -> None:
    place = stream(2)
    for seat in ("a", "b", "c", "d"):
        ask(place, seat)
    place.release("a-1", 1.0, hold=False)
    place.release("b-1", 1.0, hold=True)
    assert (place.held, place.offered, place.waiting) == (1, 1, 1)
    place.set_cap(0, 2.0)
    assert place.cut_excess(2.0) == [Cut("b", None)]
    assert (place.held, place.offered, seats(place.line())) == (0, 0, ["c", "d"])
    assert identities(place.set_cap(1, 3.0)) == ["c"]


# --- levels above the stream ---------------------------------------------------------------------


def test_a_lesson_cap_counts_all_its_streams_and_frees_the_one_that_waits() -> None:
    house, lesson = House(), Allowance("lesson", 2)
    camera = stream(10, house=house, lesson=lesson)
    slides = stream(10, house=house, lesson=lesson)
    assert ask(camera, "a") == ask(camera, "b") == Admitted()
    waiting = ask(slides, "a")
    assert isinstance(waiting, Waiting)
    assert waiting.level == "lesson"
    assert camera.release("b-1", 1.0, hold=False) == []
    assert (lesson.used, slides.offered) == (2, 1)
    assert identities(slides.expire(1.0).offers) == ["a"]
    assert isinstance(ask(camera, "c", 2.0), Waiting)  # the offered place is not for newcomers


def test_the_best_rank_of_all_lists_gets_a_shared_place() -> None:
    house = House(node_limit=1)
    first, second = stream(5, house=house), stream(5, house=house)
    ask(first, "a")
    ask(first, "w")
    ask(second, "s", priority=Priority.SCHEDULED)
    first.release("a-1", 1.0, hold=False)
    assert (first.offered, second.offered) == (0, 1)


def test_an_organisation_at_its_cap_lets_others_pass() -> None:
    house = House(organisation_limit=1)
    place = stream(2, house=house)
    assert ask(place, "a", organisation="x") == Admitted()
    blocked = ask(place, "b", organisation="x")
    assert isinstance(blocked, Waiting)
    assert blocked.level == "organisation"
    assert ask(place, "c", organisation="y") == Admitted()
    assert identities(place.release("a-1", 1.0, hold=False)) == ["b"]


def test_raising_the_limit_of_the_node_offers_at_once() -> None:
    house = House(node_limit=1)
    place = stream(5, house=house)
    ask(place, "a")
    ask(place, "b")
    house.configure(2, None, 1.0)
    assert identities(place.expire(1.0).offers) == ["b"]


def test_a_reservation_keeps_a_place_at_the_levels_above_too() -> None:
    house, lesson = House(), Allowance("lesson", 2)
    camera = stream(10, house=house, lesson=lesson)
    slides = stream(10, house=house, lesson=lesson)
    camera.reserve(["甲"], 600.0, 0.0)
    assert ask(slides, "a") == Admitted()
    assert isinstance(ask(slides, "b"), Waiting)
    assert ask(camera, "r", name="甲") == Admitted()
    assert (lesson.used, lesson.reserved) == (2, 0)


def test_a_lesson_that_ends_gives_back_what_it_had_of_the_node() -> None:
    house = House(node_limit=2)
    ending, other = stream(5, house=house), stream(5, house=house)
    ending.reserve(["甲"], 600.0, 0.0)
    ask(ending, "a")
    ask(ending, "b")
    ask(other, "c")
    assert (house.node.used, house.node.reserved, other.waiting) == (1, 1, 1)
    ending.close()
    assert (house.node.used, house.node.reserved, other.offered) == (1, 0, 1)
    assert (ending.receivers, ending.waiting) == (0, 0)


def test_a_restored_place_is_held_even_above_a_lowered_cap() -> None:
    place = stream(1)
    place.restore("a", 0.0)
    place.restore("b", 0.0)
    assert place.held == 2
    assert ask(place, "b", 1.0) == Admitted()
    assert place.expire(HOLD_S).offers == []
    assert (place.receivers, place.held) == (1, 0)


# --- the expected wait ---------------------------------------------------------------------------


def test_the_wait_is_unknown_until_enough_have_left_and_then_grows_with_the_position() -> None:
    departures = Departures()
    for number in range(FEWEST):
        assert departures.expected_wait_s(1, 60.0 * number) is None
        departures.note(60.0 * number)
    assert departures.expected_wait_s(1, 180.0) == 60
    assert departures.expected_wait_s(3, 180.0) == 180
    assert departures.expected_wait_s(1, 360.0) == 120  # nobody left for a while: it grows
    assert departures.expected_wait_s(1, 121.0 + FORGOTTEN_AFTER_S) is None


def test_who_waits_is_told_how_long_it_may_take() -> None:
    place = stream(4)
    for seat in "abcd":
        ask(place, seat)
    for number, seat in enumerate("abc", start=1):
        place.release(f"{seat}-1", 60.0 * number, hold=False)
    for seat in "efg":
        ask(place, seat, 240.0)
    answer = ask(place, "h", 240.0)
    assert isinstance(answer, Waiting)
    assert answer.expected_wait_s == 60


# --- decisions -----------------------------------------------------------------------------------


def test_every_decision_has_a_reason_and_repeated_refusals_are_noted_once() -> None:
    place = stream(1, waiting_list=1)
    place.reserve([], 0.0, 0.0)
    for seat in ("a", "b", "c", "c", "b", "c"):
        ask(place, seat)
    place.release("a-1", 1.0, hold=False)
    ask(place, "b", 2.0)
    place.set_cap(0, 3.0)
    place.cut_excess(3.0)
    told = [(d.verb, d.reason, d.identity) for d in place.take_decisions()]
    assert told == [
        ("reservations", "0 names, 0 min into the lesson", None),
        ("admitted", "free", "a"),
        ("waiting", "stream-cap", "b"),
        ("refused", "waiting-list-full", "c"),
        ("left", "ended", "a"),
        ("offered", "free", "b"),
        ("admitted", "offer-claimed", "b"),
        ("cap", "from 1 to 0", None),
        ("cut", "cap-lowered", "b"),
    ]
    assert place.take_decisions() == []


@pytest.mark.parametrize("hold_s", [-1.0, float("nan"), float("inf")])
def test_an_impossible_hold_time_is_refused(hold_s: float) -> None:
    with pytest.raises(ValueError, match="hold_s"):
        stream(1).reserve(["甲"], hold_s, 0.0)


# --- any interleaving ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Person:
    identity: str
    name: str
    priority: Priority
    organisation: str | None


PEOPLE = [
    Person(
        f"p{number}",
        f"n{number % 5}",
        (Priority.WALK_IN, Priority.SCHEDULED, Priority.WALK_IN, Priority.OBSERVER)[number % 4],
        (None, "x", "y")[number % 3],
    )
    for number in range(10)
]
people = st.sampled_from(PEOPLE)
which = st.sampled_from([0, 1])


class HouseMachine(RuleBasedStateMachine):
    """Two streams of a lesson under caps of lesson, node and organisation; anything may happen."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.numbers = itertools.count()
        self.caps = [2, 2]
        self.reserved: list[list[str]] = [[], []]
        self.started = False
        self.limits: tuple[int | None, int | None] = (None, None)
        self.build(lesson_cap=3)

    def build(self, lesson_cap: int | None) -> None:
        self.house = House(*self.limits)
        self.lesson = Allowance("lesson", lesson_cap)
        self.streams = [
            stream(cap, waiting_list=4, house=self.house, lesson=self.lesson) for cap in self.caps
        ]
        self.sessions: dict[str, tuple[int, Person]] = {}
        self.used = self.count()

    def placed(self, index: int) -> list[Claim]:
        return [claim for _, claim in self.streams[index]._book.with_places()]

    def count(self) -> dict[str, int]:
        used = {
            "lesson": self.lesson.used,
            "node": self.house.node.used,
            "stream 0": self.streams[0]._book.stream.used,
            "stream 1": self.streams[1]._book.stream.used,
        }
        for name in ("x", "y"):
            used[name] = self.house.organisation(name).used
        return used

    def limit(self, level: str) -> int | None:
        if level.startswith("stream"):
            return self.streams[int(level[-1])].cap
        if level == "lesson":
            return self.lesson.limit
        return self.limits[0] if level == "node" else self.limits[1]

    # --- what may happen -----------------------------------------------------------------------

    @rule(person=people, index=which)
    def somebody_asks(self, person: Person, index: int) -> None:
        place = self.streams[index]
        session = f"x{next(self.numbers)}"
        place.expire(self.now)
        place.take_decisions()
        before = (place.held, place.offered, place.receivers)
        answer = place.request(
            person.identity,
            session,
            self.now,
            unique=True,
            priority=person.priority,
            name=person.name,
            organisation=person.organisation,
        )
        verbs = [d.verb for d in place.take_decisions() if d.identity == person.identity]
        if isinstance(answer, Admitted):
            assert verbs == ["admitted"]
            if answer.replaced_session is not None:
                del self.sessions[answer.replaced_session]
            self.sessions[session] = (index, person)
            claim = place._book.taken[session]
            # Whoever had a place already keeps it, whatever was set aside or cut in between.
            had_one = (place.held, place.offered, place.receivers - 1) != before
            fresh = claim.ticket == "" and claim.placed > claim.arrived and not had_one
            if fresh and claim.placed == self.house._arrivals and not claim.reserved:
                for level in (place._book.stream, self.lesson, self.house.node):
                    assert level.has_room(from_reserve=False) or (
                        level.limit is not None and level.used + level.reserved <= level.limit
                    ), "a place that was set aside was given away"
        elif isinstance(answer, Waiting):
            assert verbs in (["waiting"], [])
            assert place.line()[answer.position - 1][0] == person.identity
        else:
            assert place.waiting >= 4

    @precondition(lambda self: self.sessions)
    @rule(data=st.data(), hold=st.booleans())
    def a_session_ends_or_is_lost(self, data: st.DataObject, hold: bool) -> None:
        session = data.draw(st.sampled_from(sorted(self.sessions)))
        index, _ = self.sessions.pop(session)
        self.streams[index].release(session, self.now, hold=hold)

    @rule(person=people, index=which)
    def somebody_gives_up(self, person: Person, index: int) -> None:
        self.streams[index].withdraw(person.identity, self.now)

    @rule(index=which, cap=st.integers(0, 4), cut=st.booleans())
    def the_cap_changes(self, index: int, cap: int, cut: bool) -> None:
        place = self.streams[index]
        running = set(place._book.taken)
        self.caps[index] = cap
        place.set_cap(cap, self.now)
        lost = running - set(place._book.taken)
        assert not lost, "lowering cut a running classroom that nobody asked to cut"
        if cut:
            before = {claim.identity: claim.place_rank for claim in self.placed(index)}
            cuts = place.cut_excess(self.now)
            for gone in cuts:
                if gone.session_id is not None:
                    del self.sessions[gone.session_id]
            stays = [claim.identity for _, claim in place._book.with_places()]
            worst = max((before[who] for who in stays if who in before), default=(-1, -1))
            assert all(before[gone.identity] > worst for gone in cuts)
            assert place._book.stream.used <= cap

    @rule(cap=st.none() | st.integers(1, 5))
    def the_cap_of_the_lesson_changes(self, cap: int | None) -> None:
        self.lesson.limit = cap
        self.house.share_out(self.now)

    @rule(node=st.none() | st.integers(1, 5), organisation=st.none() | st.integers(1, 2))
    def the_limits_change(self, node: int | None, organisation: int | None) -> None:
        self.limits = (node, organisation)
        self.house.configure(node, organisation, self.now)

    @rule(index=which, names=st.lists(st.sampled_from(["n0", "n1", "n2"]), unique=True))
    def places_are_reserved(self, index: int, names: list[str]) -> None:
        self.reserved[index] = names
        self.streams[index].reserve(names, 60.0, self.now)

    @rule()
    def the_lesson_starts(self) -> None:
        self.started = True
        for place in self.streams:
            place.start(self.now)

    @rule()
    def all_pages_listen(self) -> None:
        for place in self.streams:
            for _, ticket in place.line():
                place.touch(ticket, self.now)

    @rule(seconds=st.sampled_from([0.5, 6.0, 16.0, 31.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        for place in self.streams:
            place.expire(self.now)

    @rule()
    def the_server_crashes_and_comes_back(self) -> None:
        """Sessions and turns are lost; every place that a session or a hold had is held again."""
        kept: list[list[Claim]] = []
        for place in self.streams:
            book = place._book
            claims = [*book.taken.values(), *book.holds.values()]
            kept.append(sorted(claims, key=lambda claim: claim.placed))
        self.build(self.lesson.limit)
        for place, names, claims in zip(self.streams, self.reserved, kept, strict=True):
            place.reserve(names, 60.0, self.now)
            if self.started:
                place.start(self.now)
            for claim in claims:
                person = next(p for p in PEOPLE if p.identity == claim.identity)
                place.restore(
                    person.identity,
                    self.now,
                    priority=person.priority,
                    name=person.name,
                    organisation=person.organisation,
                )
            assert place.held == len(claims)
        self.used = self.count()

    # --- what always holds ---------------------------------------------------------------------

    @invariant()
    def places_are_conserved_at_every_level(self) -> None:
        claims = [self.placed(0), self.placed(1)]
        counted = self.count()
        assert [len(c) for c in claims] == [counted["stream 0"], counted["stream 1"]]
        both = [*claims[0], *claims[1]]
        assert counted["lesson"] == counted["node"] == len(both)
        for name in ("x", "y"):
            members = [p.identity for p in PEOPLE if p.organisation == name]
            assert counted[name] == sum(claim.identity in members for claim in both)
        for index, place in enumerate(self.streams):
            assert place._book.stream.reserved == place.reserved
            filled = [claim.name for claim in claims[index] if claim.reserved]
            assert len(filled) == len(set(filled)), "one place per reservation"
            in_force = {match_key(name) for name in place.reservations.names}
            assert place.reserved == len(in_force - set(filled)), "a reserved place got lost"
            assert len({claim.identity for claim in claims[index]}) == len(claims[index])
            assert set(place._book.taken) == {
                s for s, (i, _) in self.sessions.items() if i == index
            }
        assert self.lesson.reserved == self.house.node.reserved
        assert self.lesson.reserved == sum(place.reserved for place in self.streams)

    @invariant()
    def no_level_grows_beyond_its_cap(self) -> None:
        now_used = self.count()
        for level, used in now_used.items():
            limit = self.limit(level)
            assert used <= self.used[level] or limit is None or used <= limit, level
        self.used = now_used

    @invariant()
    def nobody_waits_for_a_place_that_is_free(self) -> None:
        for place in self.streams:
            assert place.next_rank(self.now) is None

    @invariant()
    def the_line_is_in_order_of_priority_and_arrival(self) -> None:
        for place in self.streams:
            ranks = [claim.rank for claim in place._book.line]
            assert ranks == sorted(ranks)
            assert place.waiting <= 4 + len(self.reserved[0]) + len(self.reserved[1]) + 3

    def teardown(self) -> None:
        """No starvation: whoever goes on asking gets a place, in order of rank."""
        self.limits = (None, None)
        self.house.configure(None, None, self.now)
        self.lesson.limit = None
        for index, place in enumerate(self.streams):
            place.reserve([], 0.0, self.now)
            place.set_cap(0, self.now)
            for _, ticket in place.line():
                place.touch(ticket, self.now)
            for session, (i, _) in list(self.sessions.items()):
                if i == index:
                    place.release(session, self.now, hold=False)
            for person in PEOPLE:
                if place.position(person.identity) is None:
                    place.withdraw(person.identity, self.now)
            line, served = seats(place.line()), []
            offers = place.set_cap(1, self.now)
            while offers:
                [offer] = offers
                served.append(offer.identity)
                assert place.request(offer.identity, "s", self.now, unique=True) == Admitted()
                offers = place.release("s", self.now, hold=False)
            assert served == line


TestHouseMachine = HouseMachine.TestCase
TestHouseMachine.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
