"""A data directory belongs to one server at a time."""

from __future__ import annotations

from pathlib import Path

import pytest

from signaling.store.database import StoreError
from signaling.store.lock import DirectoryLock


def test_a_second_server_is_refused_by_name_until_the_first_lets_go(tmp_path: Path) -> None:
    first = DirectoryLock(tmp_path)
    with pytest.raises(StoreError, match=r"server\.data_dir"):
        DirectoryLock(tmp_path)
    first.release()
    DirectoryLock(tmp_path).release()
