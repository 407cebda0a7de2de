"""aiortc as somebody else's WHIP publisher and WHEP player: nothing of our own clients in it."""

from __future__ import annotations

import asyncio
import time
from types import TracebackType
from typing import Self

import numpy as np
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.contrib.media import MediaPlayer
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack
from av import AudioFrame, VideoFrame

from tests import media
from tests.e2e.polling import until
from tests.e2e.real_server import RealServer


class _Peer:
    """One peer connection and the WHIP or WHEP session it was opened with."""

    def __init__(self, server: RealServer, path: str, token: str) -> None:
        self.server, self.path, self.token = server, path, token
        # No STUN server: host candidates are all there is on loopback, and they come at once.
        self.peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self.location: str | None = None

    async def _open(self) -> None:
        await self.peer.setLocalDescription(await self.peer.createOffer())
        status, headers, text = await self.server.request(
            "POST",
            self.path,
            token=self.token,
            body=self.peer.localDescription.sdp,
            headers={"Content-Type": "application/sdp"},
        )
        assert status == 201, f"POST {self.path}: {status} {text}"
        self.location = headers["Location"]
        await self.peer.setRemoteDescription(RTCSessionDescription(sdp=text, type="answer"))

    async def hang_up(self) -> None:
        """DELETE the session, as a good player does, and close."""
        if self.location is not None:
            await self.server.request("DELETE", self.location, token=self.token)
            self.location = None
        await self.peer.close()

    async def __aenter__(self) -> Self:
        try:
            await self._open()
        except BaseException:
            await self.peer.close()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.hang_up()


class Publisher(_Peer):
    """Sends the VP8 and Opus clip, decoded and encoded again by aiortc, over and over."""

    def __init__(self, server: RealServer, lesson_id: str, stream: str = "camera") -> None:
        token = server.token("teacher", lesson=lesson_id)
        super().__init__(server, f"/whip/{lesson_id}/{stream}", token)
        player = MediaPlayer(str(media.vp8_clip()), loop=True)
        assert player.video and player.audio, "the clip has both"
        self._tracks = (player.video, player.audio)
        for track in self._tracks:
            self.peer.addTrack(track)

    async def hang_up(self) -> None:
        await super().hang_up()
        for track in self._tracks:
            track.stop()


class Player(_Peer):
    """Receives picture and sound, and counts what it could decode."""

    def __init__(self, server: RealServer, lesson_id: str, stream: str = "camera") -> None:
        token = server.token("observer", lesson=lesson_id)
        super().__init__(server, f"/whep/{lesson_id}/{stream}", token)
        self.asked_at = time.monotonic()
        self.first_frame_at: float | None = None
        self.frames = 0
        self.audio_energy = 0.0
        self.size = (0, 0)
        self.different_pictures: set[int] = set()
        self._tasks: list[asyncio.Task[None]] = []
        self.peer.addTransceiver("video", direction="recvonly")
        self.peer.addTransceiver("audio", direction="recvonly")
        self.peer.on("track", self._consume)

    def _consume(self, track: MediaStreamTrack) -> None:
        self._tasks.append(asyncio.ensure_future(self._count(track)))

    async def _count(self, track: MediaStreamTrack) -> None:
        while True:
            try:
                frame = await track.recv()
            except MediaStreamError:
                return
            if isinstance(frame, VideoFrame):
                if self.first_frame_at is None:
                    self.first_frame_at = time.monotonic()
                self.frames += 1
                self.size = (frame.width, frame.height)
                luma = np.frombuffer(bytes(frame.planes[0]), np.uint8)
                if luma.mean() > 20 and luma.std() > 10:
                    self.different_pictures.add(hash(luma[::64].tobytes()))
            elif isinstance(frame, AudioFrame):
                samples = frame.to_ndarray().astype(np.float64) / 32768.0
                self.audio_energy += float(np.square(samples).sum())

    @property
    def first_frame_after_s(self) -> float:
        assert self.first_frame_at is not None, "no frame yet"
        return self.first_frame_at - self.asked_at

    async def receives(self, *, frames: int, within_s: float) -> None:
        """Wait for that many more frames, decoded to moving pictures, and for more sound."""
        frames_before, energy_before = self.frames, self.audio_energy
        self.different_pictures.clear()

        async def look() -> tuple[int, float, int]:
            return self.frames, self.audio_energy, len(self.different_pictures)

        await until(
            look,
            lambda now: (
                now[0] >= frames_before + frames
                and now[1] > energy_before + 0.01
                and now[2] >= frames // 4
            ),
            within_s=within_s,
            what=f"aiortc decodes {frames} more frames of a moving picture, and sound",
        )

    async def hang_up(self) -> None:
        await super().hang_up()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
