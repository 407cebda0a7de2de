"""Live encoders: real key frames on request, a bitrate near the one asked for, few changes."""

from __future__ import annotations

import numpy as np
import pytest
from aiortc.mediastreams import VIDEO_TIME_BASE
from av.video.frame import VideoFrame

from clients.encoders import SETTLE_S, BitrateGovernor, H264LiveEncoder, Vp8LiveEncoder
from streamer.codecs import h264_starts_keyframe, vp8_starts_keyframe

FPS = 25


def _frames(count: int) -> list[VideoFrame]:
    rng = np.random.default_rng(1)
    noise = rng.integers(0, 255, (180 + count, 320 + count, 3), dtype=np.uint8)
    frames = []
    for index in range(count):
        picture = np.ascontiguousarray(noise[index : index + 180, index : index + 320])
        frame = VideoFrame.from_ndarray(picture, format="bgr24")
        frame.pts = index * 90_000 // FPS
        frame.time_base = VIDEO_TIME_BASE
        frames.append(frame)
    return frames


@pytest.mark.parametrize(
    ("encoder", "starts_keyframe"),
    [
        (Vp8LiveEncoder(600, FPS), vp8_starts_keyframe),
        (H264LiveEncoder(600, FPS), h264_starts_keyframe),
    ],
    ids=["vp8", "h264"],
)
def test_a_key_frame_comes_first_and_when_asked_for(encoder, starts_keyframe) -> None:  # type: ignore[no-untyped-def]
    keys = []
    for index, frame in enumerate(_frames(30)):
        payloads, timestamp = encoder.encode(frame, force_keyframe=index == 20)
        assert timestamp == index * 90_000 // FPS
        assert payloads and all(len(payload) <= 1300 for payload in payloads)
        if starts_keyframe(payloads[0]):
            keys.append(index)
    assert keys == [0, 20]


@pytest.mark.parametrize("make", [Vp8LiveEncoder, H264LiveEncoder])
def test_the_bitrate_is_near_the_one_asked_for(make: type[Vp8LiveEncoder]) -> None:
    encoder = make(800, FPS)
    frames = _frames(75)
    total = sum(len(payload) for frame in frames for payload in encoder.encode(frame)[0])
    kbps = total * 8 / 1000 / (len(frames) / FPS)
    assert 500 < kbps < 1300


def test_small_changes_of_the_estimate_change_nothing() -> None:
    now = [0.0]
    governor = BitrateGovernor(1_000_000, clock=lambda: now[0])
    now[0] = 100.0
    assert not governor.estimate(2_000_000)
    assert not governor.estimate(900_000)
    assert governor.estimate(500_000) and governor.current_bps == 500_000
    assert not governor.estimate(100_000), "one change needs time to show"
    now[0] += SETTLE_S
    assert governor.estimate(1_000)
    assert governor.current_bps == 150_000, "never below a share of what was asked for"
    now[0] += SETTLE_S
    assert governor.estimate(5_000_000) and governor.current_bps == 1_000_000
