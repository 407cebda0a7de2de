"""Rings of samples: bounded, in order, and honest about gaps."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from signaling.timeseries import GRAIN_S, KEEP_GONE_S, SLOTS, Series, SeriesBook


@given(st.lists(st.tuples(st.integers(0, 400), st.none() | st.integers(-9, 9)), max_size=60))
def test_a_series_is_the_last_hour_of_a_plain_list(steps: list[tuple[int, int | None]]) -> None:
    series = Series(("a",))
    slots: list[float | None] = []
    slot = 0
    for number, (ahead, value) in enumerate(steps):
        slot += ahead
        if number and ahead == 0:
            slots[-1] = value if value is not None else slots[-1]
        else:
            slots += [None] * (ahead - 1 if number else 0) + [value]
        series.put(slot * GRAIN_S + 1, {"a": value})
    assert series.values("a") == slots[-SLOTS:]
    assert series.latest("a") == (slots[-1] if slots else None)


def test_a_series_takes_no_sample_from_the_past_and_no_nonsense() -> None:
    series = Series(("a", "b"))
    series.put(100, {"a": 1, "b": math.inf})
    series.put(10, {"a": 2})
    series.put(105, {"a": 1e300, "b": math.nan})
    assert series.values("a") == [1, None]
    assert series.values("b") == [None, None]


def test_all_series_together_are_bounded_and_the_oldest_goes_first() -> None:
    book = SeriesBook(most=2)
    for now, key in enumerate(["x", "y", "x", "z"]):
        book.put(key, ("a",), float(now * GRAIN_S), {"a": 1})
    assert len(book) == 2
    assert book.get("y") is None
    assert book.get("x") is not None


def test_a_series_outlives_its_session_by_ten_minutes() -> None:
    book = SeriesBook()
    book.put("gone", ("a",), 0.0, {"a": 1})
    book.put("there", ("a",), 0.0, {"a": 1})
    book.forget_gone(KEEP_GONE_S, "there".__eq__)
    assert book.get("gone") is not None
    book.forget_gone(KEEP_GONE_S + GRAIN_S, "there".__eq__)
    assert book.get("gone") is None
    assert book.get("there") is not None
