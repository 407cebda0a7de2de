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
CALM_S = 1.0  # without another one freed: the burst is over, so once is enough


class Trimmer:
    """Decides when to trim; time (seconds) and the number of freed associations are arguments."""

    __slots__ = ("_changed_at", "_freed", "_freed_before", "_last")

    def __init__(self, now: float) -> None:
        self._last = now - LEAST_INTERVAL_S
        self._freed_before = self._freed = 0
        self._changed_at = now

    def due(self, freed_in_all: int, now: float) -> bool:
        if freed_in_all != self._freed:
            self._freed, self._changed_at = freed_in_all, now
        if freed_in_all - self._freed_before < LEAST_FREED or now - self._last < LEAST_INTERVAL_S:
            return False
        if now - self._changed_at < CALM_S:
            return False
        self._last, self._freed_before = now, freed_in_all
        return True


def trim() -> None:
    """`malloc_trim(3)`: 9 ms after 300 handshakes; nothing where the C library has no such call."""
    name = ctypes.util.find_library("c")
    release = getattr(ctypes.CDLL(name), "malloc_trim", None) if name else None
    if release is not None:
        release(0)
