"""Who hears whom, for any floor: never oneself, never more encoders than distinct sounds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixer.routing import RETURNS, SHARED, Wish, route

SEATS = ["a", "b", "c", "d"]
WISHES = [
    Wish("stage", "stage", ""),
    Wish("class", "class", ""),
    Wish("teacher-mix", "teacher-mix", ""),
    *(Wish(f"class~{seat}", "class-seat", seat) for seat in SEATS),
]
LEAD = ["teacher", "slides"]


@given(
    present=st.sets(st.sampled_from(SEATS)),
    floor=st.lists(st.sampled_from([*SEATS, "gone"]), max_size=6),
    all_answer=st.booleans(),
    muted=st.frozensets(st.sampled_from(SEATS)),
)
def test_nobody_hears_itself_and_everybody_hears_the_teacher(
    present: set[str], floor: list[str], all_answer: bool, muted: frozenset[str]
) -> None:
    returns = {seat: f"in-{seat}" for seat in sorted(present)}
    routes = route(
        WISHES, lead=LEAD, returns=returns, floor=floor, all_answer=all_answer, muted=muted
    )
    heard = present - muted if all_answer else (set(floor) & present) - muted
    assert set(routes.by_output) == {wish.output for wish in WISHES}
    for output, kind, seat in WISHES:
        sources = routes.mixes[routes.by_output[output]]
        assert len(sources) == len(set(sources))
        assert f"in-{seat}" not in sources
        assert not [m for m in muted if f"in-{m}" in sources]
        if kind == "teacher-mix":
            assert set(sources) == {f"in-{s}" for s in heard}
        else:
            assert sources[:2] == LEAD
        if kind == "class-seat" and (seat in heard or all_answer):
            assert set(sources[2:]) == {f"in-{s}" for s in heard - {seat}}
        elif kind in ("class", "stage"):
            assert set(sources[2:]) == {f"in-{s}" for s in (set(floor) & present) - muted}


@pytest.mark.parametrize(("floor", "mixes"), [([], 2), (["a"], 3), (["a", "b", "c", "d"], 6)])
def test_a_classroom_off_the_floor_shares_one_mix(floor: list[str], mixes: int) -> None:
    returns = {seat: seat for seat in SEATS}
    routes = route(
        WISHES, lead=LEAD, returns=returns, floor=floor, all_answer=False, muted=frozenset()
    )
    assert len(routes.mixes) == mixes
    shared = {output for output, mix in routes.by_output.items() if mix == SHARED}
    assert shared == {"stage", "class", *(f"class~{s}" for s in SEATS if s not in floor)}
    assert routes.by_output["teacher-mix"] == RETURNS


def test_only_what_is_wanted_is_mixed() -> None:
    routes = route(
        [Wish("class", "class", "")],
        lead=["teacher"],
        returns={"a": "a"},
        floor=["a"],
        all_answer=False,
        muted=frozenset(),
    )
    assert routes.mixes == {SHARED: ["teacher", "a"]}
    assert routes.audible() == {"teacher", "a"}
