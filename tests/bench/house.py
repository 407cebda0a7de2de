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
    ops_token: str
    point_token: str
    lesson: str
    pid: int

    def start_load(
        self,
        receivers: int,
        *,
        ramp_s: float,
        seconds: float,
        gro: bool = True,
        publish: bool = True,
    ) -> subprocess.Popen[bytes]:
        """Start `tongke load --json`, pinned to the last core."""
        command = [sys.executable, "-m", "clients", "load"]
        command += [f"{self.url}/whep/{self.lesson}/camera", "--token", self.point_token]
        command += ["--receivers", str(receivers), "--ramp", str(ramp_s)]
        command += ["--seconds", str(seconds), "--json"]
        command += ["--publish", "--publish-token", self.ops_token] if publish else []
        command += [] if gro else ["--no-gro"]
        return subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            preexec_fn=pinned_to(cores()[-1]),
        )

    def load(
        self, receivers: int, *, ramp_s: float, seconds: float, gro: bool = True
    ) -> dict[str, object]:
        """One run of `tongke load --publish --json`."""
        running = self.start_load(receivers, ramp_s=ramp_s, seconds=seconds, gro=gro)
        return finish(running, seconds + ramp_s)

    def resident_mib(self) -> float:
        """Resident memory of all workers, from /metrics."""
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        return sum(
            float(line.rpartition(" ")[2])
            for line in lines
            if line.startswith("tongke_worker_resident_bytes")
        ) / (1 << 20)


def finish(running: subprocess.Popen[bytes], seconds: float) -> dict[str, object]:
    """Wait for a load run and read its result."""
    try:
        output, _ = running.communicate(timeout=seconds + 120)
    except subprocess.TimeoutExpired:
        running.kill()
        raise
    return dict(json.loads(output))


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
            "modes.open.recording=false",  # what is measured is forwarding
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
            ops, point = (_token(role, options) for role in ("ops", "point"))
            yield House(url, ops, point, _lesson(url, ops), server.pid)
        finally:
            server.send_signal(signal.SIGTERM)
            try:
                server.wait(15)
            except subprocess.TimeoutExpired:
                server.kill()


def _token(role: str, options: list[str]) -> str:
    command = [sys.executable, "-m", "clients", "token", "--role", role, *options]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout.strip()


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
