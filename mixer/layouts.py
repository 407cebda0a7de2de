"""Where pictures go: the wall's grid for 1 to 36 tiles, the stage's layouts, and letterboxing.

Pure geometry. Every rectangle has even coordinates and sizes, because the chroma planes of
YUV 4:2:0 have half the resolution.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from .control import MAX_WALL_TILES, LayoutName

GUTTER_PX = 4
TILE_ASPECT = 16 / 9
PIP_FRACTION = 0.25
PIP_MARGIN_PX = 16
SIDE_FRACTION = 0.25  # width of the column beside the slides
MAX_STAGE_TILES = 9


class Rect(NamedTuple):
    """A rectangle of whole, even pixels."""

    x: int
    y: int
    width: int
    height: int

    def overlaps(self, other: Rect) -> bool:
        return (
            self.x < other.x + other.width
            and other.x < self.x + self.width
            and self.y < other.y + other.height
            and other.y < self.y + self.height
        )


class Placed(NamedTuple):
    """A picture (by the name of its source) and where it goes; later ones lie on top."""

    source: str
    rect: Rect


def even(value: float) -> int:
    """The nearest even number that is not larger."""
    return int(value) // 2 * 2


def fit(width: int, height: int, into: Rect) -> Rect:
    """The largest rectangle of that shape inside `into`, centred (letterbox or pillarbox)."""
    if width <= 0 or height <= 0:
        return into
    # Within two pixels of the whole the bars would only be an ugly line: fill it.
    scale = min(into.width / width, into.height / height)
    fitted_width, fitted_height = width * scale, height * scale
    if into.width - fitted_width < 4:
        fitted_width = into.width
    if into.height - fitted_height < 4:
        fitted_height = into.height
    inner_width = min(into.width, max(2, even(fitted_width + 1)))
    inner_height = min(into.height, max(2, even(fitted_height + 1)))
    return Rect(
        into.x + even((into.width - inner_width) / 2),
        into.y + even((into.height - inner_height) / 2),
        inner_width,
        inner_height,
    )


def grid_shape(count: int, width: int, height: int) -> tuple[int, int]:
    """Columns and rows that show `count` 16:9 tiles as large as possible; fewest cells on a tie."""
    best = (1, 1)
    best_rank = (-1.0, 0)
    for columns in range(1, count + 1):
        rows = -(-count // columns)
        cell_width = (width - GUTTER_PX * (columns + 1)) / columns
        cell_height = (height - GUTTER_PX * (rows + 1)) / rows
        if cell_width < 2 or cell_height < 2:
            continue
        rank = (round(min(cell_width, cell_height * TILE_ASPECT), 3), -columns * rows)
        if rank > best_rank:
            best, best_rank = (columns, rows), rank
    return best


def grid(count: int, area: Rect) -> list[Rect]:
    """Equal cells for `count` tiles, row by row; the last row is centred."""
    if count <= 0:
        return []
    columns, rows = grid_shape(count, area.width, area.height)
    cell_width = even((area.width - GUTTER_PX * (columns + 1)) / columns)
    cell_height = even((area.height - GUTTER_PX * (rows + 1)) / rows)
    # A narrow column of wide cells is bounded by 16:9, so that a single tile is not stretched bars.
    cell_height = min(cell_height, even(cell_width / TILE_ASPECT + 1))
    cell_width = min(cell_width, even(cell_height * TILE_ASPECT + 1))
    used_height = rows * cell_height + (rows - 1) * GUTTER_PX
    top = area.y + even((area.height - used_height) / 2)
    cells: list[Rect] = []
    for row in range(rows):
        in_row = min(columns, count - row * columns)
        used_width = in_row * cell_width + (in_row - 1) * GUTTER_PX
        left = area.x + even((area.width - used_width) / 2)
        y = top + row * (cell_height + GUTTER_PX)
        cells += [
            Rect(left + column * (cell_width + GUTTER_PX), y, cell_width, cell_height)
            for column in range(in_row)
        ]
    return cells


def wall(seats: Sequence[str], width: int, height: int) -> list[Placed]:
    """The mosaic of all returns, at most 36, in the order given."""
    shown = seats[:MAX_WALL_TILES]
    cells = grid(len(shown), Rect(0, 0, width, height))
    return [Placed(seat, cell) for seat, cell in zip(shown, cells, strict=True)]


class StageSources(NamedTuple):
    """Pictures the stage could show: names of sources, None or empty where there is none."""

    teacher: str | None
    slides: str | None
    floor: tuple[str, ...]


def possible(layout: LayoutName, sources: StageSources) -> bool:
    """Whether everything that a layout is made for is there."""
    if layout == "slides":
        return sources.slides is not None
    if layout in ("side-by-side", "pip"):
        return bool(sources.floor)
    return True


def stage(
    layout: LayoutName, sources: StageSources, width: int, height: int, *, featured: str = ""
) -> list[Placed]:
    """The stage in a layout; `featured` is the seat on the floor to show where one fits only.

    What a layout needs and is not there is left out, and the rest fills the picture.
    """
    area = Rect(0, 0, even(width), even(height))
    floor = sources.floor
    child = featured if featured in floor else (floor[0] if floor else None)
    if layout == "slides" and sources.slides is not None:
        return _slides(sources, child, area)
    everybody = [*filter(None, [sources.teacher]), *floor][:MAX_STAGE_TILES]
    if layout == "grid" and len(everybody) > 1:
        return [
            Placed(source, cell)
            for source, cell in zip(everybody, grid(len(everybody), area), strict=True)
        ]
    if layout in ("side-by-side", "pip", "grid") and child is not None:
        if sources.teacher is None:
            return [Placed(child, area)]
        if layout == "pip":
            return [Placed(child, area), Placed(sources.teacher, _corner(area))]
        return [
            Placed(source, cell)
            for source, cell in zip((sources.teacher, child), grid(2, area), strict=True)
        ]
    alone = sources.teacher or sources.slides or child
    return [] if alone is None else [Placed(alone, area)]


def _slides(sources: StageSources, child: str | None, area: Rect) -> list[Placed]:
    """Slides large, teacher and the speaking child in a column at the right."""
    assert sources.slides is not None
    people = [source for source in (sources.teacher, child) if source is not None]
    if not people:
        return [Placed(sources.slides, area)]
    column = even(area.width * SIDE_FRACTION)
    large = Rect(area.x, area.y, area.width - column - GUTTER_PX, area.height)
    tile_height = min(even(column / TILE_ASPECT), even(area.height / len(people)))
    placed = [Placed(sources.slides, large)]
    left = area.x + area.width - column
    for index, person in enumerate(people):
        # The teacher at the top, the child at the bottom: neither jumps when the other leaves.
        y = area.y if index == 0 and person == sources.teacher else area.y + area.height
        top = y if y == area.y else y - tile_height
        placed.append(Placed(person, Rect(left, top, column, tile_height)))
    return placed


def _corner(area: Rect) -> Rect:
    width = even(area.width * PIP_FRACTION)
    height = even(area.height * PIP_FRACTION)
    margin = min(PIP_MARGIN_PX, even(area.width / 16))
    return Rect(
        area.x + area.width - width - margin,
        area.y + area.height - height - margin,
        width,
        height,
    )
