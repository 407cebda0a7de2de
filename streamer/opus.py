"""What the first byte of an Opus packet tells, and silence to put where packets are missing."""

from __future__ import annotations

SAMPLE_RATE = 48_000
MAX_PACKET_S = 0.120  # RFC 6716 section 3.2
_STEREO = 0x04
_SILENCE_TOC = {0.020: 0xF8, 0.010: 0xF0, 0.005: 0xE8}  # CELT, full band


def duration_s(packet: bytes) -> float:
    """RFC 6716 section 3.1; 0 for a packet that says something impossible."""
    if not packet:
        return 0.0
    configuration, code = packet[0] >> 3, packet[0] & 0x03
    if configuration < 12:
        frame_s = (0.010, 0.020, 0.040, 0.060)[configuration & 3]
    elif configuration < 16:
        frame_s = (0.010, 0.020)[configuration & 1]
    else:
        frame_s = (0.0025, 0.005, 0.010, 0.020)[configuration & 3]
    count = 1 if code == 0 else 2
    if code == 3:
        count = packet[1] & 0x3F if len(packet) > 1 else 0
    total_s = frame_s * count
    return total_s if total_s <= MAX_PACKET_S + 1e-9 else 0.0


def silence(like: bytes, length_s: float = 0.020) -> bytes:
    """A packet of 5, 10 or 20 ms of silence with as many channels as `like` has."""
    return bytes((_SILENCE_TOC[length_s] | (like[0] & _STEREO if like else 0), 0xFF, 0xFE))
