"""A picture composed of tiles: each is scaled into place only when it has changed.

The canvas is the memory of one video frame, so that encoding it copies nothing. Tiles are drawn
from the bottom to the top; what lies on top of a changed one is drawn again.
"""

from __future__ import annotations

from collections.abc import Sequence

import av
import cv2
import numpy as np

from .decode import Image, Plane, plane_pixels
from .labels import HAND, Label, Labels, Planes, bar_height
from .layouts import Placed, Rect, fit

BACKGROUND = (24, 132, 126)  # Y, U, V: nearly black, a little blue
HAND_BORDER_PX = 4


class _Tile:
    __slots__ = ("bar", "bar_rect", "dirty", "fitted", "image", "label", "rect")

    def __init__(self, rect: Rect) -> None:
        self.rect = rect
        self.image: Image | None = None
        self.label: Label | None = None
        self.fitted: Rect | None = None  # where the picture lies inside the tile
        self.dirty = True
        self.bar = False  # only the label has changed


class Canvas:
    """The wall or the stage. `frame` is what `compose` draws on."""

    def __init__(self, width: int, height: int, labels: Labels) -> None:
        self.frame = av.VideoFrame(width, height, "yuv420p")
        self.width = width
        self.height = height
        self._labels = labels
        self._planes = Planes(*(plane_pixels(plane) for plane in self.frame.planes))
        self._tiles: dict[str, _Tile] = {}
        self._placed: list[Placed] = []
        self._cleared = False
        self._border = _yuv(HAND)

    def place(self, placed: Sequence[Placed]) -> None:
        """Where each source's tile is from now on; pictures and labels are kept by source."""
        if list(placed) == self._placed and self._cleared:
            return
        tiles: dict[str, _Tile] = {}
        for source, rect in placed:
            tile = tiles[source] = _Tile(rect)
            before = self._tiles.get(source)
            if before is not None:
                tile.image, tile.label = before.image, before.label
        self._tiles = tiles
        self._placed = list(placed)
        self._cleared = False

    @property
    def placed(self) -> list[Placed]:
        return self._placed

    def show(self, source: str, image: Image | None) -> None:
        """A source's next picture; None for the placeholder."""
        tile = self._tiles.get(source)
        if tile is not None and not (image is None and tile.image is None):
            tile.image = image
            tile.dirty = True

    def label(self, source: str, label: Label | None) -> None:
        tile = self._tiles.get(source)
        if tile is None or tile.label == label:
            return
        before, tile.label = tile.label, label
        same_shape = (
            before is not None
            and label is not None
            and (before.hand, before.name) == (label.hand, label.name)
        )
        if same_shape:
            tile.bar = True
        else:
            tile.dirty = True

    def compose(self) -> bool:
        """Bring the frame up to date; False when nothing has changed since the last time."""
        changed = not self._cleared
        if changed:
            for plane, value in zip(self._planes, BACKGROUND, strict=True):
                plane[:] = value
            self._cleared = True
            for tile in self._tiles.values():
                tile.dirty = True
                tile.fitted = None
        drawn: list[Rect] = []
        for tile in self._tiles.values():
            if drawn and not tile.dirty and any(tile.rect.overlaps(rect) for rect in drawn):
                tile.dirty = True
            if tile.dirty:
                self._draw(tile)
                drawn.append(tile.rect)
            elif tile.bar:
                self._draw_bar(tile)
                changed = True
            tile.dirty = tile.bar = False
        return changed or bool(drawn)

    def _draw(self, tile: _Tile) -> None:
        rect, image = tile.rect, tile.image
        if image is None:
            label = tile.label or Label("", 0)
            self._copy(self._labels.placeholder(label, rect.width, rect.height), rect)
            tile.fitted = None
        else:
            fitted = fit(image.width, image.height, rect)
            if fitted != tile.fitted:
                self._fill(rect, BACKGROUND)
                tile.fitted = fitted
            self._scale(image, fitted)
        if tile.label is not None:
            self._draw_bar(tile)
            if tile.label.hand:
                self._frame_tile(rect)

    def _draw_bar(self, tile: _Tile) -> None:
        if tile.label is None:
            return
        rect = tile.rect
        height = bar_height(rect.height)
        bar = Rect(rect.x, rect.y + rect.height - height, rect.width, height)
        self._copy(self._labels.bar(tile.label, bar.width, bar.height), bar)
        if tile.label.hand:
            self._frame_tile(rect)

    def _frame_tile(self, rect: Rect) -> None:
        """A border in the colour of the hand: seen from the back of the room."""
        x, y, width, height = rect
        edge = HAND_BORDER_PX if height >= 200 else HAND_BORDER_PX // 2
        for side in (
            Rect(x, y, width, edge),
            Rect(x, y + height - edge, width, edge),
            Rect(x, y, edge, height),
            Rect(x + width - edge, y, edge, height),
        ):
            self._fill(side, self._border)

    def _views(self, rect: Rect) -> tuple[Plane, Plane, Plane]:
        x, y, width, height = rect
        half = slice(y // 2, (y + height) // 2), slice(x // 2, (x + width) // 2)
        return (
            self._planes.y[y : y + height, x : x + width],
            self._planes.u[half],
            self._planes.v[half],
        )

    def _fill(self, rect: Rect, colour: tuple[int, int, int]) -> None:
        for view, value in zip(self._views(rect), colour, strict=True):
            view[:] = value

    def _copy(self, planes: Planes, rect: Rect) -> None:
        for view, plane in zip(self._views(rect), planes, strict=True):
            view[:] = plane

    def _scale(self, image: Image, rect: Rect) -> None:
        # Bilinear skips pixels when it shrinks by more than half, and averaging whole areas is
        # slow for odd ratios: halve first by taking every second pixel, where it is much too big.
        step = 1
        while image.width // (step * 2) >= rect.width * 2:
            step *= 2
        for view, plane in zip(self._views(rect), image, strict=True):
            source = plane if step == 1 else np.ascontiguousarray(plane[::step, ::step])
            height, width = view.shape
            if source.shape == view.shape:
                view[:] = source
            else:
                cv2.resize(source, (width, height), dst=view, interpolation=cv2.INTER_LINEAR)


def _yuv(colour: tuple[int, int, int]) -> tuple[int, int, int]:
    patch = np.full((2, 2, 3), colour, np.uint8)
    flat = cv2.cvtColor(patch, cv2.COLOR_BGR2YUV_I420).reshape(-1)
    return int(flat[0]), int(flat[4]), int(flat[5])
