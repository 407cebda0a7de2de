"""The transport of a light peer: an offer by HTTP, then ICE, DTLS and SRTP on one UDP socket.

Everything after the HTTP answer happens in callbacks of the loop: a connected peer owns no task.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
import socket
from collections.abc import Callable, Sequence
from time import monotonic
from urllib.parse import urlsplit

from streamer import rtcp, stun
from streamer.description import Candidate
from streamer.dtls import DtlsFailure, DtlsTransport
from streamer.errors import InvalidSdpError, PacketError
from streamer.ice import candidate_priority
from streamer.sdp import parse_description
from streamer.srtp import PinnedBuffer, SrtpContext

from .endpoint import LightFailure, Shared
from .offer import Credentials

FIRST_CHECK_RETRY_S = 0.1
LONGEST_CHECK_RETRY_S = 1.0
CONSENT_INTERVAL_S = 2.5  # what browsers do; RFC 7675 section 5.1 asks for 4 to 6 s at most
CONSENT_SPREAD = 0.2
CONSENT_TIMEOUT_S = 30.0
CHECK_PREFERENCE = 110  # peer-reflexive: RFC 8445 sections 5.1.2.2 and 7.1.1

RECEIVE_BUFFER_BYTES = 2 << 20
SO_RXQ_OVFL = 40  # linux/asm-generic/socket.h: reads tell how many datagrams did not fit
SO_RCVBUFFORCE = 33  # works with CAP_NET_ADMIN only

# One buffer for all peers of the process: each read is used up before the next.
inbox = PinnedBuffer(65536)


def choose_candidate(candidates: Sequence[Candidate], url_host: str) -> tuple[str, int]:
    """The server's UDP address: the one the URL names if it is announced, else the first IPv4."""
    udp = [
        candidate
        for candidate in candidates
        if candidate.transport.lower() == "udp" and candidate.component == 1
    ]
    if not udp:
        raise LightFailure("no-udp-candidate")
    same = ("127.0.0.1", "::1") if url_host == "localhost" else (url_host,)
    for candidate in udp:
        if candidate.host in same:
            return candidate.host, candidate.port
    for candidate in udp:
        if ":" not in candidate.host:
            return candidate.host, candidate.port
    return udp[0].host, udp[0].port


class LightPeer:
    """One session with a server. Subclasses write the offer and say what arrives.

    `overflows` counts datagrams that our own receive buffer could not take.
    """

    __slots__ = (
        "_check",
        "_connected",
        "_credentials",
        "_dtls",
        "_fingerprint",
        "_inbound",
        "_last_consent",
        "_location",
        "_loop",
        "_outbound",
        "_remote",
        "_shared",
        "_sock",
        "_tie_breaker",
        "_timers",
        "_token",
        "_transaction",
        "connected_at",
        "ended",
        "overflows",
        "requested_at",
        "url",
    )

    def __init__(self, shared: Shared, url: str, token: str) -> None:
        self.url = url
        self.requested_at = 0.0
        self.connected_at: float | None = None
        self.ended: str | None = None
        self.overflows = 0
        self._shared = shared
        self._loop = shared.loop
        self._token = token
        self._credentials = Credentials.fresh()
        self._remote = Credentials("", "")
        self._tie_breaker = secrets.randbits(64)
        self._check = b""
        self._transaction = b""
        self._sock: socket.socket | None = None
        self._dtls: DtlsTransport | None = None
        self._inbound: SrtpContext | None = None
        self._outbound: SrtpContext | None = None
        self._connected: asyncio.Future[None] | None = None
        self._last_consent = 0.0
        self._location: str | None = None
        self._timers: dict[str, asyncio.TimerHandle] = {}

    # --- what subclasses do --------------------------------------------------------------------

    def _offer(self) -> str:
        raise NotImplementedError

    def _open_socket(self, sock: socket.socket) -> None:
        """Set further options on the socket."""

    def _on_connected(self, now: float) -> None:
        """DTLS is done."""

    def _on_rtcp(self, packets: Sequence[rtcp.AnyPacket], now: float) -> None:
        """A decrypted, parsed compound packet."""

    def _on_ended(self) -> None:
        """The session is over, by whichever side; `ended` says why."""

    # --- connecting ----------------------------------------------------------------------------

    async def connect(self, timeout_s: float = 20.0) -> None:
        """From the POST to finished DTLS. Raises LightFailure, after which the peer is closed."""
        self.requested_at = monotonic()
        try:
            async with asyncio.timeout(timeout_s):
                answer, self._location = await self._shared.post(
                    self.url, self._token, self._offer()
                )
                self._begin(answer)
                assert self._connected is not None
                await self._connected
        except TimeoutError:
            stage = "http" if self._location is None else "dtls" if self._dtls else "ice"
            await self.close(stage + "-timeout")
            raise LightFailure(stage + "-timeout", f"not done within {timeout_s:g} s") from None
        except LightFailure as failure:
            await self.close(failure.reason)
            raise
        except BaseException:
            self._end("cancelled")
            raise

    def _begin(self, answer: str) -> None:
        """Open the socket that the answer leads to and send the first check."""
        try:
            description = parse_description(answer)
            self._remote = Credentials(description.ice_ufrag, description.ice_pwd)
            fingerprints = description.fingerprints
            setup = description.setup
        except (InvalidSdpError, ValueError) as error:
            raise LightFailure("invalid-answer", str(error)) from error
        if setup == "active":
            raise LightFailure("invalid-answer", "the server must be the passive side of DTLS")
        address = choose_candidate(description.candidates, urlsplit(self.url).hostname or "")
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_DGRAM)
        self._sock = sock
        sock.setblocking(False)
        try:
            sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER_BYTES)
        except OSError:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        sock.setsockopt(socket.SOL_SOCKET, SO_RXQ_OVFL, 1)
        self._open_socket(sock)
        try:
            sock.connect(address)
        except OSError as error:
            raise LightFailure("no-route", str(error)) from error
        self._fingerprint = fingerprints
        self._connected = self._loop.create_future()
        self._loop.add_reader(sock.fileno(), self._readable)
        self._new_check()
        self._repeat_check(FIRST_CHECK_RETRY_S)

    # --- ICE: we are the controlling side, the server is lite ----------------------------------

    def _new_check(self) -> None:
        self._transaction = secrets.token_bytes(12)
        self._check = stun.binding_request(
            self._transaction,
            f"{self._remote.ufrag}:{self._credentials.ufrag}",
            self._remote.pwd,
            priority=candidate_priority(CHECK_PREFERENCE, 65535),
            controlling_tie_breaker=self._tie_breaker,
            use_candidate=True,
        )
        self._send(self._check)

    def _repeat_check(self, delay_s: float) -> None:
        """Until the first response: the same request again, ever more slowly (RFC 8489 6.2.1)."""

        def again() -> None:
            self._send(self._check)
            self._repeat_check(min(LONGEST_CHECK_RETRY_S, delay_s * 2))

        self._later("check", delay_s, again)

    def _consent(self) -> None:
        """RFC 7675: keep asking whether the server still wants to hear from us, and we it."""
        if monotonic() - self._last_consent > CONSENT_TIMEOUT_S:
            self._end("consent-expired")
            return
        self._new_check()
        spread = random.uniform(1 - CONSENT_SPREAD, 1 + CONSENT_SPREAD)
        self._later("check", CONSENT_INTERVAL_S * spread, self._consent)

    def _on_stun(self, data: bytes, now: float) -> None:
        try:
            message = stun.parse(data)
        except PacketError:
            return
        if message.transaction_id != self._transaction:
            return
        if message.type == stun.BINDING_ERROR:
            self._fail(f"ice-refused {message.error[0] if message.error else ''}".strip())
            return
        if message.type != stun.BINDING_SUCCESS or not stun.verify_integrity(
            message, self._remote.pwd.encode()
        ):
            return
        self._last_consent = now
        if self._dtls is None:
            spread = random.uniform(1 - CONSENT_SPREAD, 1 + CONSENT_SPREAD)
            self._later("check", CONSENT_INTERVAL_S * spread, self._consent)
            self._dtls = DtlsTransport(self._shared.identity, self._fingerprint, client=True)
            self._advance(self._dtls.start())

    # --- DTLS ----------------------------------------------------------------------------------

    def _on_dtls(self, data: bytes, now: float) -> None:
        dtls = self._dtls
        if dtls is None:
            return
        try:
            datagrams = dtls.receive(data)
        except DtlsFailure as failure:
            self._fail("dtls-failed", str(failure))
            return
        self._advance(datagrams)
        if dtls.keys is not None and self.connected_at is None:
            self._inbound = dtls.keys.inbound
            self._outbound = dtls.keys.outbound
            self.connected_at = now
            self._shared.tally.connect_s.append(now - self.requested_at)
            if self._connected is not None and not self._connected.done():
                self._connected.set_result(None)
            self._on_connected(now)
        elif dtls.closed:
            self._end("closed-by-server")

    def _advance(self, datagrams: Sequence[bytes]) -> None:
        for datagram in datagrams:
            self._send(datagram)
        timeout_s = self._dtls.timeout_s() if self._dtls is not None else None
        if timeout_s is not None:
            self._later("dtls", max(0.01, timeout_s), self._dtls_timeout)

    def _dtls_timeout(self) -> None:
        if self._dtls is None or self._dtls.keys is not None:
            return
        try:
            datagrams = self._dtls.handle_timeout()
        except DtlsFailure as failure:
            self._fail("dtls-failed", str(failure))
            return
        self._advance(datagrams)

    # --- datagrams -----------------------------------------------------------------------------

    def _readable(self) -> None:
        """Read what there is; a publisher gets checks and feedback only, so nothing hot here."""
        sock = self._sock
        while sock is not None and sock.fileno() >= 0:
            try:
                size = sock.recv_into(inbox.data)
            except BlockingIOError:
                return
            except OSError:
                return  # a queued ICMP error: consent decides whether the server is gone
            self._on_datagram(0, size, monotonic())

    def _on_datagram(self, start: int, end: int, now: float) -> None:
        """Anything but RTP, told apart by its first byte (RFC 7983)."""
        if end - start < 2:
            return
        data = inbox.data
        first = data[start]
        if first <= 3:
            self._on_stun(bytes(data[start:end]), now)
        elif 20 <= first <= 63:
            self._on_dtls(bytes(data[start:end]), now)
        elif first & 0xC0 == 0x80 and 192 <= data[start + 1] <= 223 and self._inbound is not None:
            size = end - start
            if start:
                data[:size] = data[start:end]  # libsrtp is given the start of the buffer
            plain = self._inbound.unprotect_rtcp(inbox, size)
            if plain < 0:
                return
            try:
                packets = rtcp.parse(bytes(inbox.view[:plain]))
            except PacketError:
                return
            self._on_rtcp(packets, now)

    def _send(self, datagram: bytes) -> None:
        if self._sock is not None:
            # Full queues and ICMP errors are losses like those of any network.
            with contextlib.suppress(OSError):
                self._sock.send(datagram)

    def send_rtcp(self, packet: bytes) -> None:
        """Encrypt and send a compound RTCP packet, once there are keys."""
        if self._outbound is not None:
            protected = self._outbound.protect_rtcp(packet)
            if protected:
                self._send(protected)

    # --- time and departure --------------------------------------------------------------------

    def _later(self, name: str, delay_s: float, callback: Callable[[], None]) -> None:
        """One timer of each name: setting it again replaces it."""
        old = self._timers.pop(name, None)
        if old is not None:
            old.cancel()
        if self.ended is None:
            self._timers[name] = self._loop.call_later(delay_s, callback)

    def _fail(self, reason: str, detail: str = "") -> None:
        """Before we are connected the caller of `connect` hears of it; later it is the end."""
        if self._connected is not None and not self._connected.done():
            self._connected.set_exception(LightFailure(reason, detail))
        else:
            self._end(reason)

    def _end(self, reason: str, *, goodbye: bool = True) -> None:
        """Stop for good; `goodbye` tells the server by DTLS, where no DELETE will."""
        if self.ended is not None:
            return
        self.ended = reason
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        if self._sock is not None:
            if goodbye and self._dtls is not None:
                for datagram in self._dtls.close():
                    self._send(datagram)
            self._loop.remove_reader(self._sock.fileno())
            self._sock.close()
            self._sock = None
        self._on_ended()

    async def close(self, reason: str = "closed") -> bool:
        """Free the socket and DELETE the session; False when the server did not take the DELETE."""
        location, self._location = self._location, None
        self._end(reason, goodbye=location is None)
        return location is None or await self._shared.delete(location, self._token)
