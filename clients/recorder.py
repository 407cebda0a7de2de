"""Writes received frames to an mp4, mkv or webm file, through reconnections, on its own thread."""

from __future__ import annotations

import fractions
import queue
import threading
from pathlib import Path

import av
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from .words import BAD_USAGE, CommandError, progress, say

CODECS = {
    ".mp4": ("libx264", "aac"),
    ".mkv": ("libx264", "libopus"),
    ".webm": ("libvpx", "libopus"),
}
VIDEO_OPTIONS = {
    "libx264": {"preset": "superfast", "crf": "23"},
    "libvpx": {"deadline": "realtime", "cpu-used": "8"},
}
VIDEO_KBPS = 2500
VIDEO_TIME_BASE = fractions.Fraction(1, 1000)
AUDIO_RATE_HZ = 48_000
AUDIO_TIME_BASE = fractions.Fraction(1, AUDIO_RATE_HZ)
DECIDE_AFTER_S = 2.0  # how long the other kind of track may stay away before we go on without it
MOST_QUEUED = 500

Job = tuple[float, VideoFrame | AudioFrame]


class FileRecorder:
    """`add` frames with the time they were received; `close` finishes the file."""

    def __init__(self, path: Path) -> None:
        if path.suffix.lower() not in CODECS:
            raise CommandError(
                say(
                    f"录不成 {path.name}：请用 {'、'.join(CODECS)}",
                    f"cannot record {path.name}: use {', '.join(CODECS)}",
                ),
                exit_code=BAD_USAGE,
                kind="bad-record-file",
            )
        self._video_codec, self._audio_codec = CODECS[path.suffix.lower()]
        try:
            path.open("wb").close()  # FFmpeg would notice only when it writes the header
            self._container: OutputContainer = av.open(str(path), "w")
        except (av.FFmpegError, OSError) as error:
            raise CommandError(
                say(f"写不了 {path}：{error}", f"cannot write {path}: {error}"),
                kind="bad-record-file",
            ) from error
        self.path = path
        self.failure: str | None = None
        self._jobs: queue.Queue[Job | None] = queue.Queue(MOST_QUEUED)
        self._early: list[Job] = []
        self._video: VideoStream | None = None
        self._audio: AudioStream | None = None
        self._started = False
        self._zero_s = 0.0
        self._last_pts: dict[str, int] = {}
        self._resampler = AudioResampler(format="s16", layout="stereo", rate=AUDIO_RATE_HZ)
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)
        self._thread.start()

    def add(self, at_s: float, frame: VideoFrame | AudioFrame) -> None:
        """Queue a frame; a disk that cannot follow loses frames, never the reception."""
        if not self._jobs.full():
            self._jobs.put_nowait((at_s, frame))

    def close(self) -> None:
        self._jobs.put(None)
        self._thread.join()

    def _run(self) -> None:
        try:
            while (job := self._jobs.get()) is not None:
                if self.failure is None:
                    self._take(job)
            if not self._started and self._early:
                self._start()
            if self._started:
                for stream in (self._video, self._audio):
                    if stream is not None:
                        self._container.mux(stream.encode(None))
        except (av.FFmpegError, OSError) as error:
            self.failure = str(error)
            progress(say(f"录制中断：{error}", f"recording stopped: {error}"))
            while self._jobs.get() is not None:
                continue
        finally:
            self._container.close()

    def _take(self, job: Job) -> None:
        if self._started:
            self._write(*job)
            return
        self._early.append(job)
        kinds = {type(frame) for _, frame in self._early}
        if len(kinds) == 2 or job[0] - self._early[0][0] > DECIDE_AFTER_S:
            self._start()

    def _start(self) -> None:
        """Make the streams that have been seen; the header cannot gain one later."""
        self._started = True
        first_video = next((f for _, f in self._early if isinstance(f, VideoFrame)), None)
        if first_video is not None:
            stream = self._container.add_stream(
                self._video_codec, rate=30, options=VIDEO_OPTIONS[self._video_codec]
            )
            assert isinstance(stream, VideoStream)
            stream.width, stream.height = first_video.width, first_video.height
            stream.pix_fmt = "yuv420p"
            if self._video_codec == "libvpx":
                stream.bit_rate = VIDEO_KBPS * 1000
            stream.codec_context.time_base = VIDEO_TIME_BASE
            self._video = stream
        if any(isinstance(frame, AudioFrame) for _, frame in self._early):
            audio = self._container.add_stream(self._audio_codec, rate=AUDIO_RATE_HZ)
            assert isinstance(audio, AudioStream)
            audio.codec_context.layout = "stereo"
            self._audio = audio
        self._zero_s = self._early[0][0]
        early, self._early = self._early, []
        for job in early:
            self._write(*job)

    def _write(self, at_s: float, frame: VideoFrame | AudioFrame) -> None:
        since_s = max(0.0, at_s - self._zero_s)
        if isinstance(frame, VideoFrame):
            if self._video is None:
                return
            picture = frame.reformat(self._video.width, self._video.height, "yuv420p")
            picture.pict_type = av.video.frame.PictureType.NONE
            picture.pts = self._after("video", round(since_s * 1000), 1)
            picture.time_base = VIDEO_TIME_BASE
            self._container.mux(self._video.encode(picture))
        elif self._audio is not None:
            frame.pts = None
            for block in self._resampler.resample(frame):
                pts = round(since_s * AUDIO_RATE_HZ)
                expected = self._last_pts.get("audio", pts)
                # Arrival times jitter; only a real gap may move sound.
                if abs(pts - expected) < AUDIO_RATE_HZ // 5:
                    pts = expected
                block.pts = max(pts, expected)
                block.time_base = AUDIO_TIME_BASE
                self._last_pts["audio"] = block.pts + block.samples
                self._container.mux(self._audio.encode(block))

    def _after(self, kind: str, pts: int, step: int) -> int:
        """Muxers want timestamps that grow."""
        pts = max(pts, self._last_pts.get(kind, -step) + step)
        self._last_pts[kind] = pts
        return pts
