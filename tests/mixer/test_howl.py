"""Howl-rounds are found within 300 ms; notes, whistles and speech are not taken for them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixer import voice
from mixer.audio import Desk
from mixer.howl import PULL_DB, HowlGuard

RATE_HZ = 48_000
FRAME = 960
Samples = npt.NDArray[np.float32]


def found_at(sound: Samples) -> list[int]:
    """The frames at which the desk reports a howl."""
    desk = Desk()
    desk.add("mic", "floor")
    found = []
    for index in range(len(sound) // FRAME):
        frame = sound[index * FRAME : (index + 1) * FRAME].copy()
        _mixes, howling = desk.mix({"mic": frame}, {"all": ["mic"]})
        if howling:
            found.append(index)
    return found


def at(seconds: float) -> Samples:
    return np.arange(int(seconds * RATE_HZ), dtype=np.float32) / RATE_HZ


def howl(frequency_hz: float, db_per_s: float, seconds: float = 2.0) -> Samples:
    t = at(seconds)
    level = np.minimum(0.9, 0.006 * 10 ** (db_per_s * t / 20))
    noise = np.random.default_rng(1).normal(0, 1e-4, len(t))
    return (level * np.sin(2 * np.pi * frequency_hz * t) + noise).astype(np.float32)


@pytest.mark.parametrize("frequency_hz", [315.0, 1000.0, 2890.0, 6400.0])
@pytest.mark.parametrize("db_per_s", [30.0, 60.0, 120.0])
def test_a_growing_tone_is_found_within_300_ms(frequency_hz: float, db_per_s: float) -> None:
    found = found_at(howl(frequency_hz, db_per_s))
    assert found and found[0] * 0.02 <= 0.3


def test_a_loop_through_the_lesson_grows_in_stairs_and_is_found() -> None:
    """Every 200 ms the sound comes round 3 dB louder."""
    t = at(2.0)
    level = np.minimum(0.9, 0.01 * 10 ** (3 * np.floor(t / 0.2) / 20))
    found = found_at((level * np.sin(2 * np.pi * 1200 * t)).astype(np.float32))
    assert found
    # The second rise of a plateau is what tells a loop from a beginning: found within 300 ms of it.
    assert found[0] * 0.02 <= 0.4 + 0.3


def test_a_found_howl_is_pulled_down_in_the_mix() -> None:
    desk = Desk()
    desk.add("mic", "floor")
    sound = howl(1000.0, 60.0, 1.0)
    levels = []
    for index in range(len(sound) // FRAME):
        frame = sound[index * FRAME : (index + 1) * FRAME].copy()
        mixes, _howling = desk.mix({"mic": frame}, {"all": ["mic"]})
        levels.append(float(np.abs(mixes["all"]).max()) / max(1e-6, float(np.abs(frame).max())))
    assert levels[-1] < 10 ** (PULL_DB / 20) * 10 ** (15 / 20) * 1.1
    assert desk.strips["mic"].howl.frequency_hz == 1000.0


def steady_tone() -> Samples:
    return (0.2 * np.sin(2 * np.pi * 880 * at(4.0))).astype(np.float32)


def faded_in_tone() -> Samples:
    t = at(4.0)
    return (0.2 * np.minimum(1, t / 0.05) * np.sin(2 * np.pi * 880 * t)).astype(np.float32)


def tone_with_breaks() -> Samples:
    t = at(4.0)
    return (0.2 * (np.floor(t / 0.3) % 2) * np.sin(2 * np.pi * 660 * t)).astype(np.float32)


def vibrato() -> Samples:
    t = at(4.0)
    level = 0.2 + 0.05 * np.sin(2 * np.pi * 5 * t)
    return (level * np.sin(2 * np.pi * 990 * t + 3 * np.sin(2 * np.pi * 5 * t))).astype(np.float32)


def growing_noise() -> Samples:
    t = at(2.0)
    noise = np.random.default_rng(2).normal(0, 0.01, len(t))
    return (noise * 10 ** (60 * t / 20 / 4)).astype(np.float32)


def speech() -> Samples:
    return voice.Voice().samples(0.0, 12 * RATE_HZ).astype(np.float32) / 32768


@pytest.mark.parametrize(
    "sound", [steady_tone, faded_in_tone, tone_with_breaks, vibrato, growing_noise, speech]
)
def test_what_is_no_howl_is_left_alone(sound: object) -> None:
    assert callable(sound)
    assert found_at(sound()) == []


def test_the_gain_comes_back_after_a_while() -> None:
    guard = HowlGuard(gain_db=PULL_DB)
    silence = np.zeros(481, np.float32)
    for _ in range(1000):
        guard.hear(silence, -90.0)
    assert guard.gain_db == 0.0


@given(
    st.lists(
        st.tuples(st.integers(0, 480), st.floats(0, 1, width=32), st.floats(-90, 0)), max_size=100
    )
)
@settings(max_examples=100)
def test_the_gain_stays_within_its_bounds(frames: list[tuple[int, float, float]]) -> None:
    guard = HowlGuard()
    for bin_, power, level in frames:
        spectrum = np.full(481, 1e-9, np.float32)
        spectrum[bin_] = power
        guard.hear(spectrum, level)
        assert -48.0 <= guard.gain_db <= 0.0
