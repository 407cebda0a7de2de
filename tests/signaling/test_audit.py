"""The audit log: whatever is done to it afterwards shows, and at which entry."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from signaling.audit import AuditLog, acting, read, verify
from signaling.tokens import Claims
from tests.signaling.conftest import Client, Start

OPS = Claims(sub="the-subject-of-a-token", role="ops", exp=2**31)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    log = AuditLog(tmp_path)
    for number in range(8):
        log.record(OPS, "cap-changed", f"l_{number}/camera", f"from {number} to {number + 1}")
    return tmp_path


def lines(directory: Path) -> list[bytes]:
    return (directory / "audit.log").read_bytes().splitlines(keepends=True)


def write(directory: Path, kept: list[bytes]) -> None:
    (directory / "audit.log").write_bytes(b"".join(kept))


def test_a_log_as_it_was_written_is_intact(directory: Path) -> None:
    verdict = verify(directory)
    assert (verdict.entries, verdict.fault) == (8, None)
    entries = list(read(directory))
    assert [entry.n for entry in entries] == list(range(1, 9))
    assert entries[2].object == "l_2/camera"
    assert entries[2].token.startswith("t_")
    assert "the-subject" not in (directory / "audit.log").read_text()
    for name in ("audit.log", "audit.head"):
        assert (directory / name).stat().st_mode & 0o777 == 0o600


def test_no_log_yet_is_no_fault(tmp_path: Path) -> None:
    assert verify(tmp_path).entries == 0


@pytest.mark.parametrize("number", [1, 4, 8])
def test_a_removed_entry_shows_at_its_place(directory: Path, number: int) -> None:
    kept = lines(directory)
    del kept[number - 1]
    write(directory, kept)
    verdict = verify(directory)
    assert (verdict.fault, verdict.at_entry) == (
        "out-of-order" if number < 8 else "cut-off",
        number,
    )


@pytest.mark.parametrize("number", [1, 4, 7])
def test_entries_that_changed_places_show_at_the_first(directory: Path, number: int) -> None:
    kept = lines(directory)
    kept[number - 1], kept[number] = kept[number], kept[number - 1]
    write(directory, kept)
    assert (verify(directory).fault, verify(directory).at_entry) == ("out-of-order", number)


def test_an_entry_that_was_put_in_shows(directory: Path) -> None:
    kept = lines(directory)
    write(directory, [*kept[:3], kept[2], *kept[3:]])
    assert (verify(directory).fault, verify(directory).at_entry) == ("out-of-order", 4)


@pytest.mark.parametrize("name", ["at", "role", "token", "action", "object", "reason", "hash"])
def test_any_changed_member_shows_at_its_entry(directory: Path, name: str) -> None:
    kept = lines(directory)
    entry = json.loads(kept[4])
    entry[name] = "0" * 64
    kept[4] = json.dumps(entry, separators=(",", ":")).encode() + b"\n"
    write(directory, kept)
    assert (verify(directory).fault, verify(directory).at_entry) == ("changed", 5)


def test_a_log_emptied_or_a_head_taken_away_shows(directory: Path) -> None:
    kept = lines(directory)
    write(directory, [])
    assert (verify(directory).fault, verify(directory).at_entry) == ("cut-off", 1)
    write(directory, kept)
    (directory / "audit.head").unlink()
    assert verify(directory).fault == "cut-off"
    (directory / "audit.head").write_text("nonsense")
    assert verify(directory).fault == "cut-off"


def test_a_log_rewritten_as_a_whole_shows_against_what_was_noted_down(directory: Path) -> None:
    noted = verify(directory)
    for name in ("audit.log", "audit.head"):
        (directory / name).unlink()
    forged = AuditLog(directory)
    for number in range(12):
        forged.record(OPS, "cap-changed", f"l_{number}/camera")
    assert verify(directory).fault is None
    verdict = verify(directory, (8, noted.head))
    assert (verdict.fault, verdict.at_entry) == ("not-as-expected", 8)
    assert verify(directory, (13, noted.head)).fault == "not-as-expected"
    assert verify(directory, (12, verify(directory).head)).fault is None


def test_a_crash_before_the_head_was_written_is_no_fault(directory: Path) -> None:
    head = (directory / "audit.head").read_bytes()
    AuditLog(directory).record("server", "lesson-ended", "l_1")
    (directory / "audit.head").write_bytes(head)
    assert verify(directory).fault is None


def test_a_line_torn_by_a_crash_shows_and_does_not_hide_what_follows(directory: Path) -> None:
    path = directory / "audit.log"
    path.write_bytes(path.read_bytes()[:-30])
    AuditLog(directory).record("server", "lesson-ended", "l_1")
    assert (verify(directory).fault, verify(directory).at_entry) == ("damaged", 8)
    assert list(read(directory))[-1].object == "l_1"


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_any_byte_that_differs_is_found_no_later_than_its_entry(
    directory: Path, data: st.DataObject
) -> None:
    original = b"".join(lines(directory))
    position = data.draw(st.integers(0, len(original) - 1))
    value = data.draw(st.integers(0, 255).filter(lambda byte: byte != original[position]))
    write(directory, [original[:position], bytes([value]), original[position + 1 :]])
    verdict = verify(directory)
    write(directory, [original])
    assert verdict.fault is not None
    assert verdict.at_entry is not None
    assert verdict.at_entry <= original[:position].count(b"\n") + 1


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(text=st.text(max_size=700), reason=st.text(max_size=700))
def test_any_text_makes_a_whole_entry(tmp_path: Path, text: str, reason: str) -> None:
    log = AuditLog(tmp_path)
    before = verify(tmp_path).entries
    log.record("server", "config-changed", text, reason)
    after = verify(tmp_path)
    assert after.fault is None
    assert after.entries == before + 1


def test_two_processes_may_append_at_the_same_time(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from signaling.audit import AuditLog\n"
        "log = AuditLog(Path(sys.argv[1]))\n"
        "for n in range(40): log.record('cli', 'token-issued', str(n))"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    running = [subprocess.Popen(command) for _ in range(2)]
    assert [process.wait(30) for process in running] == [0, 0]
    assert (verify(tmp_path).entries, verify(tmp_path).fault) == (80, None)


def test_a_log_that_cannot_be_written_is_an_error_in_the_log_only(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    AuditLog(tmp_path / "missing").record("server", "lesson-ended", "l_1")
    assert "audit log could not be written" in caplog.text


def test_what_is_recorded_inside_an_act_names_its_actor(tmp_path: Path) -> None:
    log = AuditLog(tmp_path)
    with acting(OPS):
        log.record(None, "config-changed", "limits.lessons")
    log.record(None, "config-changed", "limits.lessons")
    assert [entry.role for entry in read(tmp_path)] == ["ops", "server"]


# --- the server and the command ------------------------------------------------------------------


async def test_the_server_records_configurations_with_who_changed_them(
    start: Start, tmp_path: Path
) -> None:
    path = tmp_path / "tongke.toml"
    path.write_text("")
    client = await start(config_path=path)
    text = f'[limits]\nlessons = 7\n[auth]\nsecret = "{"s" * 40}"\n'
    await client.call("PUT", "/api/v1/config", client.ops, json={"toml": text})
    changed = [e for e in read(tmp_path / "data") if e.action == "config-changed"]
    by_key = {entry.object: entry for entry in changed}
    assert by_key["limits.lessons"].reason.endswith("to 7")
    assert by_key["limits.lessons"].role == "ops"
    assert "ssss" not in str(changed)
    issued = [e for e in read(tmp_path / "data") if e.action == "token-issued"]
    assert by_key["limits.lessons"].token in {entry.object for entry in issued}


async def test_tokens_made_by_the_command_stand_in_the_log_and_verify_says_so(
    client: Client, tmp_path: Path
) -> None:
    async def tongke(*words: str) -> tuple[int, str]:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "clients",
            *words,
            "--json",
            "--set",
            f'server.data_dir="{tmp_path / "data"}"',
            stdout=asyncio.subprocess.PIPE,
        )
        output, _ = await process.communicate()
        return process.returncode or 0, output.decode()

    code, output = await tongke("token", "--role", "point", "--org", "县一中", "--lesson", "l_x")
    assert code == 0
    status, _ = await client.call("GET", "/api/v1/me", json.loads(output)["token"])
    assert status == 200
    code, output = await tongke("audit", "show", "--last", "1")
    [entry] = json.loads(output)["entries"]
    assert (code, entry["role"], entry["action"]) == (0, "cli", "token-issued")
    assert "l_x" in entry["reason"]
    code, output = await tongke("audit", "verify")
    intact = json.loads(output)
    assert (code, intact["ok"]) == (0, True)
    assert (await tongke("audit", "verify", "--expect", intact["head"]))[0] == 0
    path = tmp_path / "data" / "audit.log"
    path.write_bytes(path.read_bytes().replace(b'"role":"cli"', b'"role":"ops"'))
    code, output = await tongke("audit", "verify")
    assert (code, json.loads(output)["at_entry"]) == (1, entry["n"])
    assert (await tongke("audit", "verify", "--expect", "nonsense"))[0] == 2
