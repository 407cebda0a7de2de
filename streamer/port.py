"""The worker's one port: UDP and TCP listeners, and who each arriving datagram belongs to.

An unconnected UDP socket takes first contact. A STUN check that a session vouches for gets its
sender a socket of its own, bound to the same port and connected, which the kernel then prefers.
Between `bind` and `connect` such a socket can catch somebody else's datagram, so every read looks
at the source and hands strays back. (Kernels before 6.13 look up sockets on one port linearly.)
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import struct
from collections.abc import Callable, Sequence
from time import monotonic
from typing import TYPE_CHECKING, Any

import ifaddr

from . import control
from .errors import PacketError
from .framing import Deframer
from .paths import Path, TcpPath, UdpPath
from .srtp import PinnedBuffer

if TYPE_CHECKING:
    from .session import Session

log = logging.getLogger(__name__)

IP_PKTINFO = 8  # linux/in.h
IPV6_RECVPKTINFO = 49  # linux/in6.h
IPV6_PKTINFO = 50
DRAIN_LIMIT = 128  # datagrams read in one wake-up before others get their turn
SEND_BUFFER_BYTES = 1 << 20
RECEIVE_BUFFER_BYTES = 4 << 20
SO_SNDBUFFORCE = 32  # linux/asm-generic/socket.h; works with CAP_NET_ADMIN only
SO_RCVBUFFORCE = 33
MAX_PATHS_PER_SESSION = 6
MAX_PENDING_TCP = 512
TCP_FIRST_CHECK_S = 10.0
TCP_READ_BYTES = 65536
PORT_TRIES = 20

inbox = PinnedBuffer(65536)


def local_addresses(family: int) -> list[str]:
    """The machine's own addresses of a family, loopback last, link-local left out."""
    found: list[str] = []
    for adapter in ifaddr.get_adapters():
        for ip in adapter.ips:
            if ip.is_IPv4 and family == socket.AF_INET:
                found.append(str(ip.ip))
            elif ip.is_IPv6 and family == socket.AF_INET6 and not ip.ip[0].startswith("fe80"):
                found.append(ip.ip[0])
    return sorted(found, key=lambda address: address in ("127.0.0.1", "::1"))


def _force_buffers(sock: socket.socket, send: int, receive: int) -> None:
    for forced, plain, size in (
        (SO_SNDBUFFORCE, socket.SO_SNDBUF, send),
        (SO_RCVBUFFORCE, socket.SO_RCVBUF, receive),
    ):
        try:
            sock.setsockopt(socket.SOL_SOCKET, forced, size)
        except OSError:
            sock.setsockopt(socket.SOL_SOCKET, plain, size)


class Port:
    """All sockets of a worker. `find_session` maps a local ICE ufrag to its session.

    `after_drain` is called once after each batch of datagrams read from one socket.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        gso: bool,
        find_session: Callable[[str], Session | None],
        after_drain: Callable[[float], None],
        drops: dict[str, int],
    ) -> None:
        self._loop = loop
        self._gso = gso
        self._find_session = find_session
        self._after_drain = after_drain
        self._drops = drops
        self._udp: list[socket.socket] = []
        self._tcp: list[socket.socket] = []
        self._pending_tcp: dict[TcpPath, float] = {}
        self._owners: dict[Path, Session] = {}

    # --- opening and closing -------------------------------------------------------------------

    def open(self, binds: Sequence[control.Address]) -> None:
        """Bind every address, UDP and TCP. Raises OSError when one is taken."""
        for bind in binds:
            for attempt in range(PORT_TRIES):
                try:
                    self._open_pair(bind)
                    break
                except OSError:
                    # A port that the kernel chose for UDP may be taken for TCP: choose again.
                    if bind.port or attempt == PORT_TRIES - 1:
                        raise

    def _open_pair(self, bind: control.Address) -> None:
        """Listen on one address, UDP and TCP with the same port."""
        family = socket.AF_INET6 if ":" in bind.host else socket.AF_INET
        udp = self._bind_udp(family, (bind.host, bind.port))
        tcp = socket.socket(family, socket.SOCK_STREAM)
        try:
            if family == socket.AF_INET:
                udp.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
            else:
                udp.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVPKTINFO, 1)
                tcp.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tcp.bind((bind.host, udp.getsockname()[1]))
            tcp.listen(256)
            tcp.setblocking(False)
        except OSError:
            udp.close()
            tcp.close()
            raise
        self._udp.append(udp)
        self._loop.add_reader(udp.fileno(), self._read_unconnected, udp)
        self._tcp.append(tcp)
        self._loop.add_reader(tcp.fileno(), self._accept, tcp)

    @staticmethod
    def _bind_udp(family: int, address: tuple[str, int]) -> socket.socket:
        sock = socket.socket(family, socket.SOCK_DGRAM)
        try:
            if address[1] and family == socket.AF_INET:
                _refuse_taken_port(family, address)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            _force_buffers(sock, SEND_BUFFER_BYTES, RECEIVE_BUFFER_BYTES)
            sock.setblocking(False)
            sock.bind(address)
        except OSError:
            sock.close()
            raise
        return sock

    @property
    def port(self) -> int:
        return int(self._udp[0].getsockname()[1])

    def announced(self, configured: Sequence[str]) -> list[str]:
        """The addresses for our candidates: as configured, or all that we listen on."""
        if configured:
            return list(configured)
        addresses: list[str] = []
        for sock in self._udp:
            host = sock.getsockname()[0]
            if host in ("0.0.0.0", "::"):
                addresses += local_addresses(sock.family)
            else:
                addresses.append(host)
        return addresses

    def close(self) -> None:
        """Harmless when closed already: draining closes it, and so does the end of the worker."""
        for sock in self._udp + self._tcp:
            self._loop.remove_reader(sock.fileno())
            sock.close()
        self._udp, self._tcp = [], []
        for path in list(self._owners):
            path.close()
        for pending in list(self._pending_tcp):
            pending.close()

    # --- UDP -----------------------------------------------------------------------------------

    def _read_unconnected(self, sock: socket.socket) -> None:
        now = monotonic()
        for _ in range(DRAIN_LIMIT):
            try:
                size, ancillary, _flags, source = sock.recvmsg_into([inbox.data], 64)
            except BlockingIOError:
                break
            except OSError:
                continue
            local = _destination(ancillary)
            self._first_contact(sock, bytes(inbox.view[:size]), source, local, now)
        self._after_drain(now)

    def _first_contact(
        self,
        sock: socket.socket,
        data: bytes,
        source: tuple[Any, ...],
        local: str | None,
        now: float,
    ) -> None:
        """A datagram on the unconnected socket: only a STUN check of a known session counts."""
        session = self._session_of(data)
        if session is None:
            return
        if not session.ice.vouches_for(data):
            self._count("stun-forged")
            refusal = session.ice.receive(data, ("udp", *source[:2]), now, reflect=source[:2])
            if refusal.response is not None:
                with contextlib.suppress(OSError):
                    sock.sendto(refusal.response, source)
            return
        path = self._connected_path(sock, session, source, local)
        if path is None:
            self._drops["too-many-paths"] = self._drops.get("too-many-paths", 0) + 1
            return
        if not session.check(data, path, now) and path not in session.paths:
            path.close()

    def _session_of(self, data: bytes) -> Session | None:
        """The session whose ufrag a STUN request names; counts what is not for us."""
        if not data or data[0] > 3:
            self._count("no-session")
            return None
        ufrag = _local_ufrag(data)
        session = self._find_session(ufrag) if ufrag else None
        if session is None:
            self._count("unknown-ufrag")
        return session

    def _connected_path(
        self, sock: socket.socket, session: Session, source: tuple[Any, ...], local: str | None
    ) -> UdpPath | None:
        for known in session.paths:
            if isinstance(known, UdpPath) and known.source == source:
                return known  # it was in the kernel's queue before the connected socket existed
        if len(session.paths) >= MAX_PATHS_PER_SESSION and not session.drop_idle_path():
            return None
        bound = sock.getsockname()
        host = local if local and bound[0] in ("0.0.0.0", "::") else bound[0]
        try:
            connected = socket.socket(sock.family, socket.SOCK_DGRAM)
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if sock.family == socket.AF_INET6:
                connected.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            _force_buffers(connected, SEND_BUFFER_BYTES, RECEIVE_BUFFER_BYTES)
            connected.setblocking(False)
            connected.bind((host, bound[1]))
            connected.connect(source)
        except OSError as error:
            log.warning("cannot open a socket towards a peer: %s", error)
            return None
        path = UdpPath(connected, source, self._gso, self._forget)
        self._owners[path] = session
        self._loop.add_reader(connected.fileno(), self._read_connected, path, session)
        return path

    def _read_connected(self, path: UdpPath, session: Session) -> None:
        now = monotonic()
        sock = path.sock
        source = path.source
        data = inbox.data
        receive = session.datagram
        for _ in range(DRAIN_LIMIT):
            try:
                size, sender = sock.recvfrom_into(data)
            except BlockingIOError:
                break
            except OSError:
                path.send_errors += 1  # a queued ICMP error; the address may come back
                continue
            if sender != source:
                self._stray(sock, bytes(inbox.view[:size]), sender, now)
            else:
                receive(size, path, now)
        self._after_drain(now)

    def _stray(self, sock: socket.socket, data: bytes, sender: tuple[Any, ...], now: float) -> None:
        """Somebody else's datagram, caught between bind and connect."""
        for listener in self._udp:
            if listener.family == sock.family:
                self._first_contact(listener, data, sender, sock.getsockname()[0], now)
                return

    # --- TCP -----------------------------------------------------------------------------------

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(64):
            try:
                sock, remote = listener.accept()
            except OSError:
                return
            if len(self._pending_tcp) >= MAX_PENDING_TCP:
                self._count("too-many-tcp")
                sock.close()
                continue
            sock.setblocking(False)
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            path = TcpPath(sock, (remote[0], remote[1]), self._watch_writable, self._forget)
            self._pending_tcp[path] = monotonic()
            self._loop.add_reader(sock.fileno(), self._read_tcp, path, Deframer())

    def _read_tcp(self, path: TcpPath, deframer: Deframer) -> None:
        now = monotonic()
        try:
            chunk = path.sock.recv(TCP_READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            chunk = b""
        try:
            datagrams = deframer.feed(chunk) if chunk else []
        except PacketError:
            self._count("bad-tcp-frame")
            chunk, datagrams = b"", []
        for datagram in datagrams:
            session = self._owners.get(path) or self._adopt_tcp(path, datagram)
            if session is None:
                path.close()
                return
            size = len(datagram)
            inbox.data[:size] = datagram
            session.datagram(size, path, now)
            if path.sock.fileno() < 0:
                return
            if path not in session.paths:  # it named the session, but could not prove it
                path.close()
                return
        if not chunk:
            session = self._owners.get(path)
            path.close()
            if session is not None:
                session.path_lost(path, now)
        self._after_drain(now)

    def _adopt_tcp(self, path: TcpPath, datagram: bytes) -> Session | None:
        """The first frame of a connection must be a STUN check that says whose it is."""
        session = self._session_of(datagram)
        if session is None:
            return None
        if len(session.paths) >= MAX_PATHS_PER_SESSION and not session.drop_idle_path():
            return None
        self._pending_tcp.pop(path, None)
        self._owners[path] = session
        return session

    def _watch_writable(self, path: TcpPath, watch: bool) -> None:
        if watch:
            self._loop.add_writer(path.sock.fileno(), path.flush)
        else:
            self._loop.remove_writer(path.sock.fileno())

    def expire(self, now: float) -> None:
        """Close TCP connections that never showed whose they are."""
        for path, since in list(self._pending_tcp.items()):
            if now - since > TCP_FIRST_CHECK_S:
                path.close()

    # --- shared --------------------------------------------------------------------------------

    def _forget(self, path: UdpPath | TcpPath) -> None:
        descriptor = path.sock.fileno()
        if descriptor >= 0:
            self._loop.remove_reader(descriptor)
            if isinstance(path, TcpPath):
                self._loop.remove_writer(descriptor)
                self._pending_tcp.pop(path, None)
        self._owners.pop(path, None)

    def _count(self, reason: str) -> None:
        self._drops[reason] = self._drops.get(reason, 0) + 1


def _refuse_taken_port(family: int, address: tuple[str, int]) -> None:
    """SO_REUSEADDR on UDP would let two servers share a port silently: probe without it first."""
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.bind(address)


def _destination(ancillary: Sequence[tuple[int, int, bytes]]) -> str | None:
    """The local address a datagram was sent to (IP_PKTINFO), for a socket bound to a wildcard."""
    for level, kind, data in ancillary:
        if level == socket.IPPROTO_IP and kind == IP_PKTINFO and len(data) >= 12:
            return socket.inet_ntoa(data[8:12])
        if level == socket.IPPROTO_IPV6 and kind == IPV6_PKTINFO and len(data) >= 16:
            return socket.inet_ntop(socket.AF_INET6, data[:16])
    return None


def _local_ufrag(data: bytes) -> str | None:
    """The part of USERNAME before the colon, from a raw STUN message; full parsing comes later."""
    size = len(data)
    offset = 20
    while offset + 4 <= size:
        kind, length = struct.unpack_from("!HH", data, offset)
        offset += 4
        if kind == 0x0006:  # USERNAME, RFC 8489 section 14.3
            value = data[offset : offset + length]
            return value.split(b":", 1)[0].decode("ascii", "replace")
        offset += length + (-length % 4)
    return None
