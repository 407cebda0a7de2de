"""Carries TCP connections to a target at a limited rate and with delay, one pacer per direction.

A line does not lose what TCP sends (TCP would send it again): it makes it wait. The queue is
bounded; when it is full the sender is not read any more and feels it.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from time import monotonic

from tests.net.impairment import Conditions

READ_BYTES = 4096
OUTAGE_STEP_S = 0.02


class Pacer:
    """When the next bytes may leave, all connections of a direction taken together."""

    __slots__ = ("_free_at",)

    def __init__(self) -> None:
        self._free_at = 0.0

    def send(self, size: int, rate_bps: float | None, now: float) -> float:
        """Take the line for `size` bytes; the time when they are sent."""
        if rate_bps is None:
            return now
        self._free_at = max(self._free_at, now) + size * 8 / rate_bps
        return self._free_at


class TcpRelay:
    """Accepts on `listener` and connects each connection on to `target`."""

    def __init__(
        self,
        listener: socket.socket,
        target: tuple[str, int],
        up: Callable[[], Conditions],
        down: Callable[[], Conditions],
    ) -> None:
        self._listener = listener
        self._target = target
        self._up = (Pacer(), up)
        self._down = (Pacer(), down)
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, sock=self._listener)

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._carry(reader, writer))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection(*self._target)
        except OSError:
            writer.close()
            return
        try:
            async with asyncio.TaskGroup() as pumps:
                pumps.create_task(_pump(reader, far_writer, *self._up))
                pumps.create_task(_pump(far_reader, writer, *self._down))
        finally:
            for end in (writer, far_writer):
                end.close()


async def _pump(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    pacer: Pacer,
    conditions: Callable[[], Conditions],
) -> None:
    """One direction of one connection, until either end closes it."""
    flying: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

    async def deliver() -> None:
        while True:
            due, data = await flying.get()
            await asyncio.sleep(due - monotonic())
            if not data:
                return
            while conditions().out_at(monotonic()):  # noqa: ASYNC110 - time alone ends it
                await asyncio.sleep(OUTAGE_STEP_S)
            writer.write(data)
            await writer.drain()

    async def take() -> None:
        data = b"-"
        while data:
            data = await reader.read(READ_BYTES)
            present = conditions()
            sent_at = pacer.send(len(data), present.rate_bps, monotonic())
            flying.put_nowait((sent_at + present.delay_s, data))
            # What waits for its turn to be sent fills the queue; what flies does not.
            room_s = present.queue_bytes * 8 / present.rate_bps if present.rate_bps else 0.0
            await asyncio.sleep(sent_at - monotonic() - room_s)

    with contextlib.suppress(ConnectionError):
        taking = asyncio.ensure_future(take())
        try:
            await deliver()
        finally:
            taking.cancel()
            await asyncio.gather(taking, return_exceptions=True)
    with contextlib.suppress(OSError, RuntimeError):
        writer.write_eof()
