"""Encoders for what the command line publishes: real-time settings, a bitrate that we choose.

They keep aiortc's packetisation and replace its rate control, which knows neither the size of a
blackboard nor our `--kbps`, and which makes a new encoder (a key frame) at every small change.
"""

from __future__ import annotations

import fractions
import time
from collections.abc import Callable

import av
from aiortc.codecs.h264 import H264Encoder
from aiortc.codecs.opus import OpusEncoder
from aiortc.codecs.vpx import Vp8Encoder
from aiortc.mediastreams import VIDEO_TIME_BASE, convert_timebase
from av.frame import Frame
from av.packet import Packet
from av.stream import Stream
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType, VideoFrame

LOWEST_SHARE = 0.15  # of the wanted bitrate: below this a picture is not worth sending
WORTH_LOWERING = 0.75  # a new encoder costs a key frame, so small changes are ignored
WORTH_RAISING = 1.5
SETTLE_S = 5.0
KEYFRAME_INTERVAL_S = 10  # for recorders; receivers ask when they need one


class BitrateGovernor:
    """Turns the receiver's bandwidth estimates (REMB) into few, worthwhile changes."""

    def __init__(self, wanted_bps: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.wanted_bps = wanted_bps
        self.current_bps = wanted_bps
        self._clock = clock
        self._changed_at_s = clock()

    def estimate(self, bps: int) -> bool:
        """Take an estimate; True when the encoder should follow it now."""
        floor_bps = int(self.wanted_bps * LOWEST_SHARE)
        target_bps = max(floor_bps, min(bps, self.wanted_bps))
        now_s = self._clock()
        if now_s - self._changed_at_s < SETTLE_S:
            return False
        ratio = target_bps / self.current_bps
        back_to_full = target_bps == self.wanted_bps != self.current_bps
        if ratio > WORTH_LOWERING and ratio < WORTH_RAISING and not back_to_full:
            return False
        if target_bps == self.current_bps:
            return False
        self.current_bps = target_bps
        self._changed_at_s = now_s
        return True


class _LiveVideoEncoder:
    """What VP8 and H.264 share: when to make a new codec context, how to feed it."""

    pack: Callable[[Packet[Stream]], tuple[list[bytes], int]]

    def _begin(self, kbps: int, fps: float) -> None:
        self._governor = BitrateGovernor(kbps * 1000)
        self._fps = fps
        self._context: VideoCodecContext | None = None

    def encode(self, frame: Frame, force_keyframe: bool = False) -> tuple[list[bytes], int]:
        assert isinstance(frame, VideoFrame)
        if frame.format.name != "yuv420p":
            frame = frame.reformat(format="yuv420p")
        size = (frame.width, frame.height)
        context = self._context
        if context is None or (context.width, context.height) != size:
            context = self._context = self._new_context(*size)
        frame.pict_type = PictureType.I if force_keyframe else PictureType.NONE
        assert frame.pts is not None and frame.time_base is not None
        frame.pts = convert_timebase(frame.pts, frame.time_base, VIDEO_TIME_BASE)
        frame.time_base = VIDEO_TIME_BASE
        payloads: list[bytes] = []
        for packet in context.encode(frame):
            payloads += self.pack(packet)[0]
        return payloads, frame.pts

    def _new_context(self, width: int, height: int) -> VideoCodecContext:
        raise NotImplementedError

    def _common(self, name: str, width: int, height: int) -> VideoCodecContext:
        context = av.CodecContext.create(name, "w")
        assert isinstance(context, VideoCodecContext)
        context.width = width
        context.height = height
        context.pix_fmt = "yuv420p"
        context.bit_rate = self._governor.current_bps
        context.time_base = VIDEO_TIME_BASE
        context.framerate = fractions.Fraction(self._fps).limit_denominator(1001)
        context.gop_size = max(1, round(self._fps * KEYFRAME_INTERVAL_S))
        return context

    @property
    def target_bitrate(self) -> int:
        return self._governor.current_bps

    @target_bitrate.setter
    def target_bitrate(self, bps: int) -> None:
        if self._governor.estimate(bps):
            self._context = None


class Vp8LiveEncoder(_LiveVideoEncoder, Vp8Encoder):
    """libvpx in real-time mode."""

    def __init__(self, kbps: int, fps: float) -> None:
        self._begin(kbps, fps)
        Vp8Encoder.__init__(self)

    def _new_context(self, width: int, height: int) -> VideoCodecContext:
        context = self._common("libvpx", width, height)
        rate = str(self._governor.current_bps)
        context.qmin = 2
        context.qmax = 54
        context.options = {
            "deadline": "realtime",
            "cpu-used": "8",
            "lag-in-frames": "0",
            "minrate": rate,  # minrate = maxrate = bit rate: constant bitrate
            "maxrate": rate,
            "bufsize": rate,
            "overshoot-pct": "15",
            "undershoot-pct": "100",
            "static-thresh": "100",  # a blackboard stands still: skip what did not change
            "error-resilient": "default",
        }
        context.thread_count = 2 if width * height >= 1280 * 720 else 1
        return context


class H264LiveEncoder(_LiveVideoEncoder, H264Encoder):
    """x264 without look-ahead, Constrained Baseline: what every browser takes."""

    def __init__(self, kbps: int, fps: float) -> None:
        self._begin(kbps, fps)
        H264Encoder.__init__(self)

    def _new_context(self, width: int, height: int) -> VideoCodecContext:
        context = self._common("libx264", width, height)
        rate_bps = self._governor.current_bps
        context.options = {
            "preset": "superfast",
            "tune": "zerolatency",
            "forced-idr": "1",  # a requested key frame must be one that a joiner can start from
            "maxrate": str(rate_bps),
            "bufsize": str(rate_bps // 2),
        }
        context.profile = "Baseline"
        context.thread_count = 2 if width * height >= 1280 * 720 else 1
        return context


class OpusLiveEncoder(OpusEncoder):
    """aiortc's Opus encoder at our bitrate."""

    def __init__(self, kbps: int) -> None:
        super().__init__()
        self.codec.bit_rate = kbps * 1000
