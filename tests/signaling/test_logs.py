"""Log records for people and for machines: ids of their own, chosen by the environment."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator

import pytest

from signaling import logs
from tests.signaling.conftest import Client, eventually


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def test_json_records_carry_the_ids_of_what_they_are_about(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(logs.FORMAT_VARIABLE, "json")
    logs.set_up()
    logging.getLogger("a.b").info("closed: %s", "no\nline", extra={"lesson": "l_1", "seat": "s_2"})
    (line,) = capsys.readouterr().err.splitlines()
    record = json.loads(line)
    assert record.pop("time").endswith("+00:00")
    assert record == {
        "level": "INFO",
        "logger": "a.b",
        "message": "closed: no\nline",
        "lesson": "l_1",
        "seat": "s_2",
    }


def test_lines_for_people_end_with_the_ids(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(logs.FORMAT_VARIABLE, "neither")
    monkeypatch.setenv(logs.LEVEL_VARIABLE, "warning")
    logs.set_up()
    logging.getLogger("a").info("not shown")
    logging.getLogger("a").warning("shown", extra={"lesson": "l_1", "seat": ""})
    assert capsys.readouterr().err.endswith(" WARNING a: shown lesson=l_1\n")


async def test_a_lesson_leaves_its_ids_and_no_name_code_or_token_in_the_log(
    client: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.set_up("json", "DEBUG")
    lesson = await client.lesson(title="张老师的数学课")
    joined = await client.join(lesson, "红星小学")
    await client.whip(lesson)
    answer = await client.whep(lesson, joined["token"])
    path = answer.headers["Location"]
    session = path.rpartition("/")[2]
    await client.call("POST", f"/api/v1/ops/sessions/{session}/rejoin", client.ops)

    async def gone() -> bool:
        return client.server.context.desk.sessions.get(session) is None

    await eventually(gone)
    sys.stderr.flush()
    text = capsys.readouterr().err
    records = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    closed = [one for one in records if one.get("seat") == joined["seat"]["id"]]
    assert closed and closed[0]["lesson"] == lesson["id"]
    for secret in ("张老师", "红星", lesson["join_code"], joined["token"], session, "127.0.0.1"):
        assert secret not in "".join(
            one["message"]
            for one in records
            if one["logger"] != "asyncio" and "listening" not in one["message"]
        ), secret
