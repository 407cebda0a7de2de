"""Gives memory that a burst of handshakes needed back to the system.

OpenSSL's state of a few hundred simultaneous handshakes is tens of MiB in small pieces; freed, they
stay in the process unless the C library is asked. Asking takes some milliseconds, so it is done
seldom, and only when there is something to give back.
"""

from __future__ import annotations

import ctypes
import ctypes.util

LEAST_FREED = 40  # associations freed since the last time
LEAST_INTERVAL_S = 60.0


class Trimmer:
    """Decides when to trim; time (seconds) and the number of freed associations are arguments."""

    __slots__ = ("_freed_before", "_last")

    def __init__(self, now: float) -> None:
        self._last = now - LEAST_INTERVAL_S
        self._freed_before = 0

    def due(self, freed_in_all: int, now: float) -> bool:
        if freed_in_all - self._freed_before < LEAST_FREED or now - self._last < LEAST_INTERVAL_S:
            return False
        self._last, self._freed_before = now, freed_in_all
        return True


def trim() -> None:
    """`malloc_trim(3)`: 9 ms after 300 handshakes; nothing where the C library has no such call."""
    name = ctypes.util.find_library("c")
    release = getattr(ctypes.CDLL(name), "malloc_trim", None) if name else None
    if release is not None:
        release(0)
