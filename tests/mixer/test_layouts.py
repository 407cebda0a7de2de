"""Where pictures go: nothing overlaps that should not, everything is even and inside."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixer import layouts
from mixer.control import LayoutName
from mixer.layouts import Rect, StageSources

SIZES = st.tuples(
    st.integers(80, 960).map(lambda n: n * 2), st.integers(45, 540).map(lambda n: 2 * n)
)
LAYOUTS: list[LayoutName] = ["teacher", "side-by-side", "pip", "slides", "grid"]


def inside(rect: Rect, width: int, height: int) -> bool:
    return (
        rect.x >= 0
        and rect.y >= 0
        and rect.width >= 2
        and rect.height >= 2
        and rect.x + rect.width <= width
        and rect.y + rect.height <= height
    )


def is_even(rect: Rect) -> bool:
    return all(value % 2 == 0 for value in rect)


@given(count=st.integers(1, 36), size=SIZES)
def test_wall_tiles_are_even_inside_and_apart(count: int, size: tuple[int, int]) -> None:
    seats = [f"s{number}" for number in range(count)]
    placed = layouts.wall(seats, *size)
    assert [source for source, _rect in placed] == seats
    rects = [rect for _source, rect in placed]
    assert all(is_even(rect) and inside(rect, *size) for rect in rects)
    assert not any(a.overlaps(b) for a, b in itertools.combinations(rects, 2))
    assert len({(rect.width, rect.height) for rect in rects}) == 1


@pytest.mark.parametrize(
    ("count", "columns", "rows"),
    [(1, 1, 1), (2, 2, 1), (3, 2, 2), (4, 2, 2), (5, 3, 2), (9, 3, 3), (16, 4, 4), (36, 6, 6)],
)
def test_a_wall_of_720p_has_the_grid_one_expects(count: int, columns: int, rows: int) -> None:
    assert layouts.grid_shape(count, 1280, 720) == (columns, rows)


def test_the_wall_shows_at_most_36() -> None:
    assert len(layouts.wall([f"s{n}" for n in range(50)], 1280, 720)) == 36


def test_an_empty_wall_has_no_tiles() -> None:
    assert layouts.wall([], 1280, 720) == []


@given(
    width=st.integers(1, 4096),
    height=st.integers(1, 4096),
    tile=st.builds(
        Rect,
        *[st.integers(0, 300).map(lambda n: 2 * n)] * 2,
        *[st.integers(4, 640).map(lambda n: 2 * n)] * 2,
    ),
)
def test_letterboxing_keeps_the_shape_inside_the_tile(width: int, height: int, tile: Rect) -> None:
    fitted = layouts.fit(width, height, tile)
    assert is_even(fitted)
    assert fitted.x >= tile.x and fitted.y >= tile.y
    assert fitted.x + fitted.width <= tile.x + tile.width
    assert fitted.y + fitted.height <= tile.y + tile.height
    # One side is filled; the other is as the shape says, to the rounding of even pixels.
    assert fitted.width == tile.width or fitted.height == tile.height
    scale = min(tile.width / width, tile.height / height)
    assert abs(fitted.width - width * scale) <= 4 or fitted.width == 2
    assert abs(fitted.height - height * scale) <= 4 or fitted.height == 2


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((1280, 720), Rect(0, 0, 640, 360)),
        ((640, 480), Rect(80, 0, 480, 360)),  # 4:3 between pillars
        ((180, 320), Rect(218, 0, 202, 360)),  # upright
        ((1000, 200), Rect(0, 116, 640, 128)),
    ],
)
def test_letterboxing_examples(size: tuple[int, int], expected: Rect) -> None:
    assert layouts.fit(*size, Rect(0, 0, 640, 360)) == expected


@given(
    layout=st.sampled_from(LAYOUTS),
    teacher=st.booleans(),
    slides=st.booleans(),
    floor=st.lists(st.sampled_from("abcdefghijkl"), unique=True, max_size=12),
    size=SIZES,
    featured=st.sampled_from(["", "a", "c", "zz"]),
)
def test_any_stage_is_even_inside_and_shows_only_what_is_there(
    layout: LayoutName,
    teacher: bool,
    slides: bool,
    floor: list[str],
    size: tuple[int, int],
    featured: str,
) -> None:
    sources = StageSources("T" if teacher else None, "S" if slides else None, tuple(floor))
    placed = layouts.stage(layout, sources, *size, featured=featured)
    there = {source for source in (sources.teacher, sources.slides, *floor) if source}
    assert {source for source, _rect in placed} <= there
    assert bool(placed) == bool(there)
    assert all(is_even(rect) and inside(rect, *size) for _source, rect in placed)
    if layout != "pip":
        rects = [rect for _source, rect in placed]
        assert not any(a.overlaps(b) for a, b in itertools.combinations(rects, 2))


FULL = StageSources("T", "S", ("a", "b"))


@pytest.mark.parametrize(
    ("layout", "featured", "shown"),
    [
        ("teacher", "", ["T"]),
        ("side-by-side", "", ["T", "a"]),
        ("side-by-side", "b", ["T", "b"]),
        ("pip", "b", ["b", "T"]),
        ("slides", "", ["S", "T", "a"]),
        ("slides", "b", ["S", "T", "b"]),
        ("grid", "", ["T", "a", "b"]),
    ],
)
def test_what_each_layout_shows(layout: LayoutName, featured: str, shown: list[str]) -> None:
    placed = layouts.stage(layout, FULL, 1280, 720, featured=featured)
    assert [source for source, _rect in placed] == shown


def test_slides_take_most_of_the_picture() -> None:
    placed = dict(layouts.stage("slides", FULL, 1280, 720))
    assert placed["S"].width * placed["S"].height > 0.7 * 1280 * 720
    assert placed["T"].y == 0
    assert placed["a"].y + placed["a"].height == 720


@pytest.mark.parametrize(
    ("layout", "sources", "possible"),
    [
        ("slides", StageSources("T", None, ("a",)), False),
        ("slides", StageSources(None, "S", ()), True),
        ("pip", StageSources("T", None, ()), False),
        ("side-by-side", StageSources("T", None, ("a",)), True),
        ("grid", StageSources("T", None, ()), True),
        ("teacher", StageSources(None, None, ()), True),
    ],
)
def test_a_layout_needs_its_pictures(
    layout: LayoutName, sources: StageSources, possible: bool
) -> None:
    assert layouts.possible(layout, sources) is possible
