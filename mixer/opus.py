"""Sound to and from its payloads: Opus with in-band FEC through PyAV, and G.711 of old cameras."""

from __future__ import annotations

from collections.abc import Callable

import av
import av.error
import numpy as np
import numpy.typing as npt

from .control import PipedTrack
from .errors import MediaError
from .jitter import FRAME_SAMPLES, RATE_HZ

Samples = npt.NDArray[np.float32]

MAX_PACKET_SAMPLES = RATE_HZ * 120 // 1000  # RFC 6716 section 2: at most 120 ms
# Complexity 3 costs two thirds of 10 and cannot be told from it with speech at 32 kbit/s.
COMPLEXITY = 3
EXPECTED_LOSS_PERCENT = 10  # below that libopus writes next to no FEC


class OpusEncoder:
    """48 kHz mono frames of 20 ms into Opus packets."""

    def __init__(self, kbps: int) -> None:
        context = av.CodecContext.create("libopus", "w")
        context.sample_rate = RATE_HZ
        context.format = "s16"
        context.layout = "mono"
        context.bit_rate = kbps * 1000
        context.options = {
            "application": "voip",
            "frame_duration": "20",
            "fec": "1",
            "packet_loss": str(EXPECTED_LOSS_PERCENT),
            "compression_level": str(COMPLEXITY),
        }
        context.open()
        self._context = context
        self._pts = 0

    def encode(self, frame: Samples) -> bytes:
        """One packet for 960 samples of -1…1."""
        pcm = np.empty((1, FRAME_SAMPLES), np.int16)
        np.multiply(np.clip(frame, -1.0, 1.0), 32767.0, out=pcm[0], casting="unsafe")
        audio = av.AudioFrame.from_ndarray(pcm, format="s16", layout="mono")
        audio.sample_rate = RATE_HZ
        audio.pts = self._pts
        self._pts += FRAME_SAMPLES
        return b"".join(bytes(packet) for packet in self._context.encode(audio))


class AudioDecoder:
    """Payloads of a piped audio track into 48 kHz mono; what cannot be decoded gives nothing."""

    def __init__(self, track: PipedTrack) -> None:
        make = DECODERS.get(track.codec)
        if make is None:
            accepted = ", ".join(sorted(DECODERS))
            raise MediaError(f"audio codec {track.codec!r} cannot be mixed: {accepted} can")
        self._decode = make()
        self.failed = 0

    def __call__(self, payload: bytes) -> Samples:
        try:
            samples = self._decode(payload)
        except av.error.FFmpegError:
            self.failed += 1
            return np.zeros(0, np.float32)
        return samples[:MAX_PACKET_SAMPLES]


def _opus() -> Callable[[bytes], Samples]:
    # One channel asked for: libopus itself mixes stereo down.
    context = av.CodecContext.create("libopus", "r")
    context.sample_rate = RATE_HZ
    context.layout = "mono"
    context.open()

    def decode(payload: bytes) -> Samples:
        if not payload:
            return np.zeros(0, np.float32)
        frames = context.decode(av.Packet(payload))
        parts = [frame.to_ndarray().reshape(-1) for frame in frames]
        if not parts:
            return np.zeros(0, np.float32)
        pcm = parts[0] if len(parts) == 1 else np.concatenate(parts)
        scaled: Samples = pcm.astype(np.float32) * np.float32(1 / 32768)
        return scaled

    return decode


def _g711(table: Samples) -> Callable[[bytes], Samples]:
    """8 kHz, one byte a sample: six samples of ours between two of theirs."""
    last = np.zeros(1, np.float32)

    def decode(payload: bytes) -> Samples:
        nonlocal last
        coarse = np.concatenate((last, table[np.frombuffer(payload, np.uint8)]))
        last = coarse[-1:]
        count = len(payload) * 6
        at = np.arange(1, count + 1, dtype=np.float32) / 6
        return np.interp(at, np.arange(len(coarse)), coarse).astype(np.float32)

    return decode


def _mu_law() -> Samples:
    """ITU-T G.711 table 2."""
    code = ~np.arange(256, dtype=np.int32) & 0xFF
    magnitude = (((code & 0x0F) << 3) + 0x84 << ((code & 0x70) >> 4)) - 0x84
    return _unit(np.where(code & 0x80, -magnitude, magnitude))


def _a_law() -> Samples:
    """ITU-T G.711 table 1."""
    code = np.arange(256, dtype=np.int32) ^ 0x55
    exponent = (code & 0x70) >> 4
    mantissa = ((code & 0x0F) << 4) + 8
    magnitude = np.where(exponent == 0, mantissa, mantissa + 0x100 << np.maximum(exponent - 1, 0))
    return _unit(np.where(code & 0x80, magnitude, -magnitude))


def _unit(sixteen_bits: npt.NDArray[np.int32]) -> Samples:
    return (sixteen_bits / 32768.0).astype(np.float32)


DECODERS: dict[str, Callable[[], Callable[[bytes], Samples]]] = {
    "opus": _opus,
    "pcmu": lambda: _g711(_mu_law()),
    "pcma": lambda: _g711(_a_law()),
}
