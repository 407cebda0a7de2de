"""`tongke watch`: a WHEP receiver without a screen that decodes, counts, and records if asked."""

from __future__ import annotations

import argparse
import asyncio
import time
from dataclasses import dataclass

import numpy as np
from aiortc import RTCRtpReceiver
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack
from av.audio.frame import AudioFrame
from av.video.frame import VideoFrame

from .aiortc_edge import StreamCounters, receiver_counters
from .arguments import Stopper, required_token, whip_client
from .peer import Link, LinkLostError, new_peer
from .reception import Reception
from .recorder import FileRecorder
from .retry import Backoff
from .whip import Problem, Refused, Unreachable, WhipClient
from .words import FAILED, OK, CommandError, emit_json, progress, say

CHECK_INTERVAL_S = 0.5
REPORT_INTERVAL_S = 5.0
CLOCK_RATES_HZ = {"audio": 48_000, "video": 90_000}
CAP_REACHED = "receiver-cap-reached"
LESSON_ENDED = "lesson-ended"
DEFAULT_QUEUE_WAIT_S = 5.0
NOTHING = StreamCounters(0, 0, 0, 0.0)


@dataclass(slots=True)
class Totals:
    """Counters summed over the connections that are over."""

    connections: int = 0
    waited_s: float = 0.0
    audio: StreamCounters = NOTHING
    video: StreamCounters = NOTHING
    bytes: int = 0


class Watcher:
    """Receives one output through restarts of the server, waiting in line where there is one."""

    def __init__(
        self,
        client: WhipClient,
        *,
        seconds: float | None = None,
        recorder: FileRecorder | None = None,
        wait: bool = True,
        retry: int | None = None,
    ) -> None:
        self.reception = Reception()
        self.totals = Totals()
        self._client = client
        self._seconds = seconds
        self._recorder = recorder
        self._wait = wait
        self._retry = retry
        self._ticket: str | None = None
        self._began_s = time.monotonic()
        self._connected_s: float | None = None
        self._first_request_s = 0.0

    async def run(self) -> None:
        """Receive for the wanted time, or until cancelled. Raises CommandError when hopeless."""
        backoff = Backoff(attempts=self._retry)
        while True:
            try:
                await self._one_connection(backoff)
                return
            except Refused as error:
                if error.problem.kind == LESSON_ENDED and self.totals.connections:
                    progress(str(error))
                    return
                delay_s, reason = self._refused(error, backoff)
            except (LinkLostError, Unreachable) as error:
                reason = str(error)
                if backoff.exhausted or (self._retry is None and not self.totals.connections):
                    raise CommandError(reason, kind="unreachable") from error
                delay_s = backoff.next_delay_s()
                reason = say(
                    f"{reason}；{delay_s:.1f} 秒后重连", f"{reason}; again in {delay_s:.1f} s"
                )
            progress(reason)
            await asyncio.sleep(delay_s)

    @property
    def seconds(self) -> float:
        """How long we have been watching, from the first connection."""
        return 0.0 if self._connected_s is None else time.monotonic() - self._connected_s

    @property
    def first_frame_s(self) -> float | None:
        """From the first request that was granted to the first decoded picture."""
        first = self.reception.first_frame_s
        return None if first is None else first - self._first_request_s

    def _refused(self, error: Refused, backoff: Backoff) -> tuple[float, str]:
        problem = error.problem
        if problem.kind == CAP_REACHED and self._wait:
            delay_s = problem.retry_after_s or DEFAULT_QUEUE_WAIT_S
            self._ticket = problem.ticket or self._ticket
            self.totals.waited_s += delay_s
            return delay_s, _in_line(problem, delay_s)
        fatal = problem.hopeless or problem.kind == CAP_REACHED
        if fatal or backoff.exhausted:
            raise CommandError(str(error), kind=problem.kind) from error
        delay_s = backoff.next_delay_s(problem.retry_after_s or 0.0)
        return delay_s, say(
            f"{error}；{delay_s:.1f} 秒后重试", f"{error}; again in {delay_s:.1f} s"
        )

    async def _one_connection(self, backoff: Backoff) -> None:
        peer = new_peer()
        receivers: dict[str, RTCRtpReceiver] = {}
        for kind in ("audio", "video"):
            receivers[kind] = peer.addTransceiver(kind, direction="recvonly").receiver
        link = Link(self._client, peer)
        drains: list[asyncio.Task[None]] = []

        @peer.on("track")
        def listen(track: MediaStreamTrack) -> None:
            drains.append(asyncio.ensure_future(self._drain(track)))

        requested_s = self._now_s()
        try:
            await link.open(ticket=self._ticket)
            if self._connected_s is None:
                self._connected_s = time.monotonic()
                self._first_request_s = requested_s
            self.totals.connections += 1
            self._ticket = None
            backoff.succeeded()
            progress(say(f"正在收看 {self._client.endpoint}", f"watching {self._client.endpoint}"))
            await self._stay(link, receivers)
        finally:
            await self._add_up(link, receivers)
            for drain in drains:
                drain.cancel()
            await asyncio.gather(*drains, return_exceptions=True)
            await link.close()

    async def _stay(self, link: Link, receivers: dict[str, RTCRtpReceiver]) -> None:
        reported_s = time.monotonic()
        while self._seconds is None or self.seconds < self._seconds:
            left_s = CHECK_INTERVAL_S if self._seconds is None else self._seconds - self.seconds
            await asyncio.sleep(max(0.0, min(CHECK_INTERVAL_S, left_s)))
            counters = _counters(receivers)
            # The server's own reports count as a sign of life too: a teacher may have left.
            heard = [(c.packets, c.retransmitted) for c in counters.values()]
            await link.check([*heard, await _reports(link)])
            if time.monotonic() - reported_s > REPORT_INTERVAL_S:
                reported_s = time.monotonic()
                progress(self._sentence(counters))

    async def _drain(self, track: MediaStreamTrack) -> None:
        while True:
            try:
                frame = await track.recv()
            except MediaStreamError:
                return
            now_s = self._now_s()
            if isinstance(frame, VideoFrame):
                self.reception.video(now_s, frame.width, frame.height)
            elif isinstance(frame, AudioFrame):
                samples = frame.to_ndarray().astype(np.int16, copy=False)
                channels = len(frame.layout.channels)
                self.reception.audio(now_s, samples, frame.sample_rate, channels)
            else:
                continue
            if self._recorder is not None:
                self._recorder.add(now_s, frame)

    async def _add_up(self, link: Link, receivers: dict[str, RTCRtpReceiver]) -> None:
        now = _counters(receivers)
        self.totals.audio = _sum(self.totals.audio, now["audio"])
        self.totals.video = _sum(self.totals.video, now["video"])
        for entry in (await link.peer.getStats()).values():
            if entry.type == "transport":
                self.totals.bytes += entry.bytesReceived

    def _now_s(self) -> float:
        return time.monotonic() - self._began_s

    def _sentence(self, counters: dict[str, StreamCounters]) -> str:
        seen = self.reception
        lost = sum(counter.lost for counter in counters.values())
        size = f"{seen.width}×{seen.height}"
        return say(
            f"{self.seconds:.0f} 秒：{seen.frames} 帧 {size}，声音 {seen.audio_s:.0f} 秒"
            f"（{seen.rms_dbfs:.0f} dBFS），丢包 {lost}",
            f"{self.seconds:.0f} s: {seen.frames} frames {size}, {seen.audio_s:.0f} s of sound"
            f" ({seen.rms_dbfs:.0f} dBFS), {lost} packets lost",
        )

    def report(self) -> dict[str, object]:
        """The statistics of `--json`."""
        seen, totals = self.reception, self.totals
        first_s = self.first_frame_s
        return {
            "url": self._client.endpoint,
            "seconds": round(self.seconds, 3),
            "connections": totals.connections,
            "waited_s": round(totals.waited_s, 1),
            "first_frame_s": None if first_s is None else round(first_s, 3),
            "kbps": round(totals.bytes * 8 / 1000 / max(self.seconds, 0.001), 1),
            "video": {
                "frames": seen.frames,
                "width": seen.width,
                "height": seen.height,
                "fps": round(seen.fps, 2),
                "freezes": seen.freezes,
                "frozen_s": round(seen.frozen_s, 3),
                **_fields(totals.video),
            },
            "audio": {
                "seconds": round(seen.audio_s, 3),
                "rms": round(seen.rms, 5),
                "rms_dbfs": round(seen.rms_dbfs, 1),
                **_fields(totals.audio),
            },
        }


def _in_line(problem: Problem, delay_s: float) -> str:
    if problem.position is not None:
        return say(
            f"已满员，排在第 {problem.position} 位；{delay_s:.0f} 秒后再试",
            f"full; number {problem.position} in line; asking again in {delay_s:.0f} s",
        )
    return say(f"已满员；{delay_s:.0f} 秒后再试", f"full; asking again in {delay_s:.0f} s")


def _counters(receivers: dict[str, RTCRtpReceiver]) -> dict[str, StreamCounters]:
    return {
        kind: receiver_counters(receiver, CLOCK_RATES_HZ[kind])
        for kind, receiver in receivers.items()
    }


async def _reports(link: Link) -> list[object]:
    stats = (await link.peer.getStats()).values()
    return [entry.timestamp for entry in stats if entry.type == "remote-outbound-rtp"]


def _sum(one: StreamCounters, other: StreamCounters) -> StreamCounters:
    return StreamCounters(
        one.packets + other.packets,
        one.missing + other.missing,
        one.retransmitted + other.retransmitted,
        other.jitter_ms if other.packets else one.jitter_ms,
    )


def _fields(counters: StreamCounters) -> dict[str, object]:
    return {
        "packets": counters.packets,
        "lost": counters.lost,
        "retransmitted": counters.retransmitted,
        "jitter_ms": round(counters.jitter_ms, 2),
    }


async def _run(args: argparse.Namespace) -> int:
    token = required_token(args)
    recorder = FileRecorder(args.record) if args.record is not None else None
    async with whip_client(args, token) as client, Stopper() as stopper:
        watcher = Watcher(
            client,
            seconds=args.seconds,
            recorder=recorder,
            wait=not args.no_wait,
            retry=args.retry,
        )
        try:
            error = await stopper.run(watcher.run())
        finally:
            if recorder is not None:
                await asyncio.to_thread(recorder.close)
    if error is None and not watcher.reception.got_anything:
        error = CommandError(
            say("没有收到画面和声音", "neither picture nor sound arrived"), kind="no-media"
        )
    if error is None and recorder is not None and recorder.failure is not None:
        error = CommandError(recorder.failure, kind="recording-failed")
    if args.json:
        emit_json(
            {
                "ok": error is None,
                "error": None if error is None else str(error),
                "type": None if error is None else error.kind,
                **watcher.report(),
                "recorded": None if recorder is None else str(recorder.path),
            }
        )
    elif watcher.reception.got_anything:
        _print_summary(watcher)
    if error is not None:
        progress(str(error))
        return error.exit_code if error.exit_code != OK else FAILED
    return OK


def _print_summary(watcher: Watcher) -> None:
    seen = watcher.reception
    lost = watcher.totals.audio.lost + watcher.totals.video.lost
    first_s = watcher.first_frame_s
    first = say("没有画面", "no picture") if first_s is None else f"{first_s:.2f} s"
    print(
        say(
            f"画面 {seen.frames} 帧 {seen.width}×{seen.height} {seen.fps:.1f} fps，"
            f"停顿 {seen.freezes} 次，首帧 {first}\n"
            f"声音 {seen.audio_s:.1f} 秒，{seen.rms_dbfs:.1f} dBFS；丢包 {lost}",
            f"picture: {seen.frames} frames {seen.width}×{seen.height} {seen.fps:.1f} fps,"
            f" {seen.freezes} freezes, first after {first}\n"
            f"sound: {seen.audio_s:.1f} s, {seen.rms_dbfs:.1f} dBFS; packets lost: {lost}",
        )
    )


def run(args: argparse.Namespace) -> int:
    return asyncio.run(_run(args))
