"""Stroke data for what the generated lesson writes: the order and shape in which a hand draws it.

Each glyph lives in a box of 100 by 100, y downwards; a stroke is a list of points. No font is
needed, and the writing can appear stroke by stroke.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

Point = tuple[float, float]
Stroke = list[Point]

CORNER = 0.32  # share of the shorter side that a rounded corner takes
LONGEST_CORNER = 9.0
CORNER_POINTS = 4

GLYPHS: dict[str, list[Stroke]] = {
    "分": [
        [(42, 8), (36, 25), (22, 42), (8, 52)],
        [(58, 8), (66, 26), (80, 42), (95, 51)],
        [(25, 51), (75, 50), (73, 72), (66, 91), (55, 84)],
        [(46, 51), (42, 68), (34, 82), (18, 95)],
    ],
    "数": [
        [(14, 9), (20, 19)],
        [(44, 7), (38, 18)],
        [(7, 28), (51, 27)],
        [(29, 5), (29, 47)],
        [(28, 29), (20, 39), (7, 47)],
        [(31, 30), (40, 38), (50, 46)],
        [(27, 52), (19, 70), (34, 80), (46, 92)],
        [(42, 62), (36, 78), (24, 88), (9, 95)],
        [(5, 65), (54, 62)],
        [(68, 7), (64, 24), (56, 38)],
        [(62, 29), (95, 27)],
        [(82, 30), (78, 54), (68, 76), (54, 93)],
        [(63, 43), (72, 62), (82, 80), (97, 93)],
    ],
    "加": [
        [(7, 31), (45, 30), (43, 60), (38, 87), (27, 79)],
        [(26, 8), (25, 40), (20, 68), (5, 93)],
        [(58, 31), (60, 84)],
        [(58, 33), (93, 32), (90, 83)],
        [(60, 77), (90, 76)],
    ],
    "法": [
        [(14, 11), (25, 21)],
        [(7, 36), (18, 45)],
        [(8, 88), (16, 76), (28, 55)],
        [(40, 27), (88, 26)],
        [(64, 7), (64, 49)],
        [(32, 51), (96, 50)],
        [(60, 53), (50, 68), (40, 86), (86, 82)],
        [(75, 66), (92, 92)],
    ],
    "同": [
        [(16, 12), (16, 93)],
        [(16, 14), (84, 13), (84, 89), (73, 83)],
        [(32, 34), (68, 34)],
        [(34, 51), (36, 80)],
        [(34, 53), (66, 52), (64, 78)],
        [(36, 73), (64, 72)],
    ],
    "课": [
        [(13, 9), (24, 20)],
        [(5, 40), (24, 39), (22, 85), (37, 73)],
        [(46, 12), (48, 46)],
        [(46, 13), (86, 12), (84, 46)],
        [(48, 29), (84, 28)],
        [(47, 45), (85, 44)],
        [(40, 61), (96, 60)],
        [(66, 13), (66, 96)],
        [(64, 62), (54, 76), (38, 90)],
        [(68, 62), (78, 76), (97, 88)],
    ],
    "二": [[(22, 28), (78, 27)], [(8, 80), (92, 78)]],
    "三": [[(18, 18), (82, 17)], [(24, 48), (76, 47)], [(8, 82), (92, 80)]],
    "四": [
        [(14, 21), (18, 86)],
        [(14, 23), (87, 21), (84, 85)],
        [(38, 23), (36, 44), (24, 62)],
        [(60, 23), (60, 52), (67, 58), (80, 55)],
        [(18, 80), (84, 79)],
    ],
    "之": [
        [(45, 5), (54, 16)],
        [(20, 35), (76, 32), (50, 58), (15, 82)],
        [(18, 79), (36, 84), (60, 91), (95, 88)],
    ],
    "一": [[(8, 52), (92, 49)]],
    "1": [[(34, 22), (50, 7), (50, 93)]],
    "2": [[(28, 27), (32, 12), (50, 6), (67, 14), (69, 32), (56, 56), (26, 92), (74, 90)]],
    "3": [
        [(28, 16), (48, 6), (66, 14), (66, 32), (46, 46), (68, 56), (72, 76), (54, 92), (26, 84)]
    ],
    "4": [[(54, 6), (24, 64), (76, 62)], [(58, 38), (58, 95)]],
    "+": [[(22, 50), (78, 50)], [(50, 22), (50, 78)]],
    "=": [[(22, 38), (78, 37)], [(22, 62), (78, 61)]],
}


def glyph_strokes(glyph: str, x: float, y: float, size: float) -> list[Stroke]:
    """A glyph's strokes in a square of `size` at (x, y), corners rounded as a hand does."""
    scale = size / 100.0
    return [
        [(x + px * scale, y + py * scale) for px, py in rounded(stroke)] for stroke in GLYPHS[glyph]
    ]


def rounded(stroke: Sequence[Point]) -> Stroke:
    """Replace each inner corner by a short curve (a quadratic Bézier)."""
    if len(stroke) < 3:
        return list(stroke)
    points: Stroke = [stroke[0]]
    for before, corner, after in zip(stroke, stroke[1:], stroke[2:], strict=False):
        reach = min(LONGEST_CORNER, CORNER * math.dist(before, corner))
        reach = min(reach, CORNER * math.dist(corner, after))
        entry, leave = _towards(corner, before, reach), _towards(corner, after, reach)
        for step in range(CORNER_POINTS + 1):
            t = step / CORNER_POINTS
            a, b, c = (1 - t) ** 2, 2 * t * (1 - t), t * t
            points.append(
                (
                    a * entry[0] + b * corner[0] + c * leave[0],
                    a * entry[1] + b * corner[1] + c * leave[1],
                )
            )
    points.append(stroke[-1])
    return points


def arc(centre: Point, radius: float, start_deg: float, end_deg: float) -> Stroke:
    """Part of a circle, clockwise on the screen from `start_deg` (0 is to the right)."""
    count = max(2, round(abs(end_deg - start_deg) / 6))
    angles = [math.radians(start_deg + (end_deg - start_deg) * i / count) for i in range(count + 1)]
    return [(centre[0] + radius * math.cos(a), centre[1] + radius * math.sin(a)) for a in angles]


def hatching(
    centre: Point, radius: float, start_deg: float, end_deg: float, spacing: float
) -> list[Stroke]:
    """Slanting strokes that fill a sector, as chalk shades one."""
    strokes: list[Stroke] = []
    steps = 60
    diagonal = math.sqrt(0.5)
    count = int(radius / spacing)
    for line in range(-count, count + 1):
        offset = line * spacing
        inside: Stroke = []
        for step in range(-steps, steps + 1):
            along = step / steps * radius
            dx, dy = (along + offset) * diagonal, (offset - along) * diagonal
            angle = math.degrees(math.atan2(dy, dx)) % 360.0
            within = (angle - start_deg) % 360.0 <= end_deg - start_deg
            if math.hypot(dx, dy) < radius - 2.0 and within:
                inside.append((centre[0] + dx, centre[1] + dy))
            elif inside:
                break
        if len(inside) > 2:
            strokes.append([inside[0], inside[-1]])
    return strokes


def _towards(start: Point, end: Point, distance: float) -> Point:
    length = math.dist(start, end)
    share = distance / length if length > 0 else 0.0
    return start[0] + (end[0] - start[0]) * share, start[1] + (end[1] - start[1]) * share
