"""`tongke publish`: puts a file, camera or drawn lesson on a WHIP endpoint and keeps it there."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from dataclasses import dataclass, field

from aiortc import RTCRtpCodecCapability, RTCRtpSender, RTCRtpTransceiver

from .aiortc_edge import install_encoder
from .arguments import Stopper, required_token, whip_client
from .encoders import H264LiveEncoder, OpusLiveEncoder, Vp8LiveEncoder
from .peer import Link, LinkLostError, new_peer
from .plan import AUDIO_KBPS, Plan
from .retry import Backoff
from .sdp import without_keyframe_feedback
from .sources import Source, open_source
from .tracks import LiveTrack
from .whip import Refused, Unreachable, WhipClient
from .words import OK, CommandError, emit_json, progress, say

CHECK_INTERVAL_S = 0.5
REPORT_INTERVAL_S = 10.0
LESSON_ENDED = "lesson-ended"


@dataclass(slots=True)
class Tally:
    """What was sent, over all connections."""

    connections: int = 0
    frames: int = 0
    packets: int = 0
    bytes: int = 0
    dropped: int = 0
    began_s: float = field(default_factory=time.monotonic)


class Publisher:
    """Holds one source on one endpoint through restarts of the server, until told to stop."""

    def __init__(
        self, source: Source, client: WhipClient, *, kbps: int, retry: int | None = None
    ) -> None:
        self.tally = Tally()
        self._source = source
        self._client = client
        self._kbps = kbps
        self._backoff = Backoff(attempts=retry)

    async def run(self) -> None:
        """Publish until the source ends; cancel to stop. Raises CommandError when hopeless."""
        while not self._source.ended.is_set():
            retry_after_s = 0.0
            try:
                await self._one_connection()
                continue
            except LinkLostError as error:
                reason = str(error)
            except Unreachable as error:
                reason = str(error)
            except Refused as error:
                if error.problem.kind == LESSON_ENDED and self.tally.connections:
                    progress(str(error))
                    return
                if error.problem.hopeless:
                    raise CommandError(str(error), kind=error.problem.kind) from error
                reason = str(error)
                retry_after_s = error.problem.retry_after_s or 0.0
            if self._backoff.exhausted:
                raise CommandError(reason, kind="gave-up")
            delay_s = self._backoff.next_delay_s(retry_after_s)
            progress(
                say(
                    f"{reason}；{delay_s:.1f} 秒后重试",
                    f"{reason}; trying again in {delay_s:.1f} s",
                )
            )
            await asyncio.sleep(delay_s)
        if self._source.failure is not None:
            raise CommandError(self._source.failure, kind="source-failed")

    async def _one_connection(self) -> None:
        peer = new_peer()
        tracks = self._source.attach()
        plan = self._source.plan
        for track in tracks.values():
            self._prepare(peer.addTransceiver(track, direction="sendonly"), track, plan)
        link = Link(self._client, peer)
        as_it_is = plan.video is not None and plan.video.passthrough
        counted = _Counter(self.tally)
        try:
            await link.open(without_keyframe_feedback if as_it_is else None)
            self.tally.connections += 1
            self._backoff.succeeded()
            progress(say(f"正在发布到 {self._client.endpoint}", f"live on {self._client.endpoint}"))
            await self._play(link, tracks, counted)
        finally:
            counted.tracks(tracks)
            await link.close()

    async def _play(self, link: Link, tracks: dict[str, LiveTrack], counted: _Counter) -> None:
        listening = [asyncio.ensure_future(track.wanted.wait()) for track in tracks.values()]
        try:
            done, _ = await asyncio.wait(listening, timeout=CHECK_INTERVAL_S * 4)
            if not done:
                raise LinkLostError(
                    say("服务器不要这些画面和声音", "the server took neither picture nor sound")
                )
        finally:
            for waiting in listening:
                waiting.cancel()
        self._source.start()
        reported_s = time.monotonic()
        while not self._source.ended.is_set():
            try:
                await asyncio.wait_for(self._source.ended.wait(), CHECK_INTERVAL_S)
            except TimeoutError:
                await link.check(await counted.stats(link))
            # For a person who watches; a log does not want a line every ten seconds.
            due = time.monotonic() - reported_s > REPORT_INTERVAL_S
            if due and sys.stderr.isatty():
                reported_s = time.monotonic()
                progress(counted.sentence())

    def _prepare(self, transceiver: RTCRtpTransceiver, track: LiveTrack, plan: Plan) -> None:
        sender = transceiver.sender
        if track.kind == "audio":
            transceiver.setCodecPreferences(_capabilities("audio", "audio/opus"))
            assert plan.audio is not None
            if not plan.audio.passthrough:
                install_encoder(sender, OpusLiveEncoder(AUDIO_KBPS))
            return
        assert plan.video is not None
        mime = "video/H264" if plan.video.codec == "h264" else "video/VP8"
        transceiver.setCodecPreferences(_capabilities("video", mime))
        if not plan.video.passthrough:
            encoder = H264LiveEncoder if plan.video.codec == "h264" else Vp8LiveEncoder
            install_encoder(sender, encoder(self._kbps, plan.video.fps))


class _Counter:
    """Adds one connection's numbers to the tally, as they grow."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._packets = 0
        self._bytes = 0
        self._sentence_bytes = tally.bytes
        self._sentence_s = time.monotonic()

    async def stats(self, link: Link) -> object:
        """Update the tally; return what changes whenever the server's reports come in."""
        packets = sent_bytes = 0
        mark: list[object] = []
        for entry in (await link.peer.getStats()).values():
            if entry.type == "outbound-rtp":
                packets += entry.packetsSent
                sent_bytes += entry.bytesSent
            elif entry.type == "remote-inbound-rtp":
                mark.append(entry.timestamp)
        self._tally.packets += packets - self._packets
        self._tally.bytes += sent_bytes - self._bytes
        self._packets, self._bytes = packets, sent_bytes
        return mark

    def tracks(self, tracks: dict[str, LiveTrack]) -> None:
        for track in tracks.values():
            self._tally.dropped += track.dropped
            if track.kind == "video":
                self._tally.frames += track.sent

    def sentence(self) -> str:
        now_s = time.monotonic()
        kbps = (self._tally.bytes - self._sentence_bytes) * 8 / 1000 / (now_s - self._sentence_s)
        self._sentence_bytes, self._sentence_s = self._tally.bytes, now_s
        lasted_s = now_s - self._tally.began_s
        return say(f"{lasted_s:.0f} 秒，{kbps:.0f} kbit/s", f"{lasted_s:.0f} s, {kbps:.0f} kbit/s")


def _capabilities(kind: str, mime: str) -> list[RTCRtpCodecCapability]:
    wanted = (mime.lower(), "video/rtx")
    codecs = RTCRtpSender.getCapabilities(kind).codecs
    return [codec for codec in codecs if codec.mimeType.lower() in wanted]


def describe(plan: Plan) -> str:
    """How the source goes out, in one sentence."""
    parts: list[str] = []
    if plan.video is not None:
        video = plan.video
        size = f"{video.width}×{video.height}, {video.fps:.3g} fps"
        name = video.codec.upper()
        if video.passthrough:
            parts.append(say(f"画面 {name} 原样发送（{size}）", f"video {name} as it is ({size})"))
        else:
            parts.append(
                say(
                    f"画面编码为 {name}（{size}）：{video.reason}",
                    f"video encoded to {name} ({size}): {video.reason}",
                )
            )
    if plan.audio is not None:
        reason = f": {plan.audio.reason}" if plan.audio.reason else ""
        if plan.audio.passthrough:
            parts.append(say("声音 Opus 原样发送", "audio Opus as it is"))
        else:
            parts.append(say(f"声音编码为 Opus{reason}", f"audio encoded to Opus{reason}"))
    return say("；", "; ").join(parts)


async def _run(args: argparse.Namespace) -> int:
    token = required_token(args)
    async with whip_client(args, token) as client, Stopper() as stopper:
        source = open_source(args.source, loop=args.loop, codec=args.codec)
        progress(describe(source.plan))
        publisher = Publisher(source, client, kbps=args.kbps, retry=args.retry)
        try:
            error = await stopper.run(publisher.run(), seconds=args.seconds)
        finally:
            source.close()
    return _report(args, source, publisher.tally, error)


def _report(
    args: argparse.Namespace, source: Source, tally: Tally, error: CommandError | None
) -> int:
    lasted_s = time.monotonic() - tally.began_s
    if args.json:
        video, audio = source.plan.video, source.plan.audio
        emit_json(
            {
                "ok": error is None,
                "error": None if error is None else str(error),
                "source": args.source,
                "url": args.url,
                "seconds": round(lasted_s, 3),
                "connections": tally.connections,
                "video": None
                if video is None
                else {
                    "codec": video.codec,
                    "passthrough": video.passthrough,
                    "reason": video.reason,
                    "frames": tally.frames,
                    "dropped": tally.dropped,
                },
                "audio": None
                if audio is None
                else {"codec": "opus", "passthrough": audio.passthrough},
                "packets": tally.packets,
                "bytes": tally.bytes,
                "kbps": round(tally.bytes * 8 / 1000 / max(lasted_s, 0.001), 1),
            }
        )
    if error is not None:
        progress(str(error))
        return error.exit_code
    progress(
        say(
            f"已停止：{lasted_s:.0f} 秒，{tally.frames} 帧，连接 {tally.connections} 次",
            f"stopped: {lasted_s:.0f} s, {tally.frames} frames, {tally.connections} connection(s)",
        )
    )
    return OK


def run(args: argparse.Namespace) -> int:
    return asyncio.run(_run(args))
