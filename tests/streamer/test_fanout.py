"""The batch fan-out over real sockets: what each receiver gets, byte for byte."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator, Sequence

import pytest

from streamer import fanout, rtp, srtp
from streamer.delay import DelayHistogram
from streamer.fanout import UDP_SEGMENT, FanoutGroup
from streamer.paths import UdpPath
from streamer.receiver import ReceiverTrack
from streamer.rtp import Packet

SO_NO_CHECK = 11  # linux/asm-generic/socket.h
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


@pytest.fixture(params=["python", "c"], autouse=True)
def inner_loop(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Every test runs with both inner loops; they must have the same effect."""
    if request.param == "python":
        monkeypatch.setattr(fanout, "fan_out", None)
    elif fanout.fan_out is None:
        pytest.skip("the C loop was not built here")
    return str(request.param)


def send(
    prepared: fanout.Prepared,
    tracks: Sequence[ReceiverTrack],
    received_at: float,
    delays: DelayHistogram,
) -> int:
    """As an output does it: through a group whose receivers are running."""
    members = group(tracks[0].srtp.tag_bytes)
    members.admit(tracks)
    sent = members.send_running(prepared, received_at, delays)
    members.collect()
    return sent


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
    # A Unix datagram socket that nobody reads is full after some datagrams; loopback UDP never is.
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    near.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            near.send(b"x" * 100)
    stuck = UdpPath(near, ("127.0.0.1", 1), False, lambda _path: None)
    peers[1].track.connect(stuck, peers[1].track.srtp)
    sent = send(
        group().prepare(batch([500, 500]), b"abc"),
        [peer.track for peer in peers],
        0.0,
        DelayHistogram(),
    )
    assert sent == 4
    assert [len(peer.received()) for peer in peers] == [2, 0, 2]
    assert stuck.would_block == 1
    near.close()
    far.close()


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
    # The kernel cannot segment for a socket that sends no checksums: EINVAL.
    peer.path.sock.setsockopt(socket.SOL_SOCKET, SO_NO_CHECK, 1)
    for first_seq in (0, 3):
        prepared = group().prepare(batch([500, 500, 500], first_seq), b"abc")
        assert send(prepared, [peer.track], 0.0, DelayHistogram()) == 3
        assert not peer.path.segments
    assert [p.seq for p in peer.received()] == [0, 1, 2, 3, 4, 5]


def test_a_packet_that_cannot_be_sealed_never_goes_out_in_the_clear(peers: list[Peer]) -> None:
    peer = Peer(srtp.AEAD_AES_128_GCM, gso=True)
    peers.append(peer)
    newest, oldest = batch([100], 60000), batch([100], 0)
    delays = DelayHistogram()
    send(group().prepare(newest, b"abc"), [peer.track], 0.0, delays)
    for _ in range(2):  # libsrtp refuses what is too old for its window
        send(group().prepare(oldest, b"abc"), [peer.track], 0.0, delays)
    sent = []
    with contextlib.suppress(BlockingIOError):
        while True:
            sent.append(peer.sock.recv(2048))
    if peer.track.protect_errors:
        assert all(bytes(100)[:50] in datagram for datagram in sent[1:])


def test_a_receiver_that_was_dismissed_is_sent_nothing_and_keeps_its_counts(
    peers: list[Peer],
) -> None:
    peers += [Peer(srtp.AEAD_AES_128_GCM, gso=True) for _ in range(2)]
    members = group()
    members.admit([peer.track for peer in peers])
    delays = DelayHistogram()
    members.send_running(members.prepare(batch([50, 50], 0), b"abc"), 0.0, delays)
    members.dismiss(peers[0].track)
    members.send_running(members.prepare(batch([50], 2), b"abc"), 0.0, delays)
    members.collect()
    assert [peer.track.packets for peer in peers] == [2, 3]
    assert [len(peer.received()) for peer in peers] == [2, 3]


def test_a_path_that_changes_is_followed_at_once(peers: list[Peer]) -> None:
    peers += [Peer(srtp.AEAD_AES_128_GCM, gso=True) for _ in range(2)]
    members = group()
    members.admit([peers[0].track])
    delays = DelayHistogram()
    members.send_running(members.prepare(batch([50], 0), b"abc"), 0.0, delays)
    peers[0].track.connect(peers[1].path, peers[0].track.srtp)
    members.send_running(members.prepare(batch([50], 1), b"abc"), 0.0, delays)
    assert len(peers[0].received()) == 1
    with pytest.raises(AssertionError):
        peers[1].received()  # it came here, under the other's key


def test_the_c_loop_refuses_a_layout_that_does_not_fit() -> None:
    if fanout.fan_out is None:
        pytest.skip("the C loop was not built here, or is switched off for this run")
    prepared = group().prepare(batch([50]), b"abc")
    delays = DelayHistogram()
    outside = fanout.PACKET.pack(10, 5000, 0, 0)
    with pytest.raises(ValueError, match="does not fit"):
        fanout.fan_out(
            bytearray(),
            fanout.scratch.data,
            prepared.template,
            outside,
            prepared.native_runs(),
            0,
            16,
            srtp.PROTECT_ADDRESS,
            0.0,
            delays.bounds,
            delays.counts,
            delays.total_s,
        )


def test_delays_are_observed_for_every_packet() -> None:
    made = [Peer(srtp.AEAD_AES_128_GCM, gso=True) for _ in range(11)]
    delays = DelayHistogram()
    send(group().prepare(batch([100, 100]), b"abc"), [p.track for p in made], 0.0, delays)
    assert sum(delays.counts) == 22
    for peer in made:
        peer.close()
