"""Writes WebM (Matroska, RFC 9559) from coded frames, a cluster at a time.

Holds no file: `header`, `flush` and `finish` return bytes to append, `patches` what to overwrite
once everything is there. A file that ends after any whole cluster plays; a finished one can also
be searched and says how long it is.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from . import opus
from .pictures import Picture

Kind = Literal["audio", "video"]
CODEC_IDS = {"vp8": b"V_VP8", "vp9": b"V_VP9", "av1": b"V_AV1"}
VIDEO_TRACK, AUDIO_TRACK = 1, 2
TICKS_PER_S = 1000  # the timestamp scale: milliseconds
MAX_BLOCK_TICKS = 32_000  # a block's time is 16 bits relative to its cluster's
UNKNOWN_SIZE = b"\x01\xff\xff\xff\xff\xff\xff\xff"  # RFC 8794 section 6.2
SEEK_RESERVE_BYTES = 64
DURATION_BYTES = 11

EBML = 0x1A45DFA3
SEGMENT, SEEK_HEAD, SEEK, SEEK_ID, SEEK_POSITION = (
    0x18538067,
    0x114D9B74,
    0x4DBB,
    0x53AB,
    0x53AC,
)
INFO, TIMESTAMP_SCALE, DURATION, MUXING_APP, WRITING_APP = (
    0x1549A966,
    0x2AD7B1,
    0x4489,
    0x4D80,
    0x5741,
)
TRACKS, TRACK_ENTRY = 0x1654AE6B, 0xAE
CLUSTER, TIMESTAMP, SIMPLE_BLOCK = 0x1F43B675, 0xE7, 0xA3
CUES, CUE_POINT, CUE_TIME, CUE_TRACK_POSITIONS, CUE_TRACK, CUE_CLUSTER = (
    0x1C53BB6B,
    0xBB,
    0xB3,
    0xB7,
    0xF7,
    0xF1,
)
VOID = 0xEC


@dataclass(frozen=True, slots=True)
class Block:
    kind: Kind
    data: bytes
    at_s: float
    keyframe: bool


def opus_head(channels: int = 2) -> bytes:
    """The identification header of RFC 7845 section 5.1. No pre-skip: RTP has none either."""
    return struct.pack("<8sBBHIhB", b"OpusHead", 1, channels, 0, opus.SAMPLE_RATE, 0, 0)


class WebmWriter:
    """One file. `at_s` of what is added counts from the file's start."""

    suffix = ".webm"

    def __init__(self, picture: Picture | None, sound: bool) -> None:
        self._picture = picture
        self._sound = sound
        self._blocks: list[Block] = []
        self._written = 0
        self._segment_start = 0
        self._info_duration = 0
        self._cues: list[tuple[int, int]] = []
        self._end_ticks = 0
        self._cues_position: int | None = None

    def header(self) -> bytes:
        head = element(
            EBML,
            number(0x4286, 1),  # EBMLVersion, EBMLReadVersion, the longest ids and sizes
            number(0x42F7, 1),
            number(0x42F2, 4),
            number(0x42F3, 8),
            element(0x4282, b"webm"),
            number(0x4287, 4),  # DocTypeVersion and DocTypeReadVersion
            number(0x4285, 2),
        )
        segment = identifier(SEGMENT) + UNKNOWN_SIZE
        self._segment_start = len(head) + len(segment)
        seek = void(SEEK_RESERVE_BYTES)
        scale = number(TIMESTAMP_SCALE, 1_000_000_000 // TICKS_PER_S)
        applications = element(MUXING_APP, b"tongke") + element(WRITING_APP, b"tongke")
        info = element(INFO, scale, void(DURATION_BYTES), applications)
        info_head = len(info) - len(scale) - DURATION_BYTES - len(applications)
        self._info_duration = self._segment_start + len(seek) + info_head + len(scale)
        data = head + segment + seek + info + element(TRACKS, *self._track_entries())
        self._written = len(data)
        return data

    def _track_entries(self) -> list[bytes]:
        entries: list[bytes] = []
        picture = self._picture
        if picture is not None:
            private = element(0x63A2, picture.private) if picture.private else b""
            entries.append(
                element(
                    TRACK_ENTRY,
                    number(0xD7, VIDEO_TRACK),  # TrackNumber, TrackUID, TrackType
                    number(0x73C5, VIDEO_TRACK),
                    number(0x83, 1),
                    number(0x9C, 0),  # FlagLacing
                    element(0x86, CODEC_IDS[picture.codec]),
                    private,
                    element(0xE0, number(0xB0, picture.width), number(0xBA, picture.height)),
                )
            )
        if self._sound:
            entries.append(
                element(
                    TRACK_ENTRY,
                    number(0xD7, AUDIO_TRACK),
                    number(0x73C5, AUDIO_TRACK),
                    number(0x83, 2),
                    number(0x9C, 0),
                    element(0x86, b"A_OPUS"),
                    number(0x56BB, 80_000_000),  # SeekPreRoll, ns (RFC 7845 section 4.6)
                    element(0x63A2, opus_head()),
                    element(0xE1, element(0xB5, struct.pack(">d", 48_000.0)), number(0x9F, 2)),
                )
            )
        return entries

    def add(self, block: Block) -> None:
        self._blocks.append(block)

    def flush(self) -> bytes:
        """What has been added since the last time, as clusters; may be empty."""
        blocks, self._blocks = sorted(self._blocks, key=lambda block: block.at_s), []
        clusters: list[bytes] = []
        start = 0
        while start < len(blocks):
            base = ticks(blocks[start].at_s)
            end = start + 1
            while end < len(blocks) and not _starts_cluster(blocks[end], base):
                end += 1
            clusters.append(self._cluster(base, blocks[start:end]))
            start = end
        return b"".join(clusters)

    def _cluster(self, base: int, blocks: Sequence[Block]) -> bytes:
        parts = [number(TIMESTAMP, base)]
        for block in blocks:
            track = VIDEO_TRACK if block.kind == "video" else AUDIO_TRACK
            at = ticks(block.at_s)
            flags = 0x80 if block.keyframe else 0
            head = bytes((0x80 | track,)) + struct.pack(">hB", at - base, flags)
            parts.append(element(SIMPLE_BLOCK, head, block.data))
            self._end_ticks = max(self._end_ticks, at)
        if self._picture is None or _is_key_picture(blocks[0]):
            self._cues.append((base, self._written - self._segment_start))
        data = element(CLUSTER, *parts)
        self._written += len(data)
        return data

    def finish(self) -> bytes:
        """The last clusters and the index."""
        last = self.flush()
        track = VIDEO_TRACK if self._picture is not None else AUDIO_TRACK
        points = [
            element(
                CUE_POINT,
                number(CUE_TIME, at),
                element(
                    CUE_TRACK_POSITIONS, number(CUE_TRACK, track), number(CUE_CLUSTER, position)
                ),
            )
            for at, position in self._cues
        ]
        if not points:
            return last
        self._cues_position = self._written - self._segment_start
        cues = element(CUES, *points)
        self._written += len(cues)
        return last + cues

    def patches(self) -> list[tuple[int, bytes]]:
        """(offset, bytes) to overwrite in the finished file: its size, length and index."""
        size = self._written - self._segment_start
        duration = identifier(DURATION) + b"\x88" + struct.pack(">d", float(self._end_ticks))
        patches = [
            (self._segment_start - 8, (0x01 << 56 | size).to_bytes(8, "big")),
            (self._info_duration, duration),
        ]
        if self._cues_position is not None:
            seek = element(
                SEEK_HEAD,
                element(
                    SEEK,
                    element(SEEK_ID, identifier(CUES)),
                    element(SEEK_POSITION, self._cues_position.to_bytes(8, "big")),
                ),
            )
            patches.append((self._segment_start, seek + void(SEEK_RESERVE_BYTES - len(seek))))
        return patches


def _is_key_picture(block: Block) -> bool:
    return block.kind == "video" and block.keyframe


def _starts_cluster(block: Block, base: int) -> bool:
    """Whether a cluster with that base must end before: the index points to key pictures."""
    return _is_key_picture(block) or ticks(block.at_s) - base >= MAX_BLOCK_TICKS


def ticks(at_s: float) -> int:
    return max(0, round(at_s * TICKS_PER_S))


def identifier(value: int) -> bytes:
    return value.to_bytes((value.bit_length() + 7) // 8, "big")


def element(name: int, *contents: bytes) -> bytes:
    """RFC 8794 section 6: identifier, size in as few bytes as it takes, contents."""
    size = sum(map(len, contents))
    length = 1
    while size >= (1 << 7 * length) - 1:  # all ones would mean unknown
        length += 1
    head = identifier(name) + (size | 1 << 7 * length).to_bytes(length, "big")
    return b"".join((head, *contents))


def number(name: int, value: int) -> bytes:
    return element(name, value.to_bytes(max(1, (value.bit_length() + 7) // 8), "big"))


def void(total_bytes: int) -> bytes:
    """An element of so many bytes, 2 to 128, that means nothing."""
    return bytes((VOID, 0x80 | total_bytes - 2)) + bytes(total_bytes - 2)
