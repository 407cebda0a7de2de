"""What a player finds in a recorded file: ffprobe counts, PyAV decodes."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import av
import numpy as np


def probe(path: Path, *, torn: bool = False) -> dict[str, Any]:
    """Length of the file, and of each kind of track its codec and how many frames decode.

    ffprobe may complain of a `torn` file, as long as it reads it.
    """
    found = subprocess.run(
        [
            *("ffprobe", "-v", "error", "-count_frames", "-of", "json"),
            *("-show_entries", "stream=codec_type,codec_name,nb_read_frames,width,height"),
            *("-show_entries", "format=duration"),
            str(path),
        ],
        capture_output=True,
        timeout=60,
        check=True,
    )
    assert torn or not found.stderr, found.stderr
    document = json.loads(found.stdout)
    streams = {stream["codec_type"]: stream for stream in document["streams"]}
    length = document["format"].get("duration")
    return {
        "length_s": None if length is None else float(length),
        "frames": {kind: int(stream["nb_read_frames"]) for kind, stream in streams.items()},
        "codecs": {kind: stream["codec_name"] for kind, stream in streams.items()},
        "size": (streams["video"]["width"], streams["video"]["height"])
        if "video" in streams
        else None,
    }


def flash_and_beep_s(path: Path) -> tuple[float, float]:
    """When the picture first is bright, and when the sound first is loud, as players see it."""
    flash = beep = None
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            if flash is None and frame.to_ndarray(format="gray").mean() > 128:
                flash = float(frame.time)
    with av.open(str(path)) as container:
        for sound in container.decode(audio=0):
            samples = np.abs(sound.to_ndarray().astype(np.float64)).max(axis=0)
            loud = np.flatnonzero(samples > samples.dtype.type(0.2))
            if beep is None and len(loud):
                beep = float(sound.time) + loud[0] / sound.sample_rate
    assert flash is not None
    assert beep is not None
    return flash, beep
