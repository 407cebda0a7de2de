"""Holes in the sequence: what is asked for, when, and when it is given up."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streamer.losses import MAX_MISSING, MAX_TRIES, LossDetector


def test_a_hole_is_asked_for_at_once_and_again_a_round_trip_later() -> None:
    losses = LossDetector()
    losses.received(65534, 0.0)
    losses.received(1, 0.0)
    assert losses.due(0.0, 0.1) == [65535, 0]
    assert losses.due(0.05, 0.1) == []
    assert losses.due(0.2, 0.1) == [65535, 0]


def test_a_packet_that_arrives_late_is_no_longer_asked_for() -> None:
    losses = LossDetector()
    for seq in (1, 4, 2):
        losses.received(seq, 0.0)
    assert losses.due(0.0, 0.1) == [3]


def test_a_hole_is_given_up_after_some_tries() -> None:
    losses = LossDetector()
    losses.received(1, 0.0)
    losses.received(3, 0.0)
    asked = sum(bool(losses.due(float(second), 0.1)) for second in range(100))
    assert asked == MAX_TRIES
    assert losses.pending == 0
    assert losses.abandoned == 1


def test_a_jump_too_wide_to_repair_is_told() -> None:
    losses = LossDetector()
    assert losses.received(1, 0.0)
    assert not losses.received(1 + MAX_MISSING + 2, 0.0)
    assert losses.pending == 0


@given(st.lists(st.integers(0, 65535), max_size=300))
def test_whatever_arrives_the_list_of_missing_stays_bounded(seqs: list[int]) -> None:
    losses = LossDetector()
    for index, seq in enumerate(seqs):
        losses.received(seq, index * 0.001)
        assert losses.pending <= MAX_MISSING
