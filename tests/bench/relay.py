"""What forwarding costs the way aiortc's own examples do it: MediaRelay and a peer per receiver.

A relayed track is encoded anew for every receiver, so the cost per packet is an encoder's. Few
receivers are enough to see it. Their own side, decoding nothing, runs in the same process.
"""

from __future__ import annotations

import asyncio
import time
from fractions import Fraction

import av
import numpy as np
from aiortc import RTCConfiguration, RTCPeerConnection, VideoStreamTrack
from aiortc.contrib.media import MediaBlackhole, MediaRelay

RECEIVERS = 3
SECONDS = 5.0


class MovingPicture(VideoStreamTrack):
    """640×360 noise that moves: an encoder has work to do, as with a camera."""

    def __init__(self) -> None:
        super().__init__()
        generator = np.random.default_rng(7)
        self._noise = generator.integers(0, 255, (540, 1280), dtype=np.uint8)
        self._count = 0

    async def recv(self) -> av.VideoFrame:
        pts, time_base = await self.next_timestamp()
        self._count += 4
        start = self._count % 640
        # Planar already: encoders of several receivers would convert the one frame at once.
        planes = np.ascontiguousarray(self._noise[:, start : start + 640])
        frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
        frame.pts, frame.time_base = pts, Fraction(time_base)
        return frame


async def _connect(sender: RTCPeerConnection, receiver: RTCPeerConnection) -> None:
    await sender.setLocalDescription(await sender.createOffer())
    await receiver.setRemoteDescription(sender.localDescription)
    await receiver.setLocalDescription(await receiver.createAnswer())
    await sender.setRemoteDescription(receiver.localDescription)


async def _run() -> float:
    relay, source = MediaRelay(), MovingPicture()
    peers: list[RTCPeerConnection] = []
    senders = []
    sinks = []
    for _ in range(RECEIVERS):
        sender, receiver = (RTCPeerConnection(RTCConfiguration(iceServers=[])) for _ in range(2))
        peers += [sender, receiver]
        senders.append(sender.addTrack(relay.subscribe(source)))
        sink = MediaBlackhole()
        sinks.append(sink)
        receiver.on("track", sink.addTrack)
        await _connect(sender, receiver)
    await asyncio.sleep(1.0)
    before, start = await _sent(senders), time.process_time()
    await asyncio.sleep(SECONDS)
    cost = time.process_time() - start
    packets = await _sent(senders) - before
    for peer in peers:
        await peer.close()
    return cost * 1e6 / max(1, packets)


async def _sent(senders: list[object]) -> int:
    total = 0
    for sender in senders:
        report = await sender.getStats()  # type: ignore[attr-defined]
        total += sum(s.packetsSent for s in report.values() if s.type == "outbound-rtp")
    return total


def us_per_packet() -> float:
    """CPU microseconds per sent packet, the receiving peers in the same process included."""
    return asyncio.run(_run())
