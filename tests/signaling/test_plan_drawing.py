"""The drawing of a plan: well-formed, in both languages, its cap where the binding line crosses."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import msgspec
import pytest

from signaling.config import load
from signaling.plan_document import document
from signaling.plan_drawing import bars, svg
from signaling.planner import ModePlan, Node, plan_mode

NODE = Node(workers=4, cores=4, packet_us=5.0, packet_us_source="default")


def plan(mode: str = "open", **changes: object) -> ModePlan:
    config = load(None)
    planner = msgspec.structs.replace(config.planner, **changes)
    return plan_mode(msgspec.structs.replace(config, planner=planner), mode, NODE)


@pytest.mark.parametrize("mode", ["dispatch", "masterclass", "open"])
@pytest.mark.parametrize(("language", "words"), [("en", "receivers"), ("zh-CN", "接收端")])
def test_the_drawing_is_svg_and_says_the_cap(mode: str, language: str, words: str) -> None:
    drawn = svg(plan(mode), language)
    root = ElementTree.fromstring(drawn)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    title = root.findtext("{http://www.w3.org/2000/svg}title") or ""
    assert str(plan(mode).cap) in title and words in title
    assert "script" not in drawn and "style=" not in drawn  # the content security policy


@pytest.mark.parametrize("uplink", [1, 50_000, 1_000_000, 100_000_000])
def test_everything_drawn_is_inside_the_picture(uplink: int) -> None:
    for line in re.findall(r"<line [^>]*>", svg(plan(node_uplink_kbps=uplink))):
        numbers = dict(re.findall(r'(x1|x2|y1|y2)="(-?[0-9.]+)"', line))
        assert 0 <= float(numbers["x1"]) <= 760 and 0 <= float(numbers["x2"]) <= 760
        assert 0 <= float(numbers["y1"]) <= 420 and 0 <= float(numbers["y2"]) <= 420


def test_the_bar_that_binds_is_full_and_marked() -> None:
    rows = bars(plan(), "en")
    (marked,) = [row for row in rows if "◀" in row]
    assert "the server's uplink" in marked and "100 %" in marked and "·" not in marked
    assert not any("highest cap" in row for row in rows)


def test_a_plan_is_plain_json() -> None:
    data = msgspec.json.decode(msgspec.json.encode(document(plan())))
    assert data["cap"] == 264 and data["binding"] == "uplink"
    assert data["streams"]["camera"]["configured"] == 250
    assert data["lifts"][0]["key"] == "planner.node_uplink_kbps"
