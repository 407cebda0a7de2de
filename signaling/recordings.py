"""Brings the recording process to what is to be recorded: the output streams of lessons whose mode
says so, as long as the disk has room.

What is wanted is computed again and again and compared with what is open, so a new publisher, a
worker that was restarted and a recording process that died are all the same: something is missing.
Returns of teaching points are never recorded by themselves; a mixed `stage` shows who is on it.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import shutil
import tempfile
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from time import time
from typing import Final, Literal, Protocol

from signaling.config_model import Config
from signaling.lessons import Lesson, LessonRegistry
from signaling.recorders import RecorderUnavailableError
from signaling.recording_files import RecordingFiles
from signaling.supervisor import WorkerRefusedError, WorkerUnavailableError
from streamer import control as workers
from streamer import recording_control as control

log = logging.getLogger(__name__)

Key = tuple[str, str]  # lesson, stream
State = Literal["off", "waiting", "recording", "disk-full", "failing"]

DISK_CHECK_S: Final = 5.0
PURGE_S: Final = 3600.0
FIRST_BACKOFF_S: Final = 1.0
LONGEST_BACKOFF_S: Final = 30.0
# Once stopped, so much more than the limit must be free before recording goes on.
DISK_AGAIN: Final = 1.1
MEBIBYTE: Final = 1 << 20


class Workers(Protocol):
    """What recording needs of the workers' supervisor."""

    async def request(self, index: int, message: workers.AnyRequest) -> workers.AnyReply: ...


class Recorder(Protocol):
    """What it needs of the recording process."""

    ready: asyncio.Event
    lives: int

    def start(self) -> None: ...
    async def request(self, message: control.AnyRequest) -> None: ...


@dataclass(frozen=True, slots=True)
class _Source:
    """Where a stream can be had now. `serial` changes with each publisher."""

    home: int
    serial: int
    tracks: tuple[workers.PipedTrack, ...]


@dataclass(slots=True)
class _Open:
    recording_id: str
    source: _Source
    life: int


@dataclass(slots=True)
class _Trouble:
    """Why a stream is not being recorded now, and when to try again."""

    source: _Source
    not_before: float
    delay_s: float
    detail: str


class Recordings:
    """All recordings of the server. `start` runs a coroutine as a task that somebody owns."""

    def __init__(
        self,
        config: Callable[[], Config],
        registry: LessonRegistry,
        supervisor: Workers,
        recorder: Recorder,
        root: Path,
        *,
        home: Callable[[Lesson], int],
        changed: Callable[[Lesson], None],
        start: Callable[[Coroutine[object, object, None]], object],
    ) -> None:
        self.files = RecordingFiles(root)
        self._config = config
        self._registry = registry
        self._workers = supervisor
        self._recorder = recorder
        self._home = home
        self._changed = changed
        self._start = start
        self._open: dict[Key, _Open] = {}
        self._trouble: dict[Key, _Trouble] = {}
        self._live: dict[str, set[str]] = {}  # recording → files it is writing
        self._life = 0
        self._disk_full = False
        self._next_disk_check = self._next_purge = 0.0
        self._purging = False
        self._sockets: Path | None = None

    def close(self) -> None:
        if self._sockets is not None:
            shutil.rmtree(self._sockets, ignore_errors=True)

    def _socket_path(self, recording_id: str) -> str:
        if self._sockets is None:
            # A socket's path has at most 108 bytes, so not below a data directory of any length.
            self._sockets = Path(tempfile.mkdtemp(prefix="tongke-rec-"))
        return str(self._sockets / recording_id)

    # --- what is said of it --------------------------------------------------------------------

    def wanted(self, lesson: Lesson) -> bool:
        """Whether the lesson's mode says that it is recorded, and it still runs."""
        mode = self._config().modes.get(lesson.mode)
        return lesson.ended_at is None and mode is not None and mode.recording

    def state(self, lesson: Lesson) -> State:
        """What to tell who asks why there is, or is no, recording."""
        if not self.wanted(lesson):
            return "off"
        if self._disk_full:
            return "disk-full"
        keys = [(lesson.id, name) for name in lesson.streams]
        if any(opened.recording_id in self._live for k in keys if (opened := self._open.get(k))):
            return "recording"
        if any(key in self._trouble for key in keys):
            return "failing"
        return "waiting"

    def trouble(self, lesson: Lesson) -> str:
        """The error behind `failing`, or how much room is missing."""
        if self._disk_full:
            return f"less than recording.min_free_mb ({self._min_free_mb()}) MiB are free"
        found = [
            self._trouble[k] for name in lesson.streams if (k := (lesson.id, name)) in self._trouble
        ]
        return found[0].detail if found else ""

    # --- time ----------------------------------------------------------------------------------

    def tick(self, now: float) -> None:
        """A few times a second: do what is missing."""
        if now >= self._next_disk_check and any(map(self.wanted, self._registry.running())):
            self._next_disk_check = now + DISK_CHECK_S
            self._check_disk()
        if now >= self._next_purge and not self._purging:
            self._next_purge = now + PURGE_S
            self._purging = True
            self._start(self._purge())
        if self._life != self._recorder.lives or not self._recorder.ready.is_set():
            self._life = self._recorder.lives
            self._live.clear()
            self.files.live.clear()
        sources = self._sources()
        for key, opened in list(self._open.items()):
            stale = opened.life != self._recorder.lives or not self._recorder.ready.is_set()
            if stale or sources.get(key) != opened.source:
                del self._open[key]
                if not stale:
                    self._start(self._finish(opened.recording_id))
        for key in [key for key in self._trouble if key not in sources]:
            del self._trouble[key]
        for key, source in sources.items():
            trouble = self._trouble.get(key)
            again = trouble is None or trouble.source != source or now >= trouble.not_before
            if again and key not in self._open:
                self._begin(key, source, now)

    def _sources(self) -> dict[Key, _Source]:
        """What is to be recorded; tells each lesson, and so its pages, whether it is."""
        sources: dict[Key, _Source] = {}
        for lesson in self._registry.running():
            on = self.wanted(lesson) and not self._disk_full
            if lesson.recording != on:
                lesson.recording = on
                self._changed(lesson)
            for name, stream in lesson.streams.items():
                if on and stream.tracks:
                    sources[lesson.id, name] = _Source(
                        self._home(lesson), stream.serial, tuple(stream.tracks)
                    )
        return sources

    def _begin(self, key: Key, source: _Source, now: float) -> None:
        self._recorder.start()
        if not self._recorder.ready.is_set():
            return
        opened = _Open(secrets.token_hex(8), source, self._recorder.lives)
        self._open[key] = opened
        self._start(self._connect(key, opened, now))

    async def _connect(self, key: Key, opened: _Open, now: float) -> None:
        """Let the recording process listen, then the lesson's home worker connect to it."""
        lesson_id, stream = key
        path = self._socket_path(opened.recording_id)
        inward = control.OpenRecording(
            request_id=0,
            recording_id=opened.recording_id,
            path=path,
            folder=str(self.files.folder(lesson_id)),
            stream=stream,
            tracks=list(opened.source.tracks),
            segment_s=self._config().recording.segment_minutes * 60.0,
        )
        outward = workers.OpenPipeOut(
            request_id=0,
            pipe_id="rec-" + opened.recording_id,
            output_id=f"{lesson_id}/{stream}",
            path=path,
        )
        try:
            await self._recorder.request(inward)
            await self._workers.request(opened.source.home, outward)
        except (RecorderUnavailableError, WorkerUnavailableError, WorkerRefusedError) as error:
            log.warning("no recording of %s/%s yet: %s", lesson_id, stream, error)
            self._failed(key, opened, str(error), now)
            await self._finish(opened.recording_id)

    async def _finish(self, recording_id: str) -> None:
        try:
            await self._recorder.request(
                control.CloseRecording(request_id=0, recording_id=recording_id)
            )
        except RecorderUnavailableError as error:
            log.info("recording %s was cut off: %s", recording_id, error)

    def _failed(self, key: Key, opened: _Open, detail: str, now: float) -> None:
        if self._open.get(key) is opened:
            del self._open[key]
        before = self._trouble.get(key)
        delay_s = FIRST_BACKOFF_S if before is None else min(before.delay_s * 2, LONGEST_BACKOFF_S)
        self._trouble[key] = _Trouble(opened.source, now + delay_s, delay_s, detail)

    # --- what the recording process tells ------------------------------------------------------

    def notified(self, message: control.AnyNotification, now: float) -> None:
        if isinstance(message, control.SegmentChanged):
            self._segment(message)
        elif isinstance(message, control.RecordingEnded):
            self._forget_files(message.recording_id)
            for key, opened in self._open.items():
                if opened.recording_id == message.recording_id:
                    # Its publisher went, of which the worker is about to tell; or the disk refuses.
                    self._failed(key, opened, message.error or "the pipe was closed", now)
                    self._next_disk_check = 0.0
                    break

    def _segment(self, message: control.SegmentChanged) -> None:
        writing = self._live.setdefault(message.recording_id, set())
        if message.note.state == "recording":
            writing.add(message.note.file)
            self.files.live.add(message.note.file)
            for key, opened in self._open.items():
                if opened.recording_id == message.recording_id:
                    self._trouble.pop(key, None)
            return
        writing.discard(message.note.file)
        self.files.live.discard(message.note.file)
        if not writing:
            del self._live[message.recording_id]

    def _forget_files(self, recording_id: str) -> None:
        self.files.live -= self._live.pop(recording_id, set())

    # --- disk ----------------------------------------------------------------------------------

    def _min_free_mb(self) -> int:
        return self._config().recording.min_free_mb

    def _check_disk(self) -> None:
        """Stop before the disk is full: the server's own store needs it too."""
        limit = self._min_free_mb() * MEBIBYTE * (DISK_AGAIN if self._disk_full else 1.0)
        try:
            full = self.files.free_bytes() < limit
        except OSError as error:
            log.error("the disk of the recordings cannot be read: %s", error)
            full = True
        if full != self._disk_full:
            self._disk_full = full
            if full:
                log.error("recording stops: less than %d MiB are free", self._min_free_mb())
            else:
                log.warning("recording goes on: there is room on the disk again")

    async def _purge(self) -> None:
        try:
            days = self._config().recording.retention_days
            deleted = await asyncio.to_thread(self.files.purge, days, time())
            if deleted:
                log.info("deleted %d recordings that were kept for %d days", deleted, days)
        except OSError as error:
            log.error("old recordings could not be deleted: %s", error)
        finally:
            self._purging = False
