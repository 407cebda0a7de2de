"""Returns: what a teaching point may send back and in which quality, and who may receive what.

Decisions only: nothing here opens, moves or closes anything.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from mixer.control import MAX_WALL_TILES
from signaling import permissions
from signaling.config_model import Config
from signaling.lessons import Lesson
from signaling.problems import Problem
from signaling.tokens import Claims

Quality = Literal["off", "tile", "full"]

AUDIO_KBPS = 32
TILE = (320, 180, 15)  # width, height, frames a second
FULL = (1280, 720, 25)
# Software decoders are quickest with VP8; what is H.264 in hardware costs the sender less.
CODECS = ["vp8", "h264"]
# A lesson's returns are its wall's tiles.
MAX_RETURNS = MAX_WALL_TILES


class ReturnSize(msgspec.Struct, frozen=True, kw_only=True):
    """What a seat is to send now; zeros when nothing."""

    quality: Quality
    width: int = 0
    height: int = 0
    fps: int = 0
    kbps: int = 0

    def document(self) -> dict[str, object]:
        return {"type": "return", **msgspec.structs.asdict(self)}


def offered(config: Config, lesson: Lesson) -> Quality:
    """What the lesson's mode offers; a mode that the configuration no longer has offers nothing."""
    mode = config.modes.get(lesson.mode)
    return mode.returns if mode is not None else "off"


def size(config: Config, lesson: Lesson, seat_id: str) -> ReturnSize:
    """What a seat is to send: full on the floor, else as its mode says."""
    quality = offered(config, lesson)
    if quality == "off":
        return ReturnSize(quality="off")
    if quality == "tile" and seat_id not in lesson.floor:
        width, height, fps = TILE
        kbps = config.mixer.tile_kbps
    else:
        quality = "full"
        width, height, fps = FULL
        kbps = config.mixer.full_kbps
    return ReturnSize(quality=quality, width=width, height=height, fps=fps, kbps=kbps)


def require_return(config: Config, lesson: Lesson, claims: Claims) -> None:
    """Raises Problem `forbidden` that says why, or `too-many-sessions`."""
    permissions.require_sight(claims, lesson)
    if claims.role != "point" or claims.seat is None:
        raise refused(
            claims, "回传需要席位的令牌", "a return is published with the token of a seat"
        )
    if offered(config, lesson) == "off":
        raise no_returns(claims, lesson)
    if claims.seat not in lesson.returns and len(lesson.returns) >= MAX_RETURNS:
        raise Problem("too-many-sessions")


def receivable(config: Config, lesson: Lesson, name: str, claims: Claims) -> str:
    """The stream that a token may receive under `name`. Raises Problem."""
    permissions.require_sight(claims, lesson)
    if name in ("wall", "teacher-mix") or name.startswith("return~"):
        if not permissions.owns(claims, lesson):
            raise refused(
                claims,
                "只有老师和运维人员可以查看课堂墙",
                "only the teacher and the operations staff see and hear the returns",
            )
        if name.startswith("return~"):
            stream = lesson.inner.get(name)
            if stream is None:
                raise Problem("no-such-stream")
            return stream.name
        return lesson.inner_stream(name).name
    if name == "class":
        if claims.seat is None:
            raise refused(claims, "需要席位的令牌", "it is for seats: use the token of one")
        if offered(config, lesson) == "off":
            raise no_returns(claims, lesson)
        return lesson.inner_stream(name).name
    return lesson.stream(name).name


def class_output(lesson: Lesson, seat_id: str) -> str:
    """Which sound a seat gets: everybody's, or, once it may be heard, all but its own."""
    floor = lesson.floor
    own = seat_id in floor or (floor.all_answer and seat_id in lesson.returns)
    return f"class~{seat_id}" if own else "class"


def refused(claims: Claims, zh: str, en: str) -> Problem:
    return Problem(
        "forbidden", detail_args={"role": claims.role, "reason": {"zh-CN": zh, "en": en}}
    )


def no_returns(claims: Claims, lesson: Lesson) -> Problem:
    return refused(
        claims,
        f"{lesson.mode} 模式的课没有回传",
        f"lessons in mode {lesson.mode} have no returns",
    )
