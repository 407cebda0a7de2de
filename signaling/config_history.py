"""Keeps the configurations that were in effect, with who put them there, so that one can go back.

One file per configuration in `data_dir/config-history/`, the last KEPT of them. The signing secret
is in none: whoever restores a text keeps the one in use. People appear as role and hashed token.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Final

import msgspec

from signaling.store.secretfiles import write_private

log = logging.getLogger(__name__)

DIRECTORY: Final = "config-history"
KEPT: Final = 50
# A configuration file has at most 1 MiB; JSON may write a character with six bytes.
MAX_ENTRY_BYTES: Final = 8 * 1024 * 1024


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """A configuration that came into effect. `restores` is the number of the one it repeats."""

    n: int
    at: float
    role: str
    token: str
    changes: list[str]
    toml: str
    restores: int | None = None


class ConfigHistory:
    """The snapshots, oldest first. A file that is damaged is passed over."""

    def __init__(self, data_directory: Path) -> None:
        self._directory = data_directory / DIRECTORY
        self._snapshots: list[Snapshot] = []
        for path in sorted(self._directory.glob("*.json")):
            snapshot = _read(path)
            if snapshot is not None and path.name == _name(snapshot.n):
                self._snapshots.append(snapshot)

    def __len__(self) -> int:
        return len(self._snapshots)

    @property
    def latest(self) -> Snapshot | None:
        return self._snapshots[-1] if self._snapshots else None

    def newest_first(self) -> list[Snapshot]:
        return self._snapshots[::-1]

    def record(
        self,
        toml: str,
        *,
        at: float,
        role: str,
        token: str = "",
        changes: list[str] | None = None,
        restores: int | None = None,
    ) -> Snapshot | None:
        """Add what is in effect now; None when it is what was added last."""
        latest = self.latest
        if latest is not None and latest.toml == toml:
            return None
        snapshot = Snapshot(
            n=latest.n + 1 if latest is not None else 1,
            at=at,
            role=role,
            token=token,
            changes=changes or [],
            toml=toml,
            restores=restores,
        )
        self._snapshots.append(snapshot)
        try:
            self._directory.mkdir(mode=0o700, exist_ok=True)
            write_private(self._directory / _name(snapshot.n), msgspec.json.encode(snapshot))
            while len(self._snapshots) > KEPT:
                (self._directory / _name(self._snapshots.pop(0).n)).unlink(missing_ok=True)
        except OSError as error:  # a full disk must not keep a configuration from taking effect
            log.error("the history of the configuration cannot be written: %s", error.strerror)
            del self._snapshots[:-KEPT]
        return snapshot

    def before(self) -> Snapshot | None:
        """What one step back leads to: undoing twice goes back two steps, not there and back."""
        latest = self.latest
        if latest is None:
            return None
        standing = latest.restores if latest.restores is not None else latest.n
        earlier = [one for one in self._snapshots if one.n < standing]
        return earlier[-1] if earlier else None


class FileWatch:
    """Tells when a file has been replaced or written since it was last asked."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen = self._signature()

    def changed(self) -> bool:
        """False as well while there is no such file: an editor may be replacing it."""
        signature = self._signature()
        if signature is None or signature == self._seen:
            return False
        self._seen = signature
        return True

    def _signature(self) -> tuple[int, int, int] | None:
        try:
            status = self._path.stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_size, status.st_ino


def _name(number: int) -> str:
    return f"{number:08}.json"


def _read(path: Path) -> Snapshot | None:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_ENTRY_BYTES)
        return msgspec.json.decode(content, type=Snapshot)
    except (OSError, msgspec.MsgspecError) as error:
        log.warning("%s is passed over: %s", path.name, type(error).__name__)
        return None
