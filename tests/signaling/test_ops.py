"""Operations over HTTP: the overview and its tag, series, drains, and configurations."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import msgspec
import pytest

from signaling.ops_desk import OpsDesk
from signaling.sockets import QualityReport
from streamer import control
from tests.signaling.conftest import Client, Start, connect, eventually

OPS = "/api/v1/ops"


async def overview(client: Client) -> dict[str, Any]:
    status, found = await client.call("GET", OPS + "/overview", client.ops)
    assert status == 200
    return dict(found)


async def test_only_operations_see_the_overview(client: Client) -> None:
    for token, expected in ((None, 401), (client.teacher, 403), (client.ops, 200)):
        status, _ = await client.call("GET", OPS + "/overview", token)
        assert status == expected


async def test_an_overview_that_has_not_changed_is_not_sent_again(client: Client) -> None:
    headers = {"Authorization": f"Bearer {client.ops}"}
    url = client.server.url + OPS + "/overview"

    async def unchanged() -> bool:
        async with client.http.get(url, headers=headers) as first:
            tag = first.headers["ETag"]
        again = headers | {"If-None-Match": f'"x", W/{tag}'}
        async with client.http.get(url, headers=again) as second:
            return second.status == 304 and await second.read() == b""

    await eventually(unchanged)
    before = await overview(client)
    lesson = await client.lesson()

    async def shown() -> bool:
        return [x["id"] for x in (await overview(client))["lessons"]] == [lesson["id"]]

    assert before["lessons"] == []
    await eventually(shown)


async def test_a_receiver_has_a_series_with_what_its_page_told(client: Client) -> None:
    lesson = await client.lesson()
    joined = await client.join(lesson)
    await client.whip(lesson)
    answer = await client.whep(lesson, joined["token"])
    assert answer.status == 201, answer.text
    session = answer.headers["Location"].rpartition("/")[2]
    socket = await connect(client, lesson, joined["token"])
    await socket.send(type="quality", stream="camera", fps=24, freezes=3)

    async def told() -> bool:
        rows = (await overview(client))["lessons"][0]["receivers"]
        return bool(rows) and rows[0][0] == session and rows[0][8] == 3

    await eventually(told)
    assert (await overview(client))["lessons"][0]["receivers"][0][2] == "红星小学"


async def test_an_unknown_series_is_not_found(client: Client) -> None:
    for path in ("sessions/none", "lessons/none", "workers/9"):
        status, _ = await client.call("GET", f"{OPS}/{path}/series", client.ops)
        assert status == 404


async def test_a_draining_server_takes_no_new_lesson_and_goes_on_with_the_running_ones(
    client: Client,
) -> None:
    lesson = await client.lesson()
    status, answer = await client.call("POST", OPS + "/drain", client.ops, json={"worker": None})
    assert (status, answer) == (200, {"server": True, "workers": []})
    body = {"title": "第二课", "mode": "dispatch"}
    status, problem = await client.call("POST", "/api/v1/lessons", client.teacher, json=body)
    assert status == 503 and problem["type"].endswith("draining")
    joined = await client.join(lesson)
    assert (await client.whip(lesson)).status == 201
    assert (await client.whep(lesson, joined["token"])).status == 201
    await client.call("POST", OPS + "/drain", client.ops, json={"worker": None, "drain": False})
    await client.lesson()


async def test_a_drained_worker_gets_nothing_new(start: Start) -> None:
    client = await start("server.workers=2")
    status, problem = await client.call("POST", OPS + "/drain", client.ops, json={"worker": 2})
    assert status == 400 and problem["field"] == "worker"
    await client.call("POST", OPS + "/drain", client.ops, json={"worker": 0})
    for _ in range(3):
        assert (await client.whip(await client.lesson())).status == 201
    assert {session.worker for session in client.server.context.desk.sessions} == {1}
    assert [worker["drained"] for worker in (await overview(client))["workers"]] == [True, False]


async def test_a_receiver_that_is_moved_is_closed_and_its_place_kept(client: Client) -> None:
    lesson = await client.lesson(streams={"camera": {"cap": 1}})
    joined = await client.join(lesson)
    await client.whip(lesson)
    answer = await client.whep(lesson, joined["token"])
    session = answer.headers["Location"].rpartition("/")[2]
    status, _ = await client.call("POST", f"{OPS}/sessions/{session}/rejoin", client.ops)
    assert status == 204

    async def gone() -> bool:
        return client.server.context.desk.sessions.get(session) is None

    await eventually(gone)
    other = await client.join(lesson, "育才小学")
    assert (await client.whep(lesson, other["token"])).status != 201
    assert (await client.whep(lesson, joined["token"])).status == 201


# --- configurations ------------------------------------------------------------------------------


async def test_a_diff_says_what_would_change_and_changes_nothing(client: Client) -> None:
    before = client.server.config
    status, answer = await client.call(
        "POST", OPS + "/config/diff", client.ops, json={"toml": "[limits]\nlessons = 7\n"}
    )
    assert status == 200
    assert {"key": "limits.lessons", "old": "50", "new": "7", "live": True} in answer["changes"]
    assert not [one for one in answer["changes"] if one["key"] == "auth.secret"]
    assert client.server.config is before
    status, answer = await client.call(
        "POST", OPS + "/config/diff", client.ops, json={"toml": "[limits]\nlessons = -7\n"}
    )
    assert status == 400 and answer["errors"][0]["key"] == "limits.lessons"


async def test_undo_goes_back_step_by_step_and_the_history_says_who(
    start: Start, tmp_path: Path
) -> None:
    path = tmp_path / "tongke.toml"
    path.write_text('# 县中心\n[auth]\nsecret = "0123456789abcdef0123456789abcdef"\n')
    client = await start(config_path=path)
    first = client.server.config.limits.lessons
    for count in (7, 8):
        toml = f"[limits]\nlessons = {count}\n"
        status, _ = await client.call("PUT", "/api/v1/config", client.ops, json={"toml": toml})
        assert status == 200
    for expected in (7, first):
        status, _ = await client.call("POST", OPS + "/config/undo", client.ops)
        assert (status, client.server.config.limits.lessons) == (200, expected)
    status, _ = await client.call("POST", OPS + "/config/undo", client.ops)
    assert status == 404
    _, found = await client.call("GET", OPS + "/config/history", client.ops)
    roles = [one["role"] for one in found["history"]]
    assert roles == ["ops", "ops", "ops", "ops", "server"]
    assert found["undo"] is None
    assert f"limits.lessons: {first} → 7" in found["history"][3]["changes"]
    written = path.read_text()
    assert "县中心" in written and "0123456789abcdef" in written
    kept = "".join(file.read_text() for file in (tmp_path / "data").glob("config-history/*"))
    assert "县中心" in kept and "0123456789abcdef" not in kept


async def test_a_written_file_takes_effect_and_cuts_nobody(
    start: Start, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "tongke.toml"
    path.write_text("[limits]\nlessons = 7\n")
    client = await start("limits.lessons=7", config_path=path)
    lesson = await client.lesson()
    joined = await client.join(lesson)
    await client.whip(lesson)
    await client.whep(lesson, joined["token"])
    sessions = {session.id for session in client.server.context.desk.sessions}
    path.write_text("[limits]\nlessons = 9\n")

    async def applied() -> bool:
        return client.server.config.limits.lessons == 9

    await eventually(applied)
    with caplog.at_level(logging.ERROR, "signaling.api_ops"):
        path.write_text("[limits]\nlessons = -1\n")

        async def refused() -> bool:
            return "limits.lessons must not be -1" in caplog.text

        await eventually(refused)
    assert client.server.config.limits.lessons == 9
    await _forwards_more(client)
    assert {session.id for session in client.server.context.desk.sessions} == sessions


async def _forwards_more(client: Client) -> None:
    """The workers' counters grow, so media goes on."""

    async def forwarded() -> int:
        await client.server.context.supervisor.refresh_stats(sessions=True)
        workers = client.server.context.supervisor.workers
        return sum(w.stats.counters.rtp_packets_forwarded for w in workers if w.stats is not None)

    before = await forwarded()

    async def more() -> bool:
        return await forwarded() > before

    await eventually(more)


# --- a county ------------------------------------------------------------------------------------


async def test_forty_lessons_with_1200_receivers_fit_in_one_short_overview(start: Start) -> None:
    client = await start("limits.lessons=50")
    context = client.server.context
    desk = OpsDesk(lambda: context.config, context.registry, context.desk, context.supervisor)
    claims = context.tokens.verify(client.ops)
    stats: list[control.SessionStats] = []
    for number in range(40):
        lesson = context.registry.create(f"三年级数学第 {number} 课", "dispatch", claims.sub, None)
        for place in range(30):
            seat = context.registry.new_seat(
                lesson, f"红星镇中心小学{place}", "point", durable=True
            )
            session = context.desk._add("receiver", lesson, lesson.stream("camera"), claims)
            session.seat, session.state = seat, "connected"
            stats.append(_receiver_stats(session.id, place))
            desk.reported(session.id, QualityReport(stream="camera", freezes=1), 100.0)
    worker = context.supervisor.workers[0]
    worker.stats = control.Stats(
        request_id=0,
        worker=0,
        cpu_seconds=1.0,
        rss_bytes=10**8,
        counters=control.Counters(),
        forward_delay_s=control.Histogram(bounds=[], counts=[], sum=0.0),
        sessions=stats,
    )
    for now in (100.0, 105.0):
        desk.sample(now, 0.0, 10_000.0)
    body = msgspec.json.encode(desk.overview(110.0))
    assert len(body) < 200 * 1024
    found = msgspec.json.decode(body)
    assert sum(len(lesson["receivers"]) for lesson in found["lessons"]) == 1200
    row = found["lessons"][0]["receivers"][29]
    assert row[5:9] == [29.0, 40.0, 1, 1]
    news = desk.sample(116.0, 0.0, 10_000.0)
    # Every receiver with more than 5 % is one alarm, up to the bound.
    assert {one.kind for one in news} == {"loss"} and len(news) == 500
    series = desk.series.document(stats[3].session_id, 116.0)
    assert series is not None
    fields = series["fields"]
    assert isinstance(fields, dict) and fields["loss_percent"][:2] == [3.0, 3.0]


def _receiver_stats(session_id: str, place: int) -> control.SessionStats:
    track = control.TrackStats(
        kind="video", codec="vp8", ssrc=1, bytes=10_000, fraction_lost=place / 100, layer=1
    )
    return control.SessionStats(
        session_id=session_id,
        output_id="x",
        role="receiver",
        state="connected",
        rtt_ms=40.0,
        tracks=[track],
    )
