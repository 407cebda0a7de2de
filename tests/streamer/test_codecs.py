"""Key-frame detection on payloads made by real encoders (PyAV) and by hand, and on any bytes."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest
from aiortc.codecs.h264 import H264Encoder
from aiortc.codecs.vpx import Vp8Encoder
from hypothesis import given
from hypothesis import strategies as st

from streamer.codecs import KEYFRAME_TESTS


def frames(count: int) -> list[av.VideoFrame]:
    made = []
    for index in range(count):
        picture = np.full((120, 160, 3), index * 20, dtype=np.uint8)
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv420p")
        frame.pts = index * 3000
        frame.time_base = Fraction(1, 90000)
        made.append(frame)
    return made


@pytest.mark.parametrize(("codec", "encoder"), [("vp8", Vp8Encoder), ("h264", H264Encoder)])
def test_only_the_first_packet_of_a_forced_key_frame_starts_one(codec: str, encoder: type) -> None:
    instance = encoder()
    starts = []
    for index, frame in enumerate(frames(6)):
        payloads, _timestamp = instance.encode(frame, force_keyframe=index in (0, 4))
        starts.append(any(KEYFRAME_TESTS[codec](payload) for payload in payloads))
    assert starts == [True, False, False, False, True, False]


@pytest.mark.parametrize(
    ("codec", "payload", "expected"),
    [
        ("vp8", bytes([0x10, 0x00]), True),
        ("vp8", bytes([0x10, 0x01]), False),
        ("vp8", bytes([0x00, 0x00]), False),  # continuation of a partition
        ("vp8", bytes([0x90, 0xE0, 0x81, 0x02, 0x03, 0x04, 0x00]), True),
        ("vp8", bytes([0x90, 0xE0, 0x81, 0x02, 0x03, 0x04, 0x01]), False),
        ("vp9", bytes([0x8C, 0x81, 0x02, 0x00]), True),
        ("vp9", bytes([0xCC, 0x81, 0x02, 0x00]), False),  # inter-predicted
        ("vp9", bytes([0x84, 0x81, 0x02, 0x00]), False),  # not the start of a frame
        ("vp9", bytes([0xAC, 0x01, 0x02, 0x00]), False),  # spatial layer 1
        ("h264", bytes([0x67, 0x42]), True),
        ("h264", bytes([0x65, 0x88]), True),
        ("h264", bytes([0x7C, 0x85]), True),  # FU-A, start, IDR
        ("h264", bytes([0x7C, 0x05]), False),  # FU-A, middle
        ("h264", bytes([0x78, 0, 2, 0x67, 0x42, 0, 2, 0x68, 0xCE]), True),
        ("h264", bytes([0x61, 0x88]), False),
        ("av1", bytes([0x18, 0x0A]), True),
        ("av1", bytes([0x10, 0x32]), False),
        ("av1", bytes([0x98, 0x0A]), False),  # continues an OBU of the packet before
    ],
)
def test_payload_headers_are_read_as_their_specification_says(
    codec: str, payload: bytes, expected: bool
) -> None:
    assert KEYFRAME_TESTS[codec](payload) is expected


@given(st.sampled_from(sorted(KEYFRAME_TESTS)), st.binary(max_size=64))
def test_no_bytes_raise(codec: str, payload: bytes) -> None:
    assert KEYFRAME_TESTS[codec](payload) in (True, False)
