"""The lesson's clock, what each sender's clock says on it, and what is given up when time is short.

Media time is seconds since the lesson began in this mixer. Sound ticks every 20 ms; a sender's
sound and picture are brought together through its sender reports.
"""

from __future__ import annotations

from typing import Literal

from streamer import rtcp

TIMESTAMP_MASK = 0xFFFFFFFF
MAX_PICTURE_WAIT_S = 0.25  # a picture is never held longer for the sake of its sound
What = Literal["none", "wall", "stage"]


class TrackClock:
    """The line between RTP timestamps and NTP seconds of one track, from its last sender report."""

    __slots__ = ("_clock_rate", "_ntp_s", "_rtp")

    def __init__(self, clock_rate: int) -> None:
        self._clock_rate = clock_rate
        self._ntp_s: float | None = None
        self._rtp = 0

    def report(self, report: rtcp.SenderReport) -> None:
        self._ntp_s = report.ntp / 2**32
        self._rtp = report.rtp

    def ntp_s(self, timestamp: float) -> float | None:
        """When, by the sender's clock, this (wrapped or unwrapped) timestamp was captured."""
        if self._ntp_s is None:
            return None
        whole = int(timestamp)
        delta = (whole - self._rtp) & TIMESTAMP_MASK
        if delta >= 1 << 31:
            delta -= 1 << 32
        return self._ntp_s + (delta + timestamp - whole) / self._clock_rate


class LipSync:
    """Says when a sender's picture is due so that it goes with the sound being played."""

    __slots__ = ("audio", "lag_s", "video")

    def __init__(self, audio_clock_rate: int = 48_000, video_clock_rate: int = 90_000) -> None:
        self.audio = TrackClock(audio_clock_rate)
        self.video = TrackClock(video_clock_rate)
        self.lag_s: float | None = None  # our seconds minus the sender's, as its sound is played

    def playing(self, timestamp: float | None, now: float) -> None:
        """The sound with this timestamp is played now; None: no sound is played."""
        ntp_s = None if timestamp is None else self.audio.ntp_s(timestamp)
        self.lag_s = None if ntp_s is None else now - ntp_s

    def due(self, timestamp: int, arrival: float) -> float:
        """When to show the picture: at once without sound, and never much later than it came."""
        lag_s = self.lag_s
        ntp_s = self.video.ntp_s(timestamp)
        if lag_s is None or ntp_s is None:
            return arrival
        return min(arrival + MAX_PICTURE_WAIT_S, max(arrival, ntp_s + lag_s))


class Pace:
    """Due times of a picture, `fps` a second, from an epoch; skips what was missed."""

    __slots__ = ("_next", "fps")

    def __init__(self, fps: float, now: float) -> None:
        self.fps = fps
        self._next = now

    @property
    def next_s(self) -> float:
        return self._next

    def due(self, now: float) -> bool:
        """Whether a picture is due, at most once per period."""
        if now < self._next:
            return False
        period_s = 1.0 / self.fps
        self._next += period_s
        if now - self._next > period_s:
            self._next = now + period_s  # hopelessly late: begin anew instead of catching up
        return True

    def postpone(self, now: float) -> None:
        """There was nothing new to show: look again soon, rather than a whole period later.

        So the pace falls in step with its sources instead of missing every other picture.
        """
        self._next = now + 0.25 / self.fps

    def set_fps(self, fps: float, now: float) -> None:
        self._next = min(self._next, now + 1.0 / fps)
        self.fps = fps


class Shedder:
    """Divides frame rates when pictures come out late: the wall's first, then the stage's.

    Told of each picture how late it left, in periods of its own rate. It gives way within half a
    second and takes back one step only after `CALM_S` without trouble, twice as long after each
    relapse. From `KEYFRAMES_ONLY_STEP` on, the wall's tiles are made of key frames alone.
    """

    STEPS: tuple[tuple[int, int], ...] = ((1, 1), (2, 1), (3, 1), (5, 1), (5, 2), (5, 4))
    KEYFRAMES_ONLY_STEP = 3
    LATE_PERIODS = 1.0
    WINDOW_S = 0.5
    CALM_S = 5.0
    LONGEST_CALM_S = 80.0

    __slots__ = ("_calm_s", "_calm_since", "_late", "_raised", "_seen", "_window", "step")

    def __init__(self, now: float) -> None:
        self.step = 0
        self._window = now
        self._seen = self._late = 0
        self._calm_since = now
        self._calm_s = self.CALM_S
        self._raised: float | None = None  # when a step was last taken back

    def observe(self, late_periods: float, now: float) -> bool:
        """A picture left; True when the step has changed."""
        self._seen += 1
        if late_periods > self.LATE_PERIODS:
            self._late += 1
            self._calm_since = now
        if now - self._window < self.WINDOW_S:
            return False
        mostly_late = self._late * 3 >= self._seen
        self._window = now
        self._seen = self._late = 0
        if mostly_late:
            if self._raised is not None:
                relapsed = now - self._raised < 2 * self.CALM_S
                longer_s = min(self.LONGEST_CALM_S, self._calm_s * 2)
                self._calm_s = longer_s if relapsed else self.CALM_S
                self._raised = None  # one relapse is counted once
            if self.step + 1 < len(self.STEPS):
                self.step += 1
                self._calm_since = now
                return True
        elif self.step and now - self._calm_since >= self._calm_s:
            self.step -= 1
            self._raised = self._calm_since = now
            return True
        return False

    @property
    def what(self) -> What:
        wall, stage = self.STEPS[self.step]
        return "stage" if stage > 1 else "wall" if wall > 1 else "none"

    @property
    def keyframes_only(self) -> bool:
        return self.step >= self.KEYFRAMES_ONLY_STEP

    def divisors(self) -> tuple[int, int]:
        """By how much the wall's and the stage's frame rates are divided."""
        return self.STEPS[self.step]
