"""Offers written out by hand: the least that a WHEP player can send."""

from __future__ import annotations

import secrets

# Any well-formed SHA-256: nobody ever connects with these offers.
FINGERPRINT = ":".join(["5A"] * 32)


def receive_only(codec: str = "VP8") -> str:
    """A complete offer to receive one picture and one sound, with credentials of its own."""
    lines = [
        "v=0",
        f"o=- {secrets.randbelow(2**62)} 2 IN IP4 127.0.0.1",
        "s=-",
        "t=0 0",
        "a=group:BUNDLE 0 1",
        f"a=ice-ufrag:{secrets.token_hex(4)}",
        f"a=ice-pwd:{secrets.token_hex(12)}",
        "a=ice-options:trickle",
        f"a=fingerprint:sha-256 {FINGERPRINT}",
        "a=setup:actpass",
        *_section("video", 0, 96, f"{codec}/90000"),
        "a=rtcp-fb:96 nack",
        "a=rtcp-fb:96 nack pli",
        *_section("audio", 1, 111, "opus/48000/2"),
    ]
    return "\r\n".join(lines) + "\r\n"


def _section(kind: str, mid: int, payload_type: int, codec: str) -> list[str]:
    return [
        f"m={kind} 9 UDP/TLS/RTP/SAVPF {payload_type}",
        "c=IN IP4 0.0.0.0",
        f"a=mid:{mid}",
        "a=recvonly",
        "a=rtcp-mux",
        f"a=rtpmap:{payload_type} {codec}",
    ]
