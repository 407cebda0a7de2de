"""One sender's video: coded frames in, pictures out; says when a key frame is needed.

Whatever comes, nothing here raises or waits: what cannot be decoded is counted, and the last good
picture stays. When the processor is short, key frames alone are decoded and asked for slowly.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

import av
import av.error
import cv2
import numpy as np
import numpy.typing as npt
from av.video.codeccontext import VideoCodecContext
from av.video.plane import VideoPlane

from streamer.rtp import VIDEO_ORIENTATION, Packet

from .control import PipedTrack
from .depacketize import DEPACKETIZERS, KEYFRAME_TESTS
from .errors import MediaError
from .reorder import CodedFrame, Reorder

Plane = npt.NDArray[np.uint8]

KEYFRAME_RETRY_S = 1.0
SLOW_KEYFRAME_S = 3.0  # how often one is asked for when only key frames are decoded
MAX_PIXELS = 4096 * 2304
MAX_WAITING = 8  # decoded pictures not yet due
DECODERS = {"vp8": "vp8", "vp9": "vp9", "h264": "h264"}
_TURNS = {1: cv2.ROTATE_90_CLOCKWISE, 2: cv2.ROTATE_180, 3: cv2.ROTATE_90_COUNTERCLOCKWISE}


class Image(NamedTuple):
    """A decoded picture: its three planes, which live as long as this does, upright."""

    y: Plane
    u: Plane
    v: Plane

    @property
    def width(self) -> int:
        return int(self.y.shape[1])

    @property
    def height(self) -> int:
        return int(self.y.shape[0])


class DecodedFrame(NamedTuple):
    image: Image
    timestamp: int
    arrival: float


def plane_pixels(plane: VideoPlane) -> Plane:
    """The pixels of a frame's plane, in place."""
    pixels: Plane = np.frombuffer(memoryview(plane), np.uint8)
    return pixels.reshape(-1, plane.line_size)[: plane.height, : plane.width]


def check_codec(track: PipedTrack) -> None:
    """Refuse a codec that the mixer cannot decode in time."""
    if track.codec not in DECODERS:
        accepted = ", ".join(sorted(DECODERS))
        raise MediaError(f"video codec {track.codec!r} cannot be mixed: {accepted} can")


class VideoInput:
    """Reorders, depacketizes and decodes one video track."""

    def __init__(self, track: PipedTrack) -> None:
        check_codec(track)
        self.codec = track.codec
        self.keyframes_only = False
        self.decoded = 0
        self.failed = 0
        self.keyframe_requests = 0
        self.asked_in_vain = 0  # requests since the last good picture
        self.last_decoded = 0.0
        self.last_packet = 0.0
        self.answers_pli = track.answers_pli
        self._reorder = Reorder()
        self._depacketize = DEPACKETIZERS[track.codec]
        self._is_keyframe = KEYFRAME_TESTS[track.codec]
        self._needs_keyframe = True
        self._asked = float("-inf")
        self._turn = 0
        self._ssrc: int | None = None
        self._context = self._new_decoder()

    def _new_decoder(self) -> VideoCodecContext:
        context = av.CodecContext.create(DECODERS[self.codec], "r")
        assert isinstance(context, VideoCodecContext)
        context.thread_count = 1  # frame threads would hold pictures back
        context.options = {"flags": "low_delay"}
        return context

    def receive(self, packets: list[Packet], now: float) -> list[DecodedFrame]:
        """Packets came; the pictures that they make."""
        pictures: list[DecodedFrame] = []
        for packet in packets:
            self.last_packet = packet.arrival
            if packet.ssrc != self._ssrc:
                self._begin(packet.ssrc)
            for uri, data in packet.extensions:
                if uri == VIDEO_ORIENTATION and data:
                    self._turn = data[0] & 0x03
            for coded in self._reorder.put(packet, packet.arrival):
                pictures += self._decode(coded)
        for coded in self._reorder.late(now):
            pictures += self._decode(coded)
        return pictures

    def _begin(self, ssrc: int) -> None:
        """Another stream takes over: nothing of the old one's order or pictures carries on."""
        if self._ssrc is not None:
            self._reorder = Reorder()
            self._lose()
        self._ssrc = ssrc

    def wants_keyframe(self, now: float) -> bool:
        """Whether to send a key-frame request now."""
        if not self.answers_pli:
            return False
        if self._needs_keyframe:
            wait_s = SLOW_KEYFRAME_S if self.keyframes_only else KEYFRAME_RETRY_S
        elif self.keyframes_only:
            wait_s = SLOW_KEYFRAME_S
        else:
            return False
        if now - self._asked < wait_s:
            return False
        self._asked = now
        self.keyframe_requests += 1
        self.asked_in_vain += not self.keyframes_only
        return True

    def _decode(self, coded: CodedFrame) -> list[DecodedFrame]:
        if coded.broken or not coded.complete:
            self._lose()
        if not coded.complete:
            return []
        first = coded.packets[0]
        try:
            data = self._depacketize([packet.payload for packet in coded.packets])
        except MediaError:
            self.failed += 1
            self._lose()
            return []
        keyframe = self._is_keyframe(data)
        if self._needs_keyframe and not keyframe:
            return []
        if self.keyframes_only and not keyframe:
            self._needs_keyframe = True  # what follows depends on what is left out
            return []
        try:
            frames = self._context.decode(av.Packet(data))
        except av.error.FFmpegError:
            self.failed += 1
            self._lose()
            return []
        if keyframe and frames:
            self._needs_keyframe = False
        images = [image for frame in frames if (image := self._image(frame)) is not None]
        if images:
            self.decoded += len(images)
            self.asked_in_vain = 0
            self.last_decoded = first.arrival
        arrival = coded.packets[-1].arrival
        return [DecodedFrame(image, first.timestamp, arrival) for image in images]

    def _lose(self) -> None:
        if not self._needs_keyframe:
            self._needs_keyframe = True
            self._context = self._new_decoder()

    def _image(self, frame: av.VideoFrame) -> Image | None:
        if frame.width * frame.height > MAX_PIXELS or frame.width < 2 or frame.height < 2:
            self.failed += 1
            return None
        if frame.format.name not in ("yuv420p", "yuvj420p"):
            frame = frame.reformat(format="yuv420p")
        planes = [plane_pixels(plane) for plane in frame.planes[:3]]
        turn = _TURNS.get(self._turn)
        if turn is not None:
            planes = [np.asarray(cv2.rotate(plane, turn), np.uint8) for plane in planes]
        return Image(*planes)


class Pending:
    """Decoded pictures in wait for the instant at which they go with the sound."""

    __slots__ = ("_queue",)

    def __init__(self) -> None:
        self._queue: deque[tuple[float, Image, float]] = deque(maxlen=MAX_WAITING)

    def put(self, image: Image, due: float, arrival: float) -> None:
        self._queue.append((due, image, arrival))

    def take(self, now: float) -> tuple[Image, float] | None:
        """The newest picture that has become due since the last call, and when it came."""
        taken = None
        while self._queue and self._queue[0][0] <= now:
            _due, image, arrival = self._queue.popleft()
            taken = image, arrival
        return taken
