"""Opens a media address with FFmpeg and reports the facts that decide how it can be sent."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.video.stream import VideoStream

from .plan import AudioFacts, VideoFacts
from .words import CommandError, say

EXAMINED_PACKETS = 6000
EXAMINED_S = 60.0
NETWORK_TIMEOUT_S = 8.0

SourceKind = Literal["file", "rtsp", "device", "test"]
DEVICE = re.compile(r"^/dev/video\d+$")


@dataclass(frozen=True, slots=True)
class PacketTimes:
    """The timing of one video packet, in seconds, as the container has it."""

    pts_s: float
    keyframe: bool


def kind_of(source: str) -> SourceKind:
    if source == "test" or source.startswith("test:"):
        return "test"
    if source.startswith(("rtsp://", "rtsps://")):
        return "rtsp"
    return "device" if DEVICE.match(source) else "file"


def open_media(source: str) -> InputContainer:
    """Open a file, camera address or device, or say why not."""
    kind = kind_of(source)
    if kind == "file" and not Path(source).is_file():
        raise CommandError(
            say(
                f"没有这个文件：{source}（也可以用 rtsp:// 地址、/dev/video0 或 test:）",
                f"no such file: {source} (an rtsp:// address, /dev/video0 or test: would do too)",
            ),
            kind="no-source",
        )
    try:
        if kind == "rtsp":
            return av.open(
                source,
                options={"rtsp_transport": "tcp"},
                timeout=(NETWORK_TIMEOUT_S, NETWORK_TIMEOUT_S),
            )
        if kind == "device":
            return av.open(source, format="v4l2", options={"framerate": "30"})
        return av.open(source)
    except (av.FFmpegError, OSError) as error:
        raise CommandError(
            say(f"打不开 {source}：{error}", f"cannot open {source}: {error}"), kind="no-source"
        ) from error


def first_streams(container: InputContainer) -> tuple[VideoStream | None, AudioStream | None]:
    video = next(iter(container.streams.video), None)
    audio = next(iter(container.streams.audio), None)
    if video is not None and (video.codec_context is None or not video.codec_context.width):
        video = None
    return video, audio


def video_facts(stream: VideoStream, times: Iterable[PacketTimes] | None) -> VideoFacts:
    """Facts of a video stream; `times` are those of its packets in file order, where known."""
    context = stream.codec_context
    rate = stream.average_rate or stream.guessed_rate
    seen = list(times) if times is not None else None
    return VideoFacts(
        codec=context.name if context.name not in ("libvpx",) else "vp8",
        width=context.width,
        height=context.height,
        fps=float(rate) if rate else 25.0,
        pixel_format=context.pix_fmt or "",
        reordered=is_reordered(seen) if seen is not None else bool(context.has_b_frames),
        keyframe_gap_s=keyframe_gap_s(seen) if seen is not None else None,
        has_timestamps=seen is None or len(seen) > 0,
    )


def audio_facts(stream: AudioStream) -> AudioFacts:
    name = stream.codec_context.name
    return AudioFacts(codec="opus" if name in ("opus", "libopus") else name)


def packet_times(container: InputContainer, stream: VideoStream) -> list[PacketTimes]:
    """Read the first minute of a file without decoding, then rewind it."""
    times: list[PacketTimes] = []
    try:
        for packet in container.demux(stream):
            if packet.pts is None or packet.time_base is None:
                continue
            times.append(PacketTimes(float(packet.pts * packet.time_base), packet.is_keyframe))
            if len(times) >= EXAMINED_PACKETS or times[-1].pts_s - times[0].pts_s > EXAMINED_S:
                break
    except av.FFmpegError as error:
        if not times:
            raise CommandError(
                say(f"读不了画面：{error}", f"cannot read the video: {error}"), kind="no-source"
            ) from error
    container.seek(0)
    return times


def is_reordered(times: Iterable[PacketTimes]) -> bool:
    latest = float("-inf")
    for packet in times:
        if packet.pts_s < latest:
            return True
        latest = packet.pts_s
    return False


def keyframe_gap_s(times: Iterable[PacketTimes]) -> float | None:
    """The longest wait for a key frame; the stretch after the last one is a wait too."""
    packets = list(times)
    keys = [packet.pts_s for packet in packets if packet.keyframe]
    if not keys:
        return float("inf") if packets else None
    end_s = max(packet.pts_s for packet in packets)
    edges = [*keys, end_s]
    return max(later - earlier for earlier, later in pairwise(edges))
