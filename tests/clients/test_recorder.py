"""Recordings hold what was received, at the times it was received."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.audio.frame import AudioFrame
from av.video.frame import VideoFrame

from clients.recorder import FileRecorder
from clients.words import BAD_USAGE, CommandError


def _picture(index: int, size: tuple[int, int] = (320, 180)) -> VideoFrame:
    pixels = np.full((size[1], size[0], 3), index * 3 % 255, np.uint8)
    frame = VideoFrame.from_ndarray(pixels, format="bgr24")
    frame.pts, frame.time_base = index, Fraction(1, 90_000)
    return frame


def _sound() -> AudioFrame:
    frame = AudioFrame.from_ndarray(np.zeros((1, 1920), np.int16), format="s16", layout="stereo")
    frame.sample_rate = 48_000
    return frame


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm"])
def test_picture_and_sound_are_written(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"lesson{suffix}"
    recorder = FileRecorder(path)
    for index in range(50):
        recorder.add(5.0 + index * 0.04, _picture(index))
        recorder.add(5.0 + index * 0.04, _sound())
        recorder.add(5.02 + index * 0.04, _sound())
    recorder.close()
    assert recorder.failure is None
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    assert len(frames) == 50
    assert frames[-1].time is not None and frames[0].time is not None
    assert frames[-1].time - frames[0].time == pytest.approx(49 * 0.04, abs=0.05)
    with av.open(str(path)) as container:
        seconds = sum(f.samples / f.sample_rate for f in container.decode(audio=0))
    assert seconds == pytest.approx(2.0, abs=0.1)


def test_a_change_of_size_and_a_gap_do_not_break_it(tmp_path: Path) -> None:
    recorder = FileRecorder(tmp_path / "a.mkv")
    for index in range(10):
        recorder.add(index * 0.04, _picture(index))
        recorder.add(index * 0.04, _sound())
    for index in range(10):
        recorder.add(9.0 + index * 0.04, _picture(index, (640, 360)))
    recorder.close()
    assert recorder.failure is None
    with av.open(str(recorder.path)) as container:
        frames = list(container.decode(video=0))
    assert len(frames) == 20 and {(f.width, f.height) for f in frames} == {(320, 180)}


def test_picture_alone_is_recorded_too(tmp_path: Path) -> None:
    recorder = FileRecorder(tmp_path / "a.mp4")
    for index in range(5):
        recorder.add(index * 0.04, _picture(index))
    recorder.close()
    with av.open(str(recorder.path)) as container:
        assert len(list(container.decode(video=0))) == 5
        assert not container.streams.audio


def test_nothing_received_is_no_error(tmp_path: Path) -> None:
    recorder = FileRecorder(tmp_path / "a.mp4")
    recorder.close()
    assert recorder.failure is None


@pytest.mark.parametrize(("name", "code"), [("a.txt", BAD_USAGE), ("missing/a.mp4", 1)])
def test_a_file_that_cannot_be_is_refused_at_once(tmp_path: Path, name: str, code: int) -> None:
    with pytest.raises(CommandError) as caught:
        FileRecorder(tmp_path / name)
    assert caught.value.exit_code == code
