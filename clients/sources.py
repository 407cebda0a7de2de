"""What can be published: files, cameras and generated lessons, read by one thread and paced live.

A source outlives connections. Each connection attaches its own tracks; what nobody listens to is
thrown away, as it would be with a camera.
"""

from __future__ import annotations

import asyncio
import fractions
import heapq
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import av
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.bitstream import BitStreamFilterContext
from av.container import InputContainer
from av.frame import Frame
from av.packet import Packet
from av.stream import Stream
from av.video.stream import VideoStream

from .examine import audio_facts, first_streams, kind_of, open_media, packet_times, video_facts
from .plan import AudioPlan, CodecChoice, Plan, VideoPlan, plan_audio, plan_video
from .retry import Backoff
from .tracks import Item, LiveTrack
from .words import CommandError, progress, say

VIDEO_CLOCK_HZ = 90_000
AUDIO_RATE_HZ = 48_000
AUDIO_BLOCK = 960  # samples: 20 ms
READ_AHEAD_S = 1.0  # containers interleave picture and sound that far apart
FALLEN_BEHIND_S = 1.0
AUDIO_GAP_S = 0.1
THREAD_JOIN_S = 3.0
VIDEO_TIME_BASE = fractions.Fraction(1, VIDEO_CLOCK_HZ)
AUDIO_TIME_BASE = fractions.Fraction(1, AUDIO_RATE_HZ)


class Timed(NamedTuple):
    """A frame or packet and the moment it is due, in seconds of the source's own time."""

    due_s: float
    kind: str
    item: Item


class Source(ABC):
    """The thread that reads, and the tracks that listen now."""

    paced = True

    def __init__(self, name: str, plan: Plan) -> None:
        self.name = name
        self.plan = plan
        self.ended = asyncio.Event()
        self.failure: str | None = None
        self._tracks: dict[str, LiveTrack] = {}
        self._loop = asyncio.get_running_loop()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"source {name}", daemon=True)

    @abstractmethod
    def items(self) -> Iterator[Timed]:
        """Everything the source has, in the order it is due; runs on the source's thread."""

    def attach(self) -> dict[str, LiveTrack]:
        """Fresh tracks for a new connection; those of an earlier one hear nothing any more."""
        self._tracks = {}
        if self.plan.video is not None:
            self._tracks["video"] = LiveTrack("video")
        if self.plan.audio is not None:
            self._tracks["audio"] = LiveTrack("audio")
        return self._tracks

    def start(self) -> None:
        if not self._thread.is_alive() and not self._stop.is_set() and not self.ended.is_set():
            self._thread.start()

    def close(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(THREAD_JOIN_S)

    def _run(self) -> None:
        origin_s = time.monotonic()
        try:
            for due_s, kind, item in self.items():
                if self.paced:
                    wait_s = origin_s + due_s - time.monotonic()
                    if wait_s > 0:
                        self._stop.wait(wait_s)
                    elif wait_s < -FALLEN_BEHIND_S:
                        origin_s -= wait_s  # suspended or starved: go on from here, not in a rush
                if self._stop.is_set():
                    return
                self._loop.call_soon_threadsafe(self._deliver, kind, item)
        except (av.FFmpegError, CommandError, OSError) as error:
            self.failure = str(error)
        except Exception as error:  # noqa: BLE001 - the edge of a thread: the publisher reports it
            self.failure = f"{type(error).__name__}: {error}"
        finally:
            if not self._loop.is_closed():
                self._loop.call_soon_threadsafe(self._finish)

    def _deliver(self, kind: str, item: Item) -> None:
        track = self._tracks.get(kind)
        if track is not None:
            track.push(item)

    def _finish(self) -> None:
        self.ended.set()
        for track in self._tracks.values():
            track.finish()


class FileSource(Source):
    """A media file, once or for ever, without a seam in its timestamps."""

    def __init__(self, path: str, plan: Plan, *, loop: bool) -> None:
        super().__init__(path, plan)
        self._path = path
        self._repeat = loop

    def items(self) -> Iterator[Timed]:
        offset_s = 0.0
        while not self._stop.is_set():
            reader = Reader(self._path, self.plan, offset_s)
            yield from in_time_order(reader.items(), READ_AHEAD_S)
            if not self._repeat or reader.end_s <= offset_s:
                return
            offset_s = reader.end_s


class CameraSource(Source):
    """An RTSP address or a V4L2 device: comes at its own pace and is opened again when it fails."""

    paced = False

    def items(self) -> Iterator[Timed]:
        began_s = time.monotonic()
        end_s = 0.0
        backoff = Backoff()
        while not self._stop.is_set():
            try:
                # A camera may run ahead of our clock; its timestamps must still never go back.
                reader = Reader(self.name, self.plan, max(end_s, time.monotonic() - began_s))
                for timed in reader.items():
                    backoff.succeeded()
                    end_s = reader.end_s
                    yield timed
                reason = say("信号中断", "the signal ended")
            except (av.FFmpegError, CommandError, OSError) as error:
                reason = str(error)
            delay_s = backoff.next_delay_s()
            progress(
                say(
                    f"{self.name}：{reason}，{delay_s:.1f} 秒后重新打开",
                    f"{self.name}: {reason}; opening it again in {delay_s:.1f} s",
                )
            )
            self._stop.wait(delay_s)


class Reader:
    """One pass over a container, as the plan wants it: packets as they are, or frames."""

    def __init__(self, address: str, plan: Plan, offset_s: float) -> None:
        self.end_s = offset_s
        self._container: InputContainer = open_media(address)
        self._offset_s = offset_s
        video, audio = first_streams(self._container)
        self._video = Videos(video, plan.video) if video and plan.video else None
        self._audio = Sounds(audio, plan.audio) if audio and plan.audio else None
        self._base_s: float | None = None

    def items(self) -> Iterator[Timed]:
        streams = [part.stream for part in (self._video, self._audio) if part is not None]
        try:
            for packet in self._container.demux(*streams):
                if packet.dts is None and packet.pts is None:
                    continue  # the flush packet; each part is flushed below
                if self._base_s is None:
                    self._base_s = _time_s(packet) or 0.0
                part = self._video if isinstance(packet.stream, VideoStream) else self._audio
                if part is not None:
                    yield from self._shifted(part.take(packet))
            for part in (self._video, self._audio):
                if part is not None:
                    yield from self._shifted(part.flush())
        finally:
            self._container.close()

    def _shifted(self, timed: Iterable[Timed]) -> Iterator[Timed]:
        """Move source times so that this pass begins at its offset, and stamp the items so."""
        shift_s = self._offset_s - (self._base_s or 0.0)
        for time_s, kind, item in timed:
            due_s = max(self._offset_s, time_s + shift_s)
            if kind == "video":
                _stamp(item, due_s, VIDEO_CLOCK_HZ, VIDEO_TIME_BASE)
                lasts_s = 1.0 / self._video.fps if self._video is not None else 0.0
            else:
                _stamp(item, due_s, AUDIO_RATE_HZ, AUDIO_TIME_BASE)
                lasts_s = AUDIO_BLOCK / AUDIO_RATE_HZ
            self.end_s = max(self.end_s, due_s + lasts_s)
            yield Timed(due_s, kind, item)


class Videos:
    """The video half of a pass."""

    def __init__(self, stream: VideoStream, plan: VideoPlan) -> None:
        self.stream = stream
        self.fps = max(plan.fps, 1.0)
        self._plan = plan
        self._next_s = float("-inf")
        # Browsers want start codes and the parameter sets before each key frame, not `avcC`.
        self._filter = (
            BitStreamFilterContext("h264_mp4toannexb", stream)
            if plan.passthrough and plan.codec == "h264"
            else None
        )
        stream.thread_type = "AUTO"

    def take(self, packet: Packet[Stream]) -> Iterator[Timed]:
        if not self._plan.passthrough:
            yield from self._frames(packet)
        else:
            packets = self._filter.filter(packet) if self._filter is not None else [packet]
            yield from self._packets(packets)

    def flush(self) -> Iterator[Timed]:
        if not self._plan.passthrough:
            yield from self._frames(None)
        elif self._filter is not None:
            yield from self._packets(self._filter.filter(None))

    def _packets(self, packets: Iterable[Packet[Stream]]) -> Iterator[Timed]:
        for packet in packets:
            time_s = _time_s(packet, self.stream.time_base)
            if time_s is not None and packet.size:
                yield Timed(time_s, "video", packet)

    def _frames(self, packet: Packet[Stream] | None) -> Iterator[Timed]:
        try:
            frames = self.stream.codec_context.decode(packet)
        except av.error.InvalidDataError:
            return  # a damaged frame; the next ones may be whole
        for frame in frames:
            # Not `frame.time`: what a decoder gives when it is flushed has lost its time base.
            time_s = _frame_s(frame, self.stream)
            if time_s is None or time_s < self._next_s:
                continue
            # Half a frame of slack, so that 29.97 against 30 loses nothing.
            self._next_s = time_s + 0.5 / self._plan.fps
            scaled = frame.reformat(self._plan.width, self._plan.height, "yuv420p")
            yield Timed(time_s, "video", scaled)


class Sounds:
    """The audio half of a pass: Opus packets, or 20 ms blocks for the Opus encoder."""

    def __init__(self, stream: AudioStream, plan: AudioPlan) -> None:
        self.stream = stream
        self._plan = plan
        self._resampler = AudioResampler(
            format="s16", layout="stereo", rate=AUDIO_RATE_HZ, frame_size=AUDIO_BLOCK
        )
        self._anchor_s: float | None = None
        self._samples = 0

    def take(self, packet: Packet[Stream]) -> Iterator[Timed]:
        if self._plan.passthrough:
            time_s = _time_s(packet, self.stream.time_base)
            if time_s is not None and packet.size:
                yield Timed(time_s, "audio", packet)
            return
        yield from self._frames(packet)

    def flush(self) -> Iterator[Timed]:
        if not self._plan.passthrough:
            yield from self._frames(None)

    def _frames(self, packet: Packet[Stream] | None) -> Iterator[Timed]:
        try:
            frames = self.stream.codec_context.decode(packet)
        except av.error.InvalidDataError:
            return
        for frame in frames:
            yield from self._blocks(frame)

    def _blocks(self, frame: AudioFrame) -> Iterator[Timed]:
        expected_s = (self._anchor_s or 0.0) + self._samples / AUDIO_RATE_HZ
        time_s = _frame_s(frame, self.stream)
        if time_s is not None and (
            self._anchor_s is None or abs(time_s - expected_s) > AUDIO_GAP_S
        ):
            self._anchor_s, self._samples = time_s, 0
        frame.pts = None  # the resampler must not stretch sound to fit odd timestamps
        for block in self._resampler.resample(frame):
            at_s = (self._anchor_s or 0.0) + self._samples / AUDIO_RATE_HZ
            self._samples += block.samples
            yield Timed(at_s, "audio", block)


def open_source(source: str, *, loop: bool, codec: CodecChoice = "auto") -> Source:
    """Look at a source, decide how it is sent, and make it ready; nothing runs before `start`."""
    kind = kind_of(source)
    if kind == "test":
        from .generated import generated_source  # numpy and OpenCV: only when drawn

        return generated_source(source, codec)
    with open_media(source) as container:
        video, audio = first_streams(container)
        if video is None and audio is None:
            raise CommandError(
                say(f"{source} 里没有画面也没有声音", f"{source} has neither picture nor sound"),
                kind="no-source",
            )
        times = packet_times(container, video) if kind == "file" and video is not None else None
        plan = Plan(
            video=plan_video(video_facts(video, times), codec) if video is not None else None,
            audio=plan_audio(audio_facts(audio)) if audio is not None else None,
        )
    if kind == "file":
        return FileSource(source, plan, loop=loop)
    return CameraSource(source, plan)


def in_time_order(items: Iterable[Timed], window_s: float) -> Iterator[Timed]:
    """Sort a stream whose parts run at most `window_s` apart, holding no more than that."""
    heap: list[tuple[float, int, Timed]] = []
    newest_s = float("-inf")
    for count, timed in enumerate(items):
        newest_s = max(newest_s, timed.due_s)
        heapq.heappush(heap, (timed.due_s, count, timed))
        while heap and newest_s - heap[0][0] > window_s:
            yield heapq.heappop(heap)[2]
    while heap:
        yield heapq.heappop(heap)[2]


def _time_s(packet: Packet[Stream], time_base: fractions.Fraction | None = None) -> float | None:
    stamp = packet.pts if packet.pts is not None else packet.dts
    base = packet.time_base or time_base
    return float(stamp * base) if stamp is not None and base is not None else None


def _frame_s(frame: Frame, stream: Stream) -> float | None:
    if frame.pts is None or stream.time_base is None:
        return None
    return float(frame.pts * stream.time_base)


def _stamp(item: Item, due_s: float, clock_hz: int, time_base: fractions.Fraction) -> None:
    item.pts = round(due_s * clock_hz)
    if isinstance(item, Packet):
        item.dts = item.pts
    item.time_base = time_base
