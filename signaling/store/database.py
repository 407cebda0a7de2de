"""Lessons, seats and the places they hold, in one SQLite file.

Calls are synchronous: each touches a row or two and, in WAL mode without a disk barrier per
commit, takes some tens of microseconds. A power cut may lose the last moments, never the file.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import msgspec

from signaling.floor import FloorState

SCHEMA_VERSION = 3
KEEP_ENDED_S = 30 * 24 * 3600.0

# Entry i brings a database of version i to version i + 1.
_MIGRATIONS = (
    """
    CREATE TABLE lessons (
        id TEXT PRIMARY KEY, title TEXT NOT NULL, mode TEXT NOT NULL, owner TEXT NOT NULL,
        join_code TEXT NOT NULL, created_at REAL NOT NULL, started_at REAL, ended_at REAL,
        caps TEXT NOT NULL
    ) STRICT;
    CREATE INDEX lessons_by_code ON lessons (join_code, created_at);
    CREATE INDEX lessons_by_end ON lessons (ended_at);
    CREATE TABLE seats (
        lesson TEXT NOT NULL REFERENCES lessons (id) ON DELETE CASCADE, id TEXT NOT NULL,
        name TEXT NOT NULL, role TEXT NOT NULL, released INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (lesson, id)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE places (
        lesson TEXT NOT NULL REFERENCES lessons (id) ON DELETE CASCADE, stream TEXT NOT NULL,
        seat TEXT NOT NULL, PRIMARY KEY (lesson, stream, seat)
    ) STRICT, WITHOUT ROWID;
    """,
    """
    CREATE TABLE floors (
        lesson TEXT PRIMARY KEY REFERENCES lessons (id) ON DELETE CASCADE, state TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;
    """,
    """
    ALTER TABLE lessons ADD COLUMN admission TEXT NOT NULL DEFAULT '{}';
    ALTER TABLE seats ADD COLUMN organisation TEXT;
    ALTER TABLE places ADD COLUMN number INTEGER NOT NULL DEFAULT 0;
    CREATE TABLE decisions (
        lesson TEXT NOT NULL REFERENCES lessons (id) ON DELETE CASCADE, number INTEGER NOT NULL,
        at REAL NOT NULL, stream TEXT NOT NULL, body TEXT NOT NULL, PRIMARY KEY (lesson, number)
    ) STRICT, WITHOUT ROWID;
    """,
)

_LESSON = (
    "SELECT id, title, mode, owner, join_code, created_at, started_at, ended_at, caps, admission"
    " FROM"
)


class StoreError(Exception):
    """The database cannot be used; the text says why and what to do."""


class StoredReservations(msgspec.Struct, frozen=True):
    names: list[str]
    hold_s: float


class StoredAdmission(msgspec.Struct, frozen=True, omit_defaults=True):
    """How a lesson admits beyond the caps of its streams; `reserved` is by stream."""

    cap: int | None = None
    observers: int | None = None
    scheduled: list[str] = []
    reserved: dict[str, StoredReservations] = {}


class StoredDecision(msgspec.Struct, frozen=True):
    """One decision of admission; `body` is JSON."""

    number: int
    at: float
    stream: str
    body: str


class StoredLesson(msgspec.Struct, frozen=True):
    """One row of `lessons`; `caps` holds the receiver cap of each stream, in order."""

    id: str
    title: str
    mode: str
    owner: str
    join_code: str
    created_at: float
    started_at: float | None
    ended_at: float | None
    caps: dict[str, int]
    admission: StoredAdmission = StoredAdmission()


class StoredSeat(msgspec.Struct, frozen=True):
    id: str
    name: str
    role: str
    released: bool
    organisation: str | None = None


class Store:
    """The database. Opens or makes the file; refuses one that a newer version has written."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            path.touch(mode=0o600)
        try:
            # SQLite gives its WAL files the mode of the main file.
            self._db = sqlite3.connect(path, isolation_level=None)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = NORMAL")
            self._db.execute("PRAGMA foreign_keys = ON")
            self._migrate(path)
        except sqlite3.Error as error:
            raise StoreError(
                f"{path}: {error}. Restore the file from a backup, or move it away to start empty"
            ) from error

    def _migrate(self, path: Path) -> None:
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version > SCHEMA_VERSION:
            raise StoreError(
                f"{path} was written by a newer version of Tongke (schema {version}, this one "
                f"knows {SCHEMA_VERSION}): upgrade, or set another server.data_dir"
            )
        for number in range(version, SCHEMA_VERSION):
            self._db.executescript(
                f"BEGIN; {_MIGRATIONS[number]} PRAGMA user_version = {number + 1}; COMMIT;"
            )

    def close(self) -> None:
        self._db.close()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    # --- lessons -------------------------------------------------------------------------------

    def save_lesson(self, lesson: StoredLesson) -> None:
        """Insert or update a lesson."""
        self._db.execute(
            "INSERT INTO lessons VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (id) DO UPDATE SET"
            " title = excluded.title, started_at = excluded.started_at,"
            " ended_at = excluded.ended_at, caps = excluded.caps, admission = excluded.admission",
            (
                lesson.id,
                lesson.title,
                lesson.mode,
                lesson.owner,
                lesson.join_code,
                lesson.created_at,
                lesson.started_at,
                lesson.ended_at,
                msgspec.json.encode(lesson.caps).decode(),
                msgspec.json.encode(lesson.admission).decode(),
            ),
        )

    def lesson(self, lesson_id: str) -> StoredLesson | None:
        rows = self._db.execute(f"{_LESSON} lessons WHERE id = ?", (lesson_id,))
        return next(map(_lesson, rows), None)

    def ended_by_code(self, join_code: str, since: float) -> StoredLesson | None:
        """The lesson that had this code last, if it ended after `since`."""
        rows = self._db.execute(
            f"{_LESSON} lessons WHERE join_code = ? AND ended_at >= ? ORDER BY created_at DESC",
            (join_code, since),
        )
        return next(map(_lesson, rows), None)

    def running(self) -> list[StoredLesson]:
        rows = self._db.execute(f"{_LESSON} lessons WHERE ended_at IS NULL ORDER BY created_at")
        return [_lesson(row) for row in rows]

    def ended(self, since: float, limit: int) -> list[StoredLesson]:
        """Lessons that ended after `since`, the latest first."""
        rows = self._db.execute(
            f"{_LESSON} lessons WHERE ended_at >= ? ORDER BY ended_at DESC LIMIT ?", (since, limit)
        )
        return [_lesson(row) for row in rows]

    def end_lesson(self, lesson: StoredLesson) -> None:
        """Save a lesson that has ended and forget who was there: no name outlives its lesson."""
        with self._transaction():
            self.save_lesson(msgspec.structs.replace(lesson, admission=StoredAdmission()))
            self._db.execute("DELETE FROM floors WHERE lesson = ?", (lesson.id,))
            self._db.execute("DELETE FROM seats WHERE lesson = ?", (lesson.id,))
            self._db.execute("DELETE FROM places WHERE lesson = ?", (lesson.id,))

    def purge(self, now: float) -> None:
        """Delete lessons that ended long ago."""
        self._db.execute("DELETE FROM lessons WHERE ended_at < ?", (now - KEEP_ENDED_S,))

    # --- seats and places ----------------------------------------------------------------------

    def save_seat(self, lesson_id: str, seat: StoredSeat) -> None:
        self._db.execute(
            "INSERT INTO seats VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (lesson, id) DO UPDATE SET"
            " name = excluded.name, released = excluded.released,"
            " organisation = excluded.organisation",
            (lesson_id, seat.id, seat.name, seat.role, int(seat.released), seat.organisation),
        )

    def seats(self, lesson_id: str) -> list[StoredSeat]:
        rows = self._db.execute(
            "SELECT id, name, role, released, organisation FROM seats WHERE lesson = ?",
            (lesson_id,),
        )
        return [
            StoredSeat(id, name, role, bool(released), organisation)
            for id, name, role, released, organisation in rows
        ]

    def take_place(self, lesson_id: str, stream: str, seat_id: str) -> None:
        self._db.execute(
            "INSERT OR IGNORE INTO places SELECT ?, ?, ?, coalesce(max(number), 0) + 1"
            " FROM places WHERE lesson = ?",
            (lesson_id, stream, seat_id, lesson_id),
        )

    def free_place(self, lesson_id: str, stream: str, seat_id: str) -> None:
        self._db.execute(
            "DELETE FROM places WHERE lesson = ? AND stream = ? AND seat = ?",
            (lesson_id, stream, seat_id),
        )

    def places(self, lesson_id: str) -> list[tuple[str, str]]:
        """(stream, seat) of every place held in a lesson, in the order in which they were taken."""
        return list(
            self._db.execute(
                "SELECT stream, seat FROM places WHERE lesson = ? ORDER BY number", (lesson_id,)
            )
        )

    # --- decisions -----------------------------------------------------------------------------

    def save_decisions(self, lesson_id: str, decisions: list[StoredDecision], keep: int) -> None:
        """Add decisions of a lesson; of all of them the `keep` newest stay."""
        with self._transaction():
            self._db.executemany(
                "INSERT INTO decisions VALUES (?, ?, ?, ?, ?)",
                [(lesson_id, d.number, d.at, d.stream, d.body) for d in decisions],
            )
            self._db.execute(
                "DELETE FROM decisions WHERE lesson = ? AND number <= ?",
                (lesson_id, decisions[-1].number - keep),
            )

    def last_decision(self, lesson_id: str) -> int:
        """The number of the newest decision of a lesson, 0 when there is none."""
        rows = self._db.execute(
            "SELECT coalesce(max(number), 0) FROM decisions WHERE lesson = ?", (lesson_id,)
        )
        return int(rows.fetchone()[0])

    def decisions(self, lesson_id: str, before: int | None, limit: int) -> list[StoredDecision]:
        """Decisions of a lesson, the newest first, those before a number where one is given."""
        rows = self._db.execute(
            "SELECT number, at, stream, body FROM decisions WHERE lesson = ?"
            " AND (? IS NULL OR number < ?) ORDER BY number DESC LIMIT ?",
            (lesson_id, before, before, limit),
        )
        return [StoredDecision(*row) for row in rows]

    # --- the floor -----------------------------------------------------------------------------

    def save_floor(self, lesson_id: str, state: FloorState) -> None:
        self._db.execute(
            "INSERT INTO floors VALUES (?, ?) ON CONFLICT (lesson) DO UPDATE SET"
            " state = excluded.state",
            (lesson_id, msgspec.json.encode(state).decode()),
        )

    def floor(self, lesson_id: str) -> FloorState | None:
        rows = self._db.execute("SELECT state FROM floors WHERE lesson = ?", (lesson_id,))
        return next((msgspec.json.decode(row[0], type=FloorState) for row in rows), None)


def _lesson(row: tuple[object, ...]) -> StoredLesson:
    *columns, caps, admission = row
    values = dict(zip(StoredLesson.__struct_fields__, columns, strict=False))
    values["caps"] = msgspec.json.decode(str(caps))
    values["admission"] = msgspec.json.decode(str(admission))
    return msgspec.convert(values, StoredLesson)
