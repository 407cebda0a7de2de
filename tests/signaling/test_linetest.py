"""The line test's gate and verdicts, with a made-up clock."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from signaling.config import load
from signaling.linetest import (
    MOST_AT_ONCE,
    SEAT_BYTES_PER_WINDOW,
    WINDOW_S,
    LineResult,
    TestGate,
    judge,
    needs,
)
from signaling.planner import Node, plan_mode

PLAN = plan_mode(
    load(None), "dispatch", Node(workers=1, cores=1, packet_us=5.0, packet_us_source="default")
)


@pytest.mark.parametrize(
    ("down", "verdict"),
    [(0, "too-slow"), (744, "too-slow"), (745, "smaller"), (3654, "smaller"), (3655, "full")],
)
def test_a_line_is_judged_by_what_it_receives(down: float, verdict: str) -> None:
    assert needs(PLAN).full_kbps == 3655
    assert judge(LineResult(down_kbps=down, up_kbps=0), PLAN) == verdict


@pytest.mark.parametrize(
    "body",
    [
        b'{"down_kbps": -1, "up_kbps": 0}',
        b'{"down_kbps": 1}',
        b'{"down_kbps": 1, "up_kbps": 1, "loss": 1.1}',
        b'{"down_kbps": 1, "up_kbps": 1, "decode": "quick"}',
        b'{"down_kbps": 1, "up_kbps": 1, "more": 1}',
        b'{"down_kbps": 1e12, "up_kbps": 1}',
    ],
)
def test_what_no_page_of_ours_sends_is_refused(body: bytes) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(body, type=LineResult)


def test_only_some_transfers_run_at_once() -> None:
    gate = TestGate()
    for number in range(MOST_AT_ONCE):
        assert gate.begin(f"s{number}", 1000, 0.0) == 0
    assert gate.begin("one-more", 1000, 0.0) > 0
    gate.end()
    assert gate.begin("one-more", 1000, 0.0) == 0


def test_a_seat_gets_its_bytes_back_after_a_minute() -> None:
    gate = TestGate()
    assert gate.begin("s", SEAT_BYTES_PER_WINDOW, 0.0) == 0
    gate.end()
    assert gate.begin("s", 1, 10.0) == WINDOW_S - 10
    assert gate.begin("other", 1, 10.0) == 0
    gate.end()
    assert gate.begin("s", 1, WINDOW_S) == 0


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.integers(1, 8 << 20), st.floats(0, 20), st.booleans()),
        max_size=60,
    )
)
def test_the_gate_never_grants_more_than_it_should(
    steps: list[tuple[str, int, float, bool]],
) -> None:
    gate = TestGate(2)
    now, running = 0.0, 0
    granted: list[tuple[str, float, int]] = []
    for seat, size, wait, end in steps:
        now += wait
        if end and running:
            gate.end()
            running -= 1
        if gate.begin(seat, size, now) == 0:
            running += 1
            granted.append((seat, now, size))
        assert gate.running == running <= 2
        # Windows do not slide, so two of them may meet: never more than twice the budget.
        recent = sum(n for who, at, n in granted if who == seat and now - at < WINDOW_S)
        assert recent <= 2 * SEAT_BYTES_PER_WINDOW
