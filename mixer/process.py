"""One mixer process: the lessons that interact, driven over its control socket.

`python -m mixer.process --fd N` inherits a connected stream socket, reads `MixerSettings`, says
`Ready`, and serves requests until the socket closes or it is told to drain. The loop's thread does
the sound of all lessons; pictures have a thread per lesson.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import resource
import signal
import socket
import sys
from pathlib import Path
from time import monotonic

import cv2
import msgspec
import uvloop

from streamer.channel import read_message, write_outbox

from . import control
from .errors import RefusedError
from .jitter import FRAME_S
from .labels import Labels
from .lesson import Lesson

log = logging.getLogger(__name__)

MAX_LESSONS = 64
LATE_S = 0.020
CATCH_UP_S = 0.200  # sound this late is made up for, anything later is left out
PAGE_BYTES = os.sysconf("SC_PAGESIZE")
# The picture threads' Python must give the interpreter back well within a 20 ms sound tick.
SWITCH_INTERVAL_S = 0.001


class Mixer:
    """All lessons of one process. What it has to say gathers in `outbox`."""

    def __init__(self, settings: control.MixerSettings, loop: asyncio.AbstractEventLoop) -> None:
        self.settings = settings
        self.lessons: dict[str, Lesson] = {}
        self.outbox: list[control.AnyReply | control.AnyNotification] = []
        self.wake_outbox: asyncio.Event = asyncio.Event()
        self._loop = loop
        self._labels = settings.font
        self._epoch = monotonic()
        self._index = 0
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> control.Ready:
        self._schedule()
        return control.Ready(mixer=self.settings.mixer, pid=os.getpid())

    def notify(self, message: control.AnyReply | control.AnyNotification) -> None:
        self.outbox.append(message)
        self.wake_outbox.set()

    # --- time ----------------------------------------------------------------------------------

    def _schedule(self) -> None:
        due = self._epoch + self._index * FRAME_S
        self._timer = self._loop.call_later(max(0.0, due - monotonic()), self._tick)

    def _tick(self) -> None:
        """Sound: every 20 ms counts, late ones are made up for, hopeless ones are left out."""
        now = monotonic()
        missed = int((now - self._epoch) / FRAME_S) - self._index
        if missed * FRAME_S > CATCH_UP_S:
            self._index += missed
            for lesson in self.lessons.values():
                lesson.skipped_ticks += missed
        while (due := self._epoch + self._index * FRAME_S) <= now:
            for lesson in list(self.lessons.values()):
                lesson.late_ticks += now - due > LATE_S
                self._sound(lesson, due)
            self._index += 1
            now = monotonic()
        self._schedule()

    def _sound(self, lesson: Lesson, due: float) -> None:
        """One lesson's failure must not silence the others."""
        try:
            lesson.tick(self._index, due)
        except Exception:
            log.exception("lesson %s: a sound tick failed", lesson.id)

    # --- requests ------------------------------------------------------------------------------

    def handle(self, request: control.AnyRequest) -> control.AnyReply:
        try:
            return self._handle(request)
        except RefusedError as error:
            return control.Failed(
                request_id=request.request_id,
                code=error.code,  # type: ignore[arg-type]
                field=error.field,
                detail=error.detail,
            )

    def _handle(self, request: control.AnyRequest) -> control.AnyReply:
        match request:
            case control.GetStats():
                return self._stats(request)
            case control.Drain():
                self.close()
            case control.CloseLesson():
                self._existing(request.lesson_id)
                self.lessons.pop(request.lesson_id).close()
            case control.RemoveInput():
                self._existing(request.lesson_id).remove_input(request)
            case control.RemoveOutput():
                self._existing(request.lesson_id).remove_output(request)
            case control.AddInput():
                self._lesson(request.lesson_id).add_input(request)
            case control.AddOutput():
                control.output_kind(request.output)
                self._lesson(request.lesson_id).add_output(request)
            case control.SetFloor():
                self._lesson(request.lesson_id).set_floor(request)
            case control.SetTile():
                self._lesson(request.lesson_id).set_tile(request)
            case control.SetLayout():
                self._lesson(request.lesson_id).set_layout(request)
            case control.MuteSeat():
                self._lesson(request.lesson_id).mute_seat(request)
        return control.Done(request_id=request.request_id)

    def _existing(self, lesson_id: str) -> Lesson:
        lesson = self.lessons.get(lesson_id)
        if lesson is None:
            raise RefusedError("no-such-lesson", "lesson_id", "this mixer has no such lesson")
        return lesson

    def _lesson(self, lesson_id: str) -> Lesson:
        """The lesson, begun if it is new here."""
        lesson = self.lessons.get(lesson_id)
        if lesson is None:
            if not lesson_id:
                raise RefusedError("invalid", "lesson_id", "a lesson has a name")
            if len(self.lessons) >= MAX_LESSONS:
                raise RefusedError(
                    "too-many", "lesson_id", f"a mixer serves at most {MAX_LESSONS} lessons"
                )
            # Labels are kept per lesson: they are drawn in its picture thread.
            labels = Labels(self._labels)
            lesson = Lesson(lesson_id, self._loop, labels, self._epoch, self.notify)
            self.lessons[lesson_id] = lesson
        return lesson

    def _stats(self, request: control.GetStats) -> control.Stats:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        resident = int(Path("/proc/self/statm").read_text().split()[1])
        return control.Stats(
            request_id=request.request_id,
            mixer=self.settings.mixer,
            cpu_seconds=usage.ru_utime + usage.ru_stime,
            rss_bytes=resident * PAGE_BYTES,
            lessons=[lesson.stats() for lesson in self.lessons.values()],
        )

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        for lesson in self.lessons.values():
            lesson.close()
        self.lessons.clear()


async def run(sock: socket.socket) -> int:
    """Serve one control connection; return the exit status."""
    loop = asyncio.get_running_loop()
    reader, writer = await asyncio.open_unix_connection(sock=sock)
    settings = control.settings_decoder.decode(await read_message(reader))
    logging.basicConfig(
        level=settings.log_level,
        format=f"%(asctime)s %(levelname)s mixer {settings.mixer}: %(message)s",
    )
    mixer = Mixer(settings, loop)
    mixer.notify(mixer.start())
    sending = asyncio.create_task(write_outbox(mixer, writer))
    try:
        while True:
            request = control.request_decoder.decode(await read_message(reader))
            mixer.notify(mixer.handle(request))
            if isinstance(request, control.Drain):
                break
    except (asyncio.IncompleteReadError, ConnectionError, msgspec.DecodeError) as error:
        log.info("control connection ended: %s", error or "closed")
    finally:
        mixer.close()
        await asyncio.sleep(0.05)  # let the last replies leave
        sending.cancel()
        with contextlib.suppress(asyncio.CancelledError, ConnectionError):
            await sending
        writer.close()
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m mixer.process", description=__doc__)
    parser.add_argument("--fd", type=int, required=True, help="the inherited control socket")
    arguments = parser.parse_args()
    # Signals to the process group are the control process's to act on; its socket tells us.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    cv2.setNumThreads(1)
    return uvloop.run(run(socket.socket(fileno=arguments.fd)))


if __name__ == "__main__":
    sys.exit(main())
