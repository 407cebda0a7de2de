"""`tongke rehearse`: what it aims at, how it judges, and one small rehearsal for real."""

from __future__ import annotations

import argparse
import json
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clients.rehearse import target
from clients.rehearse_verdict import Limits, judge
from clients.words import CommandError
from signaling.config import parse
from tests.bench.house import House, open_house
from tests.clients.test_cli import tongke

LIMITS = Limits(join_s=2.0, delay_ms=150.0, cpu_percent=70.0)


# --- what it aims at -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lesson", "server", "wanted"),
    [
        ("l_1", None, ("https://127.0.0.1:8443", "l_1")),
        ("l_1", "http://localhost:9000/teach", ("http://localhost:9000", "l_1")),
        ("https://h.example/whep/l_2/camera", None, ("https://h.example", "l_2")),
        ("http://[::1]:8/whip/l_3/slides", None, ("http://[::1]:8", "l_3")),
        ("https://h/api/v1/lessons/l_4", None, ("https://h", "l_4")),
    ],
)
def test_a_lesson_is_named_by_id_or_address(
    lesson: str, server: str | None, wanted: tuple[str, str]
) -> None:
    args = argparse.Namespace(lesson=lesson, server=server)
    assert target(args, parse("")) == wanted


@pytest.mark.parametrize(
    ("lesson", "server"),
    [("https://h/join/123456", None), ("ftp://h/whep/l/c", None), ("l_1", "h:8443")],
)
def test_other_addresses_are_bad_usage(lesson: str, server: str | None) -> None:
    with pytest.raises(CommandError) as caught:
        target(argparse.Namespace(lesson=lesson, server=server), parse(""))
    assert caught.value.exit_code == 2


def test_a_server_that_is_not_this_machine_needs_a_word() -> None:
    finished = tongke("rehearse", "https://school.example/whep/l_1/camera", "--token", "t")
    assert finished.returncode == 2
    assert "--i-own-this-server" in finished.stderr


def test_no_server_is_a_failure_with_a_sentence() -> None:
    words = ["rehearse", "l_1", "--server", "http://127.0.0.1:9", "--token", "t", "--json"]
    finished = tongke(*words)
    assert finished.returncode == 1
    assert json.loads(finished.stdout)["type"] == "unreachable"


# --- how it judges -------------------------------------------------------------------------------


def report(**changes: Any) -> dict[str, Any]:
    """What a load run reports, all well."""
    good: dict[str, Any] = {
        "receivers": {"asked": 30, "joined": 30, "ended_early": 0, "silent": 0},
        "packets": {"lost_percent": 0.0},
        "join_s": {"p99": 0.5},
        "delay_ms": {"audio": {"p99": 3.0}, "video": {"p99": 9.0}},
        "server": {"cpu_percent": 12.0},
    }
    return {**good, **changes}


def failed(**changes: Any) -> set[str]:
    return {c.name for c in judge({"camera": report(**changes)}, LIMITS) if c.ok is False}


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({}, set()),
        ({"receivers": {"asked": 30, "joined": 29}}, {"joined"}),
        ({"receivers": {"asked": 30, "joined": 30, "silent": 1}}, {"joined"}),
        ({"receivers": {"asked": 30, "joined": 30, "ended_early": 2}}, {"joined"}),
        ({"packets": {"lost_percent": 0.0999}}, set()),
        ({"packets": {"lost_percent": 0.1}}, {"lost"}),
        ({"join_s": {"p99": 2.1}}, {"join"}),
        ({"delay_ms": {"audio": {"p99": 151.0}, "video": None}}, {"delay"}),
        ({"server": {"cpu_percent": 70.1}}, {"cpu"}),
    ],
)
def test_each_promise_is_checked(changes: dict[str, Any], names: set[str]) -> None:
    assert failed(**changes) == names


def test_what_could_not_be_measured_is_neither_kept_nor_broken() -> None:
    checks = judge({"camera": report(delay_ms=None, server=None)}, LIMITS)
    assert {c.name: c.ok for c in checks if c.ok is not True} == {"delay": None, "cpu": None}
    assert any("–" in c.row() for c in checks)


def test_every_stream_is_judged_and_the_server_once() -> None:
    checks = judge({"camera": report(), "slides": report(packets={"lost_percent": 3})}, LIMITS)
    assert [(c.stream, c.name) for c in checks if c.ok is False] == [("slides", "lost")]
    assert [c.name for c in checks].count("cpu") == 1


@given(
    st.dictionaries(
        st.sampled_from(["receivers", "packets", "join_s", "delay_ms", "server"]),
        st.one_of(st.none(), st.integers(), st.text(), st.dictionaries(st.text(), st.integers())),
    )
)
def test_a_report_of_another_shape_never_raises(odd: dict[str, Any]) -> None:  # fmt: skip
    judge({"camera": odd}, LIMITS)


# --- for real ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    with open_house(1, pin=False) as opened:
        yield opened


def api(house: House, path: str, body: object = None) -> Any:
    request = urllib.request.Request(
        house.url + path,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {house.ops_token}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=20) as answer:
        return json.load(answer)


@pytest.mark.e2e
def test_a_rehearsal_runs_a_lesson_and_leaves_nothing_behind(house: House) -> None:
    lesson = api(house, "/api/v1/lessons", {"title": "排练", "mode": "dispatch"})["id"]
    words = [lesson, "--server", house.url, "--token", house.ops_token, "--receivers", "3"]
    # Generous: whether a busy machine is quick is not what is tested here.
    words += ["--seconds", "2", "--ramp", "0.5", "--join-s", "60", "--delay-ms", "60000"]
    finished = tongke("rehearse", *words, "--json")
    result = json.loads(finished.stdout)
    assert (result["classrooms"], result["planned"], result["binding"]) == (3, 30, "interaction")
    assert set(result["streams"]) == {"camera", "slides"}
    for stream in result["streams"].values():
        assert stream["receivers"]["joined"] == 3
        assert stream["publisher"]["frames"] > 0
    checks = {(check["stream"], check["name"]): check["ok"] for check in result["checks"]}
    assert checks["camera", "joined"] and checks["slides", "joined"]
    assert ("", "cpu") in checks
    assert finished.returncode == (0 if result["ok"] else 1)
    seats = api(house, f"/api/v1/lessons/{lesson}/seats")["seats"]
    assert all(seat["state"] == "left" for seat in seats)
    streams = api(house, f"/api/v1/lessons/{lesson}")["streams"]
    assert all(stream["receivers"] == 0 for stream in streams.values())


@pytest.mark.e2e
def test_more_classrooms_than_the_caps_admit_are_refused_before_any_joins(house: House) -> None:
    lesson = api(house, "/api/v1/lessons", {"title": "满", "mode": "dispatch"})["id"]
    words = [lesson, "--server", house.url, "--token", house.ops_token, "--receivers", "31"]
    finished = tongke("rehearse", *words)
    assert finished.returncode == 1
    assert "admit 30 more" in finished.stderr
    assert api(house, f"/api/v1/lessons/{lesson}/seats")["seats"] == []
