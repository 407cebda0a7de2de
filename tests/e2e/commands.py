"""Runs `tongke` commands as a user would: a process, its two outputs, its exit status."""

from __future__ import annotations

import asyncio
import json
import signal
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.e2e.processes import TONGKE, Child


@dataclass(frozen=True)
class Outcome:
    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What `--json` printed; an error when standard output holds anything but one object."""
        return json.loads(self.out)


class Command:
    """A running `tongke` command; killed, family and all, when the `async with` ends."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.name = " ".join(arguments[:2])
        stem = f"{arguments[0]}-{id(self):x}"
        self._out, self._err = folder / f"{stem}.out", folder / f"{stem}.err"
        self.child = Child([TONGKE, *arguments], stdout=self._out, stderr=self._err)

    @property
    def out(self) -> str:
        return self._out.read_text(errors="replace")

    @property
    def err(self) -> str:
        return self._err.read_text(errors="replace")

    async def outcome(self, within_s: float) -> Outcome:
        status = await asyncio.to_thread(self.child.wait, within_s)
        assert status is not None, f"{self.name} did not end within {within_s} s:\n{self.err}"
        assert not self.child.family(), f"{self.name} left processes: {self.child.family()}"
        return Outcome(status, self.out, self.err)

    async def stop(self, within_s: float = 8) -> Outcome:
        """Ctrl-C."""
        self.child.send(signal.SIGINT)
        return await self.outcome(within_s)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.child.kill_family()
