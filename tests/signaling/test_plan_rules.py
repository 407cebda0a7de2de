"""Caps above the plan: refused with key, value and remedy, unless the stream says override."""

from __future__ import annotations

import os

import msgspec
import pytest

from signaling.config import ConfigError, describe_changes, load, parse
from signaling.plan_rules import check_caps
from signaling.planner import Node, plan_mode

NARROW = "planner.node_uplink_kbps=100000"  # 26 classrooms of camera and slides


@pytest.fixture(autouse=True)
def four_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 4)


def refusal(*overrides: str, text: str = "") -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        parse(text, overrides)
    return caught.value


def test_a_cap_above_the_plan_names_key_value_and_three_ways_out() -> None:
    error = refusal("modes.open.receiver_caps.camera=400")
    (problem,) = error.errors
    assert problem.key == "modes.open.receiver_caps.camera"
    assert problem.value == "400"
    assert "at most 264 in mode open" in problem.allowed
    assert "planner.node_uplink_kbps = 1512080" in problem.allowed
    assert "profiles.standard.streams.camera.override = true" in problem.allowed
    assert "the server's uplink" in problem.allowed
    assert "至多 264" in problem.allowed_zh and "服务器出口带宽" in problem.allowed_zh


@pytest.mark.parametrize(
    ("overrides", "keys", "words"),
    [
        (
            (NARROW,),
            {
                "modes.dispatch.receiver_caps.camera",
                "modes.dispatch.receiver_caps.slides",
                "modes.masterclass.receiver_caps.camera",
                "modes.masterclass.receiver_caps.slides",
                "modes.open.receiver_caps.camera",
                "modes.open.receiver_caps.slides",
            },
            "at most 26",
        ),
        (
            ("planner.answer_s=80",),
            {
                "modes.dispatch.receiver_caps.camera",
                "modes.dispatch.receiver_caps.slides",
                "modes.masterclass.receiver_caps.camera",
                "modes.masterclass.receiver_caps.slides",
            },
            "how many classrooms one teacher can call on",
        ),
        (
            ("planner.packet_us=50", "modes.masterclass.receiver_caps={ camera = 5, slides = 5 }"),
            {"modes.open.receiver_caps.camera", "modes.open.receiver_caps.slides"},
            "the CPU of the media processes",
        ),
        (
            ("planner.tile_core_percent=31", "planner.tiles={ masterclass = 0 }"),
            {"modes.dispatch.receiver_caps.camera", "modes.dispatch.receiver_caps.slides"},
            "mixing included",
        ),
    ],
    ids=["uplink", "interaction", "workers", "cpu"],
)
def test_the_constraint_that_binds_is_named(
    overrides: tuple[str, ...], keys: set[str], words: str
) -> None:
    error = refusal(*overrides)
    assert {problem.key for problem in error.errors} == keys
    assert all(words in problem.allowed for problem in error.errors)


def test_without_a_cap_of_the_mode_the_profile_s_key_is_named() -> None:
    config = parse("", ["profiles.standard.streams.camera.receiver_cap=999"])
    mode = msgspec.structs.replace(config.modes["open"], receiver_caps={"slides": 5})
    bare = msgspec.structs.replace(config, modes={"open": mode})
    (problem,) = check_caps(bare)
    assert problem.key == "profiles.standard.streams.camera.receiver_cap"
    assert problem.value == "999"


def test_override_lets_one_stream_exceed_and_only_that_one() -> None:
    stream = "profiles.standard.streams.{}.override=true"
    caps = "modes.open.receiver_caps={ camera = 400, slides = 400 }"
    error = refusal(caps, stream.format("camera"))
    assert {problem.key for problem in error.errors} == {"modes.open.receiver_caps.slides"}
    config = parse("", [caps, stream.format("camera"), stream.format("slides")])
    node = Node.of(config.planner, workers=4, cores=4)
    for planned in plan_mode(config, "open", node).streams:
        assert planned.above and planned.override


def test_override_is_a_truth_value_and_false_unless_said() -> None:
    assert load(None).profiles["standard"].streams["camera"].override is False
    for wrong in ('"yes"', "1", "[]"):
        error = refusal(f"profiles.standard.streams.camera.override={wrong}")
        (problem,) = error.errors
        assert problem.allowed == "true or false"
        assert problem.allowed_zh == "true 或 false"


@pytest.mark.parametrize(
    ("override", "key", "words"),
    [
        ("planner.node_uplink_kbps=0", "planner.node_uplink_kbps", "1 to 100000000"),
        ("planner.target_cpu_percent=96", "planner.target_cpu_percent", "1 to 95"),
        ("planner.answer_s=0", "planner.answer_s", "1 to 3600"),
        ("planner.packet_us=-1", "planner.packet_us", "0 to 1000"),
        ("planner.keyframe_frames=0.5", "planner.keyframe_frames", "1 to 100"),
        ("planner.lesson_minutes=nan", "planner.lesson_minutes", "1 to 600"),
        ("planner.tiles.dispatch=65", "planner.tiles.dispatch", "0 to 64"),
        ("planner.tiles.opne=1", "planner.tiles.opne", 'did you mean "open"'),
        ("planner.answers_each.dispatch=-1", "planner.answers_each.dispatch", "0 to 100"),
        ("planner.uplink=5", "planner.uplink", "no such key"),
        ("planner.lessons=1.5", "planner.lessons", "whole number"),
        ("planner=5", "planner", "[planner]"),
    ],
)
def test_the_assumptions_have_ranges(override: str, key: str, words: str) -> None:
    found = {problem.key: problem.allowed for problem in refusal(override).errors}
    assert words in found[key]


def test_other_mistakes_come_before_the_plan() -> None:
    error = refusal("modes.open.receiver_caps.camera=400", "server.port=0")
    assert {problem.key for problem in error.errors} == {"server.port"}


def test_a_reload_can_change_the_assumptions_live() -> None:
    changes = describe_changes(load(None), parse("", ["planner.answer_s=30"]))
    assert [(change.key, change.live) for change in changes] == [("planner.answer_s", True)]


def test_the_defaults_hold_on_a_machine_of_one_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    load(None)
