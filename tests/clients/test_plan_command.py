"""`tongke plan` as a process: text, JSON, drawing, calibration, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from signaling.calibration import FILE_NAME
from tests.clients.test_cli import tongke


def data(folder: Path) -> list[str]:
    return ["--set", f"server.data_dir={folder}", "--set", "server.workers=2"]


def test_every_mode_is_planned_and_the_binding_constraint_is_named(tmp_path: Path) -> None:
    finished = tongke("plan", *data(tmp_path))
    assert finished.returncode == 0, finished.stderr
    assert "dispatch (profile standard): recommended cap of each stream 30" in finished.stdout
    assert "open (profile standard): recommended cap of each stream 264" in finished.stdout
    assert "planner.node_uplink_kbps" in finished.stdout
    assert "the default, not measured here" in finished.stdout


def test_it_speaks_chinese(tmp_path: Path) -> None:
    finished = tongke("plan", "--mode", "open", *data(tmp_path), language="zh_CN.UTF-8")
    assert "每路输出流建议名额 264，受限于服务器出口带宽" in finished.stdout
    assert "默认值，未在本机实测" in finished.stdout


def test_json_is_one_object_and_lines_and_lessons_count(tmp_path: Path) -> None:
    words = ["--mode", "open", "--lines", "100,1000,5000", "--lessons", "200", "--json"]
    finished = tongke("plan", *words, *data(tmp_path))
    (plan,) = json.loads(finished.stdout)["plans"]
    assert (plan["cap"], plan["binding"]) == (1, "uplink")
    assert plan["lines"] == {
        "full": 1,
        "smaller": 1,
        "too_slow": 1,
        "full_kbps": 3655,
        "least_kbps": 745,
    }


def test_lines_come_from_a_file_too(tmp_path: Path) -> None:
    measured = tmp_path / "lines.txt"
    measured.write_text("5000\n900\n100\n")
    words = ["--mode", "dispatch", "--lines", f"@{measured}", "--json"]
    finished = tongke("plan", *words, *data(tmp_path))
    (plan,) = json.loads(finished.stdout)["plans"]
    assert (plan["cap"], plan["binding"]) == (2, "lines")


def test_a_cap_above_the_plan_by_override_shows_as_such(tmp_path: Path) -> None:
    override = [
        word
        for stream in ("camera", "slides")
        for word in ("--set", f"profiles.standard.streams.{stream}.override=true")
    ]
    caps = ["--set", "modes.open.receiver_caps={ camera = 400, slides = 400 }"]
    finished = tongke("plan", "--mode", "open", *caps, *override, *data(tmp_path))
    assert "ABOVE the plan, by override = true" in finished.stdout
    finished = tongke("plan", "--mode", "open", *caps, *data(tmp_path))
    assert finished.returncode == 2
    assert "profiles.standard.streams.camera.override = true" in finished.stderr


def test_the_drawing_is_written_as_svg(tmp_path: Path) -> None:
    drawing = tmp_path / "plan.svg"
    finished = tongke("plan", "--mode", "open", "--svg", str(drawing), *data(tmp_path))
    assert finished.returncode == 0
    ElementTree.parse(drawing)


def test_calibration_is_measured_once_and_used_from_then_on(tmp_path: Path) -> None:
    finished = tongke("plan", "--mode", "open", "--calibrate", "--json", *data(tmp_path))
    assert finished.returncode == 0, finished.stderr
    node = json.loads(finished.stdout)["plans"][0]["node"]
    assert node["packet_us_source"] == "calibrated"
    assert 0 < node["packet_us"] < 1000
    kept = json.loads((tmp_path / FILE_NAME).read_text())
    assert kept["packet_us"] == pytest.approx(node["packet_us"], rel=0.01)
    again = tongke("plan", "--mode", "open", "--json", *data(tmp_path))
    assert json.loads(again.stdout)["plans"][0]["node"] == node


@pytest.mark.parametrize(
    "words",
    [
        ["--mode", "lecture"],
        ["--lines", "fast"],
        ["--lines", ""],
        ["--lines", "-5"],
        ["--lines", "@missing.txt"],
        ["--lessons", "0"],
        ["--lessons", "x"],
        ["--svg", "all.svg"],
        ["--set", "planner.answer_s=0"],
    ],
    ids=" ".join,
)
def test_nonsense_is_bad_usage(words: list[str], tmp_path: Path) -> None:
    finished = tongke("plan", *words, *data(tmp_path), folder=tmp_path)
    assert finished.returncode == 2, finished.stdout
    assert finished.stderr.strip() and not finished.stdout


def test_a_drawing_that_cannot_be_written_fails(tmp_path: Path) -> None:
    words = ["--mode", "open", "--svg", str(tmp_path / "missing" / "a.svg")]
    finished = tongke("plan", *words, *data(tmp_path))
    assert finished.returncode == 1 and "cannot write" in finished.stderr
