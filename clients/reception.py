"""What a headless receiver saw and heard: frames, freezes, sound energy. No clock, no sockets."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FREEZE_S = 0.5  # a gap between pictures that a viewer takes for a stand-still
SILENCE_DBFS = -120.0
FULL_SCALE = 32768.0


@dataclass(slots=True)
class Reception:
    """Fed with decoded media and the time of its arrival, in seconds from the start."""

    frames: int = 0
    width: int = 0
    height: int = 0
    freezes: int = 0
    frozen_s: float = 0.0
    audio_samples: int = 0
    audio_s: float = 0.0
    first_frame_s: float | None = None
    first_audio_s: float | None = None
    _last_frame_s: float | None = None
    _energy: float = 0.0
    _busy_s: float = 0.0

    def video(self, now_s: float, width: int, height: int) -> None:
        self.frames += 1
        self.width, self.height = width, height
        if self.first_frame_s is None:
            self.first_frame_s = now_s
        if self._last_frame_s is not None:
            gap_s = now_s - self._last_frame_s
            if gap_s > FREEZE_S:
                self.freezes += 1
                self.frozen_s += gap_s
            else:
                self._busy_s += gap_s
        self._last_frame_s = now_s

    def audio(
        self, now_s: float, samples: npt.NDArray[np.int16], rate_hz: int, channels: int
    ) -> None:
        """`samples` are interleaved; energy is summed over all channels."""
        if samples.size == 0 or rate_hz <= 0 or channels <= 0:
            return
        if self.first_audio_s is None:
            self.first_audio_s = now_s
        self.audio_samples += samples.size
        self.audio_s += samples.size / channels / rate_hz
        flat = samples.reshape(-1).astype(np.float64)
        self._energy += float(np.dot(flat, flat))

    @property
    def rms(self) -> float:
        """Root mean square of all sound heard, 0..1 of full scale."""
        if self.audio_samples == 0:
            return 0.0
        return math.sqrt(self._energy / self.audio_samples) / FULL_SCALE

    @property
    def rms_dbfs(self) -> float:
        return max(SILENCE_DBFS, 20 * math.log10(self.rms)) if self.rms > 0 else SILENCE_DBFS

    @property
    def fps(self) -> float:
        """Frames a second while the picture moved."""
        return (self.frames - 1 - self.freezes) / self._busy_s if self._busy_s > 0 else 0.0

    @property
    def got_anything(self) -> bool:
        return self.frames > 0 or self.audio_samples > 0
