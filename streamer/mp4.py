"""Writes fragmented MP4 (ISO/IEC 14496-12) with H.264 and Opus, a fragment at a time.

Holds no file, and has the same methods as `webm.WebmWriter`. A file that ends after any whole
fragment plays; a finished one also says in front how long it is.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import pairwise

from . import opus
from .pictures import Picture
from .webm import Block, Kind

MOVIE_SCALE = 1000
VIDEO_SCALE, AUDIO_SCALE = 90_000, opus.SAMPLE_RATE
LAST_FRAME_S = {"video": 1 / 30, "audio": 0.020}  # how long what comes last is shown
SYNC_SAMPLE, OTHER_SAMPLE = 0x02000000, 0x01010000  # section 8.8.3.1
_MATRIX = struct.pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)


class Mp4Writer:
    """One file. `at_s` of what is added counts from the file's start."""

    suffix = ".mp4"

    def __init__(self, picture: Picture | None, sound: bool) -> None:
        self._picture = picture
        self._sound = sound
        # Of each track what is not yet written; the last waits for its successor's time.
        self._waiting: dict[Kind, list[Block]] = {}
        self._fragment = 0
        self._written = 0
        # Where a duration is to be written, its scale, and the track if it is of one only.
        self._durations: list[tuple[int, int, Kind | None]] = []
        self._bounds_s: dict[Kind, tuple[float, float]] = {}
        self._ids: dict[Kind, int] = {}
        if picture is not None:
            self._ids["video"] = 1
        if sound:
            self._ids["audio"] = len(self._ids) + 1
        for kind in self._ids:
            self._waiting[kind] = []

    # --- header --------------------------------------------------------------------------------

    def header(self) -> bytes:
        kind = box(b"ftyp", b"iso5", struct.pack(">I", 512), b"iso5iso6mp41")
        movie_head = full_box(
            b"mvhd",
            0,
            0,
            struct.pack(">IIII", 0, 0, MOVIE_SCALE, 0),
            struct.pack(">IHH8x", 0x10000, 0x0100, 0),
            _MATRIX,
            bytes(24),
            struct.pack(">I", len(self._ids) + 1),
        )
        tracks = [self._track(name, number) for name, number in self._ids.items()]
        extends = [
            full_box(b"trex", 0, 0, struct.pack(">5I", number, 1, 0, 0, 0))
            for number in self._ids.values()
        ]
        fragmented = box(b"mvex", full_box(b"mehd", 0, 0, bytes(4)), *extends)
        data = kind + box(b"moov", movie_head, *tracks, fragmented)
        # Durations are 0, for unknown, until the file is finished. All stand at fixed places.
        self._durations = [(data.index(b"mvhd") + 20, MOVIE_SCALE, None)]
        self._durations.append((data.index(b"mehd") + 8, MOVIE_SCALE, None))
        position = 0
        for name in self._ids:
            position = data.index(b"tkhd", position) + 4
            self._durations.append((position + 20, MOVIE_SCALE, None))
            position = data.index(b"mdhd", position) + 4
            self._durations.append((position + 16, _scale(name), name))
        self._written = len(data)
        return data

    def _track(self, kind: Kind, number: int) -> bytes:
        picture = self._picture if kind == "video" else None
        width, height = (picture.width, picture.height) if picture is not None else (0, 0)
        head = full_box(
            b"tkhd",
            0,
            3,  # enabled, in the movie
            struct.pack(">5I8x", 0, 0, number, 0, 0),
            struct.pack(">hhHH", 0, 0, 0 if picture is not None else 0x0100, 0),
            _MATRIX,
            struct.pack(">II", width << 16, height << 16),
        )
        media_head = full_box(
            b"mdhd", 0, 0, struct.pack(">IIIIHH", 0, 0, _scale(kind), 0, 0x55C4, 0)
        )
        handler = b"vide" if picture is not None else b"soun"
        handler_box = full_box(b"hdlr", 0, 0, bytes(4), handler, bytes(12), b"tongke\0")
        if picture is not None:
            media_type = full_box(b"vmhd", 0, 1, bytes(8))
            entry = _avc1(picture)
        else:
            media_type = full_box(b"smhd", 0, 0, bytes(4))
            entry = _opus_entry()
        here = full_box(b"dref", 0, 0, struct.pack(">I", 1), full_box(b"url ", 0, 1))
        samples = box(
            b"stbl",
            full_box(b"stsd", 0, 0, struct.pack(">I", 1), entry),
            full_box(b"stts", 0, 0, bytes(4)),
            full_box(b"stsc", 0, 0, bytes(4)),
            full_box(b"stsz", 0, 0, bytes(8)),
            full_box(b"stco", 0, 0, bytes(4)),
        )
        information = box(b"minf", media_type, box(b"dinf", here), samples)
        return box(b"trak", head, box(b"mdia", media_head, handler_box, information))

    # --- fragments -----------------------------------------------------------------------------

    def add(self, block: Block) -> None:
        self._waiting[block.kind].append(block)

    def flush(self) -> bytes:
        """What has been added since the last time, as one fragment; may be empty.

        The last frame of a track waits: its duration is the time to the next.
        """
        return self._moof({kind: blocks[:-1] for kind, blocks in self._waiting.items()})

    def finish(self) -> bytes:
        return self._moof({kind: blocks[:] for kind, blocks in self._waiting.items()})

    def patches(self) -> list[tuple[int, bytes]]:
        """(offset, bytes) to overwrite in the finished file: its length, wherever it is said."""
        patches: list[tuple[int, bytes]] = []
        whole_s = max((end for _, end in self._bounds_s.values()), default=0.0)
        for offset, scale, kind in self._durations:
            # A track's own length does not count what is before its first frame.
            begin, end = (0.0, whole_s) if kind is None else self._bounds_s.get(kind, (0.0, 0.0))
            ticks = min(0xFFFFFFFF, round((end - begin) * scale))
            patches.append((offset, struct.pack(">I", ticks)))
        return patches

    def _moof(self, samples: dict[Kind, list[Block]]) -> bytes:
        samples = {kind: blocks for kind, blocks in samples.items() if blocks}
        if not samples:
            return b""
        self._fragment += 1
        durations = {kind: self._spans(kind, len(blocks)) for kind, blocks in samples.items()}
        for kind, blocks in samples.items():
            del self._waiting[kind][: len(blocks)]
        sizes = {kind: sum(len(b.data) for b in blocks) for kind, blocks in samples.items()}
        # The offset of the data depends on the size of what holds it, which does not depend on it.
        size = len(self._moof_box(samples, durations, dict.fromkeys(samples, 0)))
        offsets: dict[Kind, int] = {}
        position = size + 8
        for kind in samples:
            offsets[kind] = position
            position += sizes[kind]
        data = [block.data for blocks in samples.values() for block in blocks]
        fragment = self._moof_box(samples, durations, offsets) + box(b"mdat", *data)
        self._written += len(fragment)
        return fragment

    def _spans(self, kind: Kind, count: int) -> list[int]:
        """How long each of the first waiting frames lasts, in the track's ticks."""
        times = [_ticks(block, kind) for block in self._waiting[kind][: count + 1]]
        spans = [max(0, after - before) for before, after in pairwise(times)]
        if len(spans) < count:
            spans.append(round(LAST_FRAME_S[kind] * _scale(kind)))
        begin, end = times[0] / _scale(kind), (times[0] + sum(spans)) / _scale(kind)
        self._bounds_s[kind] = self._bounds_s.get(kind, (begin, end))[0], end
        return spans

    def _moof_box(
        self,
        samples: dict[Kind, list[Block]],
        durations: dict[Kind, list[int]],
        offsets: dict[Kind, int],
    ) -> bytes:
        tracks = [
            _fragment_track(self._ids[kind], kind, blocks, durations[kind], offsets[kind])
            for kind, blocks in samples.items()
        ]
        return box(b"moof", full_box(b"mfhd", 0, 0, struct.pack(">I", self._fragment)), *tracks)


def _fragment_track(
    number: int, kind: Kind, blocks: Sequence[Block], durations: Sequence[int], offset: int
) -> bytes:
    """A track's part of a fragment: section 8.8.6 and those that follow it."""
    head = full_box(b"tfhd", 0, 0x020000, struct.pack(">I", number))  # offsets count from moof
    time = full_box(b"tfdt", 1, 0, struct.pack(">Q", _ticks(blocks[0], kind)))
    entries = [
        struct.pack(
            ">III", duration, len(block.data), SYNC_SAMPLE if block.keyframe else OTHER_SAMPLE
        )
        for block, duration in zip(blocks, durations, strict=True)
    ]
    # Data offset, and for each sample its duration, size and flags.
    run = full_box(b"trun", 0, 0x000701, struct.pack(">Ii", len(blocks), offset), *entries)
    return box(b"traf", head, time, run)


def _avc1(picture: Picture) -> bytes:
    """ISO/IEC 14496-15 section 5.4.2."""
    return box(
        b"avc1",
        struct.pack(">6xH16xHH", 1, picture.width, picture.height),
        struct.pack(">IIIH32xHh", 0x480000, 0x480000, 0, 1, 24, -1),
        box(b"avcC", picture.private),
    )


def _opus_entry() -> bytes:
    """Encapsulation of Opus in ISO base media, sections 4.3.1 and 4.3.2."""
    specific = box(b"dOps", struct.pack(">BBHIhB", 0, 2, 0, opus.SAMPLE_RATE, 0, 0))
    entry = struct.pack(">6xH8xHHHHI", 1, 2, 16, 0, 0, opus.SAMPLE_RATE << 16)
    return box(b"Opus", entry, specific)


def _scale(kind: Kind) -> int:
    return VIDEO_SCALE if kind == "video" else AUDIO_SCALE


def _ticks(block: Block, kind: Kind) -> int:
    return max(0, round(block.at_s * _scale(kind)))


def box(name: bytes, *contents: bytes) -> bytes:
    return b"".join((struct.pack(">I4s", 8 + sum(map(len, contents)), name), *contents))


def full_box(name: bytes, version: int, flags: int, *contents: bytes) -> bytes:
    return box(name, struct.pack(">I", version << 24 | flags), *contents)
