"""The generated voice: repeatable, as loud as speech, with pauses and changing pitch."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixer.voice import LOOP_S, LOOP_SAMPLES, RATE_HZ, RMS_DBFS, Voice


def test_its_loudness_is_that_of_speech() -> None:
    samples = Voice().samples(0.0, LOOP_SAMPLES).astype(np.float64) / 32768
    rms_dbfs = 20 * np.log10(np.sqrt(np.mean(samples**2)))
    assert rms_dbfs == pytest.approx(RMS_DBFS, abs=0.5)
    assert np.abs(samples).max() < 0.95


def test_it_pauses_between_phrases() -> None:
    voice = Voice()
    levels = np.array([voice.loudness(t) for t in np.arange(0, LOOP_S, 0.05)])
    assert 0.1 < np.mean(levels < 0.05) < 0.5
    assert np.mean(levels > 0.3) > 0.3


def test_most_of_its_energy_is_where_speech_has_it() -> None:
    samples = Voice().samples(0.0, LOOP_SAMPLES).astype(np.float64)
    power = np.abs(np.fft.rfft(samples)) ** 2
    frequency = np.fft.rfftfreq(LOOP_SAMPLES, 1 / RATE_HZ)
    in_band = power[(frequency > 150) & (frequency < 4000)].sum()
    assert in_band / power.sum() > 0.95


@given(
    start=st.integers(0, 3 * LOOP_SAMPLES), count=st.integers(0, 5000), split=st.integers(0, 5000)
)
@settings(max_examples=100, deadline=None)
def test_blocks_join_without_a_seam(start: int, count: int, split: int) -> None:
    split = min(split, count)
    voice = Voice()
    whole = voice.samples(start / RATE_HZ, count)
    first = voice.samples(start / RATE_HZ, split)
    second = voice.samples((start + split) / RATE_HZ, count - split)
    assert whole.dtype == np.int16 and len(whole) == count
    assert np.array_equal(whole, np.concatenate([first, second]))
