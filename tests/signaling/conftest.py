"""The real server on loopback, with workers that answer without media."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from signaling import config as configuration
from signaling.app import Server
from signaling.config_model import Config

ROOT = Path(__file__).resolve().parents[2]
FAKE_WORKER = "tests.signaling.fakeworker"
OFFER = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n"


def config_for(data_dir: Path, *overrides: str) -> Config:
    """Defaults on free loopback ports, few workers."""
    config = configuration.load(
        None,
        [
            "server.host=127.0.0.1",
            'server.tls="off"',
            "server.workers=1",
            f'server.data_dir="{data_dir}"',
            *overrides,
        ],
    )
    server = msgspec.structs.replace(config.server, port=0, media_port=0)
    return msgspec.structs.replace(config, server=server)


@dataclass
class Answer:
    """What came back for an offer."""

    status: int
    content_type: str
    headers: Mapping[str, str]
    text: str

    @property
    def problem(self) -> dict[str, Any]:
        assert self.content_type == "application/problem+json"
        return dict(msgspec.json.decode(self.text))

    @property
    def kind(self) -> str:
        """The last segment of the problem's type."""
        return str(self.problem["type"].rpartition("/")[2])


class Client:
    """A server under test and what tests do with it all the time."""

    def __init__(self, server: Server, http: aiohttp.ClientSession) -> None:
        self.server = server
        self.http = http
        self.teacher = server.issue_token("teacher")
        self.ops = server.issue_token("ops")

    async def call(
        self, method: str, path: str, token: str | None = None, **options: Any
    ) -> tuple[int, Any]:
        """Status and decoded body; JSON and problem documents decoded."""
        headers = dict(options.pop("headers", {}))
        headers.setdefault("Accept-Language", "en")
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        async with self.http.request(
            method, self.server.url + path, headers=headers, **options
        ) as response:
            body: Any = await response.read()
            if "json" in response.headers.get("Content-Type", ""):
                body = msgspec.json.decode(body)
            return response.status, body

    async def lesson(self, **fields: Any) -> dict[str, Any]:
        body = {"title": "第一课", "mode": "dispatch", **fields}
        status, lesson = await self.call("POST", "/api/v1/lessons", self.teacher, json=body)
        assert status == 201, lesson
        return dict(lesson)

    async def join(self, lesson: dict[str, Any], name: str = "红星小学") -> dict[str, Any]:
        status, joined = await self.call(
            "POST", "/api/v1/join", json={"code": lesson["join_code"], "name": name}
        )
        assert status == 201, joined
        return dict(joined)

    async def media(
        self,
        protocol: str,
        lesson: dict[str, Any],
        token: str,
        *,
        stream: str = "camera",
        offer: str = OFFER,
        ticket: str | None = None,
    ) -> Answer:
        """POST an offer."""
        headers = {
            "Authorization": f"Bearer {token}",
            "Content-Type": "application/sdp",
            "Accept-Language": "en",
        }
        if ticket is not None:
            headers["Tongke-Ticket"] = ticket
        url = f"{self.server.url}/{protocol}/{lesson['id']}/{stream}"
        async with self.http.post(url, data=offer, headers=headers) as response:
            text = await response.text()
            return Answer(response.status, response.content_type, response.headers, text)

    async def whep(self, lesson: dict[str, Any], token: str, **options: Any) -> Answer:
        return await self.media("whep", lesson, token, **options)

    async def whip(
        self, lesson: dict[str, Any], token: str | None = None, **options: Any
    ) -> Answer:
        return await self.media("whip", lesson, token or self.teacher, **options)

    async def stream(self, lesson: dict[str, Any], name: str = "camera") -> dict[str, Any]:
        _, document = await self.call(
            "GET", f"/api/v1/lessons/{lesson['id']}/streams/{name}", self.ops
        )
        return dict(document)

    async def seats(self, lesson: dict[str, Any]) -> list[dict[str, Any]]:
        _, document = await self.call("GET", f"/api/v1/lessons/{lesson['id']}/seats", self.ops)
        return list(document["seats"])


class Socket:
    """A page's WebSocket."""

    def __init__(self, ws: aiohttp.ClientWebSocketResponse) -> None:
        self.ws = ws

    async def next(self, wanted: str) -> dict[str, Any]:
        """The next message of a type; others are skipped."""
        async with asyncio.timeout(10):
            while True:
                message = await self.ws.receive()
                assert message.type is aiohttp.WSMsgType.TEXT, (wanted, message)
                event = msgspec.json.decode(message.data)
                if event["type"] == wanted:
                    return dict(event)

    async def closed(self) -> int | None:
        """Wait for the close; its code."""
        async with asyncio.timeout(10):
            while not self.ws.closed:
                await self.ws.receive()
        return self.ws.close_code

    async def send(self, **message: Any) -> None:
        await self.ws.send_str(msgspec.json.encode(message).decode())


async def connect(client: Client, lesson: dict[str, Any], token: str) -> Socket:
    """A socket after its hello."""
    url = f"{client.server.url}/api/v1/lessons/{lesson['id']}/events"
    socket = Socket(await client.http.ws_connect(url, headers={"Accept-Language": "en"}))
    await socket.send(type="hello", token=token)
    return socket


async def eventually(check: Callable[[], Awaitable[bool]]) -> None:
    """Wait until a condition holds."""
    async with asyncio.timeout(15):
        while not await check():  # noqa: ASYNC110 - what is awaited is another process
            await asyncio.sleep(0.02)


Start = Callable[..., Awaitable[Client]]


@pytest.fixture
def web_root(tmp_path: Path) -> Path:
    """A small site instead of the real pages."""
    root = tmp_path / "web"
    for name in ("index.html", "teach/index.html", "join/index.html", "ops/index.html"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"<!doctype html><title>{name}</title>")
    (root / "shared").mkdir()
    (root / "shared/a.js").write_text("export const a = 1;\n")
    (root / "shared/notes.md").write_text("not to be served")
    (tmp_path / "outside.js").write_text("secret")
    return root


@pytest.fixture
async def start(
    tmp_path: Path, web_root: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Start]:
    """Start servers; all are stopped at the end."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    servers: list[Server] = []
    sessions: list[aiohttp.ClientSession] = []

    async def start(*overrides: str, **options: Any) -> Client:
        config = config_for(tmp_path / "data", *overrides)
        server = Server(config, web_root=web_root, **{"worker_module": FAKE_WORKER, **options})
        servers.append(server)
        await server.start()
        connector = aiohttp.TCPConnector(limit=0, ssl=False)
        session = aiohttp.ClientSession(connector=connector)
        sessions.append(session)
        return Client(server, session)

    yield start
    for session in sessions:
        await session.close()
    for server in servers:
        await server.stop()


@pytest.fixture
async def client(start: Start) -> Client:
    return await start()
