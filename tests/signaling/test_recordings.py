"""What is recorded when, and what happens when a process, a disk or a publisher goes."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Coroutine, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from signaling import config as configuration
from signaling.lessons import Lesson, LessonRegistry
from signaling.recorders import RecorderProcess, RecorderUnavailableError
from signaling.recording_files import DAY_S, RecordingFiles
from signaling.recordings import Recordings
from signaling.store.database import Store
from streamer import control as workers
from streamer import recording_control as control
from streamer.muxer import Note

SOUND = workers.PipedTrack(
    kind="audio", codec="opus", clock_rate=48_000, channels=2, payload_type=111
)


class FakeRecorder:
    """Notes what it is asked; refuses when told to."""

    def __init__(self) -> None:
        self.ready = asyncio.Event()
        self.lives = 0
        self.asked: list[control.AnyRequest] = []
        self.refuse = False

    def start(self) -> None:
        if not self.ready.is_set() and self.lives == 0:
            self.live()

    def live(self) -> None:
        self.lives += 1
        self.ready.set()

    def die(self) -> None:
        self.ready.clear()

    async def request(self, message: control.AnyRequest) -> None:
        if self.refuse:
            raise RecorderUnavailableError("folder: no")
        self.asked.append(message)

    @property
    def opened(self) -> list[control.OpenRecording]:
        return [m for m in self.asked if isinstance(m, control.OpenRecording)]

    @property
    def closed(self) -> list[str]:
        return [m.recording_id for m in self.asked if isinstance(m, control.CloseRecording)]


class FakeWorkers:
    def __init__(self) -> None:
        self.asked: list[tuple[int, workers.AnyRequest]] = []

    async def request(self, index: int, message: workers.AnyRequest) -> workers.AnyReply:
        self.asked.append((index, message))
        return workers.Done(request_id=0)


class House:
    """A registry with lessons, and recordings that are driven by hand."""

    def __init__(self, folder: Path) -> None:
        self.config = configuration.parse("[recording]\nmin_free_mb = 0\n")
        self.store = Store(folder / "tongke.sqlite")
        self.registry = LessonRegistry(self.store, lambda: self.config)
        self.recorder, self.workers = FakeRecorder(), FakeWorkers()
        self.told: list[bool] = []
        self.tasks: list[asyncio.Task[None]] = []
        self.now = 100.0
        self.recordings = Recordings(
            lambda: self.config,
            self.registry,
            self.workers,
            self.recorder,
            folder / "recordings",
            home=lambda lesson: 0,
            changed=lambda lesson: self.told.append(lesson.recording),
            start=self._start,
        )

    def _start(self, work: Coroutine[object, object, None]) -> None:
        self.tasks.append(asyncio.ensure_future(work))  # type: ignore[arg-type]

    def lesson(self, mode: str = "open") -> Lesson:
        return self.registry.create("课", mode, "owner")

    async def tick(self, after_s: float = 0.3) -> None:
        self.now += after_s
        self.recordings.tick(self.now)
        await asyncio.gather(*self.tasks)
        self.tasks.clear()

    def writes(self, opened: control.OpenRecording, **changes: Any) -> None:
        note = Note(file="f.webm", stream=opened.stream, state="recording", started_at=0.0)
        note = msgspec.structs.replace(note, **changes)
        self.recordings.notified(
            control.SegmentChanged(recording_id=opened.recording_id, note=note), self.now
        )

    def set_mode(self, mode: str, *, recording: bool) -> None:
        modes = dict(self.config.modes)
        modes[mode] = msgspec.structs.replace(modes[mode], recording=recording)
        self.config = msgspec.structs.replace(self.config, modes=modes)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path)
    yield made
    made.recordings.close()
    made.store.close()


# --- what is recorded --------------------------------------------------------------------------


def test_dispatch_is_not_recorded_unless_somebody_says_so() -> None:
    modes = configuration.parse("").modes
    assert {name: mode.recording for name, mode in modes.items()} == {
        "dispatch": False,
        "masterclass": True,
        "open": True,
    }
    assert configuration.parse("[modes.dispatch]\nrecording = true\n").modes["dispatch"].recording


async def test_a_published_stream_is_recorded_from_its_home_worker(house: House) -> None:
    lesson = house.lesson()
    await house.tick()
    assert house.recorder.lives == 0  # nothing is sent: no process is needed
    lesson.streams["camera"].published(1, [SOUND])
    await house.tick()
    await house.tick()
    (opened,) = house.recorder.opened
    assert (opened.stream, opened.tracks) == ("camera", [SOUND])
    assert Path(opened.folder).name == lesson.id
    ((index, pipe),) = house.workers.asked
    assert index == 0
    assert isinstance(pipe, workers.OpenPipeOut)
    assert (pipe.path, pipe.output_id) == (opened.path, f"{lesson.id}/camera")
    assert house.recordings.state(lesson) == "waiting"
    house.writes(opened)
    assert house.recordings.state(lesson) == "recording"


async def test_a_lesson_whose_mode_says_no_is_not_recorded(house: House) -> None:
    lesson = house.lesson("dispatch")
    lesson.streams["camera"].published(1, [SOUND])
    await house.tick()
    assert not lesson.recording
    assert house.recordings.state(lesson) == "off"
    assert house.recorder.lives == 0


async def test_what_teaching_points_send_back_is_not_recorded(house: House) -> None:
    lesson = house.lesson()
    lesson.inner_stream("return~s_1").published(1, [SOUND])
    await house.tick()
    assert house.recorder.lives == 0


async def test_a_new_publisher_begins_a_new_recording(house: House) -> None:
    lesson = house.lesson()
    lesson.streams["camera"].published(1, [SOUND])
    for generation in (1, 2):
        lesson.streams["camera"].published(generation, [SOUND])
        await house.tick()
        await house.tick()
    first, second = house.recorder.opened
    assert house.recorder.closed == [first.recording_id]
    assert first.path != second.path


async def test_when_the_publisher_goes_and_when_the_lesson_ends_it_ends(house: House) -> None:
    for end in (
        lambda lesson: lesson.streams["camera"].published(0, []),
        house.registry.end,
    ):
        lesson = house.lesson()
        lesson.streams["camera"].published(1, [SOUND])
        await house.tick()
        await house.tick()
        end(lesson)
        await house.tick()
        assert house.recorder.closed[-1] == house.recorder.opened[-1].recording_id
    assert not lesson.recording


async def test_a_change_of_the_configuration_is_obeyed_and_told_at_once(house: House) -> None:
    lesson = house.lesson("dispatch")
    lesson.streams["camera"].published(1, [SOUND])
    await house.tick()
    house.set_mode("dispatch", recording=True)
    await house.tick()
    await house.tick()
    assert len(house.recorder.opened) == 1
    house.set_mode("dispatch", recording=False)
    await house.tick()
    assert len(house.recorder.closed) == 1
    assert house.told == [True, False]


# --- what goes wrong ---------------------------------------------------------------------------


async def test_when_the_process_died_everything_is_opened_again(house: House) -> None:
    lesson = house.lesson()
    lesson.streams["camera"].published(1, [SOUND])
    await house.tick()
    await house.tick()
    house.writes(house.recorder.opened[0])
    house.recorder.die()
    await house.tick()
    assert house.recordings.files.live == set()
    house.recorder.live()
    await house.tick()
    assert len(house.recorder.opened) == 2
    assert house.recorder.closed == []


async def test_what_cannot_be_opened_is_said_and_tried_ever_later(house: House) -> None:
    lesson = house.lesson()
    lesson.streams["camera"].published(1, [SOUND])
    house.recorder.refuse = True
    await house.tick()
    assert house.recordings.state(lesson) == "failing"
    assert house.recordings.trouble(lesson) == "folder: no"
    house.recorder.refuse = False
    await house.tick(0.3)
    assert house.recorder.opened == []
    await house.tick(1.0)
    house.writes(house.recorder.opened[0])
    assert house.recordings.state(lesson) == "recording"


async def test_a_disk_that_fails_is_said(house: House) -> None:
    lesson = house.lesson()
    lesson.streams["camera"].published(1, [SOUND])
    await house.tick()
    await house.tick()
    opened = house.recorder.opened[0]
    house.writes(opened)
    house.recordings.notified(
        control.RecordingEnded(recording_id=opened.recording_id, error="No space left on device"),
        house.now,
    )
    assert house.recordings.state(lesson) == "failing"
    assert "No space" in house.recordings.trouble(lesson)


async def test_recording_stops_before_the_disk_is_full_and_goes_on_with_room(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    lesson = house.lesson()
    lesson.streams["camera"].published(1, [SOUND])
    house.config = msgspec.structs.replace(
        house.config, recording=msgspec.structs.replace(house.config.recording, min_free_mb=100)
    )
    free = {"mb": 200}
    monkeypatch.setattr(RecordingFiles, "free_bytes", lambda self: free["mb"] << 20)
    await house.tick()
    await house.tick()
    assert len(house.recorder.opened) == 1
    free["mb"] = 99
    await house.tick(6.0)
    assert house.recordings.state(lesson) == "disk-full"
    assert not lesson.recording
    assert "100" in house.recordings.trouble(lesson)
    assert len(house.recorder.closed) == 1
    free["mb"] = 105  # enough, but not by enough to stay so
    await house.tick(6.0)
    assert house.recordings.state(lesson) == "disk-full"
    free["mb"] = 120
    await house.tick(6.0)
    assert lesson.recording
    assert len(house.recorder.opened) == 2


# --- files -------------------------------------------------------------------------------------


def keep(
    root: Path, lesson: str, *, started_at: float, number: int = 1, state: str = "complete"
) -> Path:
    folder = root / lesson
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"camera-20260101T000000Z-0123abcd-{number:04d}.webm"
    path.write_bytes(b"x" * 10)
    note = Note(file=path.name, stream="camera", state=state, started_at=started_at)  # type: ignore[arg-type]
    path.with_suffix(".json").write_bytes(msgspec.json.encode(note))
    return path


def test_old_recordings_are_deleted_and_their_folders(tmp_path: Path) -> None:
    files = RecordingFiles(tmp_path)
    now = 1e9
    old = keep(tmp_path, "l_old", started_at=now - 31 * DAY_S)
    new = keep(tmp_path, "l_new", started_at=now - 29 * DAY_S)
    (tmp_path / "not-ours").mkdir()
    assert files.purge(30, now) == 1
    assert not old.parent.exists()
    assert new.exists()
    assert (tmp_path / "not-ours").exists()


def test_what_is_being_written_is_not_deleted_and_what_was_cut_off_is_said(tmp_path: Path) -> None:
    files = RecordingFiles(tmp_path)
    live = keep(tmp_path, "l_a", started_at=1.0, state="recording")
    keep(tmp_path, "l_a", started_at=2.0, state="recording", number=2)
    files.live = {live.name}
    assert [file.state for file in files.of_lesson("l_a")] == ["recording", "interrupted"]
    assert files.purge(1, 1e9) == 1
    assert live.exists()


def test_a_file_without_its_note_is_listed_all_the_same(tmp_path: Path) -> None:
    path = keep(tmp_path, "l_a", started_at=1.0)
    path.with_suffix(".json").unlink()
    (file,) = RecordingFiles(tmp_path).of_lesson("l_a")
    assert (file.note.stream, file.note.bytes, file.state) == ("camera", 10, "interrupted")


@pytest.mark.parametrize(
    "name", ["../../secret.webm", "..", "", "camera.webm", "a.json", "camera-\n.webm", "%2e%2e"]
)
def test_a_name_that_we_did_not_make_is_not_looked_up(tmp_path: Path, name: str) -> None:
    keep(tmp_path, "l_a", started_at=1.0)
    (tmp_path / "secret.webm").write_bytes(b"secret")
    files = RecordingFiles(tmp_path / "recordings")
    assert files.find("l_a", name) is None
    assert RecordingFiles(tmp_path).find("../l_a", "x") is None


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    path = keep(tmp_path, "l_a", started_at=1.0)
    path.unlink()
    (tmp_path / "secret").write_bytes(b"secret")
    os.symlink(tmp_path / "secret", path)  # noqa: PTH211
    assert RecordingFiles(tmp_path).find("l_a", path.name) is None


# --- the real process --------------------------------------------------------------------------


@pytest_asyncio.fixture
async def process() -> AsyncIterator[RecorderProcess]:
    made = RecorderProcess("WARNING", lambda message: None)
    made.start()
    async with asyncio.timeout(20):
        await made.ready.wait()
    yield made
    await made.stop()


async def test_a_recording_process_that_dies_is_started_again(process: RecorderProcess) -> None:
    first = process.pid
    assert first is not None
    os.kill(first, 9)
    async with asyncio.timeout(20):
        while process.lives < 2:  # noqa: ASYNC110 - what is awaited is another process
            await asyncio.sleep(0.02)
    await process.request(control.CloseRecording(request_id=0, recording_id="x"))
    assert process.pid != first


async def test_its_refusal_is_an_error_with_the_reason(process: RecorderProcess) -> None:
    with pytest.raises(RecorderUnavailableError, match="segment_s"):
        await process.request(
            control.OpenRecording(
                request_id=0,
                recording_id="x",
                path="/nowhere/x",
                folder="/nowhere",
                stream="camera",
                tracks=[],
                segment_s=0.0,
            )
        )
