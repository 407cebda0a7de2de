"""Child processes of the tests: none outlives its test, whatever becomes of the test.

Each carries a mark in its environment, which its own children inherit, so that its whole family
is found even when a member started a session of its own; and each asks the kernel to be killed
when the test process dies.
"""

from __future__ import annotations

import ctypes
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import SystemRandom

PR_SET_PDEATHSIG = 1
MARK = "TONGKE_TEST_FAMILY"
TONGKE = str(Path(sys.executable).with_name("tongke"))

_libc = ctypes.CDLL(None, use_errno=True)


class Child:
    """A running command whose output goes to two files (appended)."""

    def __init__(self, command: Sequence[str], *, stdout: Path, stderr: Path) -> None:
        self._mark = secrets.token_hex(8)
        with stdout.open("ab") as out, stderr.open("ab") as err:
            self._popen = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env=os.environ | {MARK: self._mark, "PYTHONUNBUFFERED": "1"},
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )

    @property
    def pid(self) -> int:
        return self._popen.pid

    def status(self) -> int | None:
        """The exit status (negative: the signal), None while it runs."""
        return self._popen.poll()

    def send(self, signal_number: int) -> None:
        self._popen.send_signal(signal_number)

    def wait(self, within_s: float) -> int | None:
        """The exit status, or None when it has not ended in time. Blocks: call it in a thread."""
        give_up_at = time.monotonic() + within_s
        while self.status() is None and time.monotonic() < give_up_at:
            time.sleep(0.02)
        return self.status()

    def family(self) -> dict[int, str]:
        """Every living process that descends from it: id and command line."""
        return dict(_marked(f"{MARK}={self._mark}".encode()))

    def kill_family(self) -> None:
        """SIGKILL to all that is left of it; harmless when nothing is."""
        for pid in self.family():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self._popen.wait(timeout=10)


def _die_with_parent() -> None:
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _marked(mark: bytes) -> Iterator[tuple[int, str]]:
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            # Of a dead process that nobody has waited for, the environment reads as empty.
            if mark in (folder / "environ").read_bytes().split(b"\0"):
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ")
                yield int(folder.name), command.decode(errors="replace").strip()
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue


class Ports:
    """Port numbers that are free, for UDP and TCP, and that no other test run will choose.

    They lie below the kernel's ephemeral range, and each is reserved by an abstract Unix socket
    of that name, which vanishes with this process.
    """

    FIRST, LAST = 20_000, 32_000

    def __init__(self) -> None:
        self._reservations: list[socket.socket] = []

    def take(self, count: int = 1) -> int:
        """The first of `count` consecutive ports."""
        random = SystemRandom()
        for _ in range(200):
            first = random.randrange(self.FIRST, self.LAST - count)
            if all(self._take(port) for port in range(first, first + count)):
                return first
        raise RuntimeError("found no free port in 200 tries")

    def _take(self, port: int) -> bool:
        reservation = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            reservation.bind(f"\0tongke-test-port-{port}")
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                with socket.socket(socket.AF_INET, kind) as probe:
                    probe.bind(("127.0.0.1", port))
        except OSError:
            reservation.close()
            return False
        self._reservations.append(reservation)
        return True

    def give_back(self) -> None:
        for reservation in self._reservations:
            reservation.close()
        self._reservations.clear()
