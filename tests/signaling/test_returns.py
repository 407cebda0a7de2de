"""Returns, floor and mixes over HTTP and WebSocket: who may do what, and who is told."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from signaling import config as configuration
from signaling import returns
from signaling.lessons import Lesson
from tests.signaling.conftest import Client, Socket, Start, connect, eventually

FAKE_MIXER = "tests.signaling.fakemixer"


class School:
    """A lesson with teaching points, on a server with fake workers and a fake mixer."""

    def __init__(self, client: Client, lesson: dict[str, Any], log: Path) -> None:
        self.client = client
        self.lesson = lesson
        self._log = log

    async def point(self, name: str = "红星小学") -> tuple[str, str]:
        """The token and the seat of a new teaching point."""
        joined = await self.client.join(self.lesson, name)
        return joined["token"], joined["seat"]["id"]

    async def send_return(self, token: str, **options: Any) -> Any:
        return await self.client.whip(self.lesson, token, stream="return", **options)

    async def act(self, action: str, token: str | None = None, **fields: Any) -> tuple[int, Any]:
        return await self.client.call(
            "POST",
            f"/api/v1/lessons/{self.lesson['id']}/floor",
            token or self.client.teacher,
            json={"action": action, **fields},
        )

    async def floor(self, token: str | None = None) -> Any:
        path = f"/api/v1/lessons/{self.lesson['id']}/floor"
        return (await self.client.call("GET", path, token or self.client.teacher))[1]

    def asked(self, kind: str) -> list[dict[str, Any]]:
        """What workers and mixer were asked, of one kind, in order."""
        if not self._log.exists():
            return []
        lines = [msgspec.json.decode(line) for line in self._log.read_bytes().splitlines()]
        return [line for line in lines if line["type"] == kind]

    async def until_asked(self, kind: str, **fields: object) -> dict[str, Any]:
        found: list[dict[str, Any]] = []

        async def check() -> bool:
            found[:] = [x for x in self.asked(kind) if fields.items() <= x.items()]
            return bool(found)

        await eventually(check)
        return found[-1]


@pytest.fixture
async def school(start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> School:
    log = tmp_path / "asked.jsonl"
    monkeypatch.setenv("FAKE_LOG", str(log))
    client = await start("modes.dispatch.floor_size=2", mixer_module=FAKE_MIXER)
    return School(client, await client.lesson(), log)


def kind(problem: Any) -> str:
    return str(problem["type"].rpartition("/")[2])


# --- returns ------------------------------------------------------------------------------------


async def test_a_return_needs_the_token_of_a_seat(school: School) -> None:
    server = school.client.server
    without_seat = server.issue_token("point", lesson=school.lesson["id"])
    for token in (school.client.teacher, without_seat):
        answer = await school.send_return(token)
        assert (answer.status, answer.kind) == (403, "forbidden")
        assert "seat" in answer.problem["detail"]
    other = await school.client.lesson()
    token, _seat = await school.point()
    answer = await school.client.whip(other, token, stream="return")
    assert (answer.status, answer.kind) == (403, "forbidden")


async def test_a_mode_without_returns_takes_none_and_grants_nothing(school: School) -> None:
    school.lesson = await school.client.lesson(mode="open")
    token, seat = await school.point()
    answer = await school.send_return(token)
    assert (answer.status, answer.kind) == (403, "forbidden")
    assert "open" in answer.problem["detail"]
    assert (await school.act("grant", seat=seat))[0] == 403
    answer = await school.client.whep(school.lesson, token, stream="class")
    assert answer.status == 403
    page = await connect(school.client, school.lesson, token)
    assert (await page.next("return"))["quality"] == "off"


async def test_a_seat_has_one_return_and_a_new_one_takes_its_place(school: School) -> None:
    token, seat = await school.point()
    first = await school.send_return(token)
    second = await school.send_return(token)
    assert (first.status, second.status) == (201, 201)

    async def seen() -> bool:
        shown = (await school.client.seats(school.lesson))[0]
        gone = await school.client.call("DELETE", first.headers["Location"], token)
        return shown["streams"] == ["return"] and gone[0] == 404

    await eventually(seen)
    session = school.client.server.context.registry.running()[0].returns[seat]
    assert second.headers["Location"].endswith(f"/whip/{school.lesson['id']}/return/{session}")
    assert (await school.client.call("DELETE", second.headers["Location"], token))[0] == 200
    assert (await school.client.seats(school.lesson))[0]["streams"] == []


async def test_a_refused_offer_leaves_the_earlier_return_alone(school: School) -> None:
    token, seat = await school.point()
    await school.send_return(token)
    lesson = school.client.server.context.registry.running()[0]
    session = lesson.returns[seat]
    answer = await school.send_return(token, offer="nonsense")
    assert answer.status == 400
    assert lesson.returns == {seat: session}
    assert (await school.client.seats(school.lesson))[0]["streams"] == ["return"]


async def test_the_page_is_told_what_to_send_and_the_worker_holds_it_to_that(
    school: School,
) -> None:
    token, seat = await school.point()
    page = await connect(school.client, school.lesson, token)
    small = await page.next("return")
    assert (small["quality"], small["height"], small["fps"], small["kbps"]) == (
        "tile",
        180,
        15,
        200,
    )
    await school.send_return(token)
    await school.until_asked("limit_publisher", kbps=200 + returns.AUDIO_KBPS)
    assert (await school.act("grant", seat=seat))[0] == 200
    full = await page.next("return")
    assert (full["quality"], full["height"], full["kbps"]) == ("full", 720, 1500)
    await school.until_asked("limit_publisher", kbps=1500 + returns.AUDIO_KBPS)
    await school.act("revoke", seat=seat)
    assert (await page.next("return"))["quality"] == "tile"


async def test_the_first_return_gives_the_lesson_its_stage(school: School) -> None:
    assert "stage" not in school.lesson["streams"]
    assert school.asked("add_input") == []
    token, seat = await school.point()
    assert (await school.client.whep(school.lesson, token, stream="stage")).status == 404
    await school.send_return(token)
    added = await school.until_asked("add_input")
    assert (added["role"], added["seat"], added["name"]) == ("return", seat, "红星小学")
    pipe = await school.until_asked("open_pipe_out")
    assert pipe["path"] == added["path"]
    assert pipe["output_id"] == f"{school.lesson['id']}/return~{seat}"
    assert (await school.client.stream(school.lesson, "stage"))["cap"] == 30
    assert school.asked("add_output") == []  # nobody watches: nothing is made
    assert (await school.client.whep(school.lesson, token, stream="stage")).status == 201
    made = await school.until_asked("add_output", output="stage")
    assert (made["width"], made["height"], made["fps"]) == (1280, 720, 25)


async def test_a_return_that_says_goodbye_leaves_the_wall(school: School) -> None:
    token, seat = await school.point()
    answer = await school.send_return(token)
    await school.until_asked("add_input", input_id=f"return~{seat}")
    assert (await school.client.call("DELETE", answer.headers["Location"], token))[0] == 200
    await school.until_asked("remove_input", input_id=f"return~{seat}")


async def test_a_lesson_may_have_a_stage_from_the_start(school: School) -> None:
    school.lesson = await school.client.lesson(mode="open", streams=["camera", "stage"])
    token, _seat = await school.point()
    assert (await school.client.whep(school.lesson, token, stream="stage")).status == 201
    await school.until_asked("add_output", output="stage", lesson_id=school.lesson["id"])
    await school.client.whip(school.lesson)
    await school.until_asked("add_input", role="teacher")


# --- who receives what --------------------------------------------------------------------------


async def test_the_wall_is_for_the_teacher_and_takes_no_seat(school: School) -> None:
    client = school.client
    token, seat = await school.point()
    await school.send_return(token)
    for stream in ("wall", "teacher-mix", f"return~{seat}"):
        answer = await client.whep(school.lesson, token, stream=stream)
        assert (answer.status, answer.kind) == (403, "forbidden"), stream
        answer = await client.whep(school.lesson, client.teacher, stream=stream)
        assert answer.status == 201, stream
        location = answer.headers["Location"]
        assert (await client.call("DELETE", location, client.teacher))[0] == 200, stream
    assert len(await client.seats(school.lesson)) == 1
    assert (await client.whep(school.lesson, client.teacher, stream="return~x")).status == 404
    answer = await client.whep(school.lesson, client.teacher, stream="class")
    assert answer.status == 403


async def test_a_classroom_gets_a_sound_without_itself_while_it_has_the_floor(
    school: School,
) -> None:
    token, seat = await school.point()
    await school.send_return(token)
    answer = await school.client.whep(school.lesson, token, stream="class")
    assert answer.status == 201
    session = answer.headers["Location"].rpartition("/")[2]
    prefix = school.lesson["id"]
    await school.act("grant", seat=seat)
    await school.until_asked(
        "move_receiver", session_id=session, output_id=f"{prefix}/class~{seat}"
    )
    await school.until_asked("set_floor", seats=[seat])
    await school.act("revoke", seat=seat)
    await school.until_asked("move_receiver", session_id=session, output_id=f"{prefix}/class")
    await school.until_asked("remove_output", output=f"class~{seat}")
    await school.act("all-answer", on=True)
    await school.until_asked("set_floor", all_answer=True)


async def test_the_teacher_alone_is_told_of_levels_howling_and_the_wall(school: School) -> None:
    client = school.client
    token, _seat = await school.point()
    teacher = await connect(client, school.lesson, client.teacher)
    point = await connect(client, school.lesson, token)
    await school.send_return(token)
    await client.whep(school.lesson, client.teacher, stream="wall")
    assert (await teacher.next("wall"))["width"] == 1280
    levels = await teacher.next("levels")
    assert levels == {"type": "levels", "seats": {"s": -20.0}, "teacher": -30.0}
    assert await teacher.next("howl") == {"type": "howl", "seat": "s", "frequency_hz": 2000}
    again = await connect(client, school.lesson, client.teacher)
    assert (await again.next("wall"))["width"] == 1280
    await point.send(type="hand", raised=True)
    seen = [await point.ws.receive_json() for _ in range(6)]
    assert {"wall", "levels", "howl"}.isdisjoint(message["type"] for message in seen)


# --- the floor ----------------------------------------------------------------------------------


async def raise_hand(page: Socket) -> None:
    await page.send(type="hand", raised=True)
    while not (await page.next("hand"))["raised"]:
        pass


async def floor_with(page: Socket, **fields: object) -> dict[str, Any]:
    """The next floor event that says so."""
    while True:
        event = await page.next("floor")
        if fields.items() <= event.items():
            return event


async def test_hand_queue_grant_and_hand_back_are_told_to_all(school: School) -> None:
    client = school.client
    teacher = await connect(client, school.lesson, client.teacher)
    assert (await teacher.next("floor"))["size"] == 2
    (a_token, a), (b_token, b) = await school.point("甲"), await school.point("乙")
    a_page = await connect(client, school.lesson, a_token)
    b_page = await connect(client, school.lesson, b_token)
    await raise_hand(a_page)
    await raise_hand(b_page)
    await floor_with(teacher, queue=[a, b], seats=[])
    await teacher.send(type="grant", seat=b)
    for page in (teacher, a_page, b_page):
        await floor_with(page, queue=[a], seats=[b])
    assert (await school.floor(a_token))["seats"] == [b]
    await b_page.send(type="hand-back")
    await floor_with(teacher, seats=[])
    await teacher.send(type="grant", seat=a)
    await floor_with(teacher, queue=[], seats=[a])
    status, floor = await school.act("hand-back", a_token)
    assert (status, floor["seats"]) == (200, [])


async def test_a_grant_beyond_the_size_is_refused_without_effect(school: School) -> None:
    seats = [(await school.point(f"{number}"))[1] for number in range(3)]
    for seat in seats[:2]:
        assert (await school.act("grant", seat=seat))[0] == 200
    status, problem = await school.act("grant", seat=seats[2])
    assert (status, kind(problem)) == (409, "floor-full")
    assert (problem["size"], problem["seats"]) == (2, seats[:2])
    assert (await school.floor())["seats"] == seats[:2]
    assert (await school.act("grant", seat="s_nobody"))[0] == 404


async def test_only_the_teacher_conducts_and_a_point_only_hands_back_its_own(
    school: School,
) -> None:
    token, seat = await school.point()
    for action in ("grant", "revoke", "mute", "mute-all", "all-answer", "layout"):
        status, problem = await school.act(action, token, seat=seat, layout="grid")
        assert (status, kind(problem)) == (403, "forbidden"), action
    assert (await school.act("hand-back"))[0] == 403
    page = await connect(school.client, school.lesson, token)
    await page.send(type="grant", seat=seat)
    assert kind((await page.next("error"))["problem"]) == "forbidden"
    assert (await school.floor())["seats"] == []


async def test_muting_one_and_all(school: School) -> None:
    (_a_token, a), (b_token, b) = await school.point("甲"), await school.point("乙")
    assert (await school.act("mute", seat=a))[1]["muted"] == [a]
    assert (await school.act("mute-all"))[1]["muted"] == [a, b]
    assert (await school.act("unmute", seat=a))[1]["muted"] == [b]
    assert (await school.act("unmute-all"))[1]["muted"] == []
    assert (await school.act("mute", seat="s_nobody"))[0] == 404
    await school.act("mute", seat=b)
    await school.send_return(b_token)
    await school.until_asked("mute_seat", seat=b)


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ({"action": "grant"}, 400, "seat"),
        ({"action": "layout"}, 400, "layout"),
        ({"action": "layout", "layout": "mosaic"}, 400, "layout"),
        ({"action": "layout", "layout": "slides"}, 409, "layout"),
        ({"action": "layout", "layout": "pip"}, 409, "layout"),
        ({"action": "applaud"}, 400, "action"),
        ({"action": "grant", "seat": "s", "loud": True}, 400, "body"),
    ],
)
async def test_a_wrong_action_is_refused_by_its_field(
    school: School, body: dict[str, Any], status: int, field: str
) -> None:
    answered, problem = await school.act(**body)
    assert answered == status
    assert problem["field"].startswith(field)
    assert (await school.floor())["layout"] == "auto"


async def test_a_layout_is_told_to_the_mixer(school: School) -> None:
    token, _seat = await school.point()
    await school.send_return(token)
    assert (await school.act("layout", layout="grid"))[1]["layout"] == "grid"
    await school.until_asked("set_layout", layout="grid")


async def test_a_flood_of_actions_is_turned_away(school: School) -> None:
    token, seat = await school.point()
    answers = [await school.act("hand-back", token) for _ in range(30)]
    refused = [problem for status, problem in answers if status == 429]
    assert refused
    assert kind(refused[0]) == "too-many-requests"
    assert (await school.act("grant", seat=seat))[0] == 200  # nobody else is held up


async def test_who_is_released_leaves_the_floor_and_the_queue(school: School) -> None:
    client = school.client
    token, seat = await school.point()
    await school.send_return(token)
    await school.until_asked("add_input", input_id=f"return~{seat}")
    await school.act("grant", seat=seat)
    page = await connect(client, school.lesson, client.teacher)
    await floor_with(page, seats=[seat])
    path = f"/api/v1/lessons/{school.lesson['id']}/seats/{seat}"
    assert (await client.call("DELETE", path, client.ops))[0] == 204
    await floor_with(page, seats=[])
    await school.until_asked("remove_input", input_id=f"return~{seat}")


# --- what dies and comes back -------------------------------------------------------------------


async def test_the_floor_survives_a_restart_of_the_control_process(
    school: School, start: Start
) -> None:
    client = school.client
    (a_token, a), (b_token, b) = await school.point("甲"), await school.point("乙")
    page = await connect(client, school.lesson, b_token)
    await raise_hand(page)
    await school.act("grant", seat=a)
    await school.act("mute", seat=b)
    await school.act("layout", layout="grid")

    async def told() -> bool:
        return (await school.floor())["queue"] == [b]

    await eventually(told)
    await asyncio.sleep(0.3)  # a tick: the hand is written down with it
    before = await school.floor()
    await client.server.stop()
    school.client = await start("modes.dispatch.floor_size=2", mixer_module=FAKE_MIXER)
    assert await school.floor(client.teacher) == before
    again = await connect(school.client, school.lesson, a_token)
    assert (await again.next("floor"))["seats"] == [a]
    assert (await again.next("return"))["quality"] == "full"


async def test_a_killed_mixer_gets_everything_back_and_nobody_else_is_touched(
    school: School,
) -> None:
    client = school.client
    token, seat = await school.point()
    await client.whip(school.lesson)
    await school.send_return(token)
    await client.whep(school.lesson, client.teacher, stream="wall")
    await school.act("grant", seat=seat)
    await school.until_asked("add_output", output="wall")
    await school.until_asked("set_floor", seats=[seat])
    before = {kind: len(school.asked(kind)) for kind in ("add_input", "add_output", "set_floor")}
    sessions = len(client.server.context.desk.sessions)
    mixer = client.server._mixer
    assert mixer.pid is not None
    os.kill(mixer.pid, signal.SIGKILL)

    async def restored() -> bool:
        return {kind: len(school.asked(kind)) for kind in before} == {
            kind: 2 * count for kind, count in before.items()
        }

    await eventually(restored)
    assert len(client.server.context.desk.sessions) == sessions
    assert mixer.restarts == 1
    _status, exposition = await client.call("GET", "/metrics")
    lines = exposition.decode().splitlines()
    assert "tongke_mixer_restarts_total 1.0" in lines
    assert f'tongke_floor_seats{{lesson="{school.lesson["id"]}"}} 1.0' in lines
    assert f'tongke_returns{{lesson="{school.lesson["id"]}"}} 1.0' in lines


async def test_a_lost_return_keeps_its_tile_and_comes_back_into_it(school: School) -> None:
    token, seat = await school.point()
    page = await connect(school.client, school.lesson, token)
    await school.send_return(token, offer=_LOST)
    await school.send_return(token)
    await school.until_asked("add_input", input_id=f"return~{seat}")
    lesson = school.client.server.context.registry.running()[0]
    assert seat in lesson.returns
    assert school.asked("remove_input") == []
    await page.ws.close()


_LOST = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=fake:lost\r\n"


# --- decisions ----------------------------------------------------------------------------------


def test_full_returns_are_full_off_the_floor_too() -> None:
    config = configuration.load(None, ["modes.dispatch.returns=full"])
    lesson = _lesson("dispatch")
    assert returns.size(config, lesson, "s").quality == "full"
    assert returns.size(config, _lesson("open"), "s").kbps == 0
    assert returns.size(config, _lesson("gone"), "s").quality == "off"


def test_a_seat_hears_a_sound_of_its_own_when_it_may_be_heard() -> None:
    lesson = _lesson("dispatch")
    lesson.floor.size = 1
    assert returns.class_output(lesson, "a") == "class"
    lesson.floor.grant("a", here=True)
    assert returns.class_output(lesson, "a") == "class~a"
    lesson.floor.answer_together(True)
    assert returns.class_output(lesson, "b") == "class"  # it sends nothing that could be heard
    lesson.returns["b"] = "session"
    assert returns.class_output(lesson, "b") == "class~b"


def _lesson(mode: str) -> Lesson:
    return Lesson(id="l", title="课", mode=mode, owner="o", join_code="1", created_at=0.0)
