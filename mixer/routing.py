"""Who hears whom: the distinct mixes that a lesson's outputs need, and which output takes which.

Pure. What sounds the same has the same name, so that it is mixed and encoded once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from .control import OutputKind

SHARED = "shared"  # teacher and floor, for everybody off the floor and for the stage
RETURNS = "returns"  # the classrooms, for the teacher's ear


class Wish(NamedTuple):
    """An output that carries sound."""

    output: str
    kind: OutputKind
    seat: str


class Routes(NamedTuple):
    """`mixes` names the sources of each mix, `by_output` the mix of each output."""

    mixes: dict[str, list[str]]
    by_output: dict[str, str]

    def audible(self) -> set[str]:
        """All sources that somebody hears."""
        return {source for sources in self.mixes.values() for source in sources}


def route(
    wishes: Iterable[Wish],
    *,
    lead: Sequence[str],
    returns: Mapping[str, str],
    floor: Sequence[str],
    all_answer: bool,
    muted: frozenset[str],
) -> Routes:
    """`lead` are the sources heard by every classroom; `returns` maps seats to their sources.

    While all answer, only who has a mix of its own hears the other classrooms beyond the floor: in
    a mix that is shared, a classroom would hear itself.
    """
    open_ = {seat: source for seat, source in returns.items() if seat not in muted}
    on_floor = {seat: open_[seat] for seat in dict.fromkeys(floor) if seat in open_}
    heard = open_ if all_answer else on_floor
    mixes: dict[str, list[str]] = {}
    by_output: dict[str, str] = {}
    for output, kind, seat in wishes:
        if kind == "teacher-mix":
            mix, sources = RETURNS, list(heard.values())
        elif kind == "class-seat" and (seat in heard or all_answer):
            mix = f"minus:{seat}"
            sources = [*lead, *(source for other, source in heard.items() if other != seat)]
        else:
            mix, sources = SHARED, [*lead, *on_floor.values()]
        by_output[output] = mix
        mixes[mix] = sources
    return Routes(mixes, by_output)
