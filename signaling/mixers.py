"""Runs the mixer process: starts it when the first lesson needs it, and again whenever it dies.

Like a streamer worker it inherits one end of a socket pair and ends when the other end closes.
What a lesson wants of it is the business of `mixing`; here are only the process and its channel.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import sys
from collections.abc import Callable
from time import monotonic

import msgspec

from mixer import control
from signaling.logs import new_incident
from streamer.channel import read_message

log = logging.getLogger(__name__)

READY_TIMEOUT_S = 15.0
REQUEST_TIMEOUT_S = 4.0
SHORT_LIFE_S = 2.0
FIRST_DELAY_S = 0.25
LONGEST_DELAY_S = 15.0
POLL_S = 2.0
# Unanswered polls in a row after which it counts as hung and is killed.
MISSED_POLLS = 3
EXIT_TIMEOUT_S = 2.0


class MixerUnavailableError(Exception):
    """The mixer is not running, or did not answer in time."""


class MixerRefusedError(Exception):
    """The mixer answered `Failed`."""

    def __init__(self, failed: control.Failed) -> None:
        super().__init__(f"{failed.code}: {failed.field}: {failed.detail}")
        self.code = failed.code
        self.field = failed.field
        self.detail = failed.detail


class MixerProcess:
    """The one mixer of a server; `notified` is called with its news, in the order of events.

    `lives` counts its starts: what one life was told, the next does not know.
    """

    def __init__(
        self,
        settings: Callable[[], control.MixerSettings],
        notified: Callable[[control.AnyNotification], None],
        *,
        module: str = "mixer.process",
    ) -> None:
        self.ready = asyncio.Event()
        self.lives = 0
        self.pid: int | None = None
        self.stats: control.Stats | None = None
        self._past_cpu_s = 0.0
        self._settings = settings
        self._notified = notified
        self._module = module
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = False
        self._process: asyncio.subprocess.Process | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._pending: dict[int, asyncio.Future[control.AnyReply]] = {}
        self._last_id = 0

    @property
    def cpu_seconds(self) -> float:
        """What all its lives have used."""
        return self._past_cpu_s + (self.stats.cpu_seconds if self.stats is not None else 0.0)

    @property
    def restarts(self) -> int:
        return max(0, self.lives - 1)

    def start(self) -> None:
        """Start it unless that was done before. Returns at once; `ready` tells when it listens."""
        if not self._tasks and not self._stopping:
            self._tasks = [
                asyncio.create_task(self._keep_running(), name="mixer"),
                asyncio.create_task(self._poll(), name="mixer-polls"),
            ]

    async def request(
        self, message: control.AnyRequest, timeout_s: float = REQUEST_TIMEOUT_S
    ) -> control.AnyReply:
        """Its reply. Raises MixerUnavailableError, or MixerRefusedError for `Failed`."""
        writer = self._writer
        if writer is None or writer.is_closing() or not self.ready.is_set():
            raise MixerUnavailableError("the mixer is not running")
        if writer.transport.get_write_buffer_size() > control.MAX_MESSAGE_BYTES:
            raise MixerUnavailableError("the mixer does not read its requests")
        self._last_id += 1
        request_id = self._last_id
        future: asyncio.Future[control.AnyReply] = asyncio.get_running_loop().create_future()
        self._pending[request_id] = future
        writer.write(control.frame(msgspec.structs.replace(message, request_id=request_id)))
        try:
            async with asyncio.timeout(timeout_s):
                reply = await future
        except TimeoutError:
            raise MixerUnavailableError(f"no answer within {timeout_s:g} s") from None
        finally:
            self._pending.pop(request_id, None)
        if isinstance(reply, control.Failed):
            raise MixerRefusedError(reply)
        return reply

    async def stop(self) -> None:
        """Drain it, or kill it when it does not end so."""
        self._stopping = True
        process = self._process
        if process is not None and process.returncode is None:
            try:
                await self.request(control.Drain(request_id=0), EXIT_TIMEOUT_S)
                async with asyncio.timeout(EXIT_TIMEOUT_S):
                    await process.wait()
            except (MixerUnavailableError, MixerRefusedError, TimeoutError):
                _signal(process, signal.SIGKILL)
            await process.wait()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()

    # --- inside -------------------------------------------------------------------------------

    async def _keep_running(self) -> None:
        short_lives = 0
        while not self._stopping:
            started_at = monotonic()
            try:
                await self._run_once()
            except OSError:
                log.exception("the mixer could not be started")
            if self._told_to_stop():
                return
            short_lives = short_lives + 1 if monotonic() - started_at < SHORT_LIFE_S else 0
            delay_s = 0.0
            if short_lives > 1:
                delay_s = min(FIRST_DELAY_S * 2.0 ** (short_lives - 2), LONGEST_DELAY_S)
            log.warning("the mixer ended; restarting it in %g s", delay_s)
            await asyncio.sleep(delay_s)

    def _told_to_stop(self) -> bool:
        """`stop` may have been called during an await."""
        return self._stopping

    async def _run_once(self) -> None:
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
        self._process = process
        writer: asyncio.StreamWriter | None = None
        try:
            reader, writer = await asyncio.open_unix_connection(sock=ours)
            self._writer = writer
            writer.write(control.frame(self._settings()))
            async with asyncio.timeout(READY_TIMEOUT_S):
                while not self.ready.is_set():
                    self._dispatch(await _read(reader))
            while True:
                self._dispatch(await _read(reader))
        except (EOFError, ConnectionError):
            log.debug("the channel of the mixer closed")
        except TimeoutError:
            log.error("the mixer did not say Ready within %g s", READY_TIMEOUT_S)
        except msgspec.MsgspecError as error:
            log.error("the mixer sent what is not a message: %s", error)
        finally:
            self._detach()
            if writer is not None:
                writer.close()
            else:
                ours.close()
            await self._reap(process)

    def _detach(self) -> None:
        self.ready.clear()
        self._writer = None
        self.pid = None
        self._past_cpu_s = self.cpu_seconds
        self.stats = None
        for future in self._pending.values():
            if not future.done():
                future.set_exception(MixerUnavailableError("the mixer ended"))
        self._pending.clear()

    async def _reap(self, process: asyncio.subprocess.Process) -> None:
        """The channel is closed: the process must end now, by itself or not."""
        if self._stopping:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(EXIT_TIMEOUT_S):
                    await process.wait()
        if process.returncode is None:
            _signal(process, signal.SIGKILL)
        await process.wait()

    def _dispatch(self, message: control.AnyReply | control.AnyNotification) -> None:
        if isinstance(message, control.Ready):
            self.pid = message.pid
            self.lives += 1
            self.ready.set()
            log.info("the mixer is ready (process %d)", message.pid)
        elif isinstance(message, control.Done | control.Failed | control.Stats):
            future = self._pending.pop(message.request_id, None)
            if future is not None and not future.done():
                future.set_result(message)
        else:
            self._tell(message)

    def _tell(self, message: control.AnyNotification) -> None:
        """Pass news on; a mistake in what acts on them must not cost us the mixer."""
        try:
            self._notified(message)
        except Exception:
            log.exception("incident %s: the mixer's news was not acted on", new_incident())

    async def _poll(self) -> None:
        """Ask for statistics all the time: a hung mixer shows so, and is killed."""
        missed = 0
        while True:
            await asyncio.sleep(POLL_S)
            if not self.ready.is_set():
                missed = 0
                continue
            try:
                reply = await self.request(control.GetStats(request_id=0), POLL_S)
                if isinstance(reply, control.Stats) and self.ready.is_set():
                    self.stats = reply
                missed = 0
            except (MixerUnavailableError, MixerRefusedError):
                missed += 1
            if missed >= MISSED_POLLS and self._process is not None:
                log.error("the mixer hangs: killing it")
                missed = 0
                _signal(self._process, signal.SIGKILL)


async def _read(reader: asyncio.StreamReader) -> control.AnyReply | control.AnyNotification:
    message: control.AnyReply | control.AnyNotification = control.from_mixer_decoder.decode(
        await read_message(reader)
    )
    return message


def _signal(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(number)
