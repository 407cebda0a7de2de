"""An output stream of a lesson: whose places it has, and whether something is being sent."""

from __future__ import annotations

from dataclasses import dataclass, field

from signaling.admission import StreamAdmission
from streamer.control import PipedTrack


@dataclass(slots=True)
class OutputStream:
    """One output stream of a lesson: its places, and whether something is being sent.

    An `inner` one is for the interaction only (a return, the wall, a classroom's sound): nobody
    counts or waits for its places, and its name may carry the seat it is of, behind a `~`.
    """

    name: str
    admission: StreamAdmission
    live: bool = False
    publisher: str | None = None  # media session
    inner: bool = False
    tracks: list[PipedTrack] = field(default_factory=list)  # as the home worker has them now
    generation: int = 0
    serial: int = 0  # counts publishers, whatever became of the worker meanwhile
    apart: dict[str, StreamAdmission] = field(default_factory=dict)  # by role

    @property
    def public_name(self) -> str:
        """The name by which clients know the stream."""
        return self.name.partition("~")[0]

    def published(self, generation: int, tracks: list[PipedTrack]) -> None:
        """Another publisher came, or (no tracks) it went."""
        if tracks and (not self.tracks or generation != self.generation):
            self.serial += 1
        self.tracks, self.generation = tracks, generation

    def places_for(self, role: str) -> StreamAdmission:
        """Where a role takes its places: those apart, if it has some, else those of all."""
        return self.apart.get(role, self.admission)

    def places_of(self, session_id: str) -> StreamAdmission:
        """Where a session has its place."""
        return next((p for p in self.apart.values() if p.has(session_id)), self.admission)

    def all_places(self) -> list[StreamAdmission]:
        return [self.admission, *self.apart.values()]

    def document(self) -> dict[str, object]:
        return {
            "cap": self.admission.cap,
            "receivers": self.admission.receivers,
            "waiting": self.admission.waiting,
            "reserved": self.admission.reserved,
            "observers": sum(places.receivers for places in self.apart.values()),
            "live": self.live,
        }
