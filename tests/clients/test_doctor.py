"""`tongke doctor`: every check with failures injected, and as a process."""

from __future__ import annotations

import argparse
import datetime
import errno
import json
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clients import (
    doctor,
    doctor_certificate,
    doctor_media,
    doctor_ports,
    doctor_server,
    doctor_system,
)
from clients.doctor_finding import Finding
from clients.doctor_media import Candidate
from clients.doctor_ports import PortUse
from signaling.config import parse
from signaling.tls import self_signed
from tests.clients.test_cli import tongke

NOW = datetime.datetime(2026, 11, 1, tzinfo=datetime.UTC)
WALL_S = 1_790_000_000.0


@pytest.fixture(autouse=True)
def english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "C.UTF-8")


def the_one(findings: list[Finding]) -> Finding:
    (finding,) = findings
    # Whatever is not well says how to mend it.
    assert (finding.level == "ok") == (finding.mend == "")
    return finding


# --- clock ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wall_s", "jump_s", "synchronized", "level", "words"),
    [
        (WALL_S, 0.0, True, "ok", "synchronised"),
        (WALL_S, 0.0, None, "ok", "unknown"),
        (WALL_S, 0.0, False, "warn", "not synchronised"),
        (WALL_S, -3600.0, True, "warn", "-3600"),
        (0.0, 0.0, True, "fail", "1970"),
    ],
)
def test_the_clock(
    wall_s: float, jump_s: float, synchronized: bool | None, level: str, words: str
) -> None:
    finding = the_one(doctor_system.judge_clock(wall_s, jump_s, synchronized))
    assert finding.level == level and words in finding.what
    if level != "ok":
        assert "timedatectl" in finding.mend


# --- kernel --------------------------------------------------------------------------------------


def test_small_socket_buffers_are_named_with_the_command() -> None:
    found = doctor_system.judge_buffers(212_992, 212_992, may_force=False)
    assert [(one.name, one.level) for one in found] == [
        ("net.core.rmem_max", "warn"),
        ("net.core.wmem_max", "warn"),
    ]
    assert "sysctl -w net.core.rmem_max=4194304" in found[0].mend
    assert "sysctl -w net.core.wmem_max=1048576" in found[1].mend


@pytest.mark.parametrize(
    ("rmem", "wmem", "may_force"), [(4 << 20, 1 << 20, False), (1, 1, True), (None, None, False)]
)
def test_large_forced_or_unknown_buffers_are_fine(
    rmem: int | None, wmem: int | None, may_force: bool
) -> None:
    found = doctor_system.judge_buffers(rmem, wmem, may_force=may_force)
    assert all(one.level == "ok" for one in found)


@pytest.mark.parametrize(("segments", "level"), [(4, "ok"), (None, "warn"), (0, "warn")])
def test_segmentation(segments: int | None, level: str) -> None:
    assert the_one(doctor_system.judge_gso(segments)).level == level


@pytest.mark.parametrize(
    ("hard", "level", "mend"),
    [
        (None, "ok", ""),
        (4256, "ok", ""),
        (4255, "warn", "LimitNOFILE=4256"),
        (1024, "warn", "limits.sessions = 384"),
        (100, "warn", "limits.sessions = 0"),
    ],
)
def test_descriptors(hard: int | None, level: str, mend: str) -> None:
    finding = the_one(doctor_system.judge_descriptors(hard, 2000))
    assert finding.level == level and mend in finding.mend


# --- disk ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("free", "writable", "level"),
    [
        (10 << 30, True, "ok"),
        (None, True, "ok"),
        (500 << 20, True, "warn"),
        (50 << 20, True, "fail"),
        (10 << 30, False, "fail"),
    ],
)
def test_the_disk(free: int | None, writable: bool, level: str) -> None:
    assert the_one(doctor_system.judge_disk("data", free, writable=writable)).level == level


def test_a_data_directory_that_is_a_file_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    assert the_one(doctor_system.look_at_disk(str(tmp_path / "data"))).level == "fail"
    assert the_one(doctor_system.look_at_disk(str(tmp_path / "new" / "data"))).level == "ok"


# --- packages ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "clauses", "fits"),
    [
        ("3.11.2", "<4,>=3.11", True),
        ("4.0", "<4,>=3.11", False),
        ("3.10.9", "<4,>=3.11", False),
        ("1.0", "==1.0.0", True),
        ("1.0.1", "!=1.0.1", False),
        ("1.4.9", "~=1.4.2", True),
        ("1.5.0", "~=1.4.2", False),
        ("2.0", "", True),
        ("2.0rc1", ">=2.0", True),
        ("1.0", "odd clause", True),
    ],
)
def test_versions_are_compared_as_numbers(version: str, clauses: str, fits: bool) -> None:
    assert doctor_system.satisfies(version, clauses) is fits


@given(st.text(max_size=30), st.text(max_size=30))
def test_any_version_and_clause_can_be_compared(version: str, clauses: str) -> None:
    doctor_system.satisfies(version, clauses)


def test_missing_and_wrong_packages_are_each_named_with_pip() -> None:
    have = {"aiohttp": "3.9", "av": "14.0"}
    wanted = ["aiohttp<4,>=3.11", "av<20,>=14", "segno>=1.6", 'pytest>=8; extra == "dev"']
    found = doctor_system.judge_packages(wanted, have.get)
    assert [one.name for one in found] == ["package aiohttp", "package segno"]
    assert all(one.level == "fail" for one in found)
    assert found[0].mend == 'pip install "aiohttp<4,>=3.11"'


def test_the_packages_of_this_installation_are_as_required() -> None:
    assert the_one(doctor_system.look_at_packages()).level == "ok"


# --- ports ---------------------------------------------------------------------------------------


def use(state: str, port: int = 8443) -> PortUse:
    return PortUse("tcp", "0.0.0.0", port, "server.port", state)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("state", "running", "level", "words"),
    [
        ("free", False, "ok", ""),
        ("taken", True, "ok", ""),
        ("taken", False, "fail", "ss -lnp"),
        ("free", True, "warn", "--config"),
        ("forbidden", False, "fail", "above 1023"),
        ("no-address", False, "fail", "server.host"),
    ],
)
def test_ports(state: str, running: bool, level: str, words: str) -> None:
    finding = the_one(doctor_ports.judge_ports([use(state)], running=running))
    assert finding.level == level and words in finding.mend


def test_a_port_is_tried_and_let_go() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert doctor_ports.try_port("tcp", "127.0.0.1", port) == "taken"
    assert doctor_ports.try_port("tcp", "127.0.0.1", port) == "free"
    assert doctor_ports.try_port("udp", "203.0.113.77", 0) == "no-address"
    assert doctor_ports.try_port("tcp", "no.such.host.invalid", 0) == "no-address"


# --- certificate ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("days", "names", "host", "level", "words"),
    [
        (300, ["class.example"], "class.example", "ok", ""),
        (300, ["*.example"], "class.example", "ok", ""),
        (300, ["*.example"], "a.class.example", "fail", "public_url"),
        (300, ["CLASS.example"], "class.EXAMPLE", "ok", ""),
        (300, ["other.example"], "class.example", "fail", "public_url"),
        (300, [], None, "ok", ""),
        (5, ["class.example"], "class.example", "warn", "renew"),
        (-1, ["class.example"], "class.example", "fail", "renew"),
    ],
)
def test_a_certificate_is_judged_by_its_end_and_its_names(
    days: int, names: list[str], host: str | None, level: str, words: str
) -> None:
    expires = NOW + datetime.timedelta(days=days, hours=1)
    if days < 0:
        expires = NOW - datetime.timedelta(days=1)
    finding = the_one(
        doctor_certificate.judge_certificate(expires, names, host, NOW, self_signed=False)
    )
    assert finding.level == level and words in finding.mend


def test_the_certificate_s_file_is_read_where_the_configuration_says(tmp_path: Path) -> None:
    data = f'server.data_dir="{tmp_path}"'
    assert the_one(doctor_certificate.look_at_certificate(parse("", [data]))).level == "ok"
    self_signed(tmp_path / "tls-self-signed.pem")
    made = the_one(doctor_certificate.look_at_certificate(parse("", [data])))
    assert made.level == "ok" and "self-signed" in made.what
    later = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=500)
    assert the_one(doctor_certificate.look_at_certificate(parse("", [data]), later)).level == "fail"
    files = ["server.tls=files", f'server.tls_certificate="{tmp_path}/no.pem"']
    missing = parse("", [*files, f'server.tls_key="{tmp_path}/no.pem"'])
    assert "no such file" in the_one(doctor_certificate.look_at_certificate(missing)).what
    (tmp_path / "no.pem").write_text("not a certificate")
    assert the_one(doctor_certificate.look_at_certificate(missing)).level == "fail"


# --- announced addresses -------------------------------------------------------------------------


def test_before_the_start_only_own_addresses_are_sure() -> None:
    found = doctor_media.judge_announced(["192.0.2.7", "198.51.100.1"], {"192.0.2.7"})
    assert [one.level for one in found] == ["ok", "warn"]
    assert "router" in found[1].mend
    assert the_one(doctor_media.judge_announced([], {"192.0.2.7", "127.0.0.1"})).level == "ok"
    assert the_one(doctor_media.judge_announced([], {"127.0.0.1"})).level == "warn"


def test_an_own_address_that_does_not_answer_is_worse_than_a_public_one() -> None:
    found = doctor_media.judge_candidates(
        [
            Candidate("udp", "192.0.2.7", 8800, True),
            Candidate("udp", "192.0.2.7", 8801, False),
            Candidate("tcp", "198.51.100.1", 8800, False),
        ],
        {"192.0.2.7"},
    )
    assert [one.level for one in found] == ["ok", "fail", "warn"]
    assert "UDP 8801" in found[1].mend and "router" in found[2].mend
    assert the_one(doctor_media.judge_candidates([], set())).level == "fail"


# --- as a whole ----------------------------------------------------------------------------------


def test_a_check_that_the_system_forbids_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden() -> list[Finding]:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(doctor_system, "look_at_gso", forbidden)
    monkeypatch.setattr(doctor_server, "is_running", lambda _base: False)
    found = doctor.examine(argparse.Namespace(config=None, overrides=[]))
    (gso,) = [one for one in found if one.name == "gso"]
    assert gso.level == "warn" and "not permitted" in gso.what.lower()


def _free_ports() -> list[str]:
    with socket.socket() as one, socket.socket() as two:
        one.bind(("127.0.0.1", 0))
        two.bind(("127.0.0.1", 0))
        pages, media = one.getsockname()[1], two.getsockname()[1]
    return [f"server.port={pages}", f"server.media_port={media}"]


def settings(*values: str) -> list[str]:
    return [word for value in values for word in ("--set", value)]


def test_the_command_prints_json_and_its_code_tells(tmp_path: Path) -> None:
    base = ["server.host=127.0.0.1", "server.workers=1", f'server.data_dir="{tmp_path}"']
    finished = tongke("doctor", "--json", *settings(*base, *_free_ports()))
    result = json.loads(finished.stdout)
    names = [finding["name"] for finding in result["findings"]]
    assert {"packages", "clock", "disk", "certificate", "gso", "descriptors"} <= set(names)
    assert result["ok"] is True and finished.returncode == 0, result
    (tmp_path / "file").write_text("")
    broken = [*base, f'server.data_dir="{tmp_path}/file"', *_free_ports()]
    finished = tongke("doctor", *settings(*broken), language="zh_CN.UTF-8")
    assert finished.returncode == 1
    assert "不能写入数据目录" in finished.stdout and "办法" in finished.stdout


def test_a_port_that_somebody_else_has_fails(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        words = ["server.host=127.0.0.1", "server.workers=1", f'server.data_dir="{tmp_path}"']
        finished = tongke(
            "doctor", "--json", *settings(*words, *_free_ports(), f"server.port={port}")
        )
    result = json.loads(finished.stdout)
    (bad,) = [one for one in result["findings"] if one["level"] == "fail"]
    assert bad["name"] == f"port {port}/tcp" and finished.returncode == 1


def test_a_wrong_configuration_is_a_finding_with_its_remedy() -> None:
    finished = tongke("doctor", "--json", "--set", "server.port=0")
    findings = json.loads(finished.stdout)["findings"]
    assert finished.returncode == 1
    assert findings[-1]["name"] == "config" and "1 to 65535" in findings[-1]["what"]
