"""The real server on one core and the load generator on another, as child processes."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass

from .machine import cores, pinned_to

START_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class House:
    """A running server with one lesson for any number of receivers."""

    url: str
    token: str
    lesson: str
    pid: int

    def load(
        self, receivers: int, *, ramp_s: float, seconds: float, gro: bool = True
    ) -> dict[str, object]:
        """One run of `tongke load --publish --json`, pinned to the last core."""
        command = [sys.executable, "-m", "clients", "load"]
        command += [f"{self.url}/whep/{self.lesson}/camera", "--token", self.token, "--publish"]
        command += ["--receivers", str(receivers), "--ramp", str(ramp_s)]
        command += ["--seconds", str(seconds), "--json"]
        if not gro:
            command.append("--no-gro")
        done = subprocess.run(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=seconds + ramp_s + 120,
            preexec_fn=pinned_to(cores()[-1]),
            check=False,
        )
        return dict(json.loads(done.stdout))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def open_house(workers: int = 1, *, pin: bool = True) -> Iterator[House]:
    """Start `tongke serve` with limits that a load test needs; stop it in the end."""
    with tempfile.TemporaryDirectory(prefix="tongke-bench-") as folder:
        port = _free_port()
        settings = [
            "server.host=127.0.0.1",
            f"server.port={port}",
            'server.tls="off"',
            f"server.media_port={_free_port()}",
            f"server.data_dir={folder}",
            f"server.workers={workers}",
            'server.announce=["127.0.0.1"]',
            "limits.joins_per_second=1000",
            "limits.joins_burst=5000",
            "limits.per_ip_requests_per_second=5000",
            "limits.sessions=20000",
        ]
        options = [word for setting in settings for word in ("--set", setting)]
        server = subprocess.Popen(
            [sys.executable, "-m", "clients", "serve", "--json", *options],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=pinned_to(cores()[0]) if pin else None,
        )
        url = f"http://127.0.0.1:{port}"
        try:
            _wait_ready(url, server)
            token = subprocess.run(
                [sys.executable, "-m", "clients", "token", "--role", "ops", *options],
                capture_output=True,
                text=True,
                check=True,
            ).stdout.strip()
            yield House(url, token, _lesson(url, token), server.pid)
        finally:
            server.send_signal(signal.SIGTERM)
            try:
                server.wait(15)
            except subprocess.TimeoutExpired:
                server.kill()


def _wait_ready(url: str, server: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < end:
        if server.poll() is not None:
            raise RuntimeError(f"tongke serve ended with status {server.returncode}")
        with (
            contextlib.suppress(OSError),
            urllib.request.urlopen(f"{url}/readyz", timeout=2) as answer,
        ):
            if answer.status == 200:
                return
        time.sleep(0.1)
    raise RuntimeError("tongke serve did not get ready")


def _lesson(url: str, token: str) -> str:
    body = {"title": "bench", "mode": "open", "streams": {"camera": {"cap": 10000}}}
    request = urllib.request.Request(
        f"{url}/api/v1/lessons",
        data=json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return str(json.load(answer)["id"])
