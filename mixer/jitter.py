"""Turns one sender's audio packets into 20 ms frames that keep time with the mixer's clock.

Packets wait on the sender's own timeline; every tick 20 ms of it are played. How early packets
arrive (their lead) tells both how jittery the path is and how the sender's clock drifts: playing
is sped up or slowed down by at most 0.5 % so that even late packets come just in time, and jumps
only when the lead is far off. What did not come is concealed by repeating the last pitch period
with a fade; nothing ever waits.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.float32]

RATE_HZ = 48_000
FRAME_SAMPLES = 960
FRAME_S = 0.02

MARGIN_S = 0.015  # what the latest packets of the window should have in hand
MAX_LEAD_S = 0.150  # more than this in the middle is delay for the sake of a few late packets
JUMP_S = 0.060  # this much too early is corrected at once
JUMP_LATE_S = 0.012  # this much too late as well: packets are being lost meanwhile
MAX_RATE = 0.005
RATE_PER_SECOND_OFF = 0.5  # 10 ms off: full correction
DEAD_ZONE_S = 0.003
JUDGED_EVERY = 5  # ticks
WINDOW_PACKETS = 100  # two seconds
LATE_FRACTION = 0.05
MIN_JUDGED = 10  # packets before the lead is believed
RESTART_S = 2.0  # timestamps that far from the expected ones are a new stream
CONCEALED_FRAMES = 5  # after 100 ms there is silence
FADE_PER_FRAME = 0.6
MAX_HELD_PACKETS = 200

TIMESTAMP_HALF = 1 << 31
TIMESTAMP_MASK = 0xFFFFFFFF

Decode = Callable[[bytes], Samples]


class Unwrapper:
    """Continues 32-bit RTP timestamps without end."""

    __slots__ = ("_last",)

    def __init__(self) -> None:
        self._last: int | None = None

    def __call__(self, timestamp: int) -> int:
        if self._last is None:
            self._last = timestamp
            return timestamp
        delta = (timestamp - self._last) & TIMESTAMP_MASK
        if delta >= TIMESTAMP_HALF:
            delta -= 1 << 32
        value = self._last + delta
        if delta > 0:
            self._last = value
        return value


class AudioPlayout:
    """The jitter buffer of one audio input.

    `decode` turns a payload into 48 kHz mono samples and is called in the order of playing.
    `ticks_per_sample` converts for codecs whose RTP clock is not 48 kHz.
    """

    __slots__ = (
        "_conceals",
        "_decode",
        "_duration",
        "_history",
        "_last_tick",
        "_leads",
        "_packets",
        "_pcm",
        "_pcm_start",
        "_phase",
        "_position",
        "_samples_per_tick",
        "_ticks",
        "_unwrap",
        "concealed",
        "jumps",
        "late",
        "packets",
        "rate",
    )

    def __init__(self, decode: Decode, clock_rate: int = RATE_HZ) -> None:
        self._decode = decode
        self._samples_per_tick = RATE_HZ // clock_rate
        self.packets = 0
        self.late = 0
        self.concealed = 0
        self.jumps = 0
        self.rate = 0.0
        self.reset()

    def reset(self) -> None:
        """Forget the timeline; the next packet begins a new one."""
        self._unwrap = Unwrapper()
        self._packets: dict[int, bytes] = {}  # by first sample
        self._leads: deque[float] = deque(maxlen=WINDOW_PACKETS)
        self._position: int | None = None  # the sender's sample that the next tick plays first
        self._duration = FRAME_SAMPLES  # of a packet, as last seen
        self._ticks = 0
        self._phase = 0.0  # fraction of a sample already played beyond `_position`
        self._last_tick = 0.0
        self._pcm: Samples = np.zeros(0, np.float32)  # decoded, from sample `_pcm_start` on
        self._pcm_start = 0
        self._history: Samples = np.zeros(2 * FRAME_SAMPLES, np.float32)
        self._conceals = CONCEALED_FRAMES
        self.rate = 0.0

    def put(self, timestamp: int, payload: bytes, now: float) -> None:
        """A packet came. `now` is the monotonic second of it."""
        self.packets += 1
        start = self._unwrap(timestamp) * self._samples_per_tick
        if self._position is None:
            self._begin(start, now)
        assert self._position is not None
        played = self._position + (now - self._last_tick) * RATE_HZ
        lead_s = (start - played) / RATE_HZ
        if abs(lead_s) > RESTART_S:
            self.reset()
            start = self._unwrap(timestamp) * self._samples_per_tick
            self._begin(start, now)
            lead_s = MARGIN_S * 2
        self._leads.append(lead_s)
        if start + self._duration <= self._pcm_end():
            self.late += 1
            if not self._packets and self._conceals >= CONCEALED_FRAMES:
                self._jump(lead_s - 2 * MARGIN_S)  # nothing but late packets: move the timeline
            return
        if len(self._packets) < MAX_HELD_PACKETS:
            self._packets[start] = payload

    def _begin(self, start: int, now: float) -> None:
        self._position = start - int(2 * MARGIN_S * RATE_HZ)
        self._pcm_start = self._position
        self._last_tick = now

    def _pcm_end(self) -> int:
        return self._pcm_start + len(self._pcm)

    @property
    def playing(self) -> bool:
        return self._position is not None

    def played_timestamp(self) -> float | None:
        """The (unwrapped) RTP timestamp that is being played as of the last tick."""
        if self._position is None:
            return None
        return (self._position - FRAME_SAMPLES) / self._samples_per_tick

    @property
    def delay_s(self) -> float:
        """How long packets wait here, on average, until their first sample is played.

        A frame is taken at the tick that its playing begins with, hence 20 ms on top of the lead.
        """
        return sum(self._leads) / len(self._leads) + FRAME_S if self._leads else 0.0

    def take(self, now: float) -> Samples | None:
        """The next 20 ms, or None before the first packet and in silence that lasts."""
        if self._position is None:
            return None
        self._last_tick = now
        self._ticks += 1
        if self._ticks % JUDGED_EVERY == 0:
            self._adjust()
        exact = FRAME_SAMPLES * (1.0 + self.rate) + self._phase
        whole = int(exact)
        steady = self.rate == 0.0 and self._phase == 0.0
        needed = FRAME_SAMPLES if steady else whole + 2  # the last sample lies between two
        self._fill(self._position + needed)
        offset = self._position - self._pcm_start
        window = self._pcm[offset : offset + needed]
        if steady:
            frame = window.copy()
        else:
            at = self._phase + np.arange(FRAME_SAMPLES) * (1.0 + self.rate)
            frame = np.interp(at, np.arange(needed), window).astype(np.float32)
        self._position += whole
        self._phase = exact - whole
        self._drop_played()
        if self._conceals >= CONCEALED_FRAMES and not np.any(frame):
            return None
        return frame

    def _drop_played(self) -> None:
        assert self._position is not None
        surplus = self._position - self._pcm_start - 2 * FRAME_SAMPLES
        if surplus > FRAME_SAMPLES:
            self._pcm = self._pcm[surplus:]
            self._pcm_start += surplus

    def _fill(self, until: int) -> None:
        """Decode or conceal until the samples before `until` are there."""
        while (end := self._pcm_end()) < until:
            following = min(self._packets, default=None)
            if following is None or following > end:
                missing = FRAME_SAMPLES if following is None else following - end
                self._append(self._conceal(min(missing, FRAME_SAMPLES)))
                continue
            samples = self._decode(self._packets.pop(following))
            if not len(samples):
                if following == end:
                    self._append(self._conceal(self._duration))
                continue
            self._duration = len(samples)
            samples = samples[end - following :]  # its beginning may have been concealed
            if self._conceals and len(samples):
                self._conceals = 0
                # Out of a concealment without a click: two milliseconds of fading in.
                samples = samples.copy()
                ramp = min(96, len(samples))
                samples[:ramp] *= np.linspace(0.0, 1.0, ramp, dtype=np.float32)
            self._append(samples)

    def _append(self, samples: Samples) -> None:
        self._pcm = np.concatenate((self._pcm, samples))
        tail = np.concatenate((self._history, samples))
        self._history = tail[-2 * FRAME_SAMPLES :]

    def _conceal(self, count: int) -> Samples:
        """The last pitch period again, fading; silence after 100 ms."""
        self._conceals += 1
        if self._conceals > CONCEALED_FRAMES:
            return np.zeros(count, np.float32)
        self.concealed += 1
        period = _pitch_period(self._history)
        repeated: Samples = np.resize(self._history[-period:], count)
        start = FADE_PER_FRAME ** (self._conceals - 1)
        end = 0.0 if self._conceals == CONCEALED_FRAMES else start * FADE_PER_FRAME
        faded: Samples = repeated * np.linspace(start, end, count, dtype=np.float32)
        if self._conceals > 1:  # the history already holds a faded repetition
            faded /= start
        return faded

    def _adjust(self) -> None:
        """Set the rate from the leads, or jump when they are far off."""
        leads = self._leads
        if len(leads) < MIN_JUDGED:
            return
        ordered = sorted(leads)
        least = ordered[int(len(ordered) * LATE_FRACTION)]
        off_s = max(least - MARGIN_S, ordered[len(ordered) // 2] - MAX_LEAD_S)
        if off_s > JUMP_S or off_s < -JUMP_LATE_S:
            self._jump(off_s)
        elif abs(off_s) < DEAD_ZONE_S:
            self.rate = 0.0
            self._phase = 0.0
        else:
            self.rate = max(-MAX_RATE, min(MAX_RATE, off_s * RATE_PER_SECOND_OFF))
            # What is played faster makes every lead in the window shorter by as much.
            shift = self.rate * FRAME_S * JUDGED_EVERY
            self._leads = deque((lead - shift for lead in leads), maxlen=WINDOW_PACKETS)

    def _jump(self, off_s: float) -> None:
        """Move along the sender's timeline: forward drops what is skipped, backward inserts."""
        assert self._position is not None
        samples = int(off_s * RATE_HZ)
        if not samples:
            return
        self.jumps += 1
        self.rate = 0.0
        self._phase = 0.0
        self._position += samples
        self._leads = deque((lead - off_s for lead in self._leads), maxlen=WINDOW_PACKETS)
        if samples > 0:
            self._fill(self._position)
        elif self._position < self._pcm_start:
            silence = np.zeros(self._pcm_start - self._position, np.float32)
            self._pcm = np.concatenate((silence, self._pcm))
            self._pcm_start = self._position


def _pitch_period(history: Samples) -> int:
    """The lag of 2.5 to 15 ms at which the last 20 ms repeat best; whole frames if they do not."""
    recent = history[-FRAME_SAMPLES:]
    if not np.any(recent):
        return FRAME_SAMPLES
    spectrum = np.fft.rfft(recent, 2 * FRAME_SAMPLES)
    correlation = np.fft.irfft(spectrum.real**2 + spectrum.imag**2)
    low, high = 120, 720
    # Long lags overlap less: make up for it.
    lags = np.arange(low, high)
    fair = correlation[low:high] * (FRAME_SAMPLES / (FRAME_SAMPLES - lags))
    return low + int(np.argmax(fair))
