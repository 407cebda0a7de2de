"""Pictures into H.264 or VP8, one encoder per distinct picture, key frames on request.

Measured at 720p on one core, a lesson's picture: x264 superfast 4.0–4.5 ms a frame, ultrafast
5.1 ms (it spends in writing what it saves in searching), libvpx realtime at its fastest 7.5 ms.
So H.264 is the default: Constrained Baseline, which every WebRTC peer decodes (RFC 7742).
"""

from __future__ import annotations

from fractions import Fraction

import av
import av.error
from av.video.frame import PictureType

from . import packetize
from .control import Picture, VideoCodec

TIME_BASE = Fraction(1, 90_000)
KEYFRAME_EVERY_S = 10  # for recordings; receivers ask for theirs
KEYFRAME_INTERVAL_S = 0.4  # answers to requests are at least that far apart


class VideoEncoder:
    """One picture's encoder: frames in, RTP payloads out."""

    def __init__(self, codec: VideoCodec, picture: Picture) -> None:
        self.codec = codec
        self.picture = picture
        self.frames = 0
        self.keyframes = 0
        self._wanted = True
        self._last_keyframe_s = float("-inf")
        self._picture_id = 0
        self._last_pts = -1
        context = av.CodecContext.create("libx264" if codec == "h264" else "libvpx", "w")
        context.width = picture.width
        context.height = picture.height
        context.pix_fmt = "yuv420p"
        context.bit_rate = picture.kbps * 1000
        context.time_base = TIME_BASE
        context.framerate = Fraction(picture.fps, 1)
        context.gop_size = KEYFRAME_EVERY_S * picture.fps
        context.thread_count = 1  # the mixer's threads are the lessons
        context.options = _X264 | _rate(picture) if codec == "h264" else _VPX
        context.open()
        self._context = context

    def request_keyframe(self) -> None:
        """The next frame, or the first after `KEYFRAME_INTERVAL_S`, will be a key frame."""
        self._wanted = True

    def encode(self, frame: av.VideoFrame, media_s: float) -> list[bytes]:
        """The payloads of one frame; `media_s` on the lesson's clock, growing.

        The frame's memory may be drawn on again as soon as this returns: without lookahead and
        B-frames neither encoder keeps it.
        """
        pts = round(media_s / TIME_BASE)
        frame.pts = self._last_pts = max(pts, self._last_pts + 1)
        frame.time_base = TIME_BASE
        frame.pict_type = PictureType.NONE
        if self._wanted and media_s - self._last_keyframe_s >= KEYFRAME_INTERVAL_S:
            frame.pict_type = PictureType.I
        payloads: list[bytes] = []
        for packet in self._context.encode(frame):
            self.frames += 1
            if packet.is_keyframe:
                self.keyframes += 1
                self._wanted = False
                self._last_keyframe_s = media_s
            data = bytes(packet)
            if self.codec == "h264":
                payloads += packetize.h264(data)
            else:
                payloads += packetize.vp8(data, self._picture_id)
                self._picture_id = (self._picture_id + 1) & 0x7FFF
        return payloads


_X264 = {
    "preset": "superfast",
    "tune": "zerolatency",
    "profile": "baseline",
    "forced-idr": "1",
    "x264-params": "scenecut=0:repeat-headers=1:sliced-threads=0:aud=0",
}
_VPX = {
    "deadline": "realtime",
    "cpu-used": "8",
    "lag-in-frames": "0",
    "error-resilient": "1",
    "static-thresh": "100",
    "auto-alt-ref": "0",
}


def _rate(picture: Picture) -> dict[str, str]:
    """Half a second of buffer: a key frame may be large, but must not delay what follows."""
    return {"maxrate": str(picture.kbps * 1000), "bufsize": str(picture.kbps * 500)}
