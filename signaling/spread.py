"""Spreads a lesson over workers: pipes carry each output from its home to where it is received.

The home is the worker that the publisher talks to. A receiver may be put on any worker; the first
one there makes a pipe necessary, which is opened again whenever the home tells of a new publisher.
The spread decides and drives; packets go from worker to worker, never through this process.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import shutil
import tempfile
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from signaling.supervisor import WorkerRefusedError, WorkerUnavailableError
from streamer import control

log = logging.getLogger(__name__)

RETRY_S = 0.5
# How many sessions more the home must have before receivers go elsewhere.
HOME_BIAS = 20


class Workers(Protocol):
    """What the spread needs of the supervisor."""

    async def request(self, index: int, request: control.AnyRequest) -> control.AnyReply: ...


@dataclass(slots=True)
class _Published:
    """One output as its home last told of it, and the pipes that lead away from there."""

    home: int
    generation: int
    tracks: list[control.PipedTrack]
    opened: set[int] = field(default_factory=set)


class Spread:
    """The pipes of all outputs. `start` runs a coroutine as a task that somebody owns."""

    def __init__(
        self, workers: Workers, start: Callable[[Coroutine[object, object, None]], None]
    ) -> None:
        self._workers = workers
        self._start = start
        self._outputs: dict[str, _Published] = {}
        self._wanted: dict[str, set[int]] = {}
        # Socket paths are at most 108 bytes, so not below a data directory of any length.
        self._folder = Path(tempfile.mkdtemp(prefix="tongke-"))

    def close(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)

    def wants(self, output_id: str, worker: int, home: int) -> None:
        """A receiver on `worker` is about to receive an output whose publisher is on `home`."""
        if worker == home:
            return
        self._wanted.setdefault(output_id, set()).add(worker)
        self._fill(output_id)

    def changed(self, worker: int, message: control.OutputChanged) -> None:
        """The home of an output told of its publisher."""
        output = self._outputs.get(message.output_id)
        if not message.tracks:
            self._outputs.pop(message.output_id, None)
            return
        if output is None or (output.home, output.generation) != (worker, message.generation):
            self._outputs[message.output_id] = _Published(
                worker, message.generation, message.tracks
            )
        self._fill(message.output_id)

    def worker_lost(self, worker: int) -> None:
        """Its pipes have ended at both sides; its receivers will say again where they are."""
        for output_id, output in list(self._outputs.items()):
            if output.home == worker:
                del self._outputs[output_id]
            output.opened.discard(worker)
        for wanted in self._wanted.values():
            wanted.discard(worker)

    def forget(self, output_id: str) -> set[int]:
        """An output is no more; returns the workers beside its home that knew it."""
        self._outputs.pop(output_id, None)
        return self._wanted.pop(output_id, set())

    def _fill(self, output_id: str) -> None:
        output = self._outputs.get(output_id)
        if output is None:
            return
        for worker in self._wanted.get(output_id, set()) - output.opened - {output.home}:
            output.opened.add(worker)
            self._start(self._open(output_id, output, worker))

    async def _open(self, output_id: str, output: _Published, worker: int) -> None:
        pipe_id = secrets.token_hex(8)
        path = str(self._folder / pipe_id)
        inward = control.OpenPipeIn(
            request_id=0, pipe_id=pipe_id, output_id=output_id, path=path, tracks=output.tracks
        )
        outward = control.OpenPipeOut(request_id=0, pipe_id=pipe_id, output_id=output_id, path=path)
        try:
            await self._workers.request(worker, inward)
            await self._workers.request(output.home, outward)
        except (WorkerUnavailableError, WorkerRefusedError) as error:
            log.info("no pipe for %s to worker %d yet: %s", output_id, worker, error)
            output.opened.discard(worker)
            await asyncio.sleep(RETRY_S)
            if self._outputs.get(output_id) is output:
                self._fill(output_id)


def receiving_worker(
    home: int, loads: Sequence[int], ready: Sequence[int], bias: int = HOME_BIAS
) -> int:
    """Where to put a receiver: at home, unless another ready worker has `bias` sessions less.

    A pipe costs its home one more receiver's sends, so small lessons stay in one place.
    """
    if home in ready:
        least = min(ready, key=lambda worker: (loads[worker], worker))
        return least if loads[least] + bias < loads[home] else home
    return min(ready, key=lambda worker: (loads[worker], worker), default=home)
