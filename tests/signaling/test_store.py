"""The store: an older database goes on, and what is kept per lesson has a bound."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from signaling.decisions import KEPT, Decision, DecisionLog, token_hash
from signaling.store import database
from signaling.store.database import (
    Store,
    StoredAdmission,
    StoredLesson,
    StoredReservations,
    StoredSeat,
)

LESSON = StoredLesson(
    id="l_1",
    title="第一课",
    mode="dispatch",
    owner="t",
    join_code="123456",
    created_at=1.0,
    started_at=None,
    ended_at=None,
    caps={"camera": 30},
    admission=StoredAdmission(
        cap=40, scheduled=["丙"], reserved={"camera": StoredReservations(["甲"], 900.0)}
    ),
)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "test.sqlite")
    store.save_lesson(LESSON)
    yield store
    store.close()


def test_a_database_of_the_first_version_goes_on_with_its_lessons(tmp_path: Path) -> None:
    path = tmp_path / "old.sqlite"
    old = sqlite3.connect(path)
    old.executescript(database._MIGRATIONS[0] + "PRAGMA user_version = 1;")
    old.execute(
        "INSERT INTO lessons VALUES ('l_0', 'a', 'open', 't', '1', 1.0, NULL, NULL, ?)",
        ('{"camera":7}',),
    )
    old.execute("INSERT INTO seats VALUES ('l_0', 's_1', '甲', 'point', 0)")
    old.execute("INSERT INTO places VALUES ('l_0', 'camera', 's_1')")
    old.commit()
    old.close()
    store = Store(path)
    [lesson] = store.running()
    assert (lesson.caps, lesson.admission) == ({"camera": 7}, StoredAdmission())
    assert store.seats("l_0") == [StoredSeat("s_1", "甲", "point", released=False)]
    store.take_place("l_0", "camera", "s_2")
    assert store.places("l_0") == [("camera", "s_1"), ("camera", "s_2")]
    store.close()


def test_the_lists_of_a_lesson_come_back_and_end_with_it(store: Store) -> None:
    assert store.lesson("l_1") == LESSON
    store.end_lesson(LESSON)
    ended = store.lesson("l_1")
    assert ended is not None
    assert ended.admission == StoredAdmission()
    for row in store._db.execute("SELECT * FROM lessons"):
        assert "甲" not in str(row)


def test_places_come_back_in_the_order_in_which_they_were_taken(store: Store) -> None:
    for seat in ("s_3", "s_1", "s_2", "s_1"):
        store.take_place("l_1", "camera", seat)
    assert [seat for _, seat in store.places("l_1")] == ["s_3", "s_1", "s_2"]
    store.free_place("l_1", "camera", "s_3")
    store.take_place("l_1", "camera", "s_3")
    assert [seat for _, seat in store.places("l_1")] == ["s_1", "s_2", "s_3"]


def test_of_the_decisions_of_a_lesson_the_newest_stay(store: Store) -> None:
    log = DecisionLog(store)
    for number in range(KEPT // 100 + 3):
        log.add("l_1", "camera", [Decision(float(number), "cap", "x")] * 100, 1000.0)
    kept = log.read("l_1", None, 10 * KEPT)
    assert len(kept) == KEPT
    assert kept[0]["number"] == KEPT + 300
    assert kept[-1]["number"] == 301
    assert kept[0]["at"] == 1000.0 + KEPT // 100 + 2
    log.forget("l_1")
    log.add("l_1", "camera", [Decision(0.0, "cap", "x")], 0.0)
    assert log.read("l_1", None, 1)[0]["number"] == KEPT + 301


def test_a_token_without_a_seat_stands_in_the_log_as_a_hash(store: Store) -> None:
    log = DecisionLog(store)
    log.add(
        "l_1",
        "camera",
        [
            Decision(0.0, "admitted", "free", "s_1", unique=True),
            Decision(0.0, "admitted", "free", "the-subject", unique=False),
        ],
        0.0,
    )
    assert [d["who"] for d in log.read("l_1", None, 2)] == [token_hash("the-subject"), "s_1"]
