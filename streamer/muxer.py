"""One segment of a recording on disk: the media file, and beside it a note that says what it is.

VP8, VP9 and AV1 go into WebM, H.264 into fragmented MP4. Both are written here and not by a
library: every second a whole cluster or fragment reaches the kernel, so that a killed process
leaves a file that plays up to its last second (docs/decisions/009-recordings.md).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO, Literal, Protocol

import msgspec

from .mp4 import Mp4Writer
from .pictures import Picture
from .recorder import Media
from .webm import Block, WebmWriter

NOTE_SUFFIX = ".json"
State = Literal["recording", "complete"]


class Writer(Protocol):
    """What both containers have in common."""

    suffix: str

    def header(self) -> bytes: ...
    def add(self, block: Block) -> None: ...
    def flush(self) -> bytes: ...
    def finish(self) -> bytes: ...
    def patches(self) -> list[tuple[int, bytes]]: ...


class Note(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a segment: kept beside it as JSON, and sent to the control process.

    A note that still says `recording` when nobody records belongs to a file that was cut off.
    """

    file: str
    stream: str
    state: State
    started_at: float
    duration_s: float = 0.0
    bytes: int = 0
    codec: str = ""
    width: int = 0
    height: int = 0
    sound: bool = False


_note_decoder = msgspec.json.Decoder(Note)


def read_note(path: Path) -> Note | None:
    """The note of a media file; None when it is missing or not one."""
    try:
        return _note_decoder.decode(path.with_suffix(NOTE_SUFFIX).read_bytes())
    except (OSError, msgspec.MsgspecError):
        return None


class SegmentFile:
    """A segment that is being written. Every method raises OSError when the disk refuses."""

    def __init__(
        self,
        folder: Path,
        stem: str,
        stream: str,
        picture: Picture | None,
        *,
        sound: bool,
        at_s: float,
        started_at: float,
    ) -> None:
        self._writer: Writer = (
            Mp4Writer(picture, sound)
            if picture is not None and picture.codec == "h264"
            else WebmWriter(picture, sound)
        )
        self._at_s = at_s
        self._end_s = 0.0
        self._bytes = 0
        self.path = folder / (stem + self._writer.suffix)
        self._note = Note(
            file=self.path.name,
            stream=stream,
            state="recording",
            started_at=round(started_at, 3),
            codec=picture.codec if picture is not None else "",
            width=picture.width if picture is not None else 0,
            height=picture.height if picture is not None else 0,
            sound=sound,
        )
        self._file: BinaryIO = self.path.open("xb", buffering=0)
        try:
            self._append(self._writer.header())
            self._keep_note("recording")
        except OSError:
            self._file.close()
            raise

    def add(self, media: Media) -> None:
        at_s = max(0.0, media.at_s - self._at_s)
        self._end_s = max(self._end_s, at_s)
        self._writer.add(Block(media.kind, media.data, at_s, media.keyframe))

    def flush(self) -> Note:
        """Give the kernel all that was added; call every second."""
        self._append(self._writer.flush())
        return self._keep_note("recording")

    def sync(self) -> None:
        """Have it on the disk itself, in case the power goes. May take a while."""
        os.fdatasync(self._file.fileno())

    def finish(self) -> Note:
        """Write the rest and the index, and close the file."""
        try:
            self._append(self._writer.finish())
            for offset, data in self._writer.patches():
                self._write_all(data, offset)
            os.fdatasync(self._file.fileno())
        finally:
            self._file.close()
        return self._keep_note("complete")

    def abandon(self) -> None:
        """Leave the file as it is: the disk does not take any more."""
        self._file.close()

    def _append(self, data: bytes) -> None:
        self._write_all(data, self._bytes)
        self._bytes += len(data)

    def _write_all(self, data: bytes, offset: int) -> None:
        rest = memoryview(data)
        while rest:
            written = os.pwrite(self._file.fileno(), rest, offset)
            rest = rest[written:]
            offset += written

    def _keep_note(self, state: State) -> Note:
        self._note = msgspec.structs.replace(
            self._note, state=state, duration_s=round(self._end_s, 3), bytes=self._bytes
        )
        path = self.path.with_suffix(NOTE_SUFFIX)
        # Whole or not at all: a reader never sees half a note.
        unfinished = path.with_suffix(".json~")
        unfinished.write_bytes(msgspec.json.encode(self._note))
        unfinished.replace(path)
        return self._note
