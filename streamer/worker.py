"""One worker process: the media plane of some outputs, driven over its control socket.

`python -m streamer.worker --fd N` inherits a connected stream socket, reads `WorkerSettings`,
listens, says `Ready`, and serves requests until the socket closes or it is told to drain.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import resource
import secrets
import signal
import socket
import sys
from pathlib import Path as FilePath
from time import monotonic

import msgspec
import uvloop

from . import control, ice
from .channel import read_message, write_outbox
from .delay import DelayHistogram
from .dtls import DtlsTransport, Identity
from .errors import InvalidSdpError
from .memory import Trimmer, trim
from .negotiation import (
    LocalTransport,
    PublisherMedia,
    ReceiverMedia,
    negotiate_publisher,
    negotiate_receiver,
)
from .output import Output
from .pipe import PipeIn, PipeOut, described
from .port import Port
from .publishing import PublisherSession
from .receiving import ReceiverSession
from .sdp import (
    Description,
    build_fragment,
    parse_candidate_lines,
    parse_description,
    parse_fragment,
)
from .session import Session

log = logging.getLogger(__name__)

FAST_TICK_S = 0.02
HANDSHAKE_EVERY = 5  # fast ticks
SLOW_EVERY = 12
PAGE_BYTES = os.sysconf("SC_PAGESIZE")


class Worker:
    """Sessions and outputs of one process. `notify` sends a notification to the control process."""

    def __init__(self, settings: control.WorkerSettings, loop: asyncio.AbstractEventLoop) -> None:
        self.settings = settings
        self.counters = control.Counters()
        self.delays = DelayHistogram()
        self.identity = Identity(settings.certificate_pem, settings.key_pem)
        self.sessions: dict[str, Session] = {}
        self.outputs: dict[str, Output] = {}
        self.outbox: list[control.AnyReply | control.AnyNotification] = []
        self.wake_outbox: asyncio.Event = asyncio.Event()
        self._by_ufrag: dict[str, Session] = {}
        self._handshaking: set[Session] = set()
        self._publishers: set[PublisherSession] = set()
        self._dirty: set[Output] = set()
        self._etags: dict[str, str] = {}
        self._pipes: dict[str, PipeIn | PipeOut] = {}
        self._loop = loop
        self._ticks = 0
        self._trimmer = Trimmer(monotonic())
        self._candidates: list[str] = []
        self.port = Port(
            loop,
            gso=settings.gso,
            find_session=self._by_ufrag.get,
            after_drain=self._after_drain,
            drops=self.counters.drops,
        )

    def start(self) -> control.Ready:
        """Listen. Raises OSError when an address is taken."""
        self.port.open(self.settings.binds)
        self._candidates = ice.host_candidates(
            self.port.announced(self.settings.announce), self.port.port
        )
        self._loop.call_later(FAST_TICK_S, self._tick)
        return control.Ready(
            worker=self.settings.worker, pid=os.getpid(), candidates=self._candidates
        )

    def notify(self, message: control.AnyReply | control.AnyNotification) -> None:
        self.outbox.append(message)
        self.wake_outbox.set()

    # --- time ----------------------------------------------------------------------------------

    def _after_drain(self, received_at: float) -> None:
        dirty = self._dirty
        while dirty:
            dirty.pop().flush(received_at)

    def _tick(self) -> None:
        now = monotonic()
        self._loop.call_later(FAST_TICK_S, self._tick)
        self._ticks += 1
        for publisher in list(self._publishers):
            publisher.retry_tick(now)
        for output in self.outputs.values():
            output.tick(now)
        if self._handshaking and self._ticks % HANDSHAKE_EVERY == 0:
            for session in list(self._handshaking):
                session.handshake_tick(now)
        if self._ticks % SLOW_EVERY == 0:
            self._slow_tick(now)

    def _slow_tick(self, now: float) -> None:
        for session in list(self.sessions.values()):
            if session.connected_at is not None:
                session.tick(now)
            for ufrag in session.ice.take_retired_ufrags():
                self._by_ufrag.pop(ufrag, None)
        for output in list(self.outputs.values()):
            for output_track in output.tracks:
                output_track.collect()
            for track, _codec in output.published():
                track.measure_rate(now)
            if output.news(now):
                self._tell(output)
            if output.unused:
                self._forget_unused(output)
        for pipe in list(self._pipes.values()):
            if isinstance(pipe, PipeOut):
                pipe.tick(now)
        self.port.expire(now)
        if self._trimmer.due(DtlsTransport.retired_in_all, now):
            trim()

    def _forget_unused(self, output: Output) -> None:
        """Outputs exist only while somebody publishes or receives them, or is about to."""
        users = [session.output_id for session in self.sessions.values()]
        users += [pipe.output.id for pipe in self._pipes.values()]
        if output.id not in users:
            del self.outputs[output.id]

    def _tell(self, output: Output) -> None:
        self.notify(
            control.OutputChanged(
                output_id=output.id,
                live=output.live,
                generation=output.generation,
                piped=output.publisher_id in self._pipes,
                tracks=[described(track, codec) for track, codec in output.published()],
            )
        )

    # --- requests ------------------------------------------------------------------------------

    def handle(self, request: control.AnyRequest) -> control.AnyReply:
        """Carry out one request; bad input becomes `Failed`, never an exception."""
        try:
            return self._dispatch(request)
        except InvalidSdpError as error:
            return control.Failed(
                request_id=request.request_id,
                code="invalid-sdp",
                field=error.field,
                detail=error.detail,
            )

    def _dispatch(self, request: control.AnyRequest) -> control.AnyReply:
        match request:
            case control.OpenPublisher():
                return self._open_publisher(request)
            case control.OpenReceiver():
                return self._open_receiver(request)
            case control.PatchSession():
                return self._patch(request)
            case control.CloseSession():
                session = self.sessions.get(request.session_id)
                if session is None:
                    return _no_such_session(request.request_id)
                session.close(request.reason)
            case control.MoveReceiver():
                return self._move_receiver(request)
            case control.LimitPublisher():
                publisher = self.sessions.get(request.session_id)
                if not isinstance(publisher, PublisherSession):
                    return _no_such_session(request.request_id)
                publisher.limit(1000 * request.kbps, monotonic())
            case control.CloseOutput():
                for session in list(self.sessions.values()):
                    if session.output_id == request.output_id:
                        session.close(request.reason)
                for pipe in list(self._pipes.values()):
                    if pipe.output.id == request.output_id:
                        pipe.close()
                self.outputs.pop(request.output_id, None)
            case control.OpenPipeIn():
                return self._open_pipe_in(request)
            case control.OpenPipeOut():
                return self._open_pipe_out(request)
            case control.ClosePipe():
                known = self._pipes.get(request.pipe_id)
                if known is not None:
                    known.close()
            case control.GetStats():
                return self._stats(request)
            case control.Drain():
                self.close("draining")
        return control.Done(request_id=request.request_id)

    def _prepare(self, request: control.OpenPublisher | control.OpenReceiver) -> Description:
        if len(self.sessions) >= self.settings.max_sessions:
            raise _TooManySessions
        old = self.sessions.get(request.session_id)
        if old is not None:
            old.close("replaced")
        return parse_description(request.offer)

    def _local_transport(self) -> LocalTransport:
        return LocalTransport(
            ice_ufrag=ice.generate_ufrag(),
            ice_pwd=ice.generate_pwd(),
            fingerprint_sha256=self.identity.fingerprint,
            candidates=parse_candidate_lines(self._candidates),
        )

    def _output(self, output_id: str) -> Output:
        output = self.outputs.get(output_id)
        if output is None:
            output = self.outputs[output_id] = Output(
                output_id, self.counters, self.delays, self._first_keyframe
            )
        return output

    def _agent(
        self, transport: LocalTransport, media: PublisherMedia | ReceiverMedia, now: float
    ) -> ice.LiteAgent:
        agent = ice.LiteAgent(
            transport.ice_ufrag,
            transport.ice_pwd,
            now,
            consent_timeout_s=self.settings.consent_timeout_s,
        )
        agent.set_remote(media.ice_ufrag, media.ice_pwd)
        return agent

    def _open_publisher(self, request: control.OpenPublisher) -> control.AnyReply:
        try:
            offer = self._prepare(request)
        except _TooManySessions:
            return _too_many(request.request_id)
        transport = self._local_transport()
        media = negotiate_publisher(
            offer,
            video_codecs=request.video_codecs,
            video_kbps=request.video_kbps,
            audio_kbps=request.audio_kbps,
            transport=transport,
        )
        now = monotonic()
        output = self._output(request.output_id)
        for other in list(self._publishers):
            if other.output_id == request.output_id:
                other.close("replaced", now)
        session = PublisherSession(
            request.session_id,
            request.output_id,
            identity=self.identity,
            fingerprints=media.fingerprints,
            agent=self._agent(transport, media, now),
            counters=self.counters,
            notify=self._session_changed,
            now=now,
            media=media,
            output=output,
            dirty=self._dirty,
            max_bitrate_bps=sum(track.bandwidth_bps for track in media.tracks),
            keyframe_interval_s=self.settings.keyframe_interval_s,
        )
        self._publishers.add(session)
        return self._opened(request.request_id, session, transport, media.answer)

    def _open_receiver(self, request: control.OpenReceiver) -> control.AnyReply:
        try:
            offer = self._prepare(request)
        except _TooManySessions:
            return _too_many(request.request_id)
        transport = self._local_transport()
        media = negotiate_receiver(offer, transport=transport, ssrcs=_random_ssrc)
        now = monotonic()
        session = ReceiverSession(
            request.session_id,
            request.output_id,
            identity=self.identity,
            fingerprints=media.fingerprints,
            agent=self._agent(transport, media, now),
            counters=self.counters,
            notify=self._session_changed,
            now=now,
            media=media,
            output=self._output(request.output_id),
            clock_offset_s=self._clock_offset,
        )
        return self._opened(request.request_id, session, transport, media.answer)

    def _move_receiver(self, request: control.MoveReceiver) -> control.AnyReply:
        session = self.sessions.get(request.session_id)
        if not isinstance(session, ReceiverSession):
            return _no_such_session(request.request_id)
        session.move(self._output(request.output_id), monotonic())
        return control.Done(request_id=request.request_id)

    def _opened(
        self, request_id: int, session: Session, transport: LocalTransport, answer: str
    ) -> control.Opened:
        self.sessions[session.id] = session
        self._by_ufrag[transport.ice_ufrag] = session
        self._handshaking.add(session)
        self._etags[session.id] = transport.ice_ufrag
        return control.Opened(request_id=request_id, answer=answer, etag=transport.ice_ufrag)

    def _open_pipe_in(self, request: control.OpenPipeIn) -> control.AnyReply:
        try:
            self._pipes[request.pipe_id] = PipeIn(
                self._loop,
                request,
                self._output(request.output_id),
                self.settings.keyframe_interval_s,
                self._pipe_closed,
            )
        except OSError as error:
            return _pipe_failed(request.request_id, error)
        return control.Done(request_id=request.request_id)

    def _open_pipe_out(self, request: control.OpenPipeOut) -> control.AnyReply:
        output = self.outputs.get(request.output_id)
        if output is None or output.publisher_id is None:
            return control.Failed(
                request_id=request.request_id,
                code="no-such-output",
                detail="nobody publishes this output here",
            )
        try:
            self._pipes[request.pipe_id] = PipeOut(
                self._loop,
                request.pipe_id,
                output,
                request.path,
                self._pipe_closed,
                one_picture=request.one_picture,
            )
        except OSError as error:
            return _pipe_failed(request.request_id, error)
        return control.Done(request_id=request.request_id)

    def _pipe_closed(self, pipe_id: str) -> None:
        self._pipes.pop(pipe_id, None)

    def _patch(self, request: control.PatchSession) -> control.AnyReply:
        session = self.sessions.get(request.session_id)
        if session is None:
            return _no_such_session(request.request_id)
        fragment = parse_fragment(request.fragment)
        etag = self._etags[session.id]
        if request.if_match not in ("*", etag):
            return control.Failed(
                request_id=request.request_id,
                code="stale-etag",
                detail="the ICE session has been restarted since this entity tag was given",
            )
        if not session.ice.is_restart(fragment.ice_ufrag, fragment.ice_pwd):
            # Trickled candidates need no action: a lite agent only answers checks (RFC 8445 2.5).
            return control.Patched(request_id=request.request_id, etag=etag)
        if fragment.ice_ufrag is None or fragment.ice_pwd is None:
            raise InvalidSdpError(
                "a=ice-ufrag", "an ICE restart needs both a=ice-ufrag and a=ice-pwd"
            )
        ufrag, pwd = ice.generate_ufrag(), ice.generate_pwd()
        session.ice.restart(ufrag, pwd, fragment.ice_ufrag, fragment.ice_pwd)
        self._by_ufrag[ufrag] = session
        self._etags[session.id] = ufrag
        answer = build_fragment(
            ice_ufrag=ufrag,
            ice_pwd=pwd,
            candidates=parse_candidate_lines(self._candidates),
            mids=fragment.mids,
            end_of_candidates=True,
            ice_lite=True,
        )
        return control.Patched(request_id=request.request_id, fragment=answer, etag=ufrag)

    def _stats(self, request: control.GetStats) -> control.Stats:
        now = monotonic()
        usage = resource.getrusage(resource.RUSAGE_SELF)
        for output in self.outputs.values():
            for track in output.tracks:
                track.collect()
        self._gather_path_counters()
        statm = FilePath("/proc/self/statm").read_text().split()
        return control.Stats(
            request_id=request.request_id,
            worker=self.settings.worker,
            cpu_seconds=usage.ru_utime + usage.ru_stime,
            rss_bytes=int(statm[1]) * PAGE_BYTES,
            counters=self.counters,
            forward_delay_s=self.delays.snapshot(),
            sessions=(
                [session.stats(now) for session in self.sessions.values()]
                if request.sessions
                else []
            ),
        )

    # --- what sessions tell --------------------------------------------------------------------

    def _session_changed(self, session: Session, state: control.SessionState, reason: str) -> None:
        if state == "connected":
            self._handshaking.discard(session)
        elif state == "closed":
            self._handshaking.discard(session)
            self.sessions.pop(session.id, None)
            self._etags.pop(session.id, None)
            for ufrag in session.ice.local_ufrags():
                self._by_ufrag.pop(ufrag, None)
            self._count_paths(session)
            if isinstance(session, PublisherSession):
                self._publishers.discard(session)
        self.notify(
            control.SessionChanged(
                session_id=session.id, output_id=session.output_id, state=state, reason=reason
            )
        )

    def _first_keyframe(self, session_id: str) -> None:
        session = self.sessions.get(session_id)
        if session is not None:
            self.notify(
                control.FirstKeyframe(
                    session_id=session_id, after_s=monotonic() - session.created_at
                )
            )

    def _clock_offset(self, output: Output) -> float | None:
        publisher_id = output.publisher_id or ""
        publisher = self.sessions.get(publisher_id) or self._pipes.get(publisher_id)
        if isinstance(publisher, PublisherSession | PipeIn):
            return publisher.clock_offset_s
        return None

    def _gather_path_counters(self) -> None:
        for session in self.sessions.values():
            self._count_paths(session)

    def _count_paths(self, session: Session) -> None:
        for path in session.paths:
            self.counters.send_would_block += path.would_block
            self.counters.send_errors += path.send_errors
            path.would_block = path.send_errors = 0

    def close(self, reason: str) -> None:
        for session in list(self.sessions.values()):
            session.close(reason)
        for pipe in list(self._pipes.values()):
            pipe.close()
        self.port.close()


class _TooManySessions(Exception):  # noqa: N818 - control flow inside this file
    pass


def _random_ssrc() -> int:
    return secrets.randbelow(0xFFFFFFFE) + 1


def _no_such_session(request_id: int) -> control.Failed:
    return control.Failed(
        request_id=request_id, code="no-such-session", detail="the session is closed"
    )


def _pipe_failed(request_id: int, error: OSError) -> control.Failed:
    return control.Failed(request_id=request_id, code="internal", detail=f"pipe: {error}")


def _too_many(request_id: int) -> control.Failed:
    return control.Failed(
        request_id=request_id,
        code="too-many-sessions",
        detail="the worker serves as many sessions as its settings allow",
    )


async def run(sock: socket.socket) -> int:
    """Serve one control connection; return the exit status."""
    loop = asyncio.get_running_loop()
    reader, writer = await asyncio.open_unix_connection(sock=sock)
    settings = control.settings_decoder.decode(await read_message(reader))
    logging.basicConfig(
        level=settings.log_level,
        format=f"%(asctime)s %(levelname)s worker {settings.worker}: %(message)s",
    )
    worker = Worker(settings, loop)
    try:
        worker.notify(worker.start())
    except OSError as error:
        log.error("cannot listen on %s: %s", settings.binds, error)
        return 1
    sending = asyncio.create_task(write_outbox(worker, writer))
    try:
        while True:
            request = control.request_decoder.decode(await read_message(reader))
            worker.notify(worker.handle(request))
            if isinstance(request, control.Drain):
                break
    except (asyncio.IncompleteReadError, ConnectionError, msgspec.DecodeError) as error:
        log.info("control connection ended: %s", error or "closed")
    finally:
        worker.close("server-stopped")
        await asyncio.sleep(0.05)  # let the last notifications leave
        sending.cancel()
        with contextlib.suppress(asyncio.CancelledError, ConnectionError):
            await sending
        writer.close()
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m streamer.worker", description=__doc__)
    parser.add_argument("--fd", type=int, required=True, help="the inherited control socket")
    arguments = parser.parse_args()
    # Ctrl-C and a service manager's SIGTERM go to the whole process group: the control process
    # decides when we stop, and when it is gone its socket closes.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    return uvloop.run(run(socket.socket(fileno=arguments.fd)))


if __name__ == "__main__":
    sys.exit(main())
