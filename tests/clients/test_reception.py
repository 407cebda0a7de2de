"""What the headless receiver says it saw and heard."""

from __future__ import annotations

import numpy as np
import pytest

from clients.reception import SILENCE_DBFS, Reception


def test_frames_and_freezes_are_counted() -> None:
    seen = Reception()
    for index in range(26):
        seen.video(1.0 + index * 0.04, 640, 360)
    seen.video(4.0, 1280, 720)
    assert (seen.frames, seen.width, seen.height) == (27, 1280, 720)
    assert seen.freezes == 1 and seen.frozen_s == pytest.approx(2.0)
    assert seen.first_frame_s == 1.0
    assert seen.fps == pytest.approx(25.0)


def test_a_full_scale_sine_is_minus_three_decibels() -> None:
    heard = Reception()
    sine = np.sin(np.arange(48000) * 0.1) * 32767
    heard.audio(0.0, np.repeat(sine, 2).astype(np.int16), 48000, 2)
    assert heard.audio_s == pytest.approx(1.0)
    assert heard.rms_dbfs == pytest.approx(-3.0, abs=0.1)


def test_silence_is_no_energy_and_nothing_at_all_is_nothing() -> None:
    heard = Reception()
    assert not heard.got_anything and heard.rms_dbfs == SILENCE_DBFS
    heard.audio(0.0, np.zeros(960, np.int16), 48000, 1)
    assert heard.got_anything and heard.rms == 0.0
    heard.audio(0.0, np.zeros(0, np.int16), 48000, 1)
    assert heard.audio_s == pytest.approx(0.02)
