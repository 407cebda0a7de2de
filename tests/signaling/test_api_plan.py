"""The plan and the line test over HTTP, against the real server with workers without media."""

from __future__ import annotations

from typing import Any

import pytest

from signaling.linetest import MOST_TRANSFER_BYTES

from .conftest import Client, Start

RESULT = {
    "down_kbps": 5000,
    "up_kbps": 900.5,
    "rtt_ms": 31.0,
    "loss": 0.0333,
    "camera": True,
    "microphone": False,
    "decode": "smooth",
}


def path(lesson: dict[str, Any], what: str) -> str:
    return f"/api/v1/lessons/{lesson['id']}/linetest/{what}"


async def test_operations_see_the_plan_of_every_mode(client: Client) -> None:
    status, body = await client.call("GET", "/api/v1/plan", client.ops)
    assert status == 200
    assert [plan["mode"] for plan in body["plans"]] == ["dispatch", "masterclass", "open"]
    assert body["plans"][0]["cap"] == 30
    status, body = await client.call("GET", "/api/v1/plan?lines=100,900,5000", client.ops)
    assert body["plans"][2]["lines"]["too_slow"] == 1
    assert (await client.call("GET", "/api/v1/plan", client.teacher))[0] == 403
    assert (await client.call("GET", "/api/v1/plan"))[0] == 401


async def test_the_plan_is_drawn_in_the_reader_s_language(client: Client) -> None:
    for language, words in (("en", b"receivers"), ("zh-CN", "接收端".encode())):
        status, body = await client.call(
            "GET", "/api/v1/plan/open.svg", client.ops, headers={"Accept-Language": language}
        )
        assert status == 200 and body.startswith(b"<svg") and words in body
    assert (await client.call("GET", "/api/v1/plan/other.svg", client.ops))[0] == 404


@pytest.mark.parametrize("lines", ["x", "1,,2", "-5", "nan", ",".join(["1"] * 1001)])
async def test_lines_that_are_none_are_refused(client: Client, lines: str) -> None:
    status, body = await client.call("GET", f"/api/v1/plan?lines={lines}", client.ops)
    assert (status, body["field"]) == (400, "lines")


async def test_a_lesson_s_plan_is_for_those_who_run_it(client: Client) -> None:
    lesson = await client.lesson()
    status, body = await client.call("GET", f"/api/v1/plan?lesson={lesson['id']}", client.teacher)
    assert status == 200
    assert body["lesson"] == lesson["id"] and body["join_code"] == lesson["join_code"]
    assert body["streams"]["camera"]["video_kbps"] == 1500
    assert body["streams"]["camera"]["above"] is False
    joined = await client.join(lesson)
    status, _ = await client.call("GET", f"/api/v1/plan?lesson={lesson['id']}", joined["token"])
    assert status == 403
    assert (await client.call("GET", "/api/v1/plan?lesson=l_x", client.ops))[0] == 404


async def test_a_lesson_whose_cap_was_raised_above_the_plan_shows_it(client: Client) -> None:
    lesson = await client.lesson()
    await client.call(
        "PATCH", f"/api/v1/lessons/{lesson['id']}/streams/camera", client.ops, json={"cap": 31}
    )
    _, body = await client.call("GET", f"/api/v1/plan?lesson={lesson['id']}", client.ops)
    assert body["streams"]["camera"]["above"] is True
    assert body["streams"]["slides"]["above"] is False


async def test_the_bytes_asked_for_come_and_do_not_compress(client: Client) -> None:
    import zlib

    lesson = await client.lesson()
    joined = await client.join(lesson)
    for size in (1, 65_536, 3_000_001):
        status, body = await client.call("GET", path(lesson, f"down?bytes={size}"), joined["token"])
        assert status == 200 and len(body) == size
    assert len(zlib.compress(body)) > len(body) * 0.99


@pytest.mark.parametrize("size", ["", "0", "-1", "x", "1e3", "8388609", "9" * 30, "٣"])
async def test_a_size_out_of_bounds_is_refused(client: Client, size: str) -> None:
    lesson = await client.lesson()
    joined = await client.join(lesson)
    status, body = await client.call("GET", path(lesson, f"down?bytes={size}"), joined["token"])
    assert (status, body["field"]) == (400, "bytes")


async def test_what_is_sent_up_is_counted_and_bounded(client: Client) -> None:
    lesson = await client.lesson()
    joined = await client.join(lesson)
    status, body = await client.call(
        "POST", path(lesson, "up"), joined["token"], data=bytes(300_000)
    )
    assert status == 200 and body["bytes"] == 300_000
    status, body = await client.call(
        "POST", path(lesson, "up"), joined["token"], data=bytes(MOST_TRANSFER_BYTES + 1)
    )
    assert status == 413 and body["limit"] == MOST_TRANSFER_BYTES


async def test_one_seat_cannot_test_for_ever(client: Client) -> None:
    lesson = await client.lesson()
    joined = await client.join(lesson)
    statuses = []
    for _ in range(9):
        status, body = await client.call(
            "GET", path(lesson, f"down?bytes={MOST_TRANSFER_BYTES}"), joined["token"]
        )
        statuses.append(status)
    assert statuses == [200] * 8 + [429]
    assert body["type"].endswith("/too-many-requests")


async def test_a_result_is_judged_kept_and_shown_with_the_seat(start: Start) -> None:
    client = await start()
    lesson = await client.lesson()
    joined = await client.join(lesson)
    assert (await client.call("GET", path(lesson, "ping"), joined["token"]))[0] == 204
    status, body = await client.call("POST", path(lesson, "result"), joined["token"], json=RESULT)
    assert status == 200
    assert body == {"verdict": "full", "full_kbps": 3655, "least_kbps": 745, "kept": True}
    (seat,) = await client.seats(lesson)
    assert seat["line"]["verdict"] == "full"
    assert seat["line"]["result"] == RESULT
    status, plan = await client.call("GET", f"/api/v1/plan?lesson={lesson['id']}", client.ops)
    assert plan["tested_lines"] == {"full": 1, "smaller": 0, "too_slow": 0}
    # A restart loses nothing: the seat comes back with its line.
    await client.server.stop()
    again = await start()
    status, back = await again.call(
        "POST",
        "/api/v1/join",
        json={"code": lesson["join_code"], "name": "红星小学", "seat": joined["token"]},
    )
    assert back["seat"]["id"] == joined["seat"]["id"]
    (seat,) = await again.seats(lesson)
    assert seat["line"]["result"] == RESULT


async def test_a_teacher_may_test_too_but_no_seat_is_marked(client: Client) -> None:
    lesson = await client.lesson()
    slow = {**RESULT, "down_kbps": 100}
    status, body = await client.call("POST", path(lesson, "result"), client.teacher, json=slow)
    assert status == 200 and body["verdict"] == "too-slow" and body["kept"] is False


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({**RESULT, "down_kbps": -1}, "down_kbps"),
        ({**RESULT, "decode": "quick"}, "decode"),
        ({"up_kbps": 1}, "body"),
        ([], "body"),
    ],
)
async def test_a_result_out_of_shape_names_the_field(
    client: Client, body: object, field: str
) -> None:
    lesson = await client.lesson()
    joined = await client.join(lesson)
    status, problem = await client.call("POST", path(lesson, "result"), joined["token"], json=body)
    assert (status, problem["field"]) == (400, field)


async def test_strangers_and_released_seats_cannot_test(client: Client) -> None:
    lesson, other = await client.lesson(), await client.lesson()
    joined = await client.join(lesson)
    assert (await client.call("GET", path(other, "ping"), joined["token"]))[0] == 403
    assert (await client.call("GET", path(lesson, "ping")))[0] == 401
    seat = joined["seat"]["id"]
    await client.call("DELETE", f"/api/v1/lessons/{lesson['id']}/seats/{seat}", client.ops)
    status, body = await client.call("GET", path(lesson, "ping"), joined["token"])
    assert status == 404 and body["type"].endswith("/no-such-seat")
