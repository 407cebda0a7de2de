"""The reference lesson: packets shaped like VP8 and Opus that carry the time they were sent.

Video of 2 Mbit/s in 30 frames a second of 7 or 8 packets, a key frame every two seconds or on
request; sound of 50 packets a second. Nothing in it can be decoded as a picture: what matters to a
forwarding server (sizes, rhythm, payload descriptors, key-frame bits) is right.
"""

from __future__ import annotations

import os
import random
import struct

# Behind the payload descriptor and the frame header of VP8, at the same place in every payload.
STAMP_OFFSET = 16
_STAMP = struct.Struct("!4sQ")
_MARK = b"tkld"
STAMP_END = STAMP_OFFSET + _STAMP.size

MAX_PAYLOAD_BYTES = 1150
FRAME_SPREAD = 0.08  # encoders miss their target by about so much: 7 packets in some, 8 in most
AUDIO_PAYLOAD_BYTES = 120
OPUS_TOC = 0xFC  # RFC 6716 section 3.1: CELT full band, 20 ms, stereo, one frame
WIDTH_PX, HEIGHT_PX = 640, 360


def stamp(payload: bytearray, monotonic_ns: int) -> None:
    """Write the moment of sending into a payload of the lesson."""
    _STAMP.pack_into(payload, STAMP_OFFSET, _MARK, monotonic_ns)


def read_stamp(data: bytes | bytearray | memoryview, payload_offset: int, end: int) -> int | None:
    """The nanoseconds of CLOCK_MONOTONIC in a payload, or None in one that is not the lesson's."""
    if end - payload_offset < STAMP_END:
        return None
    mark, monotonic_ns = _STAMP.unpack_from(data, payload_offset + STAMP_OFFSET)
    return int(monotonic_ns) if mark == _MARK else None


class ReferenceLesson:
    """Makes the payloads of one frame after another; decides which frames are key frames."""

    def __init__(
        self,
        *,
        video_bps: int = 2_000_000,
        frames_per_s: int = 30,
        keyframe_every_s: float = 2.0,
        rng: random.Random | None = None,
    ) -> None:
        self.frames_per_s = frames_per_s
        self.keyframes = 0
        self._frame_bytes = video_bps / frames_per_s / 8
        self._keyframe_every = max(1, round(keyframe_every_s * frames_per_s))
        self._since_keyframe = self._keyframe_every
        self._picture_id = 0
        self._rng = rng or random.Random()
        self._noise = os.urandom(MAX_PAYLOAD_BYTES)

    def request_keyframe(self) -> None:
        """The next frame is a key frame."""
        self._since_keyframe = self._keyframe_every

    def video_frame(self) -> list[bytearray]:
        """The payloads of the next frame, to be stamped and sent in order."""
        is_key = self._since_keyframe >= self._keyframe_every
        self._since_keyframe = 1 if is_key else self._since_keyframe + 1
        self.keyframes += is_key
        self._picture_id = (self._picture_id + 1) & 0x7FFF
        size = int(self._frame_bytes * self._rng.uniform(1 - FRAME_SPREAD, 1 + FRAME_SPREAD))
        count = max(1, -(-size // MAX_PAYLOAD_BYTES))
        # As libwebrtc cuts a frame: parts that differ by at most a byte.
        short, longer = divmod(size, count)
        payloads = []
        for index in range(count):
            payload = bytearray(self._noise[: max(STAMP_END, short + (index < longer))])
            self._describe(payload, first=index == 0, is_key=is_key, size=size)
            payloads.append(payload)
        return payloads

    def audio_packet(self) -> bytearray:
        payload = bytearray(self._noise[:AUDIO_PAYLOAD_BYTES])
        payload[0] = OPUS_TOC
        return payload

    def _describe(self, payload: bytearray, *, first: bool, is_key: bool, size: int) -> None:
        """Payload descriptor (RFC 7741 4.2) and, in the first, the frame header (RFC 6386 9.1)."""
        payload[0] = 0x80 | (0x10 if first else 0)  # X, S; partition 0
        payload[1] = 0x80  # I: a picture id follows, of 15 bits
        payload[2] = 0x80 | self._picture_id >> 8
        payload[3] = self._picture_id & 0xFF
        if not first:
            return
        partition_bytes = min(size // 2, 0x7FFFF)
        tag = partition_bytes << 5 | 0x10 | (0 if is_key else 1)  # show_frame; P: 0 in a key frame
        payload[4:7] = tag.to_bytes(3, "little")
        if is_key:
            payload[7:10] = b"\x9d\x01\x2a"
            payload[10:14] = struct.pack("<HH", WIDTH_PX, HEIGHT_PX)
