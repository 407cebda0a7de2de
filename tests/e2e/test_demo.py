"""`tongke demo`: one command, and a lesson can be watched; Ctrl-C, and nothing of it is left."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.browsers import Browsers
from tests.e2e.commands import Command
from tests.e2e.polling import until
from tests.e2e.processes import Ports

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(100, method="signal"),
]


def _demo(tmp_path: Path, ports: Ports, *more: str) -> Command:
    settings = {
        "server.host": "127.0.0.1",
        "server.port": ports.take(),
        "server.media_port": ports.take(4),
        "server.data_dir": tmp_path / "data",
        "server.tls": "off",
        "server.workers": 1,
    }
    sets = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    return Command(tmp_path, "demo", *sets, *more)


async def test_the_demonstration_lesson_plays_and_ends_cleanly(
    tabs: Browsers, tmp_path: Path, ports: Ports
) -> None:
    async with _demo(tmp_path, ports, "--json") as demo:

        async def printed() -> str:
            assert demo.child.status() is None, demo.err
            return demo.out

        said = await until(printed, _is_json, within_s=40, what="the demo prints its addresses")
        addresses: dict[str, Any] = json.loads(said)
        point = await tabs.tab("point", addresses["join_url"])
        await point.by("join-name").fill("红星小学")
        await point.by("join-submit").click()
        await point.receives(frames=30)
        await point.shows_moving_picture("lesson-video")
        await until(
            lambda: point.page.evaluate("window.e2e.look('slides-video')"),
            lambda seen: bool(seen) and seen["contrast"] > 30,
            within_s=10,
            what="the slides are shown",
        )
        ops = await tabs.tab("ops", addresses["ops_url"])
        await ops.by("stream-row").first.wait_for()
        teacher = await tabs.tab("teacher", addresses["teacher_url"])
        await teacher.by("start-lesson").wait_for()
        outcome = await demo.stop(within_s=15)
    assert outcome.status == 0, outcome.err
    assert "Traceback" not in outcome.err


async def test_without_json_it_prints_what_people_need(tmp_path: Path, ports: Ports) -> None:
    async with _demo(tmp_path, ports) as demo:

        async def printed() -> str:
            assert demo.child.status() is None, demo.err
            return demo.out

        said = await until(
            printed, lambda text: "/ops#token=" in text, within_s=40, what="the addresses"
        )
        outcome = await demo.stop(within_s=15)
    assert "/teach#token=" in said
    assert "/join/" in said
    assert outcome.status == 0, outcome.err


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True
