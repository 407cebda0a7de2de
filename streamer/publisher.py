"""One RTP stream as its publisher sends it: counts, reports, holes, key frames and history.

A `PublishedTrack` is fed decrypted packets and says what to forward; it holds no socket. What must
go back to the publisher (receiver reports, NACK, PLI) is asked of it by the session.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from . import rtcp
from .codecs import KEYFRAME_TESTS
from .history import History
from .keyframes import KeyframeRequests
from .losses import LossDetector
from .rtp import SEQ_MASK, TIMESTAMP_MASK, Packet

VIDEO_HISTORY_PACKETS = 2048  # 8 s of 2 Mbit/s: longer than a key-frame interval of a camera
AUDIO_HISTORY_PACKETS = 128  # 2.5 s of Opus
RATE_WINDOW_S = 0.5

Kind = Literal["audio", "video"]


class PublishedTrack:
    """What one publisher sends of one kind, as received by this worker."""

    __slots__ = (
        "_expected_prior",
        "_is_keyframe",
        "_keyframe_timestamp",
        "_last_transit",
        "_rate_bytes",
        "_rate_since",
        "_received_prior",
        "answers_pli",
        "base_seq",
        "bytes",
        "clock_rate",
        "codec",
        "cycles",
        "duplicates",
        "extension_uris",
        "fraction_lost",
        "highest_seq",
        "history",
        "jitter",
        "keyframe_requests",
        "keyframes",
        "kind",
        "last_arrival",
        "last_timestamp",
        "losses",
        "nacks",
        "packets",
        "payload_type",
        "rate_bps",
        "recovered",
        "rtx_payload_type",
        "rtx_ssrc",
        "sr_arrival",
        "sr_ntp",
        "sr_rtp",
        "ssrc",
    )

    def __init__(
        self,
        kind: Kind,
        codec: str,
        clock_rate: int,
        payload_type: int,
        *,
        rtx_payload_type: int | None = None,
        ssrc: int | None = None,
        rtx_ssrc: int | None = None,
        extension_uris: Mapping[int, str] | None = None,
        answers_pli: bool = True,
        keyframe_interval_s: float = 0.5,
    ) -> None:
        self.kind: Kind = kind
        self.codec = codec
        self.clock_rate = clock_rate
        self.payload_type = payload_type
        self.rtx_payload_type = rtx_payload_type
        self.ssrc = ssrc
        self.rtx_ssrc = rtx_ssrc
        self.extension_uris = dict(extension_uris or {})
        self.answers_pli = answers_pli and kind == "video"
        self.history = History(VIDEO_HISTORY_PACKETS if kind == "video" else AUDIO_HISTORY_PACKETS)
        self.losses = LossDetector()
        self.keyframes = KeyframeRequests(keyframe_interval_s)
        self._is_keyframe = KEYFRAME_TESTS.get(codec) if kind == "video" else None
        self._keyframe_timestamp: int | None = None
        self._last_transit: float | None = None
        self._expected_prior = 0
        self._received_prior = 0
        self._rate_bytes = 0
        self._rate_since: float | None = None
        self.rate_bps = 0.0
        self.base_seq: int | None = None
        self.highest_seq = 0
        self.cycles = 0
        self.packets = 0
        self.bytes = 0
        self.duplicates = 0
        self.recovered = 0
        self.jitter = 0.0
        self.fraction_lost = 0
        self.nacks = 0
        self.keyframe_requests = 0
        self.last_arrival = 0.0
        self.last_timestamp = 0
        self.sr_ntp: int | None = None
        self.sr_rtp = 0
        self.sr_arrival = 0.0

    def receive(self, packet: Packet, *, resent: bool = False) -> bool:
        """Take a packet in; False when it must not be forwarded (a duplicate)."""
        seq = packet.seq
        if self.base_seq is None:
            self.base_seq = self.highest_seq = seq
            self.last_timestamp = packet.timestamp
        # Only the first packet of the frame starts it: slices and parameter sets follow.
        packet.starts_keyframe = (
            self._is_keyframe is not None
            and packet.timestamp != self._keyframe_timestamp
            and self._is_keyframe(packet.payload)
        )
        if not self.history.add(packet):
            self.duplicates += 1
            return False
        if packet.starts_keyframe:
            self._keyframe_timestamp = packet.timestamp
            self.keyframes.keyframe()
        self.packets += 1
        self.bytes += len(packet.payload)
        delta = (seq - self.highest_seq) & SEQ_MASK
        if 0 < delta < 0x8000:
            if seq < self.highest_seq:
                self.cycles += 1
            self.highest_seq = seq
            self.last_timestamp = packet.timestamp
        elif delta:
            packet.late = True
        if resent:
            self.recovered += 1
        else:
            self._measure_jitter(packet)
        self.last_arrival = packet.arrival
        return True

    def unwrap_rtx(self, packet: Packet) -> Packet | None:
        """The original of a retransmission (RFC 4588 section 4), or None for mere padding."""
        payload = packet.payload
        if len(payload) <= 2 or self.ssrc is None:
            return None
        return Packet(
            self.payload_type,
            packet.marker,
            payload[0] << 8 | payload[1],
            packet.timestamp,
            self.ssrc,
            payload[2:],
            packet.extensions,
            packet.arrival,
        )

    def _measure_jitter(self, packet: Packet) -> None:
        """RFC 3550 appendix A.8, in timestamp units."""
        transit = packet.arrival * self.clock_rate - packet.timestamp
        if self._last_transit is not None:
            difference = abs(transit - self._last_transit) % 2**32
            if difference < self.clock_rate * 10:  # a wrapped timestamp is not jitter
                self.jitter += (difference - self.jitter) / 16.0
        self._last_transit = transit

    def measure_rate(self, now: float) -> None:
        """Update `rate_bps`, smoothed over some seconds; call a few times a second."""
        if self._rate_since is None or self.base_seq is None:
            self._rate_since, self._rate_bytes = now, self.bytes
            return
        elapsed = now - self._rate_since
        if elapsed < RATE_WINDOW_S:
            return
        rate = (self.bytes - self._rate_bytes) * 8 / elapsed
        self.rate_bps = rate if not self.rate_bps else 0.7 * self.rate_bps + 0.3 * rate
        self._rate_since, self._rate_bytes = now, self.bytes

    def sender_report(self, report: rtcp.SenderReport, now: float) -> None:
        self.sr_ntp = report.ntp
        self.sr_rtp = report.rtp
        self.sr_arrival = now

    @property
    def expected(self) -> int:
        if self.base_seq is None:
            return 0
        return (self.cycles << 16) + self.highest_seq - self.base_seq + 1

    @property
    def packets_lost(self) -> int:
        return max(0, self.expected - self.packets)

    def report_block(self, now: float) -> rtcp.ReportBlock | None:
        """What our receiver report says of this stream (RFC 3550 section 6.4.1)."""
        if self.ssrc is None or self.base_seq is None:
            return None
        expected, received = self.expected, self.packets
        expected_interval = expected - self._expected_prior
        lost_interval = expected_interval - (received - self._received_prior)
        self._expected_prior, self._received_prior = expected, received
        self.fraction_lost = (
            min(255, (lost_interval << 8) // expected_interval)
            if expected_interval > 0 and lost_interval > 0
            else 0
        )
        lsr = dlsr = 0
        if self.sr_ntp is not None:
            lsr = self.sr_ntp >> 16 & 0xFFFFFFFF
            dlsr = min(0xFFFFFFFF, int((now - self.sr_arrival) * 65536))
        return rtcp.ReportBlock(
            ssrc=self.ssrc,
            fraction_lost=self.fraction_lost,
            packets_lost=max(-0x800000, min(0x7FFFFF, expected - received)),
            highest_seq=((self.cycles & 0xFFFF) << 16) | self.highest_seq,
            jitter=min(0xFFFFFFFF, int(self.jitter)),
            lsr=lsr,
            dlsr=dlsr,
        )

    def same_instant(self, timestamp: int, other: PublishedTrack) -> int | None:
        """`other`'s timestamp for the instant that is `timestamp` here (simulcast layers).

        None until both have had a sender report: only those tie the two clocks together.
        """
        if self.sr_ntp is None or other.sr_ntp is None:
            return None
        ticks = (timestamp - self.sr_rtp) & TIMESTAMP_MASK
        if ticks >= 0x80000000:
            ticks -= 1 << 32
        elapsed_s = (self.sr_ntp - other.sr_ntp) / 2**32 + ticks / self.clock_rate
        return int(other.sr_rtp + elapsed_s * other.clock_rate) & TIMESTAMP_MASK

    def rtp_time(self, now: float, clock_offset_s: float | None) -> int:
        """The RTP timestamp that corresponds to the monotonic instant `now`.

        `clock_offset_s` is (publisher's NTP seconds − our monotonic seconds), one value for all
        tracks of a publisher so that sound and picture stay in step; without a sender report yet,
        the last packet's arrival serves.
        """
        if self.sr_ntp is not None and clock_offset_s is not None:
            publisher_ntp_s = now + clock_offset_s
            elapsed_s = publisher_ntp_s - self.sr_ntp / 2**32
            return int(self.sr_rtp + elapsed_s * self.clock_rate) & TIMESTAMP_MASK
        elapsed_s = now - self.last_arrival
        return int(self.last_timestamp + elapsed_s * self.clock_rate) & TIMESTAMP_MASK
