"""The pages' WebSocket over real HTTP."""

from __future__ import annotations

import asyncio
from time import time

import pytest

from signaling.lessons import Lesson
from signaling.sockets import CLOSE_TOO_SLOW, MAX_PENDING
from signaling.sockets import Socket as PageSocket
from signaling.tokens import Claims
from tests.signaling.conftest import OFFER, Client, Socket, Start, connect, eventually


async def test_the_first_message_is_a_welcome(client: Client) -> None:
    lesson = await client.lesson()
    joined = await client.join(lesson)
    page = await connect(client, lesson, joined["token"])
    welcome = await page.next("welcome")
    assert welcome["role"] == "point"
    assert welcome["seat"] == joined["seat"]["id"]
    assert welcome["lesson"]["id"] == lesson["id"]
    assert welcome["now"] > 0
    teacher = await connect(client, lesson, client.teacher)
    assert (await teacher.next("welcome"))["seat"] is None


async def test_the_teacher_sees_who_is_here_and_the_others_do_not(client: Client) -> None:
    lesson = await client.lesson()
    teacher = await connect(client, lesson, client.teacher)
    joined = await client.join(lesson, "红星小学")
    seats: list[dict[str, object]] = []
    while not seats:
        seats = (await teacher.next("seats"))["seats"]
    assert [(seat["name"], seat["state"]) for seat in seats] == [("红星小学", "joining")]
    page = await connect(client, lesson, joined["token"])
    await client.whep(lesson, joined["token"])
    while seats[0]["state"] != "receiving":
        seats = (await teacher.next("seats"))["seats"]
    assert seats[0]["streams"] == ["camera"]
    async with asyncio.timeout(5):
        while (await page.next("lesson"))["lesson"]["streams"]["camera"]["receivers"] != 1:
            pass


async def test_a_hand_goes_up_is_seen_and_is_lowered_by_the_teacher(client: Client) -> None:
    lesson = await client.lesson()
    teacher = await connect(client, lesson, client.teacher)
    joined, other = await client.join(lesson, "甲"), await client.join(lesson, "乙")
    page = await connect(client, lesson, joined["token"])
    assert (await page.next("hand"))["raised"] is False
    await page.send(type="hand", raised=True)
    assert (await page.next("hand"))["raised"] is True
    seats: dict[str, dict[str, object]] = {}
    while not seats.get(joined["seat"]["id"], {}).get("hand"):
        seats = {seat["id"]: seat for seat in (await teacher.next("seats"))["seats"]}
    assert next(iter(seats)) == joined["seat"]["id"]
    assert seats[other["seat"]["id"]]["hand"] is None
    await page.send(type="lower-hand", seat=joined["seat"]["id"])
    assert (await page.next("error"))["problem"]["type"].endswith("/forbidden")
    await teacher.send(type="lower-hand", seat=joined["seat"]["id"])
    assert (await page.next("hand"))["raised"] is False


async def test_quality_reports_reach_the_teacher_in_one_word(client: Client) -> None:
    lesson = await client.lesson()
    teacher = await connect(client, lesson, client.teacher)
    joined = await client.join(lesson)
    page = await connect(client, lesson, joined["token"])
    await client.whep(lesson, joined["token"])
    report = {"fps": 25, "loss": 0.2, "rtt_ms": None, "kbps": 900.5, "freezes": 0}
    await page.send(type="quality", stream="camera", audio_level=0.3, **report)
    quality = None
    while quality is None:
        for seat in (await teacher.next("seats"))["seats"]:
            quality = seat["quality"]
    assert quality == {"level": "poor", "fps": 25, "loss": 0.2, "rtt_ms": None, "kbps": 900.5}


async def test_a_waiting_page_is_told_its_place_and_offered_a_seat(client: Client) -> None:
    lesson = await client.lesson(streams={"camera": {"cap": 1}})
    schools = [await client.join(lesson, f"第{n}小学") for n in range(3)]
    pages = [await connect(client, lesson, school["token"]) for school in schools]
    first = await client.whep(lesson, schools[0]["token"])
    for school in schools[1:]:
        assert (await client.whep(lesson, school["token"])).status == 503
    assert (await pages[1].next("waiting"))["position"] == 1
    assert (await pages[2].next("waiting"))["ahead"] == 1
    await client.call("DELETE", first.headers["Location"], schools[0]["token"])
    assert (await pages[1].next("seat-offered"))["stream"] == "camera"
    assert (await pages[2].next("waiting"))["position"] == 1
    assert (await client.whep(lesson, schools[1]["token"])).status == 201


async def test_an_offer_that_is_not_taken_goes_to_the_next(start: Start) -> None:
    client = await start("limits.offer_s=3")
    lesson = await client.lesson(streams={"camera": {"cap": 1}})
    schools = [await client.join(lesson, f"第{n}小学") for n in range(3)]
    last = await connect(client, lesson, schools[2]["token"])
    first = await client.whep(lesson, schools[0]["token"])
    for school in schools[1:]:
        await client.whep(lesson, school["token"])
    await client.call("DELETE", first.headers["Location"], schools[0]["token"])
    assert (await last.next("seat-offered"))["stream"] == "camera"


async def test_a_killed_worker_calls_back_those_it_served(client: Client) -> None:
    lesson = await client.lesson(streams={"camera": {"cap": 1}})
    teacher = await connect(client, lesson, client.teacher)
    joined, other = await client.join(lesson, "甲"), await client.join(lesson, "乙")
    page = await connect(client, lesson, joined["token"])
    bystander = await connect(client, lesson, other["token"])
    await client.whip(lesson)
    await client.whep(lesson, joined["token"])
    process = client.server.context.supervisor.workers[0].process
    assert process is not None
    process.kill()
    for socket in (teacher, page):
        rejoin = await socket.next("rejoin")
        assert rejoin["streams"] == ["camera"]
        assert rejoin["reason"] == "worker-restarted"
    [seat] = [s for s in await client.seats(lesson) if s["id"] == joined["seat"]["id"]]
    assert seat["state"] == "reconnecting"
    assert (await client.whep(lesson, other["token"])).status == 503  # the place is held
    assert (await client.whep(lesson, joined["token"])).status == 201
    assert (await client.whip(lesson)).status == 201
    await bystander.send(type="hand", raised=True)
    assert (await bystander.next("hand"))["raised"] is False  # the welcome's, not a rejoin


async def test_requests_during_a_restart_wait_for_the_new_worker(client: Client) -> None:
    lesson = await client.lesson()
    token = client.server.issue_token("observer", lesson=lesson["id"])
    dying = await client.whep(lesson, token, offer=OFFER + "a=fake:die\r\n")
    assert (dying.status, dying.kind) == (503, "worker-unavailable")
    assert int(dying.headers["Retry-After"]) >= 1
    assert (await client.whep(lesson, token)).status == 201


async def test_a_second_page_of_a_seat_replaces_the_first(client: Client) -> None:
    lesson = await client.lesson()
    joined = await client.join(lesson)
    first = await connect(client, lesson, joined["token"])
    await first.next("welcome")
    second = await connect(client, lesson, joined["token"])
    await second.next("welcome")
    assert (await first.next("released"))["reason"] == "replaced"
    assert await first.closed() == 1000
    await second.send(type="hand", raised=True)
    await second.next("hand")


async def test_a_released_seat_and_an_ended_lesson_say_goodbye(client: Client) -> None:
    lesson = await client.lesson()
    schools = [await client.join(lesson, f"第{n}小学") for n in range(2)]
    pages = [await connect(client, lesson, school["token"]) for school in schools]
    await pages[0].next("welcome")
    await client.call(
        "DELETE",
        f"/api/v1/lessons/{lesson['id']}/seats/{schools[0]['seat']['id']}",
        client.teacher,
    )
    assert (await pages[0].next("released"))["reason"] == "teacher"
    await pages[0].closed()
    await pages[1].next("welcome")
    await client.call("DELETE", f"/api/v1/lessons/{lesson['id']}", client.teacher)
    await pages[1].next("ended")
    assert await pages[1].closed() == 1000
    late = await connect(client, lesson, schools[1]["token"])
    assert (await late.next("error"))["problem"]["type"].endswith("/lesson-ended")
    await late.next("ended")


async def test_a_seat_leaves_when_its_page_does(start: Start) -> None:
    client = await start("limits.seat_hold_s=0.3")
    lesson = await client.lesson()
    joined = await client.join(lesson)
    page = await connect(client, lesson, joined["token"])
    created = await client.whep(lesson, joined["token"])
    await page.ws.close()
    await client.call("DELETE", created.headers["Location"], joined["token"])

    async def left() -> bool:
        return [seat["state"] for seat in await client.seats(lesson)] == ["left"]

    await eventually(left)


@pytest.mark.parametrize(
    "first", ['{"type":"hello","token":"x"}', '{"type":"hand","raised":true}', "{", "null"]
)
async def test_a_wrong_hello_is_answered_and_closed(client: Client, first: str) -> None:
    lesson = await client.lesson()
    url = f"{client.server.url}/api/v1/lessons/{lesson['id']}/events"
    page = Socket(await client.http.ws_connect(url))
    await page.ws.send_str(first)
    assert (await page.next("error"))["problem"]["status"] in (400, 401)
    assert await page.closed() == 1008


async def test_no_hello_is_closed(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("signaling.events.HELLO_TIMEOUT_S", 0.1)
    lesson = await client.lesson()
    url = f"{client.server.url}/api/v1/lessons/{lesson['id']}/events"
    page = Socket(await client.http.ws_connect(url))
    assert await page.closed() == 1008


async def test_a_token_of_another_lesson_is_refused(client: Client) -> None:
    lesson, other = await client.lesson(), await client.lesson()
    joined = await client.join(other)
    page = await connect(client, lesson, joined["token"])
    assert (await page.next("error"))["problem"]["type"].endswith("/forbidden")


async def test_hostile_frames_are_answered_and_floods_closed(client: Client) -> None:
    lesson = await client.lesson()
    joined = await client.join(lesson)
    page = await connect(client, lesson, joined["token"])
    await page.next("welcome")
    for text in (
        "{",
        "[]",
        '{"type":"dance"}',
        '{"type":"hand","raised":1}',
        '{"type":"hand","raised":true,"x":1}',
        '{"type":"quality","stream":"camera","loss":7}',
        '{"type":"quality","stream":"nonsense"}',
    ):
        await page.ws.send_str(text)
        assert (await page.next("error"))["problem"]["status"] in (400, 404), text
    for _ in range(40):
        await page.ws.send_str('{"type":"dance"}')
    assert await page.closed() == 1008


async def test_a_frame_that_is_too_long_closes_the_socket(client: Client) -> None:
    lesson = await client.lesson()
    page = await connect(client, lesson, client.teacher)
    await page.next("welcome")
    await page.ws.send_str("x" * 20_000)
    assert await page.closed() == 1009


async def test_a_stopping_server_closes_its_sockets(start: Start) -> None:
    client = await start()
    lesson = await client.lesson()
    page = await connect(client, lesson, client.teacher)
    await page.next("welcome")
    code, _ = await asyncio.gather(page.closed(), client.server.stop())
    assert code == 1001


async def test_hands_too_fast_are_refused(client: Client) -> None:
    lesson = await client.lesson()
    joined = await client.join(lesson)
    page = await connect(client, lesson, joined["token"])
    for raised in (True, False) * 4:
        await page.send(type="hand", raised=raised)
    assert (await page.next("error"))["problem"]["type"].endswith("/too-many-requests")


async def test_plain_get_on_the_socket_path_is_refused(client: Client) -> None:
    lesson = await client.lesson()
    status, problem = await client.call("GET", f"/api/v1/lessons/{lesson['id']}/events")
    assert status == 426
    assert problem["field"] == "Upgrade"


async def test_an_open_page_keeps_its_turn_without_asking_again(start: Start) -> None:
    client = await start("limits.offer_s=3")  # a turn then lasts three seconds
    lesson = await client.lesson(streams={"camera": {"cap": 1}})
    schools = [await client.join(lesson, f"第{n}小学") for n in range(3)]
    page = await connect(client, lesson, schools[1]["token"])
    first = await client.whep(lesson, schools[0]["token"])
    assert (await client.whep(lesson, schools[1]["token"])).status == 503
    assert (await client.whep(lesson, schools[2]["token"])).status == 503

    async def the_other_gave_up() -> bool:
        return bool((await client.stream(lesson))["waiting"] == 1)

    await eventually(the_other_gave_up)
    await client.call("DELETE", first.headers["Location"], schools[0]["token"])
    assert (await page.next("seat-offered"))["stream"] == "camera"


async def test_a_replaced_publisher_does_not_take_the_stream_down(client: Client) -> None:
    lesson = await client.lesson()
    first = await client.whip(lesson)
    await client.whip(lesson)

    async def replaced() -> bool:
        return (await client.call("DELETE", first.headers["Location"], client.teacher))[0] == 404

    async def live() -> bool:
        return (await client.stream(lesson))["live"] is True

    await eventually(replaced)
    await eventually(live)


async def test_a_socket_closes_when_its_token_expires(client: Client) -> None:
    lesson = await client.lesson()
    token = client.server.issue_token("observer", lesson=lesson["id"], ttl_s=100)
    page = await connect(client, lesson, token)
    await page.next("welcome")
    client.server.context.hub.close_expired(time() + 200)
    assert (await page.next("error"))["problem"]["type"].endswith("/invalid-token")
    assert await page.closed() == 1008


async def test_a_reader_that_falls_behind_is_closed_and_states_do_not_pile_up() -> None:
    class Deaf:
        """A WebSocket whose peer does not read."""

        async def send_str(self, text: str) -> None:
            await asyncio.Event().wait()

    claims = Claims(sub="x", role="observer", exp=2**31)
    lesson = Lesson("l", "课", "dispatch", "t", "123456", 0.0)
    socket = PageSocket(Deaf(), lesson, claims, "en")  # type: ignore[arg-type]
    for number in range(10 * MAX_PENDING):
        socket.send({"type": "lesson", "number": number}, "lesson")
    assert len(socket._pending) == 1
    assert socket._close_code is None
    for number in range(MAX_PENDING):
        socket.send({"type": "hand", "number": number})
    assert socket._pending == {}
    assert socket._close_code == CLOSE_TOO_SLOW
