"""Tokens: what we signed comes back, everything else is one and the same problem."""

from __future__ import annotations

import base64
import json
from typing import Any

import jwt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from signaling.problems import Problem
from signaling.tokens import MAX_TOKEN_BYTES, ROLES, TokenAuthority

SECRET = b"a secret of at least 32 bytes, made for tests"
NOW = 1_800_000_000.0
AUTHORITY = TokenAuthority(SECRET)


def encoded(part: bytes) -> str:
    return base64.urlsafe_b64encode(part).rstrip(b"=").decode()


def signed(claims: Any, *, key: bytes = SECRET, **headers: Any) -> str:
    return jwt.api_jws.PyJWS().encode(json.dumps(claims).encode(), key, "HS256", headers or None)


def claims(**changes: Any) -> dict[str, Any]:
    base = {"sub": "u_1", "role": "point", "exp": int(NOW) + 60}
    return {key: value for key, value in (base | changes).items() if value is not ...}


def refused(token: str, now: float = NOW) -> Problem:
    with pytest.raises(Problem) as caught:
        AUTHORITY.verify(token, now)
    assert caught.value.type == "invalid-token"
    assert caught.value.status == 401
    return caught.value


@pytest.mark.parametrize("role", ROLES)
def test_what_was_issued_is_believed_until_it_expires(role: str) -> None:
    token = AUTHORITY.issue(role, ttl_s=60, lesson="l_1", seat="s_1", name="红星小学", now=NOW)
    found = AUTHORITY.verify(token, NOW + 59)
    assert (found.role, found.lesson, found.seat, found.name) == (role, "l_1", "s_1", "红星小学")
    assert found.exp == NOW + 60
    assert "expired" in str(refused(token, NOW + 60))


def test_optional_claims_are_absent_when_not_given() -> None:
    found = AUTHORITY.verify(AUTHORITY.issue("ops", ttl_s=60, now=NOW), NOW)
    assert (found.lesson, found.seat, found.name) == (None, None, None)


def test_every_token_has_a_subject_of_its_own() -> None:
    tokens = [AUTHORITY.issue("point", ttl_s=60, now=NOW) for _ in range(50)]
    assert len({AUTHORITY.verify(token, NOW).sub for token in tokens}) == 50


def test_the_real_clock_is_used_when_no_time_is_given() -> None:
    assert AUTHORITY.verify(AUTHORITY.issue("point", ttl_s=60)).role == "point"
    with pytest.raises(Problem):
        AUTHORITY.verify(AUTHORITY.issue("point", ttl_s=60, now=NOW - 10**9))


def test_a_token_signed_with_another_key_is_refused() -> None:
    refused(TokenAuthority(b"y" * 40).issue("ops", ttl_s=60, now=NOW))


def test_an_unsigned_token_is_refused() -> None:
    header, body = encoded(b'{"alg":"none","typ":"JWT"}'), encoded(json.dumps(claims()).encode())
    refused(f"{header}.{body}.")
    refused(jwt.encode(claims(), None, algorithm="none"))  # type: ignore[arg-type]


def test_another_algorithm_with_the_same_key_is_refused() -> None:
    refused(jwt.encode(claims(), SECRET * 2, algorithm="HS512"))
    refused(jwt.encode(claims(), SECRET * 2, algorithm="HS384"))


@pytest.mark.parametrize(
    "changes",
    [
        {"sub": ...},
        {"sub": 7},
        {"sub": ""},
        {"role": "root"},
        {"role": ["ops"]},
        {"role": ...},
        {"exp": ...},
        {"exp": "tomorrow"},
        {"exp": True},
        {"exp": 1e300},
        {"exp": float("nan")},
        {"exp": float("inf")},
        {"exp": -1},
        {"exp": 10**30},
        {"lesson": 3},
        {"lesson": {"a": 1}},
        {"seat": ["s"]},
        {"name": "x" * 201},
    ],
)
def test_claims_of_odd_types_are_refused_even_when_signed(changes: dict[str, Any]) -> None:
    AUTHORITY.verify(signed(claims()), NOW)
    refused(signed(claims(**changes)))


@pytest.mark.parametrize("body", [[], "text", 1, None, {}])
def test_a_payload_that_is_no_object_with_claims_is_refused(body: Any) -> None:
    refused(signed(body))


@pytest.mark.parametrize(
    "header",
    [
        b"[" * 3000,
        b'{"alg":[]}',
        b'{"alg":null}',
        b'{"alg":"HS256","crit":3}',
        b'{"alg":"HS256","crit":["x"]}',
        b'{"alg":"HS256","b64":false}',
        b'{"alg":"HS256","kid":1}',
        b"\xff\xfe",
        b'"HS256"',
        b"",
    ],
)
def test_hostile_headers_are_refused(header: bytes) -> None:
    refused(f"{encoded(header)}.{encoded(json.dumps(claims()).encode())}.{encoded(b'x' * 32)}")


def test_a_token_over_the_limit_is_refused_before_it_is_parsed() -> None:
    token = signed(claims(padding="x" * MAX_TOKEN_BYTES))
    assert len(token) > MAX_TOKEN_BYTES
    assert "too long" in str(refused(token))


@given(st.text(max_size=80))
def test_any_text_is_refused(text: str) -> None:
    refused(text)


@settings(max_examples=200)
@given(st.data())
def test_a_token_with_any_character_changed_is_refused(data: st.DataObject) -> None:
    token = AUTHORITY.issue("point", ttl_s=60, now=NOW)
    # The last character carries two unused bits, which a decoder ignores: leave it alone.
    at = data.draw(st.integers(0, len(token) - 2))
    other = data.draw(st.sampled_from("ABCxyz019-_.=+é "))
    if token[at] != other:
        refused(token[:at] + other + token[at + 1 :])


def test_the_reason_never_names_the_secret_or_the_token() -> None:
    token = TokenAuthority(b"z" * 32).issue("ops", ttl_s=60, now=NOW)
    text = str(refused(token).document("en")) + str(refused(token).document("zh-CN"))
    assert token not in text
    assert SECRET.decode() not in text


def test_a_short_secret_is_refused_with_a_remedy() -> None:
    with pytest.raises(ValueError, match=r"auth\.secret"):
        TokenAuthority(b"short")


@pytest.mark.parametrize(
    "arguments",
    [
        {"role": "root", "ttl_s": 60},
        {"role": "point", "ttl_s": 0},
        {"role": "point", "ttl_s": float("nan")},
        {"role": "point", "ttl_s": float("inf")},
        {"role": "point", "ttl_s": 60, "name": "x" * 201},
        {"role": "point", "ttl_s": 60, "lesson": ""},
    ],
)
def test_a_token_that_would_not_verify_is_never_issued(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"ttl_s|cannot issue"):
        AUTHORITY.issue(now=NOW, **arguments)
