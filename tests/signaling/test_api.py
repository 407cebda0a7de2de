"""The JSON API, the pages and the endpoints for machines, over real HTTP."""

from __future__ import annotations

import asyncio
import socket
import ssl
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from signaling import api, api_admission, sockets
from signaling import config as configuration
from signaling.app import Server
from signaling.problems import Problem
from signaling.requests import decode
from tests.signaling.conftest import FAKE_WORKER, Client, Start, config_for


def kind(problem: Any) -> str:
    return str(problem["type"].rpartition("/")[2])


# --- lessons -------------------------------------------------------------------------------------


async def test_a_teacher_creates_lists_reads_and_ends_a_lesson(client: Client) -> None:
    lesson = await client.lesson(title="  分数\u202e 的加法 ")
    assert lesson["title"] == "分数 的加法"
    assert lesson["state"] == "waiting"
    assert lesson["join_code"].isdigit()
    assert len(lesson["join_code"]) == 6
    assert lesson["join_url"] == f"{client.server.base_url}/join/{lesson['join_code']}"
    assert list(lesson["streams"]) == ["camera", "slides"]
    assert lesson["streams"]["camera"]["receivers"] == 0
    path = f"/api/v1/lessons/{lesson['id']}"
    assert await client.call("GET", path, client.teacher) == (200, lesson)
    status, listed = await client.call("GET", "/api/v1/lessons", client.teacher)
    assert (status, listed) == (200, {"lessons": [lesson]})
    status, ended = await client.call("DELETE", path, client.teacher)
    assert (status, ended["state"]) == (200, "ended")
    assert (await client.call("GET", path, client.teacher))[1]["state"] == "ended"
    # Ending twice is no error: the teacher's button may be pressed twice.
    assert (await client.call("DELETE", path, client.teacher))[0] == 200


async def test_streams_may_be_named_or_given_caps(client: Client) -> None:
    named = await client.lesson(streams=["camera"])
    assert list(named["streams"]) == ["camera"]
    capped = await client.lesson(streams={"camera": {"cap": 7}, "slides": {}})
    assert capped["streams"]["camera"]["cap"] == 7
    assert capped["streams"]["slides"]["cap"] == named["streams"]["camera"]["cap"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"mode": "dispatch"}, "body"),
        ({"title": "", "mode": "dispatch"}, "title"),
        ({"title": "\u200b", "mode": "dispatch"}, "title"),
        ({"title": "x" * 500, "mode": "dispatch"}, "title"),
        ({"title": 3, "mode": "dispatch"}, "title"),
        ({"title": "a", "mode": "karaoke"}, "mode"),
        ({"title": "a", "mode": "dispatch", "streams": ["wall"]}, "streams"),
        ({"title": "a", "mode": "dispatch", "streams": []}, "streams"),
        ({"title": "a", "mode": "dispatch", "streams": {"camera": {"cap": -1}}}, "streams"),
        ({"title": "a", "mode": "dispatch", "colour": "red"}, "body"),
    ],
)
async def test_a_wrong_lesson_is_refused_by_the_field(
    client: Client, body: dict[str, Any], field: str
) -> None:
    status, problem = await client.call("POST", "/api/v1/lessons", client.teacher, json=body)
    assert (status, kind(problem)) == (400, "invalid-request")
    assert problem["field"].startswith(field)


async def test_who_may_create_and_see_lessons(client: Client) -> None:
    lesson = await client.lesson()
    bound = client.server.issue_token("teacher", lesson=lesson["id"])
    other = client.server.issue_token("teacher")
    point = client.server.issue_token("point", lesson=lesson["id"])
    path = f"/api/v1/lessons/{lesson['id']}"
    body = {"title": "a", "mode": "dispatch"}
    for token, expected in ((bound, 403), (point, 403), (client.ops, 201), (other, 201)):
        status, _ = await client.call("POST", "/api/v1/lessons", token, json=body)
        assert status == expected
    statuses = [
        (await client.call("GET", path, token))[0] for token in (bound, other, point, client.ops)
    ]
    assert statuses == [200, 403, 200, 200]
    for token, expected in ((point, 403), (other, 403), (bound, 200)):
        assert (await client.call("DELETE", path, token))[0] == expected
    assert (await client.call("GET", "/api/v1/lessons", point))[0] == 403


async def test_there_are_no_more_lessons_than_configured(start: Start) -> None:
    client = await start("limits.lessons=1")
    lesson = await client.lesson()
    body = {"title": "a", "mode": "dispatch"}
    status, problem = await client.call("POST", "/api/v1/lessons", client.teacher, json=body)
    assert (status, kind(problem)) == (503, "too-many-lessons")
    await client.call("DELETE", f"/api/v1/lessons/{lesson['id']}", client.teacher)
    assert await client.lesson()


async def test_only_ops_changes_a_cap(client: Client) -> None:
    lesson = await client.lesson()
    path = f"/api/v1/lessons/{lesson['id']}/streams/camera"
    assert (await client.call("PATCH", path, client.teacher, json={"cap": 5}))[0] == 403
    status, stream = await client.call("PATCH", path, client.ops, json={"cap": 5})
    assert (status, stream["cap"]) == (200, 5)
    for wrong in ({"cap": -1}, {"cap": 10_001}, {"cap": "5"}, {}, {"cap": 5, "x": 1}):
        status, problem = await client.call("PATCH", path, client.ops, json=wrong)
        assert (status, kind(problem)) == (400, "invalid-request")
    assert (await client.call("GET", path, client.teacher))[1]["cap"] == 5


async def test_the_qr_is_an_svg_that_needs_no_token(client: Client) -> None:
    lesson = await client.lesson()
    async with client.http.get(client.server.url + lesson["join_qr"]) as response:
        assert response.status == 200
        assert response.content_type == "image/svg+xml"
        assert "<path" in await response.text()


# --- joining -------------------------------------------------------------------------------------


async def test_a_class_joins_by_code_and_comes_back_to_its_seat(client: Client) -> None:
    lesson = await client.lesson()
    joined = await client.join(lesson, "红星小学")
    assert joined["seat"]["name"] == "红星小学"
    assert joined["lesson"]["id"] == lesson["id"]
    status, me = await client.call("GET", "/api/v1/me", joined["token"])
    assert status == 200
    assert (me["role"], me["lesson"], me["seat"]) == ("point", lesson["id"], joined["seat"]["id"])
    spaced = f" {lesson['join_code'][:3]} {lesson['join_code'][3:]}"
    body = {"code": spaced, "name": "红星中心小学", "seat": joined["token"]}
    status, again = await client.call("POST", "/api/v1/join", json=body)
    assert status == 201
    assert again["seat"] == {"id": joined["seat"]["id"], "name": "红星中心小学"}
    assert len(await client.seats(lesson)) == 1


async def test_a_token_of_another_lesson_gives_a_new_seat(client: Client) -> None:
    first, second = await client.lesson(), await client.lesson()
    joined = await client.join(first)
    body = {"code": second["join_code"], "name": "甲", "seat": joined["token"]}
    status, again = await client.call("POST", "/api/v1/join", json=body)
    assert status == 201
    assert again["seat"]["id"] != joined["seat"]["id"]
    body["seat"] = "nonsense"
    assert (await client.call("POST", "/api/v1/join", json=body))[0] == 201


async def test_wrong_codes_are_counted_and_right_ones_are_not(start: Start) -> None:
    client = await start("limits.wrong_codes_per_10min=3")
    lesson = await client.lesson()
    wrong = "000000" if lesson["join_code"] != "000000" else "111111"
    for _ in range(5):
        await client.join(lesson)
    for _ in range(3):
        body = {"code": wrong, "name": "甲"}
        status, problem = await client.call("POST", "/api/v1/join", json=body)
        assert (status, kind(problem)) == (404, "unknown-join-code")
    body = {"code": lesson["join_code"], "name": "甲"}
    status, problem = await client.call("POST", "/api/v1/join", json=body)
    assert (status, kind(problem)) == (429, "too-many-requests")


async def test_the_code_of_an_ended_lesson_says_that_it_has_ended(client: Client) -> None:
    lesson = await client.lesson()
    await client.call("DELETE", f"/api/v1/lessons/{lesson['id']}", client.teacher)
    body = {"code": lesson["join_code"], "name": "甲"}
    status, problem = await client.call("POST", "/api/v1/join", json=body)
    assert (status, kind(problem)) == (410, "lesson-ended")


async def test_a_released_seat_is_gone_but_the_school_may_join_anew(client: Client) -> None:
    lesson = await client.lesson(streams={"camera": {"cap": 1}})
    joined = await client.join(lesson)
    assert (await client.whep(lesson, joined["token"])).status == 201
    path = f"/api/v1/lessons/{lesson['id']}/seats/{joined['seat']['id']}"
    assert (await client.call("DELETE", path, joined["token"]))[0] == 403
    assert (await client.call("DELETE", path, client.teacher))[0] == 204
    status, problem = await client.call("DELETE", path, client.teacher)
    assert (status, kind(problem)) == (404, "no-such-seat")
    refused = await client.whep(lesson, joined["token"])
    assert (refused.status, refused.kind) == (404, "no-such-seat")
    body = {"code": lesson["join_code"], "name": "甲", "seat": joined["token"]}
    _, again = await client.call("POST", "/api/v1/join", json=body)
    assert again["seat"]["id"] != joined["seat"]["id"]
    assert (await client.whep(lesson, again["token"])).status == 201


# --- problems ------------------------------------------------------------------------------------


async def test_problems_speak_the_language_of_the_request(client: Client) -> None:
    for asked, text in (("en-GB", "valid"), ("zh-Hans", "令牌")):
        headers = {"Accept-Language": asked}
        status, problem = await client.call("GET", "/api/v1/me", headers=headers)
        assert (status, problem["status"], kind(problem)) == (401, 401, "invalid-token")
        assert text in problem["title"] + problem["detail"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/api/v1/nothing", 404),
        ("GET", "/nothing", 404),
        ("PUT", "/api/v1/lessons", 405),
        ("DELETE", "/api/v1/join", 405),
        ("GET", "/whep/a/b/c/d", 404),
        ("GET", "/api/v1/lessons/l_none/events", 426),
    ],
)
async def test_what_no_handler_takes_is_a_problem_document_too(
    client: Client, method: str, path: str, status: int
) -> None:
    seen, problem = await client.call(method, path)
    assert (seen, problem["status"]) == (status, status)
    assert problem["type"].startswith("https://tongke.dev/problems/")


async def test_a_bug_becomes_an_incident_without_a_trace(
    client: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(client.server.context.registry, "find", lambda _: 1 // 0)
    status, problem = await client.call("GET", "/api/v1/lessons/l_x", client.ops)
    assert (status, kind(problem)) == (500, "internal")
    assert "ZeroDivision" not in str(problem)
    assert problem["incident"] in caplog.text
    assert "ZeroDivisionError" in caplog.text
    assert "l_x" not in caplog.messages[-1]


async def test_malformed_http_is_refused_without_a_trace(client: Client) -> None:
    port = int(client.server.url.rpartition(":")[2])
    for garbage in (
        b"GARBAGE\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        b"\x16\x03",
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(garbage)
        writer.write_eof()
        answer = await reader.read(65536)
        writer.close()
        assert answer == b"" or b" 400 " in answer.splitlines()[0]
        assert b"Traceback" not in answer
    assert (await client.call("GET", "/healthz"))[0] == 200


@pytest.fixture
async def fuzzed(start: Start) -> Client:
    return await start(
        "limits.per_ip_requests_per_second=100000", "limits.wrong_codes_per_10min=10000"
    )


DECODERS = (
    api._create_lesson_decoder,
    api._join_decoder,
    api_admission.patch_stream_decoder,
    api_admission.patch_lesson_decoder,
    api._put_config_decoder,
    sockets.incoming_decoder,
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
FIELDS = st.dictionaries(
    st.sampled_from(["code", "name", "seat", "title", "mode", "streams", "cap", "toml"]),
    JSON,
    max_size=4,
)


@given(body=st.binary(max_size=60) | (FIELDS | JSON).map(lambda value: repr(value).encode()))
@settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_hostile_bytes_never_make_a_decoder_raise_anything_but_a_problem(body: bytes) -> None:
    for decoder in DECODERS:
        try:
            decode(body, decoder)
        except Problem as problem:
            assert problem.type == "invalid-request"


async def test_hostile_json_is_refused_by_every_endpoint(fuzzed: Client) -> None:
    lesson = await fuzzed.lesson()
    targets = [
        ("POST", "/api/v1/join"),
        ("POST", "/api/v1/lessons"),
        ("PATCH", f"/api/v1/lessons/{lesson['id']}/streams/camera"),
        ("PUT", "/api/v1/config"),
    ]
    bodies = [
        b"",
        b"null",
        b"[" * 50_000,
        b'{"a":' * 10_000,
        b'"\\ud800"',
        b'{"title":"\\ud800","mode":"dispatch"}',
        b'{"code":"\\u0000","name":"\\u0000"}',
        b'{"code":1e999,"name":"a"}',
        b'{"cap":1e999}',
        b'{"toml":"= = ="}',
        b'{"toml":"a = ' + b"[" * 5000 + b'"}',
        b"\xff\xff",
    ]
    headers = {"Content-Type": "application/json"}
    for method, path in targets:
        for body in bodies:
            status, problem = await fuzzed.call(
                method, path, fuzzed.ops, data=body, headers=headers
            )
            assert status in (400, 404), (method, path, body[:40], problem)
            assert "detail" in problem


# --- operations ----------------------------------------------------------------------------------


async def test_ops_reads_and_replaces_the_configuration(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "tongke.toml"
    path.write_text("[limits]\nlessons = 7\n")
    client = await start(config_path=path)
    status, shown = await client.call("GET", "/api/v1/config", client.ops)
    assert status == 200
    assert "secret" not in shown["config"]["auth"]
    assert (await client.call("GET", "/api/v1/config", client.teacher))[0] == 403
    text = "[limits]\nlessons = 1\n"
    status, saved = await client.call("PUT", "/api/v1/config", client.ops, json={"toml": text})
    assert status == 200
    assert saved["config"]["limits"]["lessons"] == 1
    assert path.read_text() == text
    async with client.http.get(
        client.server.url + "/api/v1/config/toml",
        headers={"Authorization": f"Bearer {client.ops}"},
    ) as response:
        assert await response.text() == text
    await client.lesson()
    body = {"title": "a", "mode": "dispatch"}
    assert (await client.call("POST", "/api/v1/lessons", client.teacher, json=body))[0] == 503


async def test_an_invalid_configuration_changes_nothing(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "tongke.toml"
    path.write_text("[limits]\nlessons = 7\n")
    client = await start(config_path=path)
    before = client.server.config
    text = "[limits]\nlessons = 0\nlesson = 3\n"
    status, problem = await client.call("PUT", "/api/v1/config", client.ops, json={"toml": text})
    assert (status, kind(problem)) == (400, "config-invalid")
    keys = {error["key"] for error in problem["errors"]}
    assert "limits.lessons" in keys
    assert all(error["allowed"] for error in problem["errors"])
    assert client.server.config is before
    assert path.read_text() == "[limits]\nlessons = 7\n"


async def test_a_reload_leaves_what_needs_a_restart(client: Client) -> None:
    old = client.server.config
    new = configuration.load(None, ["limits.lessons=3", "server.port=9999"])
    client.server.reload(new)
    assert client.server.config.limits.lessons == 3
    assert client.server.config.server == old.server


async def test_a_secret_in_the_file_is_never_shown_and_survives_editing(
    start: Start, tmp_path: Path
) -> None:
    path = tmp_path / "tongke.toml"
    secret = "s" * 40
    path.write_text(f'[auth]\nsecret = "{secret}"\n')
    client = await start(f'auth.secret="{secret}"', config_path=path)
    async with client.http.get(
        client.server.url + "/api/v1/config/toml",
        headers={"Authorization": f"Bearer {client.ops}"},
    ) as response:
        text = await response.text()
    assert secret not in text
    status, _ = await client.call("PUT", "/api/v1/config", client.ops, json={"toml": text})
    assert status == 200
    assert configuration.load(path).auth.secret == secret


async def test_stats_list_workers_lessons_and_sessions(client: Client) -> None:
    lesson = await client.lesson()
    await client.whip(lesson)
    status, stats = await client.call("GET", "/api/v1/stats", client.ops)
    assert status == 200
    assert stats["workers"][0]["ready"] is True
    assert stats["lessons"][0]["id"] == lesson["id"]
    assert [session["role"] for session in stats["sessions"]] == ["publisher"]
    assert (await client.call("GET", "/api/v1/stats", client.teacher))[0] == 403


async def test_health_and_readiness(client: Client) -> None:
    assert await client.call("GET", "/healthz") == (200, b"ok\n")
    assert (await client.call("GET", "/readyz"))[0] == 200
    client.server.context.desk.draining = True
    status, problem = await client.call("GET", "/readyz")
    assert (status, kind(problem)) == (503, "draining")
    assert (await client.call("GET", "/healthz"))[0] == 200
    status, problem = await client.call(
        "POST", "/api/v1/lessons", client.teacher, json={"title": "a", "mode": "dispatch"}
    )
    assert (status, kind(problem)) == (503, "draining")


async def test_hello_needs_no_token(client: Client) -> None:
    status, hello = await client.call("GET", "/api/v1/hello")
    assert status == 200
    assert hello["languages"] == ["zh-CN", "en"]
    assert "dispatch" in hello["modes"]


# --- pages ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "page"),
    [
        ("/", "index.html"),
        ("/teach", "teach/index.html"),
        ("/join", "join/index.html"),
        ("/join/482913", "join/index.html"),
        ("/ops", "ops/index.html"),
    ],
)
async def test_pages_come_with_a_strict_policy(client: Client, path: str, page: str) -> None:
    async with client.http.get(client.server.url + path) as response:
        assert response.status == 200
        assert response.headers["Content-Type"] == "text/html; charset=utf-8"
        assert page in await response.text()
        policy = response.headers["Content-Security-Policy"]
        assert "default-src 'self'" in policy
        assert "unsafe" not in policy
        assert f"ws://127.0.0.1:{client.server.url.rpartition(':')[2]}" in policy
        assert "camera=(self)" in response.headers["Permissions-Policy"]
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert "Server" not in response.headers


async def test_static_files_are_revalidated(client: Client) -> None:
    url = client.server.url + "/static/shared/a.js"
    async with client.http.get(url) as response:
        assert response.status == 200
        assert response.content_type == "text/javascript"
        assert response.headers["Cache-Control"] == "no-cache"
        etag = response.headers["ETag"]
    async with client.http.get(url, headers={"If-None-Match": etag}) as response:
        assert response.status == 304


@pytest.mark.parametrize(
    "path",
    [
        "/static/../outside.js",
        "/static/%2e%2e/outside.js",
        "/static/..%2foutside.js",
        "/static//etc/passwd",
        "/static/%2fetc%2fpasswd",
        "/static/shared",
        "/static/shared/none.js",
        "/static/shared/notes.md",
        "/static/shared/%00.js",
        "/static/" + "a" * 5000 + ".js",
    ],
)
async def test_nothing_outside_the_pages_is_served(client: Client, path: str) -> None:
    port = int(client.server.url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    assert b" 404 " in answer.splitlines()[0]
    assert b"secret" not in answer


async def test_raw_bytes_in_a_path_are_not_found(client: Client) -> None:
    port = int(client.server.url.rpartition(":")[2])
    tokens = f"Authorization: Bearer {client.ops}\r\n".encode()
    for path in (b"\xff\xed\xa0\x80", b"%ff%fe", b"%00", b"%ed%a0%80", b"l_" + b"x" * 4000):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /api/v1/lessons/" + path + b" HTTP/1.1\r\nHost: a\r\n" + tokens)
        writer.write(b"Connection: close\r\n\r\n")
        answer = await reader.read()
        writer.close()
        assert answer.split(b" ")[1] in (b"400", b"404"), answer


async def test_a_hostile_host_header_does_not_get_into_the_policy(client: Client) -> None:
    headers = {"Host": "evil.example; script-src *"}
    async with client.http.get(client.server.url + "/", headers=headers) as response:
        assert "evil" not in response.headers.get("Content-Security-Policy", "")


# --- the server as a whole -----------------------------------------------------------------------


async def test_a_restart_keeps_lessons_codes_tokens_and_held_seats(start: Start) -> None:
    client = await start("limits.seat_hold_s=600")
    lesson = await client.lesson(streams={"camera": {"cap": 1}})
    joined, other = await client.join(lesson, "甲"), await client.join(lesson, "乙")
    assert (await client.whep(lesson, joined["token"])).status == 201
    await client.call(
        "PATCH", f"/api/v1/lessons/{lesson['id']}/streams/camera", client.ops, json={"cap": 1}
    )
    await client.server.stop()
    again = await start("limits.seat_hold_s=600")
    status, kept = await again.call("GET", f"/api/v1/lessons/{lesson['id']}", client.teacher)
    assert status == 200
    assert kept["join_code"] == lesson["join_code"]
    [seat] = await again.seats(lesson)
    assert (seat["name"], seat["state"]) == ("甲", "reconnecting")
    assert (await again.whep(lesson, other["token"])).status == 503
    assert (await again.whep(lesson, joined["token"])).status == 201
    assert (await again.join(lesson, "丙"))["seat"]["name"] == "丙"


async def test_self_signed_https_works_by_its_own_certificate(start: Start, tmp_path: Path) -> None:
    client = await start('server.tls="auto"')
    assert client.server.url.startswith("https://127.0.0.1:")
    assert (await client.call("GET", "/healthz"))[0] == 200
    certificate = tmp_path / "data" / "tls-self-signed.pem"
    assert certificate.stat().st_mode & 0o777 == 0o600
    trusting = ssl.create_default_context(cafile=str(certificate))
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trusting)) as session,
        session.get(client.server.url + "/healthz") as response,
    ):
        assert response.status == 200


async def test_everything_secret_in_the_data_directory_is_private(
    client: Client, tmp_path: Path
) -> None:
    await client.lesson()
    for path in (tmp_path / "data").iterdir():
        assert path.stat().st_mode & 0o077 == 0, path
    names = {path.name for path in (tmp_path / "data").iterdir()}
    assert {"token-secret", "dtls.pem", "tongke.sqlite"} <= names


async def test_a_taken_port_is_an_error_that_leaves_nothing_running(
    tmp_path: Path, web_root: Path
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        config = config_for(tmp_path / "data")
        server = msgspec.structs.replace(config.server, port=taken.getsockname()[1])
        config = msgspec.structs.replace(config, server=server)
        with pytest.raises(OSError):
            await Server(config, web_root=web_root, worker_module=FAKE_WORKER).start()


async def test_serve_until_stops_by_its_event(tmp_path: Path, web_root: Path) -> None:
    server = Server(config_for(tmp_path / "data"), web_root=web_root, worker_module=FAKE_WORKER)
    stopped = asyncio.Event()
    serving = asyncio.create_task(server.serve_until(stopped))
    while not server.url:  # noqa: ASYNC110 - there is no event for it
        await asyncio.sleep(0.02)
    stopped.set()
    await serving
