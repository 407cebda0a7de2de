"""A raw publisher that teaches: an even stream of picture and sound, a key frame when asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from streamer import rtcp
from tests.net.peer import OPUS, RTP_HEADER, RawPeer

FRAMES_PER_S = 40
PACKETS_PER_FRAME = 3
VIDEO_TICKS, AUDIO_TICKS = 90_000 // FRAMES_PER_S, 48_000 // FRAMES_PER_S


class Teaching:
    """What has been sent so far: the numbers and contents of the picture's packets."""

    def __init__(self, publisher: RawPeer) -> None:
        self.publisher = publisher
        self.frames = 0
        self.sent: dict[int, tuple[int, bytes]] = {}
        self.key_frames = 0
        self._asked = 0

    def frame(self) -> None:
        """Send one frame and its share of the sound."""
        publisher = self.publisher
        asked = len(publisher.rtcp_of(rtcp.PictureLoss))
        keyframe = not self.frames or asked > self._asked
        self._asked = asked
        self.key_frames += keyframe
        timestamp = self.frames * VIDEO_TICKS
        for part in range(PACKETS_PER_FRAME):
            packet = publisher.video_packet(
                timestamp, keyframe=keyframe, last=part == PACKETS_PER_FRAME - 1
            )
            self.sent[int.from_bytes(packet[2:4], "big")] = (timestamp, packet[12:])
            publisher.send_rtp(packet)
        head = RTP_HEADER.pack(
            0x80, OPUS, self.frames & 0xFFFF, self.frames * AUDIO_TICKS, publisher.audio_ssrc
        )
        publisher.send_rtp(head + bytes(80))
        self.frames += 1

    def resend(self, seqs: Sequence[int]) -> None:
        """Answer a NACK."""
        for seq in seqs:
            if seq in self.sent:
                self.publisher.retransmit(seq, *self.sent[seq])

    async def go_on(self) -> None:
        while True:
            self.frame()
            if self.frames % (2 * FRAMES_PER_S) == 0:
                self.publisher.check()  # consent
            await asyncio.sleep(1 / FRAMES_PER_S)


@asynccontextmanager
async def teaching(publisher: RawPeer) -> AsyncIterator[Teaching]:
    """Teach while the block runs, and a moment longer so that the last packets arrive."""
    lesson = Teaching(publisher)
    task = asyncio.ensure_future(lesson.go_on())
    try:
        yield lesson
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    await asyncio.sleep(0.1)
