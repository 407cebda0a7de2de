"""A light WHEP receiver: handshakes and reports like a browser, counts all packets, decrypts few.

The clear RTP header tells what came and what is missing; a sample of packets is decrypted to check
keys and to read the sending time. Until its first complete key frame a receiver decrypts all.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import socket
from collections.abc import Sequence
from struct import Struct
from time import monotonic, monotonic_ns

from streamer import rtcp
from streamer.codecs import KEYFRAME_TESTS
from streamer.srtp import unprotect_rtp

from .endpoint import Shared
from .lesson import read_stamp
from .offer import (
    CODEC_BY_PAYLOAD_TYPE,
    OPUS_PAYLOAD_TYPE,
    RTX_PAYLOAD_TYPES,
    receiver_offer,
)
from .peer import SO_RXQ_OVFL, LightPeer, inbox
from .reception import KeyframeWatch, StreamReception

UDP_GRO = 104  # linux/udp.h; the socket module names neither
SOL_UDP = 17
ANCILLARY_BYTES = 96
READS_PER_WAKEUP = 8  # then the others get their turn; a frame is one read where GRO works

FIRST_DECRYPTED = 50
DEFAULT_SAMPLE = 0.02
REPLAYED = (9, 10)  # libsrtp's srtp_err_status_replay_fail and _old: a duplicate, not a bad key

# What Chromium 156 does when goog-remb and abs-send-time are agreed, transport-cc is not.
VIDEO_REPORT_S = 0.67  # receiver report with REMB
AUDIO_REPORT_S = 1.0
REPORT_SPREAD = 0.2
REMB_BPS = 20_000_000
KEYFRAME_WAIT_S = 1.0
REPAIR_TICK_S = 0.01

_header = Struct("!BBHII").unpack_from
_int = Struct("=i").unpack


class LightReceiver(LightPeer):
    """`connect` negotiates; `joined` waits for the first complete key frame; then it counts.

    `sample` is the part of packets that are decrypted, `gro` whether one read may take a whole
    burst (what a network card's offload would do; without it each packet costs a system call).
    """

    __slots__ = (
        "_cname",
        "_codec_is_key",
        "_countdown",
        "_current",
        "_gro",
        "_joined",
        "_repairing",
        "_sample_step",
        "_ssrc",
        "_streams",
        "_watch",
        "audio",
        "bad_packets",
        "decrypt_failures",
        "decrypted",
        "joined_s",
        "keyframe_requests",
        "nacks",
        "octets",
        "rtx_packets",
        "strange_packets",
        "video",
    )

    def __init__(
        self,
        shared: Shared,
        url: str,
        token: str,
        *,
        sample: float = DEFAULT_SAMPLE,
        gro: bool = True,
    ) -> None:
        super().__init__(shared, url, token)
        self.audio: StreamReception | None = None
        self.video: StreamReception | None = None
        self.joined_s: float | None = None
        self.decrypted = 0
        self.decrypt_failures = 0
        self.bad_packets = 0
        self.strange_packets = 0
        self.rtx_packets = 0
        self.nacks = 0
        self.octets = 0
        self.keyframe_requests = 0
        self._gro = gro
        self._sample_step = 2.0 / sample - 1.0 if sample > 0 else 0.0
        self._countdown = 0
        self._streams: dict[int, StreamReception | None] = {}  # None: retransmissions
        self._current: StreamReception | None = None
        self._watch: KeyframeWatch | None = KeyframeWatch()
        self._codec_is_key = KEYFRAME_TESTS["vp8"]
        self._joined: asyncio.Future[float] = shared.loop.create_future()
        self._repairing = False
        self._ssrc = secrets.randbits(31) | 1
        self._cname = secrets.token_hex(8)

    async def joined(self, timeout_s: float = 20.0) -> float:
        """Seconds from the POST to the first complete key frame. Raises TimeoutError."""
        async with asyncio.timeout(timeout_s):
            return await asyncio.shield(self._joined)

    @property
    def streams(self) -> list[StreamReception]:
        return [stream for stream in (self.audio, self.video) if stream is not None]

    # --- connection ----------------------------------------------------------------------------

    def _offer(self) -> str:
        return receiver_offer(self._credentials, self._shared.identity.fingerprint)

    def _open_socket(self, sock: socket.socket) -> None:
        if self._gro:
            try:
                sock.setsockopt(SOL_UDP, UDP_GRO, 1)
            except OSError:
                self._gro = False  # a kernel without it: one read per packet

    def _on_connected(self, now: float) -> None:
        self._later("keyframe", KEYFRAME_WAIT_S, self._want_keyframe)
        self._later("audio-report", random.random() * AUDIO_REPORT_S, self._report_audio)
        self._later("video-report", random.random() * VIDEO_REPORT_S, self._report_video)

    def _on_ended(self) -> None:
        if not self._joined.done():
            self._joined.cancel()

    # --- the hot loop --------------------------------------------------------------------------

    def _readable(self) -> None:
        """Read bursts until there are no more (or the others' turn has come)."""
        sock = self._sock
        if sock is None:
            return
        receive = sock.recvmsg_into
        buffers = [inbox.data]
        for _ in range(READS_PER_WAKEUP):
            try:
                size, ancillary, _flags, _source = receive(buffers, ANCILLARY_BYTES)
            except OSError:
                return  # nothing more; or a queued ICMP error, about which consent decides
            segment = size
            for level, kind, value in ancillary:
                if level == SOL_UDP and kind == UDP_GRO:
                    segment = _int(value[:4])[0]
                elif level == socket.SOL_SOCKET and kind == SO_RXQ_OVFL:
                    self.overflows = _int(value[:4])[0]
            self._account(size, segment)
            if self._sock is None:
                return

    def _account(self, size: int, segment: int) -> None:
        """Count each packet of a burst: `size` bytes in the inbox, cut every `segment` bytes.

        Written long-handed: at 500 receivers it runs 40,000 times a second and its loop 145,000
        times. `tongke load` prints which part of a core the generator itself has used.
        """
        data = inbox.data
        stream = self._current
        countdown = self._countdown
        self.octets += size
        start = 0
        while start < size:
            end = start + segment
            if end > size:
                end = size
            if end - start < 12:
                self._on_datagram(start, end, monotonic())
                start = end
                continue
            first, second, seq, timestamp, ssrc = _header(data, start)
            if first & 0xC0 != 0x80 or 192 <= second <= 223:
                self._on_datagram(start, end, monotonic())
            else:
                if stream is None or stream.ssrc != ssrc:
                    stream = self._stream_of(ssrc, second & 0x7F, seq)
                if stream is None:
                    self._unusual(start, end, second & 0x7F)
                else:
                    if seq == stream.next_seq:
                        stream.next_seq = (seq + 1) & 0xFFFF
                        stream.packets += 1
                    elif stream.irregular(seq, monotonic()):
                        self._start_repair()
                    countdown -= 1
                    if countdown <= 0:
                        countdown = self._look_inside(stream, start, end, second, seq, timestamp)
            start = end
        self._current = stream
        self._countdown = countdown

    def _stream_of(self, ssrc: int, payload_type: int, seq: int) -> StreamReception | None:
        """The stream of an SSRC, made on its first packet; None for retransmissions and others."""
        try:
            return self._streams[ssrc]
        except KeyError:
            pass
        if len(self._streams) >= 16 or self._inbound is None:
            return None
        stream: StreamReception | None = None
        if payload_type == OPUS_PAYLOAD_TYPE:
            stream = self.audio = StreamReception(ssrc, "audio", seq)
        elif payload_type in CODEC_BY_PAYLOAD_TYPE:
            stream = self.video = StreamReception(ssrc, "video", seq)
            self._codec_is_key = KEYFRAME_TESTS[CODEC_BY_PAYLOAD_TYPE[payload_type]]
        elif payload_type not in RTX_PAYLOAD_TYPES:
            return None
        self._streams[ssrc] = stream
        return stream

    # --- decrypted packets ---------------------------------------------------------------------

    def _decrypt(self, start: int, end: int) -> int:
        """Decrypt in place; the end of the plain packet, or -1."""
        if self._inbound is None:
            return -1
        length = inbox.length
        length[0] = end - start
        status = unprotect_rtp(self._inbound.handle, inbox.at(start), length)
        if status:
            if status not in REPLAYED:
                self.decrypt_failures += 1
            return -1
        self.decrypted += 1
        return start + int(length[0])

    def _payload_offset(self, start: int, end: int) -> int:
        """Where the payload of a decrypted packet begins; -1 when it is not well formed."""
        data = inbox.data
        offset = start + 12 + 4 * (data[start] & 0x0F)
        if data[start] & 0x10:
            if offset + 4 > end:
                return -1
            offset += 4 + 4 * (data[offset + 2] << 8 | data[offset + 3])
        return offset if offset < end else -1

    def _look_inside(
        self,
        stream: StreamReception,
        start: int,
        end: int,
        second: int,
        seq: int,
        timestamp: int,
    ) -> int:
        """Decrypt one packet: for its sending time, and for the first key frame.

        Returns how many packets from here the next one to decrypt is.
        """
        now_ns = monotonic_ns()
        end = self._decrypt(start, end)
        offset = self._payload_offset(start, end) if end >= 0 else -1
        if offset >= 0:
            self._measure(stream, offset, end, timestamp, now_ns)
            if self._watch is not None and stream is self.video:
                payload = bytes(inbox.view[offset:end])
                self._watch_keyframe(seq, timestamp, second >= 0x80, payload, now_ns / 1e9)
        elif end >= 0:
            self.bad_packets += 1
        if self._watch is not None or self.decrypted < FIRST_DECRYPTED:
            return 1
        # Steps of random length: a fixed one would always meet the same packet of a frame.
        step = self._sample_step
        return int(random.random() * step) + 1 if step else 1 << 40

    def _measure(
        self, stream: StreamReception, offset: int, end: int, timestamp: int, now_ns: int
    ) -> None:
        now = now_ns / 1e9
        stream.arrived(timestamp, now)
        sent_ns = read_stamp(inbox.data, offset, end)
        if sent_ns is not None and sent_ns <= now_ns:
            phase = self._shared.tally.phase
            (phase.video if stream is self.video else phase.audio).observe(now_ns - sent_ns)

    def _watch_keyframe(
        self, seq: int, timestamp: int, marker: bool, payload: bytes, now: float
    ) -> None:
        watch = self._watch
        if watch is None or not watch.packet(
            seq, timestamp, marker=marker, starts=self._codec_is_key(payload)
        ):
            return
        self._watch = None
        self.joined_s = now - self.requested_at
        self._shared.tally.join_s.append(self.joined_s)
        timer = self._timers.pop("keyframe", None)
        if timer is not None:
            timer.cancel()
        if not self._joined.done():
            self._joined.set_result(self.joined_s)

    def _unusual(self, start: int, end: int, payload_type: int) -> None:
        """A retransmission (RFC 4588 section 4): its original sequence number is encrypted."""
        if payload_type not in RTX_PAYLOAD_TYPES:
            self.strange_packets += 1
            return
        marker = inbox.data[start + 1] >= 0x80
        timestamp = int.from_bytes(inbox.data[start + 4 : start + 8], "big")
        end = self._decrypt(start, end)
        if end < 0:
            return
        offset = self._payload_offset(start, end)
        if offset < 0 or end - offset <= 2:
            return  # padding that probes for bandwidth
        self.rtx_packets += 1
        video = self.video
        if video is None:
            return
        seq = inbox.data[offset] << 8 | inbox.data[offset + 1]
        video.resent(seq)
        if self._watch is not None:
            payload = bytes(inbox.view[offset + 2 : end])
            self._watch_keyframe(seq, timestamp, marker, payload, monotonic())

    # --- feedback ------------------------------------------------------------------------------

    def _start_repair(self) -> None:
        if not self._repairing:
            self._repairing = True
            self._later("repair", REPAIR_TICK_S, self._repair)

    def _repair(self) -> None:
        now = monotonic()
        open_holes = False
        for stream in self.streams:
            wanted = stream.to_ask(now)
            open_holes = open_holes or bool(stream.missing)
            if wanted and stream is self.video:  # the sound conceals; no NACK is agreed for it
                self.nacks += len(wanted)
                self.send_rtcp(rtcp.nack(self._ssrc, stream.ssrc, wanted))
        self._repairing = open_holes
        if open_holes:
            self._later("repair", REPAIR_TICK_S, self._repair)

    def _want_keyframe(self) -> None:
        if self._watch is None:
            return
        if self.video is not None:
            self.keyframe_requests += 1
            self.send_rtcp(rtcp.picture_loss(self._ssrc, self.video.ssrc))
        self._later("keyframe", KEYFRAME_WAIT_S, self._want_keyframe)

    def _report_audio(self) -> None:
        if self.audio is not None:
            block = self.audio.report_block(monotonic())
            self.send_rtcp(rtcp.receiver_report(self._ssrc, [block], self._cname))
        self._later("audio-report", _spread(AUDIO_REPORT_S), self._report_audio)

    def _report_video(self) -> None:
        if self.video is not None:
            block = self.video.report_block(monotonic())
            report = rtcp.receiver_report(self._ssrc, [block], self._cname)
            report += rtcp.remb(self._ssrc, REMB_BPS, [self.video.ssrc])
            self.send_rtcp(report)
        self._later("video-report", _spread(VIDEO_REPORT_S), self._report_video)

    def _on_rtcp(self, packets: Sequence[rtcp.AnyPacket], now: float) -> None:
        for packet in packets:
            if isinstance(packet, rtcp.SenderReport):
                stream = self._streams.get(packet.ssrc)
                if stream is not None:
                    stream.sender_report(packet.ntp, now)


def _spread(interval_s: float) -> float:
    return interval_s * random.uniform(1 - REPORT_SPREAD, 1 + REPORT_SPREAD)
