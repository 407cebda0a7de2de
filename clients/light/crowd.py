"""Many light receivers of one stream: they join along a ramp, are counted together, and leave."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from time import monotonic

from .endpoint import LightFailure, Shared
from .receiver import DEFAULT_SAMPLE, LightReceiver

JOIN_TIMEOUT_S = 20.0
LATE_PACKETS_S = 0.4  # what was sent before the end may come, or come again, for so long


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over all receivers at one moment. `expected` is received, recovered and lost."""

    connected: int = 0
    joined: int = 0
    ended_early: int = 0
    received: int = 0
    recovered: int = 0
    lost: int = 0
    lost_raw: int = 0
    duplicates: int = 0
    octets: int = 0
    decrypted: int = 0
    decrypt_failures: int = 0
    bad_packets: int = 0
    overflows: int = 0
    nacks: int = 0
    keyframe_requests: int = 0

    @property
    def expected(self) -> int:
        return self.received + self.recovered + self.lost

    def lost_percent(self, since: Totals) -> float:
        """After recovery, of what was expected since then."""
        return _percent(self.lost - since.lost, self.expected - since.expected)

    def lost_raw_percent(self, since: Totals) -> float:
        return _percent(self.lost_raw - since.lost_raw, self.expected - since.expected)


NOTHING = Totals()


class Crowd:
    """`join` returns when every receiver has its first picture or has failed; `leave` ends all.

    `token` is one for all of them, or a list with one for each (seats of their own).
    """

    def __init__(
        self,
        shared: Shared,
        url: str,
        token: str | Sequence[str],
        count: int,
        *,
        sample: float = DEFAULT_SAMPLE,
        gro: bool = True,
    ) -> None:
        self.count = count
        self.receivers: list[LightReceiver] = []
        self.silent = 0
        self._shared = shared
        self._url = url
        self._tokens = [token] if isinstance(token, str) else list(token)
        self._sample = sample
        self._gro = gro
        self._joining: set[asyncio.Task[None]] = set()
        self._last_counts: dict[LightReceiver, int] = {}

    async def join(self, ramp_s: float) -> None:
        """Start them evenly over `ramp_s` seconds. Failures are counted in the shared tally."""
        started = monotonic()
        try:
            for index in range(self.count):
                due = started + ramp_s * index / self.count
                await asyncio.sleep(max(0.0, due - monotonic()))
                task = asyncio.create_task(self._join_one())
                self._joining.add(task)
                task.add_done_callback(self._joining.discard)
            while self._joining:
                await asyncio.gather(*self._joining)
        finally:
            for task in list(self._joining):
                task.cancel()
            await asyncio.gather(*self._joining, return_exceptions=True)

    async def _join_one(self) -> None:
        token = self._tokens[len(self.receivers) % len(self._tokens)]
        receiver = LightReceiver(self._shared, self._url, token, sample=self._sample, gro=self._gro)
        # In the list at once: whoever interrupts the ramp must find every open session.
        self.receivers.append(receiver)
        failures = self._shared.tally.failures
        try:
            await receiver.connect(JOIN_TIMEOUT_S)
        except LightFailure as failure:
            failures[failure.reason] += 1
            return
        try:
            await receiver.joined(JOIN_TIMEOUT_S)
        except TimeoutError:
            failures["no-keyframe"] += 1
        except asyncio.CancelledError:
            if receiver.ended is None:
                raise  # it is this task that was cancelled
            failures[receiver.ended] += 1

    def totals(self) -> Totals:
        now = monotonic()
        receivers = self.receivers
        streams = [stream for receiver in receivers for stream in receiver.streams]
        connected = [r for r in receivers if r.connected_at is not None]
        return Totals(
            connected=len(connected),
            joined=sum(1 for r in receivers if r.joined_s is not None),
            ended_early=sum(1 for r in connected if r.ended is not None),
            received=sum(stream.packets for stream in streams),
            recovered=sum(stream.recovered for stream in streams),
            lost=sum(stream.lost(now) for stream in streams),
            lost_raw=sum(stream.lost_raw(now) for stream in streams),
            duplicates=sum(stream.duplicates for stream in streams),
            octets=sum(r.octets for r in receivers),
            decrypted=sum(r.decrypted for r in receivers),
            decrypt_failures=sum(r.decrypt_failures for r in receivers),
            bad_packets=sum(r.bad_packets + r.strange_packets for r in receivers),
            overflows=sum(r.overflows for r in receivers),
            nacks=sum(r.nacks for r in receivers),
            keyframe_requests=sum(r.keyframe_requests for r in receivers),
        )

    def note_silent(self) -> int:
        """How many joined receivers got nothing since the last call: no gap shows such a loss."""
        silent = 0
        for receiver in self.receivers:
            if receiver.joined_s is None:
                continue
            count = sum(stream.packets for stream in receiver.streams)
            silent += self._last_counts.get(receiver) == count
            self._last_counts[receiver] = count
        self.silent = silent
        return silent

    async def settle(self) -> None:
        """Let late and resent packets come in, so that the end of a run does not count as loss."""
        await asyncio.sleep(LATE_PACKETS_S)

    async def leave(self) -> int:
        """DELETE every session; return how many the server did not take."""
        taken = await asyncio.gather(*(receiver.close() for receiver in self.receivers))
        return taken.count(False)


def _percent(part: int, whole: int) -> float:
    return 100.0 * part / whole if whole > 0 else 0.0
