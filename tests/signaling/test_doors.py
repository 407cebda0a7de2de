"""The doors: budgets of guessing and joining, bounds, headers, renewed certificates."""

from __future__ import annotations

import asyncio
import os
import ssl
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from cryptography import x509

from signaling import middleware
from signaling.config import load
from signaling.config_model import Server as ServerConfig
from signaling.context import Gates
from signaling.problems import Problem
from signaling.ratelimit import (
    GLOBAL_WRONG_CODES_BURST,
    GLOBAL_WRONG_CODES_PER_S,
    SITE_BUDGETS,
    CodeGuard,
    site,
)
from signaling.tls import Certificate, TlsError, self_signed
from signaling.tokens import Claims
from tests.signaling.conftest import Client, Start, connect

CODES = 10**6
LESSON_S = 3600.0


# --- guessing join codes -------------------------------------------------------------------------


def guesses(guard: CodeGuard, addresses: list[str], seconds: float, step_s: float = 1.0) -> int:
    """How many wrong codes get an answer within a time, from these addresses, asking all along."""
    tried, now = 0, 0.0
    while now < seconds:
        for address in addresses:
            while not guard.wait_s(address, now):
                guard.wrong(address, now)
                tried += 1
        now += step_s
    return tried


def test_guessing_from_everywhere_for_a_lesson_finds_it_once_in_two_thousand_times() -> None:
    everywhere = [f"10.{number >> 8}.{number & 255}.1" for number in range(300)]
    tried = guesses(CodeGuard(10), everywhere, LESSON_S, step_s=10.0)
    assert tried <= GLOBAL_WRONG_CODES_BURST + GLOBAL_WRONG_CODES_PER_S * LESSON_S
    assert tried / CODES < 1 / 2000


def test_guessing_from_one_address_finds_a_lesson_once_in_fourteen_thousand_times() -> None:
    tried = guesses(CodeGuard(10), ["192.0.2.1"], LESSON_S)
    assert tried <= 10 + 60
    assert tried / CODES <= 1 / 14_000


def test_a_customer_with_many_ipv6_networks_has_the_budget_of_a_few() -> None:
    networks = [f"2001:db8:7:{number:x}::1" for number in range(200)]
    assert len({site(address) for address in networks}) == 1
    assert guesses(CodeGuard(10), networks, 1.0) == 10 * SITE_BUDGETS
    assert site("2001:db8:7::1") != site("2001:db8:8::1")
    assert site("192.0.2.1") == "192.0.2.1"


async def test_a_class_comes_back_to_its_seat_while_guessers_have_used_up_the_budget(
    start: Start,
) -> None:
    client = await start("limits.wrong_codes_per_10min=1")
    lesson = await client.lesson()
    joined = await client.join(lesson)
    wrong = "000000" if lesson["join_code"] != "000000" else "111111"
    await client.call("POST", "/api/v1/join", json={"code": wrong, "name": "甲"})
    body = {"code": lesson["join_code"], "name": "甲"}
    assert (await client.call("POST", "/api/v1/join", json=body))[0] == 429
    body["seat"] = joined["token"]
    status, again = await client.call("POST", "/api/v1/join", json=body)
    assert (status, again["seat"]["id"]) == (201, joined["seat"]["id"])
    body["seat"] = client.ops
    assert (await client.call("POST", "/api/v1/join", json=body))[0] == 429


# --- budgets per address and per token -----------------------------------------------------------


def refusals(attempts: int, attempt: Any) -> int:
    refused = 0
    for _ in range(attempts):
        try:
            attempt()
        except Problem as problem:
            assert problem.type == "too-many-requests"
            assert problem.headers["Retry-After"]
            refused += 1
    return refused


def test_every_gate_lets_its_budget_through_and_no_more() -> None:
    limits = load(
        None,
        [
            "limits.joins_per_seat_per_minute=6",
            "limits.new_seats_per_ip_per_minute=7",
            "limits.per_token_requests_per_second=1",
            "limits.joins_per_second=0.1",
            "limits.joins_burst=20",
        ],
    ).limits
    gates = Gates(limits)
    seat = Claims(sub="a", role="point", exp=2**31, seat="s_1")
    same_seat = Claims(sub="b", role="point", exp=2**31, seat="s_1")
    crowd = Claims(sub="c", role="point", exp=2**31)
    assert refusals(10, lambda: gates.join(seat)) == 4
    assert refusals(1, lambda: gates.join(same_seat)) == 1  # the seat counts, not its token
    assert refusals(20, lambda: gates.join(crowd)) == 6  # what is left of everybody's
    assert refusals(10, lambda: gates.new_seat("192.0.2.1")) == 3
    assert refusals(7, lambda: gates.new_seat("192.0.2.2")) == 0
    assert refusals(15, lambda: gates.token(crowd)) == 5
    assert refusals(1, lambda: gates.token(seat)) == 0


async def test_a_seat_that_joins_without_end_is_slowed_down(start: Start) -> None:
    client = await start("limits.joins_per_seat_per_minute=3")
    lesson = await client.lesson()
    school, other = await client.join(lesson, "甲"), await client.join(lesson, "乙")
    statuses = [(await client.whep(lesson, school["token"])).status for _ in range(5)]
    assert statuses == [201, 201, 201, 429, 429]
    assert (await client.whep(lesson, other["token"])).status == 201


async def test_a_token_that_asks_without_end_is_slowed_down(start: Start) -> None:
    client = await start("limits.per_token_requests_per_second=1")
    statuses = [(await client.call("GET", "/api/v1/me", client.teacher))[0] for _ in range(12)]
    assert statuses.count(429) in (1, 2)
    assert (await client.call("GET", "/api/v1/me", client.ops))[0] == 200


async def test_seats_by_code_have_a_budget_per_address(start: Start) -> None:
    client = await start("limits.new_seats_per_ip_per_minute=2")
    lesson = await client.lesson()
    first = await client.join(lesson, "甲")
    await client.join(lesson, "乙")
    body = {"code": lesson["join_code"], "name": "丙"}
    assert (await client.call("POST", "/api/v1/join", json=body))[0] == 429
    body["seat"] = first["token"]  # coming back makes no new seat
    assert (await client.call("POST", "/api/v1/join", json=body))[0] == 201


async def test_a_token_has_so_many_pages_open_and_no_more(start: Start) -> None:
    client = await start("limits.sockets_per_token=2")
    lesson = await client.lesson()
    pages = [await connect(client, lesson, client.teacher) for _ in range(2)]
    for page in pages:
        await page.next("welcome")
    one_more = await connect(client, lesson, client.teacher)
    assert (await one_more.next("error"))["problem"]["type"].endswith("/too-many-sessions")
    assert await one_more.closed() == 1008
    await pages[0].ws.close()
    while True:
        page = await connect(client, lesson, client.teacher)
        message = await page.ws.receive_json()
        if message["type"] == "welcome":
            break


# --- headers -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["/", "/ops", "/healthz", "/api/v1/hello", "/api/v1/me", "/static/none.js", "/none"]
)
async def test_every_answer_carries_the_security_headers(client: Client, path: str) -> None:
    async with client.http.get(client.server.url + path) as response:
        for name, value in middleware._HEADERS.items():
            assert response.headers[name] == value
        policy = dict(
            part.strip().partition(" ")[::2]
            for part in response.headers["Content-Security-Policy"].split(";")
        )
        assert "Server" not in response.headers
        assert "Access-Control-Allow-Origin" not in response.headers
    assert policy["default-src"] == policy["script-src"] == policy["style-src"] == "'self'"
    assert policy["object-src"] == policy["base-uri"] == policy["frame-ancestors"] == "'none'"
    assert policy["form-action"] == "'self'"
    assert not {"unsafe-inline", "unsafe-eval", "*", "http:", "https:"} & {
        word.strip("'") for words in policy.values() for word in words.split()
    }


# --- certificates --------------------------------------------------------------------------------


def settings(certificate: Path, key: Path) -> ServerConfig:
    text = [
        'server.tls="files"',
        f'server.tls_certificate="{certificate}"',
        f'server.tls_key="{key}"',
    ]
    return load(None, text).server


def renew(directory: Path, certificate: Path, key: Path) -> None:
    """A fresh certificate, in the two files as a renewal tool would leave it."""
    pem = self_signed(directory / f"made-{os.urandom(4).hex()}.pem").read_bytes()
    end = pem.index(b"-----BEGIN PRIVATE KEY-----")
    for path, content in ((certificate, pem[:end]), (key, pem[end:])):
        new = path.with_suffix(".new")
        new.write_bytes(content)
        new.replace(path)


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    renew(tmp_path, certificate, key)
    return certificate, key


def test_renewed_files_are_taken_over_once(tmp_path: Path, files: tuple[Path, Path]) -> None:
    certificate = Certificate(settings(*files), tmp_path)
    assert certificate.refresh() is False
    renew(tmp_path, *files)
    assert certificate.refresh() is True
    assert certificate.refresh() is False


def test_files_that_do_not_fit_each_other_change_nothing_until_they_do(
    tmp_path: Path, files: tuple[Path, Path], caplog: pytest.LogCaptureFixture
) -> None:
    live = Certificate(settings(*files), tmp_path)
    key = files[1].read_bytes()
    renew(tmp_path, *files)
    new_key = files[1].read_bytes()
    files[1].write_bytes(key)
    assert live.refresh() is False
    assert "goes on" in caplog.text
    caplog.clear()
    assert live.refresh() is False
    assert not caplog.text  # said once
    files[1].unlink()
    assert live.refresh() is False
    files[1].write_bytes(new_key)
    assert live.refresh() is True


def test_a_bad_certificate_at_the_start_says_which(tmp_path: Path) -> None:
    bad = tmp_path / "bad.pem"
    bad.write_text("nothing")
    with pytest.raises(TlsError, match=r"bad\.pem"):
        Certificate(settings(bad, bad), tmp_path)


def test_without_tls_there_is_nothing_to_renew(tmp_path: Path) -> None:
    server = load(None, ['server.tls="off"', "server.host=127.0.0.1"]).server
    certificate = Certificate(server, tmp_path)
    assert certificate.context is None
    assert certificate.refresh() is False


async def test_a_running_server_serves_the_renewed_certificate_to_new_connections_only(
    start: Start, tmp_path: Path, files: tuple[Path, Path]
) -> None:
    client = await start(
        'server.tls="files"',
        f'server.tls_certificate="{files[0]}"',
        f'server.tls_key="{files[1]}"',
    )

    async def served() -> bytes:
        port = int(client.server.url.rpartition(":")[2])
        blind = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        blind.check_hostname, blind.verify_mode = False, ssl.CERT_NONE
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=blind)
        der = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.close()
        return bytes(der)

    before = await served()
    lesson = await client.lesson()
    page = await connect(client, lesson, client.teacher)
    await page.next("welcome")
    renew(tmp_path, *files)
    client.server.reload(client.server.config)  # what SIGHUP does
    after = await served()
    assert before != after
    wanted = x509.load_pem_x509_certificate(files[0].read_bytes())
    assert x509.load_der_x509_certificate(after) == wanted
    await client.join(lesson)
    assert await page.next("lesson")  # the page that was open is open still
    assert isinstance(client.http, aiohttp.ClientSession)
