"""Problem documents: every type speaks both languages and never shows a hole."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from signaling.problem_texts import KINDS
from signaling.problems import LANGUAGES, TYPE_BASE, Problem, negotiate_language

STATUSES = {
    "receiver-cap-reached": 503,
    "invalid-token": 401,
    "forbidden": 403,
    "invalid-sdp": 400,
    "invalid-request": 400,
    "unsupported-media-type": 415,
    "body-too-large": 413,
    "unknown-join-code": 404,
    "no-such-lesson": 404,
    "no-such-stream": 404,
    "no-such-session": 404,
    "no-such-seat": 404,
    "floor-full": 409,
    "absent-stream": 409,
    "not-found": 404,
    "lesson-ended": 410,
    "stale-etag": 412,
    "precondition-required": 428,
    "too-many-requests": 429,
    "too-many-lessons": 503,
    "too-many-sessions": 503,
    "worker-unavailable": 503,
    "draining": 503,
    "config-invalid": 400,
    "internal": 500,
}


def test_the_types_and_statuses_are_those_of_the_protocol() -> None:
    assert {name: kind.status for name, kind in KINDS.items()} == STATUSES


@pytest.mark.parametrize("name", STATUSES)
@pytest.mark.parametrize("language", LANGUAGES)
def test_every_type_is_a_complete_document_without_any_argument(name: str, language: str) -> None:
    document = Problem(name).document(language)
    assert document["type"] == TYPE_BASE + name
    assert document["status"] == STATUSES[name]
    detail = str(document["detail"])
    assert len(detail) > 8
    assert "{" not in detail + str(document["title"])
    json.dumps(document)


@pytest.mark.parametrize("name", STATUSES)
def test_the_languages_differ_and_english_has_no_chinese(name: str) -> None:
    chinese, english = Problem(name).document("zh-CN"), Problem(name).document("en")
    assert chinese["title"] != english["title"]
    assert str(english["title"] + english["detail"]).isascii()  # type: ignore[operator]
    assert not str(chinese["detail"]).isascii()


@pytest.mark.parametrize("name", [n for n, s in STATUSES.items() if s in (429, 503)])
def test_what_may_be_tried_again_says_when(name: str) -> None:
    assert int(Problem(name).headers["Retry-After"]) > 0
    assert Problem(name, retry_after=7).headers["Retry-After"] == "7"


def test_an_invalid_token_is_challenged() -> None:
    assert Problem("invalid-token").headers["WWW-Authenticate"].startswith("Bearer")
    assert "WWW-Authenticate" not in Problem("forbidden").headers


def test_a_full_stream_says_the_position_or_that_the_list_is_full() -> None:
    waiting = Problem(
        "receiver-cap-reached",
        extra={"cap": 30, "position": 4, "ticket": "t", "stream": "camera"},
    ).document("en")
    assert "number 4" in str(waiting["detail"])
    assert "list of" not in str(waiting["detail"])
    assert (waiting["cap"], waiting["position"], waiting["ticket"]) == (30, 4, "t")
    full = Problem(
        "receiver-cap-reached", extra={"cap": 30}, detail_args={"waiting_list": 200}
    ).document("zh-CN")
    assert "200" in str(full["detail"])
    assert "第" not in str(full["detail"])
    assert "waiting_list" not in full


def test_a_reason_may_be_given_in_both_languages() -> None:
    problem = Problem(
        "invalid-request",
        field="title",
        detail_args={"reason": {"zh-CN": "太长", "en": "too long"}},
    )
    assert "太长" in str(problem.document("zh-CN")["detail"])
    assert "too long" in str(problem.document("en")["detail"])
    assert problem.document("en")["field"] == "title"


def test_extra_members_cannot_replace_the_standard_ones() -> None:
    document = Problem("not-found", extra={"status": 200, "type": "x", "more": 1}).document("en")
    assert document["status"] == 404
    assert document["type"] == TYPE_BASE + "not-found"
    assert document["more"] == 1


def test_a_long_input_is_cut_in_its_refusal() -> None:
    problem = Problem("invalid-request", detail_args={"reason": "x" * 100_000})
    assert len(str(problem.document("en")["detail"])) < 500


def test_an_unknown_type_is_our_own_mistake() -> None:
    with pytest.raises(ValueError, match="no problem type"):
        Problem("no-such-type")


@given(st.text(max_size=50), st.text(max_size=50))
def test_hostile_values_never_break_a_document(field: str, reason: str) -> None:
    problem = Problem("invalid-sdp", field=field, detail_args={"reason": reason})
    for language in LANGUAGES:
        assert reason in str(problem.document(language)["detail"])


@pytest.mark.parametrize(
    ("header", "language"),
    [
        (None, "zh-CN"),
        ("", "zh-CN"),
        ("en", "en"),
        ("en-GB,en;q=0.9", "en"),
        ("zh-TW", "zh-CN"),
        ("zh-CN,zh;q=0.9,en;q=0.8", "zh-CN"),
        ("en;q=0.5,zh;q=0.4", "en"),
        ("en;q=0.4, zh;q=0.5", "zh-CN"),
        ("fr,de;q=0.8", "zh-CN"),
        ("fr, en;q=0.1", "en"),
        ("zh;q=0, en;q=0.1", "en"),
        ("zh;q=0, *", "en"),
        ("*", "zh-CN"),
        ("en;q=nan", "zh-CN"),
        ("en;q=5", "zh-CN"),
        (";;;,,,=q", "zh-CN"),
    ],
)
def test_the_language_follows_accept_language(header: str | None, language: str) -> None:
    assert negotiate_language(header) == language


@given(st.text(max_size=200))
def test_any_accept_language_gives_a_language(header: str) -> None:
    assert negotiate_language(header) in LANGUAGES
