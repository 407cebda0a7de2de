"""Lip sync, pacing and what is given up when time is short, with a made-up clock."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixer.clock import MAX_PICTURE_WAIT_S, LipSync, Pace, Shedder, TrackClock
from streamer import rtcp


def report(unix_s: float, timestamp: int) -> rtcp.SenderReport:
    return rtcp.SenderReport(1, rtcp.ntp_from_unix(unix_s), timestamp & 0xFFFFFFFF, 0, 0)


@given(st.integers(0, 0xFFFFFFFF), st.floats(-3000, 3000))
def test_a_track_clock_is_a_line_through_its_report(timestamp: int, distance_s: float) -> None:
    clock = TrackClock(90_000)
    assert clock.ntp_s(timestamp) is None
    clock.report(report(1000.0, timestamp))
    later = (timestamp + round(distance_s * 90_000)) & 0xFFFFFFFF
    at_report, at_later = clock.ntp_s(timestamp), clock.ntp_s(later)
    assert at_report is not None and at_later is not None
    assert at_later - at_report == pytest.approx(distance_s, abs=1e-4)


def test_a_picture_waits_for_the_sound_of_its_instant() -> None:
    sync = LipSync()
    sync.audio.report(report(500.0, 48_000))
    sync.video.report(report(500.0, 90_000))
    # At our second 10.05 the sound captured at 500.0 is played: a lag of 50 ms behind arrival.
    sync.playing(48_000.0, 10.05)
    assert sync.due(90_000, arrival=10.0) == pytest.approx(10.05, abs=1e-4)
    assert sync.due(90_000 + 3_600, arrival=10.04) == pytest.approx(10.09, abs=1e-4)


@pytest.mark.parametrize(("sound_at", "expected"), [(9.0, 10.0), (12.0, 10.0 + MAX_PICTURE_WAIT_S)])
def test_a_picture_is_never_held_long_nor_shown_before_it_came(
    sound_at: float, expected: float
) -> None:
    sync = LipSync()
    sync.audio.report(report(500.0, 0))
    sync.video.report(report(500.0, 0))
    sync.playing(0.0, sound_at)
    assert sync.due(0, arrival=10.0) == pytest.approx(expected)


def test_without_reports_or_sound_pictures_are_shown_as_they_come() -> None:
    sync = LipSync()
    assert sync.due(1234, arrival=7.0) == 7.0
    sync.playing(None, 8.0)
    sync.video.report(report(1.0, 0))
    assert sync.due(1234, arrival=8.0) == 8.0


def test_a_pace_keeps_its_average_and_skips_what_was_missed() -> None:
    pace = Pace(25, 0.0)
    shown = sum(pace.due(step * 0.003) for step in range(1000))
    assert shown in (75, 76)
    pace = Pace(25, 0.0)
    assert pace.due(0.0)
    assert pace.due(5.0)
    assert not pace.due(5.01)
    assert pace.due(5.05)


def test_a_pace_with_nothing_to_show_looks_again_soon() -> None:
    pace = Pace(10, 0.0)
    assert pace.due(0.0)
    pace.postpone(0.0)
    assert not pace.due(0.02)
    assert pace.due(0.03)
    assert not pace.due(0.1)


def test_a_changed_rate_takes_effect_at_once() -> None:
    pace = Pace(1, 0.0)
    assert pace.due(0.0)
    pace.set_fps(25, 0.1)
    assert pace.next_s <= 0.14


def lateness(shedder: Shedder, began: float, seconds: float, late_periods: float) -> list[float]:
    """Feed 40 pictures a second; the instants at which the step changed."""
    changes = []
    for step in range(int(seconds * 40)):
        now = began + step / 40
        if shedder.observe(late_periods, now):
            changes.append(now)
    return changes


def test_the_wall_gives_way_before_the_stage() -> None:
    shedder = Shedder(0.0)
    seen = [shedder.what]
    for second in range(10):
        lateness(shedder, second, 1.0, 3.0)
        if shedder.what != seen[-1]:
            seen.append(shedder.what)
    assert seen == ["none", "wall", "stage"]
    wall, stage = shedder.divisors()
    assert wall >= stage > 1


def test_it_gives_way_within_a_second_and_recovers_step_by_step() -> None:
    shedder = Shedder(0.0)
    assert lateness(shedder, 0.0, 1.0, 2.0)
    lateness(shedder, 1.0, 0.6, 0.1)
    step = shedder.step
    assert not lateness(shedder, 1.6, Shedder.CALM_S - 1.5, 0.1)
    lateness(shedder, Shedder.CALM_S, 60.0, 0.1)
    assert step > 0 and shedder.step == 0 and shedder.what == "none"


def test_each_relapse_makes_it_more_patient() -> None:
    shedder = Shedder(0.0)
    now = 0.0
    calm: list[float] = []
    for _ in range(4):
        lateness(shedder, now, 0.6, 2.0)
        now += 0.6
        began = now
        while shedder.step:
            lateness(shedder, now, 0.5, 0.1)
            now += 0.5
        calm.append(now - began)
    assert calm[-1] > calm[0]


def test_a_single_late_picture_changes_nothing() -> None:
    shedder = Shedder(0.0)
    for step in range(400):
        assert not shedder.observe(2.0 if step % 40 == 0 else 0.2, step / 40)
