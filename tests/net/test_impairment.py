"""The line model on a made-up clock: what it does is what was configured."""

from __future__ import annotations

import itertools
from statistics import mean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.net.impairment import BurstLoss, Conditions, Line

SIZE = 1000
EVERY_S = 0.002  # 4 Mbit/s of them


def cross(
    line: Line[int], count: int, *, every_s: float = EVERY_S, size: int = SIZE, start: float = 0.0
) -> list[tuple[int, float]]:
    """Send numbered datagrams at an even pace; (number, when it arrived), looking at every due
    time."""
    arrived: list[tuple[int, float]] = []

    def look_until(now: float) -> None:
        while (due := line.next_at) is not None and due <= now:
            arrived.extend((number, due) for number in line.leave(due))

    for number in range(count):
        now = start + number * every_s
        look_until(now)
        line.enter(number, size, now)
        arrived.extend((number, now) for number in line.leave(now))
    look_until(float("inf"))
    assert line.next_at is None
    assert line.queued_bytes == 0
    return arrived


def sent_at(number: int) -> float:
    return number * EVERY_S


def test_a_perfect_line_passes_everything_at_once_and_in_order() -> None:
    arrived = cross(Line(), 1000)
    assert arrived == [(number, sent_at(number)) for number in range(1000)]


def test_delay_is_added_to_every_datagram() -> None:
    arrived = cross(Line(Conditions(delay_s=0.1)), 100)
    assert [when - sent_at(number) for number, when in arrived] == pytest.approx([0.1] * 100)


def test_jitter_spreads_evenly_and_overtakes_only_when_allowed() -> None:
    shaky = cross(Line(Conditions(delay_s=0.05, jitter_s=0.02, reorder=True), seed=3), 5000)
    delays = [when - sent_at(number) for number, when in shaky]
    assert 0.05 <= min(delays) < 0.051
    assert 0.069 < max(delays) <= 0.07 + 1e-9
    assert mean(delays) == pytest.approx(0.06, abs=0.0005)
    overtaken = sum(a > b for (a, _), (b, _) in itertools.pairwise(shaky))
    assert overtaken > 500

    orderly = cross(Line(Conditions(delay_s=0.05, jitter_s=0.02), seed=3), 5000)
    assert [number for number, _when in orderly] == list(range(5000))
    assert len({round(when - sent_at(number), 4) for number, when in orderly}) > 50


@pytest.mark.parametrize("loss", [0.02, 0.1, 0.2])
def test_random_loss_is_the_configured_share(loss: float) -> None:
    line: Line[int] = Line(Conditions(loss=loss), seed=1)
    arrived = cross(line, 20_000)
    assert 1 - len(arrived) / 20_000 == pytest.approx(loss, rel=0.1)
    assert line.counts.lost == 20_000 - len(arrived)


def test_burst_loss_has_the_configured_share_and_length_of_bursts() -> None:
    line: Line[int] = Line(Conditions(burst_loss=BurstLoss.averaging(0.1, mean_burst=5)), seed=1)
    survivors = {number for number, _when in cross(line, 50_000)}
    fates = [number in survivors for number in range(50_000)]
    bursts = [len(list(run)) for passed, run in itertools.groupby(fates) if not passed]
    assert 1 - len(survivors) / 50_000 == pytest.approx(0.1, rel=0.1)
    assert mean(bursts) == pytest.approx(5, rel=0.1)
    # Evenly spread loss of 10 % would have bursts of 1.1 and hardly ever one of ten.
    assert sum(length >= 10 for length in bursts) > 50


def test_a_rate_below_the_load_passes_that_rate_and_drops_the_rest() -> None:
    line: Line[int] = Line(Conditions(rate_bps=1_000_000, queue_bytes=10_000))
    arrived = cross(line, 5000)  # 4 Mbit/s for 10 s
    assert len(arrived) * SIZE * 8 / 10 == pytest.approx(1_000_000, rel=0.02)
    assert line.counts.queue_full == 5000 - len(arrived)
    assert [number for number, _when in arrived] == sorted(number for number, _when in arrived)


def test_the_queue_delays_by_its_bytes_at_the_rate() -> None:
    line: Line[int] = Line(Conditions(rate_bps=1_000_000, queue_bytes=10_000))
    delays = [when - sent_at(number) for number, when in cross(line, 5000)]
    assert delays[0] == pytest.approx(0.008)
    assert max(delays) == pytest.approx(0.08, abs=0.001)
    assert mean(delays[200:]) == pytest.approx(0.077, abs=0.004)


def test_a_line_faster_than_the_load_neither_drops_nor_queues() -> None:
    arrived = cross(Line(Conditions(rate_bps=8_000_000)), 1000)
    assert len(arrived) == 1000
    assert max(when - sent_at(number) for number, when in arrived) == pytest.approx(0.001)


def test_an_idle_line_takes_a_datagram_larger_than_its_queue() -> None:
    line: Line[int] = Line(Conditions(rate_bps=8_000, queue_bytes=100))
    assert [number for number, _when in cross(line, 3, every_s=2.0)] == [0, 1, 2]


def test_a_slower_rate_holds_for_what_is_already_queued() -> None:
    line: Line[int] = Line(Conditions(rate_bps=8_000_000, queue_bytes=100_000))
    for number in range(11):
        line.enter(number, SIZE, 0.0)
    assert line.leave(0.0005) == []  # half of the first is sent
    line.change(Conditions(rate_bps=80_000, queue_bytes=100_000), 0.0005)
    assert line.leave(0.05) == []
    assert line.leave(0.0506) == [0]
    assert line.leave(1.0506) == list(range(1, 11))


def test_lifting_the_limit_empties_the_queue() -> None:
    line: Line[int] = Line(Conditions(rate_bps=8_000, delay_s=0.1))
    for number in range(3):
        line.enter(number, SIZE, 0.0)
    line.change(Conditions(delay_s=0.1), 0.5)
    assert line.leave(0.55) == []
    assert line.leave(0.6) == [0, 1, 2]


def test_nothing_passes_in_an_outage_and_everything_around_it() -> None:
    line: Line[int] = Line(Conditions(outages=((0.5, 0.7), (1.0, 1.1))))
    numbers = {number for number, _when in cross(line, 1000)}
    gone = {n for n in range(1000) if 0.5 <= sent_at(n) < 0.7 or 1.0 <= sent_at(n) < 1.1}
    assert numbers == set(range(1000)) - gone
    assert line.counts.lost_in_outages == len(gone) == 150


def test_duplicates_come_as_often_as_configured() -> None:
    line: Line[int] = Line(Conditions(duplicate=0.05), seed=2)
    arrived = [number for number, _when in cross(line, 20_000)]
    assert len(arrived) - 20_000 == line.counts.duplicated == pytest.approx(1000, rel=0.1)
    assert set(arrived) == set(range(20_000))


def test_the_same_seed_gives_the_same_fates_whatever_the_pace() -> None:
    bad = Conditions(loss=0.05, burst_loss=BurstLoss(3, 40, 0.8), duplicate=0.02)
    first, paced, other = (
        [number for number, _when in cross(Line(bad, seed=seed), 3000, every_s=every_s)]
        for seed, every_s in ((7, 0.001), (7, 0.02), (8, 0.001))
    )
    assert first == paced
    assert first != other


@settings(max_examples=150, deadline=None)
@given(
    conditions=st.builds(
        Conditions,
        delay_s=st.floats(0, 1),
        jitter_s=st.floats(0, 0.5),
        reorder=st.booleans(),
        loss=st.floats(0, 1),
        burst_loss=st.none() | st.builds(BurstLoss, st.floats(1, 20), st.floats(1, 200)),
        duplicate=st.floats(0, 1),
        rate_bps=st.none() | st.floats(1_000, 1e7),
        queue_bytes=st.integers(1, 50_000),
        outages=st.just(()) | st.just(((0.05, 0.1),)),
    ),
    seed=st.integers(0, 1000),
)
def test_every_datagram_is_accounted_for_and_none_comes_early(
    conditions: Conditions, seed: int
) -> None:
    line: Line[int] = Line(conditions, seed)
    arrived = cross(line, 100)
    counts = line.counts
    lost = counts.lost + counts.lost_in_bursts + counts.lost_in_outages + counts.queue_full
    assert counts.entered == 100 == len(arrived) - counts.duplicated + lost
    assert all(when >= sent_at(number) + conditions.delay_s - 1e-9 for number, when in arrived)
    if not conditions.reorder:
        assert [number for number, _when in arrived] == sorted(n for n, _when in arrived)


@pytest.mark.parametrize(
    ("made", "named"),
    [
        (lambda: Conditions(delay_s=-1), "delay_s"),
        (lambda: Conditions(jitter_s=-1), "jitter_s"),
        (lambda: Conditions(loss=1.5), "loss"),
        (lambda: Conditions(duplicate=-0.1), "duplicate"),
        (lambda: Conditions(rate_bps=0), "rate_bps"),
        (lambda: Conditions(queue_bytes=0), "queue_bytes"),
        (lambda: Conditions(outages=((2, 1),)), "outages"),
        (lambda: BurstLoss(0.5, 10), "mean_burst"),
        (lambda: BurstLoss(2, 10, loss_in_gap=2), "loss_in_gap"),
        (lambda: BurstLoss.averaging(0.9, 3), "loss"),
    ],
)
def test_impossible_conditions_are_refused_by_name(made: object, named: str) -> None:
    with pytest.raises(ValueError, match=f"^{named}:"):
        made()  # type: ignore[operator]
