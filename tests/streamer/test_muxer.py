"""Files as players find them: whole, cut off in the middle, and left behind by a full disk."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest

from streamer.muxer import Note, SegmentFile, read_note
from streamer.recorder import Begin, End, Recorder
from tests.streamer import coded, recorded
from tests.streamer.coded import Sender, film, pictures, sound, talk, track
from tests.streamer.test_recorder import report

CODECS = ("vp8", "vp9", "h264", "av1")


def write(folder: Path, codec: str, seconds: int = 4, cut_at_s: float | None = None) -> Path:
    """A film with sound, flushed every second; `cut_at_s` takes a copy of it at that moment."""
    ears, eyes = Sender("opus", 0), Sender(codec, 1)
    recorder = Recorder([track("opus"), track(codec)], 600)
    frames = pictures(codec, 25 * seconds, flash_at=(75,))
    items = [*film(codec, frames, 1, sender=eyes)]
    items += talk(sound(50 * seconds, (150,)), 0, sender=ears)
    segment: SegmentFile | None = None
    flushed_s = 0.0
    for now, packets in sorted(items, key=lambda item: item[0]):
        if now == 0.2:
            recorder.report(report(ears, now))
            recorder.report(report(eyes, now))
        for event in (e for packet in packets for e in recorder.packet(packet, now)):
            if isinstance(event, Begin):
                segment = SegmentFile(
                    folder,
                    "camera-1",
                    "camera",
                    event.picture,
                    sound=event.sound,
                    at_s=event.at_s,
                    started_at=1e9,
                )
            elif segment is not None and not isinstance(event, End):
                segment.add(event)
        if segment is not None and now - flushed_s >= 1.0:
            flushed_s = now
            segment.flush()
        if cut_at_s is not None and now >= cut_at_s:
            assert segment is not None
            cut = folder / f"cut{segment.path.suffix}"
            shutil.copy(segment.path, cut)
            return cut
    assert segment is not None
    for event in recorder.finish(seconds + 1.0):
        if not isinstance(event, Begin | End):
            segment.add(event)
    segment.finish()
    return segment.path


@pytest.mark.parametrize("codec", CODECS)
def test_a_finished_file_has_every_frame_and_says_how_long_it_is(
    codec: str, tmp_path: Path
) -> None:
    path = write(tmp_path, codec)
    found = recorded.probe(path)
    assert found["frames"] == {"video": 100, "audio": 200}
    assert found["codecs"] == {"video": codec, "audio": "opus"}
    assert found["size"] == (160, 96)
    assert found["length_s"] == pytest.approx(4.0, abs=0.1)
    note = read_note(path)
    assert note is not None
    assert (note.state, note.codec, note.bytes) == ("complete", codec, path.stat().st_size)
    assert note.duration_s == pytest.approx(4.0, abs=0.1)


@pytest.mark.parametrize("codec", CODECS)
def test_the_flash_and_the_beep_are_within_40_ms_in_the_file(codec: str, tmp_path: Path) -> None:
    flash_s, beep_s = recorded.flash_and_beep_s(write(tmp_path, codec))
    assert flash_s == pytest.approx(3.0, abs=0.05)
    assert abs(flash_s - beep_s) < 0.040


@pytest.mark.parametrize("codec", CODECS)
def test_a_file_that_was_cut_off_plays_up_to_its_last_second(codec: str, tmp_path: Path) -> None:
    cut = write(tmp_path, codec, cut_at_s=3.5)
    found = recorded.probe(cut)
    assert found["frames"]["video"] >= 60
    assert found["frames"]["audio"] >= 120
    # Torn in the middle of what was being written, as by a power cut, the rest still plays.
    os.truncate(cut, cut.stat().st_size - 300)
    torn = recorded.probe(cut, torn=True)
    assert torn["frames"]["video"] >= 20


def test_sound_alone_makes_a_file(tmp_path: Path) -> None:
    segment = SegmentFile(
        tmp_path, "camera-1", "camera", None, sound=True, at_s=0.0, started_at=1e9
    )
    recorder = Recorder([track("opus")], 600)
    for now, packets in talk(sound(150), 0):
        for event in recorder.packet(packets[0], now):
            if not isinstance(event, Begin | End):
                segment.add(event)
    for event in recorder.finish(4.0):
        if not isinstance(event, Begin | End):
            segment.add(event)
    segment.finish()
    assert recorded.probe(segment.path)["frames"] == {"audio": 150}


def test_a_file_is_never_written_over_another(tmp_path: Path) -> None:
    path = write(tmp_path, "vp8", seconds=4)
    before = path.read_bytes()
    with pytest.raises(FileExistsError):
        write(tmp_path, "vp8", seconds=4)
    assert path.read_bytes() == before


def test_a_full_disk_is_an_error_and_leaves_what_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    segment = SegmentFile(
        tmp_path, "camera-1", "camera", None, sound=True, at_s=0.0, started_at=1e9
    )
    written = segment.path.read_bytes()
    assert written

    def refuse(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", refuse)
    recorder = Recorder([track("opus")], 600)
    packets = [p for _, ps in talk(coded.sound(150), 0) for p in ps]
    for packet in packets:
        for event in recorder.packet(packet, packet.arrival):
            if not isinstance(event, Begin | End):
                segment.add(event)
    with pytest.raises(OSError, match="No space"):
        segment.flush()
    segment.abandon()
    assert segment.path.read_bytes() == written


def test_a_note_that_is_none_is_no_note(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"file": 3}')
    assert read_note(tmp_path / "a.webm") is None
    assert read_note(tmp_path / "b.webm") is None
    assert Note(file="a", stream="camera", state="recording", started_at=0.0).duration_s == 0
