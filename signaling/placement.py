"""Decides which worker carries a lesson: all its outputs on one, the least loaded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

# A new lesson has no session yet but will: count it as at least a small class.
EXPECTED_SESSIONS = 10


class Placement:
    """Lessons and the workers they were given. A lesson stays where it is until it ends."""

    def __init__(self, workers: int) -> None:
        if workers < 1:
            raise ValueError("there must be a worker to place lessons on")
        self._workers = workers
        self._worker_of: dict[str, int] = {}

    def place(
        self, lesson_id: str, sessions: Mapping[str, int], ready: Iterable[int] | None = None
    ) -> int:
        """The lesson's worker, chosen now if it has none.

        `sessions` counts the media sessions of each lesson; `ready` are the workers to prefer.
        """
        placed = self._worker_of.get(lesson_id)
        if placed is None:
            loads = self.loads(sessions)
            among = list(range(self._workers) if ready is None else ready)
            placed = min(among or range(self._workers), key=lambda worker: (loads[worker], worker))
            self._worker_of[lesson_id] = placed
        return placed

    def loads(self, sessions: Mapping[str, int]) -> list[int]:
        """What each worker carries or is expected to, in sessions."""
        loads = [0] * self._workers
        for lesson_id, worker in self._worker_of.items():
            loads[worker] += max(sessions.get(lesson_id, 0), EXPECTED_SESSIONS)
        return loads

    def forget(self, lesson_id: str) -> None:
        self._worker_of.pop(lesson_id, None)

    def lessons_on(self, worker: int) -> list[str]:
        return [lesson_id for lesson_id, at in self._worker_of.items() if at == worker]
