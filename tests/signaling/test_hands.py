"""Raised hands: in order, idempotent, limited per seat."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from signaling.hands import BURST, REFILL_PER_S, Hand, Hands


def test_hands_are_listed_in_the_order_they_went_up() -> None:
    hands = Hands()
    for number, seat in enumerate("cab"):
        assert hands.raise_hand(seat, now=float(number), wall_s=1000.0 + number) == "changed"
    assert hands.order() == [Hand("c", 1000.0), Hand("a", 1001.0), Hand("b", 1002.0)]


def test_raising_again_keeps_the_turn_and_the_time() -> None:
    hands = Hands()
    hands.raise_hand("a", now=0.0, wall_s=1000.0)
    hands.raise_hand("b", now=1.0, wall_s=1001.0)
    assert hands.raise_hand("a", now=2.0, wall_s=1002.0) == "unchanged"
    assert [hand.seat for hand in hands.order()] == ["a", "b"]
    assert hands.since("a") == 1000.0


def test_a_hand_that_went_down_and_up_again_is_last() -> None:
    hands = Hands()
    hands.raise_hand("a", now=0.0, wall_s=1000.0)
    hands.raise_hand("b", now=1.0, wall_s=1001.0)
    assert hands.take_down("a", now=2.0) == "changed"
    assert hands.since("a") is None
    hands.raise_hand("a", now=3.0, wall_s=1003.0)
    assert [hand.seat for hand in hands.order()] == ["b", "a"]


def test_a_clock_set_back_does_not_let_anyone_jump_the_queue() -> None:
    hands = Hands()
    hands.raise_hand("a", now=0.0, wall_s=1000.0)
    hands.raise_hand("b", now=1.0, wall_s=500.0)
    assert [hand.seat for hand in hands.order()] == ["a", "b"]


def test_a_seat_that_toggles_too_fast_is_ignored_until_it_calms_down() -> None:
    hands = Hands()
    outcomes = [
        hands.raise_hand("a", now=0.0, wall_s=0.0) if n % 2 == 0 else hands.take_down("a", now=0.0)
        for n in range(int(BURST) + 3)
    ]
    assert outcomes == ["changed"] * int(BURST) + ["too-fast"] * 3
    assert hands.is_raised("a")  # the fifth, a raise, was the last that counted
    assert hands.take_down("a", now=1 / REFILL_PER_S) == "changed"


def test_the_limit_of_one_seat_does_not_touch_another_or_the_teacher() -> None:
    hands = Hands()
    for _ in range(20):
        hands.raise_hand("a", now=0.0, wall_s=0.0)
    assert hands.raise_hand("b", now=0.0, wall_s=0.0) == "changed"
    assert hands.lower("a") == "changed"
    assert hands.lower("a") == "unchanged"


def test_a_seat_that_left_leaves_nothing_behind() -> None:
    hands = Hands()
    for _ in range(20):
        hands.raise_hand("a", now=0.0, wall_s=0.0)
    assert hands.forget("a") == "changed"
    assert len(hands) == 0
    assert hands.raise_hand("a", now=0.0, wall_s=0.0) == "changed"
    assert hands.forget("never-seen") == "unchanged"


@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.sampled_from(["up", "down", "lower"])), max_size=60
    )
)
def test_the_order_is_that_of_the_raises_that_still_stand(events: list[tuple[str, str]]) -> None:
    hands, expected = Hands(), list[str]()
    for number, (seat, event) in enumerate(events):
        now = number * 10.0
        if event == "up":
            hands.raise_hand(seat, now=now, wall_s=now)
            if seat not in expected:
                expected.append(seat)
        else:
            if event == "down":
                hands.take_down(seat, now=now)
            else:
                hands.lower(seat)
            if seat in expected:
                expected.remove(seat)
        assert [hand.seat for hand in hands.order()] == expected
