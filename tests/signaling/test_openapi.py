"""The OpenAPI document: complete, true to the answers, and a source of hostile requests."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from signaling import openapi_shapes as shapes
from signaling.app import Server
from signaling.openapi import PATH, document
from signaling.openapi_operations import OPERATIONS, SDP, Operation
from tests.signaling.conftest import FAKE_WORKER, OFFER, ROOT, Client, config_for


def as_json() -> dict[str, Any]:
    return dict(msgspec.json.decode(msgspec.json.encode(document())))


async def test_every_route_and_method_of_the_server_is_described_and_no_other(
    client: Client,
) -> None:
    runner = client.server._runner
    assert runner is not None
    routes = {
        (route.method.lower(), route.resource.canonical)
        for route in runner.app.router.routes()
        if route.resource is not None and route.method != "HEAD"
    }
    described = {(method, path) for path, item in as_json()["paths"].items() for method in item}
    assert described == routes


async def test_the_document_is_served_to_everybody(client: Client) -> None:
    status, served = await client.call("GET", PATH)
    assert status == 200
    assert served == as_json()
    assert served["openapi"].startswith("3.1")


def test_the_document_is_sound() -> None:
    whole = as_json()
    schemas = whole["components"]["schemas"]
    operations = [op for item in whole["paths"].values() for op in item.values()]
    ids = [op["operationId"] for op in operations]
    assert len(ids) == len(set(ids)) == len(OPERATIONS)

    def references(value: Any) -> Iterator[str]:
        if isinstance(value, dict):
            if isinstance(value.get("$ref"), str):
                yield value["$ref"]
            for item in value.values():
                yield from references(item)
        elif isinstance(value, list):
            for item in value:
                yield from references(item)

    for reference in references(whole):
        assert reference.removeprefix("#/components/schemas/") in schemas
    for path, item in whole["paths"].items():
        for operation in item.values():
            declared = {p["name"] for p in operation.get("parameters", []) if p["in"] == "path"}
            assert declared == set(re.findall(r"\{(\w+)\}", path))
            assert operation["responses"]


async def test_the_answers_have_the_shapes_of_the_document(client: Client) -> None:
    lesson = await client.lesson(reserved={"names": ["甲"]}, cap=9)
    joined = await client.join(lesson)
    await client.whep(lesson, joined["token"])
    path = f"/api/v1/lessons/{lesson['id']}"
    for target, shape in (
        (path, shapes.Lesson),
        ("/api/v1/lessons", shapes.LessonList),
        (path + "/streams/camera", shapes.OutputStream),
        (path + "/decisions", shapes.DecisionList),
        (path + "/seats", shapes.SeatList),
        ("/api/v1/hello", shapes.Hello),
        ("/api/v1/me", shapes.Me),
        ("/api/v1/lessons/none", shapes.Problem),
    ):
        _, answer = await client.call("GET", target, client.ops)
        decoded = msgspec.convert(answer, shape)
        if isinstance(decoded, shapes.Shape):
            assert set(answer) <= set(decoded.__struct_fields__)
    msgspec.convert(joined, shapes.Joined)


# --- requests made from the document -------------------------------------------------------------

# Measures a line with megabytes by design, or needs a WebSocket.
NOT_FUZZED = ("/linetest/down", "/events")
FUZZED = [op for op in OPERATIONS if not op.path.endswith(NOT_FUZZED)]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)


def from_schema(schema: dict[str, Any], schemas: dict[str, Any], depth: int = 0) -> Any:
    """A strategy for values that a schema allows (the part of JSON Schema that ours use)."""
    if "$ref" in schema:
        return from_schema(schemas[schema["$ref"].rpartition("/")[2]], schemas, depth + 1)
    if "anyOf" in schema:
        return st.one_of(*(from_schema(part, schemas, depth) for part in schema["anyOf"]))
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    match schema.get("type"):
        case "object":
            properties = schema.get("properties", {})
            required = set(schema.get("required", ()))
            fields = {
                name: from_schema(part, schemas, depth + 1) for name, part in properties.items()
            }
            more = schema.get("additionalProperties")
            if isinstance(more, dict):
                names = st.sampled_from(["camera", "slides", "stage"]) | st.text(max_size=5)
                return st.dictionaries(names, from_schema(more, schemas, depth + 1), max_size=3)
            return st.fixed_dictionaries(
                {name: part for name, part in fields.items() if name in required},
                optional={name: part for name, part in fields.items() if name not in required},
            )
        case "array":
            return st.lists(from_schema(schema.get("items", {}), schemas, depth + 1), max_size=4)
        case "string":
            return st.text(max_size=min(60, schema.get("maxLength", 60)))
        case "integer":
            return st.integers(schema.get("minimum", -(2**31)), schema.get("maximum", 2**31))
        case "number":
            return st.floats(schema.get("minimum"), schema.get("maximum"), allow_nan=False)
        case "boolean":
            return st.booleans()
        case "null":
            return st.none()
    return JSON


@dataclass
class House:
    """A server in a thread of its own, so that tests of hypothesis can talk to it."""

    port: int
    tokens: dict[str, str | None]
    values: dict[str, list[str]]


@pytest.fixture
def house(tmp_path: Path, web_root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    config = config_for(
        tmp_path / "data",
        "limits.per_ip_requests_per_second=100000",
        "limits.per_token_requests_per_second=100000",
        "limits.new_seats_per_ip_per_minute=100000",
        "limits.wrong_codes_per_10min=10000",
        "limits.lessons=10000",
    )
    server = Server(config, web_root=web_root, worker_module=FAKE_WORKER)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def call(work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, loop).result(60)

    async def lesson() -> Any:
        owner = server._tokens.verify(tokens["teacher"] or "").sub
        made = server.context.registry.create("a", "dispatch", owner)
        seat = server.context.registry.new_seat(made, "甲", "point", durable=True)
        return made, seat

    call(server.start())
    tokens: dict[str, str | None] = {
        "nobody": None,
        "stranger": "nonsense",
        **{role: server.issue_token(role) for role in ("teacher", "ops", "observer")},
    }
    made, seat = call(lesson())
    tokens["point"] = server.issue_token("point", lesson=made.id, seat=seat.id, name="甲")
    values = {
        "lesson": [made.id],
        "stream": ["camera", "slides", "return"],
        "seat": [seat.id],
        "code": [made.join_code],
        "mode": ["dispatch", "open"],
        "path": ["shared/a.js"],
    }
    yield House(int(server.url.rpartition(":")[2]), tokens, values)
    call(server.stop())
    loop.call_soon_threadsafe(loop.stop)
    thread.join(20)
    loop.close()


@st.composite
def requests(draw: st.DrawFn, house: House) -> tuple[Operation, str, dict[str, str], bytes]:
    operation = draw(st.sampled_from(FUZZED))
    described = as_json()["paths"][operation.path][operation.method]
    path = operation.path
    for parameter in described.get("parameters", []):
        name = parameter["name"]
        if parameter["in"] == "path":
            known = st.sampled_from(house.values.get(name, ["none"]))
            value = draw(known | known | st.text(min_size=1, max_size=12).map(_solid))
            path = path.replace("{" + name + "}", quote(value, safe=""))
        elif draw(st.booleans()):
            wanted = draw(st.integers().map(str) | st.text(max_size=8).map(_solid))
            path += ("&" if "?" in path else "?") + f"{name}={quote(wanted)}"
    headers = {"Accept-Language": draw(st.sampled_from(["en", "zh-CN", "x" * 50]))}
    token = house.tokens[draw(st.sampled_from(sorted(house.tokens)))]
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    if operation.path.startswith(("/whip", "/whep")) and draw(st.booleans()):
        headers["If-Match"] = draw(st.sampled_from(["*", '"1"', "W/", ""]))
    body = b""
    if "requestBody" in described:
        [(media_type, content)] = described["requestBody"]["content"].items()
        headers["Content-Type"] = draw(
            st.sampled_from([media_type, media_type, media_type, "text/plain"])
        )
        if media_type == "application/json":
            allowed = from_schema(content["schema"], as_json()["components"]["schemas"])
            value = draw(st.one_of(allowed, allowed, JSON))
            body = json.dumps(value).encode()
        else:
            offers = st.sampled_from([OFFER.encode()] if media_type == SDP else [b""])
            body = draw(offers | st.binary(max_size=80))
    return operation, path, headers, body


def _solid(text: str) -> str:
    """Text as a path may carry it: no lone surrogates, no dot segments."""
    return text.encode("utf-8", "replace").decode().replace(".", "_") or "_"


@settings(
    max_examples=400,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_requests_made_from_the_document_get_answers_that_it_describes(
    house: House, data: st.DataObject
) -> None:
    operation, path, headers, body = data.draw(requests(house))
    connection = http.client.HTTPConnection("127.0.0.1", house.port, timeout=20)
    try:
        connection.request(operation.method.upper(), path, body, headers)
        response = connection.getresponse()
        answered = response.read()
    finally:
        connection.close()
    media_type = response.headers.get_content_type() if answered else None
    what = (operation.method, path, response.status, answered[:300])
    assert response.status in operation.statuses, what
    assert response.status != 500, what
    if response.status >= 400:
        assert media_type == "application/problem+json", what
        problem = msgspec.json.decode(answered, type=shapes.Problem)
        assert problem.status == response.status
        return
    expected = operation.answers[response.status]
    if isinstance(expected, type):
        assert media_type == "application/json", what
        msgspec.json.decode(answered, type=expected)
    elif expected is None:
        assert not answered, what
    elif not operation.path.startswith(("/static", "/favicon")):
        assert media_type == expected, what
