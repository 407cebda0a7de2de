"""A worker in this process, asked as the control process asks it, with a watch on the event loop.

Whatever escapes a callback of the loop fails the test: nothing that a peer sends may do that.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from streamer import control
from streamer.dtls import generate_identity
from streamer.worker import Worker
from tests.net.peer import RawPeer

CERTIFICATE_PEM, KEY_PEM = generate_identity()


async def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait for something that has no event of its own."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - what is awaited has no event
            await asyncio.sleep(0.02)


class House:
    """One worker on loopback and the raw peers that it serves."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.escaped: list[dict[str, Any]] = []
        self._request_ids = itertools.count(1)
        self.peers: list[RawPeer] = []

    @property
    def address(self) -> tuple[str, int]:
        return "127.0.0.1", self.worker.port.port

    @property
    def counters(self) -> control.Counters:
        return self.worker.counters

    @property
    def drops(self) -> dict[str, int]:
        return self.worker.counters.drops

    def ask(self, kind: type[Any], **fields: object) -> control.AnyReply:
        request: control.AnyRequest = kind(request_id=next(self._request_ids), **fields)
        return self.worker.handle(request)

    def open(self, role: str, session_id: str, offer: str, output_id: str = "o") -> str:
        """The answer to an offer that must be accepted."""
        kind = control.OpenPublisher if role == "publisher" else control.OpenReceiver
        reply = self.ask(kind, session_id=session_id, output_id=output_id, offer=offer)
        assert isinstance(reply, control.Opened), reply
        return reply.answer

    def session(self, session_id: str) -> control.SessionStats:
        stats = self.ask(control.GetStats)
        assert isinstance(stats, control.Stats)
        return next(one for one in stats.sessions if one.session_id == session_id)

    def track(self, session_id: str, kind: str = "video") -> control.TrackStats:
        return next(one for one in self.session(session_id).tracks if one.kind == kind)

    def end_of(self, session_id: str) -> str | None:
        """Why a session was closed; None while it lives."""
        ends = [
            message.reason
            for message in self.worker.outbox
            if isinstance(message, control.SessionChanged)
            and message.session_id == session_id
            and message.state == "closed"
        ]
        assert len(ends) <= 1, f"{session_id} was closed {len(ends)} times"
        return ends[0] if ends else None

    async def publisher(self, session_id: str = "p", output_id: str = "o") -> RawPeer:
        return await self._peer(RawPeer("publisher", len(self.peers)), session_id, output_id)

    async def receiver(self, session_id: str, output_id: str = "o") -> RawPeer:
        return await self._peer(RawPeer("receiver", len(self.peers)), session_id, output_id)

    async def _peer(self, peer: RawPeer, session_id: str, output_id: str) -> RawPeer:
        self.peers.append(peer)
        await peer.connect(self.open(peer.role, session_id, peer.offer, output_id))
        return peer

    def close_peers(self) -> None:
        for peer in self.peers:
            peer.close()


@asynccontextmanager
async def house(**settings: object) -> AsyncIterator[House]:
    """Open one; on leaving, nothing may have escaped into the event loop's exception handler."""
    values: dict[str, object] = {
        "worker": 0,
        "binds": [control.Address("127.0.0.1", 0)],
        "announce": ["127.0.0.1"],
        "certificate_pem": CERTIFICATE_PEM,
        "key_pem": KEY_PEM,
    }
    loop = asyncio.get_running_loop()
    worker = Worker(control.WorkerSettings(**(values | settings)), loop)  # type: ignore[arg-type]
    worker.start()
    opened = House(worker)
    loop.set_exception_handler(lambda _loop, context: opened.escaped.append(context))
    try:
        yield opened
        await asyncio.sleep(0)
        assert not opened.escaped, opened.escaped
        for peer in opened.peers:
            assert not peer.undecipherable, "the worker sent what its keys do not open"
            assert not peer.nonces_reused, "the worker encrypted two texts with one nonce"
    finally:
        loop.set_exception_handler(None)
        opened.close_peers()
        worker.close("test over")
