"""Strokes: inside their box, smooth at corners, hatching inside its sector."""

from __future__ import annotations

import math

import pytest

from mixer.handwriting import GLYPHS, arc, glyph_strokes, hatching, rounded


@pytest.mark.parametrize("glyph", sorted(GLYPHS))
def test_a_glyph_stays_in_its_box(glyph: str) -> None:
    strokes = glyph_strokes(glyph, 10, 20, 50)
    assert strokes
    for stroke in strokes:
        assert len(stroke) >= 2
        assert all(10 <= x <= 60 and 20 <= y <= 70 for x, y in stroke)


def test_rounding_keeps_the_ends_and_cuts_the_corner() -> None:
    curve = rounded([(0, 0), (50, 0), (50, 50)])
    assert curve[0] == (0, 0) and curve[-1] == (50, 50)
    assert (50.0, 0.0) not in curve
    assert min(math.dist(point, (50, 0)) for point in curve) < 9


def test_an_arc_lies_on_its_circle() -> None:
    for x, y in arc((100, 100), 30, -90, 270):
        assert math.dist((x, y), (100, 100)) == pytest.approx(30)


def test_hatching_stays_in_its_sector() -> None:
    strokes = hatching((0, 0), 50, 270, 360, 5)
    assert len(strokes) > 5
    for stroke in strokes:
        for x, y in stroke:
            assert math.hypot(x, y) <= 50
            assert x >= -0.01 and y <= 0.01  # upper right quarter, y downwards
