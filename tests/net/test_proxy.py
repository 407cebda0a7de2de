"""The proxy between real sockets: who comes from where, and what a changed line does."""

from __future__ import annotations

import asyncio
import os
import socket
from collections import Counter
from collections.abc import Callable
from typing import cast

import pytest

from tests.net.impairment import Conditions
from tests.net.proxy import Proxy, through

ANSWER = "\r\n".join(
    (
        "v=0",
        "m=video 9 UDP/TLS/RTP/SAVPF 96",
        "a=mid:0",
        "a=candidate:1 1 udp 2130706431 192.0.2.1 5000 typ host",
        "a=candidate:2 1 udp 2130706430 2001:db8::1 5000 typ host",
        "a=candidate:3 1 tcp 1518280447 192.0.2.1 5000 typ host tcptype passive",
        "a=end-of-candidates",
        "",
    )
)


class Echo(asyncio.DatagramProtocol):
    """A media port that answers each datagram to where it came from."""

    def __init__(self) -> None:
        self.sources: Counter[tuple[str, int]] = Counter()
        self.received: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.sources[addr] += 1
        self.received.append(data)
        self.transport.sendto(data, addr)

    @property
    def address(self) -> tuple[str, int]:
        host, port = self.transport.get_extra_info("sockname")
        return host, port


class Caller(asyncio.DatagramProtocol):
    """A peer that notes what comes back."""

    def __init__(self) -> None:
        self.received: list[bytes] = []

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.received.append(data)


async def listen() -> Echo:
    _transport, echo = await asyncio.get_running_loop().create_datagram_endpoint(
        Echo, local_addr=("127.0.0.1", 0)
    )
    return echo


async def call(proxy: Proxy) -> tuple[asyncio.DatagramTransport, Caller]:
    return await asyncio.get_running_loop().create_datagram_endpoint(
        Caller, remote_addr=proxy.address
    )


async def until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - what is awaited has no event
            await asyncio.sleep(0.005)


def test_an_answer_leads_to_the_proxy_by_each_transport_once() -> None:
    lines = through(ANSWER, ("127.0.0.1", 6000)).split("\r\n")
    assert [line for line in lines if line.startswith("a=candidate")] == [
        "a=candidate:1 1 udp 2130706431 127.0.0.1 6000 typ host",
        "a=candidate:3 1 tcp 1518280447 127.0.0.1 6000 typ host tcptype passive",
    ]
    rest = [line for line in lines if not line.startswith("a=candidate")]
    assert rest == [line for line in ANSWER.split("\r\n") if not line.startswith("a=candidate")]


def test_an_answer_can_be_left_with_tcp_alone() -> None:
    assert " udp " not in through(ANSWER, ("127.0.0.1", 6000), ("tcp",))


async def test_each_peer_reaches_the_target_from_an_address_of_its_own() -> None:
    echo = await listen()
    async with Proxy(echo.address) as proxy:
        peers = [await call(proxy) for _ in range(20)]
        for _ in range(3):
            for number, (transport, _caller) in enumerate(peers):
                transport.sendto(b"%d" % number)
        await until(lambda: all(len(caller.received) == 3 for _t, caller in peers))
        for number, (transport, caller) in enumerate(peers):
            assert caller.received == [b"%d" % number] * 3
            transport.close()
        assert sorted(echo.sources.values()) == [3] * 20
        assert proxy.peers == 20
    echo.transport.close()


async def test_a_perfect_proxy_loses_nothing_of_a_lesson_at_full_speed() -> None:
    """5 Mbit/s each way for five seconds, in far less: bursts of a key frame's size."""
    echo = await listen()
    async with Proxy(echo.address) as proxy:
        transport, caller = await call(proxy)
        payload = os.urandom(1180)
        for burst in range(1, 66):
            for number in range(40):
                transport.sendto(number.to_bytes(20, "big") + payload)
            await until(lambda expected=burst * 40: len(caller.received) >= expected)  # type: ignore[misc]
        assert [int.from_bytes(data[:20], "big") for data in caller.received] == [*range(40)] * 65
        assert proxy.send_errors == 0
        transport.close()
    echo.transport.close()


async def test_loss_is_applied_to_its_own_direction_only() -> None:
    echo = await listen()
    async with Proxy(echo.address, up=Conditions(loss=0.2), seed=5) as proxy:
        transport, caller = await call(proxy)
        up, down = proxy.counts
        for batch in range(20):
            for number in range(25):
                transport.sendto(b"%d" % number)
            await until(lambda sent=25 * (batch + 1): up.entered == sent)  # type: ignore[misc]
            await until(lambda: len(caller.received) == up.entered - up.lost)
        assert 60 < up.lost < 140
        assert down.lost == 0
        transport.close()
    echo.transport.close()


async def test_a_line_can_be_cut_and_mended_while_running() -> None:
    echo = await listen()
    async with Proxy(echo.address) as proxy:
        transport, caller = await call(proxy)
        transport.sendto(b"before")
        await until(lambda: caller.received == [b"before"])
        proxy.change(down=Conditions(loss=1.0))
        transport.sendto(b"cut")
        await until(lambda: proxy.counts[1].lost == 1)
        proxy.change(down=Conditions(delay_s=0.02))
        transport.sendto(b"after")
        await until(lambda: len(caller.received) == 2)
        assert caller.received == [b"before", b"after"]
        assert echo.received == [b"before", b"cut", b"after"]
        transport.close()
    echo.transport.close()


async def test_a_changed_address_is_seen_by_the_target_and_still_answered() -> None:
    echo = await listen()
    async with Proxy(echo.address) as proxy:
        transport, caller = await call(proxy)
        transport.sendto(b"home")
        await until(lambda: caller.received == [b"home"])
        proxy.change_addresses()
        transport.sendto(b"away")
        await until(lambda: caller.received == [b"home", b"away"])
        assert list(echo.sources.values()) == [1, 1]
        transport.close()
    echo.transport.close()


async def test_a_full_queue_drops_and_the_rest_takes_its_time() -> None:
    echo = await listen()
    slow = Conditions(rate_bps=400_000, queue_bytes=10_000)
    async with Proxy(echo.address, down=slow) as proxy:
        transport, _caller = await call(proxy)
        started = asyncio.get_running_loop().time()
        for _ in range(50):
            transport.sendto(bytes(972))  # 1,000 bytes on the wire
        down = proxy.counts[1]
        await until(lambda: down.entered == 50 and down.passed + down.queue_full == 50)
        took = asyncio.get_running_loop().time() - started
        assert 10 <= down.passed < 20
        assert took > 0.19  # ten times 8,000 bits at 400 kbit/s, less a timer's grain
        transport.close()
    echo.transport.close()


async def test_peers_beyond_the_limit_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.net.proxy.MAX_PEERS", 2)
    echo = await listen()
    async with Proxy(echo.address) as proxy:
        sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(3)]
        for sock in sockets:
            sock.sendto(b"x", proxy.address)
        await until(lambda: proxy.refused_peers == 1)
        assert proxy.peers == 2
        for sock in sockets:
            sock.close()
    echo.transport.close()


async def echo_server() -> asyncio.Server:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()

    return await asyncio.start_server(answer, "127.0.0.1", 0)


async def test_tcp_passes_whole_and_at_the_rate_of_the_line() -> None:
    server = await echo_server()
    limited = Conditions(rate_bps=2_000_000, delay_s=0.01)
    async with Proxy(server.sockets[0].getsockname(), up=limited) as proxy:
        reader, writer = await asyncio.open_connection(*proxy.address)
        sent = os.urandom(100_000)
        started = asyncio.get_running_loop().time()
        writer.write(sent)
        writer.write_eof()
        received = await asyncio.wait_for(reader.read(-1), 5)
        took = asyncio.get_running_loop().time() - started
        assert received == sent
        assert took > 0.38  # 800,000 bits at 2 Mbit/s, less timer grain
        writer.close()
    server.close()


async def test_tcp_to_a_dead_target_is_hung_up_on() -> None:
    server = await echo_server()
    target = server.sockets[0].getsockname()
    server.close()
    await server.wait_closed()
    async with Proxy(target) as proxy:
        reader, writer = await asyncio.open_connection(*proxy.address)
        assert await asyncio.wait_for(reader.read(), 5) == b""
        writer.close()


async def test_a_proxy_leaves_no_task_behind() -> None:
    server = await echo_server()
    before = len(asyncio.all_tasks())
    async with Proxy(server.sockets[0].getsockname()) as proxy:
        reader, writer = await asyncio.open_connection(*proxy.address)
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"hello"
    assert await asyncio.wait_for(reader.read(), 5) == b""
    writer.close()
    server.close()
    await until(lambda: len(asyncio.all_tasks()) <= before)
