"""A WebRTC peer whose every byte a test decides: ICE, DTLS and SRTP as a client, nothing else.

Built from the streamer's own STUN, DTLS and SRTP (as a client), so it is authentic and may then
behave as badly as a test wants. It shares the event loop with the worker under test.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import random
import secrets
import socket
import struct
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Literal

from streamer import ice, rtcp, stun
from streamer.description import Description
from streamer.dtls import DtlsTransport, Identity, generate_identity
from streamer.sdp import parse_description
from streamer.srtp import PinnedBuffer, SrtpContext

Role = Literal["publisher", "receiver"]

IDENTITY = Identity(*generate_identity())
VP8, RTX, OPUS = 96, 97, 111
TAG_BYTES = 16
KEPT_RTCP = 10_000
CONNECT_LIMIT_S = 10.0
STEP_S = 0.05
RTP_HEADER = struct.Struct("!BBHII")


@dataclass
class Stream:
    """What came of one SSRC, by sequence number; of streams shorter than 2^15 packets."""

    payload_type: int
    digests: dict[int, bytes] = field(default_factory=dict)
    octets: int = 0
    resent: int = 0
    nonces_reused: int = 0

    @property
    def packets(self) -> int:
        return len(self.digests)

    def note(self, seq: int, protected: memoryview) -> bool:
        """Take a packet as it came; False when its number came before.

        The same number with other bytes is the same nonce for two texts, which gives away the key
        (RFC 7714 section 8.1).
        """
        digest = hashlib.blake2b(protected, digest_size=16).digest()
        before = self.digests.setdefault(seq, digest)
        if before is digest:
            return True
        self.resent += 1
        self.nonces_reused += before != digest
        return False

    @property
    def holes(self) -> list[int]:
        """The numbers between the first and the last that did not come."""
        if not self.digests:
            return []
        start = next(iter(self.digests))
        offsets = [((seq - start + 0x8000) & 0xFFFF) - 0x8000 for seq in self.digests]
        return [
            seq
            for offset in range(min(offsets), max(offsets))
            if (seq := (start + offset) & 0xFFFF) not in self.digests
        ]

    @property
    def missing(self) -> int:
        return len(self.holes)


class RawPeer:
    """`offer` → the worker's answer → `connect`; then `send_…`, and what came back."""

    def __init__(self, role: Role, seed: int = 0) -> None:
        self.role = role
        self.ufrag, self.pwd = ice.generate_ufrag(), ice.generate_pwd()
        self.random = random.Random(seed)
        self.video_ssrc = self.random.randrange(1, 2**32)
        self.rtx_ssrc = self.random.randrange(1, 2**32)
        self.audio_ssrc = self.random.randrange(1, 2**32)
        self.streams: dict[int, Stream] = {}
        self.rtcp_received: deque[tuple[float, rtcp.AnyPacket]] = deque(maxlen=KEPT_RTCP)
        self.checks_answered = 0
        self.stun_errors: list[int] = []
        self.said_goodbye = False
        self.repaired: set[int] = set()
        self.undecipherable = 0
        self.blanked = 0
        self.on_nack: Callable[[Sequence[int]], None] | None = None
        self.remote: Description
        self._dtls: DtlsTransport
        self._sending: SrtpContext | None = None
        self._receiving: SrtpContext | None = None
        self._inbox = PinnedBuffer(65536)
        self._transactions: set[bytes] = set()
        self._numbers = itertools.count(self.random.randrange(0x4000))
        self._rtx_numbers = itertools.count(self.random.randrange(0x4000))
        self._loop = asyncio.get_running_loop()
        self._sock = self._new_socket()

    @property
    def offer(self) -> str:
        publishes = self.role == "publisher"
        direction = "sendonly" if publishes else "recvonly"
        lines = [
            "v=0",
            f"o=- {secrets.randbelow(2**62)} 2 IN IP4 127.0.0.1",
            "s=-",
            "t=0 0",
            "a=group:BUNDLE 0 1",
            f"a=ice-ufrag:{self.ufrag}",
            f"a=ice-pwd:{self.pwd}",
            f"a=fingerprint:sha-256 {IDENTITY.fingerprint}",
            "a=setup:actpass",
            f"m=video 9 UDP/TLS/RTP/SAVPF {VP8} {RTX}",
            "c=IN IP4 0.0.0.0",
            "a=mid:0",
            f"a={direction}",
            "a=rtcp-mux",
            "a=extmap:2 http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time",
            f"a=rtpmap:{VP8} VP8/90000",
            *(f"a=rtcp-fb:{VP8} {item}" for item in ("nack", "nack pli", "ccm fir", "goog-remb")),
            f"a=rtpmap:{RTX} rtx/90000",
            f"a=fmtp:{RTX} apt={VP8}",
        ]
        if publishes:
            lines += [
                f"a=ssrc-group:FID {self.video_ssrc} {self.rtx_ssrc}",
                f"a=ssrc:{self.video_ssrc} cname:raw",
                f"a=ssrc:{self.rtx_ssrc} cname:raw",
            ]
        lines += [
            f"m=audio 9 UDP/TLS/RTP/SAVPF {OPUS}",
            "c=IN IP4 0.0.0.0",
            "a=mid:1",
            f"a={direction}",
            "a=rtcp-mux",
            f"a=rtpmap:{OPUS} opus/48000/2",
        ]
        if publishes:
            lines.append(f"a=ssrc:{self.audio_ssrc} cname:raw")
        return "\r\n".join(lines) + "\r\n"

    # --- connecting ----------------------------------------------------------------------------

    def _new_socket(self) -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        sock.setblocking(False)
        return sock

    async def connect(self, answer: str) -> None:
        """Check, shake hands, and be ready to send; AssertionError when that takes too long."""
        self.remote = parse_description(answer)
        candidate = next(one for one in self.remote.candidates if one.transport == "udp")
        self._sock.connect((candidate.host, candidate.port))
        self._loop.add_reader(self._sock.fileno(), self._read)
        self._dtls = DtlsTransport(IDENTITY, self.remote.fingerprints, client=True)
        give_up_at = monotonic() + CONNECT_LIMIT_S
        started = False
        while self._sending is None:
            assert monotonic() < give_up_at, "no DTLS connection"
            if not self.checks_answered:
                self.check()
            elif not started:
                started = True
                self._send_all(self._dtls.start())
            else:
                self._send_all(self._dtls.handle_timeout())
            await asyncio.sleep(STEP_S)

    def check(self, *, nominate: bool = True) -> None:
        """Send a connectivity check, which is also our consent."""
        transaction = self.random.randbytes(12)
        self._transactions.add(transaction)
        self.send_raw(
            stun.binding_request(
                transaction,
                f"{self.remote.ice_ufrag}:{self.ufrag}",
                self.remote.ice_pwd,
                priority=1,
                controlling_tie_breaker=1,
                use_candidate=nominate,
            )
        )

    def move(self) -> None:
        """Go on from another port, as after a change of network; the next check tells it."""
        target = self._sock.getpeername()
        self.close()
        self._sock = self._new_socket()
        self._sock.connect(target)
        self._loop.add_reader(self._sock.fileno(), self._read)

    def close(self) -> None:
        """Fall silent without a word."""
        if self._sock.fileno() >= 0:
            self._loop.remove_reader(self._sock.fileno())
            self._sock.close()

    # --- sending -------------------------------------------------------------------------------

    def send_raw(self, datagram: bytes) -> None:
        self._sock.send(datagram)

    def _send_all(self, datagrams: Sequence[bytes]) -> None:
        for datagram in datagrams:
            self.send_raw(datagram)

    def send_rtp(self, packet: bytes) -> None:
        """Protect and send a whole RTP packet, however absurd."""
        assert self._sending is not None, "not connected"
        protected = self._sending.protect(packet)
        if protected:
            self.send_raw(protected)

    def send_rtcp(self, compound: bytes) -> None:
        assert self._sending is not None, "not connected"
        protected = self._sending.protect_rtcp(compound)
        if protected:
            self.send_raw(protected)

    def video_packet(
        self, timestamp: int, *, keyframe: bool = False, last: bool = True, size: int = 1000
    ) -> bytes:
        """The next packet of a VP8 stream; a frame's only one unless `last` is unset."""
        head = RTP_HEADER.pack(
            0x80,
            VP8 | (0x80 if last else 0),
            next(self._numbers) & 0xFFFF,
            timestamp & 0xFFFFFFFF,
            self.video_ssrc,
        )
        # RFC 7741: start of partition 0, then a frame header whose lowest bit tells "no key frame".
        return head + bytes((0x10, 0 if keyframe else 1)) + bytes(size)

    def retransmit(self, seq: int, timestamp: int, payload: bytes) -> None:
        """RFC 4588: an earlier packet again, in the stream for repairs."""
        number = next(self._rtx_numbers) & 0xFFFF
        head = RTP_HEADER.pack(0x80, RTX, number, timestamp & 0xFFFFFFFF, self.rtx_ssrc)
        self.send_rtp(head + seq.to_bytes(2, "big") + payload)

    # --- what came -----------------------------------------------------------------------------

    @property
    def received_video(self) -> Stream:
        """Of a receiver: the picture, without what was resent."""
        return next((s for s in self.streams.values() if s.payload_type == VP8), Stream(VP8))

    @property
    def resent_video(self) -> Stream:
        return next((s for s in self.streams.values() if s.payload_type == RTX), Stream(RTX))

    def holes(self) -> list[int]:
        """What of the picture came neither at first nor as a repair (RFC 4588)."""
        return [seq for seq in self.received_video.holes if seq not in self.repaired]

    @property
    def nonces_reused(self) -> int:
        return sum(stream.nonces_reused for stream in self.streams.values())

    @property
    def received_video_ssrc(self) -> int:
        return next(ssrc for ssrc, s in self.streams.items() if s.payload_type == VP8)

    def rtcp_of(self, kind: type[rtcp.AnyPacket]) -> list[tuple[float, rtcp.AnyPacket]]:
        return [(when, packet) for when, packet in self.rtcp_received if isinstance(packet, kind)]

    def _read(self) -> None:
        for _ in range(256):
            try:
                size = self._sock.recv_into(self._inbox.data)
            except BlockingIOError:
                return
            except OSError:
                return  # the worker's port is closed
            self._take(size)

    def _take(self, size: int) -> None:
        first = self._inbox.data[0]
        if first <= 3:
            self._take_stun(bytes(self._inbox.view[:size]))
        elif 20 <= first <= 63:
            self._send_all(self._dtls.receive(bytes(self._inbox.view[:size])))
            if self._dtls.keys is not None:
                self._sending = self._dtls.keys.outbound
                self._receiving = self._dtls.keys.inbound
            self.said_goodbye = self._dtls.closed
        elif self._receiving is None:
            return
        elif 192 <= self._inbox.data[1] <= 223:
            plain = self._receiving.unprotect_rtcp(self._inbox, size)
            if plain < 0:
                self.undecipherable += 1
                return
            now = monotonic()
            for packet in rtcp.parse(bytes(self._inbox.view[:plain])):
                self.rtcp_received.append((now, packet))
                if isinstance(packet, rtcp.Nack) and self.on_nack is not None:
                    self.on_nack(packet.sequence_numbers)
        else:
            self._take_rtp(self._receiving, size)

    def _take_stun(self, data: bytes) -> None:
        message = stun.parse(data)
        if message.error is not None:
            self.stun_errors.append(message.error[0])
        elif message.transaction_id in self._transactions:
            self._transactions.discard(message.transaction_id)
            self.checks_answered += 1

    def _take_rtp(self, receiving: SrtpContext, size: int) -> None:
        first, second, seq, _timestamp, ssrc = RTP_HEADER.unpack_from(self._inbox.data)
        if size > 12 + TAG_BYTES and not any(self._inbox.view[12 : size - TAG_BYTES]):
            self.blanked += 1  # the worker could not encrypt it, and sent no more than a header
            return
        stream = self.streams.setdefault(ssrc, Stream(second & 0x7F))
        if not stream.note(seq, self._inbox.view[:size]):
            return
        plain = receiving.unprotect(self._inbox, size)
        if plain < 12:
            self.undecipherable += 1
        elif stream.payload_type == RTX and plain >= 14:
            at = 12 + 4 * (first & 0x0F)
            if first & 0x10:
                at += 4 + 4 * int.from_bytes(self._inbox.data[at + 2 : at + 4], "big")
            self.repaired.add(int.from_bytes(self._inbox.data[at : at + 2], "big"))
        stream.octets += max(0, plain)
