"""Chooses the stage's layout from who speaks, who is on the floor and whether slides change.

Pure: it is told what happens with the time of it and asked what to show. A shot lasts at least
`MIN_SHOT_S`; speech counts when it lasts, and silence likewise, so that a cough or a breath never
cuts. What disappears is cut away from at once, since an empty place teaches nobody.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from .control import LayoutChoice, LayoutName
from .layouts import StageSources, possible

MIN_SHOT_S = 3.0
SPEECH_BEGINS_S = 0.6  # speech this long makes a speaker
SPEECH_ENDS_S = 2.0  # silence this long ends one
SPEECH_GAP_S = 0.5  # breaths and consonants do not count as silence
SLIDES_HOLD_S = 12.0  # how long a changed slide keeps the slides large
IDLE_S = 20.0  # nobody on the floor has spoken for that long: back to the teacher

NOTHING = StageSources(None, None, ())

Why = Literal["manual", "speech", "floor", "slides", "hand", "idle", "gone"]


@dataclass(frozen=True, slots=True)
class Cut:
    """A decision: what the stage shows from now on, and why."""

    layout: LayoutName
    seat: str
    why: Why


@dataclass(slots=True)
class _Speaker:
    """Turns flickering voice activity into somebody who speaks or does not."""

    began: float | None = None
    last_voice: float = float("-inf")
    speaking: bool = False
    since: float = 0.0

    def hear(self, voice: bool, now: float) -> None:
        if voice:
            if self.began is None or now - self.last_voice > SPEECH_GAP_S:
                self.began = now
            self.last_voice = now
            if not self.speaking and now - self.began >= SPEECH_BEGINS_S:
                self.speaking = True
                self.since = now
        elif self.speaking and now - self.last_voice >= SPEECH_ENDS_S:
            self.speaking = False
            self.began = None


@dataclass(slots=True)
class Director:
    """Layout and featured seat of one lesson's stage."""

    layout: LayoutName = "teacher"
    seat: str = ""
    choice: LayoutChoice = "auto"
    _shot_began: float = float("-inf")
    _sources: StageSources = NOTHING
    _speakers: dict[str, _Speaker] = field(default_factory=dict)
    _slides_changed: float = float("-inf")
    _floor_changed: float = float("-inf")
    _hand: tuple[str, float] = ("", float("-inf"))

    def sources(self, sources: StageSources, now: float) -> None:
        """Which pictures there are now."""
        if sources.floor != self._sources.floor:
            self._floor_changed = now
        if sources.slides is not None and self._sources.slides is None:
            self._slides_changed = now
        self._sources = sources
        for name in [name for name in self._speakers if name and name not in sources.floor]:
            del self._speakers[name]

    def slides_changed(self, now: float) -> None:
        self._slides_changed = now

    def hand_raised(self, seat: str, now: float) -> None:
        """A hand on the floor: whoever raises one while on the floor wants to be seen."""
        self._hand = (seat, now)

    def hear(self, source: str, voice: bool, now: float) -> None:
        """Whether `source` (a seat; empty for the teacher) is heard at this moment."""
        self._speakers.setdefault(source, _Speaker()).hear(voice, now)

    def choose(self, choice: LayoutChoice) -> None:
        """The teacher's choice; takes effect with the next `decide`."""
        self.choice = choice

    def decide(self, now: float) -> Cut | None:
        """The next cut, if it is time for one."""
        layout, seat, why = self._wanted(now)
        if (layout, seat) == (self.layout, self.seat):
            return None
        gone = not possible(self.layout, self._sources) or (
            self.seat != "" and self.seat not in self._sources.floor
        )
        if why != "manual" and not gone and now - self._shot_began < MIN_SHOT_S:
            return None
        if gone and why != "manual":
            why = "gone"
        self.layout, self.seat = layout, seat
        self._shot_began = now
        return Cut(layout, seat, why)

    def _wanted(self, now: float) -> tuple[LayoutName, str, Why]:
        sources = self._sources
        seat = self._featured(now)
        if self.choice != "auto":
            layout = self.choice
            if possible(layout, sources):
                return layout, seat if layout != "grid" else "", "manual"
        talking = [s for s in sources.floor if s in self._speakers and self._speakers[s].speaking]
        teacher = self._speakers.get("")
        teacher_speaks = teacher is not None and teacher.speaking
        if sources.slides is not None and now - self._slides_changed < SLIDES_HOLD_S:
            return "slides", seat, "slides"
        if not sources.floor:
            if sources.slides is not None:
                return "slides", "", "slides"
            return "teacher", "", "floor"
        if len(talking) > 1:
            return "grid", "", "speech"
        if talking:
            layout_for_one: LayoutName = "side-by-side" if teacher_speaks else "pip"
            return layout_for_one, seat, "speech"
        if now - self._hand[1] < MIN_SHOT_S and self._hand[0] in sources.floor:
            return "side-by-side", self._hand[0], "hand"
        if now - max(self._floor_changed, self._last_floor_voice()) < IDLE_S:
            return "side-by-side", seat, "floor"
        if sources.slides is not None:
            return "slides", seat, "slides"
        return "teacher", "", "idle"

    def _last_floor_voice(self) -> float:
        return max(
            (self._speakers[s].last_voice for s in self._sources.floor if s in self._speakers),
            default=float("-inf"),
        )

    def _featured(self, now: float) -> str:
        """The seat that a picture with room for one shows: who speaks longest, else as before."""
        floor = self._sources.floor
        if not floor:
            return ""
        speaking = [
            (self._speakers[s].since, index)
            for index, s in enumerate(floor)
            if s in self._speakers and self._speakers[s].speaking
        ]
        if self.seat in floor and (
            not speaking or (self.seat in self._speakers and self._speakers[self.seat].speaking)
        ):
            return self.seat
        return floor[min(speaking)[1]] if speaking else floor[0]
