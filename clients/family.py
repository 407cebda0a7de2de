"""Child processes of a command that end when it ends, even when it is killed."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Mapping, Sequence

from .retry import Backoff
from .words import progress, say

PARENT_VARIABLE = "TONGKE_PARENT_PID"
PR_SET_PDEATHSIG = 1  # prctl(2)
ENDS_WITHIN_S = 5.0
STEADY_AFTER_S = 30.0


def die_with_parent() -> None:
    """In a child: ask the kernel for SIGTERM when the parent that named itself is gone."""
    named = os.environ.get(PARENT_VARIABLE, "")
    if not named.isdecimal() or sys.platform != "linux":
        return
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(named):  # it died before we asked
        sys.exit(1)


class Child:
    """A `tongke` command as a child process, started again whenever it ends by itself."""

    def __init__(self, name: str, words: Sequence[str], environment: Mapping[str, str]) -> None:
        self._name = name
        self._words = words
        self._environment = environment

    async def run(self) -> None:
        """Keep it running until cancelled, then end it and wait for its end."""
        backoff = Backoff()
        loop = asyncio.get_running_loop()
        while True:
            began_s = loop.time()
            status = await self._once()
            if loop.time() - began_s > STEADY_AFTER_S:
                backoff.succeeded()
            delay_s = backoff.next_delay_s()
            progress(
                say(
                    f"{self._name} 的发布进程结束了（{status}），{delay_s:.1f} 秒后重新启动",
                    f"the publisher of {self._name} ended ({status}); again in {delay_s:.1f} s",
                )
            )
            await asyncio.sleep(delay_s)

    async def _once(self) -> int:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "clients",
            *self._words,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, **self._environment, PARENT_VARIABLE: str(os.getpid())},
            start_new_session=True,  # Ctrl-C reaches us alone, and we end it in order
        )
        try:
            assert process.stderr is not None
            async for line in process.stderr:
                progress(f"{self._name}: {line.decode(errors='replace').rstrip()}")
            return await process.wait()
        finally:
            await _end(process)


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    # Its last words must be read, or it could block on a full pipe.
    closing = asyncio.ensure_future(process.communicate())
    done, _ = await asyncio.wait([closing], timeout=ENDS_WITHIN_S)
    if not done:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await closing
