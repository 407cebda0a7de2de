"""Drawn once and kept: the bar below a tile (name, hand, microphone, quality, level), placeholders.

Each is drawn in colour and kept as the three planes of YUV 4:2:0, ready to be copied. Names are
written with OpenCV's own font, which knows Chinese from OpenCV 5 on, or with a given font file;
without either, what cannot be written is replaced by the tile's number.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Hashable
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from .control import Quality
from .layouts import even

log = logging.getLogger(__name__)

Plane = npt.NDArray[np.uint8]
Colour = tuple[int, int, int]

KEPT_PICTURES = 512
LEVEL_STEPS = 8
LEVEL_FLOOR_DBFS = -54.0
LEVEL_STEP_DB = 6.0
SMALLEST_TEXT_PX = 8
WEIGHT = 400  # regular

# Blue, green, red. Chosen for contrast on the dark bar, also for the colour-blind.
BAR: Colour = (46, 38, 32)
EMPTY: Colour = (58, 48, 40)
TEXT: Colour = (245, 245, 245)
DIM: Colour = (120, 112, 104)
HAND: Colour = (60, 200, 255)
MUTED: Colour = (90, 90, 235)
LEVEL: Colour = (120, 205, 90)
QUALITIES: dict[Quality, tuple[int, Colour]] = {
    "good": (3, (120, 205, 90)),
    "fair": (2, (60, 200, 255)),
    "poor": (1, (90, 90, 235)),
    "lost": (0, (90, 90, 235)),
}


class Planes(NamedTuple):
    y: Plane
    u: Plane
    v: Plane


class Label(NamedTuple):
    """What a tile says. `level` is in steps of the meter, 0 to 8; `meter` off leaves it out."""

    name: str
    number: int
    hand: bool = False
    muted: bool = False
    quality: Quality = ""
    level: int = 0
    meter: bool = True


def level_step(dbfs: float | None) -> int:
    """A level in dBFS as so many of the meter's eight steps."""
    if dbfs is None:
        return 0
    return max(0, min(LEVEL_STEPS, round((dbfs - LEVEL_FLOOR_DBFS) / LEVEL_STEP_DB)))


def bar_height(tile_height: int) -> int:
    """How high the bar of a tile is: legible on a wall of nine, not larger than needed on one."""
    return even(max(min(16, tile_height / 2), min(36, tile_height * 0.11)))


class Labels:
    """Draws bars and placeholders, and keeps the latest of them."""

    def __init__(self, font: str = "") -> None:
        self._face = _face(font)
        self._kept: OrderedDict[Hashable, Planes] = OrderedDict()

    def bar(self, label: Label, width: int, height: int) -> Planes:
        return self._keep(("bar", label, width, height), lambda: self._bar(label, width, height))

    def placeholder(self, label: Label, width: int, height: int) -> Planes:
        """A whole tile for a seat without a picture."""
        key = ("empty", label.name, label.number, width, height)
        return self._keep(key, lambda: self._placeholder(label, width, height))

    def _keep(self, key: Hashable, draw: Any) -> Planes:
        planes = self._kept.get(key)
        if planes is None:
            planes = self._kept[key] = _planes(draw())
            if len(self._kept) > KEPT_PICTURES:
                self._kept.popitem(last=False)
        else:
            self._kept.move_to_end(key)
        return planes

    def _bar(self, label: Label, width: int, height: int) -> Plane:
        image = _canvas(width, height, BAR)
        gap = max(2, height // 5)
        left, right = gap, width - gap
        if label.hand and right - left > height:
            _hand(image, left, height)
            left += height
        if label.meter:
            right = _meter(image, right, label.level, LEVEL if not label.muted else DIM)
        if label.quality and right - left > 2 * height:
            right = _signal(image, right - gap, label.quality)
        if label.muted and right - left > 2 * height:
            right = _crossed_microphone(image, right - 2 * gap)
        self._write(image, label, left, right - gap, height * 0.62)
        return image

    def _placeholder(self, label: Label, width: int, height: int) -> Plane:
        image = _canvas(width, height, EMPTY)
        size = min(height * 0.16, 64)
        text = self._writable(label)
        wide = self._width(text, size) if text else 0
        while size > SMALLEST_TEXT_PX and wide > width * 0.9:
            size *= 0.8
            wide = self._width(text, size)
        centre = (width // 2, int(height * 0.30))
        radius = max(3, int(height * 0.11))
        cv2.circle(image, centre, radius, DIM, -1, cv2.LINE_AA)
        shoulders = (centre[0], centre[1] + 2 * radius + radius // 3)
        cv2.ellipse(image, shoulders, (2 * radius, radius), 0, 180, 360, DIM, -1, cv2.LINE_AA)
        if text:
            self._put(image, text, max(2, (width - wide) // 2), int(height * 0.82), size)
        return image

    def _write(self, image: Plane, label: Label, left: int, right: int, size: float) -> None:
        """The name between two edges, shortened until it fits."""
        text = self._writable(label)
        if right - left < size:
            return
        whole = text
        while text and self._width(text + ("…" if text != whole else ""), size) > right - left:
            text = text[:-1]
        if text:
            shown = text if text == whole else text + "…"
            self._put(image, shown, left, round(image.shape[0] / 2 + size * 0.36), size)

    def _writable(self, label: Label) -> str:
        """The name, or the number where the font has no such characters."""
        name = "".join(c for c in label.name if c.isprintable()).strip()
        if name and (self._face is not None or name.isascii()):
            return name
        return f"{label.number}" if label.number else ""

    def _width(self, text: str, size: float) -> int:
        if self._face is None:
            (width, _height), _base = cv2.getTextSize(
                text.replace("…", ".."), cv2.FONT_HERSHEY_SIMPLEX, size / 30, 1
            )
            return int(width)
        return int(cv2.getTextSize((8192, 256), text, (0, 0), self._face, int(size), WEIGHT)[2])

    def _put(self, image: Plane, text: str, x: int, y: int, size: float) -> None:
        if self._face is None:
            text = text.replace("…", "..")
            font, scale = cv2.FONT_HERSHEY_SIMPLEX, size / 30
            cv2.putText(image, text, (x, y), font, scale, TEXT, 1, cv2.LINE_AA)
            return
        cv2.putText(image, text, (x, y), TEXT, self._face, int(size), WEIGHT)


def _face(font: str) -> Any:
    """The font to write with, or None for OpenCV 4's, which knows ASCII only."""
    if not hasattr(cv2, "FontFace"):
        return None
    if font:
        try:
            return cv2.FontFace(font)
        except cv2.error:
            log.warning("the font %s cannot be read: names are written with the built-in one", font)
    return cv2.FontFace("sans")


def _canvas(width: int, height: int, colour: Colour) -> Plane:
    image = np.empty((height, width, 3), np.uint8)
    image[:] = colour
    return image


def _planes(image: Plane) -> Planes:
    height, width = int(image.shape[0]), int(image.shape[1])
    flat: Plane = np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2YUV_I420), np.uint8).reshape(-1)
    luma, chroma = width * height, (width // 2) * (height // 2)
    return Planes(
        flat[:luma].reshape(height, width),
        flat[luma : luma + chroma].reshape(height // 2, width // 2),
        flat[luma + chroma :].reshape(height // 2, width // 2),
    )


def _meter(image: Plane, right: int, level: int, colour: Colour) -> int:
    """Eight segments ending at `right`; returns where they begin."""
    height = int(image.shape[0])
    step = max(3, height // 6)
    left = right - LEVEL_STEPS * step
    if left < image.shape[1] // 2:
        return right
    for index in range(LEVEL_STEPS):
        x = left + index * step
        lit = colour if index < level else DIM
        cv2.rectangle(image, (x, height // 3), (x + step - 2, height * 2 // 3), lit, -1)
    return left


def _signal(image: Plane, right: int, quality: Quality) -> int:
    """Three bars like a telephone's."""
    height = int(image.shape[0])
    lit, colour = QUALITIES[quality]
    step = max(3, height // 5)
    left = right - 3 * step
    for index in range(3):
        x = left + index * step
        top = height * (60 - 18 * index) // 100
        filled = colour if index < lit else DIM
        cv2.rectangle(image, (x, top), (x + step - 2, height * 3 // 4), filled, -1)
    if lit == 0:
        cv2.line(image, (left, height // 4), (right, height * 3 // 4), colour, 2, cv2.LINE_AA)
    return left


def _crossed_microphone(image: Plane, right: int) -> int:
    height = int(image.shape[0])
    width = height * 2 // 3
    x, middle = right - width // 2, height // 2
    radius = max(2, height // 8)
    cv2.line(image, (x, height // 4), (x, middle), TEXT, radius * 2, cv2.LINE_AA)
    cv2.line(image, (x, height * 3 // 5), (x, height * 3 // 4), TEXT, 1, cv2.LINE_AA)
    low, high = (x - width // 2, height * 4 // 5), (x + width // 2, height // 5)
    cv2.line(image, low, high, MUTED, 2, cv2.LINE_AA)
    return right - width


def _hand(image: Plane, left: int, height: int) -> None:
    """A raised hand: palm, four fingers, thumb."""
    unit = height / 12
    centre = left + height * 0.4

    def at(x: float, y: float) -> tuple[int, int]:
        return round(centre + x * unit), round(y * unit)

    thick = max(1, round(unit * 1.3))
    cv2.ellipse(image, at(0, 8), (round(unit * 2.6), round(unit * 2.6)), 0, 0, 360, HAND, -1)
    for x, top in ((-2.0, 3.2), (-0.6, 2.0), (0.8, 2.2), (2.1, 3.4)):
        cv2.line(image, at(x, 7.5), at(x, top), HAND, thick, cv2.LINE_AA)
    cv2.line(image, at(1.5, 9), at(4.0, 6.2), HAND, thick, cv2.LINE_AA)
