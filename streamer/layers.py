"""Chooses the layer of a picture that a receiver's line carries; decides, and holds no socket.

Down at once when the line says so, up by trial: after a clean while the next layer is tried. A
layer that had to be left is tried again later than one that never failed, and one that fails again
and again ever later. So a constant line sees no flapping, and one that recovers is soon used.
"""

from __future__ import annotations

from collections.abc import Sequence

from .bandwidth import DownlinkEstimate

FIRST_TRIAL_S = 2.5  # clean time before a layer is tried
LEFT_S = 8.0  # before one that had carried and had to be left
FAILED_TRIAL_S = 10.5  # before one whose last trial failed
PATIENT_TRIALS = 3  # after so many failures in a row the wait doubles each time
MAX_TRIAL_S = 96.0
TRIAL_LASTS_S = 6.0  # congestion so soon after a step up is the step's fault
HELD_S = 12.0  # a layer received for so long has proved itself
DOWN_HEADROOM = 0.90  # of the estimate, to let the queue drain as well
AUDIO_ONLY = -1
# Without any picture REMB says little; below this much for sound and picture we send sound alone.
MIN_PICTURE_BPS = 60_000


class LayerSelector:
    """One viewer's choice of layer. Layers are ordered by rate, 0 the smallest.

    `choose` is called a few times a second and returns the index wanted now, or AUDIO_ONLY.
    """

    __slots__ = ("_failures", "_since", "_stepped_up", "_waits_s", "ceiling", "wanted")

    def __init__(self, first: int, now: float = 0.0) -> None:
        self.wanted = first
        self.ceiling: int | None = None
        self._waits_s: dict[int, float] = {}
        self._failures: dict[int, int] = {}
        self._since = now
        self._stepped_up = False

    def choose(
        self,
        rates_bps: Sequence[float],
        audio_bps: float,
        estimate: DownlinkEstimate,
        now: float,
    ) -> int:
        """Decide with the measured rate of each layer and of the sound."""
        top = len(rates_bps) - 1
        if self.ceiling is not None:
            top = min(top, self.ceiling)
        if self.wanted > top:
            self._move(top, estimate, now)
            return self.wanted
        if estimate.congested(now) and self.wanted > AUDIO_ONLY:
            self._step_down(rates_bps, audio_bps, estimate, now)
        elif self.wanted < top and self._may_step_up(estimate, now):
            self._move(self.wanted + 1, estimate, now)
            self._stepped_up = True
        elif now - self._since > HELD_S:
            self._waits_s.pop(self.wanted, None)
            self._failures.pop(self.wanted, None)
        return self.wanted

    def _step_down(
        self, rates_bps: Sequence[float], audio_bps: float, estimate: DownlinkEstimate, now: float
    ) -> None:
        if self._stepped_up and now - self._since < TRIAL_LASTS_S:
            failures = self._failures[self.wanted] = self._failures.get(self.wanted, 0) + 1
            doublings = max(0, failures - PATIENT_TRIALS)
            self._waits_s[self.wanted] = min(MAX_TRIAL_S, FAILED_TRIAL_S * 2.0**doublings)
            # The layer before was carried: what the estimate says now, the trial has caused.
            self._move(self.wanted - 1, estimate, now)
            return
        self._waits_s[self.wanted] = LEFT_S
        capacity = estimate.capacity_bps()
        target = self.wanted - 1
        if capacity is not None:
            while target > 0 and rates_bps[target] + audio_bps > capacity * DOWN_HEADROOM:
                target -= 1
            if target == AUDIO_ONLY and capacity > audio_bps + MIN_PICTURE_BPS:
                target = 0  # the smallest picture is nearly carried: keep it
        self._move(target, estimate, now)

    def _may_step_up(self, estimate: DownlinkEstimate, now: float) -> bool:
        """A clean while is all that is asked: REMB climbs too slowly to wait for."""
        return estimate.clean_for_s(now) >= self._waits_s.get(self.wanted + 1, FIRST_TRIAL_S)

    def _move(self, target: int, estimate: DownlinkEstimate, now: float) -> None:
        if target != self.wanted:
            drains = target < self.wanted
            self.wanted = target
            self._since = now
            self._stepped_up = False
            estimate.settled(now, drains=drains)
