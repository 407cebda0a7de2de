"""Sequence accounting and repair of one received stream, from the clear part of RTP headers.

No sockets and no clock: time comes in as an argument (seconds, monotonic).
"""

from __future__ import annotations

from streamer.rtcp import ReportBlock
from streamer.rtp import SEQ_MASK

FIRST_NACK_S = 0.03  # reordering has settled by then
SECOND_NACK_S = 0.08
GIVEN_UP_S = 2.0
MAX_JUMP = 3000  # wider than any loss at these rates: the stream has begun anew
RECENT_S = 0.25  # what is missing for less than this may still come when a run ends


class Missing:
    """A packet that has not come: since when, and how often it was asked for."""

    __slots__ = ("asked", "since")

    def __init__(self, since: float) -> None:
        self.since = since
        self.asked = 0


class StreamReception:
    """Counts one SSRC. The hot loop advances `next_seq` and `packets` itself while packets come in
    order; everything else goes through `irregular`."""

    __slots__ = (
        "_expected_prior",
        "_missing_prior",
        "_sr_arrival",
        "_sr_ntp",
        "_transit",
        "base",
        "clock_rate",
        "duplicates",
        "jitter",
        "kind",
        "late",
        "lost_for_good",
        "missing",
        "next_seq",
        "packets",
        "recovered",
        "restarts",
        "ssrc",
    )

    def __init__(self, ssrc: int, kind: str, first_seq: int) -> None:
        self.ssrc = ssrc
        self.kind = kind
        self.clock_rate = 90000 if kind == "video" else 48000
        self.base = first_seq
        self.next_seq = first_seq
        self.packets = 0
        self.late = 0
        self.recovered = 0
        self.duplicates = 0
        self.restarts = 0
        self.lost_for_good = 0
        self.jitter = 0.0
        self.missing: dict[int, Missing] = {}
        self._expected_prior = 0
        self._missing_prior = 0
        self._transit: float | None = None
        self._sr_ntp = 0
        self._sr_arrival = 0.0

    def irregular(self, seq: int, now: float) -> bool:
        """A packet that is not the expected one; True when it opened a hole to be repaired."""
        ahead = (seq - self.next_seq) & SEQ_MASK
        if ahead >= 0x8000:
            if self.missing.pop(seq, None) is not None:
                self.late += 1
                self.packets += 1
            elif 0x10000 - ahead > MAX_JUMP:
                self._restart(seq)
            else:
                self.duplicates += 1
            return False
        if ahead > MAX_JUMP:
            self._restart(seq)
            return False
        for step in range(ahead):
            self.missing[(self.next_seq + step) & SEQ_MASK] = Missing(now)
        self.next_seq = (seq + 1) & SEQ_MASK
        self.packets += 1
        return True

    def _restart(self, seq: int) -> None:
        self.restarts += 1
        self.missing.clear()
        self.next_seq = (seq + 1) & SEQ_MASK
        self.packets += 1

    def resent(self, seq: int) -> bool:
        """A retransmission of `seq` came; False when it was not missing (any more)."""
        if self.missing.pop(seq, None) is None:
            return False
        self.recovered += 1
        return True

    def to_ask(self, now: float) -> list[int]:
        """The sequence numbers to put into a NACK now: once after 30 ms, again after 80 ms."""
        wanted: list[int] = []
        given_up: list[int] = []
        for seq, missing in self.missing.items():
            age_s = now - missing.since
            if age_s >= GIVEN_UP_S:
                given_up.append(seq)
            elif age_s >= (FIRST_NACK_S, SECOND_NACK_S, GIVEN_UP_S)[missing.asked]:
                missing.asked += 1
                wanted.append(seq)
        for seq in given_up:
            del self.missing[seq]
        self.lost_for_good += len(given_up)
        return wanted

    def lost(self, now: float) -> int:
        """Packets that have not come in any way; those on their way are not counted yet."""
        waiting = sum(1 for missing in self.missing.values() if now - missing.since >= RECENT_S)
        return self.lost_for_good + waiting

    def lost_raw(self, now: float) -> int:
        """Packets that did not come the first time."""
        return self.lost(now) + self.recovered

    # --- what receiver reports say -----------------------------------------------------------

    def arrived(self, timestamp: int, now: float) -> None:
        """Interarrival jitter (RFC 3550 appendix A.8), fed with the sampled packets only."""
        transit = now * self.clock_rate - timestamp
        if self._transit is not None:
            difference = abs(transit - self._transit)
            if difference < self.clock_rate * 10:  # a wrapped timestamp is not jitter
                self.jitter += (difference - self.jitter) / 16.0
        self._transit = transit

    def sender_report(self, ntp: int, now: float) -> None:
        self._sr_ntp = ntp
        self._sr_arrival = now

    def report_block(self, now: float) -> ReportBlock:
        """RFC 3550 section 6.4.1; numbering continues from where the extended count began."""
        missing = len(self.missing) + self.lost_for_good
        expected = self.packets + self.recovered + missing
        expected_interval = expected - self._expected_prior
        lost_interval = missing - self._missing_prior
        self._expected_prior, self._missing_prior = expected, missing
        fraction = 0
        if expected_interval > 0 and lost_interval > 0:
            fraction = min(255, (lost_interval << 8) // expected_interval)
        delay = 0
        if self._sr_ntp:
            delay = min(0xFFFFFFFF, int((now - self._sr_arrival) * 65536))
        return ReportBlock(
            ssrc=self.ssrc,
            fraction_lost=fraction,
            packets_lost=min(0x7FFFFF, missing),
            highest_seq=(self.base + expected - 1) & 0xFFFFFFFF,
            jitter=int(self.jitter) & 0xFFFFFFFF,
            lsr=self._sr_ntp >> 16 & 0xFFFFFFFF,
            dlsr=delay,
        )


class KeyframeWatch:
    """Tells when the first key frame is complete: every packet from its first to its marker."""

    __slots__ = ("_first", "_have", "_last", "_timestamp", "begun")

    def __init__(self) -> None:
        self.begun = False
        self._timestamp = 0
        self._first = 0
        self._last: int | None = None
        self._have: set[int] = set()

    def packet(self, seq: int, timestamp: int, *, marker: bool, starts: bool) -> bool:
        """Take a decrypted packet of the picture; True when it completes the key frame."""
        if starts and (not self.begun or timestamp != self._timestamp):
            self.begun = True
            self._timestamp = timestamp
            self._first = seq
            self._last = None
            self._have.clear()
        if not self.begun or timestamp != self._timestamp:
            return False
        if (seq - self._first) & SEQ_MASK >= 0x8000:
            return False  # a parameter set ahead of what we took for the start
        self._have.add(seq)
        if marker:
            self._last = seq
        if self._last is None:
            return False
        return len(self._have) == ((self._last - self._first) & SEQ_MASK) + 1
