"""What the mixer costs: milliseconds a frame and share of one core, beside FFmpeg doing the same.

`rows()` returns one dictionary per measurement; run the file to see them as a table. Processor
time is counted, not wall time, so that other work on the machine disturbs little.

The lesson measured is the one of the cost goal: nine returns of 320×180 at 15 frames a second
(VP8) on a 720p wall, a teacher at 720p25 (H.264) on a 720p25 stage with a child picture in
picture, and all sound mixes with four seats on the floor.
"""

from __future__ import annotations

import itertools
import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import cache
from pathlib import Path
from time import process_time
from typing import Any

import av
import cv2
import numpy as np

ROOT = Path(__file__).resolve().parent.parent.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from mixer import control, layouts  # noqa: E402
from mixer.audio import Desk  # noqa: E402
from mixer.clock import LipSync  # noqa: E402
from mixer.jitter import FRAME_S, AudioPlayout  # noqa: E402
from mixer.labels import Label, Labels  # noqa: E402
from mixer.opus import AudioDecoder, OpusEncoder  # noqa: E402
from mixer.packetize import RtpStream  # noqa: E402
from mixer.pictures import PictureDesk  # noqa: E402
from streamer import rtp  # noqa: E402
from tests import media  # noqa: E402
from tests.mixer import harness  # noqa: E402

SECONDS = 8
RETURNS = 9
RETURN_SIZE, RETURN_FPS, RETURN_KBPS = (320, 180), 15, 150
TEACHER_SIZE, TEACHER_FPS, TEACHER_KBPS = (1280, 720), 25, 1500
FLOOR = 4
CLASSROOMS = 50

Row = dict[str, Any]


def rows() -> list[Row]:
    """All measurements; a share is of one core."""
    result = [
        _pictures("wall: nine 180p15 returns into 720p15", wall=True, stage=False),
        _pictures("stage: 720p25 with picture in picture", wall=False, stage=True),
        _sound("all mixes: teacher and 4 on the floor", RETURNS),
        _sound(f"sound alone: {CLASSROOMS} classrooms, {FLOOR} on the floor", CLASSROOMS),
        _process(),
        _flash_and_beep(),
    ]
    result += _ffmpeg()
    return result


# --- what is sent ---------------------------------------------------------------------------------


def _clip_images(size: tuple[int, int], fps: int, skip: int) -> Iterator[harness.BgrImage]:
    """Frames of the test clip, from frame `skip` on, over and over."""
    with av.open(str(media.h264_clip())) as container:
        frames = [
            frame.to_ndarray(format="bgr24")
            for frame in itertools.islice(container.decode(video=0), SECONDS * 25)
        ]
    step = 25 / fps
    for number in itertools.count():
        image = frames[int(skip + number * step) % len(frames)]
        yield cv2.resize(image, size, interpolation=cv2.INTER_AREA)


@cache
def _return_frames(number: int) -> list[list[bytes]]:
    images = _clip_images(RETURN_SIZE, RETURN_FPS, number * 17)
    return harness.coded_cycle("vp8", images, RETURN_FPS, RETURN_KBPS, SECONDS * RETURN_FPS)


@cache
def _teacher_frames() -> list[list[bytes]]:
    images = _clip_images(TEACHER_SIZE, TEACHER_FPS, 0)
    return harness.coded_cycle("h264", images, TEACHER_FPS, TEACHER_KBPS, SECONDS * TEACHER_FPS)


@cache
def _voice(number: int) -> list[bytes]:
    """Speech, shifted for each sender."""
    with av.open(str(media.speech())) as container:
        parts = [frame.to_ndarray().reshape(-1) for frame in container.decode(audio=0)]
    sound = np.roll(np.concatenate(parts).astype(np.float32) / 32768, number * 31_000)
    return harness.opus_packets(sound[: SECONDS * harness.RATE_HZ])


class _Sender:
    """A track's packets by the second at which they come."""

    def __init__(self, frames: list[list[bytes]], fps: int, payload_type: int) -> None:
        self._frames, self._fps, self._payload_type = frames, fps, payload_type
        self._sent = self._seq = 0

    def until(self, now: float) -> list[rtp.Packet]:
        packets: list[rtp.Packet] = []
        while self._sent / self._fps <= now and self._sent < len(self._frames):
            at_s = self._sent / self._fps
            payloads = self._frames[self._sent]
            for index, payload in enumerate(payloads):
                marker = index == len(payloads) - 1
                timestamp = round(at_s * 90_000)
                packets.append(
                    rtp.Packet(
                        self._payload_type, marker, self._seq, timestamp, 7, payload, (), at_s
                    )
                )
                self._seq = (self._seq + 1) & 0xFFFF
            self._sent += 1
        return packets


class _Silent:
    """Takes what a picture desk tells and counts it."""

    def __init__(self) -> None:
        self.frames = {"wall": 0, "stage": 0}
        self.bytes = {"wall": 0, "stage": 0}

    def picture_packets(self, output: str, data: bytes) -> None:
        self.frames[output] += 1
        self.bytes[output] += len(data)

    def keyframe_wanted(self, input_id: str) -> None:
        pass

    def slides_changed(self) -> None:
        pass

    def picture_state(self, input_id: str, state: str) -> None:
        pass

    def shed_changed(self, what: str, wall_fps: float, stage_fps: float) -> None:
        pass


# --- the mixer's parts, on a made-up clock --------------------------------------------------------


def _pictures(name: str, *, wall: bool, stage: bool) -> Row:
    """One picture desk as fast as it goes, its clock advancing by 5 ms a step."""
    cv2.setNumThreads(1)
    events = _Silent()
    now = 0.0
    desk = PictureDesk(Labels(), 0.0, events, 0.0, clock=lambda: now)
    senders: dict[str, _Sender] = {}
    labels: dict[str, Label] = {}
    if wall or stage:
        for number in range(RETURNS if wall else 1):
            slot = f"seat:{number}"
            senders[slot] = _Sender(_return_frames(number), RETURN_FPS, 96)
            desk.attach(slot, "return", slot, harness.VP8, LipSync(), 0.0)
            labels[slot] = Label(f"红星小学 {number + 1} 班", number + 1, quality="good")
    if stage:
        senders["teacher"] = _Sender(_teacher_frames(), TEACHER_FPS, 102)
        desk.attach("teacher", "teacher", "teacher", harness.H264, LipSync(), 0.0)
    began = process_time()
    if wall:
        desk.open_output(
            "wall", "h264", control.DEFAULT_PICTURES["wall"], RtpStream(102, 90_000), 0
        )
        desk.set_wall(sorted(labels), labels)
    if stage:
        picture = control.DEFAULT_PICTURES["stage"]
        desk.open_output("stage", "h264", picture, RtpStream(102, 90_000), 0)
        sources = layouts.StageSources("teacher", None, ("seat:0",))
        desk.set_stage("pip", sources, "seat:0", {})
    for step in range(SECONDS * 200):
        now = step * 0.005
        if wall and step % 40 == 0:  # the level meters move five times a second
            moved = {
                slot: label._replace(level=(step // 40 + index) % 9)
                for index, (slot, label) in enumerate(labels.items())
            }
            desk.set_wall(sorted(labels), moved)
        for slot, sender in senders.items():
            packets = sender.until(now)
            if packets:
                desk.packets(slot, packets, now)
        desk.run(now)
    used = process_time() - began
    output = "wall" if wall else "stage"
    return {
        "what": name,
        "ms_per_frame": round(used / events.frames[output] * 1000, 2),
        "core_percent": round(used / SECONDS * 100, 1),
        "kbps": round(events.bytes[output] * 8 / SECONDS / 1000),
        "fps": round(events.frames[output] / SECONDS, 1),
    }


def _sound(name: str, classrooms: int) -> Row:
    """The sound of a lesson: decoding who is heard, mixing, encoding each distinct mix once."""
    desk = Desk()
    names = ["teacher", *(f"s{number}" for number in range(FLOOR))]
    playouts: dict[str, AudioPlayout] = {}
    for index, source in enumerate(names):
        desk.add(source, "floor" if index else "teacher")
        playouts[source] = AudioPlayout(AudioDecoder(harness.AUDIO))
    mixes = {"shared": names, "returns": names[1:]}
    mixes |= {f"minus:{s}": [n for n in names if n != s] for s in names[1:]}
    encoders = {mix: OpusEncoder(32) for mix in mixes}
    streams = [RtpStream(111, 48_000) for _ in range(classrooms + 2)]
    voices = {source: _voice(number) for number, source in enumerate(names)}
    ticks = SECONDS * 50
    began = process_time()
    for tick in range(ticks):
        now = tick * FRAME_S
        for source, playout in playouts.items():
            packets = voices[source]
            playout.put(tick * 960, packets[tick % len(packets)], now)
        frames = {source: playout.take(now) for source, playout in playouts.items()}
        sounds, _howling = desk.mix(frames, mixes)
        coded = {mix: encoders[mix].encode(sound) for mix, sound in sounds.items()}
        for number, stream in enumerate(streams):
            mix = f"minus:s{number}" if number < FLOOR else "shared"
            stream.sound(coded[mix], now)
    used = process_time() - began
    return {
        "what": name,
        "ms_per_frame": round(used / ticks * 1000, 2),
        "core_percent": round(used / SECONDS * 100, 1),
        "encoders": len(encoders),
    }


def _process() -> Row:
    """The real process with real sockets: everything of the cost goal at once."""
    import asyncio

    async def measure() -> Row:
        async with harness.running_mixer() as mixer:
            teacher = harness.Classroom(
                "", _teacher_frames(), _voice(0), codec=harness.H264, fps=TEACHER_FPS
            )
            await mixer.add_classroom("L", teacher, "teacher")
            for number in range(RETURNS):
                room = harness.Classroom(
                    f"s{number}",
                    _return_frames(number),
                    _voice(number + 1),
                    name=f"红星小学 {number + 1} 班",
                    audio_level_dbov=40,
                    fps=RETURN_FPS,
                )
                await mixer.add_classroom("L", room)
            seats = [f"s{number}" for number in range(FLOOR)]
            await mixer.ask(control.SetFloor, lesson_id="L", seats=seats)
            outputs = ["wall", "stage", "class", "teacher-mix", *(f"class~{s}" for s in seats)]
            for output in outputs:
                await mixer.add_receiver("L", output)
            await mixer.ask(control.SetLayout, lesson_id="L", layout="pip")
            await asyncio.sleep(2.0)
            before = await mixer.ask(control.GetStats)
            await asyncio.sleep(SECONDS)
            after = await mixer.ask(control.GetStats)
            lesson, earlier = after.lessons[0], before.lessons[0]
            ticks = lesson.ticks - earlier.ticks
            used = after.cpu_seconds - before.cpu_seconds
            frames = {o.output: o for o in lesson.outputs}
            old = {o.output: o for o in earlier.outputs}
            return {
                "what": "the whole process: wall, stage and all mixes",
                "core_percent": round(used / (ticks * FRAME_S) * 100, 1),
                "wall_fps": round((frames["wall"].frames - old["wall"].frames) / SECONDS, 1),
                "stage_fps": round((frames["stage"].frames - old["stage"].frames) / SECONDS, 1),
                "stage_delay_p95_ms": frames["stage"].delay_ms,
                "audio_delay_ms": max(i.audio_delay_ms for i in lesson.inputs),
                "late_ticks": lesson.late_ticks - earlier.late_ticks,
                "shed": lesson.shed,
                "rss_mib": round(after.rss_bytes / 2**20),
            }

    return asyncio.run(measure())


def _flash_and_beep() -> Row:
    """A sender whose picture flashes as its sound beeps, once a second: what the stage makes of it.

    Picture and sound name their instants by RTP and sender reports, so their step is what a
    browser would play; the delays are from the sender's socket to the receiver's. The two Opus
    codecs on the way hold 6.5 ms of sound each, which counts as the sound's.
    """
    import asyncio

    size = (320, 180)
    dark, light = (np.full((size[1], size[0], 3), value, np.uint8) for value in (16, 235))
    lit = 2  # frames
    images = itertools.cycle([light] * lit + [dark] * (TEACHER_FPS - lit))
    frames = harness.coded_cycle("h264", images, TEACHER_FPS, 500, TEACHER_FPS)
    beep = harness.tone(1000, 0.3)
    beep[lit * harness.RATE_HZ // TEACHER_FPS :] = 0.0
    sound = harness.opus_packets(beep)

    async def measure() -> Row:
        async with harness.running_mixer() as mixer:
            room = harness.Classroom("", frames, sound, codec=harness.H264, fps=TEACHER_FPS)
            await mixer.add_classroom("L", room, "teacher")
            stage = await mixer.add_receiver("L", "stage", width=320, height=180)
            await asyncio.sleep(4.0)
            stage.clear()
            await stage.ask_keyframe()
            await asyncio.sleep(SECONDS)
            return _steps(stage, room.began)

    return asyncio.run(measure())


def _steps(stage: harness.Receiver, began: float) -> Row:
    pictures = stage.stamped_pictures()
    bright = [float(image.mean()) > 128 for image, _packet in pictures]
    video = [packet for _image, packet in pictures]
    flashes = [
        (at, packet.arrival)
        for at, packet, before, now in zip(
            stage.media_seconds(102, video)[1:], video[1:], bright, bright[1:], strict=False
        )
        if now and not before
    ]
    audio = stage.of_type(control.OPUS_PAYLOAD_TYPE)
    samples = stage.sound()
    loud = np.abs(samples) > 0.05
    at_s = stage.media_seconds(control.OPUS_PAYLOAD_TYPE, audio)
    beeps: list[tuple[float, float]] = []
    for index in np.flatnonzero(loud):
        packet = int(index) // 960
        at = at_s[packet] + (int(index) % 960) / harness.RATE_HZ
        if not beeps or at - beeps[-1][0] > 0.5:
            beeps.append((at, audio[packet].arrival))
    steps = [
        (beep - flash) * 1000
        for flash, _arrival in flashes
        for beep, _at in beeps
        if abs(beep - flash) < 0.4
    ]
    # The sender flashes on the whole seconds since it began.
    picture_ms = sorted((arrival - began) % 1.0 * 1000 for _at, arrival in flashes)
    sound_ms = sorted((arrival - began) % 1.0 * 1000 for _at, arrival in beeps)

    def p95(values: list[float]) -> float:
        return round(values[int(len(values) * 0.95)], 1) if values else float("nan")

    return {
        "what": "flash and beep through the stage",
        "sound_after_picture_ms": round(float(np.median(steps)), 1) if steps else None,
        "worst_ms": round(max(steps, key=abs), 1) if steps else None,
        "picture_delay_p95_ms": p95(picture_ms),
        "sound_delay_p95_ms": p95(sound_ms),
        "flashes": len(steps),
    }


# --- FFmpeg on the same inputs --------------------------------------------------------------------


def _ffmpeg() -> list[Row]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        returns = [_ivf(folder / f"r{n}.ivf", _return_frames(n)) for n in range(RETURNS)]
        teacher = _annexb(folder / "teacher.h264")
        voices = [_ogg(folder / f"v{n}.ogg", _voice(n)) for n in range(FLOOR + 1)]
        x264 = ["-c:v", "libx264", "-preset", "superfast", "-tune", "zerolatency", "-bf", "0"]
        one = ["-threads", "1"]
        tiles = ";".join(f"[{n}:v]scale=424:236[t{n}]" for n in range(RETURNS))
        places = "|".join(f"{(n % 3) * 424}_{(n // 3) * 236}" for n in range(RETURNS))
        stack = "".join(f"[t{n}]" for n in range(RETURNS))
        wall_graph = f"{tiles};{stack}xstack=inputs={RETURNS}:layout={places},pad=1280:720[out]"
        wall = [
            *itertools.chain.from_iterable([*one, "-i", str(path)] for path in returns),
            *("-filter_complex", wall_graph, "-map", "[out]", *x264, *one),
            *("-b:v", "1200k", "-r", str(RETURN_FPS), "-f", "null", "-"),
        ]
        stage_graph = "[1:v]scale=320:180[p];[0:v][p]overlay=944:524,format=yuv420p[out]"
        stage = [
            *(*one, "-i", str(teacher), *one, "-i", str(returns[0])),
            *("-filter_complex", stage_graph, "-map", "[out]", *x264, *one),
            *("-b:v", "1800k", "-r", str(TEACHER_FPS), "-f", "null", "-"),
        ]
        sound = _amix(voices)
        return [
            _timed("FFmpeg xstack: the same wall", wall, RETURN_FPS),
            _timed("FFmpeg overlay: the same stage", stage, TEACHER_FPS),
            _timed("FFmpeg amix: the same mixes", sound, 50),
        ]


def _amix(voices: list[Path]) -> list[str]:
    """Shared, returns and four mix-minus, each its own amix and encoder."""
    everybody = list(range(len(voices)))
    groups = [everybody, everybody[1:]]
    groups += [[n for n in everybody if n != seat] for seat in everybody[1:]]
    uses: list[int] = [sum(n in group for group in groups) for n in everybody]
    graph = [
        f"[{n}:a]asplit={uses[n]}" + "".join(f"[a{n}x{k}]" for k in range(uses[n]))
        for n in everybody
    ]
    taken = dict.fromkeys(everybody, 0)
    outputs: list[str] = []
    for index, group in enumerate(groups):
        inputs = ""
        for n in group:
            inputs += f"[a{n}x{taken[n]}]"
            taken[n] += 1
        graph.append(f"{inputs}amix=inputs={len(group)}:normalize=0,alimiter[m{index}]")
        codec = ["-c:a", "libopus", "-b:a", "32k", "-ac", "1", "-application", "voip"]
        codec += ["-compression_level", "3"]
        outputs += ["-map", f"[m{index}]", *codec, "-f", "null", "-"]
    inputs_ = itertools.chain.from_iterable(["-i", str(path)] for path in voices)
    return [*inputs_, "-filter_complex", ";".join(graph), *outputs]


def _timed(name: str, arguments: list[str], per_second: int) -> Row:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = ["ffmpeg", "-hide_banner", "-nostdin", "-loglevel", "error", "-y"]
    single = ["-filter_threads", "1", "-filter_complex_threads", "1"]
    subprocess.run([*command, *single, *arguments], check=True, timeout=120)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "what": name,
        "ms_per_frame": round(used / (SECONDS * per_second) * 1000, 2),
        "core_percent": round(used / SECONDS * 100, 1),
    }


def _ivf(path: Path, frames: list[list[bytes]]) -> Path:
    """VP8 payloads as the file FFmpeg reads."""
    from mixer import depacketize

    head = b"DKIF" + (0).to_bytes(2, "little") + (32).to_bytes(2, "little") + b"VP80"
    head += b"".join(value.to_bytes(2, "little") for value in RETURN_SIZE)
    head += RETURN_FPS.to_bytes(4, "little") + (1).to_bytes(4, "little")
    head += len(frames).to_bytes(4, "little") + bytes(4)
    body = b""
    for number, payloads in enumerate(frames):
        data = depacketize.vp8(payloads)
        body += len(data).to_bytes(4, "little") + number.to_bytes(8, "little") + data
    path.write_bytes(head + body)
    return path


def _annexb(path: Path) -> Path:
    from mixer import depacketize

    path.write_bytes(b"".join(depacketize.h264(payloads) for payloads in _teacher_frames()))
    return path


def _ogg(path: Path, packets: list[bytes]) -> Path:
    with av.open(str(path), "w", format="ogg") as container:
        stream = container.add_stream("libopus", rate=48_000)
        stream.layout = "mono"
        stream.codec_context.open()
        for number, data in enumerate(packets):
            packet = av.Packet(data)
            packet.stream = stream
            packet.pts = packet.dts = number * 960
            packet.time_base = Fraction(1, harness.RATE_HZ)
            packet.duration = 960
            container.mux(packet)
    return path


def main(show: Callable[[str], None] = print) -> None:
    for row in rows():
        figures = "  ".join(f"{key} {value}" for key, value in row.items() if key != "what")
        show(f"{row['what']:58} {figures}")
    if "--json" in sys.argv:
        show(json.dumps(rows()))


if __name__ == "__main__":
    main()
