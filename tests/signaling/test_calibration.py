"""The kept measurement: found again on the same machine, and never a wrong one."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from signaling.calibration import FILE_NAME, Calibration, save, stored, this_machine, whole_us

MEASURED = Calibration(
    loop_us=1.6, packet_us=4.8, gso=True, receivers=100, measured_at=1.0, machine="a × 2"
)


def test_a_measurement_comes_back_on_the_same_machine_only(tmp_path: Path) -> None:
    path = save(tmp_path, MEASURED)
    assert path.stat().st_mode & 0o777 == 0o600
    assert stored(tmp_path, "a × 2") == MEASURED
    assert stored(tmp_path, "b × 2") is None


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b'{"loop_us": 1}', msgspec.json.encode(
        msgspec.structs.replace(MEASURED, packet_us=-1.0)), b"\xff"],
)  # fmt: skip
def test_a_damaged_file_counts_as_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE_NAME).write_bytes(content)
    assert stored(tmp_path, "a × 2") is None


def test_no_file_counts_as_none(tmp_path: Path) -> None:
    assert stored(tmp_path) is None
    assert stored(tmp_path / "missing") is None


def test_the_machine_has_a_name_and_the_whole_costs_more_than_the_loop() -> None:
    assert "×" in this_machine()
    assert whole_us(1.65) == pytest.approx(4.95)
