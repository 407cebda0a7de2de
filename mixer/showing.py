"""What a lesson shows: its tiles' order and labels, the stage's sources, the director's cuts.

Turns what is known of seats into instructions for the picture desk, in whose thread they run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from . import control
from .director import Cut, Director
from .errors import RefusedError
from .labels import Label, level_step
from .layouts import StageSources, possible, wall
from .picturethread import Job
from .source import Source, slot_of

TEACHER, SLIDES = "teacher", "slides"  # slots


class Showing:
    """`sources` is the lesson's own dictionary of inputs; `post` hands jobs to its desk."""

    def __init__(self, sources: Mapping[str, Source], post: Callable[[Job], None]) -> None:
        self.director = Director()
        self.order: list[str] = []  # seats with a tile, first come first
        self.floor: list[str] = []
        self.all_answer = False
        self.levels: dict[str, float] = {}
        self._sources = sources
        self._post = post
        self._tiles: dict[str, control.SetTile] = {}
        self._wall: tuple[list[str], dict[str, Label]] | None = None
        self._stage: object = None

    def set_tile(self, tile: control.SetTile, now: float) -> None:
        before = self._tiles.get(tile.seat)
        if before is None and len(self._tiles) >= control.MAX_TILES:
            raise RefusedError(
                "too-many", "seat", f"a lesson has at most {control.MAX_TILES} tiles to label"
            )
        self._tiles[tile.seat] = tile
        raised = tile.hand and not (before is not None and before.hand)
        if raised and tile.seat in self.floor:
            self.director.hand_raised(tile.seat, now)

    def label(self, seat: str, number: int, muted: frozenset[str]) -> Label:
        tile = self._tiles.get(seat)
        source = next((s for s in self._sources.values() if s.seat == seat), None)
        name = tile.name if tile is not None and tile.name else source.name if source else ""
        return Label(
            name=name[: control.MAX_NAME_CHARACTERS],
            number=number,
            hand=tile is not None and tile.hand,
            muted=seat in muted or (tile is not None and tile.muted),
            quality=tile.quality if tile is not None else "",
            level=level_step(self.levels.get(seat)),
        )

    def tiles(self, width: int, height: int) -> list[control.Tile]:
        """Where each seat is on a wall of that size."""
        seats = self.order[: control.MAX_WALL_TILES]
        return [control.Tile(seat, *rect) for seat, rect in wall(seats, width, height)]

    def show_wall(self, muted: frozenset[str]) -> None:
        """Tell the desk of tiles and labels, if they have changed."""
        seats = self.order[: control.MAX_WALL_TILES]
        slots = [slot_of("return", seat) for seat in seats]
        labels = {
            slot: self.label(seat, number, muted)
            for number, (slot, seat) in enumerate(zip(slots, seats, strict=True), start=1)
        }
        if (slots, labels) != self._wall:
            self._wall = slots, labels
            self._post(lambda desk: desk.set_wall(slots, labels))

    # --- the stage -----------------------------------------------------------------------------

    def stage_sources(self) -> StageSources:
        """By seat, as the director speaks of them; the teacher and the slides by their slots."""
        visible = {s.slot for s in self._sources.values() if s.visible}
        seats = self.order if self.all_answer else self.floor
        return StageSources(
            TEACHER if TEACHER in visible else None,
            SLIDES if SLIDES in visible else None,
            tuple(seat for seat in seats if slot_of("return", seat) in visible),
        )

    def choose(self, layout: control.LayoutChoice) -> None:
        """The teacher's choice. Raises RefusedError when a picture that it needs is not there."""
        if layout != "auto" and not possible(layout, self.stage_sources()):
            needed = "the slides" if layout == "slides" else "a seat on the floor"
            raise RefusedError("absent-stream", "layout", f"{layout} needs the picture of {needed}")
        self.director.choose(layout)

    def direct(self, now: float) -> Cut | None:
        """Let the director decide; tell the desk what the stage shows, if it has changed."""
        sources = self.stage_sources()
        self.director.sources(sources, now)
        cut = self.director.decide(now)
        layout, seat = self.director.layout, self.director.seat
        slots = sources._replace(floor=tuple(slot_of("return", s) for s in sources.floor))
        featured = slot_of("return", seat) if seat else ""
        labels = {
            slot_of("return", shown): self.label(shown, number, frozenset())._replace(
                hand=False, muted=False, quality="", meter=False, level=0
            )
            for number, shown in enumerate(self.order, start=1)
            if shown in sources.floor
        }
        stage = (layout, slots, featured, labels)
        if stage != self._stage:
            self._stage = stage
            self._post(lambda desk: desk.set_stage(layout, slots, featured, labels))
        return cut
