"""The sound desk: 20 ms of every source in, every distinct mix out, computed once each.

Per source: a gated, K-weighted measure of loudness after EBU R128 (BS.1770's filter applied to
the spectrum), a gain that moves slowly towards a common loudness, a gate that opens microphones
on the floor by level, a howl guard, and ducking under the teacher. Per mix: a sum of its sources
(a mix-minus simply lacks one) and a limiter. No I/O and no clock: a call is 20 ms.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from .howl import HowlGuard
from .jitter import FRAME_SAMPLES

Samples = npt.NDArray[np.float32]
SourceKind = Literal["teacher", "programme", "floor"]

SILENCE_DB = -90.0
TARGET_LUFS = -20.0
MAX_GAIN_DB = 15.0
MIN_GAIN_DB = -15.0
# Up slowly, so that pauses do not swell; down faster, because too loud hurts.
RAISE_DB_PER_FRAME = 0.10  # 5 dB a second
LOWER_DB_PER_FRAME = 0.40
LOUDNESS_GATE_LUFS = -55.0
RELATIVE_GATE_DB = 12.0
LOUDNESS_FRAMES = 150  # three seconds: R128's short term
SETTLING_FRAMES = 5

GATE_LEAST_LUFS = -50.0
GATE_ABOVE_NOISE_DB = 9.0
GATE_HYSTERESIS_DB = 4.0
GATE_HOLD_FRAMES = 25
GATE_CLOSING = 0.75  # per frame: 60 dB in half a second
NOISE_START_LUFS = -65.0
NOISE_MOST_LUFS = -45.0  # steady sound louder than this is meant to be heard
NOISE_RISE_DB_PER_FRAME = 0.02
NOISE_FALL = 0.2

DUCK_DB = -6.0
DUCK_ATTACK_DB_PER_FRAME = 2.0
DUCK_RELEASE_DB_PER_FRAME = 0.25
CROWD_FROM = 4  # more open microphones than this are lowered together

CEILING = 0.89  # -1 dBFS
BLOCKS = 4  # of 5 ms
RELEASE_PER_BLOCK = 1.012  # 21 dB a second: slow enough not to pump


def _k_weighting(bins: int) -> Samples:
    """Squared magnitude of BS.1770's two filters (its 48 kHz coefficients) at FFT bins."""
    z = np.exp(-2j * np.pi * np.arange(bins) / FRAME_SAMPLES)
    shelf = (1.53512485958697 - 2.69169618940638 * z + 1.19839281085285 * z**2) / (
        1 - 1.69065929318241 * z + 0.73248077421585 * z**2
    )
    high_pass = (1 - 2 * z + z**2) / (1 - 1.99004745483398 * z + 0.99007225036621 * z**2)
    weights: Samples = (np.abs(shelf * high_pass) ** 2).astype(np.float32)
    return weights


_WINDOW = np.hanning(FRAME_SAMPLES).astype(np.float32)
# Scaled so that the sum over the bins is the mean square of the samples.
_POWER_SCALE = np.float32(2.0 / (FRAME_SAMPLES * float((_WINDOW**2).sum())))
_WEIGHTS = _k_weighting(FRAME_SAMPLES // 2 + 1)
_RAMP = np.linspace(0.0, 1.0, FRAME_SAMPLES, endpoint=False, dtype=np.float32)
_BLOCK_RAMP = np.linspace(0.0, 1.0, FRAME_SAMPLES // BLOCKS, endpoint=False, dtype=np.float32)


def decibels(power: float) -> float:
    return max(SILENCE_DB, 10.0 * math.log10(power)) if power > 0.0 else SILENCE_DB


@dataclass(slots=True)
class Strip:
    """What the desk knows of one source."""

    kind: SourceKind
    level_dbfs: float = SILENCE_DB
    loudness: float = SILENCE_DB  # of this frame, K-weighted
    gain_db: float = 0.0
    duck_db: float = 0.0
    voice: bool = False  # louder than the room's noise
    gate: float = 0.0
    applied: float = 0.0  # the linear gain that the last frame ended with
    howl: HowlGuard = field(default_factory=HowlGuard)
    _average: float = 0.0  # mean square of the frames that count
    _counted: int = 0
    _noise: float = NOISE_START_LUFS
    _hold: int = 0

    def measure(self, mean_square: float, weighted: float) -> None:
        """Take the power of the next frame in."""
        self.level_dbfs = decibels(mean_square)
        self.loudness = decibels(weighted) - 0.691
        if self.loudness < self._noise:
            self._noise += (self.loudness - self._noise) * NOISE_FALL
        else:
            self._noise = min(NOISE_MOST_LUFS, self._noise + NOISE_RISE_DB_PER_FRAME)
        threshold = max(GATE_LEAST_LUFS, self._noise + GATE_ABOVE_NOISE_DB)
        if self._hold:
            threshold -= GATE_HYSTERESIS_DB
        self.voice = self.loudness > threshold
        if self.voice:
            self._hold = GATE_HOLD_FRAMES
        elif self._hold:
            self._hold -= 1
        self.gate = 1.0 if self._hold or self.kind != "floor" else self._closing()
        self._average_loudness(weighted)
        self._follow()

    def _closing(self) -> float:
        gate = self.gate * GATE_CLOSING
        return gate if gate > 0.001 else 0.0

    def _average_loudness(self, weighted: float) -> None:
        gate = max(LOUDNESS_GATE_LUFS, self.average_loudness - RELATIVE_GATE_DB)
        if not self.voice or self.loudness < gate:
            return
        self._counted = min(self._counted + 1, LOUDNESS_FRAMES)
        self._average += (weighted - self._average) / self._counted

    @property
    def average_loudness(self) -> float:
        """Gated loudness of the last seconds of voice, LUFS."""
        return decibels(self._average) - 0.691 if self._counted else SILENCE_DB

    def _follow(self) -> None:
        """The gain's next step towards the common loudness; in pauses it stays."""
        if not self.voice or self._counted < SETTLING_FRAMES:
            return
        wanted = min(MAX_GAIN_DB, max(MIN_GAIN_DB, TARGET_LUFS - self.average_loudness))
        step = wanted - self.gain_db
        self.gain_db += max(-LOWER_DB_PER_FRAME, min(RAISE_DB_PER_FRAME, step))

    def duck(self, under_teacher: bool) -> None:
        if under_teacher and self.kind != "teacher":
            self.duck_db = max(DUCK_DB, self.duck_db - DUCK_ATTACK_DB_PER_FRAME)
        else:
            self.duck_db = min(0.0, self.duck_db + DUCK_RELEASE_DB_PER_FRAME)


class Limiter:
    """Keeps a mix below the ceiling: looks 5 ms ahead inside the frame, lets go slowly."""

    __slots__ = ("gain",)

    def __init__(self) -> None:
        self.gain = 1.0

    def limit(self, frame: Samples) -> Samples:
        peaks = np.abs(frame).reshape(BLOCKS, -1).max(axis=1)
        if self.gain >= 1.0 and float(peaks.max()) <= CEILING:
            return frame
        needed = [min(1.0, CEILING / peak) if peak > 0.0 else 1.0 for peak in map(float, peaks)]
        blocks = frame.reshape(BLOCKS, -1).copy()
        gain = self.gain
        for index in range(BLOCKS):
            following = needed[min(index + 1, BLOCKS - 1)]
            target = min(needed[index], following, gain * RELEASE_PER_BLOCK)
            blocks[index] *= gain + (target - gain) * _BLOCK_RAMP
            gain = target
        self.gain = gain
        # Only the start of a frame can still be over: its peak was not known one frame earlier.
        limited: Samples = np.clip(blocks.reshape(-1), -1.0, 1.0)
        return limited


class Desk:
    """All sources and mixes of one lesson."""

    def __init__(self) -> None:
        self.strips: dict[str, Strip] = {}
        self._limiters: dict[str, Limiter] = {}
        self._crowd = 1.0

    def add(self, source: str, kind: SourceKind) -> None:
        self.strips[source] = Strip(kind)

    def remove(self, source: str) -> None:
        self.strips.pop(source, None)

    def forget_mix(self, mix: str) -> None:
        self._limiters.pop(mix, None)

    def mix(
        self,
        frames: Mapping[str, Samples | None],
        mixes: Mapping[str, Collection[str]],
    ) -> tuple[dict[str, Samples], list[str]]:
        """The next 20 ms of every mix, and the sources that began to howl.

        `frames` has what each audible source says (None: nothing came); `mixes` names the sources
        of each mix. A source that is not in `frames` counts as silent.
        """
        coming = {name: frame for name, frame in frames.items() if frame is not None}
        heard = list(coming)
        self._fall_silent(frames)
        if not heard:
            zeros = np.zeros(FRAME_SAMPLES, np.float32)
            return dict.fromkeys(mixes, zeros), []
        sound = np.stack(list(coming.values()))
        howling = self._measure(heard, sound)
        before = np.array([self.strips[name].applied for name in heard], np.float32)
        after = np.array([self._gain(self.strips[name]) for name in heard], np.float32)
        for name, gain in zip(heard, after, strict=True):
            self.strips[name].applied = float(gain)
        if not np.array_equal(before, after):
            sound *= before[:, None] + (after - before)[:, None] * _RAMP
        else:
            sound *= after[:, None]
        routes = np.array(
            [[name in sources for name in heard] for sources in mixes.values()], np.float32
        ).reshape(len(mixes), len(heard))
        sums = routes @ sound
        return {
            mix: self._limiters.setdefault(mix, Limiter()).limit(frame)
            for mix, frame in zip(mixes, sums, strict=True)
        }, howling

    def _fall_silent(self, frames: Mapping[str, Samples | None]) -> None:
        for name, strip in self.strips.items():
            if name not in frames or frames[name] is None:
                strip.measure(0.0, 0.0)
                strip.applied = 0.0

    def _measure(self, heard: list[str], sound: Samples) -> list[str]:
        spectra = np.fft.rfft(sound * _WINDOW)
        power = (spectra.real**2 + spectra.imag**2) * _POWER_SCALE
        mean_squares = power.sum(axis=1).tolist()
        weighted = (power @ _WEIGHTS).tolist()
        howling: list[str] = []
        teacher_speaks = False
        open_microphones = 0
        for index, name in enumerate(heard):
            strip = self.strips[name]
            strip.measure(mean_squares[index], weighted[index])
            if strip.howl.hear(power[index], strip.level_dbfs):
                howling.append(name)
            if strip.kind == "teacher":
                teacher_speaks = teacher_speaks or strip.voice
            elif strip.kind == "floor":
                open_microphones += strip.gate > 0.0
        for strip in self.strips.values():
            strip.duck(teacher_speaks)
        crowd = math.sqrt(CROWD_FROM / max(CROWD_FROM, open_microphones))
        self._crowd += (crowd - self._crowd) * 0.1
        return howling

    def _gain(self, strip: Strip) -> float:
        if strip.gate == 0.0:
            return 0.0
        total_db = strip.gain_db + strip.duck_db + strip.howl.gain_db
        gain: float = math.pow(10.0, total_db / 20.0) * strip.gate
        return gain * self._crowd if strip.kind == "floor" else gain
