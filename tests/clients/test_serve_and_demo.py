"""`serve` and `demo` as processes: one object, reload, orderly end, and nothing left behind."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from clients.family import Child as Kept
from tests.e2e.processes import TONGKE, Child, Ports

pytestmark = pytest.mark.e2e


@pytest.fixture
def ports() -> Iterator[Ports]:
    taken = Ports()
    yield taken
    taken.give_back()


class Running:
    """A `tongke` process with its two outputs."""

    def __init__(self, folder: Path, ports: Ports, *words: str) -> None:
        self.out, self.err = folder / "out", folder / "err"
        settings = {
            "server.host": "127.0.0.1",
            "server.port": str(ports.take()),
            "server.media_port": str(ports.take(2)),
            "server.data_dir": str(folder / "data"),
            "server.workers": "1",
        }
        sets = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
        self.child = Child([TONGKE, *words, *sets, "--json"], stdout=self.out, stderr=self.err)

    def until(self, condition: Callable[[], bool], within_s: float = 40) -> None:
        give_up_at = time.monotonic() + within_s
        while not condition():
            assert time.monotonic() < give_up_at, self.err.read_text()
            time.sleep(0.05)

    def announced(self) -> dict[str, str]:
        self.until(lambda: self.out.read_text().endswith("}\n") or self.child.status() is not None)
        told: dict[str, str] = json.loads(self.out.read_text())
        return told


def test_serve_reloads_on_sighup_and_ends_on_sigterm(tmp_path: Path, ports: Ports) -> None:
    config = tmp_path / "tongke.toml"
    config.write_text("[limits]\nseat_hold_s = 20\n")
    server = Running(tmp_path, ports, "serve", "--config", str(config))
    try:
        told = server.announced()
        assert told["teacher_url"] == f"{told['url']}/teach#token={told['teacher_token']}"
        config.write_text("[limits]\nseat_hold_s = -1\n")
        server.child.send(signal.SIGHUP)
        server.until(lambda: "limits.seat_hold_s" in server.err.read_text())
        config.write_text("[limits]\nseat_hold_s = 30\n")
        server.child.send(signal.SIGHUP)
        server.until(lambda: "limits.seat_hold_s is now 30" in server.err.read_text())
        server.child.send(signal.SIGTERM)
        assert server.child.wait(10) == 0
        assert not server.child.family()
        assert len(server.out.read_text().splitlines()) == 1
        assert "Traceback" not in server.err.read_text()
    finally:
        server.child.kill_family()


def test_a_demo_that_is_killed_leaves_no_process(tmp_path: Path, ports: Ports) -> None:
    demo = Running(tmp_path, ports, "demo")
    try:
        told = demo.announced()
        assert set(told) >= {
            *("url", "lesson", "join_code", "teacher_url", "join_url", "ops_url"),
            *("teacher_token", "ops_token", "point_token"),
        }
        assert len(demo.child.family()) >= 4, "server, worker, two publishers"
        demo.child.send(signal.SIGKILL)
        demo.until(lambda: not demo.child.family(), within_s=15)
    finally:
        demo.child.kill_family()


def test_a_demo_of_a_file_ends_when_the_terminal_closes(tmp_path: Path, ports: Ports) -> None:
    from tests import media

    demo = Running(tmp_path, ports, "demo", "--source", str(media.h264_clip()))
    try:
        demo.announced()
        assert "H264" in demo.err.read_text()
        demo.child.send(signal.SIGHUP)
        assert demo.child.wait(15) == 0
        assert not demo.child.family()
    finally:
        demo.child.kill_family()


async def test_a_publisher_that_ends_is_started_again(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    words = ["token", "--role", "ops", "--set", f"server.data_dir={tmp_path}"]
    running = asyncio.ensure_future(Kept("camera", words, {}).run())
    seen = ""
    for _ in range(400):
        await asyncio.sleep(0.05)
        seen += capsys.readouterr().err
        if seen.count("camera") >= 2:
            break
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert seen.count("camera") >= 2
