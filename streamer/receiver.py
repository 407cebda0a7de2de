"""One track as one receiver gets it: its numbering, its reports, its resends and its late start."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from . import rtcp
from .paths import Path
from .publisher import Kind, PublishedTrack
from .rtp import SEQ_MASK, TIMESTAMP_MASK, Packet, header
from .srtp import SrtpContext

if TYPE_CHECKING:
    from .output import OutputTrack

# An anchor tells old numbers from new ones by half of the 16-bit circle: no longer than this.
ANCHOR_MATTERS_PACKETS = 0x4000

# Resends per receiver and second, as a bucket: a storm of NACKs is answered with this much.
RESEND_RATE_PER_S = 600.0
RESEND_BURST = 300.0

State = Literal["idle", "waiting", "catching-up", "running", "paused"]


class ReceiverTrack:
    """Maps one publisher's numbering onto one receiver's; a few integers, no socket.

    `seq_offset` and `timestamp_offset` are added to the publisher's numbers modulo 2^16 and 2^32.
    They change only when the source changes, so that the receiver sees one unbroken stream.
    """

    __slots__ = (
        "_resend_tokens",
        "_resend_updated",
        "anchor_seq",
        "backlog_timestamps",
        "clock_rate",
        "first_keyframe_timestamp",
        "fraction_lost",
        "highest_reported",
        "jitter",
        "keyframe_requests",
        "kind",
        "last_sent_at",
        "last_seq",
        "last_timestamp",
        "layer",
        "nacks",
        "octets",
        "packets",
        "packets_at_anchor",
        "packets_lost",
        "path",
        "payload_type",
        "preferred_layer",
        "protect_errors",
        "resent",
        "rtx_payload_type",
        "rtx_seq",
        "rtx_ssrc",
        "seq_offset",
        "session_id",
        "srtp",
        "srtp_handle",
        "ssrc",
        "state",
        "timestamp_offset",
    )

    def __init__(self, session_id: str, kind: Kind, ssrc: int, rtx_ssrc: int | None) -> None:
        self.session_id = session_id
        self.kind: Kind = kind
        self.ssrc = ssrc
        self.rtx_ssrc = rtx_ssrc
        self.payload_type = 0
        self.rtx_payload_type: int | None = None
        self.clock_rate = 90000 if kind == "video" else 48000
        self.state: State = "idle"
        self.seq_offset = 0
        self.timestamp_offset = 0
        # Below 2^15 so that a receiver cannot guess a wrong rollover counter (RFC 3711 3.3.1).
        self.last_seq = random.randrange(0x7000)
        self.last_timestamp: int = random.randrange(1 << 32)
        self.last_sent_at: float | None = None
        self.anchor_seq = self.last_seq
        self.packets_at_anchor = 0
        self.rtx_seq = random.randrange(0x7000)
        self.packets = 0
        self.octets = 0
        self.resent = 0
        self.nacks = 0
        self.keyframe_requests = 0
        self.protect_errors = 0
        self.packets_lost = 0
        self.fraction_lost = 0
        self.jitter = 0
        self.highest_reported = 0
        self.first_keyframe_timestamp: int | None = None
        # Packets that a catch-up sent under another timestamp than the publisher's, by its number.
        self.backlog_timestamps: dict[int, int] = {}
        # The layer that is received now, and the index of the one that is wanted.
        self.layer: OutputTrack | None = None
        self.preferred_layer: int | None = None
        self.path: Path
        self.srtp: SrtpContext
        self.srtp_handle: Any = None
        self._resend_tokens = RESEND_BURST
        self._resend_updated = 0.0

    # How often any receiver's path or keys have changed: what the fan-out laid out before is stale.
    connections: ClassVar[int] = 0

    def connect(self, path: Path, srtp: SrtpContext) -> None:
        """Give the track the transport and keys of its session."""
        self.path = path
        self.srtp = srtp
        self.srtp_handle = srtp.handle
        ReceiverTrack.connections += 1

    def anchor(self, seq: int, timestamp: int, now: float, ours: int | None = None) -> None:
        """Continue our numbering with the publisher's packet (`seq`, `timestamp`) next.

        The sequence goes on without a gap. The timestamp becomes `ours` where the caller knows the
        instant in our numbering (another layer of the same picture), else it moves on by the time
        that has passed; it never goes back.
        """
        self.backlog_timestamps = {}
        self.anchor_seq = (self.last_seq + 1) & SEQ_MASK
        self.packets_at_anchor = self.packets
        self.seq_offset = (self.anchor_seq - seq) & SEQ_MASK
        elapsed_s = 0.0 if self.last_sent_at is None else max(0.0, now - self.last_sent_at)
        if ours is None:
            ours = self.last_timestamp + max(1, int(elapsed_s * self.clock_rate))
        elif self.last_sent_at is not None and (ours - self.last_timestamp) & TIMESTAMP_MASK == 0:
            ours += 1
        elif (ours - self.last_timestamp) & TIMESTAMP_MASK >= 0x80000000:
            ours = self.last_timestamp + 1
        self.timestamp_offset = (ours - timestamp) & TIMESTAMP_MASK

    def release(self, source: PublishedTrack, now: float) -> None:
        """Remember where our numbering stands because `source` is going away."""
        if self.state in ("running", "catching-up") and source.base_seq is not None:
            self.last_seq = (source.highest_seq + self.seq_offset) & SEQ_MASK
            self.last_timestamp = (source.last_timestamp + self.timestamp_offset) & TIMESTAMP_MASK
            self.last_sent_at = source.last_arrival or now
        self.state = "idle"

    def report(self, block: rtcp.ReportBlock) -> None:
        self.packets_lost = block.packets_lost
        self.fraction_lost = block.fraction_lost
        self.jitter = block.jitter
        self.highest_reported = block.highest_seq

    def may_resend(self, now: float) -> bool:
        """Take one resend from the receiver's allowance; False when it is used up."""
        self._resend_tokens = min(
            RESEND_BURST,
            self._resend_tokens + (now - self._resend_updated) * RESEND_RATE_PER_S,
        )
        self._resend_updated = now
        if self._resend_tokens < 1.0:
            return False
        self._resend_tokens -= 1.0
        return True

    def rtx_packet(self, packet: Packet, rendered: bytes) -> bytes:
        """The plain retransmission of `packet`, whose plain form for our group is `rendered`.

        With RTX: the original's payload behind its sequence number (RFC 4588 section 4). Without:
        the very same bytes as the first time, since their SRTP nonce is the same too.
        """
        seq = (packet.seq + self.seq_offset) & SEQ_MASK
        theirs = self.backlog_timestamps.get(packet.seq, packet.timestamp)
        timestamp = (theirs + self.timestamp_offset) & TIMESTAMP_MASK
        payload_start = len(rendered) - len(packet.payload)
        extension = rendered[12:payload_start]
        if self.rtx_ssrc is None or self.rtx_payload_type is None:
            return (
                header(self.payload_type, packet.marker, seq, timestamp, self.ssrc, extension)
                + packet.payload
            )
        self.rtx_seq = (self.rtx_seq + 1) & SEQ_MASK
        return (
            header(
                self.rtx_payload_type,
                packet.marker,
                self.rtx_seq,
                timestamp,
                self.rtx_ssrc,
                extension,
            )
            + seq.to_bytes(2, "big")
            + packet.payload
        )

    def original_seq(self, seq: int) -> int | None:
        """The publisher's number of a packet that the receiver knows as `seq`.

        None for packets from before the last `anchor`: they came from another source.
        """
        if self._before_anchor(seq):
            return None
        return (seq - self.seq_offset) & SEQ_MASK

    def covers(self, seq: int) -> bool:
        """Whether the publisher's packet `seq` has a number of its own in the receiver's stream.

        One from before the last `anchor` has not: its number is taken by another source's packet,
        and encrypting both would use one nonce twice (RFC 7714 section 8.1).
        """
        return not self._before_anchor((seq + self.seq_offset) & SEQ_MASK)

    def _before_anchor(self, ours: int) -> bool:
        return (
            self.packets - self.packets_at_anchor < ANCHOR_MATTERS_PACKETS
            and (ours - self.anchor_seq) & SEQ_MASK >= 0x8000
        )
