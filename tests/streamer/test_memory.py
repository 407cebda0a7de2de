"""Memory is given back seldom, and only after enough was freed."""

from __future__ import annotations

from streamer.memory import CALM_S, LEAST_FREED, LEAST_INTERVAL_S, Trimmer, trim


def test_a_few_departures_are_not_worth_it() -> None:
    assert not Trimmer(0.0).due(LEAST_FREED - 1, 1.0)


def test_a_burst_is_trimmed_once_and_only_when_it_is_over() -> None:
    trimmer = Trimmer(0.0)
    assert not trimmer.due(200, 1.0)
    assert not trimmer.due(300, 1.9)
    assert not trimmer.due(300, 1.9 + CALM_S / 2)
    assert trimmer.due(300, 1.9 + CALM_S)
    assert not trimmer.due(300, 200.0)


def test_the_next_burst_waits_for_the_interval() -> None:
    trimmer = Trimmer(0.0)
    trimmer.due(300, 1.0)
    assert trimmer.due(300, 1.0 + CALM_S)
    trimmer.due(600, 3.0)
    assert not trimmer.due(600, LEAST_INTERVAL_S)
    assert trimmer.due(600, 1.0 + CALM_S + LEAST_INTERVAL_S)


def test_trimming_is_harmless() -> None:
    trim()
