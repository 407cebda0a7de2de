"""Decides from the facts of a source whether its tracks are sent as they are or encoded, and why.

A browser plays an H.264 or VP8 stream as it is unless frames come out of order (B-frames), the
samples are not 8-bit 4:2:0, or key frames are so far apart that a late joiner would wait.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .words import say

VideoCodec = Literal["h264", "vp8"]
CodecChoice = Literal["auto", "h264", "vp8"]
CODEC_CHOICES: tuple[CodecChoice, ...] = ("auto", "h264", "vp8")

LONGEST_KEYFRAME_GAP_S = 3.0
LARGEST_WIDTH_PX = 1920
LARGEST_HEIGHT_PX = 1088
SENDABLE: tuple[VideoCodec, ...] = ("h264", "vp8")
PLAYABLE_PIXEL_FORMATS = ("yuv420p", "yuvj420p")

# Encoded pictures are brought within this, which a classroom's line and a small server bear.
ENCODE_WIDTH_PX = 1280
ENCODE_HEIGHT_PX = 720
ENCODE_FPS = 30.0

DEFAULT_KBPS = 1500
AUDIO_KBPS = 48


@dataclass(frozen=True, slots=True)
class VideoFacts:
    """What was seen of a source's video; `keyframe_gap_s` is None where it cannot be known."""

    codec: str
    width: int
    height: int
    fps: float
    pixel_format: str
    reordered: bool = False
    keyframe_gap_s: float | None = None
    has_timestamps: bool = True


@dataclass(frozen=True, slots=True)
class AudioFacts:
    codec: str
    has_timestamps: bool = True


@dataclass(frozen=True, slots=True)
class VideoPlan:
    """How the video goes out. `reason` is empty when it is sent as it is."""

    codec: VideoCodec
    passthrough: bool
    reason: str
    width: int
    height: int
    fps: float


@dataclass(frozen=True, slots=True)
class AudioPlan:
    passthrough: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Plan:
    video: VideoPlan | None
    audio: AudioPlan | None


def plan_video(facts: VideoFacts, choice: CodecChoice = "auto") -> VideoPlan:
    reason = _reason_to_encode(facts, choice)
    if not reason:
        codec = next(codec for codec in SENDABLE if codec == facts.codec)
        return VideoPlan(codec, True, "", facts.width, facts.height, facts.fps)
    width, height = fitted(facts.width, facts.height)
    # VP8 when nobody minds: every browser build has it, also those without licensed codecs.
    return VideoPlan(
        codec="vp8" if choice == "auto" else choice,
        passthrough=False,
        reason=reason,
        width=width,
        height=height,
        fps=min(facts.fps, ENCODE_FPS) if facts.fps > 0 else 25.0,
    )


def plan_audio(facts: AudioFacts) -> AudioPlan:
    if facts.codec == "opus" and facts.has_timestamps:
        return AudioPlan(True, "")
    return AudioPlan(
        False, say(f"声音是 {facts.codec}，不是 Opus", f"the sound is {facts.codec}, not Opus")
    )


def fitted(width: int, height: int) -> tuple[int, int]:
    """The size within the encoding limits, same shape, even sides."""
    scale = min(1.0, ENCODE_WIDTH_PX / max(width, 1), ENCODE_HEIGHT_PX / max(height, 1))
    return max(2, round(width * scale / 2) * 2), max(2, round(height * scale / 2) * 2)


def _reason_to_encode(facts: VideoFacts, choice: CodecChoice) -> str:
    if facts.codec not in SENDABLE:
        return say(
            f"画面编码是 {facts.codec}，浏览器收不了",
            f"the picture is {facts.codec}, which not every browser takes",
        )
    if choice not in ("auto", facts.codec):
        return say(
            f"按要求从 {facts.codec} 转为 {choice}", f"{choice} was asked for, not {facts.codec}"
        )
    if facts.pixel_format not in PLAYABLE_PIXEL_FORMATS:
        return say(
            f"像素格式 {facts.pixel_format} 不是 8 位 4:2:0",
            f"its pixel format {facts.pixel_format} is not 8-bit 4:2:0",
        )
    if facts.width > LARGEST_WIDTH_PX or facts.height > LARGEST_HEIGHT_PX:
        return say(
            f"画面 {facts.width}×{facts.height} 太大",
            f"a picture of {facts.width}×{facts.height} is too large",
        )
    if not facts.has_timestamps:
        return say("帧没有时间戳", "its frames carry no timestamps")
    if facts.reordered:
        return say("有 B 帧，顺序与显示不同", "it has B-frames, which WebRTC cannot carry")
    gap_s = facts.keyframe_gap_s
    if gap_s is not None and gap_s > LONGEST_KEYFRAME_GAP_S:
        return say(
            f"关键帧相隔 {gap_s:.1f} 秒，后来的人要等（上限 {LONGEST_KEYFRAME_GAP_S:.0f} 秒）",
            f"its key frames are {gap_s:.1f} s apart, too long a wait for late joiners"
            f" (limit {LONGEST_KEYFRAME_GAP_S:.0f} s)",
        )
    return ""
