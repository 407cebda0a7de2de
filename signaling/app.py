"""The control process as a whole: puts its parts together, starts them, and stops them cleanly."""

from __future__ import annotations

import asyncio
import logging
import resource
import ssl
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from time import monotonic, time

from aiohttp import web

from mixer.control import MixerSettings
from signaling import addresses, middleware, openapi
from signaling.api import Api
from signaling.api_admission import AdmissionApi
from signaling.api_floor import FloorApi
from signaling.api_ops import OpsApi
from signaling.api_plan import PlanApi
from signaling.api_recordings import RecordingsApi
from signaling.audit import AuditLog
from signaling.config import describe_changes
from signaling.config_model import Config
from signaling.config_rules import is_loopback, worker_count
from signaling.configuring import Configuring
from signaling.context import Context, Gates
from signaling.desk import Desk
from signaling.events import Hub
from signaling.interaction import Interaction
from signaling.lessons import LessonRegistry
from signaling.logs import new_incident
from signaling.metrics import CONTENT_TYPE, Metrics
from signaling.mixer_metrics import MixerMetrics
from signaling.mixers import MixerProcess
from signaling.mixing import Mixing
from signaling.pages import Pages
from signaling.problems import Problem
from signaling.recorders import RecorderProcess
from signaling.recordings import Recordings
from signaling.requests import client_address
from signaling.store.database import Store
from signaling.store.lock import DirectoryLock
from signaling.store.secretfiles import data_directory, dtls_identity, token_secret
from signaling.supervisor import Listener, Supervisor
from signaling.tls import Certificate
from signaling.tokens import TokenAuthority
from signaling.whip import Media
from streamer.control import WorkerSettings

log = logging.getLogger(__name__)

TICK_S = 0.25
IDLE_CHECK_S = 60.0
CERTIFICATE_CHECK_S = 10.0
SHUTDOWN_TIMEOUT_S = 2.0
# Longer request lines and headers are refused by the parser (a token may have 4 KiB).
MAX_HEADER_BYTES = 8190


class Server:
    """`tongke serve`. `web_root` is the directory of the pages.

    After `start`, `url` is where a browser on this machine finds the pages, and `base_url` where
    other machines do. `config_path` and `overrides` say where `config` came from, so that it can
    be read again and edited on the operations page.
    """

    def __init__(
        self,
        config: Config,
        *,
        web_root: Path,
        config_path: Path | None = None,
        overrides: Sequence[str] = (),
        worker_module: str = "streamer.worker",
        mixer_module: str = "mixer.process",
        recorder_module: str = "streamer.recording_process",
    ) -> None:
        self.configuring = Configuring(config, config_path, tuple(overrides))
        self.url = ""
        self.base_url = ""
        self._worker_module = worker_module
        self._mixer = MixerProcess(
            self._mixer_settings,
            lambda message: self.context.interaction.notified(message),
            module=mixer_module,
        )
        self._recorder_module = recorder_module
        self._recorder: RecorderProcess | None = None
        self._recordings: Recordings | None = None
        self._errands: set[asyncio.Task[None]] = set()
        self._pages = Pages(web_root)
        self._directory = data_directory(config.server.data_dir)
        self._certificate_pem, self._key_pem = dtls_identity(self._directory)
        secret = config.auth.secret.encode() or token_secret(self._directory)
        self._tokens = TokenAuthority(secret)
        self._audit = AuditLog(self._directory)
        self._certificate: Certificate | None = None
        self._runner: web.AppRunner | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._context: Context | None = None
        self._store: Store | None = None
        self._lock: DirectoryLock | None = None
        self._metrics: Metrics | None = None

    @property
    def config(self) -> Config:
        return self.configuring.config

    @property
    def context(self) -> Context:
        if self._context is None:
            raise RuntimeError("the server has not been started")
        return self._context

    def issue_token(
        self,
        role: str,
        *,
        ttl_s: float | None = None,
        lesson: str | None = None,
        seat: str | None = None,
        name: str | None = None,
        org: str | None = None,
    ) -> str:
        """A token signed by this server, valid for as long as the configuration says."""
        auth = self.config.auth
        if ttl_s is None:
            ttl_s = auth.teacher_ttl_s if role in ("teacher", "ops") else auth.token_ttl_s
        token = self._tokens.issue(role, ttl_s=ttl_s, lesson=lesson, seat=seat, name=name, org=org)
        self._audit.issued("server", self._tokens.verify(token))
        return token

    # --- start and stop ------------------------------------------------------------------------

    async def start(self) -> None:
        """Start the workers, then listen. Raises OSError, TlsError, StoreError or
        WorkerUnavailableError with a text that says what to do, and leaves nothing running."""
        try:
            await self._start()
        except BaseException:
            await self.stop()
            raise

    async def _start(self) -> None:
        config = self.config
        _raise_file_limit()
        self._lock = DirectoryLock(self._directory)
        self._certificate = Certificate(config.server, self._directory)
        tls = self._certificate.context
        sock = addresses.listen(config.server.host, config.server.port)
        try:
            self._name_urls(sock.getsockname()[1], tls)
            context = self._build_context()
            await context.supervisor.start()
            await context.supervisor.wait_ready()
            self._runner = web.AppRunner(
                self._build_app(context),
                access_log=None,
                shutdown_timeout=SHUTDOWN_TIMEOUT_S,
                max_line_size=MAX_HEADER_BYTES,
                max_field_size=MAX_HEADER_BYTES,
            )
            await self._runner.setup()
            await web.SockSite(self._runner, sock, ssl_context=tls, backlog=1024).start()
        except BaseException:
            sock.close()
            raise
        self._tasks = [
            asyncio.create_task(context.hub.flush_forever(), name="events"),
            asyncio.create_task(self._tick_forever(context), name="ticks"),
        ]
        log.info("listening at %s", self.url)

    def _name_urls(self, port: int, tls: ssl.SSLContext | None) -> None:
        server = self.config.server
        scheme = "http" if tls is None else "https"
        wildcard = server.host in addresses.WILDCARDS
        local = "localhost" if wildcard else server.host
        self.url = f"{scheme}://{addresses.url_host(local)}:{port}"
        reachable = addresses.reachable_host(server.host)
        self.base_url = server.public_url.rstrip("/") or (
            f"{scheme}://{addresses.url_host(reachable)}:{port}"
        )

    def _build_context(self) -> Context:
        configuring = self.configuring
        self._store = Store(self._directory / "tongke.sqlite")
        registry = LessonRegistry(self._store, lambda: configuring.config)
        registry.restore()
        gates = Gates(self.config.limits)
        configuring.on_change(lambda config: gates.configure(config.limits))
        configuring.on_change(lambda config: registry.configure(config.limits))
        configuring.on_change(self._audit_configuration(configuring.config))
        configuring.on_change(lambda _: self._refresh_certificate())
        hub = Hub(
            registry,
            self._tokens,
            lambda: self.base_url,
            lambda request: gates.request(client_address(request, configuring.config)),
        )
        # The listeners look the desk up when they are called: it needs the supervisor first.
        supervisor = Supervisor(
            worker_count(self.config.server),
            self._worker_settings,
            Listener(
                notified=lambda worker, message: self.context.desk.notified(worker, message),
                ready=lambda worker: self.context.desk.worker_ready(worker),
                lost=lambda worker: self.context.desk.worker_lost(worker),
            ),
            module=self._worker_module,
        )
        desk = Desk(lambda: configuring.config, registry, self._store, supervisor, hub)
        interaction = self._build_interaction(registry, desk, hub, supervisor)
        self._recordings = self._build_recordings(registry, desk, hub, supervisor)
        self._metrics = Metrics(registry, desk, hub, supervisor)
        self._metrics.add(MixerMetrics(registry, interaction, self._mixer))
        self._context = Context(
            configuring=configuring,
            tokens=self._tokens,
            registry=registry,
            desk=desk,
            hub=hub,
            supervisor=supervisor,
            gates=gates,
            interaction=interaction,
            audit=self._audit,
            base_url=self.base_url,
        )
        return self._context

    def _build_interaction(
        self, registry: LessonRegistry, desk: Desk, hub: Hub, supervisor: Supervisor
    ) -> Interaction:
        """The floors, and the mixer that starts when the first lesson needs it."""
        mixing = Mixing(supervisor, self._mixer, self._run_errand)
        interaction = Interaction(
            lambda: self.config, registry, desk, hub, supervisor, mixing, self._run_errand
        )
        hub.floors = interaction
        hub.sockets_per_token = lambda: self.config.limits.sockets_per_token
        return interaction

    def _build_recordings(
        self, registry: LessonRegistry, desk: Desk, hub: Hub, supervisor: Supervisor
    ) -> Recordings:
        """The recordings, and the process that starts when the first lesson is recorded."""
        self._recorder = RecorderProcess(
            logging.getLevelName(logging.getLogger().getEffectiveLevel()),
            lambda message: recordings.notified(message, monotonic()),
            module=self._recorder_module,
        )
        recordings = Recordings(
            lambda: self.config,
            registry,
            supervisor,
            self._recorder,
            self._directory.resolve() / "recordings",
            home=lambda lesson: desk.placement.place(lesson.id, desk.sessions.per_lesson),
            changed=hub.changed,
            start=self._run_errand,
        )
        return recordings

    def _run_errand(self, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
        """A task of the interaction: it ends with the server at the latest."""
        task = asyncio.create_task(work)
        self._errands.add(task)
        task.add_done_callback(self._errands.discard)
        return task

    def _mixer_settings(self) -> MixerSettings:
        level = logging.getLevelName(logging.getLogger().getEffectiveLevel())
        return MixerSettings(mixer=0, log_level=level)

    def _worker_settings(self, index: int) -> WorkerSettings:
        server = self.config.server
        # Media passes by a proxy that serves the pages: loopback would reach nobody.
        behind_proxy = bool(server.public_url or server.announce) and is_loopback(server.host)
        port = server.media_port + index if server.media_port else 0
        return WorkerSettings(
            worker=index,
            binds=addresses.media_binds(server.host, port, everywhere=behind_proxy),
            announce=list(server.announce),
            certificate_pem=self._certificate_pem,
            key_pem=self._key_pem,
            max_sessions=self.config.limits.sessions,
            log_level=logging.getLevelName(logging.getLogger().getEffectiveLevel()),
        )

    def _build_app(self, context: Context) -> web.Application:
        # Bodies are read with our own limit, which a reload can change.
        app = web.Application(middlewares=[middleware.problems], client_max_size=0)
        app.on_response_prepare.append(middleware.set_headers)
        app.add_routes(self._pages.routes())
        app.add_routes(Api(context).routes())
        plan_api = PlanApi(context)
        app.add_routes(plan_api.routes())
        app.on_cleanup.append(plan_api.close)
        app.add_routes(FloorApi(context).routes())
        app.add_routes(AdmissionApi(context).routes())
        if self._recordings is not None:
            app.add_routes(RecordingsApi(context, self._recordings).routes())
        OpsApi(context).install(app)
        app.add_routes(openapi.routes())
        app.add_routes(Media(context).routes())
        app.add_routes(
            [
                web.get("/healthz", self._healthz),
                web.get("/readyz", self._readyz),
                web.get("/metrics", self._serve_metrics),
            ]
        )
        return app

    def _audit_configuration(self, config: Config) -> Callable[[Config], None]:
        """A listener that records which keys a new configuration changes, secrets hidden."""
        known = config

        def changed(new: Config) -> None:
            nonlocal known
            for change in describe_changes(known, new):
                self._audit.record(
                    None, "config-changed", change.key, f"from {change.old} to {change.new}"
                )
            known = new

        return changed

    def _refresh_certificate(self) -> None:
        if self._certificate is not None:
            self._certificate.refresh()

    async def serve_until(self, stopped: asyncio.Event) -> None:
        """Start, serve until the event is set, stop."""
        await self.start()
        try:
            await stopped.wait()
        finally:
            await self.stop()

    async def stop(self) -> None:
        """Refuse what is new, close sockets and sessions, end the workers. Lessons stay stored."""
        context = self._context
        if context is not None:
            context.desk.draining = True
            await context.hub.close_all()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
        for task in self._errands:
            task.cancel()
        await asyncio.gather(*self._errands, return_exceptions=True)
        await self._mixer.stop()
        if self._recorder is not None:
            await self._recorder.stop()
        if self._recordings is not None:
            self._recordings.close()
        if context is not None:
            context.interaction.mixing.close()
            await context.supervisor.stop()
            await context.desk.finish_errands()
        if self._store is not None:
            self._store.close()
            self._store = None
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def reload(self, config: Config) -> None:
        """Put a new, validated configuration into effect as far as that goes without a restart."""
        self.configuring.apply(config)

    async def _tick_forever(self, context: Context) -> None:
        next_idle_check = next_certificate_check = 0.0
        while True:
            now = monotonic()
            try:
                context.desk.tick(now)
                context.interaction.tick()
                if self._recordings is not None:
                    self._recordings.tick(now)
                if now >= next_idle_check:
                    next_idle_check = now + IDLE_CHECK_S
                    for lesson in context.desk.end_idle():
                        self._audit.record("server", "lesson-ended", lesson.id, "idle")
                    context.hub.close_expired(time())
                if now >= next_certificate_check:
                    next_certificate_check = now + CERTIFICATE_CHECK_S
                    self._refresh_certificate()
            except Exception:  # a full disk, say: time must go on
                log.exception("incident %s: a tick failed", new_incident())
            await asyncio.sleep(TICK_S)

    # --- for machines --------------------------------------------------------------------------

    async def _healthz(self, request: web.Request) -> web.Response:
        return web.Response(text="ok\n", headers={"Cache-Control": "no-store"})

    async def _readyz(self, request: web.Request) -> web.Response:
        if self.context.desk.draining:
            raise Problem("draining")
        if not self.context.supervisor.all_ready:
            raise Problem("worker-unavailable")
        return web.Response(text="ready\n", headers={"Cache-Control": "no-store"})

    async def _serve_metrics(self, request: web.Request) -> web.Response:
        if self._metrics is None:
            raise Problem("worker-unavailable")
        body = await self._metrics.text()
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE})


def _raise_file_limit() -> None:
    """Every page is an open file here and every receiver one in a worker, which inherits this."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
