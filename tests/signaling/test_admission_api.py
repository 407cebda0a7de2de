"""Caps, reservations, lists and decisions over real HTTP, while a lesson runs."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from signaling.audit import verify
from tests.signaling.conftest import Client, Start, connect, eventually


async def patch(
    client: Client, lesson: dict[str, Any], stream: str | None = "camera", **body: Any
) -> tuple[int, Any]:
    path = f"/api/v1/lessons/{lesson['id']}" + (f"/streams/{stream}" if stream else "")
    return await client.call("PATCH", path, client.ops, json=body)


async def decisions(client: Client, lesson: dict[str, Any], query: str = "") -> list[Any]:
    path = f"/api/v1/lessons/{lesson['id']}/decisions{query}"
    status, body = await client.call("GET", path, client.ops)
    assert status == 200, body
    return list(body["decisions"])


async def test_a_thousand_concurrent_joins_against_a_cap_of_a_hundred_give_a_hundred(
    start: Start,
) -> None:
    client = await start("limits.joins_burst=2000")
    lesson = await client.lesson(streams={"camera": {"cap": 100}})
    token = client.server.issue_token("point", lesson=lesson["id"])
    answers = await asyncio.gather(*(client.whep(lesson, token) for _ in range(1000)))
    assert Counter(answer.status for answer in answers) == {201: 100, 503: 900}
    camera = await client.stream(lesson)
    assert (camera["receivers"], camera["waiting"]) == (100, 200)
    positions = [a.problem.get("position") for a in answers if a.status == 503]
    assert sorted(p for p in positions if p is not None) == list(range(1, 201))
    counted = Counter(d["decision"] for d in await decisions(client, lesson, "?limit=500"))
    assert counted["admitted"] == 100
    assert counted["waiting"] == 200


async def test_a_reserved_place_waits_for_its_classroom(client: Client) -> None:
    reserved = {"names": ["红星小学"], "hold_minutes": 10}
    lesson = await client.lesson(streams={"camera": {"cap": 1, "reserved": reserved}})
    camera = lesson["streams"]["camera"]
    assert (camera["cap"], camera["reserved"]) == (1, 1)
    stranger = await client.join(lesson, "乙")
    refused = await client.whep(lesson, stranger["token"])
    assert refused.status == 503
    assert refused.problem["full"] == "stream"
    assert refused.problem["expected_wait_s"] is None
    school = await client.join(lesson, "红星 小学")
    assert (await client.whep(lesson, school["token"])).status == 201
    document = await client.stream(lesson)
    assert (document["receivers"], document["reserved"], document["waiting"]) == (1, 0, 1)


async def test_a_token_made_before_class_matches_by_its_name_and_goes_before_walk_ins(
    client: Client,
) -> None:
    lesson = await client.lesson(streams={"camera": {"cap": 1}}, reserved={"names": ["甲"]})
    issue = client.server.issue_token
    late = issue("point", lesson=lesson["id"], name="丙")
    named = issue("point", lesson=lesson["id"], name="甲")
    walk_in = await client.join(lesson, "乙")
    assert (await client.whep(lesson, walk_in["token"])).problem["position"] == 1
    assert (await client.whep(lesson, late)).problem["position"] == 1
    assert (await client.whep(lesson, named)).status == 201


async def test_reservations_and_lists_change_while_the_lesson_runs(client: Client) -> None:
    lesson = await client.lesson(streams={"camera": {"cap": 1}})
    first = await client.join(lesson, "甲")
    assert (await client.whep(lesson, first["token"])).status == 201
    schools = [await client.join(lesson, name) for name in ("乙", "丙", "丁")]
    for school in schools:
        assert (await client.whep(lesson, school["token"])).status == 503
    status, stream = await patch(client, lesson, reserved={"names": ["丙"], "hold_minutes": 5})
    assert status == 200
    assert stream["reservations"] == {"names": ["丙"], "hold_minutes": 5, "open": 1}
    again = await client.whep(lesson, schools[1]["token"])
    assert again.problem["position"] == 1
    status, _ = await patch(client, lesson, None, scheduled=["戊"])
    assert status == 200
    announced = await client.join(lesson, "戊")
    assert (await client.whep(lesson, announced["token"])).problem["position"] == 2


async def test_teachers_reserve_and_only_ops_changes_caps(client: Client) -> None:
    lesson = await client.lesson()
    path = f"/api/v1/lessons/{lesson['id']}"
    body = {"reserved": {"names": ["甲"]}}
    for target in (path, path + "/streams/camera"):
        assert (await client.call("PATCH", target, client.teacher, json=body))[0] == 200
        assert (await client.call("PATCH", target, client.teacher, json={"cap": 3}))[0] == 403
    other = client.server.issue_token("teacher")
    point = (await client.join(lesson))["token"]
    for token in (other, point):
        assert (await client.call("PATCH", path, token, json=body))[0] == 403
        assert (await client.call("GET", path + "/decisions", token))[0] == 403
    _, seen = await client.call("GET", path + "/streams/camera", point)
    assert "reservations" not in seen


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"now": True},
        {"reserved": {"names": [""]}},
        {"reserved": {"names": ["甲"], "hold_minutes": -1}},
        {"reserved": {"names": ["甲"] * 501}},
        {"reserved": {"names": "甲"}},
        {"reserved": None},
        {"cap": None},
        {"cap": 1, "sooner": True},
    ],
)
async def test_a_wrong_change_is_refused_and_changes_nothing(
    client: Client, body: dict[str, Any]
) -> None:
    lesson = await client.lesson()
    status, problem = await patch(client, lesson, **body)
    assert status == 400
    assert problem["field"]
    assert (await client.stream(lesson))["cap"] == lesson["streams"]["camera"]["cap"]


async def test_raising_the_cap_offers_at_once_and_lowering_cuts_nobody(client: Client) -> None:
    lesson = await client.lesson(streams={"camera": {"cap": 1}})
    schools = [await client.join(lesson, f"第{n}小学") for n in range(2)]
    page = await connect(client, lesson, schools[1]["token"])
    assert (await client.whep(lesson, schools[0]["token"])).status == 201
    assert (await client.whep(lesson, schools[1]["token"])).status == 503
    assert (await page.next("waiting"))["expected_wait_s"] is None
    await patch(client, lesson, cap=2)
    assert (await page.next("seat-offered"))["stream"] == "camera"
    assert (await client.whep(lesson, schools[1]["token"])).status == 201
    status, stream = await patch(client, lesson, cap=1)
    assert (status, stream["cap"], stream["receivers"]) == (200, 1, 2)


async def test_lowering_now_lets_the_latest_leave_with_a_message(client: Client) -> None:
    lesson = await client.lesson(streams={"camera": {"cap": 3}})
    schools = [await client.join(lesson, f"第{n}小学") for n in range(3)]
    pages = [await connect(client, lesson, school["token"]) for school in schools]
    answers = [await client.whep(lesson, school["token"]) for school in schools]
    status, stream = await patch(client, lesson, cap=1, now=True)
    assert (status, stream["cap"], stream["receivers"]) == (200, 1, 1)
    for page in pages[1:]:
        assert (await page.next("released"))["reason"] == "cap-lowered"
        assert await page.closed() == 1000
    location = answers[2].headers["Location"]
    assert (await client.call("DELETE", location, schools[2]["token"]))[0] == 404
    assert (await client.whep(lesson, schools[0]["token"])).status == 201
    # It was not expelled: it may wait for its turn again.
    assert (await client.whep(lesson, schools[2]["token"])).problem["position"] == 1
    cut = [d for d in await decisions(client, lesson) if d["decision"] == "cut"]
    assert {d["who"] for d in cut} == {school["seat"]["id"] for school in schools[1:]}


async def test_who_keeps_another_stream_is_told_of_the_cut_and_stays(client: Client) -> None:
    lesson = await client.lesson(streams={"camera": {"cap": 1}, "slides": {"cap": 1}})
    school = await client.join(lesson)
    page = await connect(client, lesson, school["token"])
    for name in ("camera", "slides"):
        assert (await client.whep(lesson, school["token"], stream=name)).status == 201
    await patch(client, lesson, "slides", cap=0, now=True)
    cut = await page.next("cut")
    assert (cut["stream"], cut["reason"]) == ("slides", "cap-lowered")
    assert (await client.stream(lesson))["receivers"] == 1
    await patch(client, lesson, "camera", cap=0, now=True)
    assert (await page.next("released"))["reason"] == "cap-lowered"


async def test_observers_and_inspectors_have_places_apart(start: Start) -> None:
    client = await start("modes.dispatch.observers=1", "modes.dispatch.inspectors=1")
    lesson = await client.lesson(streams={"camera": {"cap": 1}})
    observer = client.server.issue_token("observer", lesson=lesson["id"])
    statuses = [(await client.whep(lesson, token)).status for token in (observer, client.ops) * 2]
    assert statuses == [201, 201, 503, 503]
    school = await client.join(lesson)
    assert (await client.whep(lesson, school["token"])).status == 201
    camera = await client.stream(lesson)
    assert (camera["receivers"], camera["observers"], camera["waiting"]) == (1, 2, 0)
    refused = (await client.whep(lesson, observer)).problem
    assert refused["cap"] == 1


async def test_without_places_apart_an_observer_waits_behind_every_teaching_point(
    client: Client,
) -> None:
    lesson = await client.lesson(streams={"camera": {"cap": 0}})
    observer = client.server.issue_token("observer", lesson=lesson["id"])
    ticket = (await client.whep(lesson, observer)).problem["ticket"]
    school = await client.join(lesson)
    assert (await client.whep(lesson, school["token"])).problem["position"] == 1
    assert (await client.whep(lesson, observer, ticket=ticket)).problem["position"] == 2


async def test_the_cap_of_a_lesson_is_shared_by_its_streams(client: Client) -> None:
    lesson = await client.lesson(cap=2)
    assert lesson["cap"] == 2
    token = client.server.issue_token("point", lesson=lesson["id"])
    first = await client.whep(lesson, token)
    assert (await client.whep(lesson, token, stream="slides")).status == 201
    refused = await client.whep(lesson, token, stream="slides")
    assert (refused.status, refused.problem["full"]) == (503, "lesson")
    await client.call("DELETE", first.headers["Location"], token)
    ticket = refused.problem["ticket"]
    assert (await client.whep(lesson, token, stream="slides", ticket=ticket)).status == 201
    status, document = await patch(client, lesson, None, cap=None)
    assert (status, document["cap"]) == (200, None)
    assert (await client.whep(lesson, token)).status == 201


async def test_the_caps_of_the_node_and_of_an_organisation_hold_over_lessons(start: Start) -> None:
    client = await start("limits.receivers=3", "limits.receivers_per_organisation=2")
    lessons = [await client.lesson(), await client.lesson()]
    county = client.server.issue_token("point", org="县一中")
    other = client.server.issue_token("point", org="县二中")
    answers = [await client.whep(lessons[n % 2], county) for n in range(3)]
    assert [answer.status for answer in answers] == [201, 201, 503]
    assert answers[2].problem["full"] == "organisation"
    assert (await client.whep(lessons[0], other)).status == 201
    full = await client.whep(lessons[1], other)
    assert full.problem["full"] == "node"
    # The end of a lesson frees what it had of both.
    await client.call("DELETE", f"/api/v1/lessons/{lessons[0]['id']}", client.teacher)

    async def free() -> bool:
        return (await client.whep(lessons[1], county)).status == 201

    await eventually(free)


async def test_a_restart_keeps_caps_lists_reservations_and_the_decisions(start: Start) -> None:
    client = await start()
    lesson = await client.lesson(
        streams={"camera": {"cap": 2}}, cap=5, reserved={"names": ["甲", "乙"]}, scheduled=["丙"]
    )
    first, third = await client.join(lesson, "甲"), await client.join(lesson, "丁")
    assert (await client.whep(lesson, first["token"])).status == 201
    assert (await client.whep(lesson, third["token"])).status == 503
    before = await decisions(client, lesson)
    assert before
    await client.server.stop()
    again = await start()
    _, kept = await again.call("GET", f"/api/v1/lessons/{lesson['id']}", client.teacher)
    assert kept["cap"] == 5
    assert kept["streams"]["camera"]["reserved"] == 1
    assert await decisions(again, lesson) == before
    assert (await again.whep(lesson, first["token"])).status == 201
    assert (await again.whep(lesson, third["token"])).status == 503
    listed = await again.join(lesson, "丙")
    assert (await again.whep(lesson, listed["token"])).problem["position"] == 1
    newest = (await decisions(again, lesson, "?limit=1"))[0]
    assert newest["number"] > before[0]["number"]
    assert await decisions(again, lesson, f"?before={before[-1]['number'] + 1}") == before[-1:]


@pytest.mark.parametrize("query", ["?limit=0", "?limit=501", "?before=x", "?before=-1", "?limit="])
async def test_decisions_are_asked_for_by_sensible_numbers(client: Client, query: str) -> None:
    lesson = await client.lesson()
    path = f"/api/v1/lessons/{lesson['id']}/decisions{query}"
    status, problem = await client.call("GET", path, client.ops)
    assert (status, problem["field"]) == (400, query[1:].partition("=")[0])


async def test_no_name_outlives_the_lesson_in_decisions_or_audit(client: Client) -> None:
    lesson = await client.lesson(reserved={"names": ["红星小学"]}, title="张老师的课")
    school = await client.join(lesson, "红星小学")
    await client.whep(lesson, school["token"])
    await patch(client, lesson, cap=7)
    path = f"/api/v1/lessons/{lesson['id']}"
    await client.call("DELETE", f"{path}/seats/{school['seat']['id']}", client.teacher)
    await client.call("DELETE", path, client.teacher)
    context = client.server.context
    written = context.audit.path.read_text()
    for text in (str(await decisions(client, lesson)), written):
        assert "红星" not in text
        assert "张" not in text
    for action in ("lesson-created", "cap-changed", "seat-released", "lesson-ended"):
        assert f'"action":"{action}"' in written
    assert verify(context.audit.path.parent).fault is None
