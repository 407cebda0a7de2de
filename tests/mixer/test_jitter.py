"""The jitter buffer: order, loss, drift, bursts and restarts, with a made-up clock."""

from __future__ import annotations

import random

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixer.jitter import FRAME_S, FRAME_SAMPLES, MAX_RATE, RATE_HZ, AudioPlayout, Unwrapper

Samples = npt.NDArray[np.float32]


def decode(payload: bytes) -> Samples:
    """Payloads are a sample index: the decoder says a 440 Hz tone from there on."""
    start = int.from_bytes(payload, "big")
    at = np.arange(start, start + FRAME_SAMPLES)
    return (0.5 * np.sin(2 * np.pi * 440 * at / RATE_HZ)).astype(np.float32)


def packet(number: int) -> tuple[int, bytes]:
    start = number * FRAME_SAMPLES
    return (start + 0xFFFF_F000) & 0xFFFFFFFF, start.to_bytes(8, "big")


def play(
    arrivals: list[tuple[float, int]], seconds: float, playout: AudioPlayout | None = None
) -> tuple[AudioPlayout, Samples]:
    """Run packets that arrive at given times through a playout ticked every 20 ms."""
    playout = playout or AudioPlayout(decode)
    arrivals = sorted(arrivals)
    out: list[Samples] = []
    position = 0
    for tick in range(int(seconds / FRAME_S)):
        now = tick * FRAME_S
        while position < len(arrivals) and arrivals[position][0] <= now:
            playout.put(*packet(arrivals[position][1]), arrivals[position][0])
            position += 1
        frame = playout.take(now)
        out.append(np.zeros(FRAME_SAMPLES, np.float32) if frame is None else frame)
    return playout, np.concatenate(out)


def regular(seconds: float, jitter_s: float = 0.0, drift: float = 0.0) -> list[tuple[float, int]]:
    rng = random.Random(7)
    count = int(seconds / FRAME_S)
    return [(n * FRAME_S / (1 + drift) + rng.uniform(0, jitter_s), n) for n in range(count)]


def test_a_regular_stream_comes_out_unchanged_and_soon() -> None:
    playout, sound = play(regular(4.0), 4.0)
    assert playout.concealed == 0
    assert playout.late == 0
    assert playout.delay_s < 0.060
    # In the steady state it is the tone itself, sample for sample.
    tail = sound[-RATE_HZ:]
    assert abs(float(np.sqrt((tail**2).mean())) - 0.5 / np.sqrt(2)) < 1e-3
    assert np.abs(np.diff(tail)).max() < 0.5 * 2 * np.pi * 440 / RATE_HZ * 1.02


@pytest.mark.parametrize("jitter_s", [0.02, 0.04, 0.06])
def test_jitter_is_absorbed(jitter_s: float) -> None:
    playout, _sound = play(regular(10.0, jitter_s), 10.0)
    concealed = playout.concealed
    # After it has learned, next to nothing is lost, and the delay is about what jitter needs.
    assert concealed < 25
    assert playout.delay_s < jitter_s + 0.070


@pytest.mark.parametrize("drift", [-2e-3, -2e-4, 2e-4, 2e-3])
def test_drift_between_clocks_is_corrected(drift: float) -> None:
    playout, sound = play(regular(60.0, 0.005, drift), 60.0)
    assert playout.concealed < 10
    assert 0.02 < playout.delay_s < 0.100
    assert abs(playout.rate) <= MAX_RATE
    # No clicks: the steepest step is the tone's own.
    tail = sound[-5 * RATE_HZ :]
    assert np.abs(np.diff(tail)).max() < 0.5 * 2 * np.pi * 440 / RATE_HZ * 1.6


def test_a_lost_packet_is_concealed_without_a_hole() -> None:
    arrivals = [(at, n) for at, n in regular(3.0) if n != 100]
    playout, sound = play(arrivals, 3.0)
    assert playout.concealed == 1
    around = sound[int(1.9 * RATE_HZ) : int(2.2 * RATE_HZ)].reshape(-1, 480)
    assert np.sqrt((around**2).mean(axis=1)).min() > 0.1


def test_a_stream_that_ends_fades_to_silence_and_costs_nothing() -> None:
    playout, sound = play(regular(2.0), 4.0)
    assert playout.take(4.0) is None
    assert not np.any(sound[-RATE_HZ:])
    assert playout.concealed <= 5


def test_reordered_packets_are_played_in_order() -> None:
    arrivals = regular(3.0)
    for index in range(20, 120, 10):
        (first_at, first), (second_at, second) = arrivals[index], arrivals[index + 1]
        arrivals[index], arrivals[index + 1] = (first_at, second), (second_at, first)
    playout, _sound = play(arrivals, 3.0)
    assert playout.concealed <= 3


def test_a_pause_of_the_sender_is_silence_not_an_error() -> None:
    """Discontinuous transmission: the timestamps go on while nothing is sent."""
    arrivals = [(at, n) for at, n in regular(6.0) if not 100 <= n < 200]
    playout, sound = play(arrivals, 6.0)
    assert not np.any(sound[int(2.5 * RATE_HZ) : int(3.9 * RATE_HZ)])
    assert float(np.abs(sound[int(4.5 * RATE_HZ) :]).max()) > 0.4
    assert playout.delay_s < 0.080


def test_after_a_burst_the_delay_comes_down_again() -> None:
    arrivals = [((2.5 if 100 <= n < 125 else at), n) for at, n in regular(12.0)]
    playout, sound = play(arrivals, 12.0)
    assert playout.delay_s < 0.080
    assert float(np.abs(sound[-RATE_HZ:]).max()) > 0.4


def test_a_sender_that_starts_over_is_followed() -> None:
    playout, _sound = play(regular(2.0), 2.0)
    other = 3_000_000_000
    for n in range(50):
        now = 2.0 + n * FRAME_S
        playout.put((other + n * FRAME_SAMPLES) & 0xFFFFFFFF, n.to_bytes(8, "big"), now)
        frame = playout.take(now)
    assert frame is not None
    assert playout.delay_s < 0.080


def test_an_8_khz_clock_is_understood() -> None:
    playout = AudioPlayout(decode, clock_rate=8_000)
    for n in range(50):
        playout.put(n * 160, (n * FRAME_SAMPLES).to_bytes(8, "big"), n * FRAME_S)
        frame = playout.take(n * FRAME_S)
    assert frame is not None and len(frame) == FRAME_SAMPLES
    assert playout.concealed <= 2


def test_an_undecodable_packet_is_concealed() -> None:
    playout = AudioPlayout(lambda payload: np.zeros(0, np.float32))
    for n in range(20):
        playout.put(n * FRAME_SAMPLES, b"x", n * FRAME_S)
        playout.take(n * FRAME_S)
    assert playout.packets == 20


@given(
    st.lists(st.tuples(st.integers(0, 0xFFFFFFFF), st.floats(0.0, 0.2), st.booleans()), max_size=60)
)
@settings(max_examples=150)
def test_hostile_timestamps_neither_raise_nor_pile_up(
    packets: list[tuple[int, float, bool]],
) -> None:
    playout = AudioPlayout(decode)
    now = 0.0
    for timestamp, wait_s, tick in packets:
        now += wait_s
        playout.put(timestamp, b"\0" * 8, now)
        if tick:
            frame = playout.take(now)
            assert frame is None or len(frame) == FRAME_SAMPLES
    for _ in range(10):
        now += FRAME_S
        frame = playout.take(now)
        assert frame is None or len(frame) == FRAME_SAMPLES


@given(st.lists(st.integers(-20_000, 100_000), max_size=50), st.integers(0, 0xFFFFFFFF))
def test_unwrapped_timestamps_keep_their_distances(steps: list[int], start: int) -> None:
    unwrap = Unwrapper()
    first = unwrap(start)
    total = 0
    for step in steps:
        total += step
        assert unwrap((start + total) & 0xFFFFFFFF) - first == total
