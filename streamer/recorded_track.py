"""One track of a pipe that is being recorded: its frames, its clock, and whether it still sends."""

from __future__ import annotations

from typing import Literal

from .assembly import AudioAssembler, CodedFrame, VideoAssembler
from .control import PipedTrack
from .depacketize import DEPACKETIZERS
from .pictures import Picture
from .rtp import Packet
from .timeline import TrackClock

LAYER_SILENT_S = 2.0

Kind = Literal["audio", "video"]


class RecordedTrack:
    """One track of the pipe; of a picture, one layer."""

    def __init__(self, track: PipedTrack) -> None:
        self.kind: Kind = track.kind
        self.codec = track.codec
        self.payload_type = track.payload_type
        self.answers_pli = track.answers_pli
        self.clock = TrackClock(track.clock_rate)
        self.video = VideoAssembler(track.codec) if track.kind == "video" else None
        self.audio = AudioAssembler() if track.kind == "audio" else None
        self.picture: Picture | None = None
        self.last_arrival: float | None = None
        self.asked_at = 0.0

    def sending(self, now: float) -> bool:
        return self.last_arrival is not None and now - self.last_arrival < LAYER_SILENT_S

    def put(self, packet: Packet, now: float) -> list[CodedFrame]:
        if self.video is None:
            assert self.audio is not None
            return self.audio.put(packet, now)
        if self.last_arrival is not None and now - self.last_arrival >= LAYER_SILENT_S:
            self.video.needs_keyframe = True  # it was paused: what it refers to may be gone
        return self.video.put(packet, now)

    def late(self, now: float) -> list[CodedFrame]:
        if self.video is None:
            assert self.audio is not None
            return self.audio.late(now)
        return self.video.late(now)


def recordable(track: PipedTrack) -> bool:
    """Whether a file can hold what the track carries."""
    return track.codec == "opus" if track.kind == "audio" else track.codec in DEPACKETIZERS
