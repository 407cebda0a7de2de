"""WHIP and WHEP over real HTTP: admission, locations, patches, refusals."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from tests.signaling.conftest import OFFER, Client, Start, connect, eventually

FRAGMENT = "a=ice-ufrag:abcd\r\na=ice-pwd:abcdabcdabcdabcdabcdabcd\r\n"


async def test_a_publisher_gets_an_answer_a_location_and_an_etag(client: Client) -> None:
    lesson = await client.lesson()
    response = await client.whip(lesson)
    assert response.status == 201
    assert response.content_type == "application/sdp"
    assert response.text.startswith("v=0")
    assert response.headers["Location"].startswith(f"/whip/{lesson['id']}/camera/")
    assert response.headers["ETag"].startswith('"')
    assert response.headers["Accept-Patch"] == "application/trickle-ice-sdpfrag"
    assert response.headers["Access-Control-Allow-Origin"] == "*"
    assert "Location" in response.headers["Access-Control-Expose-Headers"]


async def test_a_lesson_is_live_once_media_arrives_and_its_stream_ends_with_the_publisher(
    client: Client,
) -> None:
    lesson = await client.lesson()
    response = await client.whip(lesson)

    async def live() -> bool:
        return (await client.stream(lesson))["live"] is True

    await eventually(live)
    _, now = await client.call("GET", f"/api/v1/lessons/{lesson['id']}", client.teacher)
    assert now["state"] == "live"
    assert now["started_at"] >= now["created_at"]
    status, _ = await client.call("DELETE", response.headers["Location"], client.teacher)
    assert status == 200
    assert (await client.stream(lesson))["live"] is False


async def test_publishing_again_replaces_the_earlier_session(client: Client) -> None:
    lesson = await client.lesson()
    first = await client.whip(lesson)
    second = await client.whip(lesson)
    assert second.status == 201

    async def replaced() -> bool:
        status, _ = await client.call("DELETE", first.headers["Location"], client.teacher)
        return status == 404

    await eventually(replaced)
    status, _ = await client.call("DELETE", second.headers["Location"], client.teacher)
    assert status == 200


async def test_two_hundred_concurrent_joins_against_a_cap_of_thirty_give_thirty_places(
    client: Client,
) -> None:
    lesson = await client.lesson(streams={"camera": {"cap": 30}})
    token = client.server.issue_token("observer", lesson=lesson["id"])
    responses = await asyncio.gather(*(client.whep(lesson, token) for _ in range(200)))
    assert Counter(r.status for r in responses) == {201: 30, 503: 170}
    assert (await client.stream(lesson))["receivers"] == 30
    refused = next(r for r in responses if r.status == 503)
    problem = refused.problem
    assert problem["type"].endswith("/receiver-cap-reached")
    assert problem["cap"] == 30
    assert problem["stream"] == "camera"
    assert int(refused.headers["Retry-After"]) > 0


async def test_the_cap_holds_for_seats_too_and_a_freed_place_goes_to_the_first_waiting(
    client: Client,
) -> None:
    lesson = await client.lesson(streams={"camera": {"cap": 1}})
    tokens = [(await client.join(lesson, f"第{n}小学"))["token"] for n in range(3)]
    first = await client.whep(lesson, tokens[0])
    second = await client.whep(lesson, tokens[1])
    third = await client.whep(lesson, tokens[2])
    assert (first.status, second.status, third.status) == (201, 503, 503)
    await client.call("DELETE", first.headers["Location"], tokens[0])
    assert (await client.whep(lesson, tokens[2])).status == 503  # not its turn
    assert (await client.whep(lesson, tokens[1])).status == 201


async def test_a_token_without_a_seat_keeps_its_place_in_line_by_its_ticket(
    client: Client,
) -> None:
    lesson = await client.lesson(streams={"camera": {"cap": 1}})
    token = client.server.issue_token("observer", lesson=lesson["id"])
    first = await client.whep(lesson, token)
    waiting = (await client.whep(lesson, token)).problem
    behind = (await client.whep(lesson, token)).problem
    assert (waiting["position"], behind["position"]) == (1, 2)
    again = await client.whep(lesson, token, ticket=waiting["ticket"])
    assert again.problem["position"] == 1
    await client.call("DELETE", first.headers["Location"], token)
    assert (await client.whep(lesson, token, ticket=behind["ticket"])).status == 503
    assert (await client.whep(lesson, token, ticket=waiting["ticket"])).status == 201


async def test_a_refused_offer_gives_the_place_back(client: Client) -> None:
    lesson = await client.lesson(streams={"camera": {"cap": 1}})
    token = client.server.issue_token("observer", lesson=lesson["id"])
    refused = await client.whep(lesson, token, offer="nonsense")
    problem = refused.problem
    assert refused.status == 400
    assert problem["type"].endswith("/invalid-sdp")
    assert problem["field"] == "v="
    assert (await client.whep(lesson, token)).status == 201


async def test_a_lost_seat_keeps_its_place_but_a_deleted_one_does_not(client: Client) -> None:
    lesson = await client.lesson(streams={"camera": {"cap": 1}})
    mine, other = await client.join(lesson, "甲"), await client.join(lesson, "乙")
    lost = await client.whep(lesson, mine["token"], offer=OFFER + "a=fake:lost\r\n")
    assert lost.status == 201

    async def reconnecting() -> bool:
        seats = {seat["id"]: seat for seat in await client.seats(lesson)}
        return bool(seats[mine["seat"]["id"]]["state"] == "reconnecting")

    await eventually(reconnecting)
    assert (await client.whep(lesson, other["token"])).status == 503
    back = await client.whep(lesson, mine["token"])
    assert back.status == 201
    await client.call("DELETE", back.headers["Location"], mine["token"])
    assert (await client.whep(lesson, other["token"])).status == 201


async def test_a_goodbye_that_comes_after_the_media_path_closed_still_frees_the_place(
    client: Client,
) -> None:
    lesson = await client.lesson(streams={"camera": {"cap": 1}})
    mine, other = await client.join(lesson, "甲"), await client.join(lesson, "乙")
    lost = await client.whep(lesson, mine["token"], offer=OFFER + "a=fake:lost\r\n")

    async def reconnecting() -> bool:
        seats = {seat["id"]: seat for seat in await client.seats(lesson)}
        return bool(seats[mine["seat"]["id"]]["state"] == "reconnecting")

    await eventually(reconnecting)
    assert (await client.whep(lesson, other["token"])).status == 503
    status, _ = await client.call("DELETE", lost.headers["Location"], mine["token"])
    assert status == 200
    assert (await client.whep(lesson, other["token"])).status == 201
    status, _ = await client.call("DELETE", lost.headers["Location"], mine["token"])
    assert status == 404


async def test_a_held_place_is_free_after_seat_hold_s(start: Start) -> None:
    client = await start("limits.seat_hold_s=0.3")
    lesson = await client.lesson(streams={"camera": {"cap": 1}})
    mine, other = await client.join(lesson, "甲"), await client.join(lesson, "乙")
    await client.whep(lesson, mine["token"], offer=OFFER + "a=fake:lost\r\n")

    async def admitted() -> bool:
        return (await client.whep(lesson, other["token"])).status == 201

    await eventually(admitted)

    async def left() -> bool:
        seats = {seat["id"]: seat["state"] for seat in await client.seats(lesson)}
        return bool(seats[mine["seat"]["id"]] == "left")

    await eventually(left)


async def test_the_same_seat_has_one_session_per_stream(client: Client) -> None:
    lesson = await client.lesson(streams={"camera": {"cap": 1}, "slides": {}})
    joined = await client.join(lesson)
    first = await client.whep(lesson, joined["token"])
    second = await client.whep(lesson, joined["token"])
    slides = await client.whep(lesson, joined["token"], stream="slides")
    assert (first.status, second.status, slides.status) == (201, 201, 201)
    assert (await client.stream(lesson))["receivers"] == 1
    status, _ = await client.call("DELETE", first.headers["Location"], joined["token"])
    assert status == 404
    [seat] = await client.seats(lesson)
    assert seat["streams"] == ["camera", "slides"]


async def test_trickle_answers_204_and_an_ice_restart_a_fragment_with_a_new_etag(
    client: Client,
) -> None:
    lesson = await client.lesson()
    created = await client.whip(lesson)
    url = client.server.url + created.headers["Location"]
    headers = {
        "Authorization": f"Bearer {client.teacher}",
        "Content-Type": "application/trickle-ice-sdpfrag",
    }
    async with client.http.patch(url, data=FRAGMENT, headers=headers) as response:
        assert response.status == 428
    etag = created.headers["ETag"]
    async with client.http.patch(
        url, data=FRAGMENT, headers=headers | {"If-Match": etag}
    ) as response:
        assert response.status == 204
    async with client.http.patch(
        url, data=FRAGMENT, headers=headers | {"If-Match": '"other"'}
    ) as response:
        assert response.status == 412
    async with client.http.patch(
        url, data=FRAGMENT, headers=headers | {"If-Match": "*"}
    ) as response:
        assert response.status == 200
        assert response.content_type == "application/trickle-ice-sdpfrag"
        assert response.headers["ETag"] not in (etag, "")
        assert "a=ice-ufrag" in await response.text()


async def test_a_location_needs_the_token_that_opened_it(client: Client) -> None:
    lesson = await client.lesson()
    mine, other = await client.join(lesson, "甲"), await client.join(lesson, "乙")
    created = await client.whep(lesson, mine["token"])
    location = created.headers["Location"]
    assert (await client.call("DELETE", location))[0] == 401
    assert (await client.call("DELETE", location, other["token"]))[0] == 403
    # A later token of the same seat is as good.
    _, again = await client.call(
        "POST",
        "/api/v1/join",
        json={"code": lesson["join_code"], "name": "甲", "seat": mine["token"]},
    )
    assert again["seat"]["id"] == mine["seat"]["id"]
    assert (await client.call("DELETE", location, again["token"]))[0] == 200


@pytest.mark.parametrize(
    ("token", "status"),
    [("", 401), ("nonsense", 401), ("point", 403), ("observer", 403), ("other teacher", 403)],
)
async def test_only_the_lessons_teacher_publishes(client: Client, token: str, status: int) -> None:
    lesson = await client.lesson()
    tokens = {
        "point": client.server.issue_token("point", lesson=lesson["id"]),
        "observer": client.server.issue_token("observer", lesson=lesson["id"]),
        "other teacher": client.server.issue_token("teacher"),
    }
    response = await client.whip(lesson, tokens.get(token, token or "-"))
    assert response.status == status
    assert response.content_type == "application/problem+json"


async def test_a_token_of_another_lesson_does_not_open_this_one(client: Client) -> None:
    lesson, other = await client.lesson(), await client.lesson()
    joined = await client.join(other)
    assert (await client.whep(lesson, joined["token"])).status == 403


async def test_wrong_content_types_and_bodies_are_refused(client: Client) -> None:
    lesson = await client.lesson()
    path = f"/whip/{lesson['id']}/camera"
    sdp = {"Content-Type": "application/sdp"}
    status, problem = await client.call("POST", path, client.teacher, json={"sdp": OFFER})
    assert (status, problem["type"].rpartition("/")[2]) == (415, "unsupported-media-type")
    status, problem = await client.call(
        "POST", path, client.teacher, data=b"x" * 200_000, headers=sdp
    )
    assert (status, problem["type"].rpartition("/")[2]) == (413, "body-too-large")
    assert problem["limit"] > 0
    status, problem = await client.call("POST", path, client.teacher, data=b"\xff\xfe", headers=sdp)
    assert (status, problem["type"].rpartition("/")[2]) == (400, "invalid-request")


async def test_a_body_of_unknown_length_is_cut_off_at_the_limit(client: Client) -> None:
    lesson = await client.lesson()

    async def endless() -> Any:
        for _ in range(1000):
            yield b"v=0\r\n" * 200

    status, problem = await client.call(
        "POST",
        f"/whip/{lesson['id']}/camera",
        client.teacher,
        data=endless(),
        headers={"Content-Type": "application/sdp"},
    )
    assert (status, problem["type"].rpartition("/")[2]) == (413, "body-too-large")


async def test_options_tells_what_may_be_posted(client: Client) -> None:
    lesson = await client.lesson()
    url = f"{client.server.url}/whep/{lesson['id']}/camera"
    async with client.http.options(url) as response:
        assert response.status == 204
        assert response.headers["Accept-Post"] == "application/sdp"
        assert "If-Match" in response.headers["Access-Control-Allow-Headers"]
        assert "DELETE" in response.headers["Access-Control-Allow-Methods"]


async def test_get_on_a_media_path_is_a_405_problem_with_allow(client: Client) -> None:
    async with client.http.get(f"{client.server.url}/whip/l_x/camera") as response:
        assert response.status == 405
        assert response.content_type == "application/problem+json"
        assert "POST" in response.headers["Allow"]


async def test_unknown_lessons_streams_and_sessions_are_named(client: Client) -> None:
    lesson = await client.lesson()
    observer = client.server.issue_token("observer")
    kinds = []
    for target in ({"id": "l_unknown"}, lesson):
        response = await client.whep(target, observer, stream="stage")
        kinds.append(response.kind)
    assert kinds == ["no-such-lesson", "no-such-stream"]
    status, problem = await client.call("DELETE", f"/whep/{lesson['id']}/camera/none", observer)
    assert (status, problem["type"].rpartition("/")[2]) == (404, "no-such-session")


async def test_an_ended_lesson_takes_no_more_media(client: Client) -> None:
    lesson = await client.lesson()
    joined = await client.join(lesson)
    published = await client.whip(lesson)
    received = await client.whep(lesson, joined["token"])
    status, ended = await client.call("DELETE", f"/api/v1/lessons/{lesson['id']}", client.teacher)
    assert (status, ended["state"]) == (200, "ended")
    assert (await client.whip(lesson)).status == 410
    assert (await client.whep(lesson, joined["token"])).status == 410
    for response, token in ((published, client.teacher), (received, joined["token"])):
        assert (await client.call("DELETE", response.headers["Location"], token))[0] == 404


async def test_three_hundred_receivers_from_one_address_are_not_held_back(client: Client) -> None:
    lesson = await client.lesson(streams={"camera": {"cap": 300}})
    token = client.server.issue_token("observer", lesson=lesson["id"])
    responses = await asyncio.gather(*(client.whep(lesson, token) for _ in range(300)))
    assert Counter(r.status for r in responses) == {201: 300}


async def test_joins_beyond_the_rate_are_told_when_to_come_back(start: Start) -> None:
    client = await start("limits.joins_per_second=0.1", "limits.joins_burst=2")
    lesson = await client.lesson()
    token = client.server.issue_token("observer", lesson=lesson["id"])
    responses = [await client.whep(lesson, token) for _ in range(3)]
    assert [r.status for r in responses] == [201, 201, 429]
    assert int(responses[2].headers["Retry-After"]) >= 1


async def test_wrong_tokens_count_against_the_address(start: Start) -> None:
    client = await start("limits.per_ip_requests_per_second=1")
    lesson = await client.lesson()
    statuses = Counter(
        [r.status for r in await asyncio.gather(*(client.whep(lesson, "x") for _ in range(1100)))]
    )
    assert statuses[401] >= 900
    assert statuses[429] >= 1
    assert set(statuses) == {401, 429}


async def test_a_full_worker_and_a_full_server_say_so(start: Start) -> None:
    client = await start("limits.sessions=2")
    lesson = await client.lesson()
    token = client.server.issue_token("observer", lesson=lesson["id"])
    full = await client.whep(lesson, token, offer=OFFER + "a=fake:full\r\n")
    assert full.status == 503
    statuses = [(await client.whep(lesson, token)).status for _ in range(3)]
    assert statuses == [201, 201, 503]


async def test_raising_a_cap_offers_the_place_to_who_waits(client: Client) -> None:
    lesson = await client.lesson(streams={"camera": {"cap": 0}})
    joined = await client.join(lesson)
    page = await connect(client, lesson, joined["token"])
    assert (await client.whep(lesson, joined["token"])).status == 503
    waiting = await page.next("waiting")
    assert (waiting["position"], waiting["ahead"]) == (1, 0)
    status, stream = await client.call(
        "PATCH", f"/api/v1/lessons/{lesson['id']}/streams/camera", client.ops, json={"cap": 1}
    )
    assert (status, stream["cap"]) == (200, 1)
    offered = await page.next("seat-offered")
    assert offered["stream"] == "camera"
    assert offered["expires_s"] > 0
    assert (await client.whep(lesson, joined["token"])).status == 201
