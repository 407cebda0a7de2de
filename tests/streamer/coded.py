"""Pictures and sound as a publisher codes them, and their RTP packets: what the recorder is fed.

Coded by PyAV's encoders, packetized here by hand, so that the depacketizers are checked against
what they did not help to make.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from functools import cache
from typing import Any, NamedTuple

import av
import numpy as np

from streamer.control import PipedTrack
from streamer.rtp import Packet

MTU_BYTES = 1100
FPS = 25
PAYLOAD_TYPES = {"opus": 111, "vp8": 96, "h264": 102, "vp9": 98, "av1": 45}
ENCODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9", "h264": "libx264", "av1": "libsvtav1"}
OPTIONS = {
    "vp8": {"deadline": "realtime", "lag-in-frames": "0", "cpu-used": "8"},
    "vp9": {"deadline": "realtime", "lag-in-frames": "0", "cpu-used": "8"},
    "h264": {"tune": "zerolatency", "preset": "ultrafast", "profile": "baseline"},
    "av1": {"preset": "10", "svtav1-params": "pred-struct=1:rc=2:lp=1"},
}


class Coded(NamedTuple):
    data: bytes
    keyframe: bool


def track(codec: str, *, answers_pli: bool = True) -> PipedTrack:
    """The announcement of a track on a pipe."""
    sound = codec == "opus"
    return PipedTrack(
        kind="audio" if sound else "video",
        codec=codec,
        clock_rate=48_000 if sound else 90_000,
        channels=2 if sound else 1,
        payload_type=PAYLOAD_TYPES[codec],
        answers_pli=answers_pli,
    )


@cache
def pictures(
    codec: str,
    count: int = 50,
    width: int = 160,
    height: int = 96,
    keyframe_every: int = 25,
    flash_at: tuple[int, ...] = (),
) -> tuple[Coded, ...]:
    """`count` moving pictures; those in `flash_at` are white, in an otherwise dark film."""
    context: Any = av.CodecContext.create(ENCODERS[codec], "w")
    context.width, context.height, context.pix_fmt = width, height, "yuv420p"
    context.time_base = Fraction(1, FPS)
    context.framerate = FPS
    context.bit_rate = 300_000
    context.gop_size = keyframe_every
    context.options = OPTIONS[codec]
    coded: list[Coded] = []
    noise = np.random.default_rng(7).integers(0, 60, (height, width), dtype=np.uint8)
    for number in range(count):
        planes = np.full((height * 3 // 2, width), 128, np.uint8)
        planes[:height] = 235 if number in flash_at else np.roll(noise, number, axis=1)
        frame = av.VideoFrame.from_ndarray(planes, "yuv420p")
        frame.pts = number
        if number % keyframe_every == 0:
            frame.pict_type = av.video.frame.PictureType.I
        coded += [Coded(bytes(p), p.is_keyframe) for p in context.encode(frame)]
    coded += [Coded(bytes(p), p.is_keyframe) for p in context.encode(None)]
    assert len(coded) == count
    return tuple(coded)


@cache
def sound(count: int = 100, beep_at: tuple[int, ...] = ()) -> tuple[bytes, ...]:
    """`count` Opus packets of 20 ms: a quiet hum, loud where `beep_at` says (packet numbers)."""
    context: Any = av.CodecContext.create("libopus", "w")
    context.sample_rate, context.layout, context.format = 48_000, "stereo", "s16"
    context.options = {"application": "lowdelay"}
    packets: list[bytes] = []
    for number in range(count):
        t = (np.arange(960) + number * 960) / 48_000
        level = 20_000 if number in beep_at else 10
        samples = (np.sin(2 * np.pi * 1000 * t) * level).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(np.repeat(samples, 2)[None, :], "s16", "stereo")
        frame.sample_rate, frame.pts = 48_000, number * 960
        packets += [bytes(p) for p in context.encode(frame)]
    return tuple(packets)


# --- RTP ---------------------------------------------------------------------------------------


def payloads(codec: str, frame: bytes, size: int = MTU_BYTES) -> list[bytes]:
    """One frame's RTP payloads."""
    if codec == "vp8":
        return [
            bytes((0x90 if at == 0 else 0x80, 0x80, 0x80 | 1, 7)) + frame[at : at + size]
            for at in range(0, len(frame), size)
        ]
    if codec == "vp9":
        parts = range(0, len(frame), size)
        return [
            bytes((0x80 | (0x08 if at == 0 else 0) | (0x04 if at + size >= len(frame) else 0), 5))
            + frame[at : at + size]
            for at in parts
        ]
    if codec == "h264":
        return _h264(frame, size)
    if codec == "av1":
        return _av1(frame, size)
    return [frame]


def annex_b_units(frame: bytes) -> list[bytes]:
    return [u for u in frame.replace(b"\0\0\0\1", b"\0\0\1").split(b"\0\0\1") if u]


def _h264(frame: bytes, size: int) -> list[bytes]:
    """Parameter sets together in a STAP-A, slices alone or in FU-A."""
    out: list[bytes] = []
    small: list[bytes] = []
    for unit in annex_b_units(frame):
        if unit[0] & 0x1F in (6, 7, 8) and len(unit) < 300:
            small.append(unit)
            continue
        if small:
            out.append(b"\x78" + b"".join(len(u).to_bytes(2, "big") + u for u in small))
            small = []
        if len(unit) <= size:
            out.append(unit)
            continue
        body = unit[1:]
        for at in range(0, len(body), size):
            flags = (0x80 if at == 0 else 0) | (0x40 if at + size >= len(body) else 0)
            head = bytes((unit[0] & 0xE0 | 28, flags | unit[0] & 0x1F))
            out.append(head + body[at : at + size])
    return out


def av1_obus(frame: bytes) -> list[bytes]:
    """The OBUs of a temporal unit, their size taken out, delimiters left out."""
    out: list[bytes] = []
    at = 0
    while at < len(frame):
        header = frame[at]
        head = 2 if header & 4 else 1
        size = shift = 0
        end = at + head
        while True:
            byte = frame[end]
            size |= (byte & 0x7F) << shift
            shift += 7
            end += 1
            if not byte & 0x80:
                break
        if header >> 3 & 15 != 2:
            out.append(bytes((header & ~2,)) + frame[at + 1 : at + head] + frame[end : end + size])
        at = end + size
    return out


def _leb128(value: int) -> bytes:
    out = b""
    while value > 127:
        out += bytes((value & 127 | 128,))
        value >>= 7
    return out + bytes((value,))


def _av1(frame: bytes, size: int) -> list[bytes]:
    """Small OBUs with a length each in one packet; what is larger runs on over several."""
    obus = av1_obus(frame)
    keyframe = any(obu[0] >> 3 & 15 == 1 for obu in obus)
    out: list[bytes] = []
    for number, obu in enumerate(obus):
        parts = [obu[at : at + size] for at in range(0, len(obu), size)]
        for index, part in enumerate(parts):
            flags = (0x80 if index else 0) | (0x40 if index < len(parts) - 1 else 0)
            if keyframe and number == 0 and index == 0:
                flags |= 0x08
            # By turns with a counted number of elements and with lengths.
            out.append(
                bytes((flags | 0x10,)) + part
                if index % 2
                else bytes((flags,)) + _leb128(len(part)) + part
            )
    return out


class Sender:
    """Numbers one track's packets: sequence from close to its wrap, timestamps too."""

    def __init__(self, codec: str, index: int, *, seq: int = 65_500, timestamp: int = 2**32 - 9000):
        self.codec, self.index, self.seq, self.start = codec, index, seq, timestamp
        self.rate = 48_000 if codec == "opus" else 90_000

    def timestamp(self, at_s: float) -> int:
        return (self.start + round(at_s * self.rate)) & 0xFFFFFFFF

    def frame(self, data: bytes, at_s: float, arrival: float) -> list[Packet]:
        parts = payloads(self.codec, data)
        packets: list[Packet] = []
        for number, payload in enumerate(parts):
            packets.append(
                Packet(
                    PAYLOAD_TYPES[self.codec],
                    self.codec == "opus" or number == len(parts) - 1,
                    self.seq,
                    self.timestamp(at_s),
                    self.index,
                    payload,
                    (),
                    arrival,
                )
            )
            self.seq = (self.seq + 1) & 0xFFFF
        return packets


def film(
    codec: str,
    frames: Sequence[Coded],
    index: int,
    start_s: float = 0.0,
    sender: Sender | None = None,
) -> Iterator[tuple[float, list[Packet]]]:
    """(when it arrives, packets) of each frame."""
    sender = sender or Sender(codec, index)
    for number, frame in enumerate(frames):
        at_s = start_s + number / FPS
        yield at_s, sender.frame(frame.data, at_s, at_s)


def talk(
    packets: Sequence[bytes], index: int, start_s: float = 0.0, sender: Sender | None = None
) -> Iterator[tuple[float, list[Packet]]]:
    sender = sender or Sender("opus", index)
    for number, data in enumerate(packets):
        at_s = start_s + number * 0.020
        yield at_s, sender.frame(data, at_s, at_s)
