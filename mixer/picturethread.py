"""Runs one lesson's picture desk in a thread of its own, with a lower priority than the sound's.

Decoding, scaling and encoding let go of the interpreter, so sound never waits for a picture.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import threading
from collections.abc import Callable
from time import monotonic

import cv2

from .pictures import PictureDesk

log = logging.getLogger(__name__)

MAX_WAITING_JOBS = 2000
NICE = 2  # below the sound, and below the workers that forward

Job = Callable[[PictureDesk], None]


class PictureThread(threading.Thread):
    """Runs one picture desk. `post` may be called from any thread; jobs run in their order."""

    def __init__(self, desk: PictureDesk, name: str) -> None:
        super().__init__(name=name, daemon=True)
        self._desk = desk
        self._inbox: queue.SimpleQueue[Job | None] = queue.SimpleQueue()

    def post(self, job: Job) -> None:
        self._inbox.put(job)

    @property
    def swamped(self) -> bool:
        """Whether so much waits that packets had better be left out."""
        return self._inbox.qsize() > MAX_WAITING_JOBS

    def stop(self) -> None:
        self._inbox.put(None)

    def run(self) -> None:
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
        cv2.setNumThreads(1)
        while self._turn():
            pass

    def _turn(self) -> bool:
        now = monotonic()
        job: Job | None = None
        try:
            job = self._inbox.get(timeout=max(0.0, self._desk.next_s(now) - now))
            while job is not None:
                self._do(job)
                job = self._inbox.get_nowait()
            return False
        except queue.Empty:
            pass
        self._do(lambda desk: desk.run(monotonic()))
        return True

    def _do(self, job: Job) -> None:
        """A job that fails is logged: the lesson's other pictures go on."""
        try:
            job(self._desk)
        except Exception:
            log.exception("%s: a picture job failed", self.name)
