"""A small WHIP and WHEP server of aiortc and aiohttp, which tests can make refuse and forget."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.contrib.media import MediaRelay
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack
from av.video.frame import VideoFrame

TOKEN = "a-token"
PROBLEMS = "https://tongke.dev/problems/"


@dataclass
class Refusal:
    status: int
    kind: str
    members: dict[str, object] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)

    def response(self) -> web.Response:
        document = {
            "type": PROBLEMS + self.kind,
            "title": f"no: {self.kind}",
            "status": self.status,
            "detail": "because",
            **self.members,
        }
        return web.json_response(
            document,
            status=self.status,
            headers=self.headers,
            content_type="application/problem+json",
        )


class FakeServer:
    """Publishers are decoded and relayed to receivers, encoded again; enough to test clients."""

    def __init__(self) -> None:
        self.refusals: list[Refusal] = []
        self.offers: list[str] = []
        self.tickets: list[str | None] = []
        self.deleted: list[str] = []
        self.frames = 0
        self.sizes: set[tuple[int, int]] = set()
        self.audio_frames = 0
        self._peers: dict[str, RTCPeerConnection] = {}
        self._published: dict[str, MediaStreamTrack] = {}
        self._relay = MediaRelay()
        self._tasks: set[asyncio.Task[None]] = set()
        app = web.Application()
        app.router.add_post("/{protocol:whip|whep}/{lesson}/{stream}", self._post)
        app.router.add_patch("/session/{id}", self._patch)
        app.router.add_delete("/session/{id}", self._delete)
        self._server = TestServer(app)

    async def start(self) -> None:
        await self._server.start_server()

    async def close(self) -> None:
        await self.forget()
        for task in self._tasks:
            task.cancel()
        await self._server.close()

    def url(self, protocol: str) -> str:
        return str(self._server.make_url(f"/{protocol}/l_1/camera"))

    @property
    def sessions(self) -> int:
        return len(self._peers)

    async def forget(self) -> None:
        """As a restart does: every session is gone, without a word to the other side."""
        peers, self._peers, self._published = list(self._peers.values()), {}, {}
        for peer in peers:
            for transceiver in peer.getTransceivers():
                # Not `close`, which would say goodbye in DTLS; a crashed server says nothing.
                await transceiver.receiver.transport.transport.stop()

    async def _post(self, request: web.Request) -> web.Response:
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return Refusal(401, "invalid-token").response()
        self.tickets.append(request.headers.get("Tongke-Ticket"))
        if self.refusals:
            return self.refusals.pop(0).response()
        offer = await request.text()
        self.offers.append(offer)
        peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        name = secrets.token_hex(8)
        self._peers[name] = peer
        if request.match_info["protocol"] == "whip":
            peer.on("track", self._publish)
        await peer.setRemoteDescription(RTCSessionDescription(offer, "offer"))
        if request.match_info["protocol"] == "whep":
            for kind, track in self._published.items():
                for transceiver in peer.getTransceivers():
                    if transceiver.kind == kind:
                        transceiver.sender.replaceTrack(self._relay.subscribe(track))
                        transceiver.direction = "sendonly"
        await peer.setLocalDescription(await peer.createAnswer())
        return web.Response(
            status=201,
            text=peer.localDescription.sdp,
            content_type="application/sdp",
            headers={"Location": f"/session/{name}", "ETag": '"e1"'},
        )

    async def _patch(self, request: web.Request) -> web.Response:
        if request.match_info["id"] not in self._peers:
            return Refusal(404, "no-such-session").response()
        return web.Response(status=204)

    async def _delete(self, request: web.Request) -> web.Response:
        name = request.match_info["id"]
        peer = self._peers.pop(name, None)
        if peer is None:
            return Refusal(404, "no-such-session").response()
        self.deleted.append(name)
        await peer.close()
        return web.Response(status=200)

    def _publish(self, track: MediaStreamTrack) -> None:
        self._published[track.kind] = track
        task = asyncio.ensure_future(self._count(self._relay.subscribe(track)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _count(self, track: MediaStreamTrack) -> None:
        while True:
            try:
                frame = await track.recv()
            except MediaStreamError:
                return
            if isinstance(frame, VideoFrame):
                self.frames += 1
                self.sizes.add((frame.width, frame.height))
            else:
                self.audio_frames += 1


@pytest.fixture
async def fake() -> AsyncIterator[FakeServer]:
    server = FakeServer()
    await server.start()
    try:
        yield server
    finally:
        await server.close()
