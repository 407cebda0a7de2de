"""The cap of receiving ends holds when everybody comes at once, and the queue is a queue."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest

from tests.e2e.offers import receive_only
from tests.e2e.polling import until
from tests.e2e.real_server import RealServer

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(90, method="signal"),
]

CAP = 30
COMERS = 200
CAP_REACHED = "https://tongke.dev/problems/receiver-cap-reached"


class Comer:
    """Somebody with a token of their own who wants to receive a lesson's camera."""

    def __init__(self, server: RealServer, lesson_id: str) -> None:
        self.server, self.lesson_id = server, lesson_id
        self.token = server.token("observer", lesson=lesson_id)
        self.status = 0
        self.headers: Mapping[str, str] = {}
        self.problem: dict[str, Any] = {}
        self.ticket: str | None = None

    async def ask(self) -> int:
        """POST an offer (with the ticket of the last refusal); the status."""
        headers = {"Content-Type": "application/sdp"}
        if self.ticket:
            headers["Tongke-Ticket"] = self.ticket
        self.status, self.headers, text = await self.server.request(
            "POST",
            f"/whep/{self.lesson_id}/camera",
            token=self.token,
            body=receive_only(),
            headers=headers,
        )
        self.problem = {} if self.status == 201 else json.loads(text)
        self.ticket = self.problem.get("ticket", self.ticket)
        return self.status

    async def leave(self) -> None:
        status, _, text = await self.server.request(
            "DELETE", self.headers["Location"], token=self.token
        )
        assert status == 200, f"DELETE: {status} {text}"

    @property
    def position(self) -> int:
        return int(self.problem["position"])


async def test_two_hundred_at_once_get_thirty_places_and_a_queue_in_order(
    server: RealServer,
) -> None:
    lesson = await server.new_lesson(caps={"camera": CAP})
    comers = [Comer(server, lesson["id"]) for _ in range(COMERS)]
    await asyncio.gather(*(comer.ask() for comer in comers))

    assert Counter(comer.status for comer in comers) == {201: CAP, 503: COMERS - CAP}
    inside = [comer for comer in comers if comer.status == 201]
    waiting = sorted((c for c in comers if c.status == 503), key=lambda comer: comer.position)
    assert [comer.position for comer in waiting] == list(range(1, COMERS - CAP + 1))
    assert len({comer.headers["Location"] for comer in inside}) == CAP
    for comer in waiting:
        assert comer.headers["Content-Type"].startswith("application/problem+json")
        assert int(comer.headers["Retry-After"]) > 0
        assert comer.problem["type"] == CAP_REACHED
        assert comer.problem["status"] == 503
        assert comer.problem["cap"] == CAP
        assert comer.problem["stream"] == "camera"
        assert comer.problem["title"] and comer.problem["detail"]
    assert len({comer.ticket for comer in waiting}) == COMERS - CAP

    camera = (await server.lesson(lesson["id"]))["streams"]["camera"]
    assert (camera["receivers"], camera["waiting"]) == (CAP, COMERS - CAP)
    assert len([s for s in await server.seats(lesson["id"]) if "camera" in s["streams"]]) == CAP
    assert await server.metric("tongke_receivers", lesson=lesson["id"], stream="camera") == CAP
    assert await server.metric("tongke_receiver_cap", lesson=lesson["id"], stream="camera") == CAP
    waiting_metric = await server.metric("tongke_waiting", lesson=lesson["id"], stream="camera")
    assert waiting_metric == COMERS - CAP

    await _a_freed_place_goes_to_the_first_waiting(server, lesson["id"], inside[0], waiting)


async def _a_freed_place_goes_to_the_first_waiting(
    server: RealServer, lesson_id: str, leaver: Comer, waiting: list[Comer]
) -> None:
    first, second, *others = waiting
    newcomer = Comer(server, lesson_id)
    await leaver.leave()
    # Everybody but the first tries first, with and without a ticket, and all at once.
    rivals = [second, *others[:20], newcomer]
    assert {await rival.ask() for rival in rivals} == {503}
    assert set(await asyncio.gather(*(rival.ask() for rival in rivals))) == {503}
    assert await first.ask() == 201
    assert await second.ask() == 503
    assert second.position == 1
    assert newcomer.position >= others[-1].position
    camera = (await server.lesson(lesson_id))["streams"]["camera"]
    assert camera["receivers"] == CAP


async def test_places_freed_and_asked_for_at_the_same_time_never_exceed_the_cap(
    server: RealServer,
) -> None:
    lesson = await server.new_lesson(caps={"camera": 5})
    comers = [Comer(server, lesson["id"]) for _ in range(20)]
    await asyncio.gather(*(comer.ask() for comer in comers))
    most = 0

    async def churn(comer: Comer) -> None:
        nonlocal most
        for _ in range(10):
            if comer.status == 201:
                await comer.leave()
            await comer.ask()
            camera = (await server.lesson(lesson["id"]))["streams"]["camera"]
            most = max(most, camera["receivers"])

    await asyncio.gather(*(churn(comer) for comer in comers))
    assert 0 < most <= 5
    assert len([s for s in await server.seats(lesson["id"]) if "camera" in s["streams"]]) <= 5


async def test_a_raised_cap_lets_the_first_waiting_in_and_a_lowered_one_throws_nobody_out(
    server: RealServer,
) -> None:
    lesson = await server.new_lesson(caps={"camera": 1})
    path = f"/lessons/{lesson['id']}/streams/camera"
    ops = server.token("ops")
    inside, first, second = (Comer(server, lesson["id"]) for _ in range(3))
    assert [await comer.ask() for comer in (inside, first, second)] == [201, 503, 503]
    await server.api("PATCH", path, token=ops, json_body={"cap": 2})
    assert await second.ask() == 503
    assert await first.ask() == 201

    await server.api("PATCH", path, token=ops, json_body={"cap": 1})
    camera = (await server.lesson(lesson["id"]))["streams"]["camera"]
    assert (camera["cap"], camera["receivers"]) == (1, 2)
    await inside.leave()
    assert await second.ask() == 503

    async def receivers() -> int:
        return int((await server.lesson(lesson["id"]))["streams"]["camera"]["receivers"])

    await until(receivers, lambda now: now == 1, within_s=5, what="one receiver is left")


async def test_a_released_seat_frees_its_place(server: RealServer) -> None:
    lesson = await server.new_lesson(caps={"camera": 1})
    inside, first = Comer(server, lesson["id"]), Comer(server, lesson["id"])
    assert [await comer.ask() for comer in (inside, first)] == [201, 503]
    [seat] = [s for s in await server.seats(lesson["id"]) if "camera" in s["streams"]]
    status, _, _ = await server.request(
        "DELETE", f"/api/v1/lessons/{lesson['id']}/seats/{seat['id']}", token=server.token("ops")
    )
    assert status == 204
    assert await first.ask() == 201
