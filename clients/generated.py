"""The `test:` sources: the lesson that `mixer` draws and speaks, as frames and blocks of sound."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from av.audio.frame import AudioFrame
from av.video.frame import VideoFrame

from mixer.blackboard import Blackboard, Painter
from mixer.teacher import TeacherScene
from mixer.voice import Voice

from .plan import AudioPlan, CodecChoice, Plan, VideoPlan
from .sources import (
    AUDIO_BLOCK,
    AUDIO_RATE_HZ,
    AUDIO_TIME_BASE,
    VIDEO_CLOCK_HZ,
    VIDEO_TIME_BASE,
    Source,
    Timed,
)
from .words import BAD_USAGE, CommandError, say

SCENES = ("blackboard", "teacher")


class GeneratedSource(Source):
    """Frames of a painter and blocks of a voice, due when their time comes."""

    def __init__(self, name: str, plan: Plan, painter: Painter, voice: Voice | None) -> None:
        super().__init__(name, plan)
        self._painter = painter
        self._voice = voice

    def items(self) -> Iterator[Timed]:
        assert self.plan.video is not None
        fps = self.plan.video.fps
        frame_count = block_count = 0
        while True:
            frame_s = frame_count / fps
            block_s = block_count * AUDIO_BLOCK / AUDIO_RATE_HZ
            if self._voice is not None and block_s <= frame_s:
                yield Timed(block_s, "audio", self._block(self._voice, block_s))
                block_count += 1
            else:
                yield Timed(frame_s, "video", self._frame(frame_s))
                frame_count += 1

    def _frame(self, at_s: float) -> VideoFrame:
        frame = VideoFrame.from_ndarray(self._painter.frame(at_s), format="bgr24")
        frame.pts = round(at_s * VIDEO_CLOCK_HZ)
        frame.time_base = VIDEO_TIME_BASE
        return frame

    def _block(self, voice: Voice, at_s: float) -> AudioFrame:
        mono = voice.samples(at_s, AUDIO_BLOCK)
        frame = AudioFrame.from_ndarray(np.repeat(mono, 2)[None, :], format="s16", layout="stereo")
        frame.sample_rate = AUDIO_RATE_HZ
        frame.pts = round(at_s * AUDIO_RATE_HZ)
        frame.time_base = AUDIO_TIME_BASE
        return frame


def generated_source(source: str, codec: CodecChoice) -> GeneratedSource:
    """`test:`, `test:blackboard` (both with the voice) or `test:teacher`."""
    scene = source.partition(":")[2] or "blackboard"
    voice = Voice()
    painter: Painter
    if scene == "blackboard":
        painter, fps = Blackboard(1280, 720), 15.0
    elif scene == "teacher":
        painter, fps = TeacherScene(960, 540, voice), 25.0
    else:
        known = ", ".join(f"test:{name}" for name in SCENES)
        raise CommandError(
            say(
                f"没有 {source!r} 这个画面，可用的有 {known}",
                f"no such picture: {source!r}. There are {known}",
            ),
            exit_code=BAD_USAGE,
            kind="no-source",
        )
    video = VideoPlan(
        codec="vp8" if codec == "auto" else codec,
        passthrough=False,
        reason=say("画面是现画的", "the picture is drawn as we go"),
        width=painter.width,
        height=painter.height,
        fps=fps,
    )
    return GeneratedSource(source, Plan(video, AudioPlan(False, "")), painter, voice)
