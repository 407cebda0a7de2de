"""The history of configurations, and the watch over their file."""

from __future__ import annotations

import os
from pathlib import Path

from signaling.config_history import KEPT, ConfigHistory, FileWatch


def test_a_history_is_there_again_after_a_restart(tmp_path: Path) -> None:
    history = ConfigHistory(tmp_path)
    history.record("a = 1", at=1.0, role="server")
    history.record("a = 2", at=2.0, role="ops", token="t_1", changes=["a: 1 → 2"])
    assert ConfigHistory(tmp_path).newest_first() == history.newest_first()
    (file, *_) = (tmp_path / "config-history").iterdir()
    assert file.stat().st_mode & 0o077 == 0


def test_what_is_in_effect_already_is_not_kept_again(tmp_path: Path) -> None:
    history = ConfigHistory(tmp_path)
    assert history.record("a = 1", at=1.0, role="server") is not None
    assert history.record("a = 1", at=2.0, role="server") is None
    assert len(history) == 1


def test_a_history_is_bounded_and_damaged_files_are_passed_over(tmp_path: Path) -> None:
    history = ConfigHistory(tmp_path)
    for number in range(KEPT + 5):
        history.record(f"a = {number}", at=1.0, role="ops")
    directory = tmp_path / "config-history"
    assert len(history) == len(list(directory.iterdir())) == KEPT
    (directory / "00000030.json").write_bytes(b"\xff{")
    (directory / "99999999.json").write_bytes((directory / "00000031.json").read_bytes())
    again = ConfigHistory(tmp_path)
    assert len(again) == KEPT - 1
    assert again.latest == history.latest


def test_one_step_back_from_a_step_back_goes_further(tmp_path: Path) -> None:
    history = ConfigHistory(tmp_path)
    assert history.before() is None
    for text in ("one", "two", "three"):
        history.record(text, at=1.0, role="ops")
    found: list[str] = []
    while (target := history.before()) is not None:
        found.append(target.toml)
        history.record(target.toml, at=1.0, role="ops", restores=target.n)
    assert found == ["two", "one"]
    history.record("four", at=1.0, role="ops")
    before = history.before()
    assert before is not None and before.toml == "one"


def test_a_file_that_is_written_replaced_or_missing_for_a_moment_is_noticed_once(
    tmp_path: Path,
) -> None:
    path = tmp_path / "tongke.toml"
    path.write_text("a = 1")
    watch = FileWatch(path)
    assert not watch.changed()
    path.write_text("a = 22")
    assert watch.changed()
    assert not watch.changed()
    path.rename(tmp_path / "elsewhere")
    assert not watch.changed()
    path.write_text("a = 33")
    os.utime(path, ns=(1, 1))
    assert watch.changed()
    assert not watch.changed()
