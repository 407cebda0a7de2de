"""The director cuts for a reason, not too often, and away from what is gone at once."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from mixer.director import IDLE_S, MIN_SHOT_S, SLIDES_HOLD_S, SPEECH_BEGINS_S, Cut, Director
from mixer.layouts import StageSources, possible

TEACHER = StageSources("teacher", None, ())
WITH_SLIDES = StageSources("teacher", "slides", ())
ONE = StageSources("teacher", None, ("a",))
TWO = StageSources("teacher", None, ("a", "b"))


def talk(director: Director, source: str, began: float, ended: float) -> list[Cut]:
    cuts = []
    now = began
    while now < ended:
        director.hear(source, True, now)
        if (cut := director.decide(now)) is not None:
            cuts.append(cut)
        now += 0.2
    return cuts


def test_it_begins_with_the_teacher_and_stays_there() -> None:
    director = Director()
    director.sources(TEACHER, 0.0)
    assert director.decide(0.0) is None
    assert director.decide(100.0) is None
    assert director.layout == "teacher"


def test_a_granted_floor_is_shown_beside_the_teacher() -> None:
    director = Director()
    director.sources(ONE, 10.0)
    assert director.decide(10.0) == Cut("side-by-side", "a", "floor")


def test_a_child_that_speaks_fills_the_picture() -> None:
    director = Director()
    director.sources(ONE, 0.0)
    director.decide(0.0)
    cuts = talk(director, "a", 1.0, 6.0)
    assert cuts == [Cut("pip", "a", "speech")]


def test_a_cough_does_not_cut() -> None:
    director = Director()
    director.sources(ONE, 0.0)
    director.decide(0.0)
    director.hear("a", True, 5.0)
    director.hear("a", True, 5.0 + SPEECH_BEGINS_S / 2)
    director.hear("a", False, 5.4)
    assert director.decide(5.5) is None


def test_two_children_speaking_make_a_grid() -> None:
    director = Director()
    director.sources(TWO, 0.0)
    director.decide(0.0)
    cuts = []
    for step in range(30):
        now = 1.0 + step * 0.2
        director.hear("a", True, now)
        director.hear("b", True, now)
        cuts.append(director.decide(now))
    assert Cut("grid", "", "speech") in cuts


def test_new_slides_are_shown_large_for_a_while() -> None:
    director = Director()
    director.sources(TWO, 0.0)
    director.decide(0.0)
    director.sources(TWO._replace(slides="slides"), 5.0)
    assert director.decide(5.0) == Cut("slides", "a", "slides")
    cuts = talk(director, "b", 6.0, 6.0 + SLIDES_HOLD_S)
    assert cuts[0] == Cut("slides", "b", "slides")
    assert cuts[-1].layout == "pip"


def test_slides_that_stop_are_cut_away_from_at_once() -> None:
    director = Director()
    director.sources(WITH_SLIDES, 0.0)
    assert director.decide(0.0) == Cut("slides", "", "slides")
    director.sources(TEACHER, 0.1)
    assert director.decide(0.1) == Cut("teacher", "", "gone")


def test_a_seat_that_loses_the_floor_is_cut_away_from_at_once() -> None:
    director = Director()
    director.sources(ONE, 0.0)
    director.decide(0.0)
    director.sources(TEACHER, 0.5)
    assert director.decide(0.5) == Cut("teacher", "", "gone")


def test_a_silent_floor_goes_back_to_the_teacher() -> None:
    director = Director()
    director.sources(ONE, 0.0)
    director.decide(0.0)
    assert director.decide(IDLE_S - 1) is None
    assert director.decide(IDLE_S + 1) == Cut("teacher", "", "idle")


def test_the_teachers_choice_wins_at_once_and_until_auto() -> None:
    director = Director()
    director.sources(ONE, 0.0)
    director.decide(0.0)
    director.choose("teacher")
    cut = director.decide(0.1)
    assert cut is not None and (cut.layout, cut.why) == ("teacher", "manual")
    talk(director, "a", 1.0, 10.0)
    assert director.layout == "teacher"
    director.choose("auto")
    assert talk(director, "a", 20.0, 25.0)[0].layout in ("side-by-side", "pip")


def test_a_chosen_layout_without_its_picture_falls_back_to_auto() -> None:
    director = Director()
    director.sources(WITH_SLIDES, 0.0)
    director.choose("slides")
    director.decide(0.0)
    director.sources(TEACHER, 1.0)
    cut = director.decide(1.0)
    assert cut is not None and cut.layout == "teacher"


EVENTS = st.lists(
    st.tuples(
        st.floats(0.05, 1.5),
        st.sampled_from(["", "a", "b", "c"]),
        st.booleans(),
        st.sampled_from(["none", "slides", "floor", "hand", "changed"]),
        st.integers(0, 7),
    ),
    max_size=60,
)


@given(EVENTS)
@settings(max_examples=150)
def test_whatever_happens_shots_last_and_show_what_is_there(
    events: list[tuple[float, str, bool, str, int]],
) -> None:
    director = Director()
    now = 0.0
    sources = TEACHER
    last_cut: float | None = None
    for wait_s, source, voice, event, mask in events:
        now += wait_s
        if event == "slides":
            sources = sources._replace(slides=None if sources.slides else "slides")
        elif event == "floor":
            seats = tuple(seat for bit, seat in enumerate("abc") if mask >> bit & 1)
            sources = sources._replace(floor=seats)
        elif event == "hand":
            director.hand_raised(source, now)
        elif event == "changed":
            director.slides_changed(now)
        director.sources(sources, now)
        director.hear(source, voice, now)
        before = (director.layout, director.seat)
        cut = director.decide(now)
        assert possible(director.layout, sources)
        assert director.seat in ("", *sources.floor)
        assert (cut is None) == (before == (director.layout, director.seat))
        if cut is not None:
            if last_cut is not None and cut.why != "gone":
                assert now - last_cut >= MIN_SHOT_S
            last_cut = now
