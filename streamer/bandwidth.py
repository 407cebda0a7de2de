"""Estimates what a receiver's downlink carries from its own feedback; time is an argument.

REMB is what the receiver's estimator believes, but it starts low, climbs slowly, and never exceeds
about one and a half times what arrives. So its height alone says little. What counts is a *fall*
below what we send: the estimator has seen the line queue (it then says 0.85 times what came
through). Loss says the rest. The estimate answers two questions: does what we send now fit
(`congested`), and has it fitted so well and so long that more may be tried (`clean_for_s`)?
"""

from __future__ import annotations

LOSS_CONGESTED = 0.10  # libwebrtc's own threshold for giving way
LOSS_CLEAN = 0.03
REMB_MARGIN = 0.95  # for our measuring and the receiver's
REMB_FALL = 0.97
FALL_COUNTS_S = 1.5
SENT_WINDOW_S = 0.7
DRAIN_S = 1.5  # after a change the line still drains what was too much: that is no new sign
MAX_PLAUSIBLE_BPS = 1_000_000_000


class DownlinkEstimate:
    """One receiver's downlink. All rates are bits a second of RTP, times are seconds."""

    __slots__ = (
        "_clean_since",
        "_deaf_until",
        "_fell_at",
        "_lossy_reports",
        "_window_bytes",
        "_window_start",
        "loss",
        "remb_bps",
        "sent_bps",
    )

    def __init__(self, now: float) -> None:
        self.remb_bps: float | None = None
        self.loss = 0.0
        self.sent_bps: float | None = None
        self._fell_at: float | None = None
        self._deaf_until = now
        self._clean_since = now
        self._lossy_reports = 0
        self._window_start: float | None = None
        self._window_bytes = 0

    def remb(self, bps: float, now: float) -> None:
        """A REMB has come; absurd ones are taken as "a lot"."""
        bps = min(max(bps, 0.0), MAX_PLAUSIBLE_BPS)
        fell = self.remb_bps is not None and bps < self.remb_bps * REMB_FALL
        if fell and now >= self._deaf_until:
            self._fell_at = now
        self.remb_bps = bps
        if self._fallen_below(now):
            self._clean_since = now

    def report(self, fraction_lost: float, now: float) -> None:
        """A receiver report of the picture (or, without one, of the sound) has come: 0…1."""
        self.loss = fraction_lost
        if now < self._deaf_until:
            return
        self._lossy_reports = self._lossy_reports + 1 if fraction_lost > LOSS_CONGESTED else 0
        if fraction_lost > LOSS_CLEAN:
            self._clean_since = now

    def sent(self, total_bytes: int, now: float) -> None:
        """Tell how many bytes have been sent so far, a few times a second."""
        if self._window_start is None:
            self._window_start, self._window_bytes = now, total_bytes
        elapsed = now - self._window_start
        if elapsed >= SENT_WINDOW_S:
            self.sent_bps = max(0, total_bytes - self._window_bytes) * 8 / elapsed
            self._window_start, self._window_bytes = now, total_bytes

    def _fallen_below(self, now: float) -> bool:
        fell = self._fell_at is not None and now - self._fell_at < FALL_COUNTS_S
        return fell and self._remb_is_below()

    def _remb_is_below(self) -> bool:
        return (
            self.remb_bps is not None
            and self.sent_bps is not None
            and self.remb_bps < self.sent_bps * REMB_MARGIN
        )

    def congested(self, now: float) -> bool:
        """What is sent now does not fit."""
        if self._lossy_reports >= 2 or self._fallen_below(now):
            return True
        # Loss alone may be a radio link's, a low REMB alone a slow start: both together are not.
        return self._lossy_reports >= 1 and self._remb_is_below()

    def clean_for_s(self, now: float) -> float:
        """How long everything has fitted."""
        return max(0.0, now - self._clean_since)

    def capacity_bps(self) -> float | None:
        """What a congested line carries; None before any feedback."""
        if self.remb_bps is None:
            return None
        if self.loss > LOSS_CONGESTED and self.sent_bps is not None:
            return min(self.remb_bps, self.sent_bps * (1.0 - self.loss))
        return self.remb_bps

    def settled(self, now: float, *, drains: bool) -> None:
        """The sender has changed what it sends: earlier signs no longer count.

        `drains`: it sends less, so for a while the line still works off what was too much.
        """
        self._fell_at = None
        self._lossy_reports = 0
        self._clean_since = now
        self._deaf_until = now + DRAIN_S if drains else now
        self._window_start = None
        self.sent_bps = None
