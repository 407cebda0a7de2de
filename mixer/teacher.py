"""Draws a classroom: a teacher who talks in front of a blackboard, points and looks about."""

from __future__ import annotations

import math
from functools import cache

import cv2
import numpy as np

from .blackboard import Blackboard, Colour, Image
from .voice import Voice

SKIN: Colour = (172, 203, 240)
SKIN_SHADE: Colour = (146, 178, 222)
HAIR: Colour = (38, 34, 40)
JACKET: Colour = (128, 84, 56)
JACKET_SHADE: Colour = (104, 66, 42)
SHIRT: Colour = (244, 246, 248)
MOUTH: Colour = (88, 78, 168)
WOOD: Colour = (84, 128, 176)
WOOD_DARK: Colour = (62, 98, 140)
STICK: Colour = (150, 190, 214)

SUBPIXEL_BITS = 4
SUBPIXEL = 1 << SUBPIXEL_BITS
AA = cv2.LINE_AA

BOARD_SHARE = 0.78  # of the picture's width
BLINK_EVERY_S = 3.7
BLINK_S = 0.14


class TeacherScene:
    """The picture of the `camera` stream of a generated lesson."""

    def __init__(self, width: int = 960, height: int = 540, voice: Voice | None = None) -> None:
        self.width = width
        self.height = height
        self._voice = voice or Voice()
        board_width = round(width * BOARD_SHARE / 2) * 2
        board_height = round(board_width * 9 / 16 / 2) * 2
        self._board_x = round(width * 0.03)
        self._board_y = round(height * 0.06)
        self._board = Blackboard(board_width, min(board_height, height), clock=False)
        self._room = _room(width, height)

    def frame(self, t_s: float) -> Image:
        """The picture at a time, a fresh array of blue, green, red bytes."""
        picture = self._room.copy()
        board = self._board.frame(t_s)
        top, left = self._board_y, self._board_x
        picture[top : top + board.shape[0], left : left + board.shape[1]] = board
        self._figure(picture, t_s)
        self._desk(picture)
        return picture

    def _figure(self, picture: Image, t_s: float) -> None:
        unit = self.height / 100.0
        sway = math.sin(t_s * 0.9) * 0.7 + math.sin(t_s * 0.37) * 0.9
        x = self.width * 0.865 + sway * unit
        y = self.height * 0.35 + math.sin(t_s * 1.3) * 0.3 * unit
        pen = self._board.pen(t_s)
        target = (
            (pen[0] + self._board_x, pen[1] + self._board_y)
            if pen is not None
            else (self.width * 0.62 + math.sin(t_s * 0.6) * 4 * unit, self.height * 0.62)
        )
        self._body(picture, x, y, unit)
        self._pointing_arm(picture, x, y, unit, target)
        self._head(picture, x, y, unit, t_s, looks_at_board=pen is not None)

    def _body(self, picture: Image, x: float, y: float, unit: float) -> None:
        outline = [
            (-5, 13),
            (-13, 17),
            (-16.5, 26),
            (-17, 70),
            (17, 70),
            (16.5, 26),
            (13, 17),
            (5, 13),
        ]
        _fill(picture, [(x + px * unit, y + py * unit) for px, py in outline], JACKET)
        arm = [(13, 17), (17.5, 27), (19.5, 50), (15.5, 51), (12, 30)]
        _fill(picture, [(x + px * unit, y + py * unit) for px, py in arm], JACKET_SHADE)
        collar = [(-4.5, 12), (0, 27), (4.5, 12)]
        _fill(picture, [(x + px * unit, y + py * unit) for px, py in collar], SHIRT)
        for side in (-1, 1):
            lapel = [(4.5, 12.5), (7.5, 16), (5.5, 19.5), (6.5, 21), (0.6, 33), (0.2, 27)]
            _fill(
                picture, [(x + side * px * unit, y + py * unit) for px, py in lapel], JACKET_SHADE
            )
        neck = [(-3.2, 5), (-3.4, 13), (0, 16.5), (3.4, 13), (3.2, 5)]
        _fill(picture, [(x + px * unit, y + py * unit) for px, py in neck], SKIN_SHADE)

    def _pointing_arm(
        self, picture: Image, x: float, y: float, unit: float, target: tuple[float, float]
    ) -> None:
        """Shoulder, elbow, hand, and a stick whose tip is near what is being written."""
        shoulder = (x - 13.5 * unit, y + 21 * unit)
        angle = math.atan2(target[1] - shoulder[1], target[0] - shoulder[0])
        reach = min(25 * unit, 0.5 * math.dist(shoulder, target))
        hand = (shoulder[0] + math.cos(angle) * reach, shoulder[1] + math.sin(angle) * reach)
        middle = ((shoulder[0] + hand[0]) / 2, (shoulder[1] + hand[1]) / 2)
        bend = math.sqrt(max(0.0, (14 * unit) ** 2 - (reach / 2) ** 2))
        elbow = (middle[0] + math.sin(angle) * bend * 0.6, middle[1] + abs(math.cos(angle)) * bend)
        distance = math.dist(hand, target)
        length = min(34 * unit, max(8 * unit, distance - 2 * unit))
        aim = math.atan2(target[1] - hand[1], target[0] - hand[0])
        tip = (hand[0] + math.cos(aim) * length, hand[1] + math.sin(aim) * length)
        _line(picture, hand, tip, STICK, 0.9 * unit)
        _line(picture, shoulder, elbow, JACKET, 7.4 * unit)
        _line(picture, elbow, hand, JACKET, 6.0 * unit)
        wrist = _between(elbow, hand, 0.92)
        _line(picture, wrist, hand, SHIRT, 4.8 * unit)
        _ellipse(picture, hand, 2.9 * unit, 2.7 * unit, SKIN)

    def _head(
        self, picture: Image, x: float, y: float, unit: float, t_s: float, *, looks_at_board: bool
    ) -> None:
        turn = (-1.5 if looks_at_board else 0.5 * math.sin(t_s * 0.8)) * unit
        nod = self._voice.loudness(t_s) * 0.35 * unit
        y += nod - 2.5 * unit
        _ellipse(picture, (x, y - 2.2 * unit), 9.6 * unit, 10.2 * unit, HAIR)
        bob = [(-9.5, -2), (-9.9, 8), (-6, 9.5), (6, 9.5), (9.9, 8), (9.5, -2)]
        _fill(picture, [(x + px * unit, y + py * unit) for px, py in bob], HAIR)
        face = (x + turn * 0.5, y)
        _ellipse(picture, face, 7.4 * unit, 9.0 * unit, SKIN)
        fringe = [
            (-7.6, -1.5),
            (-7.4, -7),
            (0, -10.5),
            (7.4, -7),
            (7.6, -1.5),
            (5, -5.6),
            (-2, -6.6),
            (-5.5, -5),
        ]
        _fill(picture, [(face[0] + px * unit, face[1] + py * unit) for px, py in fringe], HAIR)
        shut = t_s % BLINK_EVERY_S < BLINK_S
        for side in (-1, 1):
            eye = (face[0] + turn + side * 3.1 * unit, face[1] - 0.6 * unit)
            if shut:
                _line(
                    picture,
                    (eye[0] - 1.1 * unit, eye[1]),
                    (eye[0] + 1.1 * unit, eye[1]),
                    HAIR,
                    0.4 * unit,
                )
            else:
                _ellipse(picture, eye, 0.85 * unit, 1.15 * unit, HAIR)
                shine = (eye[0] - 0.25 * unit, eye[1] - 0.4 * unit)
                _ellipse(picture, shine, 0.28 * unit, 0.3 * unit, SHIRT)
            brow = eye[1] - (2.3 + 0.3 * self._voice.loudness(t_s - 0.1)) * unit
            _line(
                picture,
                (eye[0] - side * 1.2 * unit, brow - 0.25 * unit),
                (eye[0] + side * 1.4 * unit, brow + 0.35 * unit),
                HAIR,
                0.5 * unit,
            )
            cheek = (face[0] + turn + side * 4.3 * unit, face[1] + 2.4 * unit)
            _ellipse(picture, cheek, 1.3 * unit, 0.8 * unit, (156, 178, 242))
        nose = (face[0] + turn * 1.2, face[1] + 1.6 * unit)
        _line(picture, nose, (nose[0] + 0.7 * unit, nose[1] + 0.3 * unit), SKIN_SHADE, 0.5 * unit)
        mouth = (face[0] + turn, face[1] + 4.6 * unit)
        loudness = self._voice.loudness(t_s)
        if loudness < 0.12:
            _smile(picture, mouth, 2.1 * unit, 1.0 * unit, 0.55 * unit)
        else:
            _ellipse(picture, mouth, 1.9 * unit, (0.4 + 1.6 * loudness) * unit, MOUTH)

    def _desk(self, picture: Image) -> None:
        unit = self.height / 100.0
        top = round(self.height * 0.885)
        left = round(self.width * 0.66)
        cv2.rectangle(picture, (left, top), (self.width, self.height), WOOD_DARK, -1)
        cv2.rectangle(
            picture, (left - round(2 * unit), top - round(2.6 * unit)), (self.width, top), WOOD, -1
        )
        books = [((58, 70, 176), 11.0), ((150, 120, 60), 9.0), ((80, 150, 90), 10.0)]
        y = top - round(2.6 * unit)
        for colour, width in books:
            height = round(1.7 * unit)
            x = left + round(3 * unit)
            cv2.rectangle(picture, (x, y - height), (x + round(width * unit), y - 1), colour, -1)
            y -= height


@cache
def _room(width: int, height: int) -> Image:
    """A warm wall, brighter towards the window on the right, and a dado below."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    light = 0.9 + 0.12 * (x / width) - 0.06 * (y / height)
    wall = np.asarray((196, 218, 228), np.float32) * light[..., None]
    rng = np.random.default_rng(11)
    wall += rng.normal(0, 0.8, (height, width, 1)).astype(np.float32)
    dado = round(height * 0.9)
    wall[dado:] = np.asarray((150, 178, 168), np.float32) * light[dado:, :, None]
    wall[dado : dado + 3] *= 0.85
    return np.asarray(np.clip(wall, 0, 255), dtype=np.uint8)


def _between(a: tuple[float, float], b: tuple[float, float], share: float) -> tuple[float, float]:
    return a[0] + (b[0] - a[0]) * share, a[1] + (b[1] - a[1]) * share


def _fixed(value: float) -> int:
    return round(value * SUBPIXEL)


def _fill(picture: Image, points: list[tuple[float, float]], colour: Colour) -> None:
    polygon = np.asarray([(_fixed(x), _fixed(y)) for x, y in points], np.int32)
    cv2.fillPoly(picture, [polygon], colour, AA, SUBPIXEL_BITS)


def _line(
    picture: Image, a: tuple[float, float], b: tuple[float, float], colour: Colour, width: float
) -> None:
    ends = (_fixed(a[0]), _fixed(a[1])), (_fixed(b[0]), _fixed(b[1]))
    cv2.line(picture, *ends, colour, max(1, round(width)), AA, SUBPIXEL_BITS)


def _smile(picture: Image, centre: tuple[float, float], rx: float, ry: float, width: float) -> None:
    middle = (_fixed(centre[0]), _fixed(centre[1] - ry / 2))
    thick = max(1, round(width))
    cv2.ellipse(
        picture, middle, (_fixed(rx), _fixed(ry)), 0, 20, 160, MOUTH, thick, AA, SUBPIXEL_BITS
    )


def _ellipse(
    picture: Image, centre: tuple[float, float], rx: float, ry: float, colour: Colour
) -> None:
    middle = (_fixed(centre[0]), _fixed(centre[1]))
    radii = (max(1, _fixed(rx)), max(1, _fixed(ry)))
    cv2.ellipse(picture, middle, radii, 0, 0, 360, colour, -1, AA, SUBPIXEL_BITS)
