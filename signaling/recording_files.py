"""The recordings on disk: a folder per lesson, in it media files with a note beside each.

The disk is the only list of them. A name from outside reaches the disk only when it is one that
the recording process could have made.
"""

from __future__ import annotations

import contextlib
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import msgspec

from streamer.muxer import NOTE_SUFFIX, Note, read_note

State = Literal["recording", "complete", "interrupted"]

CONTENT_TYPES: Final = {".webm": "video/webm", ".mp4": "video/mp4"}
_LESSON: Final = re.compile(r"l_[A-Za-z0-9_-]{1,64}")
_FILE: Final = re.compile(
    r"[a-z]{1,20}-[0-9]{8}T[0-9]{6}Z-[0-9a-f]{8}-[0-9]{4,9}\.(?:webm|mp4)", re.ASCII
)
DAY_S: Final = 86_400.0


@dataclass(frozen=True, slots=True)
class RecordingFile:
    """One media file and what is known of it."""

    path: Path
    note: Note
    state: State

    def document(self) -> dict[str, object]:
        note = self.note
        return {
            "file": note.file,
            "stream": note.stream,
            "state": self.state,
            "started_at": note.started_at,
            "duration_s": note.duration_s,
            "bytes": note.bytes,
            "codec": note.codec or None,
            "width": note.width or None,
            "height": note.height or None,
            "sound": note.sound,
        }


class RecordingFiles:
    """All recordings below `root`. `live` are the names of the files that are being written."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.live: set[str] = set()

    def folder(self, lesson_id: str) -> Path:
        """Raises ValueError for what is not the id of a lesson."""
        if not _LESSON.fullmatch(lesson_id):
            raise ValueError("not the id of a lesson")
        return self.root / lesson_id

    def has(self, lesson_id: str) -> bool:
        return _LESSON.fullmatch(lesson_id) is not None and self.folder(lesson_id).is_dir()

    def of_lesson(self, lesson_id: str) -> list[RecordingFile]:
        """The files of a lesson, the oldest first."""
        folder = self.folder(lesson_id)
        if not folder.is_dir():
            return []
        found = [self._file(path) for path in folder.iterdir() if _FILE.fullmatch(path.name)]
        return sorted(
            (file for file in found if file is not None),
            key=lambda file: (file.note.started_at, file.note.file),
        )

    def find(self, lesson_id: str, name: str) -> RecordingFile | None:
        if not _LESSON.fullmatch(lesson_id) or not _FILE.fullmatch(name):
            return None
        return self._file(self.folder(lesson_id) / name)

    def _file(self, path: Path) -> RecordingFile | None:
        """None when it is gone, or is no plain file."""
        if path.is_symlink() or not path.is_file():
            return None
        try:
            stat = path.stat()
        except FileNotFoundError:
            return None
        note = read_note(path)
        if note is None or note.file != path.name:
            stream = path.name.partition("-")[0]
            note = Note(file=path.name, stream=stream, state="recording", started_at=stat.st_mtime)
        state: State = "complete"
        if path.name in self.live:
            state = "recording"
        elif note.state != "complete":
            state = "interrupted"
        return RecordingFile(path, msgspec.structs.replace(note, bytes=stat.st_size), state)

    def delete(self, file: RecordingFile) -> None:
        file.path.unlink(missing_ok=True)
        file.path.with_suffix(NOTE_SUFFIX).unlink(missing_ok=True)
        self._forget_empty(file.path.parent)

    def purge(self, older_than_days: int, now: float) -> int:
        """Delete what began longer ago than that; returns how many files."""
        if not self.root.is_dir():
            return 0
        deleted = 0
        for folder in self.root.iterdir():
            if not self.has(folder.name):
                continue
            for file in self.of_lesson(folder.name):
                old = file.note.started_at < now - older_than_days * DAY_S
                if old and file.state != "recording":
                    self.delete(file)
                    deleted += 1
            if folder.is_dir() and folder.stat().st_mtime < now - DAY_S:
                self._forget_empty(folder)  # opened for a recording that never began
        return deleted

    def _forget_empty(self, folder: Path) -> None:
        with contextlib.suppress(OSError):  # not empty, or gone
            folder.rmdir()

    def free_bytes(self) -> int:
        """What is free on the disk that holds, or will hold, the recordings."""
        place = self.root
        while not place.exists():
            place = place.parent
        return shutil.disk_usage(place).free
