"""The composed picture: the right pictures in the right tiles, redrawn only as needed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixer import layouts
from mixer.canvas import BACKGROUND, Canvas
from mixer.decode import Image
from mixer.labels import Label, Labels, bar_height, level_step
from mixer.layouts import Placed, Rect


def plain(y: int, u: int, v: int, width: int = 320, height: int = 180) -> Image:
    return Image(
        np.full((height, width), y, np.uint8),
        np.full(((height + 1) // 2, (width + 1) // 2), u, np.uint8),
        np.full(((height + 1) // 2, (width + 1) // 2), v, np.uint8),
    )


def pixel(canvas: Canvas, x: int, y: int) -> tuple[int, int, int]:
    planes = canvas.frame.planes
    values = []
    for plane, shift in zip(planes, (0, 1, 1), strict=True):
        values.append(bytes(plane)[(y >> shift) * plane.line_size + (x >> shift)])
    return values[0], values[1], values[2]


def middle(rect: Rect) -> tuple[int, int]:
    return rect.x + rect.width // 2, rect.y + rect.height // 2


@given(count=st.integers(1, 12), odd=st.integers(0, 3))
def test_each_picture_is_in_its_own_tile(count: int, odd: int) -> None:
    canvas = Canvas(640, 360, Labels())
    seats = [f"s{n}" for n in range(count)]
    placed = layouts.wall(seats, 640, 360)
    canvas.place(placed)
    for n, seat in enumerate(seats):
        canvas.show(seat, plain(60 + n * 10, 90 + n, 140 + n, 161 + odd, 91 + odd))
    assert canvas.compose()
    for n, (_seat, rect) in enumerate(placed):
        assert pixel(canvas, *middle(rect)) == (60 + n * 10, 90 + n, 140 + n)
    assert pixel(canvas, 0, 0) == BACKGROUND


def test_an_unchanged_canvas_is_not_drawn_again() -> None:
    canvas = Canvas(640, 360, Labels())
    canvas.place(layouts.wall(["a", "b"], 640, 360))
    canvas.show("a", plain(100, 128, 128))
    assert canvas.compose()
    assert not canvas.compose()
    canvas.place(layouts.wall(["a", "b"], 640, 360))
    assert not canvas.compose()
    canvas.label("a", Label("x", 1))
    assert canvas.compose()
    canvas.label("a", Label("x", 1))
    assert not canvas.compose()


def test_a_picture_of_another_shape_leaves_nothing_of_the_last() -> None:
    canvas = Canvas(640, 360, Labels())
    canvas.place([Placed("a", Rect(0, 0, 640, 360))])
    canvas.show("a", plain(200, 128, 128))
    canvas.compose()
    canvas.show("a", plain(100, 128, 128, 180, 320))
    canvas.compose()
    assert pixel(canvas, 320, 180)[0] == 100
    assert pixel(canvas, 20, 180) == BACKGROUND


def test_what_lies_on_top_stays_on_top() -> None:
    canvas = Canvas(640, 360, Labels())
    sources = layouts.StageSources("t", None, ("a",))
    placed = layouts.stage("pip", sources, 640, 360)
    canvas.place(placed)
    canvas.show("a", plain(50, 128, 128))
    canvas.show("t", plain(200, 128, 128))
    canvas.compose()
    canvas.show("a", plain(60, 128, 128))
    canvas.compose()
    assert pixel(canvas, *middle(placed[1].rect))[0] == 200
    assert pixel(canvas, 20, 20)[0] == 60


def test_pictures_move_with_their_sources() -> None:
    canvas = Canvas(640, 360, Labels())
    canvas.place(layouts.wall(["a"], 640, 360))
    canvas.show("a", plain(150, 128, 128))
    canvas.compose()
    placed = layouts.wall(["b", "a"], 640, 360)
    canvas.place(placed)
    canvas.compose()
    assert pixel(canvas, *middle(placed[1].rect))[0] == 150
    assert pixel(canvas, *middle(placed[0].rect))[0] != 150


def test_a_hand_frames_the_tile_and_goes_with_it() -> None:
    canvas = Canvas(640, 360, Labels())
    canvas.place([Placed("a", Rect(0, 0, 640, 360))])
    canvas.show("a", plain(30, 128, 128))
    canvas.label("a", Label("x", 1, hand=True))
    canvas.compose()
    assert pixel(canvas, 320, 1)[0] > 120
    canvas.label("a", Label("x", 1))
    canvas.compose()
    assert pixel(canvas, 320, 1)[0] == 30


def test_a_seat_without_a_picture_has_a_placeholder_with_its_name() -> None:
    labels = Labels()
    named = labels.placeholder(Label("红星小学", 3), 320, 180)
    other = labels.placeholder(Label("光明小学", 3), 320, 180)
    assert named.y.shape == (180, 320) and named.u.shape == (90, 160)
    assert not np.array_equal(named.y, other.y)


@pytest.mark.parametrize("name", ["", "a", "红星小学三年级一班" * 8, "x\n\0y", "😀✋", "‮abc"])
@pytest.mark.parametrize("width", [2, 40, 200, 1280])
def test_any_name_fits_any_bar(name: str, width: int) -> None:
    label = Label(name, 7, hand=True, muted=True, quality="poor", level=8)
    planes = Labels().bar(label, width, 20)
    assert planes.y.shape == (20, width)


def test_bars_are_drawn_once() -> None:
    labels = Labels()
    first = labels.bar(Label("a", 1, level=3), 200, 20)
    assert labels.bar(Label("a", 1, level=3), 200, 20) is first
    assert labels.bar(Label("a", 1, level=4), 200, 20) is not first


@pytest.mark.parametrize(
    ("dbfs", "step"), [(None, 0), (-90.0, 0), (-54.0, 0), (-30.0, 4), (-6.0, 8), (0.0, 8)]
)
def test_levels_as_steps_of_the_meter(dbfs: float | None, step: int) -> None:
    assert level_step(dbfs) == step


@given(st.integers(2, 1080))
def test_bar_heights_are_even(tile_height: int) -> None:
    assert bar_height(tile_height) % 2 == 0


def test_a_missing_font_file_does_not_stop_the_names() -> None:
    assert Labels("/nowhere/font.ttf").bar(Label("abc", 1), 100, 20).y.max() > 150
