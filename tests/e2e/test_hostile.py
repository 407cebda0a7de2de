"""Garbage on every port while a classroom watches: it loses nothing, and the server stays up."""

from __future__ import annotations

import asyncio
import json
import os
import random
import socket
import struct
from collections.abc import Iterator

import pytest

from tests.e2e.browsers import Browsers
from tests.e2e.offers import receive_only
from tests.e2e.real_server import RealServer

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(90, method="signal"),
]

DATAGRAMS = 3_000
STREAMS = 150
MOST_GROWTH_BYTES = 48 * 1024 * 1024


async def test_garbage_on_every_port_costs_a_watching_classroom_nothing(
    server: RealServer, tabs: Browsers
) -> None:
    lesson = await server.new_lesson()
    stream = f"{lesson['id']}/camera"
    teacher = await tabs.tab("publisher", f"{server.origin}/healthz")
    await teacher.page.evaluate(
        "([url, token]) => window.e2e.publish(url, token)",
        [f"/whip/{stream}", server.token("teacher", lesson=lesson["id"])],
    )
    point = await tabs.tab("player", f"{server.origin}/healthz")
    await point.page.evaluate(
        "([url, token]) => window.e2e.watch(url, token)",
        [f"/whep/{stream}", server.token("observer", lesson=lesson["id"])],
    )
    before = await point.receives(frames=25)
    workers = server.worker_pids()
    size_before, drops_before = await _worker_bytes(server), await _drops(server)

    await asyncio.gather(
        _spray_datagrams(server.media_port),
        _pour_into_tcp(server.media_port),
        _abuse_http(server, lesson["id"]),
    )

    after = await point.receives(frames=25, since=before)
    assert after.packets_lost == before.packets_lost, "packets were lost"
    assert after.freezes == before.freezes, "the picture froze"
    assert server.worker_pids() == workers, "a worker was restarted"
    assert await _drops(server) > drops_before + DATAGRAMS / 2, "drops are not counted"
    assert await _worker_bytes(server) < size_before + MOST_GROWTH_BYTES
    assert "Traceback" not in server.log()
    [session] = [s for s in (await server.stats())["sessions"] if s["role"] == "receiver"]
    assert session["state"] == "connected"


async def _drops(server: RealServer) -> int:
    """What the workers threw away, under whatever reason."""
    workers = (await server.stats())["workers"]
    return sum(sum(worker["counters"].get("drops", {}).values()) for worker in workers)


async def _worker_bytes(server: RealServer) -> int:
    return sum(worker["rss_bytes"] for worker in (await server.stats())["workers"])


def _datagrams(rng: random.Random) -> Iterator[bytes]:
    """Noise, and things that begin like STUN, DTLS, RTP and RTCP (RFC 7983) but are none."""
    cookie = struct.pack("!I", 0x2112A442)
    while True:
        noise = rng.randbytes(rng.choice((0, 1, 3, 12, 19, 20, 40, 200, 1200, 1472)))
        yield noise
        yield struct.pack("!HH", 0x0001, len(noise) & 0xFFFC) + cookie + rng.randbytes(12) + noise
        username = b"abcd:efgh"
        attribute = struct.pack("!HH", 0x0006, len(username)) + username + bytes(3)
        yield struct.pack("!HH", 1, len(attribute)) + cookie + rng.randbytes(12) + attribute
        yield struct.pack("!BHHIHH", 22, 0xFEFD, 0, 0, rng.randrange(65536), 8) + noise
        yield struct.pack("!BHHIHH", 22, 0xFEFD, 0, 0, 0, len(noise)) + b"\x01" + noise
        yield struct.pack("!BBHII", 0x80, 96, rng.randrange(65536), 0, 1) + noise
        yield struct.pack("!BBHI", 0x81, 201, 0xFFFF, 1) + noise


async def _spray_datagrams(port: int) -> None:
    datagrams = _datagrams(random.Random(1))
    senders = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(20)]
    try:
        for count in range(DATAGRAMS):
            senders[count % len(senders)].sendto(next(datagrams), ("127.0.0.1", port))
            if count % 50 == 0:
                # Slower than the socket's buffer fills: what is lost must be the server's fault.
                await asyncio.sleep(0.01)
    finally:
        for sender in senders:
            sender.close()


async def _pour_into_tcp(port: int) -> None:
    rng = random.Random(2)
    datagrams = _datagrams(rng)

    async def one(number: int) -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            for _ in range(20):
                body = next(datagrams)
                kind = number % 4
                if kind == 0:  # RFC 4571 frames of garbage
                    writer.write(struct.pack("!H", len(body)) + body)
                elif kind == 1:  # a long frame that never ends
                    writer.write(struct.pack("!H", 0xFFFF) + body[:10])
                elif kind == 2:  # no framing at all
                    writer.write(b"GET / HTTP/1.1\r\n\r\n" + body)
                await writer.drain()
                await asyncio.sleep(0.01)
        except ConnectionError:
            pass  # hanging up on garbage is a fine answer
        finally:
            writer.close()

    for first in range(0, STREAMS, 30):
        await asyncio.gather(*(one(number) for number in range(first, first + 30)))


async def _abuse_http(server: RealServer, lesson_id: str) -> None:
    whep = f"/whep/{lesson_id}/camera"
    sdp = {"Content-Type": "application/sdp"}
    as_json = {"Content-Type": "application/json"}
    good = server.token("observer", lesson=lesson_id)
    ops = server.token("ops")
    offer = receive_only()
    tokens = ["", "x", "a.b.c", good[:-3] + "AAA", good + "é", "\x7f", "A" * 9000]
    for token in tokens:
        header = {"Authorization": f"Bearer {token}"} if token else {}
        await _refused(server, "POST", whep, offer, {**sdp, **header}, {400, 401, 431})

    rng = random.Random(3)
    malformed: list[str | bytes] = [
        "",
        "v=0",
        "hello",
        offer.replace("a=ice-pwd", "a=x-pwd"),
        offer.replace("a=fingerprint", "a=x-fingerprint"),
        offer.replace("m=video 9", "m=video 99999999999999999999"),
        offer.replace("96 VP8/90000", "-1 VP8/0"),
        offer.replace("a=mid:0", "a=mid:1"),
        offer.replace("sha-256 5A", "sha-256 ZZ"),
        "m=" * 20_000,
        offer + "m=video 9 UDP/TLS/RTP/SAVPF 97\r\n" * 500,
        rng.randbytes(2000),
        b"\xff\xfe" + offer.encode("utf-16"),
        offer.encode() + b"\0" * 100,
    ]
    for body in malformed:
        await _refused(server, "POST", whep, body, sdp, {400}, good)
    await _refused(server, "POST", whep, offer, {"Content-Type": "text/html"}, {415}, good)
    await _refused(server, "POST", whep, "v" * 2_000_000, sdp, {413}, good)

    nested = "[" * 30_000
    for body in ("", "{", "[]", "null", nested, '{"title": 7}', '{"title": "\ud800"}', "\xff"):
        data = body.encode("utf-8", "surrogatepass")
        await _refused(server, "POST", "/api/v1/lessons", data, as_json, {400}, ops)
        await _refused(server, "POST", "/api/v1/join", data, as_json, {400, 429})
    await _refused(server, "POST", "/api/v1/lessons", "[" * 2_000_000, as_json, {413}, ops)

    for path in ("/whep/../../etc/passwd", "/whep/%00/camera", "/api/v1/lessons/%2e%2e/seats"):
        await _refused(server, "GET", path, None, {}, {400, 401, 404, 405}, ops)
    patch = {"Content-Type": "application/trickle-ice-sdpfrag", "If-Match": '"x"'}
    fragment = os.urandom(300)
    await _refused(server, "PATCH", f"{whep}/nobody", fragment, patch, {401, 404}, good)
    await _raw_http(server)


async def _refused(
    server: RealServer,
    method: str,
    path: str,
    body: str | bytes | None,
    headers: dict[str, str],
    allowed: set[int],
    token: str | None = None,
) -> None:
    shown = (body or b"")[:60]
    try:
        status, answered, text = await server.request(
            method, path, token=token, body=body, headers=headers
        )
    except ValueError:
        return  # the client library itself will not send such a header
    assert status in allowed, f"{method} {path} {shown!r}: {status} {text[:300]}"
    if answered.get("Content-Type", "").startswith("application/problem+json"):
        document = json.loads(text)
        assert document["status"] == status
        assert document["type"].startswith("https://tongke.dev/problems/")
        assert document["title"]
    else:
        # Only what the HTTP parser refuses before any of our code sees it.
        assert status in {400, 405, 431}, (
            f"{method} {path} {shown!r}: no problem document: {text[:300]}"
        )


async def _raw_http(server: RealServer) -> None:
    """Things that are no HTTP, on the port of the pages."""
    for garbage in (b"\x16\x03\x01\x02\x00\x01\x00", b"GET / HTTP/9.9\r\n\r\n", os.urandom(5000)):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(garbage)
        try:
            await writer.drain()
            await asyncio.wait_for(reader.read(4096), 2)
        except (ConnectionError, TimeoutError):
            pass  # silence and hanging up are both fine
        finally:
            writer.close()
