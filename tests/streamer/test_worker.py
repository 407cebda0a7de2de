"""A worker in this process with real aiortc peers over UDP sockets."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import pytest_asyncio
from aiortc import (
    AudioStreamTrack,
    RTCConfiguration,
    RTCPeerConnection,
    RTCSessionDescription,
    VideoStreamTrack,
)
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack

from streamer import control
from streamer.dtls import generate_identity
from streamer.pipe import described
from streamer.worker import Worker

IDENTITY = generate_identity()


def settings(**changes: object) -> control.WorkerSettings:
    values: dict[str, object] = {
        "worker": 0,
        "binds": [control.Address("127.0.0.1", 0)],
        "announce": ["127.0.0.1"],
        "certificate_pem": IDENTITY[0],
        "key_pem": IDENTITY[1],
    }
    return control.WorkerSettings(**(values | changes))  # type: ignore[arg-type]


class House:
    """One worker and the aiortc peers of a test."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.peers: list[RTCPeerConnection] = []
        self._requests = 0

    def ask(self, kind: type, **fields: object) -> control.AnyReply:
        self._requests += 1
        return self.worker.handle(kind(request_id=self._requests, **fields))

    async def publish(self, session_id: str = "p", output_id: str = "o") -> RTCPeerConnection:
        peer = self._peer()
        peer.addTrack(AudioStreamTrack())
        peer.addTrack(VideoStreamTrack())
        await peer.setLocalDescription(await peer.createOffer())
        opened = self.ask(
            control.OpenPublisher,
            session_id=session_id,
            output_id=output_id,
            offer=peer.localDescription.sdp,
        )
        await self._answer(peer, opened)
        return peer

    async def receive(
        self, session_id: str, output_id: str = "o"
    ) -> tuple[RTCPeerConnection, dict[str, int]]:
        """A receiving peer and what it has decoded, counted by kind."""
        peer = self._peer()
        counts = {"audio": 0, "video": 0}
        tasks: list[asyncio.Task[None]] = []

        @peer.on("track")
        def on_track(track: MediaStreamTrack) -> None:
            tasks.append(asyncio.ensure_future(_count(track, counts)))

        peer.addTransceiver("audio", direction="recvonly")
        peer.addTransceiver("video", direction="recvonly")
        await peer.setLocalDescription(await peer.createOffer())
        opened = self.ask(
            control.OpenReceiver,
            session_id=session_id,
            output_id=output_id,
            offer=peer.localDescription.sdp,
        )
        await self._answer(peer, opened)
        return peer, counts

    def _peer(self) -> RTCPeerConnection:
        peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self.peers.append(peer)
        return peer

    @staticmethod
    async def _answer(peer: RTCPeerConnection, opened: control.AnyReply) -> None:
        assert isinstance(opened, control.Opened), opened
        await peer.setRemoteDescription(RTCSessionDescription(opened.answer, "answer"))

    def stats(self) -> control.Stats:
        stats = self.ask(control.GetStats)
        assert isinstance(stats, control.Stats)
        return stats


async def _count(track: MediaStreamTrack, counts: dict[str, int]) -> None:
    with contextlib.suppress(MediaStreamError):
        while True:
            await track.recv()
            counts[track.kind] += 1


async def until(condition: Callable[[], bool], seconds: float = 15.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - what is awaited has no event
            await asyncio.sleep(0.02)


@pytest_asyncio.fixture
async def house() -> AsyncIterator[House]:
    worker = Worker(settings(), asyncio.get_running_loop())
    worker.start()
    made = House(worker)
    yield made
    for peer in made.peers:
        with contextlib.suppress(ConnectionError):
            await peer.close()
    worker.close("test over")


async def closing(*peers: Awaitable[object]) -> None:
    await asyncio.gather(*peers)


async def test_two_receivers_decode_what_one_publisher_sends(house: House) -> None:
    await house.publish()
    _a, first = await house.receive("a")
    _b, second = await house.receive("b")
    await until(lambda: min(first["video"], second["video"]) > 20)
    await until(lambda: min(first["audio"], second["audio"]) > 20)
    stats = house.stats()
    roles = sorted(session.role for session in stats.sessions)
    assert roles == ["publisher", "receiver", "receiver"]
    assert {session.srtp_profile for session in stats.sessions} <= {
        "AEAD_AES_128_GCM",
        "AEAD_AES_256_GCM",
    }
    assert stats.counters.rtp_packets_forwarded > stats.counters.rtp_packets_received


async def test_a_receiver_may_come_before_the_publisher(house: House) -> None:
    _a, counts = await house.receive("a")
    await until(lambda: house.worker.sessions["a"].state == "connected")
    await house.publish()
    await until(lambda: counts["video"] > 5 and counts["audio"] > 5)


async def test_a_new_publisher_takes_the_place_of_the_old_and_the_picture_goes_on(
    house: House,
) -> None:
    await house.publish("p1")
    _a, counts = await house.receive("a")
    await until(lambda: counts["video"] > 5)
    await house.publish("p2")
    assert "p1" not in house.worker.sessions
    seen = counts["video"]
    await until(lambda: counts["video"] > seen + 10)


async def test_closing_is_told_once_and_frees_everything(house: House) -> None:
    await house.publish()
    _a, counts = await house.receive("a")
    await until(lambda: counts["video"] > 5)
    for session in ("a", "p"):
        assert isinstance(house.ask(control.CloseSession, session_id=session), control.Done)
    closed = [
        message.session_id
        for message in house.worker.outbox
        if isinstance(message, control.SessionChanged) and message.state == "closed"
    ]
    assert closed == ["a", "p"]
    assert not house.worker.sessions
    await until(lambda: not house.worker.outputs)
    assert isinstance(house.ask(control.CloseSession, session_id="a"), control.Failed)


async def test_a_peer_that_says_goodbye_frees_its_session_at_once(house: House) -> None:
    peer, counts = await house.receive("a")
    await house.publish()
    await until(lambda: counts["video"] > 5)
    await peer.close()
    await until(lambda: "a" not in house.worker.sessions, 3.0)


async def test_an_output_crosses_a_pipe_to_another_worker(
    house: House, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = Worker(settings(worker=1), asyncio.get_running_loop())
    other.start()
    far = House(other)
    try:
        await house.publish()
        _near, near_counts = await house.receive("near")
        await until(lambda: near_counts["video"] > 5)
        await until(
            lambda: any(
                isinstance(m, control.OutputChanged) and m.live for m in house.worker.outbox
            )
        )
        changed = [m for m in house.worker.outbox if isinstance(m, control.OutputChanged)][-1]
        assert not changed.piped
        path = str(tmp_path_factory.mktemp("pipes") / "1")
        done = far.ask(
            control.OpenPipeIn, pipe_id="x", output_id="o", path=path, tracks=changed.tracks
        )
        assert isinstance(done, control.Done)
        done = house.ask(control.OpenPipeOut, pipe_id="x", output_id="o", path=path)
        assert isinstance(done, control.Done)
        _far, far_counts = await far.receive("far")
        await until(lambda: far_counts["video"] > 10 and far_counts["audio"] > 10)
        house.ask(control.CloseSession, session_id="p")
        await until(lambda: far.worker.outputs["o"].publisher_id is None)
    finally:
        for peer in far.peers:
            await peer.close()
        other.close("test over")


async def test_a_receiver_moves_to_another_output_and_back_without_renegotiation(
    house: House,
) -> None:
    await house.publish("p", "o")
    await house.publish("q", "other")
    _peer, counts = await house.receive("r", "o")
    await until(lambda: counts["video"] > 5 and counts["audio"] > 5)
    for output_id in ("other", "o"):
        done = house.ask(control.MoveReceiver, session_id="r", output_id=output_id)
        assert isinstance(done, control.Done)
        assert house.worker.sessions["r"].output_id == output_id
        counts.update(audio=0, video=0)
        await until(lambda: counts["video"] > 5 and counts["audio"] > 5)
    assert not any(True for _ in house.worker.outputs["other"].audio.receivers)
    assert all(receiver.packets_lost == 0 for receiver in house.worker.outputs["o"].audio.receivers)


async def test_only_a_receiver_can_be_moved_and_only_a_publisher_limited(house: House) -> None:
    await house.publish("p", "o")
    moved = house.ask(control.MoveReceiver, session_id="p", output_id="x")
    assert isinstance(moved, control.Failed)
    assert moved.code == "no-such-session"
    assert isinstance(house.ask(control.LimitPublisher, session_id="p", kbps=200), control.Done)
    limited = house.ask(control.LimitPublisher, session_id="nobody", kbps=200)
    assert isinstance(limited, control.Failed)


async def test_a_pipe_of_one_picture_carries_one_video_track(
    house: House, tmp_path_factory: pytest.TempPathFactory
) -> None:
    await house.publish()
    await until(lambda: "o" in house.worker.outputs and house.worker.outputs["o"].live)
    path = str(tmp_path_factory.mktemp("pipes") / "1")
    tracks = [described(track, codec) for track, codec in house.worker.outputs["o"].published()]
    far = Worker(settings(worker=1), asyncio.get_running_loop())
    far.start()
    try:
        House(far).ask(control.OpenPipeIn, pipe_id="x", output_id="o", path=path, tracks=tracks)
        done = house.ask(
            control.OpenPipeOut, pipe_id="x", output_id="o", path=path, one_picture=True
        )
        assert isinstance(done, control.Done)
        await until(lambda: "o" in far.outputs and far.outputs["o"].live)
        kinds = [track.kind for track, _codec in far.outputs["o"].published()]
        assert sorted(kinds) == ["audio", "video"]
    finally:
        far.close("test over")


@pytest.mark.parametrize("offer", ["", "v=0\r\n", "hello", "v=0\r\nm=video 9 X 96\r\n" * 40])
async def test_a_bad_offer_is_refused_by_field_and_leaves_nothing(house: House, offer: str) -> None:
    failed = house.ask(control.OpenReceiver, session_id="a", output_id="o", offer=offer)
    assert isinstance(failed, control.Failed)
    assert failed.code == "invalid-sdp"
    assert failed.detail
    assert not house.worker.sessions


async def test_more_sessions_than_allowed_are_refused() -> None:
    worker = Worker(settings(max_sessions=0), asyncio.get_running_loop())
    worker.start()
    failed = House(worker).ask(control.OpenReceiver, session_id="a", output_id="o", offer="v=0")
    assert isinstance(failed, control.Failed)
    assert failed.code == "too-many-sessions"
    worker.close("test over")
