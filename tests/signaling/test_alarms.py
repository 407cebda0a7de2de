"""Alarms: raised when a limit is passed for a while, acknowledged, and cleared by themselves."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from signaling.alarms import MAX_ACTIVE, MAX_LOG, Alarms, Reading


def loss(value: float, subject: str = "l/s/camera") -> Reading:
    return Reading("loss", subject, value, 5.0)


def test_an_alarm_is_raised_once_its_limit_has_been_passed_for_long_enough() -> None:
    alarms = Alarms()
    assert alarms.judge([loss(9)], 0.0, 1000.0, 10.0) == []
    assert alarms.standing() == []
    (raised,) = alarms.judge([loss(8)], 10.0, 1010.0, 10.0)
    assert (raised.what, raised.value, raised.limit) == ("raised", 8.0, 5.0)
    assert alarms.judge([loss(7)], 11.0, 1011.0, 10.0) == []
    (cleared,) = alarms.judge([loss(5)], 12.0, 1012.0, 10.0)
    assert (cleared.what, cleared.alarm) == ("cleared", raised.alarm)
    assert alarms.standing() == []


def test_a_moment_below_the_limit_begins_the_count_anew() -> None:
    alarms = Alarms()
    for now, value in ((0.0, 9), (9.0, 1), (10.0, 9), (19.0, 9)):
        assert alarms.judge([loss(value)], now, now, 10.0) == []


def test_an_acknowledged_alarm_still_stands_and_says_so() -> None:
    alarms = Alarms()
    (raised,) = alarms.judge([loss(9)], 0.0, 0.0, 0.0)
    assert alarms.acknowledge(raised.alarm, "ops", 1.0)
    assert alarms.acknowledge(raised.alarm, "ops", 2.0)
    assert not alarms.acknowledge(raised.alarm + 1, "ops", 1.0)
    assert not alarms.acknowledge(0, "ops", 1.0)
    assert [one["acknowledged"] for one in alarms.standing()] == [True]
    assert [(one.what, one.by) for one in alarms.log()] == [("acknowledged", "ops"), ("raised", "")]


def test_free_space_is_bad_when_it_is_low_and_a_limit_of_zero_is_none() -> None:
    alarms = Alarms()
    readings = [
        Reading("disk", "server", 10, 100, low_is_bad=True),
        Reading("cpu", "0", 99, 0),
    ]
    assert [one.kind for one in alarms.judge(readings, 0.0, 0.0, 0.0)] == ["disk"]


@given(st.lists(st.lists(st.integers(0, 700), max_size=40), max_size=12))
def test_no_run_of_readings_makes_the_alarms_or_their_log_grow_without_bound(
    rounds: list[list[int]],
) -> None:
    alarms = Alarms()
    for now, subjects in enumerate(rounds):
        wide = [loss(9, str(number + step)) for number in subjects for step in range(20)]
        alarms.judge(wide, float(now), 0.0, 0.0)
        standing = alarms.standing()
        assert len(standing) <= MAX_ACTIVE
        assert {one["subject"] for one in standing} <= {one.subject for one in wide}
        assert len(alarms.log()) <= MAX_LOG
