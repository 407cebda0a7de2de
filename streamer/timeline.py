"""When a frame was taken: RTP timestamps of several tracks on one line of seconds.

Sender reports tie each track's timestamps to one clock of the publisher (RFC 3550 section 6.4.1).
Until every track has one, the time of arrival serves; the change from one to the other leaves the
sound where it is and moves the pictures.
"""

from __future__ import annotations

from .rtp import TIMESTAMP_MASK

# A publisher's sound card and its clock differ by up to some 100 ppm; reports wobble by
# milliseconds. Following them this slowly hears and sees neither.
SLEW_S = 0.002
STEP_S = 0.2  # further off than this is no drift: go there at once
JUMP_S = 10.0  # timestamps that leap so far ahead of the clock on our wall have begun anew


class TrackClock:
    """One track's timestamps, unwrapped to seconds, and what its reports say of them."""

    __slots__ = ("_arrival", "_last", "arrival_offset_s", "clock_rate", "report_offset_s")

    def __init__(self, clock_rate: int) -> None:
        self.clock_rate = clock_rate
        self._last: int | None = None
        self._arrival = 0.0
        # What is to be added to the track's own seconds: earliest arrival, and by report.
        self.arrival_offset_s: float | None = None
        self.report_offset_s: float | None = None

    @property
    def running(self) -> bool:
        return self._last is not None

    def elapsed_s(self, timestamp: int, arrival: float) -> tuple[float, bool]:
        """The track's own seconds for a timestamp, and whether it leapt (then all begins anew)."""
        if self._last is None:
            self._last, self._arrival = timestamp, arrival
        ticks = self._unwrapped(timestamp)
        ahead_s = (ticks - self._last) / self.clock_rate
        leapt = abs(ahead_s - (arrival - self._arrival)) > JUMP_S
        if ticks > self._last:
            self._last, self._arrival = ticks, arrival
        own_s = ticks / self.clock_rate
        offset_s = arrival - own_s
        if self.arrival_offset_s is None or offset_s < self.arrival_offset_s:
            self.arrival_offset_s = offset_s
        return own_s, leapt

    def _unwrapped(self, timestamp: int) -> int:
        last = self._last or 0
        delta = (timestamp - last) & TIMESTAMP_MASK
        return last + (delta - (1 << 32) if delta >= 1 << 31 else delta)

    def report(self, ntp: int, timestamp: int) -> None:
        if self._last is not None:
            self.report_offset_s = ntp / 2**32 - self._unwrapped(timestamp) / self.clock_rate


class Timeline:
    """The common seconds of all tracks of one publisher, from 0 at `begin`."""

    def __init__(self, clocks: list[TrackClock]) -> None:
        self._clocks = clocks
        self._offsets: dict[int, float] = {}
        self._base_s: float | None = None  # publisher's clock minus ours, once reports are used
        self._zero_s = 0.0

    @property
    def reported(self) -> bool:
        """Whether all tracks that send have had a sender report."""
        running = [clock for clock in self._clocks if clock.running]
        return bool(running) and all(clock.report_offset_s is not None for clock in running)

    def begin(self) -> None:
        """Fix where each track lies, by what is known now."""
        by_report = self.reported
        self._base_s = 0.0 if by_report else None
        self._offsets = {}
        self._zero_s = 0.0
        for index in range(len(self._clocks)):
            self._offset(index)

    def start_at(self, second_s: float) -> None:
        """Make this second of the line, as `place` gives it now, its zero."""
        self._zero_s += second_s

    def place(self, index: int, own_s: float) -> float:
        return own_s + self._offset(index) - self._zero_s

    def _offset(self, index: int) -> float:
        known = self._offsets.get(index)
        if known is not None:
            return known
        clock = self._clocks[index]
        offset = clock.arrival_offset_s
        if self._base_s is not None and clock.report_offset_s is not None:
            offset = clock.report_offset_s - self._base_s
        elif self._base_s is not None and offset is not None:
            # No report of this track yet: as far from its arrival as the others are from theirs.
            other = next((i for i in self._offsets if self._clocks[i].arrival_offset_s), None)
            if other is not None:
                offset += self._offsets[other] - (self._clocks[other].arrival_offset_s or 0.0)
        if offset is None:
            return 0.0
        self._offsets[index] = offset
        return offset

    def follow_reports(self) -> None:
        """After a report: keep every track where the reports say, slowly where it is near."""
        if not self._offsets or not self.reported:
            return
        if self._base_s is None:
            first = min(self._offsets)  # the sound where there is some
            self._base_s = (self._clocks[first].report_offset_s or 0.0) - self._offsets[first]
        for index, offset in self._offsets.items():
            target = self._clocks[index].report_offset_s
            if target is None:
                continue
            difference = target - self._base_s - offset
            if abs(difference) <= STEP_S:
                difference = max(-SLEW_S, min(SLEW_S, difference))
            self._offsets[index] = offset + difference
