"""Peers with good keys and bad manners: they are bounded, and a lesson beside them loses nothing.

Every test runs a lesson whose witness must get each packet; leaving the house fails a test when an
exception reached the event loop, or when the worker sent what its keys do not open.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import socket
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic

import pytest

from streamer import control, rtcp, stun
from streamer.receiver import RESEND_BURST, RESEND_RATE_PER_S
from streamer.sdp import build_fragment
from tests.net.house import House, house, until
from tests.net.lesson import Teaching, teaching
from tests.net.peer import RTP_HEADER, RTX, VP8, RawPeer

pytestmark = pytest.mark.timeout(60)

KEY_FRAME_INTERVAL_S = 0.5
TIMER_SLACK_S = 0.03
MOST_DROP_REASONS = 40


class Classroom:
    """The lesson that goes on while somebody misbehaves."""

    def __init__(self, house: House, lesson: Teaching, witness: RawPeer) -> None:
        self.house = house
        self.lesson = lesson
        self.witness = witness

    async def some_frames(self, count: int = 10) -> None:
        """Let the lesson go on for so many frames."""
        target = self.lesson.frames + count
        await until(lambda: self.lesson.frames >= target)

    def drops(self, *reasons: str) -> int:
        return sum(self.house.drops.get(reason, 0) for reason in reasons)


@asynccontextmanager
async def classroom(**settings: object) -> AsyncIterator[Classroom]:
    """A house with a lesson on output `o`; afterwards the witness must have all of it."""
    async with house(**settings) as opened:
        publisher = await opened.publisher("teacher")
        witness = await opened.receiver("witness")
        async with teaching(publisher) as lesson:
            await until(lambda: witness.received_video.packets > 6)
            yield Classroom(opened, lesson, witness)
            seen = witness.received_video.packets
            await until(lambda: witness.received_video.packets > seen + 12)
        assert witness.received_video.missing == 0
        assert opened.track("teacher").packets_lost == 0
        assert len(opened.drops) < MOST_DROP_REASONS, opened.drops


# --- feedback ----------------------------------------------------------------------------------


def remb_saying(exponent: int, mantissa: int, ssrc: int) -> bytes:
    """REMB written by hand: ours rounds down to what is sane."""
    head = (1 << 24) | (exponent << 18) | mantissa
    body = struct.pack("!II4sII", 1, 0, b"REMB", head, ssrc)
    return struct.pack("!BBH", 0x8F, 206, len(body) // 4) + body


async def test_an_absurd_bandwidth_estimate_is_bounded() -> None:
    async with classroom() as room:
        hostile = await room.house.receiver("hostile")
        await until(lambda: hostile.received_video.packets > 3)
        ssrc = hostile.received_video_ssrc
        for exponent in (23, 40, 63):  # 2^41, 2^58 and 2^81 bit/s
            for _ in range(20):
                hostile.send_rtcp(remb_saying(0, 0, 1))  # and now nothing at all
                hostile.send_rtcp(remb_saying(exponent, 0x3FFFF, ssrc))
        await until(lambda: room.house.session("hostile").remb_kbps is not None)
        await room.some_frames()
        stats = room.house.ask(control.GetStats)
        assert isinstance(stats, control.Stats)
        control.frame(stats)
        estimates = {one.session_id: one.remb_kbps for one in stats.sessions}
        assert 0 < (estimates["hostile"] or 0) <= 10_000_000
        assert estimates["witness"] is None


async def test_a_storm_of_nacks_is_answered_within_the_allowance_of_one_receiver() -> None:
    async with classroom() as room:
        hostile = await room.house.receiver("hostile")
        await until(lambda: hostile.received_video.packets > 60)
        ssrc, started = hostile.received_video_ssrc, monotonic()
        while monotonic() < started + 1.0:
            asked = list(hostile.received_video.digests)[-1000:]
            # Many requests of one packet each and few of many, and packets that never were.
            storm = b"".join(rtcp.nack(1, ssrc, [seq]) for seq in asked[-30:])
            hostile.send_rtcp(rtcp.receiver_report(1, [], "x") + storm)
            for _ in range(5):
                hostile.send_rtcp(rtcp.nack(1, ssrc, asked))
                hostile.send_rtcp(rtcp.nack(1, ssrc, range(0, 0x10000, 300)))
                hostile.send_rtcp(rtcp.nack(1, 0xDEAD, asked))
            await asyncio.sleep(0.005)

        # The allowance of others is their own: a witness that missed one packet gets it again.
        lost = list(room.witness.received_video.digests)[-1]
        room.witness.send_rtcp(rtcp.nack(1, room.witness.received_video_ssrc, [lost]))
        await until(lambda: room.witness.resent_video.packets == 1)

        allowed = RESEND_BURST + RESEND_RATE_PER_S * (monotonic() - started)
        assert RESEND_BURST <= hostile.resent_video.packets <= allowed
        assert room.drops("resend-limit") > 100
        assert room.house.counters.nacks_received > 5_000


async def test_a_storm_of_key_frame_requests_costs_one_key_frame_per_interval() -> None:
    async with classroom(keyframe_interval_s=KEY_FRAME_INTERVAL_S) as room:
        hostile = [await room.house.receiver(f"hostile{number}") for number in range(3)]
        await until(lambda: all(peer.received_video.packets > 3 for peer in hostile))
        started = monotonic()
        while monotonic() < started + 1.2:
            for peer in hostile:
                ssrc = peer.received_video_ssrc
                for number in range(20):
                    peer.send_rtcp(rtcp.picture_loss(1, ssrc))
                    peer.send_rtcp(rtcp.full_intra(1, [(ssrc, number)] * 30))
            await asyncio.sleep(0.005)
        asked = [when for when, _pli in room.lesson.publisher.rtcp_of(rtcp.PictureLoss)]
        storm = [when for when in asked if when >= started]
        assert 2 <= len(storm) <= 5
        gaps = [later - earlier for earlier, later in itertools.pairwise(asked)]
        assert min(gaps) >= KEY_FRAME_INTERVAL_S - TIMER_SLACK_S


async def test_random_rtcp_with_good_keys_does_nothing() -> None:
    rng = random.Random(4)
    async with classroom() as room:
        hostile = await room.house.receiver("hostile")
        bad_publisher = await room.house.publisher("bad", "other")
        for number in range(2000):
            body = rng.randbytes(4 * rng.randrange(1, 60))
            kind, count = rng.randrange(192, 224), rng.randrange(32)
            length = rng.choice((len(body) // 4, rng.randrange(0x10000)))
            packet = struct.pack("!BBH", 0x80 | count, kind, length) + body
            for peer in (hostile, bad_publisher):
                peer.send_rtcp(packet)
            if number % 40 == 0:
                await asyncio.sleep(0.002)
        await until(lambda: room.drops("bad-rtcp") > 1000)
        assert room.house.session("hostile").state == "connected"
        assert room.house.session("bad").state == "connected"


# --- media -------------------------------------------------------------------------------------


def absurd_rtp(rng: random.Random, peer: RawPeer) -> Iterator[bytes]:
    """Packets that are nearly RTP: every field of the header lies sooner or later."""
    while True:
        extension = rng.choice(
            (
                b"",
                struct.pack("!HH", 0xBEDE, 0xFFFF),
                struct.pack("!HH", 0xBEDE, 2) + rng.randbytes(8),
                struct.pack("!HH", 0x1000, 3) + rng.randbytes(12),
                struct.pack("!HH", 0x100F, 1) + b"\xff\xff\xff\xff",
                struct.pack("!HH", rng.randrange(0x10000), rng.randrange(4)) + rng.randbytes(12),
            )
        )
        first = 0x80 | rng.choice((0, 0x20, 0x10, 0x30, 0x0F, 0x3F)) | (0x10 if extension else 0)
        kind = rng.choice((VP8, VP8, RTX, 111, 0, 127, rng.randrange(128)))
        ssrc = rng.choice((peer.video_ssrc, peer.rtx_ssrc, peer.audio_ssrc, rng.randrange(2**32)))
        head = RTP_HEADER.pack(
            first,
            kind | rng.choice((0, 0x80)),
            rng.randrange(0x10000),
            rng.randrange(2**32),
            ssrc,
        )
        payload = rng.randbytes(rng.choice((0, 1, 2, 3, 4, 7, 60, 1000)))
        if (packet := head + extension + payload)[1] & 0x7F not in range(64, 96):
            yield packet


async def test_absurd_rtp_of_a_publisher_harms_neither_the_worker_nor_its_receivers() -> None:
    rng = random.Random(9)
    async with classroom() as room:
        bad = await room.house.publisher("bad", "other")
        victim = await room.house.receiver("victim", "other")
        packets = absurd_rtp(rng, bad)
        for number in range(4000):
            if number % 200 == 0:
                bad.send_rtp(bad.video_packet(number * 10, keyframe=True))
            bad.send_rtp(next(packets))
            if number % 40 == 0:
                await asyncio.sleep(0.002)
        await room.some_frames()
        assert room.drops("bad-rtp") > 50
        assert room.drops("unknown-payload-type") > 50
        assert room.house.session("bad").state == "connected"
        assert room.house.session("victim").state == "connected"
        assert victim.streams
        # Numbers that jump back and forth come to where SRTP encrypts no more; that is blanked.
        assert victim.undecipherable == 0
        await until(lambda: len(bad.rtcp_of(rtcp.ReceiverReport)) > 0)


async def test_rtp_of_a_receiver_is_ignored() -> None:
    async with classroom() as room:
        hostile = await room.house.receiver("hostile")
        received = room.house.counters.rtp_packets_received
        packets = absurd_rtp(random.Random(5), hostile)
        for _ in range(300):
            hostile.send_rtp(next(packets))
        await room.some_frames()
        # Only the lesson's own: 4 packets a frame.
        assert room.house.counters.rtp_packets_received - received < 100


async def test_a_batch_of_the_largest_packets_is_forwarded_whole_and_larger_ones_are_not() -> None:
    """Forty packets, each as large as is taken in, are read and sent on in one batch."""
    async with classroom() as room:
        big = await room.house.publisher("big", "other")
        victim = await room.house.receiver("victim", "other")
        big.send_rtp(big.video_packet(0, keyframe=True))
        await until(lambda: victim.received_video.packets == 1)
        for _ in range(120):
            packet = big.video_packet(3000, last=False)
            # 16 bytes of SRTP tag make it 1,600.
            big.send_rtp(packet + bytes(1584 - len(packet)))
        await until(lambda: victim.received_video.packets == 121)
        assert victim.received_video.missing == 0
        for size in (1700, 3000):
            big.send_rtp(big.video_packet(0, keyframe=True, size=size))
        await until(lambda: room.drops("oversize-rtp") == 2)


async def test_a_resend_of_what_was_never_missing_is_not_forwarded_again() -> None:
    """Else a publisher could have its receivers' nonces used twice (RFC 7714 section 8.1), or
    make packets so old that SRTP refuses to encrypt them."""
    async with classroom() as room:
        bad = await room.house.publisher("bad", "other")
        victim = await room.house.receiver("victim", "other")
        bad.send_rtp(bad.video_packet(0, keyframe=True))
        await until(lambda: victim.received_video.packets == 1)
        sent: list[int] = []
        for number in range(1, 1500):
            packet = bad.video_packet(number * 90)
            sent.append(int.from_bytes(packet[2:4], "big"))
            bad.send_rtp(packet)
            if number % 50 == 0:
                await asyncio.sleep(0.005)
        await until(lambda: victim.received_video.packets == 1500)
        recent, old, older = sent[-5], sent[0], (sent[0] - 3000) & 0xFFFF
        for seq in (recent, old, older):
            for variant in range(3):
                bad.retransmit(seq, 7 + variant, b"\x10\x01" + bytes((variant,)) * 50)
        await room.some_frames()
        assert victim.undecipherable == 0
        assert victim.received_video.nonces_reused == 0
        assert victim.received_video.resent == 0
        assert victim.received_video.packets == 1500


async def test_a_late_packet_from_before_a_change_of_publisher_reuses_no_number() -> None:
    """The new publisher's packet before the key frame comes after it: the numbers before the key
    frame are those of the old publisher's packets."""
    async with classroom() as room:
        old = await room.house.publisher("old", "other")
        victim = await room.house.receiver("victim", "other")
        old.send_rtp(old.video_packet(0, keyframe=True))
        for number in range(1, 20):
            old.send_rtp(old.video_packet(number * 3000))
        await until(lambda: victim.received_video.packets == 20)
        new = await room.house.publisher("new", "other")
        late = [new.video_packet(number * 3000) for number in range(3)]
        new.send_rtp(new.video_packet(9000, keyframe=True))
        await until(lambda: victim.received_video.packets == 21)
        for packet in late:
            new.send_rtp(packet)
        new.send_rtp(new.video_packet(12_000))
        await until(lambda: victim.received_video.packets >= 22)
        assert victim.received_video.nonces_reused == 0
        assert victim.received_video.packets == 22


# --- the port ----------------------------------------------------------------------------------


def port_sizes(house: House) -> dict[str, int]:
    """What a worker and its port hold per peer, by what holds it."""
    worker, port = house.worker, house.worker.port
    return {
        "ufrags": len(worker._by_ufrag),
        "owners": len(port._owners),
        "pending": len(port._pending_tcp),
        "sessions": len(worker.sessions),
        "handshaking": len(worker._handshaking),
        "paths": sum(len(session.paths) for session in worker.sessions.values()),
        "files": sum(1 for _ in Path("/proc/self/fd").iterdir()),
    }


def forged_check(ufrag: str, rng: random.Random) -> bytes:
    """A check that names a living session without knowing its password."""
    return stun.binding_request(
        rng.randbytes(12),
        f"{ufrag}:{rng.randrange(10**6):06}",
        "a password of somebody else",
        priority=1,
        controlling_tie_breaker=1,
        use_candidate=True,
    )


def garbage(rng: random.Random, ufrag: str) -> Iterator[bytes]:
    """Noise, and what begins like STUN, DTLS, RTP and RTCP (RFC 7983), some of it for us."""
    while True:
        noise = rng.randbytes(rng.choice((0, 1, 3, 12, 19, 20, 40, 200, 1200)))
        yield noise
        yield struct.pack("!HHI", 1, len(noise) & 0xFFFC, 0x2112A442) + rng.randbytes(12) + noise
        yield struct.pack("!BHHIHH", 22, 0xFEFD, 0, 0, rng.randrange(0x10000), 8) + noise
        yield struct.pack("!BHHIHH", 22, 0xFEFD, 0, 0, 0, len(noise)) + b"\x01" + noise
        yield struct.pack("!BBHII", 0x80, VP8, rng.randrange(0x10000), 0, 1) + noise
        yield struct.pack("!BBHI", 0x81, 201, 0xFFFF, 1) + noise
        check = bytearray(forged_check(ufrag, rng))
        yield bytes(check)
        check[rng.randrange(len(check))] ^= 1 << rng.randrange(8)
        yield bytes(check[: rng.randrange(20, len(check) + 1)])


async def test_garbage_from_strangers_is_counted_and_leaves_nothing_behind() -> None:
    rng = random.Random(6)
    async with classroom() as room:
        ufrag = room.witness.remote.ice_ufrag
        before = port_sizes(room.house)
        strangers = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(40)]
        datagrams = garbage(rng, ufrag)
        for number in range(4000):
            strangers[number % 40].sendto(next(datagrams), room.house.address)
            if number % 50 == 0:
                await asyncio.sleep(0.002)
        await until(lambda: room.drops("no-session", "unknown-ufrag") > 2500)
        await room.some_frames()
        assert room.drops("stun-forged") > 400
        for stranger in strangers:
            stranger.close()
        assert port_sizes(room.house) == before


async def test_garbage_on_an_authentic_path_is_counted_and_ends_no_session() -> None:
    rng = random.Random(7)
    async with classroom() as room:
        hostile = await room.house.receiver("hostile")
        before = port_sizes(room.house)
        datagrams = garbage(rng, hostile.remote.ice_ufrag)
        for number in range(4000):
            hostile.send_raw(next(datagrams))
            if number % 50 == 0:
                await asyncio.sleep(0.002)
        await until(lambda: room.drops("srtp-rejected", "short") > 100)
        await until(lambda: room.drops("srtcp-rejected") > 100)
        await room.some_frames()
        assert room.house.session("hostile").state == "connected"
        assert port_sizes(room.house) == before


async def test_checks_from_many_addresses_open_few_sockets() -> None:
    async with classroom() as room:
        hostile = await room.house.receiver("hostile")
        before = port_sizes(room.house)
        for _ in range(50):
            hostile.move()
            hostile.check()
            await asyncio.sleep(0.002)
        await until(lambda: hostile.checks_answered > 40)
        assert port_sizes(room.house)["owners"] <= before["owners"] + 5


async def test_a_broken_handshake_ends_its_own_session_only() -> None:
    async with classroom() as room:
        before = port_sizes(room.house)
        broken = RawPeer("receiver", 99)
        room.house.peers.append(broken)
        answer = room.house.open("receiver", "broken", broken.offer)
        connecting = asyncio.ensure_future(broken.connect(answer))
        await until(lambda: broken.checks_answered > 0)
        alert = struct.pack("!BHHIHH", 21, 0xFEFD, 0, 0, 0, 2) + b"\x02\x28"
        for _ in range(300):
            broken.send_raw(alert)
            broken.send_raw(struct.pack("!BHHIHH", 22, 0xFEFD, 0, 0, 0, 100) + os.urandom(100))
        connecting.cancel()
        await asyncio.gather(connecting, return_exceptions=True)
        await until(lambda: room.house.end_of("broken") == "dtls-failed")
        await room.some_frames()
        sizes = port_sizes(room.house)
        assert sizes | {"files": 0} == before | {"files": 0}


async def test_restarts_of_ice_without_end_keep_few_names() -> None:
    async with classroom() as room:
        before = port_sizes(room.house)
        for number in range(500):
            fragment = build_fragment(
                ice_ufrag=f"new{number:05}", ice_pwd=f"{number:024}", mids=["0", "1"]
            )
            reply = room.house.ask(
                control.PatchSession, session_id="witness", fragment=fragment, if_match="*"
            )
            assert isinstance(reply, control.Patched)
        await until(lambda: port_sizes(room.house)["ufrags"] <= before["ufrags"] + 1)


# --- TCP ---------------------------------------------------------------------------------------


def framed(packet: bytes) -> bytes:
    return struct.pack("!H", len(packet)) + packet


async def hung_up(reader: asyncio.StreamReader, seconds: float) -> bool:
    """Whether the worker closes this connection by itself."""
    try:
        async with asyncio.timeout(seconds):
            while await reader.read(4096):
                pass
    except TimeoutError:
        return False
    except ConnectionError:
        pass
    return True


@pytest.mark.parametrize(
    "poured",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        framed(b"\x16" * 300),
        framed(b"\x80" * 100),
        framed(struct.pack("!HHI", 1, 0, 0x2112A442) + bytes(12)),
        b"\xff\xff" + bytes(70_000),
        bytes(100),
        os.urandom(3000),
    ],
    ids=["http", "dtls", "rtp", "nameless-check", "endless-frame", "empty-frames", "noise"],
)
async def test_a_connection_that_begins_with_garbage_is_hung_up_on(poured: bytes) -> None:
    async with house() as opened:
        before = port_sizes(opened)
        streams = [await asyncio.open_connection(*opened.address) for _ in range(5)]
        for _reader, writer in streams:
            writer.write(poured)
        assert all([await hung_up(reader, 3) for reader, _writer in streams])
        for _reader, writer in streams:
            writer.close()
            await asyncio.gather(writer.wait_closed(), return_exceptions=True)
        assert port_sizes(opened) == before
        assert sum(opened.drops.values()) >= 5


async def test_a_connection_whose_first_check_is_forged_is_hung_up_on() -> None:
    rng = random.Random(8)
    async with classroom() as room:
        before = port_sizes(room.house)
        streams = [await asyncio.open_connection(*room.house.address) for _ in range(30)]
        for _reader, writer in streams:
            writer.write(framed(forged_check(room.witness.remote.ice_ufrag, rng)))
        await until(lambda: room.drops("stun-wrong-username", "stun-bad-integrity") == 30)
        assert port_sizes(room.house)["owners"] == before["owners"]
        assert all([await hung_up(reader, 3) for reader, _writer in streams])
        for _reader, writer in streams:
            writer.close()


async def test_silent_connections_are_bounded_and_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamer.port.TCP_FIRST_CHECK_S", 0.5)
    monkeypatch.setattr("streamer.port.MAX_PENDING_TCP", 20)
    async with classroom() as room:
        streams = [await asyncio.open_connection(*room.house.address) for _ in range(30)]
        await until(lambda: room.drops("too-many-tcp") == 10)
        assert all([await hung_up(reader, 5) for reader, _writer in streams])
        assert port_sizes(room.house)["pending"] == 0
        for _reader, writer in streams:
            writer.close()
