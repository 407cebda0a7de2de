"""The mixer between real ends: an aiortc peer publishes, a worker pipes, a peer gets the stage."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest
from aiortc import (
    AudioStreamTrack,
    RTCConfiguration,
    RTCPeerConnection,
    RTCSessionDescription,
    VideoStreamTrack,
)
from aiortc.mediastreams import MediaStreamTrack
from av import VideoFrame

from mixer import control
from streamer import control as worker_control
from streamer.dtls import generate_identity
from streamer.worker import Worker
from tests.mixer.harness import running_mixer

COLOUR = (30, 60, 200)  # blue, green, red

pytestmark = pytest.mark.timeout(180)


class ColourTrack(VideoStreamTrack):
    """Frames of one colour."""

    async def recv(self) -> VideoFrame:
        pts, time_base = await self.next_timestamp()
        image = np.empty((180, 320, 3), np.uint8)
        image[:] = COLOUR
        frame = VideoFrame.from_ndarray(image, format="bgr24")
        frame.pts, frame.time_base = pts, time_base
        return frame


class Workshop:
    """One worker in this process, and what it tells."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self._requests = 0

    def ask(self, kind: type[Any], **fields: Any) -> Any:
        self._requests += 1
        reply = self.worker.handle(kind(request_id=self._requests, **fields))
        assert not isinstance(reply, worker_control.Failed), reply
        return reply

    async def told_of(self, output_id: str) -> worker_control.OutputChanged:
        """The latest that is known of an output once it is live."""
        for _ in range(600):
            for message in reversed(self.worker.outbox):
                if (
                    isinstance(message, worker_control.OutputChanged)
                    and message.output_id == output_id
                    and message.live
                    and message.tracks
                ):
                    return message
            await asyncio.sleep(0.1)
        raise AssertionError(f"output {output_id} never came alive")


def peer() -> RTCPeerConnection:
    return RTCPeerConnection(RTCConfiguration(iceServers=[]))


async def connect(
    shop: Workshop, connection: RTCPeerConnection, kind: type[Any], name: str
) -> None:
    await connection.setLocalDescription(await connection.createOffer())
    sdp = connection.localDescription.sdp
    opened = shop.ask(kind, session_id=f"session-{name}", output_id=name, offer=sdp)
    await connection.setRemoteDescription(RTCSessionDescription(opened.answer, "answer"))


async def test_a_publishers_picture_and_sound_come_back_on_the_stage() -> None:
    certificate, key = generate_identity()
    settings = worker_control.WorkerSettings(
        worker=0,
        binds=[worker_control.Address("127.0.0.1", 0)],
        announce=["127.0.0.1"],
        certificate_pem=certificate,
        key_pem=key,
    )
    worker = Worker(settings, asyncio.get_running_loop())
    worker.start()
    shop = Workshop(worker)
    publisher, receiver = peer(), peer()
    try:
        async with running_mixer() as mixer:
            publisher.addTrack(AudioStreamTrack())
            publisher.addTrack(ColourTrack())
            await connect(shop, publisher, worker_control.OpenPublisher, "camera")
            camera = await shop.told_of("camera")

            # The camera into the mixer: the mixer listens, the worker connects.
            into = mixer.path("camera")
            added = await mixer.ask(
                control.AddInput,
                lesson_id="L",
                input_id="camera",
                path=into,
                role="teacher",
                tracks=camera.tracks,
            )
            assert isinstance(added, control.Done), added
            shop.ask(
                worker_control.OpenPipeOut,
                pipe_id="out",
                output_id="camera",
                path=into,
                one_picture=True,
            )

            # The stage back: the worker listens, the mixer connects.
            back = mixer.path("stage")
            shop.ask(
                worker_control.OpenPipeIn,
                pipe_id="in",
                output_id="stage",
                path=back,
                tracks=control.output_tracks("stage"),
            )
            added = await mixer.ask(
                control.AddOutput, lesson_id="L", output="stage", path=back, width=320, height=180
            )
            assert isinstance(added, control.Done), added
            stage = await shop.told_of("stage")
            assert [track.codec for track in stage.tracks] == ["opus", "h264"]

            frames: dict[str, list[Any]] = {"audio": [], "video": []}
            tasks = []

            @receiver.on("track")
            def on_track(track: MediaStreamTrack) -> None:
                async def take() -> None:
                    while True:
                        frames[track.kind].append(await track.recv())

                tasks.append(asyncio.ensure_future(take()))

            receiver.addTransceiver("audio", direction="recvonly")
            receiver.addTransceiver("video", direction="recvonly")
            await connect(shop, receiver, worker_control.OpenReceiver, "stage")

            def arrived() -> bool:
                if len(frames["audio"]) < 50 or not frames["video"]:
                    return False
                pixel = frames["video"][-1].to_ndarray(format="bgr24")[90, 160]
                return bool(np.abs(pixel.astype(int) - COLOUR).max() < 30)

            for _ in range(600):
                if arrived():
                    break
                await asyncio.sleep(0.1)
            assert arrived()
            for task in tasks:
                task.cancel()
    finally:
        await asyncio.gather(publisher.close(), receiver.close())
        worker.close("done")
