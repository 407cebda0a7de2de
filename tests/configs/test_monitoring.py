"""Dashboard, alert rules and unit: they name only metrics that exist and options that work."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest

from clients.cli import build_parser
from clients.doctor_system import judge_buffers, judge_descriptors
from signaling.app import Server
from signaling.config import load
from signaling.linetest import MOST_TRANSFER_BYTES
from tests.signaling.conftest import FAKE_WORKER, config_for

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
NAME = re.compile(r"\b(tongke_[a-z_]+|process_[a-z_]+)")


def expressions() -> Iterator[tuple[str, str]]:
    board = json.loads((CONFIGS / "grafana/tongke.json").read_text("utf-8"))
    for panel in board["panels"]:
        for target in panel.get("targets", []):
            yield f"panel {panel['title']}", target["expr"]
    for variable in board["templating"]["list"]:
        if variable["type"] == "query":
            yield f"variable {variable['name']}", variable["query"]["query"]
    rules = (CONFIGS / "alerts/tongke.yml").read_text("utf-8")
    # A rule's expression: one line, or the indented lines below `>-`.
    for match in re.finditer(r"alert: (\w+)\n\s+expr: (?:>-\n((?:\s{10,}.*\n)+)|(.*)\n)", rules):
        yield f"alert {match[1]}", match[2] or match[3]


async def test_only_metrics_that_a_running_server_exports_are_used(tmp_path: Path) -> None:
    (tmp_path / "web").mkdir()
    server = Server(
        config_for(tmp_path / "data"), web_root=tmp_path / "web", worker_module=FAKE_WORKER
    )
    try:
        await server.start()
        async with aiohttp.ClientSession() as http, http.get(server.url + "/metrics") as answer:
            text = await answer.text()
    finally:
        await server.stop()
    families = set(re.findall(r"^# TYPE (\S+) ", text, re.MULTILINE))
    seen = list(expressions())
    assert len(seen) >= 35
    for where, expression in seen:
        names = NAME.findall(expression)
        assert names or expression.startswith("up{"), where
        for name in names:
            family = re.sub(r"_(bucket|sum|count)$", "", name)
            assert family in families, f"{where}: {name}"


def test_every_panel_has_words_a_place_and_a_number_of_its_own() -> None:
    board = json.loads((CONFIGS / "grafana/tongke.json").read_text("utf-8"))
    panels: list[dict[str, Any]] = board["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24 and not cells & taken, panel["title"]
        taken |= cells
        assert panel["type"] == "row" or panel["description"]


def test_every_alert_has_a_severity_and_says_what_to_do() -> None:
    rules = (CONFIGS / "alerts/tongke.yml").read_text("utf-8")
    blocks = rules.split("- alert: ")[1:]
    assert len(blocks) >= 8
    for block in blocks:
        assert re.search(r"severity: (critical|warning|info)", block), block
        assert "summary:" in block and "description:" in block, block
        assert re.search(r"[\u4e00-\u9fff]", block) and re.search(r"[a-z]{4,}", block)


@pytest.mark.parametrize("key", ["ExecStart", "ExecStartPre"])
def test_the_unit_starts_with_arguments_that_tongke_knows(key: str) -> None:
    unit = (CONFIGS / "systemd/tongke.service").read_text("utf-8")
    (command,) = re.findall(rf"^{key}=(.*)$", unit, re.MULTILINE)
    program, *words = shlex.split(command)
    assert program.endswith("/bin/tongke")
    args = build_parser("serve").parse_args(words)
    assert args.command == "serve" and args.config == Path("/etc/tongke/tongke.toml")


def test_the_unit_raises_the_limits_that_the_doctor_asks_for() -> None:

    unit = (CONFIGS / "systemd/tongke.service").read_text("utf-8")
    (files,) = re.findall(r"^LimitNOFILE=(\d+)$", unit, re.MULTILINE)
    assert judge_descriptors(int(files), load(None).limits.sessions)[0].level == "ok"
    text = (CONFIGS / "systemd/90-tongke.conf").read_text("utf-8")
    limits = SimpleNamespace(**dict(re.findall(r"net\.core\.(\w+) = (\d+)", text)))
    found = judge_buffers(int(limits.rmem_max), int(limits.wmem_max), may_force=False)
    assert all(one.level == "ok" for one in found)


def test_the_container_starts_a_command_and_exposes_the_default_ports() -> None:

    text = (CONFIGS / "container/Containerfile").read_text("utf-8")
    (start,) = re.findall(r"^CMD (\[.*\])$", text, re.MULTILINE)
    args = build_parser("serve").parse_args(json.loads(start))
    assert args.command == "serve"
    server = load(None).server
    assert f"EXPOSE {server.port}/tcp {server.media_port}-" in text


@pytest.mark.parametrize("name", ["nginx.conf", "Caddyfile"])
def test_the_proxies_pass_what_the_line_test_and_the_sockets_need(name: str) -> None:

    text = (CONFIGS / "proxy" / name).read_text("utf-8")
    (size,) = re.findall(r"(?:client_max_body_size|max_size) (\d+)(?:m|MB)", text)
    assert int(size) * 1000 * 1000 > MOST_TRANSFER_BYTES
    assert "127.0.0.1:8443" in text and "X-Forwarded-For" in text
    assert text.count("{") == text.count("}")
