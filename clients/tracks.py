"""Tracks that a source's thread pushes into and an aiortc sender pulls from, live: late is lost."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TypeAlias

from aiortc.mediastreams import MediaStreamError, MediaStreamTrack
from av.audio.frame import AudioFrame
from av.packet import Packet
from av.stream import Stream
from av.video.frame import VideoFrame

Item: TypeAlias = "VideoFrame | AudioFrame | Packet[Stream]"

MOST_FRAMES = {"video": 3, "audio": 25}  # an encoder that cannot follow loses frames, not time
MOST_PACKETS = 400


class LiveTrack(MediaStreamTrack):
    """One connection's view of one track of a source; begins at a key frame if packets come."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.dropped = 0
        self.sent = 0
        self.wanted = asyncio.Event()  # set by the first recv: somebody is listening
        self._items: deque[Item] = deque()
        self._arrived = asyncio.Event()
        self._needs_keyframe = kind == "video"
        self._finished = False

    def push(self, item: Item) -> None:
        """Called on the loop's thread by the source."""
        if not self.wanted.is_set() or self.readyState != "live":
            return
        if isinstance(item, Packet):
            if len(self._items) >= MOST_PACKETS:
                self.dropped += len(self._items)
                self._items.clear()
                self._needs_keyframe = self.kind == "video"
            if self._needs_keyframe and not item.is_keyframe:
                return
            self._needs_keyframe = False
        elif len(self._items) >= MOST_FRAMES[self.kind]:
            self._items.popleft()
            self.dropped += 1
        self._items.append(item)
        self._arrived.set()

    def finish(self) -> None:
        """The source has ended: what is queued still goes out."""
        self._finished = True
        self._arrived.set()

    async def recv(self) -> Item:
        self.wanted.set()
        while not self._items:
            if self._finished or self.readyState != "live":
                raise MediaStreamError
            self._arrived.clear()
            await self._arrived.wait()
        self.sent += 1
        return self._items.popleft()

    def stop(self) -> None:
        super().stop()
        self._arrived.set()
