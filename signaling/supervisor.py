"""Starts the streamer workers, speaks the typed channel with them, and restarts those that die.

A worker inherits one end of a socket pair and ends when the other end closes, so none outlives
this process. One task owns each worker from its start to its end, again and again until `stop`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import sys
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from time import monotonic
from typing import ParamSpec

import msgspec

from signaling.logs import new_incident
from streamer import control
from streamer.channel import read_message

log = logging.getLogger(__name__)

P = ParamSpec("P")

READY_TIMEOUT_S = 15.0
REQUEST_TIMEOUT_S = 8.0
# How long a request waits for a worker that is just being restarted.
WAIT_READY_S = 4.0
# A worker that dies sooner than this after its start, again and again, is restarted ever later.
SHORT_LIFE_S = 2.0
FIRST_DELAY_S = 0.25
LONGEST_DELAY_S = 15.0
POLL_S = 2.0
# Unanswered polls in a row after which a worker counts as hung and is killed.
MISSED_POLLS = 3
DRAIN_TIMEOUT_S = 3.0
EXIT_TIMEOUT_S = 2.0
# What may wait in the socket towards a worker before we say that it does not keep up.
MAX_BACKLOG_BYTES = control.MAX_MESSAGE_BYTES


class WorkerUnavailableError(Exception):
    """The worker is not running, or did not answer in time."""


class WorkerRefusedError(Exception):
    """The worker answered `Failed`."""

    def __init__(self, failed: control.Failed) -> None:
        super().__init__(f"{failed.code}: {failed.detail}")
        self.code = failed.code
        self.detail = failed.detail
        self.field = failed.field


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """What the supervisor tells: all are called synchronously, in the order of events."""

    notified: Callable[[int, control.AnyNotification], None]
    ready: Callable[[int], None]
    lost: Callable[[int], None]


class Worker:
    """One worker slot: the process that fills it now, and its history."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.ready = asyncio.Event()
        self.process: asyncio.subprocess.Process | None = None
        self.candidates: list[str] = []
        self.restarts = 0
        self.stats: control.Stats | None = None
        self.past = PastLives()
        self._writer: asyncio.StreamWriter | None = None
        self._pending: dict[int, asyncio.Future[control.AnyReply]] = {}
        self._last_id = 0

    def attach(self, writer: asyncio.StreamWriter | None) -> None:
        self._writer = writer

    def detach(self) -> None:
        """The process is gone: whoever waits for it is told."""
        self.ready.clear()
        self.attach(None)
        for future in self._pending.values():
            if not future.done():
                future.set_exception(WorkerUnavailableError(f"worker {self.index} ended"))
        self._pending.clear()
        if self.stats is not None:
            self.past.add(self.stats)
            self.stats = None

    def replied(self, reply: control.AnyReply) -> None:
        future = self._pending.pop(reply.request_id, None)
        if future is not None and not future.done():
            future.set_result(reply)

    async def request(self, message: control.AnyRequest, timeout_s: float) -> control.AnyReply:
        """Send a request under a fresh id and wait for its reply, `Failed` included."""
        writer = self._writer
        if writer is None or writer.is_closing():
            raise WorkerUnavailableError(f"worker {self.index} is not running")
        if writer.transport.get_write_buffer_size() > MAX_BACKLOG_BYTES:
            raise WorkerUnavailableError(f"worker {self.index} does not read its requests")
        self._last_id += 1
        request_id = self._last_id
        future: asyncio.Future[control.AnyReply] = asyncio.get_running_loop().create_future()
        self._pending[request_id] = future
        writer.write(control.frame(msgspec.structs.replace(message, request_id=request_id)))
        try:
            async with asyncio.timeout(timeout_s):
                return await future
        except TimeoutError:
            raise WorkerUnavailableError(
                f"worker {self.index} did not answer within {timeout_s:g} s"
            ) from None
        finally:
            self._pending.pop(request_id, None)


class PastLives:
    """Totals of a slot's earlier processes, so that counters never go down at a restart."""

    def __init__(self) -> None:
        self.cpu_seconds = 0.0
        self.counters: dict[str, int] = {}
        self.drops: dict[str, int] = {}
        self.delays: list[control.Histogram] = []

    def add(self, stats: control.Stats) -> None:
        self.cpu_seconds += stats.cpu_seconds
        for name, value in msgspec.structs.asdict(stats.counters).items():
            if isinstance(value, int):
                self.counters[name] = self.counters.get(name, 0) + value
        for reason, count in stats.counters.drops.items():
            self.drops[reason] = self.drops.get(reason, 0) + count
        self.delays = [merge([*self.delays, stats.forward_delay_s])]


def merge(histograms: list[control.Histogram]) -> control.Histogram:
    """The sum of histograms. One with other bounds than the first (another version) is left out."""
    first = histograms[0]
    same = [
        h for h in histograms if h.bounds == first.bounds and len(h.counts) == len(first.counts)
    ]
    return control.Histogram(
        bounds=first.bounds,
        counts=[sum(column) for column in zip(*(h.counts for h in same), strict=True)],
        sum=sum(h.sum for h in same),
    )


class Supervisor:
    """Keeps `count` workers running.

    `settings_for(index)` gives what a worker is told at its start; `module` is what is run.
    """

    def __init__(
        self,
        count: int,
        settings_for: Callable[[int], control.WorkerSettings],
        listener: Listener,
        *,
        module: str = "streamer.worker",
    ) -> None:
        self.workers = [Worker(index) for index in range(count)]
        self._settings_for = settings_for
        self._listener = listener
        self._module = module
        self._stopping = False
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def all_ready(self) -> bool:
        return not self._stopping and all(worker.ready.is_set() for worker in self.workers)

    async def start(self) -> None:
        """Start every worker. Returns at once; `wait_ready` tells when they listen."""
        for worker in self.workers:
            self._spawn_task(self._keep_running(worker), f"worker-{worker.index}")
        self._spawn_task(self._poll(), "worker-polls")

    def _spawn_task(self, work: Coroutine[object, object, None], name: str) -> None:
        self._tasks.append(asyncio.create_task(work, name=name))

    async def wait_ready(self, timeout_s: float = READY_TIMEOUT_S) -> None:
        """Raises WorkerUnavailableError when some worker does not listen within `timeout_s`."""
        try:
            async with asyncio.timeout(timeout_s):
                for worker in self.workers:
                    await worker.ready.wait()
        except TimeoutError:
            late = [str(w.index) for w in self.workers if not w.ready.is_set()]
            raise WorkerUnavailableError(
                f"worker {', '.join(late)} did not start: see its lines in the log "
                "(is another program using server.media_port?)"
            ) from None

    async def request(
        self, index: int, message: control.AnyRequest, timeout_s: float = REQUEST_TIMEOUT_S
    ) -> control.AnyReply:
        """The worker's reply. Raises WorkerUnavailableError, or WorkerRefusedError for `Failed`."""
        worker = self.workers[index]
        if not worker.ready.is_set():
            try:
                async with asyncio.timeout(WAIT_READY_S):
                    await worker.ready.wait()
            except TimeoutError:
                raise WorkerUnavailableError(f"worker {index} is being restarted") from None
        reply = await worker.request(message, timeout_s)
        if isinstance(reply, control.Failed):
            raise WorkerRefusedError(reply)
        return reply

    async def refresh_stats(self, *, sessions: bool, timeout_s: float = 2.0) -> None:
        """Ask every running worker for its `stats`; one that does not answer keeps its old ones."""

        async def refresh(worker: Worker) -> None:
            with contextlib.suppress(WorkerUnavailableError):
                await self._refresh(worker, sessions=sessions, timeout_s=timeout_s)

        await asyncio.gather(*(refresh(w) for w in self.workers if w.ready.is_set()))

    async def _refresh(self, worker: Worker, *, sessions: bool, timeout_s: float) -> None:
        message = control.GetStats(request_id=0, sessions=sessions)
        reply = await worker.request(message, timeout_s)
        if isinstance(reply, control.Stats) and worker.ready.is_set():
            worker.stats = reply

    async def stop(self) -> None:
        """Drain every worker, then terminate, then kill those that remain."""
        self._stopping = True
        await asyncio.gather(*(self._stop_worker(worker) for worker in self.workers))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()

    async def _stop_worker(self, worker: Worker) -> None:
        process = worker.process
        if process is None or process.returncode is not None:
            return
        if worker.ready.is_set():
            with contextlib.suppress(WorkerUnavailableError):
                await worker.request(control.Drain(request_id=0), DRAIN_TIMEOUT_S)
        else:
            _signal(process, signal.SIGTERM)
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                async with asyncio.timeout(EXIT_TIMEOUT_S):
                    await process.wait()
                    return
            except TimeoutError:
                log.warning("worker %d does not end: sending %s", worker.index, number.name)
                _signal(process, number)
        await process.wait()

    # --- one worker ----------------------------------------------------------------------------

    async def _keep_running(self, worker: Worker) -> None:
        short_lives = 0
        while not self._stopping:
            started_at = monotonic()
            try:
                await self._run_once(worker)
            except OSError:
                log.exception("worker %d could not be started", worker.index)
            if self._told_to_stop():
                return
            short_lives = short_lives + 1 if monotonic() - started_at < SHORT_LIFE_S else 0
            delay_s = 0.0
            if short_lives > 1:
                delay_s = min(FIRST_DELAY_S * 2.0 ** (short_lives - 2), LONGEST_DELAY_S)
            worker.restarts += 1
            log.warning("worker %d ended; restarting it in %g s", worker.index, delay_s)
            await asyncio.sleep(delay_s)

    def _told_to_stop(self) -> bool:
        """`stop` may have been called during an await."""
        return self._stopping

    async def _run_once(self, worker: Worker) -> None:
        """Start the process, serve its channel until it closes, and leave no process behind."""
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    "-m",
                    self._module,
                    "--fd",
                    str(theirs.fileno()),
                    pass_fds=(theirs.fileno(),),
                    stdin=asyncio.subprocess.DEVNULL,
                )
            except BaseException:
                ours.close()
                raise
        worker.process = process
        was_ready = False
        writer: asyncio.StreamWriter | None = None
        try:
            reader, writer = await asyncio.open_unix_connection(sock=ours)
            worker.attach(writer)
            writer.write(control.frame(self._settings_for(worker.index)))
            async with asyncio.timeout(READY_TIMEOUT_S):
                await self._read_until_ready(worker, reader)
            was_ready = True
            while True:
                self._dispatch(worker, await _read(reader))
        except (EOFError, ConnectionError):
            log.debug("the channel of worker %d closed", worker.index)
        except TimeoutError:
            log.error("worker %d did not say Ready within %g s", worker.index, READY_TIMEOUT_S)
        except msgspec.MsgspecError as error:
            log.error("worker %d sent what is not a message: %s", worker.index, error)
        finally:
            worker.detach()
            if writer is not None:
                writer.close()  # closes the socket as well
            else:
                ours.close()
            await self._reap(process)
            if was_ready and not self._stopping:
                self._tell(self._listener.lost, worker.index)

    async def _reap(self, process: asyncio.subprocess.Process) -> None:
        """The channel is closed: the process must end now, by itself or not."""
        if self._stopping:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(DRAIN_TIMEOUT_S):
                    await process.wait()
        if process.returncode is None:
            _signal(process, signal.SIGKILL)
        await process.wait()

    async def _read_until_ready(self, worker: Worker, reader: asyncio.StreamReader) -> None:
        while not worker.ready.is_set():
            self._dispatch(worker, await _read(reader))

    def _dispatch(
        self, worker: Worker, message: control.AnyReply | control.AnyNotification
    ) -> None:
        if isinstance(message, control.Ready):
            worker.candidates = message.candidates
            worker.ready.set()
            log.info("worker %d is ready (process %d)", worker.index, message.pid)
            self._tell(self._listener.ready, worker.index)
        elif isinstance(
            message, control.SessionChanged | control.OutputChanged | control.FirstKeyframe
        ):
            self._tell(self._listener.notified, worker.index, message)
        else:
            worker.replied(message)

    def _tell(self, listener: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
        """Call a listener; a mistake in it must not cost us the worker."""
        try:
            listener(*args, **kwargs)
        except Exception:
            log.exception("incident %s: a worker's news was not acted on", new_incident())

    async def _poll(self) -> None:
        """Ask for statistics all the time: they survive a crash so, and a hung worker shows."""
        missed = [0] * len(self.workers)
        while True:
            await asyncio.sleep(POLL_S)
            for worker in self.workers:
                if not worker.ready.is_set():
                    missed[worker.index] = 0
                    continue
                try:
                    await self._refresh(worker, sessions=False, timeout_s=POLL_S)
                    missed[worker.index] = 0
                except WorkerUnavailableError:
                    missed[worker.index] += 1
                if missed[worker.index] >= MISSED_POLLS and worker.process is not None:
                    log.error("worker %d hangs: killing it", worker.index)
                    missed[worker.index] = 0
                    _signal(worker.process, signal.SIGKILL)


async def _read(reader: asyncio.StreamReader) -> control.AnyReply | control.AnyNotification:
    message: control.AnyReply | control.AnyNotification = control.from_worker_decoder.decode(
        await read_message(reader)
    )
    return message


def _signal(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(number)
