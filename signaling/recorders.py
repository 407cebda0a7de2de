"""Runs the recording process: starts it when the first lesson is to be recorded, and when it dies.

Like a streamer worker it inherits one end of a socket pair and ends when the other end closes.
What it records is the business of `recordings`; here are only the process and its channel.
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

from signaling.logs import new_incident
from streamer import recording_control as control
from streamer.channel import read_message

log = logging.getLogger(__name__)

READY_TIMEOUT_S = 15.0
REQUEST_TIMEOUT_S = 4.0
SHORT_LIFE_S = 2.0
FIRST_DELAY_S = 0.25
LONGEST_DELAY_S = 15.0
EXIT_TIMEOUT_S = 3.0


class RecorderUnavailableError(Exception):
    """The recording process is not running, did not answer in time, or answered `Failed`."""


class RecorderProcess:
    """The one recording process of a server; `notified` is called with its news, in order.

    `lives` counts its starts: what one life was told, the next does not know.
    """

    def __init__(
        self,
        log_level: str,
        notified: Callable[[control.AnyNotification], None],
        *,
        module: str = "streamer.recording_process",
    ) -> None:
        self.ready = asyncio.Event()
        self.lives = 0
        self.pid: int | None = None
        self._log_level = log_level
        self._notified = notified
        self._module = module
        self._task: asyncio.Task[None] | None = None
        self._stopping = False
        self._process: asyncio.subprocess.Process | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._pending: dict[int, asyncio.Future[control.AnyReply]] = {}
        self._last_id = 0

    def start(self) -> None:
        """Start it unless that was done before. Returns at once; `ready` tells when it listens."""
        if self._task is None and not self._stopping:
            self._task = asyncio.create_task(self._keep_running(), name="recorder")

    async def request(
        self, message: control.AnyRequest, timeout_s: float = REQUEST_TIMEOUT_S
    ) -> None:
        """Send a request and wait until it is done. Raises RecorderUnavailableError."""
        writer = self._writer
        if writer is None or writer.is_closing() or not self.ready.is_set():
            raise RecorderUnavailableError("the recording process is not running")
        self._last_id += 1
        request_id = self._last_id
        future: asyncio.Future[control.AnyReply] = asyncio.get_running_loop().create_future()
        self._pending[request_id] = future
        writer.write(control.frame(msgspec.structs.replace(message, request_id=request_id)))
        try:
            async with asyncio.timeout(timeout_s):
                reply = await future
        except TimeoutError:
            raise RecorderUnavailableError(f"no answer within {timeout_s:g} s") from None
        finally:
            self._pending.pop(request_id, None)
        if isinstance(reply, control.Failed):
            raise RecorderUnavailableError(reply.detail)

    async def stop(self) -> None:
        """Let it finish its files, then terminate, then kill it."""
        self._stopping = True
        process = self._process
        if process is not None and process.returncode is None:
            with contextlib.suppress(RecorderUnavailableError):
                await self.request(control.Drain(request_id=0), EXIT_TIMEOUT_S)
            for number in (signal.SIGTERM, signal.SIGKILL):
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(EXIT_TIMEOUT_S):
                        await process.wait()
                        break
                _signal(process, number)
            await process.wait()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    # --- inside --------------------------------------------------------------------------------

    async def _keep_running(self) -> None:
        short_lives = 0
        while not self._stopping:
            started_at = monotonic()
            try:
                await self._run_once()
            except OSError:
                log.exception("the recording process could not be started")
            if self._told_to_stop():
                return
            short_lives = short_lives + 1 if monotonic() - started_at < SHORT_LIFE_S else 0
            delay_s = 0.0
            if short_lives > 1:
                delay_s = min(FIRST_DELAY_S * 2.0 ** (short_lives - 2), LONGEST_DELAY_S)
            log.warning("the recording process ended; restarting it in %g s", delay_s)
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
            writer.write(control.frame(control.RecorderSettings(log_level=self._log_level)))
            async with asyncio.timeout(READY_TIMEOUT_S):
                while not self.ready.is_set():
                    self._dispatch(await _read(reader))
            while True:
                self._dispatch(await _read(reader))
        except (EOFError, ConnectionError):
            log.debug("the channel of the recording process closed")
        except TimeoutError:
            log.error("the recording process did not say Ready within %g s", READY_TIMEOUT_S)
        except msgspec.MsgspecError as error:
            log.error("the recording process sent what is not a message: %s", error)
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
        for future in self._pending.values():
            if not future.done():
                future.set_exception(RecorderUnavailableError("the recording process ended"))
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
            self.lives += 1
            self.pid = message.pid
            self.ready.set()
            log.info("the recording process is ready (process %d)", message.pid)
        elif isinstance(message, control.Done | control.Failed):
            future = self._pending.pop(message.request_id, None)
            if future is not None and not future.done():
                future.set_result(message)
        else:
            try:
                self._notified(message)
            except Exception:  # a mistake in what acts on news must not cost us the process
                log.exception("incident %s: a recording's news was not acted on", new_incident())


async def _read(reader: asyncio.StreamReader) -> control.AnyReply | control.AnyNotification:
    message: control.AnyReply | control.AnyNotification = control.from_recorder_decoder.decode(
        await read_message(reader)
    )
    return message


def _signal(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(number)
