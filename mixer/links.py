"""The mixer's ends of pipes: inputs it listens for, outputs it connects to (RFC 4571 framing).

The far ends are `streamer.pipe.PipeOut` and `PipeIn`. Nothing here blocks: an output whose worker
is slow loses whole frames, which is counted and answered with a key frame later.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Protocol

from streamer import rtcp, rtp
from streamer.errors import PacketError
from streamer.framing import Deframer
from streamer.pipe import EXTENSION_URIS

log = logging.getLogger(__name__)

READ_BYTES = 262_144
MAX_QUEUED_BYTES = 2 << 20


class InputEvents(Protocol):
    def input_connected(self, now: float) -> None: ...

    def input_packets(self, packets: list[rtp.Packet], now: float) -> None: ...

    def input_report(self, report: rtcp.SenderReport, now: float) -> None: ...

    def input_closed(self, detail: str) -> None: ...


class InputLink:
    """Listens at `path` for one worker's pipe. Raises OSError when it cannot."""

    def __init__(self, loop: asyncio.AbstractEventLoop, path: str, events: InputEvents) -> None:
        self._loop = loop
        self._path = Path(path)
        self._events = events
        self._deframer = Deframer()
        self._sock: socket.socket | None = None
        self._closed = False
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._path.unlink(missing_ok=True)
            self._listener.bind(path)
            self._listener.listen(1)
        except OSError:
            self._listener.close()
            raise
        self._listener.setblocking(False)
        loop.add_reader(self._listener.fileno(), self._accept)

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except OSError:
            return
        self._stop_listening()
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self._sock = sock
        self._loop.add_reader(sock.fileno(), self._readable)
        self._events.input_connected(monotonic())

    def _readable(self) -> None:
        if self._sock is None:
            return
        now = monotonic()
        detail = "the far end closed the pipe"
        try:
            data = self._sock.recv(READ_BYTES)
            frames = self._deframer.feed(data) if data else []
        except BlockingIOError:
            return
        except (OSError, PacketError) as error:
            detail, data, frames = str(error), b"", []
        packets: list[rtp.Packet] = []
        for frame in frames:
            try:
                if len(frame) > 1 and rtcp.FIRST_TYPE <= frame[1] <= rtcp.LAST_TYPE:
                    self._reports(frame, now)
                else:
                    packets.append(rtp.parse(memoryview(frame), EXTENSION_URIS, now))
            except PacketError:
                continue  # one bad packet of a stream that is still framed: as if it were lost
        if packets:
            self._events.input_packets(packets, now)
        if not data:
            self.close()
            self._events.input_closed(detail)

    def _reports(self, frame: bytes, now: float) -> None:
        for packet in rtcp.parse(frame):
            if isinstance(packet, rtcp.SenderReport):
                self._events.input_report(packet, now)

    @property
    def connected(self) -> bool:
        return self._sock is not None and not self._closed

    def ask_keyframe(self, ssrc: int) -> None:
        """`ssrc` is the video track's, as it came."""
        if self._sock is None or self._closed:
            return
        request = rtcp.picture_loss(0, ssrc)
        with contextlib.suppress(OSError):  # full or gone: asked again in a second
            self._sock.send(len(request).to_bytes(2, "big") + request)

    def _stop_listening(self) -> None:
        if self._listener.fileno() >= 0:
            self._loop.remove_reader(self._listener.fileno())
            self._listener.close()
            self._path.unlink(missing_ok=True)

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._stop_listening()
        if self._sock is not None:
            self._loop.remove_reader(self._sock.fileno())
            self._sock.close()


class OutputLink:
    """Connected to a worker's `PipeIn`. Raises OSError when nobody listens at `path`."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        path: str,
        on_keyframe_wanted: Callable[[], None],
        on_closed: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._on_keyframe_wanted = on_keyframe_wanted
        self._on_closed = on_closed
        self._queue = bytearray()
        self._deframer = Deframer()
        self._closed = False
        self.dropped = 0
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.connect(path)
        except OSError:
            sock.close()
            raise
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        self._sock = sock
        loop.add_reader(sock.fileno(), self._readable)

    def write(self, frames: bytes) -> bool:
        """Send whole framed packets; False when they were dropped because the pipe is full."""
        if self._closed:
            return True
        if len(self._queue) > MAX_QUEUED_BYTES:
            self.dropped += 1
            return False
        if self._queue:
            self._queue += frames
            return True
        try:
            sent = self._sock.send(frames)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._end()
            return True
        if sent < len(frames):
            self._queue += frames[sent:]
            self._loop.add_writer(self._sock.fileno(), self._writable)
        return True

    def _writable(self) -> None:
        try:
            sent = self._sock.send(self._queue)
        except BlockingIOError:
            return
        except OSError:
            self._end()
            return
        del self._queue[:sent]
        if not self._queue:
            self._loop.remove_writer(self._sock.fileno())

    def _readable(self) -> None:
        try:
            data = self._sock.recv(READ_BYTES)
            frames = self._deframer.feed(data) if data else []
        except BlockingIOError:
            return
        except (OSError, PacketError):
            data, frames = b"", []
        if not data:
            self._end()
            return
        for frame in frames:
            try:
                packets = rtcp.parse(frame)
            except PacketError:
                continue
            if any(isinstance(packet, rtcp.PictureLoss) for packet in packets):
                self._on_keyframe_wanted()

    def _end(self) -> None:
        if not self._closed:
            self.close()
            self._on_closed()

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._loop.remove_reader(self._sock.fileno())
        self._loop.remove_writer(self._sock.fileno())
        self._sock.close()
