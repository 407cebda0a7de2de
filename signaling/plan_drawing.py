"""Draws a plan: receivers against load as SVG, and the same as bars of text.

Every line of the drawing is one constraint, in percent of what may be used of it; where a line
crosses 100 % its constraint binds, and the leftmost crossing is the cap.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final
from xml.sax.saxutils import escape

from signaling.plan_rules import binding_name
from signaling.planner import Binding, Constraint, ModePlan

WIDTH, HEIGHT = 760, 420
LEFT, RIGHT, TOP, BOTTOM = 64, 24, 64, 116
TOP_PERCENT = 130.0
BAR_CHARS = 30
STEPS: Final = (1, 2, 5)

# Colours that differ in lightness as well, and dashes for who sees no colours.
_STYLE: Final[dict[Binding, tuple[str, str]]] = {
    "uplink": ("#0b5cad", ""),
    "workers": ("#b3541e", "8 4"),
    "cpu": ("#8a2a6b", "2 3"),
    "interaction": ("#2c7a3f", "12 4 2 4"),
    "lines": ("#5a5a5a", ""),
    "most": ("#5a5a5a", ""),
}


def svg(plan: ModePlan, language: str = "zh-CN") -> str:
    """The drawing as a document of its own, with its title for screen readers."""
    english = language == "en"
    span = _nice(max(1.35 * plan.cap, *(1.1 * one.configured for one in plan.streams), 10))
    drawn = [one for one in plan.constraints if _is_drawn(one)]

    def x(receivers: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * receivers / span

    def y(percent: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * min(percent, TOP_PERCENT) / TOP_PERCENT

    title = (
        f"Mode {plan.mode}: {plan.cap} receivers, held by {binding_name(plan.binding, 'en')}"
        if english
        else f"{plan.mode} 模式：{plan.cap} 个接收端，受限于{binding_name(plan.binding, 'zh')}"
    )
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        'font-family="sans-serif" font-size="13">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
        f'<text x="{LEFT}" y="26" font-size="17" font-weight="bold">{escape(title)}</text>',
        _text(
            LEFT,
            46,
            "load, % of what may be used" if english else "负载（占可用量的 %）",
            fill="#444",
        ),
    ]
    for percent in (0, 25, 50, 75, 100, 125):
        strong = percent == 100
        parts.append(
            _line(LEFT, y(percent), WIDTH - RIGHT, y(percent), "#333" if strong else "#ddd")
        )
        parts.append(_text(LEFT - 8, y(percent) + 4, str(percent), anchor="end"))
    for tick in range(0, int(span) + 1, _tick(span)):
        parts.append(_line(x(tick), y(0), x(tick), y(0) + 5, "#333"))
        parts.append(_text(x(tick), y(0) + 20, str(tick), anchor="middle"))
    parts.append(
        _text(
            WIDTH - RIGHT,
            y(0) + 38,
            "receivers (classrooms with all streams)" if english else "接收端数（教室，收全部流）",
            anchor="end",
            fill="#444",
        )
    )
    parts.append(
        f'<rect x="{x(0):.1f}" y="{y(100):.1f}" width="{x(plan.cap) - x(0):.1f}" '
        f'height="{y(0) - y(100):.1f}" fill="#2c7a3f" fill-opacity="0.08"/>'
    )
    for one in drawn:
        parts.append(_curve(one, x, y, span))
    parts.append(_line(x(plan.cap), y(TOP_PERCENT), x(plan.cap), y(0), "#000", width=2))
    parts.append(_cap_label(plan, x(plan.cap), y(TOP_PERCENT), english))
    for stream in plan.streams:
        if stream.above:
            parts.append(
                _line(x(stream.configured), y(TOP_PERCENT), x(stream.configured), y(0), "#c00")
            )
    parts += _legend(plan, drawn, "en" if english else "zh")
    parts.append("</svg>")
    return "\n".join(parts) + "\n"


def bars(plan: ModePlan, language: str) -> list[str]:
    """One line a constraint: how much of it the recommended cap uses, and its own limit."""
    rows: list[str] = []
    for one in plan.constraints:
        if one.name == "most" or one.limit is None:
            continue
        used = 100.0 if one.name == "lines" else min(one.used_percent(plan.cap), 100.0)
        if one.name == "lines" and one.limit:
            used = 100 * plan.cap / one.limit
        full = max(0, min(BAR_CHARS, round(BAR_CHARS * used / 100)))
        name = binding_name(one.name, language)
        mark = "◀" if one.name == plan.binding else " "
        rows.append(
            f"  [{'█' * full}{'·' * (BAR_CHARS - full)}] {used:4.0f} %  "
            f"≤ {one.limit:<6} {mark} {name}"
        )
    return rows


def _is_drawn(one: Constraint) -> bool:
    return one.limit is not None and one.name not in ("lines", "most")


def _curve(
    one: Constraint, x: Callable[[float], float], y: Callable[[float], float], span: float
) -> str:
    slope = one.used_percent(1) - one.used_percent(0)
    last = span
    if slope > 0:
        last = min(span, (TOP_PERCENT - one.used_percent(0)) / slope)
    colour, dashes = _STYLE[one.name]
    return _line(
        x(0), y(one.used_percent(0)), x(max(last, 0.0)), y(one.used_percent(max(last, 0.0))),
        colour, width=2.5, dashes=dashes,
    )  # fmt: skip


def _cap_label(plan: ModePlan, at: float, top: float, english: bool) -> str:
    words = f"cap {plan.cap}" if english else f"名额 {plan.cap}"
    right = at > WIDTH * 0.7
    return _text(
        at - 6 if right else at + 6, top + 12, words, anchor="end" if right else "start", bold=True
    )


def _legend(plan: ModePlan, drawn: list[Constraint], language: str) -> list[str]:
    parts: list[str] = []
    row = HEIGHT - BOTTOM + 60
    column = (WIDTH - LEFT - RIGHT) / 2
    for number, one in enumerate(drawn):
        left = LEFT + column * (number % 2)
        top = row + 22 * (number // 2)
        colour, dashes = _STYLE[one.name]
        words = f"{binding_name(one.name, language)} (≤ {one.limit})"
        parts.append(_line(left, top - 4, left + 34, top - 4, colour, width=2.5, dashes=dashes))
        parts.append(_text(left + 42, top, words, bold=one.name == plan.binding))
    return parts


def _line(
    x1: float, y1: float, x2: float, y2: float, colour: str, *, width: float = 1, dashes: str = ""
) -> str:
    dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" '
        f'stroke-width="{width:g}"{dashed}/>'
    )


def _text(
    x: float, y: float, words: str, *, anchor: str = "start", fill: str = "#111", bold: bool = False
) -> str:
    weight = ' font-weight="bold"' if bold else ""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{fill}"{weight}>'
        f"{escape(words)}</text>"
    )


def _nice(value: float) -> float:
    """The next of 1, 2, 5 and their tens and their halves, so that ticks are round numbers."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(
        (power * step for step in (1, 1.5, 2, 3, 4, 5, 6, 8, 10) if power * step >= value),
        10 * power,
    )


def _tick(span: float) -> int:
    """Between five and ten ticks."""
    power: int = 10 ** max(0, math.floor(math.log10(span / 5)))
    return next((power * step for step in (1, 2, 5, 10) if span / (power * step) <= 10), 10 * power)
