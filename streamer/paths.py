"""How datagrams reach one peer: a connected UDP socket, or a TCP connection framed by RFC 4571."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Protocol

MAX_QUEUED_BYTES = 192 * 1024  # a TCP receiver further behind than this loses packets instead


class Path(Protocol):
    """What a session and the fan-out need of a transport; sending never waits.

    `segments` tells that `sendmsg` may be given UDP_SEGMENT ancillary data. `send_spans` sends the
    (start, end) slices of a buffer as a datagram each. `BlockingIOError` means that the peer's
    queue is full; other OSErrors that the address is dead for now.
    """

    transport: str
    key: Hashable
    remote: tuple[str, int]
    segments: bool
    sendmsg: Callable[..., int]
    would_block: int
    send_errors: int
    last_received: float

    def fileno(self) -> int: ...

    def send(self, datagram: bytes) -> None: ...

    def send_spans(self, data: bytearray, spans: Sequence[tuple[int, int]]) -> None: ...

    def close(self) -> None: ...


class UdpPath:
    """A UDP socket bound to the worker's port and connected to one address of the peer.

    The kernel demultiplexes to it and needs no route look-up per send (design, hot path rule 5).
    """

    transport = "udp"

    __slots__ = (
        "_on_close",
        "_send",
        "key",
        "last_received",
        "remote",
        "segments",
        "send_errors",
        "sendmsg",
        "sock",
        "source",
        "would_block",
    )

    def __init__(
        self,
        sock: socket.socket,
        source: tuple[Any, ...],
        gso: bool,
        on_close: Callable[[UdpPath], None],
    ) -> None:
        self.sock = sock
        self.source = source
        self.remote = (source[0], source[1])
        self.key: Hashable = ("udp", *self.remote)
        self.segments = gso
        self.sendmsg: Callable[..., int] = sock.sendmsg
        self._send = sock.send
        self.would_block = 0
        self.send_errors = 0
        self.last_received = 0.0
        self._on_close = on_close

    def fileno(self) -> int:
        return self.sock.fileno()

    def send(self, datagram: bytes) -> None:
        try:
            self._send(datagram)
        except BlockingIOError:
            self.would_block += 1
        except OSError:
            self.send_errors += 1  # ICMP unreachable and the like: consent decides, not this

    def send_spans(self, data: bytearray, spans: Sequence[tuple[int, int]]) -> None:
        send = self._send
        view = memoryview(data)
        for start, end in spans:
            send(view[start:end])

    def close(self) -> None:
        self._on_close(self)
        self.sock.close()


class TcpPath:
    """An accepted ICE-TCP connection (RFC 6544 passive); a frame that does not fit is dropped."""

    transport = "tcp"

    __slots__ = (
        "_on_close",
        "_on_writable",
        "key",
        "last_received",
        "queue",
        "remote",
        "segments",
        "send_errors",
        "sendmsg",
        "sock",
        "would_block",
    )

    def __init__(
        self,
        sock: socket.socket,
        remote: tuple[str, int],
        on_writable: Callable[[TcpPath, bool], None],
        on_close: Callable[[TcpPath], None],
    ) -> None:
        self.sock = sock
        self.remote = remote
        self.key: Hashable = ("tcp", id(self), *remote)
        self.segments = False
        self.sendmsg: Callable[..., int] = sock.sendmsg
        self.would_block = 0
        self.send_errors = 0
        self.last_received = 0.0
        self.queue = bytearray()
        self._on_writable = on_writable
        self._on_close = on_close

    def fileno(self) -> int:
        return self.sock.fileno()

    def send(self, datagram: bytes) -> None:
        with contextlib.suppress(OSError):
            self._write(len(datagram).to_bytes(2, "big") + datagram)

    def send_spans(self, data: bytearray, spans: Sequence[tuple[int, int]]) -> None:
        framed = bytearray()
        for start, end in spans:
            framed += (end - start).to_bytes(2, "big")
            framed += data[start:end]
        self._write(framed)

    def _write(self, framed: bytes | bytearray) -> None:
        """Send now what the socket takes, queue the rest; whole frames only are dropped."""
        queue = self.queue
        if queue:
            if len(queue) + len(framed) > MAX_QUEUED_BYTES:
                self.would_block += 1
                raise BlockingIOError
            queue += framed
            return
        try:
            sent = self.sock.send(framed)
        except BlockingIOError:
            sent = 0
        except OSError:
            self.send_errors += 1
            raise
        if sent < len(framed):
            queue += framed[sent:]
            self._on_writable(self, True)

    def flush(self) -> None:
        """The socket takes data again."""
        try:
            sent = self.sock.send(self.queue)
        except BlockingIOError:
            return
        except OSError:
            self.send_errors += 1
            self.queue.clear()
            self._on_writable(self, False)
            return
        del self.queue[:sent]
        if not self.queue:
            self._on_writable(self, False)

    def close(self) -> None:
        self._on_close(self)
        self.sock.close()
