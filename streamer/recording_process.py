"""The recording process: writes lessons' output streams to files, driven over its control socket.

`python -m streamer.recording_process --fd N` inherits a connected stream socket, reads
`RecorderSettings`, says `Ready`, and serves requests until the socket closes or it is told to
drain; either way the files are finished first. It decodes nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from time import monotonic

import msgspec
import uvloop

from . import recording_control as control
from . import rtcp, rtp
from .channel import read_message, write_outbox
from .errors import PacketError
from .framing import Deframer
from .muxer import Note, SegmentFile
from .pipe import EXTENSION_URIS
from .recorder import Begin, End, Event, Media, Recorder

log = logging.getLogger(__name__)

TICK_S = 0.1
FLUSH_S = 1.0
SYNC_S = 5.0
READ_BYTES = 262_144
MAX_RECORDINGS = 256
CLOSED_BY_FAR_END = ""


class Recording:
    """One pipe and the segments that are written from it. Raises OSError when it cannot listen."""

    def __init__(
        self,
        request: control.OpenRecording,
        loop: asyncio.AbstractEventLoop,
        notify: Callable[[control.AnyNotification], None],
        on_ended: Callable[[str], None],
    ) -> None:
        self.id = request.recording_id
        self._stream = request.stream
        self._loop = loop
        self._notify = notify
        self._on_ended = on_ended
        self._folder = Path(request.folder)
        self._recorder = Recorder(request.tracks, request.segment_s)
        self._segments: dict[int, SegmentFile] = {}
        self._deframer = Deframer()
        self._sock: socket.socket | None = None
        self._closed = False
        self._next_flush = self._next_sync = 0.0
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._path = Path(request.path)
        self._path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._listener.bind(request.path)
            self._listener.listen(1)
        except OSError:
            self._listener.close()
            raise
        self._listener.setblocking(False)
        loop.add_reader(self._listener.fileno(), self._accept)

    # --- pipe ----------------------------------------------------------------------------------

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

    def _readable(self) -> None:
        sock = self._sock
        if sock is None:
            return
        try:
            data = sock.recv(READ_BYTES)
            frames = self._deframer.feed(data) if data else []
        except BlockingIOError:
            return
        except (OSError, PacketError) as error:
            log.warning("recording %s: the pipe ends: %s", self.id, error)
            data, frames = b"", []
        now = monotonic()
        try:
            for frame in frames:
                self._act(self._receive(frame, now), now)
        except OSError as error:
            self.fail(error)
            return
        if not data:
            self.close()
            self._notify(control.RecordingEnded(recording_id=self.id, error=CLOSED_BY_FAR_END))
        else:
            self._ask_keyframes(now)

    def _receive(self, frame: bytes, now: float) -> list[Event]:
        try:
            if len(frame) > 1 and rtcp.FIRST_TYPE <= frame[1] <= rtcp.LAST_TYPE:
                for packet in rtcp.parse(frame):
                    if isinstance(packet, rtcp.SenderReport):
                        self._recorder.report(packet)
                return []
            return self._recorder.packet(rtp.parse(memoryview(frame), EXTENSION_URIS, now), now)
        except PacketError:
            return []  # as if it were lost

    def _ask_keyframes(self, now: float) -> None:
        if self._sock is None:
            return
        for index in self._recorder.wanted_keyframes(now):
            request = rtcp.picture_loss(0, index)
            with contextlib.suppress(OSError):  # asked again in a second
                self._sock.send(len(request).to_bytes(2, "big") + request)

    # --- files ---------------------------------------------------------------------------------

    def _act(self, events: list[Event], now: float) -> None:
        for event in events:
            if isinstance(event, Media):
                segment = self._segments.get(event.segment)
                if segment is not None:
                    segment.add(event)
            elif isinstance(event, Begin):
                self._begin(event)
            elif isinstance(event, End):
                self._end(event.segment)

    def _begin(self, event: Begin) -> None:
        started_at = time.time() - max(0.0, event.age_s)
        stem = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(started_at))
        stem = f"{self._stream}-{stem}-{self.id[:8]}-{event.segment:04d}"
        segment = SegmentFile(
            self._folder,
            stem,
            self._stream,
            event.picture,
            sound=event.sound,
            at_s=event.at_s,
            started_at=started_at,
        )
        self._segments[event.segment] = segment
        log.info("recording %s: %s", self.id, segment.path.name)
        self._tell(segment.flush())

    def _end(self, number: int) -> None:
        segment = self._segments.pop(number, None)
        if segment is not None:
            self._tell(segment.finish())

    def _tell(self, note: Note) -> None:
        self._notify(control.SegmentChanged(recording_id=self.id, note=note))

    def tick(self, now: float) -> None:
        try:
            self._act(self._recorder.tick(now), now)
            if now >= self._next_flush:
                self._next_flush = now + FLUSH_S
                for segment in self._segments.values():
                    self._tell(segment.flush())
        except OSError as error:
            self.fail(error)
            return
        self._ask_keyframes(now)

    def segments_to_sync(self, now: float) -> list[SegmentFile]:
        if now < self._next_sync:
            return []
        self._next_sync = now + SYNC_S
        return list(self._segments.values())

    # --- end -----------------------------------------------------------------------------------

    def fail(self, error: OSError) -> None:
        """The disk refuses: what is written stays as it is, readable."""
        log.error("recording %s: %s", self.id, error)
        for segment in self._segments.values():
            segment.abandon()
        self._segments.clear()
        self.close()
        reason = error.strerror or str(error)
        self._notify(control.RecordingEnded(recording_id=self.id, error=reason))

    def close(self) -> None:
        """Finish every file."""
        if self._closed:
            return
        self._closed = True
        self._stop_listening()
        if self._sock is not None:
            self._loop.remove_reader(self._sock.fileno())
            self._sock.close()
            self._sock = None
        now = monotonic()
        try:
            self._act(self._recorder.finish(now), now)
        except OSError as error:
            log.error("recording %s: the last second was not written: %s", self.id, error)
        for number in list(self._segments):
            self._segments.pop(number).abandon()
        self._on_ended(self.id)

    def _stop_listening(self) -> None:
        if self._listener.fileno() >= 0:
            self._loop.remove_reader(self._listener.fileno())
            self._listener.close()
            self._path.unlink(missing_ok=True)


class RecordingProcess:
    """All recordings. What it has to say gathers in `outbox`."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.recordings: dict[str, Recording] = {}
        self.outbox: list[control.AnyReply | control.AnyNotification] = []
        self.wake_outbox = asyncio.Event()
        self._loop = loop

    def notify(self, message: control.AnyReply | control.AnyNotification) -> None:
        self.outbox.append(message)
        self.wake_outbox.set()

    def handle(self, request: control.AnyRequest) -> control.AnyReply:
        number = request.request_id
        match request:
            case control.OpenRecording():
                return self._open(request)
            case control.CloseRecording():
                recording = self.recordings.get(request.recording_id)
                if recording is not None:
                    recording.close()
            case control.Drain():
                self.close()
        return control.Done(request_id=number)

    def _open(self, request: control.OpenRecording) -> control.AnyReply:
        detail = ""
        if request.recording_id in self.recordings:
            detail = "recording_id: it is in use"
        elif len(self.recordings) >= MAX_RECORDINGS:
            detail = f"at most {MAX_RECORDINGS} recordings at the same time"
        elif not control.MIN_SEGMENT_S <= request.segment_s <= control.MAX_SEGMENT_S:
            detail = f"segment_s: {control.MIN_SEGMENT_S:g} to {control.MAX_SEGMENT_S:g}"
        if not detail:
            try:
                self.recordings[request.recording_id] = Recording(
                    request, self._loop, self.notify, self._ended
                )
            except OSError as error:
                detail = f"path or folder: {error}"
        if detail:
            return control.Failed(request_id=request.request_id, detail=detail)
        return control.Done(request_id=request.request_id)

    def _ended(self, recording_id: str) -> None:
        self.recordings.pop(recording_id, None)

    async def tick_forever(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            for recording in list(self.recordings.values()):
                now = monotonic()
                try:
                    recording.tick(now)
                except Exception:  # one recording's failure must not stop the others
                    log.exception("recording %s failed", recording.id)
                    recording.close()
                for segment in recording.segments_to_sync(now):
                    await asyncio.to_thread(_sync, segment)

    def close(self) -> None:
        for recording in list(self.recordings.values()):
            recording.close()


def _sync(segment: SegmentFile) -> None:
    with contextlib.suppress(OSError, ValueError):  # finished in the meantime
        segment.sync()


async def run(sock: socket.socket) -> int:
    """Serve one control connection; return the exit status."""
    reader, writer = await asyncio.open_unix_connection(sock=sock)
    settings = control.settings_decoder.decode(await read_message(reader))
    logging.basicConfig(
        level=settings.log_level, format="%(asctime)s %(levelname)s recorder: %(message)s"
    )
    process = RecordingProcess(asyncio.get_running_loop())
    process.notify(control.Ready(pid=os.getpid()))
    tasks = [
        asyncio.create_task(write_outbox(process, writer)),
        asyncio.create_task(process.tick_forever()),
    ]
    try:
        while True:
            request = control.request_decoder.decode(await read_message(reader))
            process.notify(process.handle(request))
            if isinstance(request, control.Drain):
                break
    except (asyncio.IncompleteReadError, ConnectionError, msgspec.DecodeError) as error:
        log.info("control connection ended: %s", error or "closed")
    finally:
        process.close()
        await asyncio.sleep(0.05)  # let the last replies leave
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        writer.close()
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m streamer.recording_process")
    parser.add_argument("--fd", type=int, required=True, help="the inherited control socket")
    arguments = parser.parse_args()
    # Signals to the process group are the control process's to act on; its socket tells us.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.umask(0o077)  # children may be seen in these files
    return uvloop.run(run(socket.socket(fileno=arguments.fd)))


if __name__ == "__main__":
    sys.exit(main())
