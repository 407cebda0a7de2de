"""Keeps what `tongke plan --calibrate` has measured on this machine: CPU per forwarded packet."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

from signaling.store.secretfiles import write_private

FILE_NAME: Final = "calibration.json"
# The bare fan-out loop times this is the whole server: receiving, feedback, timers, statistics and
# the control process. Measured: `tongke load` with 100 receivers, 4.9 µs, over the loop's 1.6 µs.
WHOLE_PER_LOOP: Final = 3.0


class Calibration(msgspec.Struct, frozen=True):
    """One measurement. `loop_us` is the bare loop, `packet_us` what the planner counts with.

    `machine` tells what it was measured on (processor and kernel), so that a data directory
    copied to other hardware does not bring a wrong figure along.
    """

    loop_us: float
    packet_us: float
    gso: bool
    receivers: int
    measured_at: float
    machine: str


def whole_us(loop_us: float) -> float:
    """What a packet costs the whole server, given what the loop alone takes."""
    return round(loop_us * WHOLE_PER_LOOP, 2)


def save(directory: Path, calibration: Calibration) -> Path:
    """Write it down; raises OSError."""
    path = directory / FILE_NAME
    write_private(path, msgspec.json.encode(calibration))
    return path


def stored(directory: Path, machine: str | None = None) -> Calibration | None:
    """The measurement kept in a data directory; None without one that counts here."""
    try:
        found = msgspec.json.decode((directory / FILE_NAME).read_bytes(), type=Calibration)
    except (OSError, msgspec.MsgspecError):
        return None
    usable = 0 < found.packet_us <= 1000 and found.machine == (machine or this_machine())
    return found if usable else None


def this_machine() -> str:
    """The processor's name and the number of processors."""
    model = "unknown processor"
    try:
        text = Path("/proc/cpuinfo").read_text(errors="replace")
    except OSError:
        text = ""
    for line in text.splitlines():
        if line.startswith(("model name", "Model", "Hardware")):
            model = line.partition(":")[2].strip()
            break
    return f"{model} × {text.count('processor	:') or 1}"
