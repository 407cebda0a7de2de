"""A streamer worker behind the least HTTP that WHIP and WHEP need, in the test's own process."""

from __future__ import annotations

import asyncio
import itertools
import resource
from collections.abc import Callable
from typing import Self

from aiohttp import web

from streamer import control
from streamer.dtls import generate_identity
from streamer.worker import Worker

START_TRIES = 10


class SmallServer:
    """`async with SmallServer() as server:` serves at `server.origin`.

    `cap` refuses receivers beyond it as the real server does; `before_answer` may change an answer.
    """

    def __init__(
        self, *, cap: int = 1000, before_answer: Callable[[str], str] | None = None
    ) -> None:
        self.cap = cap
        self.before_answer = before_answer or (lambda answer: answer)
        self.opened: list[str] = []
        self.deleted: list[str] = []
        self.tokens: set[str] = set()
        self.origin = ""
        self.worker: Worker
        self._numbers = itertools.count(1)
        self._runner: web.AppRunner

    async def __aenter__(self) -> Self:
        certificate, key = generate_identity()
        settings = control.WorkerSettings(
            worker=0,
            binds=[control.Address("127.0.0.1", 0)],
            announce=["127.0.0.1"],
            certificate_pem=certificate,
            key_pem=key,
        )
        for _ in range(START_TRIES):
            self.worker = Worker(settings, asyncio.get_running_loop())
            try:
                self.worker.start()
                break
            except OSError:
                # Port 0 gave a UDP port whose TCP number is taken: try another.
                self.worker.close("no-port")
        app = web.Application()
        app.router.add_post("/{way:whip|whep}/{lesson}/{stream}", self._open)
        app.router.add_delete("/{way:whip|whep}/{lesson}/{stream}/{session}", self._close)
        app.router.add_get("/metrics", self._metrics)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        port = self._runner.addresses[0][1]
        self.origin = f"http://127.0.0.1:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self.worker.close("test-over")
        await self._runner.cleanup()

    @property
    def receivers(self) -> list[control.SessionStats]:
        return [session for session in self._stats().sessions if session.role == "receiver"]

    @property
    def connected(self) -> list[control.SessionStats]:
        return [session for session in self.receivers if session.state == "connected"]

    def _stats(self) -> control.Stats:
        stats = self.worker.handle(control.GetStats(request_id=0))
        assert isinstance(stats, control.Stats)
        return stats

    async def _open(self, request: web.Request) -> web.Response:
        self.tokens.add(request.headers.get("Authorization", ""))
        way, lesson, stream = (request.match_info[name] for name in ("way", "lesson", "stream"))
        if way == "whep" and len(self.receivers) >= self.cap:
            return web.json_response(
                {"type": "https://tongke.dev/problems/receiver-cap-reached", "status": 503},
                status=503,
                content_type="application/problem+json",
            )
        session_id = f"s{next(self._numbers)}"
        kind = control.OpenPublisher if way == "whip" else control.OpenReceiver
        reply = self.worker.handle(
            kind(
                request_id=0,
                session_id=session_id,
                output_id=f"{lesson}/{stream}",
                offer=await request.text(),
            )
        )
        if isinstance(reply, control.Failed):
            return web.json_response(
                {"type": f"https://tongke.dev/problems/{reply.code}", "detail": reply.detail},
                status=400,
                content_type="application/problem+json",
            )
        assert isinstance(reply, control.Opened)
        self.opened.append(session_id)
        return web.Response(
            status=201,
            text=self.before_answer(reply.answer),
            content_type="application/sdp",
            headers={"Location": f"/{way}/{lesson}/{stream}/{session_id}", "ETag": reply.etag},
        )

    async def _close(self, request: web.Request) -> web.Response:
        session_id = request.match_info["session"]
        self.deleted.append(session_id)
        self.worker.handle(control.CloseSession(request_id=0, session_id=session_id))
        return web.Response()

    async def _metrics(self, _request: web.Request) -> web.Response:
        stats = self._stats()
        usage = resource.getrusage(resource.RUSAGE_SELF)
        lines = [
            f'tongke_worker_cpu_seconds_total{{worker="0"}} {stats.cpu_seconds}',
            f"process_cpu_seconds_total {usage.ru_utime + usage.ru_stime}",
            "tongke_rtp_packets_forwarded_total"
            f'{{worker="0"}} {stats.counters.rtp_packets_forwarded}',
            f'tongke_worker_resident_bytes{{worker="0"}} {stats.rss_bytes}',
        ]
        return web.Response(text="\n".join(lines) + "\n", content_type="text/plain")
