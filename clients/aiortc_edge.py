"""The only file that touches private attributes of aiortc (1.13 to 1.x).

aiortc makes a sender's encoder when the first frame comes and has no public way to choose its
bitrate or its options; and its public statistics mix a stream with its retransmissions. Each
access checks that the attribute is still there and says so when it is not.
"""

from __future__ import annotations

from dataclasses import dataclass

import aiortc
from aiortc import RTCRtpReceiver, RTCRtpSender
from aiortc.codecs.base import Encoder

SENDER_ENCODER = "_RTCRtpSender__encoder"
RECEIVER_STREAMS = "_RTCRtpReceiver__remote_streams"
RECEIVER_RTX = "_RTCRtpReceiver__rtx_ssrc"


class AiortcChangedError(RuntimeError):
    """An attribute we rely on is gone: the installed aiortc is not one we know."""

    def __init__(self, attribute: str) -> None:
        super().__init__(
            f"aiortc {aiortc.__version__} has no {attribute}; clients/aiortc_edge.py must follow"
        )


@dataclass(frozen=True, slots=True)
class StreamCounters:
    """What one receiver has counted, its retransmissions apart."""

    packets: int
    missing: int
    retransmitted: int
    jitter_ms: float

    @property
    def lost(self) -> int:
        """Packets that never came, retransmission included."""
        return max(0, self.missing - self.retransmitted)


def install_encoder(sender: RTCRtpSender, encoder: Encoder) -> None:
    """Give a sender its encoder before it makes its own."""
    if not hasattr(sender, SENDER_ENCODER):
        raise AiortcChangedError(SENDER_ENCODER)
    setattr(sender, SENDER_ENCODER, encoder)


def receiver_counters(receiver: RTCRtpReceiver, clock_rate_hz: int) -> StreamCounters:
    """Sum what a receiver counted over its streams."""
    for attribute in (RECEIVER_STREAMS, RECEIVER_RTX):
        if not hasattr(receiver, attribute):
            raise AiortcChangedError(attribute)
    streams = getattr(receiver, RECEIVER_STREAMS)
    retransmission_ssrcs = getattr(receiver, RECEIVER_RTX)
    packets = missing = retransmitted = 0
    jitter_ms = 0.0
    for ssrc, stream in streams.items():
        if ssrc in retransmission_ssrcs:
            retransmitted += stream.packets_received
            continue
        packets += stream.packets_received
        missing += max(0, stream.packets_lost)
        jitter_ms = max(jitter_ms, stream.jitter * 1000.0 / clock_rate_hz)
    return StreamCounters(packets, missing, retransmitted, jitter_ms)
