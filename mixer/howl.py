"""Finds a howl-round: one narrow peak of the spectrum that keeps growing, and pulls it down.

Works on the power spectra of 20 ms frames. A loop inside one room grows smoothly; a loop through
the lesson grows in stairs, one each time the sound comes round. A held note or a whistle is as
narrow but does not grow, its beginning is one rise only, and a shout is not narrow. Time is
counted in frames.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import numpy.typing as npt

Power = npt.NDArray[np.float32]

BIN_HZ = 50.0
LOWEST_BIN = 3  # 150 Hz: below is hum and wind
PEAK_BINS = 2  # a Hann-windowed tone spreads over two bins on either side
PURITY = 0.9  # share of all the power that the peak must hold
MIN_POWER_DBFS = -50.0
ONSET_FRAMES = 3  # how a sound begins tells nothing
KEPT_FRAMES = 75

# Smooth growth: at least so much in 160 ms, about as much in each frame.
SMOOTH_FRAMES = 8
SMOOTH_GROWTH_DB = 3.0
LARGEST_SHARE = 0.4  # of the growth, in one frame
LARGEST_FALL_DB = 0.3
# Growth in stairs: so many, each so high and so far from the last.
STAIRS = 2
STAIR_DB = 1.5
STAIR_FRAMES = 4
STAIR_FALL_DB = 2.5

PULL_DB = -24.0
DEEPEST_DB = -48.0
HOLD_FRAMES = 100  # two seconds
RECOVERY_DB_PER_FRAME = 0.08  # 4 dB a second


@dataclass(slots=True)
class HowlGuard:
    """The howl detector and reducer of one microphone."""

    gain_db: float = 0.0
    frequency_hz: float = 0.0
    _bin: int = 0
    _levels_db: deque[float] = field(default_factory=lambda: deque(maxlen=KEPT_FRAMES))
    _hold: int = 0

    def hear(self, power: Power, total_dbfs: float) -> bool:
        """Take the spectrum of the next frame; True when a howl has just been found.

        One that goes on is pulled down further and not told again.
        """
        self._recover()
        if total_dbfs < MIN_POWER_DBFS:
            self._levels_db.clear()
            return False
        peak = LOWEST_BIN + int(np.argmax(power[LOWEST_BIN:]))
        around = float(power[max(0, peak - PEAK_BINS) : peak + PEAK_BINS + 1].sum())
        if around < PURITY * float(power.sum()):
            self._levels_db.clear()
            return False
        if self._levels_db and abs(self._bin - peak) > 1:
            self._levels_db.clear()
        self._bin = peak
        self._levels_db.append(total_dbfs)
        levels = list(self._levels_db)[ONSET_FRAMES:]
        if not grows_smoothly(levels[-SMOOTH_FRAMES:]) and not grows_in_stairs(levels):
            return False
        self._levels_db.clear()
        again = self._hold > 0
        self.gain_db = max(DEEPEST_DB, self.gain_db + PULL_DB)
        self._hold = HOLD_FRAMES
        self.frequency_hz = peak * BIN_HZ
        return not again

    def _recover(self) -> None:
        if self._hold:
            self._hold -= 1
        elif self.gain_db < 0.0:
            self.gain_db = min(0.0, self.gain_db + RECOVERY_DB_PER_FRAME)


def grows_smoothly(levels_db: list[float]) -> bool:
    """Whether each of the last frames is louder than the one before, by about as much."""
    if len(levels_db) < SMOOTH_FRAMES:
        return False
    growth = levels_db[-1] - levels_db[0]
    if growth < SMOOTH_GROWTH_DB:
        return False
    steps = [after - before for before, after in pairwise(levels_db)]
    return min(steps) > -LARGEST_FALL_DB and max(steps) <= LARGEST_SHARE * growth


def grows_in_stairs(levels_db: list[float]) -> bool:
    """Whether the level has risen again and again without falling back."""
    if not levels_db:
        return False
    plateau, since, stairs = levels_db[0], 0, 0
    for index, level in enumerate(levels_db):
        if level > plateau + STAIR_DB:
            if stairs == 0 or index - since >= STAIR_FRAMES:
                stairs += 1
            plateau, since = level, index
        elif level < plateau - STAIR_FALL_DB:
            plateau, since, stairs = level, index, 0
    return stairs >= STAIRS
