"""Waits for something to become true, with a bound and a message that says what was seen last."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

# What a test measured, in sentences for the end of the run (the `figures` fixture).
Figures = list[str]


async def until(
    look: Callable[[], Awaitable[T]],
    enough: Callable[[T], bool],
    *,
    within_s: float,
    what: str,
    every_s: float = 0.1,
) -> T:
    """Look again and again until what is seen is enough; AssertionError after `within_s`."""
    give_up_at = time.monotonic() + within_s
    while True:
        seen = await look()
        if enough(seen):
            return seen
        if time.monotonic() >= give_up_at:
            raise AssertionError(f"not within {within_s} s: {what}; last seen: {seen!r}")
        await asyncio.sleep(every_s)
