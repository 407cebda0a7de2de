"""A pipe of one picture: which layer of several it takes, and when it ends."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from time import monotonic

import pytest_asyncio

from streamer import control, rtcp
from streamer.delay import DelayHistogram
from streamer.description import Codec
from streamer.framing import Deframer
from streamer.output import LAYER_SILENT_S, Feed, Output
from streamer.pipe import PipeOut
from streamer.publisher import PublishedTrack
from streamer.rtp import Packet

VP8 = Codec(96, "vp8", 90000)
OPUS = Codec(111, "opus", 48000, channels=2)
RTP_HEADER_BYTES = 12
KEY = b"\x10\x00key"


class Bench:
    """An output with a sound and two layers, and the far end of a pipe that leads out of it."""

    def __init__(self, path: str) -> None:
        self.output = Output("o", control.Counters(), DelayHistogram(), lambda session: None)
        self.sources = [
            PublishedTrack("audio", "opus", 48000, 111, ssrc=1),
            PublishedTrack("video", "vp8", 90000, 96, ssrc=2),
            PublishedTrack("video", "vp8", 90000, 96, ssrc=3),
        ]
        self.asked: list[int] = []
        feeds = [
            Feed(source, codec, lambda number=number: self.asked.append(number))  # type: ignore[misc]
            for number, (source, codec) in enumerate(
                zip(self.sources, (OPUS, VP8, VP8), strict=True)
            )
        ]
        self.output.begin("p", feeds, 0.0)
        self.path = path
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(path)
        self.listener.listen(1)
        self.closed: list[str] = []
        self.now = monotonic()  # a pipe looks at the clock itself

    def open(self) -> None:
        loop = asyncio.get_running_loop()
        self.pipe = PipeOut(loop, "x", self.output, self.path, self.closed.append, one_picture=True)
        self.far, _ = self.listener.accept()
        self.far.setblocking(False)

    def send(self, number: int, size: int, now: float) -> None:
        """So many bytes of one track."""
        source, track = self.sources[number], self.output.tracks[number]
        seq = source.packets + 1
        payload = KEY + bytes(size)
        packet = Packet(source.payload_type, True, seq, seq * 3000, number, payload, (), now)
        if source.receive(packet):
            track.pending.append(packet)
        self.output.flush(now)

    def received(self) -> list[tuple[int, int]]:
        """Of each packet at the far end the track's number and the size, as `send` had it."""
        frames = Deframer().feed(self.far.recv(1 << 20))
        return [
            (int.from_bytes(frame[8:12], "big"), len(frame) - len(KEY) - RTP_HEADER_BYTES)
            for frame in frames
        ]


@pytest_asyncio.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    made = Bench(str(tmp_path / "pipe"))
    yield made
    made.pipe.close()
    made.far.close()
    made.listener.close()


def measured(bench: Bench, *sizes: int) -> None:
    """Let both layers carry packets for a while, so that their rates are known."""
    began = bench.now - 1.0
    for tick in range(10):
        for number, size in enumerate(sizes, start=1):
            bench.send(number, size, began + 0.1 * tick)
        for source in bench.sources:
            source.measure_rate(began + 0.1 * tick)


async def test_the_largest_layer_that_carries_packets_is_taken(bench: Bench) -> None:
    measured(bench, 1000, 200)
    bench.open()
    for number, size in ((0, 10), (1, 300), (2, 20)):
        bench.send(number, size, bench.now)
    assert bench.received() == [(0, 10), (1, 300)]  # the sound and that layer, in this order


async def test_a_request_for_a_key_frame_reaches_the_picture_whatever_its_number(
    bench: Bench,
) -> None:
    measured(bench, 1000, 200)
    bench.open()
    bench.output.tick(bench.now + 1.0)
    bench.asked.clear()
    request = rtcp.picture_loss(0, 0)
    bench.far.send(len(request).to_bytes(2, "big") + request)
    async with asyncio.timeout(5):
        while not bench.asked:
            await asyncio.sleep(0.01)
            bench.output.tick(monotonic() + 1.0)
    assert set(bench.asked) == {1}


async def test_it_ends_when_its_layer_falls_silent_and_another_goes_on(bench: Bench) -> None:
    measured(bench, 1000, 200)
    bench.open()
    later = bench.now + 2 * LAYER_SILENT_S
    bench.pipe.tick(bench.now)
    assert bench.closed == []
    bench.send(2, 200, later)
    bench.pipe.tick(later + 1.0)
    assert bench.closed == ["x"]
