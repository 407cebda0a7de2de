"""A light WHIP publisher: sends the reference lesson, resends on NACK, makes key frames on PLI."""

from __future__ import annotations

import secrets
import socket
import struct
import time
from collections.abc import Sequence
from itertools import pairwise
from time import monotonic, monotonic_ns

from streamer import rtcp
from streamer.rtp import SEQ_MASK, TIMESTAMP_MASK, header

from .endpoint import Shared
from .lesson import ReferenceLesson, stamp
from .offer import (
    OPUS_PAYLOAD_TYPE,
    VP8_PAYLOAD_TYPE,
    VP8_RTX_PAYLOAD_TYPE,
    Sources,
    publisher_offer,
)
from .peer import LightPeer, inbox

AUDIO_INTERVAL_S = 0.02
VIDEO_CLOCK_HZ = 90000
AUDIO_CLOCK_HZ = 48000
REPORT_S = 1.0
RING_PACKETS = 512  # two seconds of video
CATCH_UP_FRAMES = 3  # a loop held up for longer than this skips frames, as an encoder would
UDP_SEGMENT = 103  # linux/udp.h
MAX_EVENTS = 10_000
SO_TIMESTAMPNS = 35  # linux/asm-generic/socket.h; its ancillary data has the same number
ANCILLARY_BYTES = 128
_TIMESPEC = struct.Struct("=qq")


class LightPublisher(LightPeer):
    """`connect` negotiates and starts sending. With `gso` a frame leaves in one system call.

    `keyframe_request_times` and `remb_times` are when PLI or FIR and REMB arrived (seconds,
    monotonic); `remb_bps` is the last estimate.
    """

    __slots__ = (
        "_audio_octets",
        "_audio_seq",
        "_audio_timestamp",
        "_gso",
        "_next_audio",
        "_next_frame",
        "_ring",
        "_rtx_seq",
        "_sources",
        "_started",
        "_video_octets",
        "_video_seq",
        "_video_timestamp",
        "audio_packets",
        "frames",
        "frames_skipped",
        "keyframe_request_times",
        "lesson",
        "nacked_packets",
        "packets_reported_lost",
        "remb_bps",
        "remb_times",
        "resent_packets",
        "video_packets",
    )

    def __init__(
        self,
        shared: Shared,
        url: str,
        token: str,
        *,
        lesson: ReferenceLesson | None = None,
        gso: bool = False,
    ) -> None:
        super().__init__(shared, url, token)
        self.lesson = lesson or ReferenceLesson()
        self.frames = 0
        self.frames_skipped = 0
        self.video_packets = 0
        self.audio_packets = 0
        self.nacked_packets = 0
        self.resent_packets = 0
        self.packets_reported_lost = 0
        self.keyframe_request_times: list[float] = []
        self.remb_times: list[float] = []
        self.remb_bps: int | None = None
        self._gso = gso
        self._sources = Sources.fresh()
        # Below 2^15, so that no receiver guesses a wrong rollover counter (RFC 3711 3.3.1).
        self._video_seq = secrets.randbelow(0x7000)
        self._audio_seq = secrets.randbelow(0x7000)
        self._rtx_seq = secrets.randbelow(0x7000)
        self._video_timestamp = secrets.randbits(32)
        self._audio_timestamp = secrets.randbits(32)
        self._video_octets = 0
        self._audio_octets = 0
        self._ring: dict[int, tuple[int, bool, bytes]] = {}
        self._started = 0.0
        self._next_frame = 0.0
        self._next_audio = 0.0

    def _offer(self) -> str:
        return publisher_offer(self._credentials, self._shared.identity.fingerprint, self._sources)

    def _on_connected(self, now: float) -> None:
        self._started = self._next_frame = self._next_audio = now
        self._later("report", 0.1, self._report)
        self._audio_tick()
        self._video_tick()

    # --- arrival -------------------------------------------------------------------------------

    def _open_socket(self, sock: socket.socket) -> None:
        sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)

    def _readable(self) -> None:
        """As any peer, but with the kernel's arrival time: the spacing of requests is judged by
        it, and our own loop may be late by what hundreds of receivers take."""
        sock = self._sock
        while sock is not None and sock.fileno() >= 0:
            try:
                size, ancillary, _flags, _source = sock.recvmsg_into([inbox.data], ANCILLARY_BYTES)
            except OSError:
                return
            now = monotonic()
            for level, kind, value in ancillary:
                if level == socket.SOL_SOCKET and kind == SO_TIMESTAMPNS and len(value) == 16:
                    seconds, nanoseconds = _TIMESPEC.unpack(value)
                    now -= max(0.0, time.time() - seconds - nanoseconds / 1e9)
            self._on_datagram(0, size, now)

    # --- sending -------------------------------------------------------------------------------

    def _video_tick(self) -> None:
        interval_s = 1.0 / self.lesson.frames_per_s
        now = monotonic()
        behind = int((now - self._next_frame) / interval_s)
        if behind > CATCH_UP_FRAMES:
            self.frames_skipped += behind
            self._next_frame += behind * interval_s
        self._send_frame()
        self._next_frame += interval_s
        self._later("frame", max(0.0, self._next_frame - now), self._video_tick)

    def _audio_tick(self) -> None:
        now = monotonic()
        while self._next_audio <= now:
            self._send_audio()
            self._next_audio += AUDIO_INTERVAL_S
        self._later("audio", max(0.0, self._next_audio - now), self._audio_tick)

    def _send_frame(self) -> None:
        outbound = self._outbound
        if outbound is None:
            return
        elapsed_s = self._next_frame - self._started
        timestamp = (self._video_timestamp + int(elapsed_s * VIDEO_CLOCK_HZ)) & TIMESTAMP_MASK
        payloads = self.lesson.video_frame()
        self.frames += 1
        datagrams: list[bytes] = []
        for index, payload in enumerate(payloads):
            self._video_seq = seq = (self._video_seq + 1) & SEQ_MASK
            marker = index == len(payloads) - 1
            stamp(payload, monotonic_ns())
            plain = bytes(payload)
            self._ring[seq] = (timestamp, marker, plain)
            self._ring.pop((seq - RING_PACKETS) & SEQ_MASK, None)
            packet = header(VP8_PAYLOAD_TYPE, marker, seq, timestamp, self._sources.video) + plain
            datagrams.append(outbound.protect(packet))
            self._video_octets += len(plain)
        self.video_packets += len(payloads)
        if self._gso:
            self._send_segments(datagrams)
        else:
            for datagram in datagrams:
                self._send(datagram)

    def _send_segments(self, datagrams: Sequence[bytes]) -> None:
        """One system call per run of equal sizes; a frame is one or two runs."""
        start = 0
        while start < len(datagrams):
            size = len(datagrams[start])
            end = start + 1
            while end < len(datagrams) and len(datagrams[end]) == size:
                end += 1
            sock = self._sock
            if sock is None:
                return
            control = [(socket.SOL_UDP, UDP_SEGMENT, struct.pack("=H", size))]
            try:
                sock.sendmsg([b"".join(datagrams[start:end])], control)
            except BlockingIOError:
                pass  # lost like in any full queue; the server asks again
            except OSError:
                self._gso = False  # this kernel or device cannot segment
                for datagram in datagrams[start:end]:
                    self._send(datagram)
            start = end

    def _send_audio(self) -> None:
        outbound = self._outbound
        if outbound is None:
            return
        self._audio_seq = (self._audio_seq + 1) & SEQ_MASK
        elapsed_s = self._next_audio - self._started
        timestamp = (self._audio_timestamp + round(elapsed_s * AUDIO_CLOCK_HZ)) & TIMESTAMP_MASK
        payload = self.lesson.audio_packet()
        stamp(payload, monotonic_ns())
        head = header(OPUS_PAYLOAD_TYPE, False, self._audio_seq, timestamp, self._sources.audio)
        self._send(outbound.protect(head + payload))
        self._audio_octets += len(payload)
        self.audio_packets += 1

    def _report(self) -> None:
        now = monotonic()
        ntp = rtcp.ntp_from_unix(time.time())
        for ssrc, first, clock_hz, packets, octets in (
            (
                self._sources.video,
                self._video_timestamp,
                VIDEO_CLOCK_HZ,
                self.video_packets,
                self._video_octets,
            ),
            (
                self._sources.audio,
                self._audio_timestamp,
                AUDIO_CLOCK_HZ,
                self.audio_packets,
                self._audio_octets,
            ),
        ):
            timestamp = (first + int((now - self._started) * clock_hz)) & TIMESTAMP_MASK
            self.send_rtcp(
                rtcp.sender_report(ssrc, ntp, timestamp, packets, octets, self._sources.cname)
            )
        self._later("report", REPORT_S, self._report)

    # --- feedback ------------------------------------------------------------------------------

    def _on_rtcp(self, packets: Sequence[rtcp.AnyPacket], now: float) -> None:
        for packet in packets:
            if isinstance(packet, rtcp.Nack):
                self._resend(packet)
            elif isinstance(packet, rtcp.PictureLoss | rtcp.FullIntra):
                if len(self.keyframe_request_times) < MAX_EVENTS:
                    self.keyframe_request_times.append(now)
                self.lesson.request_keyframe()
            elif isinstance(packet, rtcp.Remb):
                if len(self.remb_times) < MAX_EVENTS:
                    self.remb_times.append(now)
                self.remb_bps = packet.bitrate_bps
            elif isinstance(packet, rtcp.ReceiverReport):
                for block in packet.blocks:
                    if block.ssrc == self._sources.video:
                        self.packets_reported_lost = block.packets_lost

    def _resend(self, nack: rtcp.Nack) -> None:
        """RFC 4588 section 4: the original's payload behind its sequence number."""
        outbound = self._outbound
        if outbound is None or nack.media_ssrc != self._sources.video:
            return
        self.nacked_packets += len(nack.sequence_numbers)
        for seq in nack.sequence_numbers:
            held = self._ring.get(seq)
            if held is None:
                continue
            timestamp, marker, payload = held
            self._rtx_seq = (self._rtx_seq + 1) & SEQ_MASK
            head = header(
                VP8_RTX_PAYLOAD_TYPE, marker, self._rtx_seq, timestamp, self._sources.video_rtx
            )
            self._send(outbound.protect(head + seq.to_bytes(2, "big") + payload))
            self.resent_packets += 1

    @property
    def least_request_spacing_s(self) -> float | None:
        """The shortest time between two key-frame requests; None with fewer than two."""
        times = self.keyframe_request_times
        return min((b - a for a, b in pairwise(times)), default=None)
