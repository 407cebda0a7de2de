"""Gathers key-frame requests of all receivers into at most one to the publisher per interval."""

from __future__ import annotations


class KeyframeRequests:
    """Decides when a PLI goes out; time comes in as an argument (seconds).

    A request is answered by the next key frame that *begins* after the PLI left. A hundred
    receivers joining at once therefore cost one key frame, and at most one per `interval_s`.
    """

    __slots__ = ("_interval_s", "_last_sent", "_wanted")

    def __init__(self, interval_s: float = 0.5) -> None:
        self._interval_s = interval_s
        self._last_sent: float | None = None
        self._wanted = False

    def request(self, now: float) -> bool:
        """A receiver needs a key frame; True when a PLI must be sent now."""
        self._wanted = True
        return self.due(now)

    def due(self, now: float) -> bool:
        """Whether a PLI must be sent now: for a request held back, or one still unanswered."""
        if not self._wanted:
            return False
        if self._last_sent is not None and now - self._last_sent < self._interval_s:
            return False
        self._last_sent = now
        return True

    def keyframe(self) -> None:
        """A key frame has begun: whoever waited is served by it."""
        self._wanted = False

    @property
    def waiting(self) -> bool:
        return self._wanted
