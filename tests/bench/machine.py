"""What machine a figure was measured on, and pinning processes to its cores."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from pathlib import Path


def cores() -> list[int]:
    """The processors that this process may use."""
    return sorted(os.sched_getaffinity(0))


def can_pin() -> bool:
    """Whether server and generator can have a core each."""
    return len(cores()) >= 2


def pinned_to(core: int) -> Callable[[], None]:
    """A `preexec_fn` that puts a child on one core."""
    return lambda: os.sched_setaffinity(0, {core})


def describe() -> dict[str, object]:
    model = "unknown"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return {
        "cpu": model,
        "cores": len(cores()),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_average": round(os.getloadavg()[0], 2),
    }


def quiet() -> bool:
    """Whether the machine is idle enough for figures: nothing else near a whole core."""
    return os.getloadavg()[0] < 0.7
