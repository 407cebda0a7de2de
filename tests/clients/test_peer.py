"""When silence of the server deserves a question, and when it means the end."""

from __future__ import annotations

from itertools import pairwise

from clients.peer import GIVE_UP_UNKNOWN_S, PROBE_AFTER_S, PROBE_AGAIN_S, Pulse
from clients.whip import Liveness


def test_a_server_that_is_heard_is_not_asked() -> None:
    pulse = Pulse(0.0)
    for tick in range(100):
        pulse.observe(tick, tick * 0.5)
        assert not pulse.should_probe(tick * 0.5)


def test_silence_is_asked_about_again_and_again_but_not_in_a_rush() -> None:
    pulse = Pulse(0.0)
    asked = []
    for tick in range(200):
        now_s = tick * 0.1
        pulse.observe("same", now_s)
        if pulse.should_probe(now_s):
            asked.append(now_s)
    assert abs(asked[0] - PROBE_AFTER_S) < 0.11
    gaps = [later - earlier for earlier, later in pairwise(asked)]
    assert gaps and all(abs(gap - PROBE_AGAIN_S) < 0.11 for gap in gaps)


def test_a_session_that_is_gone_is_dead_at_once() -> None:
    pulse = Pulse(0.0)
    assert pulse.verdict(Liveness.GONE, 2.5)
    assert pulse.verdict(Liveness.UNREACHABLE, 2.5)
    assert not pulse.verdict(Liveness.ALIVE, 1000.0)


def test_a_server_that_cannot_say_is_given_longer() -> None:
    pulse = Pulse(0.0)
    assert not pulse.verdict(Liveness.UNKNOWN, GIVE_UP_UNKNOWN_S - 1)
    assert pulse.verdict(Liveness.UNKNOWN, GIVE_UP_UNKNOWN_S + 1)
