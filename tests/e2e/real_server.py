"""Runs the real `tongke serve` as a child process on loopback, and talks to it as anyone would.

Tokens are signed here with the secret that the server is given, so that two hundred of them cost
no two hundred processes; `test_commands.py` shows that `tongke token` makes the same.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp

from signaling.tokens import TokenAuthority
from tests.e2e import processes
from tests.e2e.polling import until

READY_WITHIN_S = 20.0
ENDS_WITHIN_S = 10.0
REQUEST_LIMIT = aiohttp.ClientTimeout(total=15)
SECRET = "only-for-the-tests-0123456789-abcdefghij"

# Limits meant for a public address would only measure the tests' own hurry.
SETTINGS = {
    "server.host": "127.0.0.1",
    "server.tls": "off",
    "server.workers": "1",
    "server.announce": '["127.0.0.1"]',
    "auth.secret": SECRET,
    "limits.joins_per_second": "1000",
    "limits.joins_burst": "1000",
    "limits.per_ip_requests_per_second": "10000",
}


class RealServer:
    """One server with its own data folder, ports and log; it can be stopped and started again."""

    def __init__(
        self, folder: Path, ports: processes.Ports, settings: Mapping[str, str] | None = None
    ) -> None:
        self.folder = folder
        self.port = ports.take()
        self.media_port = ports.take(4)
        self.settings = {
            **SETTINGS,
            "server.port": str(self.port),
            "server.media_port": str(self.media_port),
            "server.data_dir": str(folder / "data"),
            **(settings or {}),
        }
        self.origin = f"http://127.0.0.1:{self.port}"
        self._authority = TokenAuthority(SECRET.encode())
        self._process: processes.Child | None = None
        self._http: aiohttp.ClientSession | None = None

    # --- life ---------------------------------------------------------------------------------

    def arguments(self) -> list[str]:
        """The `--set` arguments that every command for this server takes."""
        return [
            part for key, value in self.settings.items() for part in ("--set", f"{key}={value}")
        ]

    async def start(self) -> None:
        command = [processes.TONGKE, "serve", *self.arguments(), "--json"]
        self._process = processes.Child(
            command, stdout=self.folder / "serve.out", stderr=self.folder / "serve.log"
        )
        await until(
            self._is_ready, bool, within_s=READY_WITHIN_S, what="the server answers /readyz"
        )

    async def _is_ready(self) -> bool:
        status = self.process.status()
        assert status is None, (
            f"the server ended with status {status} instead of serving:\n"
            f"{self.log()}\n{(self.folder / 'serve.out').read_text(errors='replace')}"
        )
        try:
            async with self.http.get(f"{self.origin}/readyz") as response:
                return response.status == 200
        except aiohttp.ClientError:
            return False

    async def stop(self, *, with_signal: int = signal.SIGTERM) -> None:
        """End it as an operator would; AssertionError when anything of it is left."""
        process = self.process
        process.send(with_signal)
        status = await asyncio.to_thread(process.wait, ENDS_WITHIN_S)
        left = process.family()
        self.kill()
        assert status is not None, f"the server had not ended {ENDS_WITHIN_S} s after the signal"
        assert status == 0, f"the server ended with status {status}"
        assert not left, f"the server ended and left processes behind: {left}"

    def kill(self) -> None:
        """SIGKILL to whatever is left of it; harmless when nothing is."""
        if self._process is not None:
            self._process.kill_family()
            self._process = None

    async def close(self) -> None:
        if self._http is not None:
            await self._http.close()
            self._http = None

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.status() is None

    @property
    def process(self) -> processes.Child:
        assert self._process is not None, "the server was not started"
        return self._process

    # --- what it did ----------------------------------------------------------------------------

    def log(self) -> str:
        path = self.folder / "serve.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def worker_pids(self) -> list[int]:
        """The media processes, as the operating system sees them."""
        family = self.process.family()
        return sorted(pid for pid, command in family.items() if "streamer.worker" in command)

    def kill_worker(self) -> float:
        """SIGKILL to the first media process; the moment it happened (monotonic, seconds)."""
        pid, *_ = self.worker_pids()
        os.kill(pid, signal.SIGKILL)
        return time.monotonic()

    # --- talking to it --------------------------------------------------------------------------

    @property
    def http(self) -> aiohttp.ClientSession:
        if self._http is None:
            self._http = aiohttp.ClientSession(timeout=REQUEST_LIMIT)
        return self._http

    def token(
        self,
        role: str,
        *,
        lesson: str | None = None,
        seat: str | None = None,
        name: str | None = None,
        ttl_s: float = 3600,
    ) -> str:
        return self._authority.issue(role, ttl_s=ttl_s, lesson=lesson, seat=seat, name=name)

    async def request(
        self,
        method: str,
        path: str,
        *,
        token: str | None = None,
        body: str | bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[int, Mapping[str, str], str]:
        """Status, headers and text of the answer; `path` may be a whole address."""
        url = path if path.startswith("http") else self.origin + path
        authorization = {"Authorization": f"Bearer {token}"} if token else {}
        async with self.http.request(
            method, url, data=body, headers={**authorization, **(headers or {})}
        ) as response:
            return response.status, response.headers, await response.text()

    async def api(
        self, method: str, path: str, *, token: str | None = None, json_body: object = None
    ) -> Any:
        """The decoded JSON of a request that must succeed."""
        body = None if json_body is None else json.dumps(json_body)
        headers = {} if body is None else {"Content-Type": "application/json"}
        status, _, text = await self.request(
            method, f"/api/v1{path}", token=token, body=body, headers=headers
        )
        assert 200 <= status < 300, f"{method} {path}: {status} {text}"
        return json.loads(text) if text else None

    async def new_lesson(self, *, caps: Mapping[str, int] | None = None) -> dict[str, Any]:
        """A lesson created by the operations role; `caps` chooses its streams and their caps."""
        streams = {name: {"cap": cap} for name, cap in (caps or {"camera": 30}).items()}
        lesson: dict[str, Any] = await self.api(
            "POST",
            "/lessons",
            token=self.token("ops"),
            json_body={"title": "圆的面积", "mode": "dispatch", "streams": streams},
        )
        return lesson

    async def lesson(self, lesson_id: str) -> dict[str, Any]:
        found: dict[str, Any] = await self.api(
            "GET", f"/lessons/{lesson_id}", token=self.token("ops")
        )
        return found

    async def seats(self, lesson_id: str) -> list[dict[str, Any]]:
        found: dict[str, list[dict[str, Any]]] = await self.api(
            "GET", f"/lessons/{lesson_id}/seats", token=self.token("ops")
        )
        return found["seats"]

    async def stats(self) -> dict[str, Any]:
        found: dict[str, Any] = await self.api("GET", "/stats", token=self.token("ops"))
        return found

    async def metric(self, name: str, **labels: str) -> float:
        """The sum of a Prometheus metric over the series that carry these labels."""
        _, _, text = await self.request("GET", "/metrics")
        total, found = 0.0, False
        for line in text.splitlines():
            series, _, value = line.rpartition(" ")
            if series.partition("{")[0] != name:
                continue
            if all(f'{key}="{wanted}"' in series for key, wanted in labels.items()):
                total, found = total + float(value), True
        assert found, f"/metrics has no {name} with {labels}"
        return total
