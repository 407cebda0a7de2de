"""What a receiver's feedback says of its line."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streamer.bandwidth import DownlinkEstimate


def sending(bps: float, seconds: float = 2.0) -> DownlinkEstimate:
    estimate = DownlinkEstimate(0.0)
    estimate.sent(0, 0.0)
    estimate.sent(int(bps * seconds / 8), seconds)
    return estimate


def test_a_remb_that_falls_below_what_is_sent_is_congestion() -> None:
    estimate = sending(1_000_000)
    estimate.remb(1_200_000, 2.1)
    assert not estimate.congested(2.1)
    estimate.remb(600_000, 2.2)
    assert estimate.congested(2.2)
    assert estimate.clean_for_s(2.2) == 0.0


def test_a_remb_that_is_low_but_climbing_is_not() -> None:
    estimate = sending(1_000_000)
    for index, bps in enumerate((300_000, 320_000, 350_000, 380_000)):
        estimate.remb(bps, 2.0 + index)
        assert not estimate.congested(2.0 + index)


def test_after_a_change_of_what_is_sent_old_signs_no_longer_count() -> None:
    estimate = sending(1_000_000)
    estimate.remb(1_200_000, 2.1)
    estimate.remb(600_000, 2.2)
    estimate.settled(2.3, drains=True)
    assert not estimate.congested(2.4)


def test_one_lossy_report_is_an_accident_and_two_are_congestion() -> None:
    estimate = sending(1_000_000)
    estimate.report(0.3, 3.0)
    assert not estimate.congested(3.0)
    estimate.report(0.3, 4.0)
    assert estimate.congested(4.0)
    estimate.report(0.0, 5.0)
    assert not estimate.congested(5.0)


def test_loss_lowers_the_capacity_below_the_remb() -> None:
    estimate = sending(1_000_000)
    estimate.remb(2_000_000, 2.1)
    estimate.report(0.4, 3.0)
    assert estimate.capacity_bps() == 600_000


@given(
    st.lists(st.tuples(st.sampled_from("rls"), st.floats(allow_nan=False, allow_infinity=False)))
)
def test_absurd_feedback_is_bounded(events: list[tuple[str, float]]) -> None:
    estimate = DownlinkEstimate(0.0)
    for index, (kind, value) in enumerate(events):
        if kind == "r":
            estimate.remb(value, index)
        elif kind == "l":
            estimate.report(min(1.0, max(0.0, value)), index)
        else:
            estimate.sent(index * 1000, index)
        capacity = estimate.capacity_bps()
        assert capacity is None or 0 <= capacity <= 1_000_000_000
