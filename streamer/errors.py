"""The exception family of the media plane."""

from __future__ import annotations


class StreamerError(Exception):
    """Base of all errors that the streamer raises on purpose."""


class InvalidSdpError(StreamerError):
    """An offer, answer or ICE fragment that we cannot accept.

    `field` names the offending part (`m=video 1: a=rtpmap`), `detail` says what is wrong with it
    and what would be accepted.
    """

    def __init__(self, field: str, detail: str) -> None:
        super().__init__(f"{field}: {detail}")
        self.field = field
        self.detail = detail


class PacketError(StreamerError):
    """Bytes that are not the RTP, RTCP or STUN packet they were taken for."""
