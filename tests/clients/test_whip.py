"""The WHIP and WHEP client against servers that say yes, no, and nonsense."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from hypothesis import given
from hypothesis import strategies as st

from clients.whip import (
    Liveness,
    Refused,
    Session,
    Unreachable,
    WhipClient,
    checked_url,
    is_loopback,
    problem_of,
    tls_for,
)
from clients.words import BAD_USAGE, CommandError

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Serve = Callable[[Handler], Awaitable[str]]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    servers: list[TestServer] = []

    async def start(handler: Handler) -> str:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", handler)
        server = TestServer(app)
        await server.start_server()
        servers.append(server)
        return str(server.make_url("/whip/l/camera"))

    yield start
    for server in servers:
        await server.close()


async def test_an_answer_opens_a_session_and_delete_closes_it(serve: Serve) -> None:
    seen: list[tuple[str, str, str | None, str | None]] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        body = await request.text()
        seen.append((request.method, request.path, request.headers.get("If-Match"), body or None))
        assert request.headers["Authorization"] == "Bearer secret"
        if request.method == "POST":
            assert request.content_type == "application/sdp"
            headers = {"Location": "/s/1?x=2", "ETag": '"abc"'}
            return web.Response(status=201, text="the answer", headers=headers)
        return web.Response(status=204 if request.method == "PATCH" else 200)

    async with WhipClient(await serve(handler), "secret") as client:
        session = await client.open("the offer")
        assert session.answer == "the answer" and session.location.endswith("/s/1?x=2")
        assert await client.probe(session, "fragment") is Liveness.ALIVE
        assert await client.close(session)
    assert seen == [
        ("POST", "/whip/l/camera", None, "the offer"),
        ("PATCH", "/s/1", '"abc"', "fragment"),
        ("DELETE", "/s/1", None, None),
    ]


async def test_a_refusal_carries_the_problem(serve: Serve) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        assert request.headers["Tongke-Ticket"] == "t1"
        document = {
            "type": "https://tongke.dev/problems/receiver-cap-reached",
            "title": "full",
            "status": 503,
            "detail": "30 of 30",
            "position": 4,
            "ticket": "t2",
        }
        return web.json_response(
            document,
            status=503,
            headers={"Retry-After": "7"},
            content_type="application/problem+json",
        )

    async with WhipClient(await serve(handler), "t") as client:
        with pytest.raises(Refused) as caught:
            await client.open("offer", ticket="t1")
    problem = caught.value.problem
    assert (problem.kind, problem.position, problem.ticket) == ("receiver-cap-reached", 4, "t2")
    assert problem.retry_after_s == 7.0 and not problem.hopeless
    assert str(problem) == "full: 30 of 30 [503 receiver-cap-reached]"


@pytest.mark.parametrize(
    ("status", "liveness"),
    [
        (200, Liveness.ALIVE),
        (204, Liveness.ALIVE),
        (412, Liveness.ALIVE),
        (404, Liveness.GONE),
        (410, Liveness.GONE),
        (405, Liveness.UNKNOWN),
        (422, Liveness.UNKNOWN),
        (502, Liveness.UNKNOWN),
    ],
)
async def test_what_a_probe_means(serve: Serve, status: int, liveness: Liveness) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        return web.Response(status=status)

    url = await serve(handler)
    async with WhipClient(url, "t") as client:
        assert await client.probe(Session("", url, None), "") is liveness


async def test_a_server_that_is_not_there_is_unreachable() -> None:
    async with WhipClient("http://127.0.0.1:9/whip/l/camera", "t") as client:
        with pytest.raises(Unreachable, match=r"127\.0\.0\.1:9"):
            await client.open("offer")
        session = Session("", "http://127.0.0.1:9/s", None)
        assert await client.probe(session, "") is Liveness.UNREACHABLE
        assert not await client.close(session)


@pytest.mark.parametrize(
    ("status", "headers", "word"),
    [
        (200, {}, "200"),
        (201, {}, "Location"),
        (201, {"Location": "https://elsewhere.example/s"}, "elsewhere.example"),
    ],
    ids=["no-201", "no-location", "another-host"],
)
async def test_an_answer_that_is_not_whip_is_refused(
    serve: Serve, status: int, headers: dict[str, str], word: str
) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        return web.Response(status=status, text="answer", headers=headers)

    async with WhipClient(await serve(handler), "t") as client:
        with pytest.raises(Refused, match=word):
            await client.open("offer")


async def test_an_endless_answer_is_cut_off(serve: Serve) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        return web.Response(status=201, body=b"x" * 3_000_000, headers={"Location": "/s"})

    async with WhipClient(await serve(handler), "t") as client:
        with pytest.raises(Refused, match="bytes"):
            await client.open("offer")


@given(status=st.integers(400, 599), body=st.text(), kind=st.sampled_from(["", "text/html"]))
def test_any_body_makes_a_sentence(status: int, body: str, kind: str) -> None:
    for content_type in (kind, "application/problem+json"):
        problem = problem_of(status, {"Content-Type": content_type}, body)
        assert str(status) in str(problem)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_any_json_makes_a_problem(document: object) -> None:
    import json

    body = json.dumps({"type": document, "title": document, "position": document})
    problem = problem_of(503, {"Content-Type": "application/json", "Retry-After": "x"}, body)
    assert problem.position is None or isinstance(problem.position, int)
    assert problem.retry_after_s is None
    str(problem)


@pytest.mark.parametrize("url", ["", "camera", "ftp://h/x", "http://", "https://h:99999/x"])
def test_what_is_no_address_is_bad_usage(url: str) -> None:
    with pytest.raises(CommandError) as caught:
        checked_url(url)
    assert caught.value.exit_code == BAD_USAGE


def test_a_self_signed_certificate_is_good_enough_on_loopback_only() -> None:
    for url in ("https://localhost:1/x", "https://127.0.0.9/x", "https://[::1]/x"):
        assert is_loopback(url) and tls_for(url) is False
    for url in ("https://192.0.2.1/x", "https://localhost.example/x"):
        assert not is_loopback(url)
        assert tls_for(url) is True
        assert tls_for(url, insecure=True) is False


def test_a_certificate_that_cannot_be_read_is_bad_usage(tmp_path: Path) -> None:
    broken = tmp_path / "ca.pem"
    broken.write_text("no certificate")
    for path in (broken, tmp_path / "missing.pem"):
        with pytest.raises(CommandError) as caught:
            tls_for("https://h/x", ca=path)
        assert caught.value.exit_code == BAD_USAGE
