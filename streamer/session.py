"""One WebRTC transport of a peer: ICE-lite, DTLS and SRTP over whichever paths reach it.

The base of publisher and receiver sessions. Datagrams come from the port, are told apart by their
first byte (RFC 7983), and end up in `on_rtp` or `on_rtcp` of the subclass, decrypted.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Literal

from . import control, ice, rtcp
from .dtls import DtlsFailure, DtlsTransport, Identity
from .errors import PacketError
from .paths import Path
from .port import inbox
from .srtp import SrtpContext

log = logging.getLogger(__name__)

NEVER_CONNECTED_S = 20.0
DISCONNECTED_AFTER_S = 8.0  # browsers check every 2.5 s or so
IDLE_PATH_S = 5.0
RETIRE_DTLS_S = 10.0  # longer than the peer would repeat its last handshake flight
# After DTLS has retired a goodbye cannot be read; silence after some DTLS record tells as much, and
# a forged record cannot end a session whose peer goes on checking.
GOODBYE_SILENCE_S = 6.0
MAX_RTP_BYTES = 1600  # larger would not have crossed any real network in one piece

Role = Literal["publisher", "receiver"]


class Session:
    """Transport state of one peer. Subclasses say what to do with what arrives.

    `notify(session, state, reason)` is called on every change of state; `closed` comes once.
    """

    role: Role = "receiver"

    def __init__(
        self,
        session_id: str,
        output_id: str,
        *,
        identity: Identity,
        fingerprints: Sequence[tuple[str, str]],
        agent: ice.LiteAgent,
        counters: control.Counters,
        notify: Callable[[Session, control.SessionState, str], None],
        now: float,
    ) -> None:
        self.id = session_id
        self.output_id = output_id
        self.ice = agent
        self.dtls = DtlsTransport(identity, fingerprints)
        self.counters = counters
        self.outbound: SrtpContext | None = None
        self.inbound: SrtpContext | None = None
        self.paths: list[Path] = []
        self.path: Path | None = None
        self.state: control.SessionState = "new"
        self.created_at = now
        self.connected_at: float | None = None
        self.rtt_s: float | None = None
        self._notify = notify

    # --- what subclasses do --------------------------------------------------------------------

    def on_connected(self, now: float) -> None:
        """DTLS is done: media may flow."""

    def on_path_changed(self, now: float) -> None:
        """`self.path` is another one than before."""

    def on_rtp(self, size: int, now: float) -> None:
        """A decrypted RTP packet lies in the inbox."""

    def on_rtcp(self, packets: Sequence[rtcp.AnyPacket], now: float) -> None:
        """A decrypted, parsed compound RTCP packet."""

    def on_closed(self, now: float) -> None:
        """The session is over; nothing more will be sent."""

    def periodic(self, now: float) -> None:
        """Called every quarter of a second while connected: reports."""

    # --- arrival -------------------------------------------------------------------------------

    def datagram(self, size: int, path: Path, now: float) -> None:
        """A datagram of this peer lies in the inbox, `size` bytes long."""
        if size < 1:
            return
        data = inbox.data
        first = data[0]
        path.last_received = now
        if first & 0xC0 == 0x80:
            inbound = self.inbound
            if inbound is None:
                self._drop("before-dtls")
            elif size < 12:
                self._drop("short")
            elif 192 <= data[1] <= 223:  # RFC 5761 section 4
                self._rtcp(inbound, size, now)
            elif size > MAX_RTP_BYTES:
                self._drop("oversize-rtp")
            else:
                plain = inbound.unprotect(inbox, size)
                if plain < 0:
                    self._drop("srtp-rejected")
                else:
                    self.on_rtp(plain, now)
        elif first <= 3:
            self.check(bytes(inbox.view[:size]), path, now)
        elif 20 <= first <= 63:
            self._dtls(bytes(inbox.view[:size]), path, now)
        else:
            self._drop("unknown-protocol")

    def _rtcp(self, inbound: SrtpContext, size: int, now: float) -> None:
        plain = inbound.unprotect_rtcp(inbox, size)
        if plain < 0:
            self._drop("srtcp-rejected")
            return
        try:
            packets = rtcp.parse(bytes(inbox.view[:plain]))
        except PacketError:
            self._drop("bad-rtcp")
            return
        self.on_rtcp(packets, now)

    def check(self, data: bytes, path: Path, now: float) -> bool:
        """A STUN message; True when it was an authentic connectivity check of this session."""
        result = self.ice.receive(data, path.key, now, reflect=path.remote)
        if result.response is not None:
            path.send(result.response)
        if not result.accepted:
            self._drop(f"stun-{result.reason or 'rejected'}")
            return False
        path.last_received = now
        if path not in self.paths:
            self.paths.append(path)
        if self.path is None or result.nominated:
            self._use(path, now)
        if self.state == "new":
            self._change("connecting", "")
        elif self.state == "disconnected":
            self._change("connected", "")
        return True

    def _use(self, path: Path, now: float) -> None:
        if path is self.path:
            return
        self.path = path
        if self.connected_at is not None:
            self.on_path_changed(now)

    def _dtls(self, data: bytes, path: Path, now: float) -> None:
        dtls = self.dtls
        pending = dtls.keys is None
        try:
            for datagram in dtls.receive(data):
                path.send(datagram)
        except DtlsFailure as failure:
            log.info("session %s: %s", self.id, failure)
            self._drop("dtls-failed")
            self.close("dtls-failed", now)
            return
        if pending and dtls.keys is not None:
            self.outbound = dtls.keys.outbound
            self.inbound = dtls.keys.inbound
            self.connected_at = now
            if self.path is None:
                self.path = path
            self._change("connected", "")
            self.on_connected(now)
        elif dtls.closed:
            self.close("dtls-closed", now)

    # --- paths ---------------------------------------------------------------------------------

    def drop_idle_path(self) -> bool:
        """Close the longest-silent path that is not in use; False when there is none."""
        idle = [path for path in self.paths if path is not self.path]
        if not idle:
            return False
        oldest = min(idle, key=lambda path: path.last_received)
        self.paths.remove(oldest)
        oldest.close()
        return True

    def _leave_silent_path(self, now: float) -> None:
        """Follow a peer whose address changed, though it nominates only once (aioice does)."""
        path = self.path
        if path is not None and now - path.last_received > IDLE_PATH_S:
            self._use(max(self.paths, key=lambda other: other.last_received), now)

    def path_lost(self, path: Path, now: float) -> None:
        """A TCP connection has ended."""
        if path in self.paths:
            self.paths.remove(path)
        self.ice.forget(path.key)
        if path is self.path:
            self.path = None  # the next authentic check brings another
            if self.paths:
                self._use(max(self.paths, key=lambda other: other.last_received), now)

    # --- departure -----------------------------------------------------------------------------

    def send_rtcp(self, packet: bytes) -> None:
        if self.outbound is not None and self.path is not None:
            protected = self.outbound.protect_rtcp(packet)
            if protected:
                self.path.send(protected)

    def close(self, reason: str, now: float | None = None) -> None:
        """End the session: say so to the peer, free its sockets, tell the owner once."""
        if self.state == "closed":
            return
        if self.path is not None:
            for datagram in self.dtls.close():
                self.path.send(datagram)
        self.on_closed(monotonic() if now is None else now)
        for path in self.paths:
            path.close()
        self.paths.clear()
        self.path = None
        self.outbound = self.inbound = None
        self._change("closed", reason)

    # --- time ----------------------------------------------------------------------------------

    def handshake_tick(self, now: float) -> None:
        """Every 100 ms until DTLS is done: retransmit flights, give up in the end."""
        if now - self.created_at > NEVER_CONNECTED_S:
            self.close("never-connected", now)
            return
        if self.path is None:
            return
        try:
            timeout = self.dtls.timeout_s()
            if timeout is not None and timeout <= 0:
                for datagram in self.dtls.handle_timeout():
                    self.path.send(datagram)
        except DtlsFailure:
            self.close("dtls-failed", now)

    def tick(self, now: float) -> None:
        """Every quarter of a second once connected: consent (RFC 7675), idle paths, reports."""
        if self.connected_at is not None and now - self.connected_at > RETIRE_DTLS_S:
            self.dtls.retire()
        if self.dtls.heard_after_retiring and now - self.ice.last_check > GOODBYE_SILENCE_S:
            self.close("dtls-closed", now)
            return
        if self.ice.expired(now):
            self.close("consent-expired", now)
            return
        if self.state == "connected" and now - self.ice.last_check > DISCONNECTED_AFTER_S:
            self._change("disconnected", "no connectivity checks")
        if len(self.paths) > 1:
            self._leave_silent_path(now)
            for path in self.paths[:]:
                if path is not self.path and now - path.last_received > IDLE_PATH_S:
                    self.paths.remove(path)
                    path.close()
        self.periodic(now)

    # --- helpers -------------------------------------------------------------------------------

    def _change(self, state: control.SessionState, reason: str) -> None:
        if state != self.state:
            self.state = state
            self._notify(self, state, reason)

    def _drop(self, reason: str) -> None:
        drops = self.counters.drops
        drops[reason] = drops.get(reason, 0) + 1

    def track_stats(self) -> list[control.TrackStats]:
        return []

    def stats(self, now: float) -> control.SessionStats:
        path = self.path
        return control.SessionStats(
            session_id=self.id,
            output_id=self.output_id,
            role=self.role,
            state=self.state,
            transport="" if path is None else ("tcp" if path.transport == "tcp" else "udp"),
            remote="" if path is None else f"{path.remote[0]}:{path.remote[1]}",
            srtp_profile="" if self.outbound is None else self.outbound.profile.name,
            rtt_ms=None if self.rtt_s is None else round(self.rtt_s * 1000, 1),
            connected_s=0.0 if self.connected_at is None else now - self.connected_at,
            tracks=self.track_stats(),
        )
