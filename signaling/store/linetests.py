"""Keeps line tests across restarts, in a file of their own: losing it loses nothing of a lesson."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import msgspec

from signaling.linetest import LineTest
from signaling.store.database import StoreError

FILE_NAME = "linetests.sqlite"
KEEP_S = 30 * 24 * 3600.0


class LineTests:
    """The latest test of each seat of each lesson. Seats are ids: no names are in here."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            path.touch(mode=0o600)
        try:
            self._db = sqlite3.connect(path, isolation_level=None)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = NORMAL")
            self._db.execute(
                "CREATE TABLE IF NOT EXISTS linetests (lesson TEXT NOT NULL, seat TEXT NOT NULL,"
                " at REAL NOT NULL, test TEXT NOT NULL, PRIMARY KEY (lesson, seat))"
                " STRICT, WITHOUT ROWID"
            )
        except sqlite3.Error as error:
            raise StoreError(f"{path}: {error}. Move the file away to start empty") from error

    def close(self) -> None:
        self._db.close()

    def save(self, lesson: str, seat: str, test: LineTest) -> None:
        """Replaces an earlier test of the seat, and drops what is long past."""
        self._db.execute("DELETE FROM linetests WHERE at < ?", (test.at - KEEP_S,))
        self._db.execute(
            "INSERT OR REPLACE INTO linetests VALUES (?, ?, ?, ?)",
            (lesson, seat, test.at, msgspec.json.encode(test).decode()),
        )

    def of_lesson(self, lesson: str) -> dict[str, LineTest]:
        """Seat → test; one that an older version wrote in another shape is left out."""
        found: dict[str, LineTest] = {}
        for seat, text in self._db.execute(
            "SELECT seat, test FROM linetests WHERE lesson = ?", (lesson,)
        ):
            try:
                found[seat] = msgspec.json.decode(text, type=LineTest)
            except msgspec.MsgspecError:
                continue
        return found
