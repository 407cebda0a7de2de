"""The API of the operations page, `/api/v1/ops`: overview, series, alarms, drains, undo."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from time import monotonic, time
from typing import Annotated, Final

import msgspec
from aiohttp import web

from signaling import config as configuration
from signaling import permissions
from signaling.admission_bodies import Body
from signaling.api import CONFIG_BYTES, PutConfig, answer
from signaling.audit import acting, acting_role_and_token
from signaling.config_history import ConfigHistory, FileWatch
from signaling.config_model import Config
from signaling.context import Context
from signaling.doors import claims_of
from signaling.logs import new_incident
from signaling.ops_desk import OpsDesk
from signaling.problems import Problem
from signaling.requests import decode, invalid, read_body, read_json
from signaling.timeseries import GRAIN_S
from signaling.tokens import Claims

log = logging.getLogger(__name__)

BASE: Final = "/api/v1/ops"
WATCH_S: Final = 1.0  # a written file is noticed within two seconds
# Many pages of operations cost no more than one.
FRESH_S: Final = 1.0


class PostDrain(Body, frozen=True):
    """`worker` is its number, None the whole server; `drain` false takes it back."""

    worker: Annotated[int, msgspec.Meta(ge=0, le=255)] | None = None
    drain: bool = True


_drain_decoder = msgspec.json.Decoder(PostDrain)
_toml_decoder = msgspec.json.Decoder(PutConfig)


class OpsApi:
    """The handlers, and the task that samples and watches the configuration's file."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._directory = Path(context.config.server.data_dir)
        self.desk = OpsDesk(
            lambda: context.config, context.registry, context.desk, context.supervisor
        )
        self.history = ConfigHistory(self._directory)
        self._known = context.config
        self._restoring: int | None = None
        path = context.configuring.path
        self._watch = FileWatch(path) if path is not None else None
        self._overview: tuple[float, bytes, str] = (-FRESH_S, b"", "")
        context.hub.reported = lambda session, report: self.desk.reported(
            session, report, monotonic()
        )
        self.history.record(context.configuring.toml, at=time(), role="server")
        context.configuring.on_change(self._config_changed)

    def install(self, app: web.Application) -> None:
        """Serve, and sample for as long as the application runs."""
        app.add_routes(
            [
                web.get(BASE + "/overview", self._get_overview),
                web.get(BASE + "/sessions/{session}/series", self._session_series),
                web.post(BASE + "/sessions/{session}/rejoin", self._rejoin),
                web.get(BASE + "/lessons/{lesson}/series", self._lesson_series),
                web.get(BASE + "/workers/{worker}/series", self._worker_series),
                web.get(BASE + "/alarms", self._alarms),
                web.post(BASE + "/alarms/{alarm}/ack", self._acknowledge),
                web.post(BASE + "/drain", self._drain),
                web.get(BASE + "/config/history", self._history),
                web.post(BASE + "/config/diff", self._diff),
                web.post(BASE + "/config/undo", self._undo),
            ]
        )
        app.cleanup_ctx.append(self._run)

    async def _run(self, _app: web.Application) -> AsyncIterator[None]:
        tasks = [
            asyncio.create_task(self._forever(GRAIN_S, self.sample), name="samples"),
            asyncio.create_task(self._forever(WATCH_S, self.look_at_file), name="config file"),
        ]
        yield
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _forever(self, every_s: float, work: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await work()
            except Exception:  # whatever fails once must not end the watch over the rest
                log.exception("incident %s: the operations desk failed", new_incident())
            await asyncio.sleep(every_s)

    # --- samples -------------------------------------------------------------------------------

    async def sample(self) -> None:
        """Ask the workers, and judge what they say."""
        await self._context.supervisor.refresh_stats(sessions=True)
        free_mb: float | None = None
        with contextlib.suppress(OSError):
            free_mb = shutil.disk_usage(self._directory).free / 2**20
        for news in self.desk.sample(monotonic(), time(), free_mb):
            level = logging.WARNING if news.what == "raised" else logging.INFO
            lesson, _, rest = news.subject.partition("/")
            ids = {"lesson": lesson, "seat": rest.partition("/")[0]} if rest else {}
            log.log(
                level,
                "alarm %d %s: %s of %s is %s, limit %s",
                news.alarm,
                news.what,
                news.kind,
                news.subject,
                news.value,
                news.limit,
                extra=ids,
            )

    async def _get_overview(self, request: web.Request) -> web.Response:
        self._ops(request)
        now = monotonic()
        made_at, body, tag = self._overview
        if now - made_at >= FRESH_S:
            body = msgspec.json.encode(self.desk.overview(now))
            tag = hashlib.blake2b(body, digest_size=12).hexdigest()
            self._overview = (now, body, tag)
        headers = {"ETag": f'"{tag}"', "Cache-Control": "no-cache, private"}
        # RFC 9110 section 13.1.2: weak comparison, and the tag may be one of several.
        known = request.headers.get("If-None-Match", "")
        if tag in [one.strip().removeprefix("W/").strip('"') for one in known.split(",")]:
            return web.Response(status=304, headers=headers)
        response = web.Response(body=body, content_type="application/json", headers=headers)
        response.enable_compression()
        return response

    async def _session_series(self, request: web.Request) -> web.Response:
        return self._series(request, request.match_info["session"], "no-such-session")

    async def _lesson_series(self, request: web.Request) -> web.Response:
        return self._series(request, f"lesson:{request.match_info['lesson']}", "no-such-lesson")

    async def _worker_series(self, request: web.Request) -> web.Response:
        return self._series(request, f"worker:{request.match_info['worker']}", "not-found")

    def _series(self, request: web.Request, key: str, problem: str) -> web.Response:
        self._ops(request)
        found = self.desk.series.document(key, monotonic())
        if found is None:
            raise Problem(problem)
        return answer(found)

    # --- alarms and actions --------------------------------------------------------------------

    async def _alarms(self, request: web.Request) -> web.Response:
        self._ops(request)
        return answer({"alarms": self.desk.alarms.standing(), "log": self.desk.alarms.log()})

    async def _acknowledge(self, request: web.Request) -> web.Response:
        claims = self._ops(request)
        number = request.match_info["alarm"]
        known = number.isascii() and number.isdigit() and len(number) < 10
        if not known or not self.desk.alarms.acknowledge(int(number), claims.role, time()):
            raise Problem("not-found")
        self._stale()
        return web.Response(status=204)

    async def _rejoin(self, request: web.Request) -> web.Response:
        """Its page comes back at once: on another worker if its own is drained or crowded."""
        self._ops(request)
        session = self._context.desk.sessions.get(request.match_info["session"])
        if session is None or session.kind != "receiver":
            raise Problem("no-such-session")
        self._context.desk.ask_to_rejoin(session)
        return web.Response(status=204)

    async def _drain(self, request: web.Request) -> web.Response:
        self._ops(request)
        body = await read_json(request, self._context.config.limits.body_bytes, _drain_decoder)
        desk = self._context.desk
        if body.worker is None:
            desk.refusing_lessons = body.drain
        elif body.worker >= len(self._context.supervisor.workers):
            most = len(self._context.supervisor.workers) - 1
            raise invalid("worker", f"进程编号须在 0–{most} 之间", f"must be from 0 to {most}")
        elif body.drain:
            desk.drained.add(body.worker)
        else:
            desk.drained.discard(body.worker)
        log.info("drain: server %s, workers %s", desk.refusing_lessons, sorted(desk.drained))
        self._stale()
        return answer({"server": desk.refusing_lessons, "workers": sorted(desk.drained)})

    # --- configurations ------------------------------------------------------------------------

    async def look_at_file(self) -> None:
        """Read the configuration again when its file was written. An invalid one changes nothing.

        The server's own writing shows here as well, and then differs in nothing.
        """
        if self._watch is None or not self._watch.changed():
            return
        try:
            changes = self._context.configuring.reread()
        except configuration.ConfigError as error:
            for one in error.errors:
                log.error(
                    "configuration not reloaded: %s must not be %s, allowed: %s",
                    one.key,
                    one.value,
                    one.allowed,
                )
            return
        log.info("configuration file read again, %d changes", len(changes))

    async def _history(self, request: web.Request) -> web.Response:
        self._ops(request)
        before = self.history.before()
        return answer(
            {
                "history": [
                    {
                        "n": one.n,
                        "at": one.at,
                        "role": one.role,
                        "token": one.token,
                        "changes": one.changes,
                        "restores": one.restores,
                    }
                    for one in self.history.newest_first()
                ],
                "undo": before.n if before is not None else None,
            }
        )

    async def _diff(self, request: web.Request) -> web.Response:
        """What saving a text would change. Nothing is changed."""
        self._ops(request)
        body = decode(await read_body(request, CONFIG_BYTES), _toml_decoder)
        try:
            return answer({"changes": self._context.configuring.preview(body.toml)})
        except configuration.ConfigError as error:
            raise error.problem() from error

    async def _undo(self, request: web.Request) -> web.Response:
        claims = self._ops(request)
        target = self.history.before()
        if target is None:
            raise Problem("not-found")
        self._restoring = target.n
        try:
            with acting(claims):
                changes = self._context.configuring.replace_toml(target.toml)
        except configuration.ConfigError as error:
            raise error.problem() from error
        except OSError as error:
            reason = error.strerror or "error"
            raise invalid(
                "toml", f"无法写入配置文件：{reason}", f"cannot be saved: {reason}"
            ) from error
        finally:
            self._restoring = None
        return answer({"restored": target.n, "changes": changes})

    def _config_changed(self, config: Config) -> None:
        changes = configuration.describe_changes(self._known, config)
        self._known = config
        role, token = acting_role_and_token()
        self.history.record(
            self._context.configuring.toml,
            at=time(),
            role=role,
            token=token,
            changes=[f"{one.key}: {one.old} → {one.new}" for one in changes],
            restores=self._restoring,
        )
        self._stale()

    # --- inside --------------------------------------------------------------------------------

    def _stale(self) -> None:
        """The next look must show what has just been done."""
        self._overview = (-FRESH_S, b"", "")

    def _ops(self, request: web.Request) -> Claims:
        claims = claims_of(request, self._context)
        permissions.require_ops(claims)
        return claims
