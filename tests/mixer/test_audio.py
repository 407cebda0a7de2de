"""The desk: mix-minus, loudness, gate, ducking and limiter, by what is in the sound."""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixer.audio import (
    CEILING,
    DUCK_DB,
    TARGET_LUFS,
    Desk,
    Limiter,
    SourceKind,
    Strip,
)

RATE_HZ = 48_000
FRAME = 960
Samples = npt.NDArray[np.float32]


def tone(frequency_hz: float, amplitude: float, seconds: float) -> Samples:
    t = np.arange(int(seconds * RATE_HZ)) / RATE_HZ
    return (amplitude * np.sin(2 * np.pi * frequency_hz * t)).astype(np.float32)


def run(
    sounds: dict[str, Samples], mixes: dict[str, list[str]], kinds: dict[str, SourceKind]
) -> tuple[Desk, dict[str, Samples]]:
    """All of the sound through one desk."""
    desk = Desk()
    for name in sounds:
        desk.add(name, kinds.get(name, "floor"))
    out: dict[str, list[Samples]] = {mix: [] for mix in mixes}
    for index in range(min(map(len, sounds.values())) // FRAME):
        part = slice(index * FRAME, (index + 1) * FRAME)
        mixed, _howling = desk.mix({n: s[part].copy() for n, s in sounds.items()}, mixes)
        for mix, frame in mixed.items():
            out[mix].append(frame)
    return desk, {mix: np.concatenate(frames) for mix, frames in out.items()}


def amplitude(sound: Samples, frequency_hz: float) -> float:
    window = np.hanning(len(sound))
    spectrum = np.abs(np.fft.rfft(sound * window)) * 2 / window.sum()
    centre = round(frequency_hz * len(sound) / RATE_HZ)
    return float(spectrum[centre - 3 : centre + 4].max())


TONES = {"teacher": 400.0, "a": 700.0, "b": 1100.0, "c": 1700.0}


def test_every_mix_has_the_others_tones_and_not_its_own() -> None:
    sounds = {name: tone(f, 0.1, 3.0) for name, f in TONES.items()}
    mixes = {
        "shared": ["teacher", "a", "b", "c"],
        **{f"minus:{x}": [n for n in TONES if n != x] for x in ("a", "b", "c")},
        "returns": ["a", "b", "c"],
    }
    _desk, out = run(sounds, mixes, {"teacher": "teacher"})
    for mix, sources in mixes.items():
        tail = out[mix][-RATE_HZ:]
        for name, frequency in TONES.items():
            level_db = 20 * np.log10(max(1e-9, amplitude(tail, frequency)))
            if name in sources:
                assert level_db > -40, (mix, name)
            else:
                assert level_db < -75, (mix, name)


@given(
    sources=st.sets(st.sampled_from("abcdefg"), max_size=7),
    absent=st.sets(st.sampled_from("abcdefg"), max_size=3),
)
@settings(max_examples=60)
def test_a_mix_minus_is_the_sum_without_that_source(sources: set[str], absent: set[str]) -> None:
    desk = Desk()
    rng = np.random.default_rng(3)
    for name in "abcdefg":
        desk.add(name, "teacher")  # always open
    frames = {n: (rng.normal(0, 0.005, FRAME)).astype(np.float32) for n in sorted(sources)}
    mixes = {"all": sorted(sources), "minus": sorted(sources - absent)}
    mixes |= {f"only-{name}": [name] for name in sorted(sources)}
    out, _howling = desk.mix({n: f.copy() for n, f in frames.items()}, mixes)
    parts = [out[f"only-{name}"] for name in mixes["minus"]]
    expected = np.sum(parts, axis=0) if parts else np.zeros(FRAME, np.float32)
    assert np.allclose(out["minus"], expected, atol=1e-6)
    both = [out[f"only-{name}"] for name in sorted(sources & absent)]
    difference = np.sum(both, axis=0) if both else np.zeros(FRAME, np.float32)
    assert np.allclose(out["all"] - out["minus"], difference, atol=1e-6)


@pytest.mark.parametrize("amplitude_", [0.03, 0.1, 0.4])
def test_a_shy_child_and_a_loud_hall_come_out_alike(amplitude_: float) -> None:
    desk, out = run({"mic": tone(1000, amplitude_, 8.0)}, {"m": ["mic"]}, {})
    tail = out["m"][-RATE_HZ:]
    level_db = 10 * np.log10(float((tail**2).mean()))
    assert abs(level_db - TARGET_LUFS) < 1.5
    assert abs(desk.strips["mic"].average_loudness - 20 * np.log10(amplitude_ / np.sqrt(2))) < 1.0


def test_the_measure_agrees_with_r128() -> None:
    """EBU Tech 3341 case 1: a 1 kHz sine at -23 dBFS, in one channel of the two, is -26 LUFS."""
    strip = Strip("teacher")
    desk = Desk()
    desk.strips["x"] = strip
    sound = tone(1000, 10 ** (-23 / 20), 1.0)
    for index in range(len(sound) // FRAME):
        desk.mix({"x": sound[index * FRAME : (index + 1) * FRAME].copy()}, {"m": ["x"]})
    assert abs(strip.loudness - -26.0) < 0.3


def test_the_gain_moves_slowly() -> None:
    quiet_then_loud = np.concatenate((tone(800, 0.02, 3.0), tone(800, 0.5, 3.0)))
    desk = Desk()
    desk.add("mic", "floor")
    gains = []
    for index in range(len(quiet_then_loud) // FRAME):
        part = slice(index * FRAME, (index + 1) * FRAME)
        desk.mix({"mic": quiet_then_loud[part].copy()}, {"m": ["mic"]})
        gains.append(desk.strips["mic"].gain_db)
    steps = [b - a for a, b in itertools.pairwise(gains)]
    assert max(steps) <= 0.101 and min(steps) >= -0.401
    assert max(gains) > 5 and gains[-1] < max(gains) - 10


def test_a_microphone_opens_by_level_at_once_and_closes_after_a_while() -> None:
    noise = np.random.default_rng(4).normal(0, 0.0005, 4 * RATE_HZ).astype(np.float32)
    sound = noise.copy()
    sound[RATE_HZ : 2 * RATE_HZ] += tone(600, 0.1, 1.0)
    _desk, out = run({"mic": sound}, {"m": ["mic"]}, {})
    power = (out["m"].reshape(-1, FRAME) ** 2).mean(axis=1)
    assert power[:50].max() == 0.0  # a quiet room is not heard
    assert power[51] > 1e-4  # the second frame of speech is whole
    assert power[100 + 5] > 0.0  # held over a pause
    assert power[-25:].max() == 0.0


def test_the_teachers_microphone_is_never_gated() -> None:
    noise = np.random.default_rng(4).normal(0, 0.0005, RATE_HZ).astype(np.float32)
    _desk, out = run({"mic": noise}, {"m": ["mic"]}, {"mic": "teacher"})
    assert float(np.abs(out["m"][FRAME:]).max()) > 0.0


def test_a_steady_loud_sound_is_not_taken_for_noise() -> None:
    _desk, out = run({"mic": tone(500, 0.1, 60.0)}, {"m": ["mic"]}, {})
    assert amplitude(out["m"][-RATE_HZ:], 500) > 0.05


def test_the_floor_is_ducked_under_the_teacher() -> None:
    child, teacher = tone(700, 0.14, 8.0), tone(400, 0.14, 8.0)
    teacher[: 4 * RATE_HZ] = 0.0
    _desk, out = run({"t": teacher, "c": child}, {"m": ["t", "c"]}, {"t": "teacher"})
    before = amplitude(out["m"][3 * RATE_HZ : 4 * RATE_HZ], 700)
    under = amplitude(out["m"][-RATE_HZ:], 700)
    assert abs(20 * np.log10(under / before) - DUCK_DB) < 1.0


def test_many_loud_sources_stay_below_the_ceiling_without_pumping() -> None:
    sounds = {f"s{n}": tone(300 + 97 * n, 0.5, 3.0) for n in range(12)}
    _desk, out = run(sounds, {"m": list(sounds)}, {})
    tail = out["m"][RATE_HZ:]
    assert float(np.abs(tail).max()) <= 1.0
    assert float(np.mean(np.abs(tail) > CEILING + 0.02)) < 0.01


def test_the_limiter_leaves_quiet_sound_as_it_is() -> None:
    quiet = tone(440, 0.5, 0.02)
    assert Limiter().limit(quiet) is quiet


@given(st.lists(st.floats(0, 8, width=32), min_size=1, max_size=40))
@settings(max_examples=100)
def test_the_limiter_never_lets_anything_over(peaks: list[float]) -> None:
    limiter = Limiter()
    for peak in peaks:
        frame = limiter.limit(tone(997, peak, 0.02))
        assert float(np.abs(frame).max()) <= 1.0
        assert 0.0 < limiter.gain <= 1.0


def test_the_limiter_lets_go_slowly() -> None:
    limiter = Limiter()
    limiter.limit(tone(500, 2.0, 0.02))
    gains = []
    for _ in range(50):
        limiter.limit(tone(500, 0.2, 0.02))
        gains.append(limiter.gain)
    steps_db = [20 * np.log10(b / a) for a, b in itertools.pairwise(gains)]
    assert max(steps_db) < 0.5
    assert gains[-1] > gains[0]


def test_sources_that_fall_silent_and_mixes_without_sources_are_silence() -> None:
    desk = Desk()
    desk.add("a", "floor")
    out, _howling = desk.mix({"a": None}, {"m": ["a"], "n": []})
    assert not np.any(out["m"]) and not np.any(out["n"])
    out, _howling = desk.mix({}, {"m": ["gone"]})
    assert not np.any(out["m"])
