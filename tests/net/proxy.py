"""A UDP and TCP proxy on loopback that puts bad lines between peers and a worker's media port.

Every peer gets an upstream socket of its own, so the worker sees as many addresses as there are
peers; all peers of a proxy share its two lines, as classrooms in one building share theirs. Peers
find the proxy by candidates: `through` points those of an answer at it.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import socket
from collections.abc import Callable, Iterable, Iterator
from time import monotonic
from typing import Self

from streamer.sdp import parse_candidate
from tests.net.impairment import Conditions, Counts, Line
from tests.net.tcprelay import TcpRelay

Address = tuple[str, int]

HOST = "127.0.0.1"
IP_AND_UDP_BYTES = 28  # a line's rate counts whole IP packets
READS_PER_WAKE = 64
BUFFER_BYTES = 4 << 20  # a whole key frame comes at once
SO_RCVBUFFORCE = 33  # linux/asm-generic/socket.h; works with CAP_NET_ADMIN only
MAX_PEERS = 1024
BIND_TRIES = 20


def through(description: str, address: Address, transports: Iterable[str] = ("udp", "tcp")) -> str:
    """An answer, or an answered ICE fragment, whose candidates point at `address` instead.

    One candidate is kept for each of `transports` (of each m-line), whatever address it named.
    """
    kept: list[str] = []
    seen: set[str] = set()
    for line in description.split("\r\n"):
        if line.startswith("m="):
            seen.clear()
        if line.startswith("a=candidate:"):
            transport = parse_candidate(line).transport
            if transport in seen or transport not in transports:
                continue
            seen.add(transport)
            words = line.split(" ")
            words[4], words[5] = address[0], str(address[1])
            line = " ".join(words)
        kept.append(line)
    return "\r\n".join(kept)


class Direction:
    """A line with the event loop's clock on it: hands on what arrives when it is due."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        line: Line[tuple[Peer, bytes]],
        deliver: Callable[[Peer, bytes], None],
    ) -> None:
        self.line = line
        self._loop = loop
        self._deliver = deliver
        self._timer: asyncio.TimerHandle | None = None
        self._wakes_at = math.inf

    def enter(self, peer: Peer, datagram: bytes, now: float) -> None:
        self.line.enter((peer, datagram), len(datagram) + IP_AND_UDP_BYTES, now)

    def pump(self) -> None:
        """Deliver what is due and wake up for what is next."""
        now = monotonic()
        for peer, datagram in self.line.leave(now):
            self._deliver(peer, datagram)
        due = self.line.next_at
        if due is None or due >= self._wakes_at:
            return
        self.stop()
        self._wakes_at = due
        # Rounded up to the milliseconds that event loops count in: never woken just too early.
        wait_s = math.ceil(max(0.0, due - now) * 1000) / 1000
        self._timer = self._loop.call_later(wait_s, self._wake)

    def _wake(self) -> None:
        self._timer, self._wakes_at = None, math.inf
        self.pump()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer, self._wakes_at = None, math.inf


class Peer:
    """One address that speaks to the proxy, and the socket that speaks for it to the worker."""

    __slots__ = ("address", "upstream")

    def __init__(self, address: Address, upstream: socket.socket) -> None:
        self.address = address
        self.upstream = upstream


class Proxy:
    """`async with Proxy(target) as proxy`: `proxy.address` is what peers are told.

    `up` are the conditions towards the worker, `down` those towards the peers; `change` swaps them
    while media flows. `seed` makes loss repeatable. TCP connections pass at the same rates and
    delays, queued instead of lost; an outage makes them wait.
    """

    def __init__(
        self,
        target: Address,
        *,
        up: Conditions | None = None,
        down: Conditions | None = None,
        seed: int = 0,
    ) -> None:
        self.target = target
        self.refused_peers = 0
        self.send_errors = 0
        loop = asyncio.get_running_loop()
        self._loop = loop
        self._peers: dict[Address, Peer] = {}
        self._up = Direction(loop, Line(up, seed), self._send_up)
        self._down = Direction(loop, Line(down, seed + 1), self._send_down)
        self._listener, tcp_listener = _bind_pair()
        self._tcp = TcpRelay(
            tcp_listener, target, lambda: self._up.line.conditions, lambda: self.down
        )
        loop.add_reader(self._listener.fileno(), self._read_listener)

    async def __aenter__(self) -> Self:
        await self._tcp.start()
        return self

    async def __aexit__(self, *_details: object) -> None:
        self._up.stop()
        self._down.stop()
        for sock in (self._listener, *(peer.upstream for peer in self._peers.values())):
            self._loop.remove_reader(sock.fileno())
            sock.close()
        self._peers.clear()
        await self._tcp.close()

    # --- what a test turns ---------------------------------------------------------------------

    @property
    def address(self) -> Address:
        host, port = self._listener.getsockname()
        return host, port

    @property
    def up(self) -> Conditions:
        return self._up.line.conditions

    @property
    def down(self) -> Conditions:
        return self._down.line.conditions

    @property
    def counts(self) -> tuple[Counts, Counts]:
        """What became of the datagrams towards the worker, and towards the peers."""
        return self._up.line.counts, self._down.line.counts

    @property
    def peers(self) -> int:
        return len(self._peers)

    def change(self, *, up: Conditions | None = None, down: Conditions | None = None) -> None:
        """Other conditions from now on, for the directions given."""
        now = monotonic()
        for direction, conditions in ((self._up, up), (self._down, down)):
            if conditions is not None:
                direction.line.change(conditions, now)
                direction.pump()

    @contextlib.contextmanager
    def changed(
        self, *, up: Conditions | None = None, down: Conditions | None = None
    ) -> Iterator[None]:
        """Other conditions while a block runs."""
        before = self.up, self.down
        self.change(up=up, down=down)
        try:
            yield
        finally:
            self.change(up=before[0], down=before[1])

    def change_addresses(self) -> None:
        """Let every peer come to the worker from a new address, as a NAT does that restarted.

        What the worker sends to the old address reaches nobody.
        """
        for peer in self._peers.values():
            self._loop.remove_reader(peer.upstream.fileno())
            peer.upstream.close()
            peer.upstream = self._open_upstream(peer)

    # --- datagrams -----------------------------------------------------------------------------

    def _open_upstream(self, peer: Peer | None = None, address: Address = ("", 0)) -> socket.socket:
        sock = _udp_socket()
        sock.connect(self.target)
        if peer is None:
            peer = self._peers[address] = Peer(address, sock)
        self._loop.add_reader(sock.fileno(), self._read_upstream, sock, peer)
        return sock

    def _read_listener(self) -> None:
        now = monotonic()
        for _ in range(READS_PER_WAKE):
            try:
                datagram, address = self._listener.recvfrom(65536)
            except BlockingIOError:
                break
            except OSError:
                continue  # a peer that has gone: its ICMP error
            if address not in self._peers:
                if len(self._peers) >= MAX_PEERS:
                    self.refused_peers += 1
                    continue
                self._open_upstream(address=address)
            self._up.enter(self._peers[address], datagram, now)
        self._up.pump()

    def _read_upstream(self, sock: socket.socket, peer: Peer) -> None:
        now = monotonic()
        for _ in range(READS_PER_WAKE):
            try:
                datagram = sock.recv(65536)
            except BlockingIOError:
                break
            except OSError:
                continue  # the worker has closed its port for a moment
            self._down.enter(peer, datagram, now)
        self._down.pump()

    def _send_up(self, peer: Peer, datagram: bytes) -> None:
        try:
            peer.upstream.send(datagram)
        except OSError:
            self.send_errors += 1

    def _send_down(self, peer: Peer, datagram: bytes) -> None:
        try:
            self._listener.sendto(datagram, peer.address)
        except OSError:
            self.send_errors += 1


def _udp_socket() -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setblocking(False)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
    with contextlib.suppress(PermissionError):
        sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES)
    return sock


def _bind_pair() -> tuple[socket.socket, socket.socket]:
    """A UDP socket and a TCP listener on one port."""
    for _ in range(BIND_TRIES):
        udp = _udp_socket()
        udp.bind((HOST, 0))
        tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        tcp.setblocking(False)
        try:
            tcp.bind(udp.getsockname())
            tcp.listen(64)
        except OSError:
            udp.close()
            tcp.close()
            continue
        return udp, tcp
    raise OSError(f"no port free for both UDP and TCP in {BIND_TRIES} tries")
