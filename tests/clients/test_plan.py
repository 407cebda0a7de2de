"""What is sent as it is, what is encoded, and that the reason is given."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clients.examine import PacketTimes, is_reordered, keyframe_gap_s, kind_of
from clients.plan import AudioFacts, CodecChoice, VideoFacts, fitted, plan_audio, plan_video

GOOD = VideoFacts(
    codec="h264", width=1280, height=720, fps=25.0, pixel_format="yuv420p", keyframe_gap_s=2.0
)


def test_h264_with_frequent_key_frames_goes_out_as_it_is() -> None:
    plan = plan_video(GOOD)
    assert plan.passthrough and plan.codec == "h264" and plan.reason == ""


def test_vp8_goes_out_as_it_is() -> None:
    assert plan_video(replace(GOOD, codec="vp8")).codec == "vp8"
    assert plan_video(replace(GOOD, codec="vp8")).passthrough


@pytest.mark.parametrize(
    ("facts", "choice", "codec", "word"),
    [
        (replace(GOOD, codec="hevc"), "auto", "vp8", "hevc"),
        (replace(GOOD, codec="mpeg4"), "h264", "h264", "mpeg4"),
        (replace(GOOD, reordered=True), "auto", "vp8", "B-frames"),
        (replace(GOOD, keyframe_gap_s=5.28), "auto", "vp8", "5.3 s apart"),
        (replace(GOOD, keyframe_gap_s=float("inf")), "auto", "vp8", "apart"),
        (replace(GOOD, pixel_format="yuv420p10le"), "auto", "vp8", "yuv420p10le"),
        (replace(GOOD, pixel_format="yuv444p"), "auto", "vp8", "yuv444p"),
        (replace(GOOD, has_timestamps=False), "auto", "vp8", "timestamps"),
        (replace(GOOD, width=3840, height=2160), "auto", "vp8", "too large"),
        (GOOD, "vp8", "vp8", "asked for"),
    ],
)
def test_what_a_browser_could_not_take_is_encoded_and_the_reason_given(
    facts: VideoFacts, choice: CodecChoice, codec: str, word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LC_ALL", "C")
    plan = plan_video(facts, choice)
    assert not plan.passthrough
    assert plan.codec == codec
    assert word in plan.reason


def test_an_unknown_key_frame_distance_does_not_force_encoding() -> None:
    assert plan_video(replace(GOOD, keyframe_gap_s=None)).passthrough


def test_only_opus_is_sent_as_it_is() -> None:
    assert plan_audio(AudioFacts("opus")).passthrough
    assert not plan_audio(AudioFacts("aac")).passthrough


@given(width=st.integers(1, 10_000), height=st.integers(1, 10_000))
def test_an_encoded_picture_is_even_and_fits(width: int, height: int) -> None:
    w, h = fitted(width, height)
    assert w % 2 == h % 2 == 0
    assert 2 <= w <= 1280 and 2 <= h <= 720


def test_the_key_frame_distance_counts_the_stretch_after_the_last_one() -> None:
    times = [PacketTimes(t / 10, t in (0, 20)) for t in range(101)]
    assert keyframe_gap_s(times) == pytest.approx(8.0)


def test_a_stream_without_key_frames_never_starts() -> None:
    assert keyframe_gap_s([PacketTimes(0.0, False), PacketTimes(0.1, False)]) == float("inf")
    assert keyframe_gap_s([]) is None


def test_reordering_is_seen_in_the_timestamps() -> None:
    assert not is_reordered(PacketTimes(t, True) for t in (0.0, 0.1, 0.2))
    assert is_reordered(PacketTimes(t, True) for t in (0.0, 0.3, 0.1))


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("test:", "test"),
        ("test:teacher", "test"),
        ("rtsp://camera/1", "rtsp"),
        ("/dev/video0", "device"),
        ("/dev/video0/../x.mp4", "file"),
        ("lesson.mp4", "file"),
    ],
)
def test_a_source_is_told_by_its_name(source: str, kind: str) -> None:
    assert kind_of(source) == kind
