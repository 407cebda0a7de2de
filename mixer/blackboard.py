"""Draws a lesson on a blackboard: chalk that appears stroke by stroke, a clock, a frame counter.

`frame(t)` is a function of time alone. The board is kept with the strokes drawn so far, so that a
frame costs one copy and the few new strokes; going back in time starts from the clean board.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Protocol

import cv2
import numpy as np
import numpy.typing as npt

from .handwriting import Stroke, arc, glyph_strokes, hatching

Image = npt.NDArray[np.uint8]  # height × width × 3, blue green red
Colour = tuple[int, int, int]

WHITE: Colour = (232, 238, 236)
YELLOW: Colour = (120, 218, 250)
PINK: Colour = (176, 160, 248)
BLUE: Colour = (240, 208, 150)

# The lesson is laid out on a board of 1280 by 720 and scaled to whatever is asked for.
DESIGN_WIDTH = 1280.0
DESIGN_HEIGHT = 720.0
FRAME_PX = 20.0
PIECE_PX = 7.0  # strokes are drawn in whole pieces, so any route to a time gives the same picture
PEN_SPEED_PX_S = 430.0
LIFT_S = 0.09  # between strokes

LESSON_S = 60.0
WIPE_AT_S = 56.0
WIPE_S = 3.0


class Painter(Protocol):
    """Something that draws itself at any time."""

    @property
    def width(self) -> int: ...

    @property
    def height(self) -> int: ...

    def frame(self, t_s: float) -> Image: ...


@dataclass(frozen=True, slots=True)
class Piece:
    """A short stretch of chalk, visible from `at_s` on. Design coordinates."""

    at_s: float
    x0: float
    y0: float
    x1: float
    y1: float
    width: float
    colour: Colour


class Script:
    """Collects what is written when; turns strokes into timed pieces."""

    def __init__(self) -> None:
        self.pieces: list[Piece] = []
        self._now_s = 0.8

    def write(
        self, text: str, x: float, y: float, size: float, colour: Colour, width: float = 5.0
    ) -> None:
        for index, glyph in enumerate(text):
            for stroke in glyph_strokes(glyph, x + index * size * 1.12, y, size):
                self.draw(stroke, colour, width)

    def fraction(self, top: str, bottom: str, x: float, y: float, colour: Colour) -> None:
        size = 64.0
        self.write(top, x, y, size, colour)
        self.draw([(x - 2, y + size + 13), (x + size + 2, y + size + 11)], colour, 5.0)
        self.write(bottom, x, y + size + 24, size, colour)

    def draw(self, stroke: Stroke, colour: Colour, width: float, speed: float = 1.0) -> None:
        for (x0, y0), (x1, y1) in pairwise(stroke):
            length = math.hypot(x1 - x0, y1 - y0)
            count = max(1, round(length / PIECE_PX))
            step_s = length / count / (PEN_SPEED_PX_S * speed)
            for i in range(count):
                self._now_s += step_s
                a, b = i / count, (i + 1) / count
                self.pieces.append(
                    Piece(
                        self._now_s,
                        x0 + (x1 - x0) * a,
                        y0 + (y1 - y0) * a,
                        x0 + (x1 - x0) * b,
                        y0 + (y1 - y0) * b,
                        width,
                        colour,
                    )
                )
        self._now_s += LIFT_S / speed

    def pause(self, until_s: float) -> None:
        """Talk, without writing, until a moment of the lesson."""
        self._now_s = max(self._now_s, until_s)


@cache
def lesson() -> tuple[Piece, ...]:
    """Adding fractions: a half and a quarter make three quarters."""
    script = Script()
    script.write("分数加法", 76, 54, 88, YELLOW, 6.0)
    script.draw([(70, 158), (250, 153), (474, 156)], YELLOW, 4.0)
    middle_y, radius = 500.0, 92.0
    halves, quarters, total = (220.0, middle_y), (590.0, middle_y), (1000.0, middle_y)

    script.pause(12.0)
    script.fraction("1", "2", 188, 200, WHITE)
    script.draw(arc(halves, radius, -90, 270), WHITE, 4.5)
    script.draw([(halves[0], middle_y - radius), (halves[0], middle_y + radius)], WHITE, 4.0)
    for stroke in hatching(halves, radius, 90, 270, 11):
        script.draw(stroke, PINK, 3.0, speed=2.5)
    script.write("二分之一", 142, 626, 36, WHITE, 3.4)

    script.pause(24.0)
    script.write("+", 372, 240, 72, WHITE)
    script.fraction("1", "4", 558, 200, WHITE)
    script.draw(arc(quarters, radius, -90, 270), WHITE, 4.5)
    script.draw([(quarters[0], middle_y - radius), (quarters[0], middle_y + radius)], WHITE, 4.0)
    script.draw([(quarters[0] - radius, middle_y), (quarters[0] + radius, middle_y)], WHITE, 4.0)
    for stroke in hatching(quarters, radius, 270, 360, 11):
        script.draw(stroke, BLUE, 3.0, speed=2.5)
    script.write("四分之一", 512, 626, 36, WHITE, 3.4)

    script.pause(37.0)
    script.write("=", 754, 240, 72, WHITE)
    script.fraction("3", "4", 968, 200, YELLOW)
    script.draw(arc(total, radius, -90, 270), WHITE, 4.5)
    script.draw([(total[0], middle_y - radius), (total[0], middle_y + radius)], WHITE, 4.0)
    script.draw([(total[0] - radius, middle_y), (total[0] + radius, middle_y)], WHITE, 4.0)
    for stroke in hatching(total, radius, 90, 270, 11):
        script.draw(stroke, PINK, 3.0, speed=2.5)
    for stroke in hatching(total, radius, 270, 360, 11):
        script.draw(stroke, BLUE, 3.0, speed=2.5)
    script.write("四分之三", 922, 626, 36, YELLOW, 3.4)
    script.draw(arc((1000, 277), 118, -80, 285), PINK, 4.0)
    return tuple(script.pieces)


class Blackboard:
    """The board of one lesson, repeated every minute. `counter_fps` is what the counter counts."""

    def __init__(
        self, width: int = 1280, height: int = 720, *, clock: bool = True, counter_fps: float = 15.0
    ) -> None:
        self.width = width
        self.height = height
        self._scale = min(width / DESIGN_WIDTH, height / DESIGN_HEIGHT)
        self._clock = clock
        self._counter_fps = counter_fps
        self._clean = _clean_board(width, height)
        self._grain = _grain(width, height)
        self._board = self._clean.copy()
        self._drawn = 0
        self._pieces = lesson()

    def frame(self, t_s: float) -> Image:
        """The picture at a time, a fresh array of blue, green, red bytes."""
        lesson_s = t_s % LESSON_S
        self._draw_until(lesson_s)
        picture = self._board.copy()
        if lesson_s >= WIPE_AT_S:
            self._wipe(picture, (lesson_s - WIPE_AT_S) / WIPE_S)
        else:
            self._chalk(picture, lesson_s)
        if self._clock:
            self._draw_clock(picture, t_s)
        return picture

    def pen(self, t_s: float) -> tuple[float, float] | None:
        """Where the chalk is, in pixels, or None while nothing is written."""
        lesson_s = t_s % LESSON_S
        if not self._drawn or lesson_s >= WIPE_AT_S:
            return None
        piece = self._pieces[self._drawn - 1]
        if lesson_s - piece.at_s > 0.6:
            return None
        return piece.x1 * self._scale, piece.y1 * self._scale

    def _draw_until(self, lesson_s: float) -> None:
        if self._drawn and self._pieces[self._drawn - 1].at_s > lesson_s:
            self._board[:] = self._clean
            self._drawn = 0
        while self._drawn < len(self._pieces) and self._pieces[self._drawn].at_s <= lesson_s:
            self._draw(self._pieces[self._drawn])
            self._drawn += 1

    def _draw(self, piece: Piece) -> None:
        """Blend one piece into the board, its edge broken by the grain of the slate."""
        scale = self._scale
        width = max(1, round(piece.width * scale))
        margin = width + 2
        x0, y0, x1, y1 = (v * scale for v in (piece.x0, piece.y0, piece.x1, piece.y1))
        left = max(0, int(min(x0, x1)) - margin)
        top = max(0, int(min(y0, y1)) - margin)
        right = min(self.width, int(max(x0, x1)) + margin + 1)
        bottom = min(self.height, int(max(y0, y1)) + margin + 1)
        if right <= left or bottom <= top:
            return
        mask = np.zeros((bottom - top, right - left), np.uint8)
        cv2.line(
            mask,
            (round((x0 - left) * 16), round((y0 - top) * 16)),
            (round((x1 - left) * 16), round((y1 - top) * 16)),
            255,
            width,
            cv2.LINE_AA,
            4,
        )
        area = self._board[top:bottom, left:right]
        share = (mask * self._grain[top:bottom, left:right])[..., None]
        area[:] = (area + (np.asarray(piece.colour, np.float32) - area) * share).astype(np.uint8)

    def _chalk(self, picture: Image, lesson_s: float) -> None:
        """The stick of chalk itself, where it writes."""
        pen = self.pen(lesson_s)
        if pen is None:
            return
        x, y = pen
        size = 26 * self._scale
        thickness = max(2, round(9 * self._scale))
        end = (round(x + size), round(y + size * 0.9))
        cv2.line(picture, (round(x) + 2, round(y) + 2), end, (150, 160, 158), thickness + 2, 16)
        cv2.line(picture, (round(x) + 1, round(y) + 1), end, (245, 248, 248), thickness, 16)

    def _wipe(self, picture: Image, share: float) -> None:
        """A wet cloth from left to right; behind it the board is clean."""
        inner_left, inner_right = round(FRAME_PX * self._scale), self.width
        edge = inner_left + round((inner_right - inner_left) * min(share, 1.0))
        picture[:, :edge] = self._clean[:, :edge]
        if share >= 1.0:
            return
        inside = slice(inner_left, self.height - inner_left)
        wet = picture[inside, max(inner_left, edge - round(150 * self._scale)) : edge]
        wet[:] = (wet * np.float32(0.86)).astype(np.uint8)
        cloth = round(46 * self._scale)
        swing = round(math.sin(share * 40) * 0.3 * self.height)
        centre = self.height // 2 + swing
        corner = (edge - cloth, centre - 2 * cloth)
        cv2.rectangle(picture, corner, (edge, centre + 2 * cloth), (92, 120, 196), -1)
        cv2.rectangle(picture, corner, (edge, centre - cloth), (120, 150, 222), -1)

    def _draw_clock(self, picture: Image, t_s: float) -> None:
        scale = self._scale
        minutes, seconds = divmod(t_s, 60.0)
        text = f"{int(minutes) % 100:02d}:{seconds:04.1f}"
        counter = f"#{int(t_s * self._counter_fps + 0.5):06d}"
        x, y = round(self.width - 214 * scale), round(84 * scale)
        font = cv2.FONT_HERSHEY_DUPLEX
        thin = max(1, round(1.6 * scale))
        cv2.putText(picture, text, (x, y), font, 1.15 * scale, WHITE, thin, cv2.LINE_AA)
        small = (round(self.width - 122 * scale), round(118 * scale))
        grey = (150, 172, 164)
        cv2.putText(
            picture, counter, small, font, 0.6 * scale, grey, max(1, thin // 2), cv2.LINE_AA
        )


@cache
def _grain(width: int, height: int) -> npt.NDArray[np.float32]:
    """How much chalk the slate takes at each pixel, divided by 255."""
    rng = np.random.default_rng(7)
    fine = rng.random((height, width), dtype=np.float32)
    coarse = cv2.resize(
        rng.random((max(2, height // 3), max(2, width // 3)), dtype=np.float32), (width, height)
    )
    grain = np.clip(0.62 + 0.5 * fine * coarse + 0.22 * coarse, 0.0, 0.97)
    return np.asarray(grain / 255.0, dtype=np.float32)


@cache
def _clean_board(width: int, height: int) -> Image:
    """Dark green slate with the traces of earlier lessons, in a wooden frame with a tray."""
    rng = np.random.default_rng(3)
    scale = min(width / DESIGN_WIDTH, height / DESIGN_HEIGHT)
    board = np.empty((height, width, 3), np.float32)
    board[:] = (62, 82, 44)
    for cells, strength in ((5, 7.0), (14, 4.0), (60, 2.0)):
        shape = (max(2, cells * 9 // 16), cells)
        cloud = cv2.resize(
            rng.random(shape, dtype=np.float32) - 0.5,
            (width, height),
            interpolation=cv2.INTER_CUBIC,
        )
        # Smears of the cloth run sideways.
        board += (cv2.blur(cloud, (max(1, round(90 * scale)), 1)) * strength * 2)[..., None]
    board += rng.normal(0, 1.1, (height, width, 1)).astype(np.float32)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    distance = np.hypot((x - width / 2) / width, (y - height / 2) / height)
    board *= (1.07 - 0.42 * distance**2)[..., None]
    _wood(board, rng, scale)
    return np.asarray(np.clip(board, 0, 255), dtype=np.uint8)


def _wood(board: npt.NDArray[np.float32], rng: np.random.Generator, scale: float) -> None:
    height, width = board.shape[:2]
    edge = max(3, round(FRAME_PX * scale))
    wood = np.empty_like(board)
    wood[:] = (70, 112, 158)
    lines = rng.normal(0, 6, (height, 1, 1)).astype(np.float32)
    wood += cv2.blur(np.repeat(lines, width, axis=1), (1, 3))[..., None]
    inside = np.zeros((height, width), bool)
    inside[edge : height - edge, edge : width - edge] = True
    board[~inside] = wood[~inside]
    shadow = max(2, edge // 3)
    board[edge : edge + shadow, edge : width - edge] *= 0.72
    board[edge : height - edge, edge : edge + shadow] *= 0.8
    board[height - edge : height - edge + 2] *= 1.25
