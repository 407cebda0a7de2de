"""Listing, fetching and deleting recordings over HTTP, and who may not."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import pytest

from tests.signaling.conftest import Client, Start, connect
from tests.signaling.test_recordings import keep

NOT_OLD_S = 4e9  # far in the future: the server deletes what is old whenever it likes


def stored(tmp_path: Path, lesson_id: str, **fields: object) -> Path:
    return keep(tmp_path / "data" / "recordings", lesson_id, started_at=NOT_OLD_S, **fields)  # type: ignore[arg-type]


@pytest.fixture
async def client(start: Start) -> Client:
    return await start("recording.min_free_mb=0")


async def test_the_teacher_and_operations_see_what_was_recorded(
    client: Client, tmp_path: Path
) -> None:
    lesson = await client.lesson(mode="open")
    assert lesson["recording"] is True
    path = f"/api/v1/lessons/{lesson['id']}/recordings"
    status, listed = await client.call("GET", path, client.teacher)
    assert (status, listed) == (200, {"recording": True, "state": "waiting", "recordings": []})
    file = stored(tmp_path, lesson["id"])
    for token in (client.teacher, client.ops):
        status, listed = await client.call("GET", path, token)
        assert status == 200
        assert listed["recordings"] == [
            {
                "file": file.name,
                "stream": "camera",
                "state": "complete",
                "started_at": NOT_OLD_S,
                "duration_s": 0.0,
                "bytes": 10,
                "codec": None,
                "width": None,
                "height": None,
                "sound": False,
            }
        ]


async def test_others_see_nothing(client: Client, tmp_path: Path) -> None:
    lesson = await client.lesson(mode="open")
    file = stored(tmp_path, lesson["id"])
    joined = await client.join(lesson)
    path = f"/api/v1/lessons/{lesson['id']}/recordings"
    other = client.server.issue_token("teacher")
    for token, refused in (
        (joined["token"], 403),
        (client.server.issue_token("observer", lesson=lesson["id"]), 403),
        (other, 403),
        (None, 401),
    ):
        for method, at in (("GET", path), ("GET", f"{path}/{file.name}")):
            assert (await client.call(method, at, token))[0] == refused
        assert (await client.call("DELETE", f"{path}/{file.name}", token))[0] == refused
    assert file.exists()


async def test_a_file_is_fetched_whole_and_in_ranges(client: Client, tmp_path: Path) -> None:
    lesson = await client.lesson(mode="open")
    file = stored(tmp_path, lesson["id"])
    file.write_bytes(bytes(range(100)))
    url = f"{client.server.url}/api/v1/lessons/{lesson['id']}/recordings/{file.name}"
    headers = {"Authorization": f"Bearer {client.teacher}"}
    async with client.http.get(url, headers=headers) as response:
        assert response.status == 200
        assert response.headers["Content-Type"] == "video/webm"
        assert response.headers["Accept-Ranges"] == "bytes"
        assert await response.read() == bytes(range(100))
    async with client.http.get(url, headers=headers | {"Range": "bytes=10-19"}) as response:
        assert response.status == 206
        assert response.headers["Content-Range"] == "bytes 10-19/100"
        assert await response.read() == bytes(range(10, 20))
    async with client.http.get(url, headers=headers | {"Range": "bytes=500-"}) as response:
        assert response.status == 416


OUTSIDE = [
    "../../tongke.sqlite",
    "../tongke.sqlite",
    "..",
    "../../../etc/passwd",
    "/etc/passwd",
    "camera-20260101T000000Z-0123abcd-0001.json",
    "camera-20260101T000000Z-0123abcd-0001.webm/../x",
    "camera-20260101T000000Z-0123abcd-0001.webm\0",
    "camera-20260101T000000Z-0123abcd-0001.webm\n",
    "x" * 2000,
]


async def test_no_path_leads_out_of_the_folder(client: Client, tmp_path: Path) -> None:
    lesson = await client.lesson(mode="open")
    file = stored(tmp_path, lesson["id"])
    base = f"/api/v1/lessons/{lesson['id']}/recordings/"
    for name in OUTSIDE:
        for method in ("GET", "DELETE"):
            status, body = await client.call(method, base + quote(name, safe=""), client.ops)
            assert status in (400, 404), (name, body)
    for lesson_id in ("..", "../recordings", lesson["id"] + "/.."):
        at = f"/api/v1/lessons/{quote(lesson_id, safe='')}/recordings"
        status, _ = await client.call("GET", at, client.ops)
        assert status == 404
    assert file.exists()
    assert file.with_suffix(".json").exists()


async def test_a_file_is_deleted_but_not_while_it_is_being_written(
    client: Client, tmp_path: Path
) -> None:
    lesson = await client.lesson(mode="open")
    file = stored(tmp_path, lesson["id"], state="recording")
    files = client.server._recordings.files  # type: ignore[union-attr]
    files.live.add(file.name)
    path = f"/api/v1/lessons/{lesson['id']}/recordings/{file.name}"
    status, problem = await client.call("DELETE", path, client.teacher)
    assert (status, problem["field"]) == (409, "file")
    files.live.clear()
    assert (await client.call("DELETE", path, client.teacher))[0] == 204
    assert not file.exists()
    assert not file.parent.exists()
    assert (await client.call("DELETE", path, client.teacher))[0] == 404
    audit = (tmp_path / "data" / "audit.log").read_text()
    assert "recording-deleted" in audit
    assert file.name in audit


async def test_operations_reach_the_files_of_a_lesson_that_is_forgotten(
    client: Client, tmp_path: Path
) -> None:
    file = stored(tmp_path, "l_forgotten")
    path = "/api/v1/lessons/l_forgotten/recordings"
    status, listed = await client.call("GET", path, client.ops)
    assert status == 200
    assert [one["file"] for one in listed["recordings"]] == [file.name]
    assert (await client.call("GET", path, client.teacher))[0] == 404


async def test_pages_are_told_whether_the_lesson_is_recorded(client: Client) -> None:
    for mode, recorded in (("open", True), ("dispatch", False)):
        lesson = await client.lesson(mode=mode)
        joined = await client.join(lesson)
        assert joined["lesson"]["recording"] is recorded
        socket = await connect(client, lesson, joined["token"])
        welcome = await socket.next("welcome")
        assert welcome["lesson"]["recording"] is recorded
    _, ended = await client.call("DELETE", f"/api/v1/lessons/{lesson['id']}", client.ops)
    assert ended["recording"] is False
