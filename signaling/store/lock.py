"""One server per data directory: the kernel's lock on a file says who is there."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from signaling.store.database import StoreError


class DirectoryLock:
    """Held from creation to `release`, or to the end of the process, however it ends.

    Raises StoreError when another server has it.
    """

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._descriptor)
            raise StoreError(
                f"{directory} is in use by another Tongke server: stop that one, "
                "or give this one a data directory of its own (server.data_dir)"
            ) from None

    def release(self) -> None:
        os.close(self._descriptor)
