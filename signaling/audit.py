"""The audit log: who changed what and why, in a file that shows every later change to it.

One line per entry, JSON. Each carries the hash of the one before, so an entry that is changed,
removed, inserted or moved breaks the chain at its place; a second file holds the number and hash
of the last entry, so that a shortened log shows too. Whoever can write both files can forge the
whole chain, which is why operations note down what `tongke audit verify` prints and give it back
later with `--expect` (docs/ops-security.md).

Entries name roles, ids and hashed tokens, never people. The server and `tongke token` append to
the same file at the same time: each append holds a lock on it.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal

import msgspec

from signaling.decisions import token_hash
from signaling.tokens import Claims

log = logging.getLogger(__name__)

FILE_NAME: Final = "audit.log"
HEAD_NAME: Final = "audit.head"
# The hash before the first entry.
ORIGIN: Final = "0" * 64
MAX_TEXT_CHARS: Final = 500
# No entry is longer: six texts of MAX_TEXT_CHARS, each character at most 6 bytes in JSON.
MAX_LINE_BYTES: Final = 32 * 1024

_HEAD: Final = re.compile(r"(\d{12}) ([0-9a-f]{64})\n")

Action = Literal[
    "lesson-created",
    "lesson-ended",
    "cap-changed",
    "lesson-cap-changed",
    "reservations-changed",
    "schedule-changed",
    "seat-released",
    "config-changed",
    "token-issued",
    "floor-changed",
    "recording-deleted",
]
Fault = Literal["damaged", "changed", "out-of-order", "cut-off", "not-as-expected"]


class _Body(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is hashed."""

    n: int
    at: str
    role: str
    token: str
    action: str
    object: str
    reason: str
    previous: str


class Entry(_Body, frozen=True, forbid_unknown_fields=True):
    """One line: `n` counts from 1, `at` is UTC, `token` is the hash of the actor's token."""

    hash: str


class Verdict(msgspec.Struct, frozen=True):
    """What `verify` found: how many good entries, the hash of the last, and the first fault."""

    entries: int
    head: str
    fault: Fault | None = None
    at_entry: int | None = None


_actor: ContextVar[Claims | str] = ContextVar("actor", default="server")


@contextmanager
def acting(actor: Claims) -> Iterator[None]:
    """Whatever is recorded inside without an actor was caused by this one."""
    token = _actor.set(actor)
    try:
        yield
    finally:
        _actor.reset(token)


def acting_role_and_token() -> tuple[str, str]:
    """Who `acting` says causes what happens now: a role, and the hash of its token if any."""
    actor = _actor.get()
    return (actor, "") if isinstance(actor, str) else (actor.role, token_hash(actor.sub))


class AuditLog:
    """Appends entries. Failing to write is logged as an error and stops nobody's lesson."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / FILE_NAME
        self._head_path = directory / HEAD_NAME

    def record(
        self,
        actor: Claims | str | None,
        action: Action,
        subject: str,
        reason: str = "",
        *,
        at: datetime | None = None,
    ) -> None:
        """Append an entry by a token's claims, "server", "cli", or None: who `acting` says."""
        actor = _actor.get() if actor is None else actor
        role, token = (actor, "") if isinstance(actor, str) else (actor.role, token_hash(actor.sub))
        moment = (at or datetime.now(UTC)).isoformat(timespec="milliseconds")
        try:
            with self._locked() as descriptor:
                n, previous = _last(descriptor)
                body = _Body(
                    n + 1,
                    moment,
                    role,
                    token,
                    action,
                    subject[:MAX_TEXT_CHARS],
                    reason[:MAX_TEXT_CHARS],
                    previous,
                )
                line, digest = _line(body)
                _write_all(descriptor, line)
                self._write_head(n + 1, digest)
        except (OSError, UnicodeError) as error:
            log.error("the audit log could not be written (%s): %s %s", error, action, subject)

    def issued(self, actor: str, claims: Claims) -> None:
        """Record a token that was just made, by the hash under which it will act."""
        until = datetime.fromtimestamp(claims.exp, UTC).isoformat()
        reason = f"{claims.role} for {claims.lesson or 'any lesson'} until {until}"
        self.record(actor, "token-issued", token_hash(claims.sub), reason)

    @contextmanager
    def _locked(self) -> Iterator[int]:
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        descriptor = os.open(self.path, flags, mode=0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield descriptor
        finally:
            os.close(descriptor)  # which ends the lock

    def _write_head(self, n: int, digest: str) -> None:
        # One write of constant length in place: it is there whole or as before.
        descriptor = os.open(self._head_path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, mode=0o600)
        try:
            os.pwrite(descriptor, f"{n:012d} {digest}\n".encode(), 0)
        finally:
            os.close(descriptor)


def verify(directory: Path, expected: tuple[int, str] | None = None) -> Verdict:
    """Check the whole chain. `expected` is the number and hash of an entry noted down earlier.

    Raises OSError when the files cannot be read; a log that was never written has no entries.
    """
    entries, previous = 0, ORIGIN
    noted = expected is None or expected[0] == 0
    for line in _lines(directory / FILE_NAME):
        entry = _parse(line)
        if entry is None:
            return Verdict(entries, previous, "damaged", entries + 1)
        if entry.n != entries + 1 or entry.previous != previous:
            return Verdict(entries, previous, "out-of-order", entries + 1)
        if _line(entry)[1] != entry.hash:
            return Verdict(entries, previous, "changed", entries + 1)
        entries, previous = entry.n, entry.hash
        if expected is not None and expected[0] == entries:
            if expected[1] != previous:
                return Verdict(entries, previous, "not-as-expected", entries)
            noted = True
    head = _head(directory / HEAD_NAME)
    # A crash between the two writes leaves one entry more than the head says, never one less.
    if head is None and entries:
        return Verdict(entries, previous, "cut-off", entries + 1)
    if head is not None and (head[0] > entries or (head[0] == entries and head[1] != previous)):
        return Verdict(entries, previous, "cut-off", entries + 1)
    if not noted:
        return Verdict(entries, previous, "not-as-expected", entries + 1)
    return Verdict(entries, previous)


def read(directory: Path) -> Iterator[Entry]:
    """The entries in order, as far as they can be read; `verify` says whether they are genuine."""
    for line in _lines(directory / FILE_NAME):
        entry = _parse(line)
        if entry is not None:
            yield entry


def _line(body: _Body) -> tuple[bytes, str]:
    """The line of an entry and its hash, which covers the bytes of everything before it."""
    fields = {name: getattr(body, name) for name in _Body.__struct_fields__}
    digest = hashlib.sha256(msgspec.json.encode(fields)).hexdigest()
    return msgspec.json.encode({**fields, "hash": digest}) + b"\n", digest


def _parse(line: bytes) -> Entry | None:
    """The entry of a line, None unless it is byte for byte as we write them."""
    try:
        entry = msgspec.json.decode(line, type=Entry)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None
    return entry if msgspec.json.encode(entry) + b"\n" == line else None


def _lines(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            while line := file.readline(MAX_LINE_BYTES):
                yield line
    except FileNotFoundError:
        return


def _head(path: Path) -> tuple[int, str] | None:
    try:
        match = _HEAD.fullmatch(path.read_bytes()[:1024].decode("latin-1"))
    except FileNotFoundError:
        return None
    return (int(match.group(1)), match.group(2)) if match is not None else (2**62, "")


def _last(descriptor: int) -> tuple[int, str]:
    """Number and hash of the last entry of an open log. A torn last line is ended and left."""
    size = os.fstat(descriptor).st_size
    tail = os.pread(descriptor, 2 * MAX_LINE_BYTES, max(0, size - 2 * MAX_LINE_BYTES))
    if tail and not tail.endswith(b"\n"):
        _write_all(descriptor, b"\n")
    for line in reversed(tail.splitlines(keepends=True)):
        entry = _parse(line)
        if entry is not None:
            return entry.n, entry.hash
    return 0, ORIGIN


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]
