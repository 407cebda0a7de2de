"""Delays between attempts."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from clients.retry import FIRST_DELAY_S, LONGEST_DELAY_S, SPREAD, Backoff


@given(seed=st.integers(), attempts=st.integers(1, 60))
def test_delays_grow_and_never_pass_the_longest(seed: int, attempts: int) -> None:
    backoff = Backoff(rng=random.Random(seed))
    delays = [backoff.next_delay_s() for _ in range(attempts)]
    assert delays[0] <= FIRST_DELAY_S * (1 + SPREAD)
    assert all(0 < delay <= LONGEST_DELAY_S for delay in delays)
    assert all(delay >= LONGEST_DELAY_S * (1 - SPREAD) for delay in delays[6:])


def test_success_begins_again_at_the_shortest() -> None:
    backoff = Backoff()
    for _ in range(10):
        backoff.next_delay_s()
    backoff.succeeded()
    assert backoff.next_delay_s() <= FIRST_DELAY_S * (1 + SPREAD)


def test_the_server_may_ask_for_longer() -> None:
    assert Backoff().next_delay_s(30.0) == 30.0


def test_attempts_run_out_only_in_a_row() -> None:
    backoff = Backoff(attempts=2)
    backoff.next_delay_s()
    assert not backoff.exhausted
    backoff.succeeded()
    backoff.next_delay_s()
    assert not backoff.exhausted
    backoff.next_delay_s()
    assert backoff.exhausted
