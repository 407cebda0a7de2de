"""Speaks nonsense that sounds like Mandarin: formant syllables with the four tones, and pauses.

Made for demonstrations and tests: no recording, no speech engine, the same samples every time.
The voice is a sum of harmonics of a gliding pitch, each weighted by the resonances (formants) of
the vowel, after a burst of shaped noise for the consonant; fifteen seconds are made once and
repeated without a seam.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

RATE_HZ = 48_000
LOOP_S = 15.0
LOOP_SAMPLES = int(RATE_HZ * LOOP_S)
RMS_DBFS = -20.0
HIGHEST_HARMONIC_HZ = 4800.0
PITCH_HZ = 205.0  # a woman's speaking voice
LOUDNESS_WINDOW_S = 0.04

# First four formants in hertz, of a female speaker, at the start and the end of the vowel.
VOWELS: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "a": ((850, 1350, 2800, 3900), (820, 1300, 2800, 3900)),
    "o": ((560, 900, 2700, 3700), (500, 850, 2700, 3700)),
    "e": ((560, 1250, 2750, 3800), (600, 1200, 2750, 3800)),
    "i": ((320, 2600, 3200, 4000), (320, 2700, 3300, 4000)),
    "u": ((370, 800, 2700, 3700), (360, 750, 2700, 3700)),
    "ai": ((850, 1400, 2800, 3900), (420, 2300, 3000, 3900)),
    "ei": ((560, 2000, 2900, 3900), (380, 2500, 3100, 4000)),
    "ao": ((850, 1350, 2800, 3800), (500, 900, 2700, 3700)),
    "ie": ((330, 2500, 3100, 4000), (600, 2000, 2900, 3900)),
    "uo": ((380, 800, 2700, 3700), (600, 1000, 2700, 3700)),
}
BANDWIDTHS_HZ = (90.0, 110.0, 170.0, 250.0)
FORMANT_GAINS = (1.0, 0.55, 0.28, 0.15)

# Pitch as a multiple of the speaker's own, at five points of the syllable: the four tones, and
# the light one.
TONES: dict[int, tuple[float, ...]] = {
    0: (1.0, 0.98, 0.95, 0.92, 0.9),
    1: (1.22, 1.24, 1.24, 1.24, 1.22),
    2: (0.95, 0.97, 1.04, 1.14, 1.26),
    3: (0.95, 0.84, 0.76, 0.78, 0.9),
    4: (1.3, 1.24, 1.1, 0.93, 0.8),
}

# Band of the noise in hertz, its length in seconds and its loudness.
CONSONANTS: dict[str, tuple[float, float, float, float]] = {
    "sh": (2200, 5500, 0.085, 0.5),
    "x": (4000, 8000, 0.08, 0.4),
    "s": (5000, 9500, 0.08, 0.4),
    "f": (1500, 7000, 0.07, 0.22),
    "h": (800, 2500, 0.06, 0.3),
    "j": (3000, 6500, 0.045, 0.5),
    "t": (2500, 6000, 0.03, 0.6),
    "k": (1200, 3000, 0.035, 0.55),
    "d": (2000, 5000, 0.012, 0.5),
    "b": (400, 1500, 0.01, 0.5),
    "m": (150, 350, 0.05, 0.5),
}


@dataclass(frozen=True, slots=True)
class Syllable:
    consonant: str
    vowel: str
    tone: int
    length_s: float


def _phrase(text: str) -> list[Syllable]:
    """`sh-i-4` is one syllable; a trailing `:` lengthens it, as at the end of a phrase."""
    syllables = []
    for word in text.split():
        consonant, vowel, tone = word.rstrip(":").split("-")
        syllables.append(Syllable(consonant, vowel, int(tone), 0.30 if word[-1] == ":" else 0.21))
    return syllables


# Phrases, each followed by its pause in seconds.
SPEECH: tuple[tuple[list[Syllable], float], ...] = (
    (_phrase("t-o-2 sh-ie-2 m-e-0: h-ao-3:"), 0.55),
    (_phrase("j-i-1 t-ie-1 x-uo-2 x-i-2 f-e-1 sh-u-4:"), 0.5),
    (_phrase("b-a-3 d-a-4 b-i-3 f-e-1 sh-e-2 s-i-4 f-e-4:"), 0.45),
    (_phrase("m-ei-3 f-e-4 sh-i-4 d-uo-1 sh-ao-3:"), 0.85),
    (_phrase("d-ei-4 s-i-4 f-e-1 j-i-1 s-a-1:"), 0.5),
    (_phrase("k-a-4 h-ei-1 b-a-3: d-a-4 j-a-1 x-ie-3 x-a-4 d-ai-2:"), 0.6),
    (_phrase("sh-ei-2 h-ei-4 h-ei-2 d-a-2: j-u-3 sh-o-3:"), 0.7),
)


class Voice:
    """Endless speech-like sound; `samples` is a pure function of its arguments."""

    def samples(self, t0_s: float, count: int) -> npt.NDArray[np.int16]:
        """`count` mono samples at 48 kHz from time `t0_s` on."""
        start = round(t0_s * RATE_HZ) % LOOP_SAMPLES
        loop = _loop()
        if start + count <= LOOP_SAMPLES:
            return loop[start : start + count].copy()
        return np.take(loop, np.arange(start, start + count), mode="wrap")

    def loudness(self, t_s: float) -> float:
        """How far the mouth is open at a moment, 0 to 1."""
        envelope = _envelope()
        return float(envelope[int(t_s / LOUDNESS_WINDOW_S) % len(envelope)])


@cache
def _loop() -> npt.NDArray[np.int16]:
    rng = np.random.default_rng(20)
    wave = np.zeros(LOOP_SAMPLES)
    at_s = 0.25
    for phrase, pause_s in SPEECH:
        for index, syllable in enumerate(phrase):
            # Pitch drifts down through a phrase, as breath runs out.
            sound = _syllable(syllable, PITCH_HZ * (1.06 - 0.13 * index / len(phrase)), rng)
            start = int(at_s * RATE_HZ)
            end = min(start + len(sound), LOOP_SAMPLES)
            wave[start:end] += sound[: end - start]
            at_s += len(sound) / RATE_HZ - 0.02  # syllables run into each other
        at_s += pause_s
    wave += rng.standard_normal(LOOP_SAMPLES) * 0.0015 * np.abs(wave).max()  # a quiet room
    wave *= 10 ** (RMS_DBFS / 20) / np.sqrt(np.mean(wave**2))
    return np.asarray(np.clip(np.tanh(wave) * 32767, -32768, 32767), dtype=np.int16)


@cache
def _envelope() -> npt.NDArray[np.float64]:
    window = int(LOUDNESS_WINDOW_S * RATE_HZ)
    count = LOOP_SAMPLES // window
    blocks = _loop()[: count * window].reshape(count, window).astype(np.float64)
    level = np.sqrt(np.mean(blocks**2, axis=1))
    return np.asarray(np.clip(level / np.percentile(level, 95), 0.0, 1.0))


def _syllable(
    syllable: Syllable, pitch_hz: float, rng: np.random.Generator
) -> npt.NDArray[np.float64]:
    voiced = _vowel(syllable, pitch_hz)
    noise = _noise(syllable.consonant, rng)
    overlap = min(len(noise) // 3, len(voiced))
    sound = np.zeros(len(noise) + len(voiced) - overlap)
    sound[: len(noise)] += noise
    sound[len(noise) - overlap :] += voiced
    return sound


def _vowel(syllable: Syllable, pitch_hz: float) -> npt.NDArray[np.float64]:
    count = int(syllable.length_s * RATE_HZ)
    position = np.linspace(0.0, 1.0, count)
    contour = TONES[syllable.tone]
    pitch = pitch_hz * np.interp(position, np.linspace(0.0, 1.0, len(contour)), contour)
    pitch *= 1.0 + 0.006 * np.sin(2 * np.pi * 5.5 * position * syllable.length_s)  # vibrato
    phase = 2 * np.pi * np.cumsum(pitch) / RATE_HZ
    first, last = VOWELS[syllable.vowel]
    wave = np.zeros(count)
    for harmonic in range(1, int(HIGHEST_HARMONIC_HZ / pitch.min()) + 1):
        frequency = harmonic * pitch
        weight = np.zeros(count)
        for start_hz, end_hz, width_hz, gain in zip(
            first, last, BANDWIDTHS_HZ, FORMANT_GAINS, strict=True
        ):
            centre = start_hz + (end_hz - start_hz) * position
            weight += gain / (1.0 + ((frequency - centre) / width_hz) ** 2)
        weight = (weight + 0.02) / np.sqrt(harmonic)  # the glottis falls off with frequency
        weight[frequency > HIGHEST_HARMONIC_HZ] = 0.0
        wave += weight * np.sin(harmonic * phase)
    attack_s, release_s = 0.025, 0.07
    rise = np.clip(position * syllable.length_s / attack_s, 0.0, 1.0)
    fall = np.clip((1.0 - position) * syllable.length_s / release_s, 0.0, 1.0)
    return np.asarray(wave * np.sin(rise * np.pi / 2) * np.sin(fall * np.pi / 2))


def _noise(consonant: str, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    low_hz, high_hz, length_s, gain = CONSONANTS[consonant]
    count = int(length_s * RATE_HZ)
    spectrum = np.fft.rfft(rng.standard_normal(count))
    frequency = np.fft.rfftfreq(count, 1 / RATE_HZ)
    centre, width = (low_hz + high_hz) / 2, (high_hz - low_hz) / 2
    spectrum *= np.exp(-(((frequency - centre) / width) ** 2))
    noise = np.fft.irfft(spectrum, count)
    noise *= np.hanning(count) * gain / (np.abs(noise).max() + 1e-9)
    return np.asarray(noise)
