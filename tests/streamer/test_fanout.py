"""The batch fan-out over real sockets: what each receiver gets, byte for byte."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Sequence

import pytest

from streamer import rtp, srtp
from streamer.delay import DelayHistogram
from streamer.fanout import UDP_SEGMENT, FanoutGroup, send
from streamer.paths import UdpPath
from streamer.receiver import ReceiverTrack
from streamer.rtp import Packet

URIS = {1: rtp.AUDIO_LEVEL, 3: rtp.ABS_SEND_TIME}


class Peer:
    """A receiver with its own keys and a real UDP socket to read from."""

    def __init__(self, profile: srtp.SrtpProfile, *, gso: bool) -> None:
        key = os.urandom(profile.key_bytes + profile.salt_bytes)
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind(("127.0.0.1", 0))
        self.sock.setblocking(False)
        sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sender.connect(self.sock.getsockname())
        sender.setblocking(False)
        self.path = UdpPath(sender, self.sock.getsockname(), gso, lambda _path: None)
        self.track = ReceiverTrack("s", "video", 0xABCD, None)
        self.track.connect(self.path, srtp.SrtpContext(profile, key, outbound=True))
        self._inbound = srtp.SrtpContext(profile, key, outbound=False)
        self._buffer = srtp.PinnedBuffer(4096)

    def received(self) -> list[Packet]:
        packets = []
        while True:
            try:
                size = self.sock.recv_into(self._buffer.data)
            except BlockingIOError:
                return packets
            plain = self._inbound.unprotect(self._buffer, size)
            assert plain > 0
            packets.append(rtp.parse(self._buffer.view[:plain], URIS))

    def close(self) -> None:
        self.path.close()
        self.sock.close()


@pytest.fixture
def peers() -> Iterator[list[Peer]]:
    made: list[Peer] = []
    yield made
    for peer in made:
        peer.close()


def batch(sizes: Sequence[int], first_seq: int = 65533) -> list[Packet]:
    return [
        Packet(
            102,
            index == len(sizes) - 1,
            (first_seq + index) & 0xFFFF,
            4294967000,
            7,
            bytes([index]) * size,
            ((rtp.AUDIO_LEVEL, b"\x05"),),
        )
        for index, size in enumerate(sizes)
    ]


def group(tag_bytes: int = 16) -> FanoutGroup:
    return FanoutGroup((96, ((rtp.AUDIO_LEVEL, 1),), 3, tag_bytes))


@pytest.mark.parametrize("gso", [True, False])
@pytest.mark.parametrize("profile", srtp.PROFILES, ids=lambda profile: profile.name)
def test_every_receiver_gets_every_packet_in_its_own_numbering(
    peers: list[Peer], profile: srtp.SrtpProfile, gso: bool
) -> None:
    for index in range(3):
        peer = Peer(profile, gso=gso)
        peer.track.seq_offset = index * 1000
        peer.track.timestamp_offset = index * 100000
        peer.track.ssrc = 5000 + index
        peers.append(peer)
    packets = batch([1100, 1100, 1099, 1100, 30])
    prepared = group(profile.tag_bytes).prepare(packets, b"\x01\x02\x03")
    assert send(prepared, [peer.track for peer in peers], 0.0, DelayHistogram()) == 15
    for index, peer in enumerate(peers):
        got = peer.received()
        assert [p.seq for p in got] == [(p.seq + index * 1000) & 0xFFFF for p in packets]
        assert {p.timestamp for p in got} == {(4294967000 + index * 100000) & 0xFFFFFFFF}
        assert {p.ssrc for p in got} == {5000 + index}
        assert {p.payload_type for p in got} == {96}
        assert [p.payload for p in got] == [p.payload for p in packets]
        assert [p.marker for p in got] == [False] * 4 + [True]
        assert got[0].extensions == (
            (rtp.ABS_SEND_TIME, b"\x01\x02\x03"),
            (rtp.AUDIO_LEVEL, b"\x05"),
        )
        assert (peer.track.packets, peer.track.octets) == (5, prepared.octets)


def test_neighbours_of_one_size_go_out_in_one_call_and_the_last_may_be_shorter() -> None:
    prepared = group().prepare(batch([900, 900, 899, 899, 950, 100, 100]), b"abc")
    segments = []
    for buffers, control in prepared.runs:
        size = len(buffers[0])
        segment = int.from_bytes(control[0][2], "little") if control else size
        assert control is None or control[0][:2] == (socket.SOL_UDP, UDP_SEGMENT)
        segments.append(-(-size // segment))
    assert segments == [3, 1, 2, 1]


def test_a_receiver_whose_queue_is_full_loses_its_packets_and_delays_nobody(
    peers: list[Peer],
) -> None:
    peers += [Peer(srtp.AEAD_AES_128_GCM, gso=True) for _ in range(3)]

    def refuse(*_args: object) -> int:
        raise BlockingIOError

    peers[1].path.sendmsg = refuse
    sent = send(
        group().prepare(batch([500, 500]), b"abc"),
        [peer.track for peer in peers],
        0.0,
        DelayHistogram(),
    )
    assert sent == 4
    assert [len(peer.received()) for peer in peers] == [2, 0, 2]
    assert peers[1].path.would_block == 1


def test_a_dead_address_is_counted_and_delays_nobody(peers: list[Peer]) -> None:
    peers += [Peer(srtp.AEAD_AES_128_GCM, gso=True) for _ in range(2)]
    peers[0].sock.close()
    for first_seq in (0, 2):
        prepared = group().prepare(batch([500, 500], first_seq), b"abc")
        send(prepared, [peer.track for peer in peers], 0.0, DelayHistogram())
    assert peers[0].path.send_errors >= 1
    assert len(peers[1].received()) == 4


def test_a_kernel_that_refuses_segmentation_is_asked_once_and_the_batch_still_goes(
    peers: list[Peer],
) -> None:
    peer = Peer(srtp.AEAD_AES_128_GCM, gso=True)
    peers.append(peer)
    calls = []

    def refuse(*args: object) -> int:
        calls.append(args)
        raise OSError(22, "Invalid argument")

    peer.path.sendmsg = refuse
    for first_seq in (0, 3):
        prepared = group().prepare(batch([500, 500, 500], first_seq), b"abc")
        assert send(prepared, [peer.track], 0.0, DelayHistogram()) == 3
    assert len(calls) == 1
    assert not peer.path.segments
    assert [p.seq for p in peer.received()] == [0, 1, 2, 3, 4, 5]


def test_delays_are_observed_for_every_packet() -> None:
    made = [Peer(srtp.AEAD_AES_128_GCM, gso=True) for _ in range(11)]
    delays = DelayHistogram()
    send(group().prepare(batch([100, 100]), b"abc"), [p.track for p in made], 0.0, delays)
    assert sum(delays.counts) == 22
    for peer in made:
        peer.close()
