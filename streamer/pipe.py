"""Plain RTP between processes of one machine: an output leaves one worker and enters another.

A pipe is a Unix stream socket with RFC 4571 framing. One way go RTP packets in the publisher's own
numbering and its sender reports, the other way key-frame requests. A stream, not datagrams: the
kernel queues ten Unix datagrams at most, a key frame has more packets than that. Whoever can open
the socket file is trusted; its folder is private to the server.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import socket
from collections.abc import Callable, Sequence
from time import monotonic

from . import control, rtcp, rtp
from .description import Codec
from .errors import PacketError
from .framing import Deframer
from .output import Feed, Output, OutputTrack
from .publisher import PublishedTrack
from .rtp import Packet

log = logging.getLogger(__name__)

MAX_QUEUED_BYTES = 4 << 20  # two seconds of a busy output; a worker that far behind loses packets
READ_BYTES = 262_144
REPORT_INTERVAL_S = 1.0
# On a pipe the carried header extensions have fixed ids: their place in the list, from 1.
EXTENSION_IDS = {uri: index for index, uri in enumerate(rtp.CARRIED_EXTENSIONS, start=1)}
EXTENSION_URIS = {index: uri for uri, index in EXTENSION_IDS.items()}
PIPE_CNAME = "pipe"


def frame_packet(packet: Packet, ssrc: int) -> bytes:
    """One framed RTP packet as it goes over a pipe."""
    elements = [(EXTENSION_IDS[uri], data) for uri, data in packet.extensions]
    body = (
        rtp.header(
            packet.payload_type,
            packet.marker,
            packet.seq,
            packet.timestamp,
            ssrc,
            rtp.extension_block(elements),
        )
        + packet.payload
    )
    return len(body).to_bytes(2, "big") + body


def described(track: PublishedTrack, codec: Codec) -> control.PipedTrack:
    """What the other end must know of a track before its packets come.

    On the pipe the track's SSRC is its place in the list of tracks.
    """
    return control.PipedTrack(
        kind=track.kind,
        codec=codec.name,
        clock_rate=codec.clock_rate,
        channels=codec.channels,
        payload_type=codec.payload_type,
        fmtp=list(codec.fmtp),
        answers_pli=track.answers_pli,
    )


class PipeOut:
    """Sends every packet of an output into a pipe; takes key-frame requests back.

    Raises OSError from the constructor when nobody listens at `path`.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        pipe_id: str,
        output: Output,
        path: str,
        on_closed: Callable[[str], None],
        *,
        one_picture: bool = False,
    ) -> None:
        self.id = pipe_id
        self.output = output
        self.dropped = 0
        self._one_picture = one_picture
        self._loop = loop
        self._on_closed = on_closed
        self._queue = bytearray()
        self._deframer = Deframer()
        self._next_report = 0.0
        self._closed = False
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
        now = monotonic()
        present = self._choose(now) if one_picture else output.tracks
        present = [track for track in present if track.source is not None]
        self._ssrcs = {track.source: index for index, track in enumerate(present)}
        self._tracks = present
        for track in present:
            track.taps.append(self)
            self._begin(track, now)

    def _choose(self, now: float) -> list[OutputTrack]:
        """The sound and one layer: the largest that carries packets, else the last one."""
        layers = self.output.present_layers
        carrying = self.output.layers_by_rate(now)
        chosen = self.output.layers[carrying[-1]] if carrying else layers[-1] if layers else None
        return [self.output.audio] if chosen is None else [self.output.audio, chosen]

    def _outlived(self, now: float) -> bool:
        """Whether the one layer that is sent has fallen silent while another goes on."""
        carrying = self.output.layers_by_rate(now)
        sent = [self.output.layers.index(t) for t in self._tracks if t.kind == "video"]
        return bool(carrying) and bool(sent) and sent[0] not in carrying

    def _begin(self, track: OutputTrack, now: float) -> None:
        """Let the other end start at once: from the last key frame, or with a fresh one."""
        source = track.source
        if source is None or track.kind != "video":
            return
        if source.answers_pli:
            track.request_keyframe(now)
        else:
            self.send(source, source.history.since_keyframe())

    def send(self, source: PublishedTrack, batch: Sequence[Packet]) -> None:
        """Queue and send a batch; packets that no longer fit are dropped and counted."""
        if self._closed:
            return
        ssrc = self._ssrcs[source]
        if len(self._queue) > MAX_QUEUED_BYTES:
            self.dropped += len(batch)
            return
        self._write(b"".join([frame_packet(packet, ssrc) for packet in batch]))

    def _write(self, data: bytes) -> None:
        if self._queue:
            self._queue += data
            return
        try:
            sent = self._sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self.close()
            return
        if sent < len(data):
            self._queue += data[sent:]
            self._loop.add_writer(self._sock.fileno(), self._writable)

    def _writable(self) -> None:
        try:
            sent = self._sock.send(self._queue)
        except BlockingIOError:
            return
        except OSError:
            self.close()
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
            self.close()
            return
        for frame in frames:
            try:
                packets = rtcp.parse(frame)
            except PacketError:
                continue
            for packet in packets:
                if isinstance(packet, rtcp.PictureLoss):
                    self._picture_lost(packet.media_ssrc)

    def _picture_lost(self, number: int) -> None:
        """Ask for a key frame; where there is one picture, it is meant whatever its number."""
        tracks = self._tracks[number : number + 1]
        if self._one_picture:
            tracks = [track for track in self._tracks if track.kind == "video"]
        for track in tracks:
            track.request_keyframe(monotonic())

    def tick(self, now: float) -> None:
        """Once a second: pass the publisher's clock on as sender reports."""
        if now < self._next_report:
            return
        if self._one_picture and self._outlived(now):
            self.close()
            return
        self._next_report = now + REPORT_INTERVAL_S
        for track in self._tracks:
            source = track.source
            if source is None or source.sr_ntp is None:
                continue
            # The same instant for both tracks: the report's age is added to its times.
            age_s = now - source.sr_arrival
            report = rtcp.sender_report(
                self._ssrcs[source],
                source.sr_ntp + int(age_s * 2**32),
                (source.sr_rtp + int(age_s * source.clock_rate)) & rtp.TIMESTAMP_MASK,
                source.packets & 0xFFFFFFFF,
                source.bytes & 0xFFFFFFFF,
                PIPE_CNAME,
            )
            self._write(len(report).to_bytes(2, "big") + report)

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        for track in self._tracks:
            if self in track.taps:
                track.taps.remove(self)
        self._loop.remove_reader(self._sock.fileno())
        self._loop.remove_writer(self._sock.fileno())
        self._sock.close()
        self._on_closed(self.id)


class PipeIn:
    """Publishes what arrives on a pipe: for its output it is a publisher like any other.

    Listens at `path` until its one peer connects. Raises OSError when it cannot.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        request: control.OpenPipeIn,
        output: Output,
        keyframe_interval_s: float,
        on_closed: Callable[[str], None],
    ) -> None:
        self.id = request.pipe_id
        self.output = output
        self.clock_offset_s: float | None = None
        self._loop = loop
        self._on_closed = on_closed
        self._path = request.path
        self._deframer = Deframer()
        self._sock: socket.socket | None = None
        self._closed = False
        self._feeds: list[Feed] = []
        for index, track in enumerate(request.tracks):
            codec = Codec(
                track.payload_type,
                track.codec,
                track.clock_rate,
                track.channels,
                tuple((name, value) for name, value in track.fmtp),
            )
            source = PublishedTrack(
                track.kind,
                track.codec,
                track.clock_rate,
                track.payload_type,
                ssrc=index,
                extension_uris=EXTENSION_URIS,
                answers_pli=track.answers_pli,
                keyframe_interval_s=keyframe_interval_s,
            )
            self._feeds.append(Feed(source, codec, functools.partial(self._ask_keyframe, index)))
        self._tracks: list[OutputTrack] = []
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        if os.path.exists(self._path):  # noqa: PTH110 - a socket file, not a path to walk
            os.unlink(self._path)  # noqa: PTH108
        self._listener.bind(self._path)
        self._listener.listen(1)
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
        self.output.begin(self.id, self._feeds, monotonic())
        by_source = {track.source: track for track in self.output.tracks}
        self._tracks = [by_source[feed.source] for feed in self._feeds]

    def _readable(self) -> None:
        sock = self._sock
        if sock is None:
            return
        now = monotonic()
        try:
            data = sock.recv(READ_BYTES)
            frames = self._deframer.feed(data) if data else []
        except BlockingIOError:
            return
        except (OSError, PacketError) as error:
            log.warning("pipe %s ends: %s", self.id, error)
            data, frames = b"", []
        for frame in frames:
            self._receive(frame, now)
        self.output.flush(now)
        if not data:
            self.close()

    def _receive(self, frame: bytes, now: float) -> None:
        if len(frame) > 1 and 192 <= frame[1] <= 223:
            self._report(frame, now)
            return
        try:
            packet = rtp.parse(memoryview(frame), EXTENSION_URIS, now)
        except PacketError:
            return
        if packet.ssrc >= len(self._feeds):
            return
        source, output_track = self._feeds[packet.ssrc].source, self._tracks[packet.ssrc]
        if output_track.source is source and source.receive(packet):
            output_track.pending.append(packet)

    def _report(self, frame: bytes, now: float) -> None:
        try:
            packets = rtcp.parse(frame)
        except PacketError:
            return
        for packet in packets:
            if isinstance(packet, rtcp.SenderReport):
                if self.clock_offset_s is None:
                    self.clock_offset_s = packet.ntp / 2**32 - now
                if packet.ssrc < len(self._feeds):
                    self._feeds[packet.ssrc].source.sender_report(packet, now)

    def _ask_keyframe(self, index: int) -> None:
        if self._sock is None:
            return
        request = rtcp.picture_loss(0, index)
        try:
            self._sock.send(len(request).to_bytes(2, "big") + request)
        except OSError:
            log.info("pipe %s: key-frame request not sent", self.id)

    def _stop_listening(self) -> None:
        if self._listener.fileno() >= 0:
            self._loop.remove_reader(self._listener.fileno())
            self._listener.close()
            if os.path.exists(self._path):  # noqa: PTH110
                os.unlink(self._path)  # noqa: PTH108

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._stop_listening()
        if self._sock is not None:
            self._loop.remove_reader(self._sock.fileno())
            self._sock.close()
        self.output.end(self.id, monotonic())
        self._on_closed(self.id)
