"""Drives a real mixer process: its control channel, workers' ends of its pipes, made-up classrooms.

A `Classroom` sends a coloured picture and a tone as a worker's `PipeOut` would; a `Receiver`
takes an output as a worker's `PipeIn` would and decodes it with other code than the mixer's.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache
from pathlib import Path
from time import monotonic, time
from typing import Any

import av
import cv2
import numpy as np
import numpy.typing as npt
from aiortc.codecs import depayload
from aiortc.rtcrtpparameters import RTCRtpCodecParameters
from av.video.frame import PictureType

from mixer import control, packetize
from streamer import rtcp, rtp
from streamer.framing import Deframer
from streamer.pipe import EXTENSION_IDS

ROOT = Path(__file__).resolve().parent.parent.parent
RATE_HZ = 48_000
FRAME_SAMPLES = 960
CYCLE_FRAMES = 15
Sound = npt.NDArray[np.float32]
BgrImage = npt.NDArray[np.uint8]

AUDIO = control.PipedTrack(
    kind="audio", codec="opus", clock_rate=48_000, channels=2, payload_type=111
)
VP8 = control.PipedTrack(kind="video", codec="vp8", clock_rate=90_000, channels=1, payload_type=96)
H264 = control.PipedTrack(
    kind="video", codec="h264", clock_rate=90_000, channels=1, payload_type=102
)


# --- the process ---------------------------------------------------------------------------------


class MixerProcess:
    """The mixer under test, as the control process sees it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.notifications: list[Any] = []
        self._ids = itertools.count(1)
        self._replies: dict[int, asyncio.Future[Any]] = {}
        self._changed = asyncio.Event()

    async def start(self) -> None:
        ours, theirs = socket.socketpair()
        self.process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "mixer.process", "--fd", str(theirs.fileno())),
            pass_fds=(theirs.fileno(),),
            cwd=ROOT,
        )
        theirs.close()
        self._reader, self._writer = await asyncio.open_unix_connection(sock=ours)
        settings = control.MixerSettings(mixer=1, log_level="WARNING")
        self._writer.write(control.frame(settings))
        self._reading = asyncio.create_task(self._read())
        await self.notified(lambda message: isinstance(message, control.Ready))

    async def _read(self) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                size = int.from_bytes(await self._reader.readexactly(4), "big")
                body = await self._reader.readexactly(size)
                message = control.from_mixer_decoder.decode(body)
                request_id = getattr(message, "request_id", None)
                if request_id is None:
                    self.notifications.append(message)
                    self._changed.set()
                else:
                    self._replies.pop(request_id).set_result(message)

    async def ask(self, make: type[Any], **fields: Any) -> Any:
        """Send a request and await its reply."""
        request = make(request_id=next(self._ids), **fields)
        reply = self._replies[request.request_id] = asyncio.get_running_loop().create_future()
        self._writer.write(control.frame(request))
        return await asyncio.wait_for(reply, 10)

    async def notified(self, test: Callable[[Any], bool], within_s: float = 10) -> Any:
        """The first notification, past or future, that passes the test."""

        async def found() -> Any:
            while True:
                for message in self.notifications:
                    if test(message):
                        return message
                self._changed.clear()
                await self._changed.wait()

        return await asyncio.wait_for(found(), within_s)

    def path(self, name: str) -> str:
        return str(self.folder / f"{name}.sock")

    async def add_classroom(self, lesson: str, room: Classroom, role: str = "return") -> None:
        """Attach a classroom's pipe and let it send."""
        reply = await self.ask(
            control.AddInput,
            lesson_id=lesson,
            input_id=f"in-{room.seat or role}",
            path=self.path(f"in-{lesson}-{room.seat or role}"),
            role=role,
            seat=room.seat if role == "return" else "",
            name=room.name,
            tracks=room.tracks,
        )
        assert isinstance(reply, control.Done), reply
        await room.connect(self.path(f"in-{lesson}-{room.seat or role}"))

    async def add_receiver(self, lesson: str, output: str, **fields: Any) -> Receiver:
        """Listen for an output and have the mixer send it."""
        path = self.path(f"out-{lesson}-{output}")
        receiver = Receiver(output, fields.get("video_codec", "h264"))
        await receiver.listen(path)
        reply = await self.ask(
            control.AddOutput, lesson_id=lesson, output=output, path=path, **fields
        )
        assert isinstance(reply, control.Done), reply
        return receiver

    async def stop(self) -> int:
        if self.process.returncode is None:
            with contextlib.suppress(TimeoutError, ConnectionError):
                await self.ask(control.Drain)
        self._writer.close()
        try:
            status = await asyncio.wait_for(self.process.wait(), 10)
        except TimeoutError:
            self.process.kill()
            raise
        self._reading.cancel()
        return status


@asynccontextmanager
async def running_mixer() -> AsyncIterator[MixerProcess]:
    # A short path: the name of a Unix socket has 107 bytes.
    with tempfile.TemporaryDirectory(prefix="mix") as folder:
        mixer = MixerProcess(Path(folder))
        await mixer.start()
        try:
            yield mixer
        finally:
            await mixer.stop()


# --- what classrooms send ------------------------------------------------------------------------


def numbered(colour: tuple[int, int, int], number: int, width: int, height: int) -> BgrImage:
    """A picture of one colour (blue, green, red) with a number in it."""
    image = np.empty((height, width, 3), np.uint8)
    image[:] = colour
    at = (width * 2 // 5, height * 3 // 5)
    cv2.putText(image, str(number), at, cv2.FONT_HERSHEY_SIMPLEX, height / 90, (255,) * 3, 3)
    return image


def encoder(codec: str, width: int, height: int, fps: int, kbps: int) -> Any:
    context = av.CodecContext.create("libx264" if codec == "h264" else "libvpx", "w")
    context.width, context.height, context.pix_fmt = width, height, "yuv420p"
    context.bit_rate = kbps * 1000
    context.time_base, context.framerate = Fraction(1, 90_000), Fraction(fps, 1)
    context.gop_size = 1000
    context.options = (
        {"preset": "superfast", "tune": "zerolatency", "profile": "baseline", "forced-idr": "1"}
        if codec == "h264"
        else {"deadline": "realtime", "cpu-used": "8", "lag-in-frames": "0"}
    )
    return context


def coded_cycle(
    codec: str, images: Iterator[BgrImage], fps: int, kbps: int, count: int
) -> list[list[bytes]]:
    """Payloads of so many frames, the first a key frame: sent over and over."""
    frames: list[list[bytes]] = []
    context = None
    for index, image in enumerate(itertools.islice(images, count)):
        height, width = image.shape[:2]
        context = context or encoder(codec, width, height, fps, kbps)
        frame = av.VideoFrame.from_ndarray(image, format="bgr24").reformat(format="yuv420p")
        frame.pts = index * 90_000 // fps
        frame.pict_type = PictureType.I if index == 0 else PictureType.NONE
        for packet in context.encode(frame):
            data = bytes(packet)
            frames.append(
                packetize.h264(data) if codec == "h264" else packetize.vp8(data, index & 0x7FFF)
            )
    return frames


@cache
def still(
    codec: str, colour: tuple[int, int, int], number: int, width: int, height: int, fps: int
) -> list[list[bytes]]:
    image = numbered(colour, number, width, height)
    return coded_cycle(codec, itertools.repeat(image), fps, 200, CYCLE_FRAMES)


def tone(frequency_hz: float, level: float = 0.1, seconds: float = 1.0) -> Sound:
    at = np.arange(int(RATE_HZ * seconds)) / RATE_HZ
    return (level * np.sin(2 * np.pi * frequency_hz * at)).astype(np.float32)


def opus_packets(sound: Sound, *, channels: int = 1, rate_hz: int = RATE_HZ) -> list[bytes]:
    """The sound in 20 ms Opus packets."""
    context = av.CodecContext.create("libopus", "w")
    context.sample_rate = rate_hz
    context.format, context.layout = "s16", "mono" if channels == 1 else "stereo"
    context.bit_rate = 32_000 * channels
    context.options = {"application": "audio", "frame_duration": "20"}
    step = rate_hz // 50
    packets: list[bytes] = []
    for index in range(len(sound) // step):
        pcm = (sound[index * step : (index + 1) * step] * 32767).astype(np.int16)
        interleaved = np.repeat(pcm, channels).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(interleaved, format="s16", layout=context.layout.name)
        frame.sample_rate = rate_hz
        frame.pts = index * step
        packets += [bytes(packet) for packet in context.encode(frame)]
    return packets


@dataclass
class Classroom:
    """Sends frames of `video` at `fps` and packets of `audio` every 20 ms, for ever."""

    seat: str
    video: list[list[bytes]] = field(default_factory=list)
    audio: list[bytes] = field(default_factory=list)
    name: str = ""
    codec: control.PipedTrack = VP8
    fps: float = 15.0
    audio_level_dbov: int | None = None
    rotation: int | None = None
    keyframe_requests: int = 0
    drift: float = 0.0  # the sender's clock runs faster by that share
    audio_track: control.PipedTrack = AUDIO
    began: float = 0.0  # the monotonic second of its first frame

    @property
    def tracks(self) -> list[control.PipedTrack]:
        audio = [self.audio_track] if self.audio else []
        return audio + ([self.codec] if self.video else [])

    async def connect(self, path: str) -> None:
        self._reader, self._writer = await asyncio.open_unix_connection(path)
        self._tasks = [asyncio.create_task(self._listen()), asyncio.create_task(self._send())]

    async def _listen(self) -> None:
        deframer = Deframer()
        with contextlib.suppress(ConnectionError):
            while data := await self._reader.read(65_536):
                for frame in deframer.feed(data):
                    for packet in rtcp.parse(frame):
                        self.keyframe_requests += isinstance(packet, rtcp.PictureLoss)

    async def _send(self) -> None:
        began = self.began = monotonic()
        unix = time()
        # On a pipe a track's SSRC is its place in the list of tracks.
        audio = Counter(111, 48_000, 0)
        video = Counter(self.codec.payload_type, 90_000, len(self.tracks) - 1)
        audio.payload_type = self.audio_track.payload_type
        audio.clock_rate = self.audio_track.clock_rate
        sounds = pictures = reports = 0
        with contextlib.suppress(ConnectionError):
            while True:
                elapsed = (monotonic() - began) * (1 + self.drift)
                while self.audio and sounds * 0.02 <= elapsed:
                    level = self.audio_level_dbov
                    extension = [] if level is None else [(rtp.AUDIO_LEVEL, bytes((level,)))]
                    packet = self.audio[sounds % len(self.audio)]
                    self._write(audio, [packet], sounds * 0.02, extension)
                    sounds += 1
                while self.video and pictures / self.fps <= elapsed:
                    turn = [] if self.rotation is None else [self.rotation]
                    extension = [(rtp.VIDEO_ORIENTATION, bytes(turn))] if turn else []
                    frame = self.video[pictures % len(self.video)]
                    self._write(video, frame, pictures / self.fps, extension)
                    pictures += 1
                if reports < elapsed:
                    reports += 1
                    for track in (audio, video):
                        if track.packets:
                            self._report(track, elapsed, unix + elapsed)
                await self._writer.drain()
                await asyncio.sleep(0.005)

    def _write(
        self, track: Counter, payloads: list[bytes], at_s: float, extensions: list[Any]
    ) -> None:
        elements = [(EXTENSION_IDS[uri], data) for uri, data in extensions]
        block = rtp.extension_block(elements)
        for index, payload in enumerate(payloads):
            marker = index == len(payloads) - 1
            head = rtp.header(
                track.payload_type, marker, track.seq, track.timestamp(at_s), track.ssrc, block
            )
            track.seq = (track.seq + 1) & 0xFFFF
            track.packets += 1
            self._writer.write(len(head + payload).to_bytes(2, "big") + head + payload)

    def _report(self, track: Counter, at_s: float, unix_s: float) -> None:
        body = rtcp.sender_report(
            track.ssrc, rtcp.ntp_from_unix(unix_s), track.timestamp(at_s), track.packets, 0, "room"
        )
        self._writer.write(len(body).to_bytes(2, "big") + body)

    async def leave(self) -> None:
        for task in self._tasks:
            task.cancel()
        self._writer.close()


@dataclass
class Counter:
    payload_type: int
    clock_rate: int
    ssrc: int
    seq: int = 65_500  # wraps soon
    packets: int = 0

    def timestamp(self, at_s: float) -> int:
        return (4_294_900_000 + round(at_s * self.clock_rate)) & 0xFFFFFFFF


# --- what comes out ------------------------------------------------------------------------------


class Receiver:
    """Listens where an output is sent, keeps its packets, decodes on demand."""

    def __init__(self, output: str, video_codec: str) -> None:
        self.output = output
        self.packets: list[rtp.Packet] = []
        self.reports: list[rtcp.SenderReport] = []
        self.ended = asyncio.Event()
        self._video_codec = video_codec
        self._decoder: Any = None
        self._decoded = 0  # packets that the decoder has had
        self._images: list[tuple[BgrImage, rtp.Packet]] = []
        self._connected = asyncio.Event()

    async def listen(self, path: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)  # noqa: PTH108
        self._server = await asyncio.start_unix_server(self._serve, path)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._connected.set()
        deframer = Deframer()
        while data := await reader.read(262_144):
            now = monotonic()
            for frame in deframer.feed(data):
                if 192 <= frame[1] <= 223:
                    reports = [p for p in rtcp.parse(frame) if isinstance(p, rtcp.SenderReport)]
                    self.reports += reports
                else:
                    self.packets.append(rtp.parse(memoryview(frame), {}, now))
        self.ended.set()

    async def ask_keyframe(self) -> None:
        await self._connected.wait()
        request = rtcp.picture_loss(0, 0)
        self._writer.write(len(request).to_bytes(2, "big") + request)

    async def close(self) -> None:
        self._writer.close()
        self._server.close()

    def clear(self) -> None:
        """Forget everything: as one who joins now."""
        self.packets.clear()
        self._decoder = None
        self._decoded = 0
        self._images.clear()

    def of_type(self, payload_type: int) -> list[rtp.Packet]:
        return [packet for packet in self.packets if packet.payload_type == payload_type]

    def media_seconds(self, payload_type: int, packets: list[rtp.Packet]) -> list[float]:
        """When each packet's content is, on the sender's clock, by its last sender report."""
        ssrc = packets[0].ssrc
        report = next(r for r in reversed(self.reports) if r.ssrc == ssrc)
        rate = RATE_HZ if payload_type == control.OPUS_PAYLOAD_TYPE else 90_000
        seconds = []
        for packet in packets:
            delta = (packet.timestamp - report.rtp) & 0xFFFFFFFF
            delta -= (1 << 32) if delta >= 1 << 31 else 0
            seconds.append(report.ntp / 2**32 + delta / rate)
        return seconds

    def pictures(self) -> list[BgrImage]:
        """All decodable pictures from the first key frame on, blue-green-red."""
        return [image for image, _packet in self.stamped_pictures()]

    def stamped_pictures(self) -> list[tuple[BgrImage, rtp.Packet]]:
        """The same with the last packet of each. Each packet is decoded once."""
        payload_type = control.VIDEO_PAYLOAD_TYPES[self._video_codec]
        mime = {"h264": "video/H264", "vp8": "video/VP8"}[self._video_codec]
        parameters = RTCRtpCodecParameters(mime, 90_000, payloadType=payload_type)
        self._decoder = self._decoder or av.CodecContext.create(self._video_codec, "r")
        packets = self.of_type(payload_type)
        frame: list[rtp.Packet] = []
        for packet in packets[self._decoded :]:
            frame.append(packet)
            if not packet.marker:
                continue
            self._decoded += len(frame)
            data = b"".join(depayload(parameters, packet.payload) for packet in frame)
            with contextlib.suppress(av.error.InvalidDataError):
                for picture in self._decoder.decode(av.Packet(data)):
                    self._images.append((picture.to_ndarray(format="bgr24"), packet))
            frame = []
        return self._images

    def sound(self, seconds: float | None = None) -> Sound:
        """The sound, or the last of it, 48 kHz mono."""
        packets = self.of_type(control.OPUS_PAYLOAD_TYPE)
        context: Any = av.CodecContext.create("libopus", "r")
        context.sample_rate, context.layout = RATE_HZ, "mono"
        warm_up = 10  # packets that a decoder needs to find its state
        if seconds is not None:
            packets = packets[-round(seconds * 50) - warm_up :]
        parts = [
            frame.to_ndarray().reshape(-1).astype(np.float32) / 32768
            for packet in packets
            for frame in context.decode(av.Packet(packet.payload))
        ]
        sound = np.concatenate(parts) if parts else np.zeros(0, np.float32)
        return sound if seconds is None else sound[-round(seconds * RATE_HZ) :]


def tone_levels(sound: Sound, frequencies_hz: list[float]) -> list[float]:
    """How strong each tone is, in dBFS of its amplitude."""
    window = np.hanning(len(sound))
    spectrum = np.abs(np.fft.rfft(sound * window)) * 2 / window.sum()
    levels: list[float] = []
    for frequency in frequencies_hz:
        centre = round(frequency * len(sound) / RATE_HZ)
        spread = max(2, len(sound) // RATE_HZ * 4)
        peak = float(spectrum[max(0, centre - spread) : centre + spread + 1].max())
        levels.append(20 * float(np.log10(max(peak, 1e-9))))
    return levels
