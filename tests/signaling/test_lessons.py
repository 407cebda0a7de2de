"""Lessons and seats, the store, rate limits and certificates, with made-up clocks."""

from __future__ import annotations

import datetime
import ipaddress
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from hypothesis import given, settings
from hypothesis import strategies as st

from signaling import config as configuration
from signaling.lessons import IDLE_END_S, RESTORED_GRACE_S, LessonRegistry
from signaling.presence import FIRST_MEDIA_S, LEFT_SHOWN_S, Roster, rate
from signaling.problems import Problem
from signaling.ratelimit import (
    GLOBAL_WRONG_CODES_BURST,
    CodeGuard,
    KeyedBuckets,
    TokenBucket,
    network,
)
from signaling.requests import clean_name
from signaling.store.database import SCHEMA_VERSION, Store, StoreError
from signaling.store.secretfiles import dtls_identity, token_secret
from signaling.tls import RENEW_BEFORE_DAYS, VALID_DAYS, self_signed


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0
        self.wall = 1_700_000_000.0

    def tick(self, seconds: float) -> None:
        self.now += seconds
        self.wall += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "test.sqlite")
    yield store
    store.close()


def registry_on(store: Store, clock: Clock, *overrides: str) -> LessonRegistry:
    config = configuration.load(None, overrides)
    return LessonRegistry(
        store, lambda: config, clock=lambda: clock.now, wall_clock=lambda: clock.wall
    )


@pytest.fixture
def registry(store: Store, clock: Clock) -> LessonRegistry:
    return registry_on(store, clock)


# --- lessons -------------------------------------------------------------------------------------


def test_join_codes_are_six_digits_and_unique(registry: LessonRegistry) -> None:
    codes = {registry.create("a", "dispatch", "t").join_code for _ in range(40)}
    assert len(codes) == 40
    assert all(len(code) == 6 and code.isdigit() for code in codes)


def test_a_code_is_ended_for_a_day_and_then_unknown(registry: LessonRegistry, clock: Clock) -> None:
    lesson = registry.create("a", "dispatch", "t")
    assert registry.by_code(lesson.join_code) is lesson
    registry.end(lesson)
    for wait_s, kind in ((0.0, "lesson-ended"), (25 * 3600.0, "unknown-join-code")):
        clock.tick(wait_s)
        with pytest.raises(Problem) as problem:
            registry.by_code(lesson.join_code)
        assert problem.value.type == kind


def test_the_end_of_a_lesson_forgets_who_was_there(registry: LessonRegistry, store: Store) -> None:
    lesson = registry.create("a", "dispatch", "t")
    registry.new_seat(lesson, "红星小学", "point", durable=True)
    assert len(store.seats(lesson.id)) == 1
    registry.end(lesson)
    assert store.seats(lesson.id) == []
    assert registry.find(lesson.id).state == "ended"
    with pytest.raises(Problem, match="lesson-ended"):
        registry.running_lesson(lesson.id)


def test_a_restart_restores_caps_seats_and_held_places(
    registry: LessonRegistry, store: Store, clock: Clock
) -> None:
    lesson = registry.create("a", "dispatch", "t", {"camera": 2})
    kept = registry.new_seat(lesson, "甲", "point", durable=True)
    gone = registry.new_seat(lesson, "乙", "point", durable=True)
    registry.release_seat(lesson, gone)
    store.take_place(lesson.id, "camera", kept.id)
    store.take_place(lesson.id, "camera", gone.id)
    again = registry_on(store, clock)
    again.restore()
    restored = again.running_lesson(lesson.id)
    assert restored.join_code == lesson.join_code
    camera = restored.stream("camera").admission
    assert (camera.cap, camera.held, camera.receivers) == (2, 1, 0)
    assert [seat.name for seat in restored.roster.all()] == ["甲"]
    with pytest.raises(Problem, match="no-such-seat"):
        again.known_seat(restored, gone.id, "乙", "point")


def test_a_lesson_that_nobody_uses_ends_by_itself(registry: LessonRegistry, clock: Clock) -> None:
    lesson = registry.create("a", "dispatch", "t")
    used = registry.create("b", "dispatch", "t")
    used.stream("camera").publisher = "x"
    clock.tick(IDLE_END_S - 1)
    assert registry.idle() == []
    clock.tick(2)
    assert registry.idle() == [lesson]


def test_restarts_do_not_keep_a_forgotten_lesson_alive(
    registry: LessonRegistry, store: Store, clock: Clock
) -> None:
    registry.create("a", "dispatch", "t")
    clock.tick(2 * IDLE_END_S)
    again = registry_on(store, clock)
    again.restore()
    assert again.idle() == []  # its people have some minutes to come back
    clock.tick(RESTORED_GRACE_S)
    assert len(again.idle()) == 1


def test_a_restored_lesson_outlives_a_profile_that_lost_its_stream(
    registry: LessonRegistry, store: Store, clock: Clock
) -> None:
    lesson = registry.create("a", "dispatch", "t", {"camera": 3, "slides": 4})
    again = registry_on(store, clock)
    again._config().modes.pop("dispatch")
    again.restore()
    assert again.running_lesson(lesson.id).stream("slides").admission.cap == 4


# --- the store -----------------------------------------------------------------------------------


def test_a_newer_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "newer.sqlite"
    with sqlite3.connect(path) as database:
        database.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    with pytest.raises(StoreError, match="newer version"):
        Store(path)


def test_a_file_that_is_no_database_is_refused_with_a_way_out(tmp_path: Path) -> None:
    path = tmp_path / "broken.sqlite"
    path.write_bytes(b"not a database" * 100)
    with pytest.raises(StoreError, match="backup"):
        Store(path)


def test_old_lessons_are_purged(registry: LessonRegistry, store: Store, clock: Clock) -> None:
    lesson = registry.create("a", "dispatch", "t")
    registry.end(lesson)
    clock.tick(31 * 24 * 3600)
    registry.restore()
    with pytest.raises(Problem, match="no-such-lesson"):
        registry.find(lesson.id)


def test_secrets_are_made_once_and_private(tmp_path: Path) -> None:
    assert token_secret(tmp_path) == token_secret(tmp_path)
    certificate, key = dtls_identity(tmp_path)
    assert dtls_identity(tmp_path) == (certificate, key)
    assert "BEGIN CERTIFICATE" in certificate
    assert "PRIVATE KEY" in key
    for path in tmp_path.iterdir():
        assert path.stat().st_mode & 0o777 == 0o600


def test_a_damaged_identity_is_made_anew(tmp_path: Path) -> None:
    before = dtls_identity(tmp_path)
    (tmp_path / "dtls.pem").write_text("damaged")
    assert dtls_identity(tmp_path) != before


# --- seats ---------------------------------------------------------------------------------------


def test_a_seat_goes_from_joining_to_receiving_to_reconnecting_to_left() -> None:
    roster = Roster()
    seat = roster.open("s", "甲", "point", durable=True, now=0.0)
    assert seat.state == "joining"
    roster.session_opened(seat, "camera", "a")
    assert seat.state == "joining"
    roster.session_connected(seat, "camera", True)
    assert seat.state == "receiving"
    roster.session_closed(seat, "camera", "a", 10.0, goodbye=False)
    assert seat.state == "reconnecting"
    assert roster.expire(39.9, 30.0) == []
    assert roster.expire(40.0, 30.0) == [seat]
    assert seat.state == "left"
    roster.expire(40.0 + LEFT_SHOWN_S, 30.0)
    assert len(roster) == 0


def test_an_open_socket_keeps_a_seat() -> None:
    roster = Roster()
    seat = roster.open("s", "甲", "point", durable=True, now=0.0)
    roster.socket_opened(seat)
    assert roster.expire(10_000.0, 30.0) == []
    roster.socket_closed(seat, 10_000.0)
    assert roster.expire(10_000.0 + FIRST_MEDIA_S, 0.0) == [seat]


def test_saying_goodbye_leaves_at_once() -> None:
    roster = Roster()
    seat = roster.open("s", "甲", "point", durable=True, now=0.0)
    roster.session_opened(seat, "camera", "a")
    roster.session_closed(seat, "camera", "a", 1.0, goodbye=True)
    assert roster.expire(1.0, 30.0) == [seat]
    back = roster.open("s", "甲", "point", durable=True, now=2.0)
    assert back is seat
    assert seat.state == "joining"


def test_the_close_of_a_replaced_session_changes_nothing() -> None:
    roster = Roster()
    seat = roster.open("s", "甲", "point", durable=True, now=0.0)
    roster.session_opened(seat, "camera", "a")
    roster.session_opened(seat, "camera", "b")
    roster.session_connected(seat, "camera", True)
    roster.session_closed(seat, "camera", "a", 1.0, goodbye=False)
    assert seat.state == "receiving"


def test_a_seat_without_a_token_lasts_as_long_as_its_session() -> None:
    roster = Roster()
    seat = roster.open("s", "", "observer", durable=False, now=0.0)
    roster.session_opened(seat, "camera", "a")
    roster.session_closed(seat, "camera", "a", 1.0, goodbye=False)
    assert roster.get("s") is None


@pytest.mark.parametrize(
    ("fps", "loss", "rtt_ms", "freezes", "moving", "level"),
    [
        (25.0, 0.0, 40.0, 0, True, "good"),
        (25.0, 0.02, 40.0, 0, True, "fair"),
        (25.0, 0.0, 40.0, 1, True, "fair"),
        (25.0, 0.0, 900.0, 0, True, "poor"),
        (3.0, 0.0, 40.0, 0, True, "poor"),
        (0.5, 0.0, 40.0, 0, False, "good"),
        (None, None, None, 0, True, "good"),
    ],
)
def test_quality_is_the_worst_of_what_was_measured(
    fps: float | None,
    loss: float | None,
    rtt_ms: float | None,
    freezes: int,
    moving: bool,
    level: str,
) -> None:
    quality = rate(fps=fps, loss=loss, rtt_ms=rtt_ms, kbps=100.0, freezes=freezes, moving=moving)
    assert quality.level == level


# --- rate limits ---------------------------------------------------------------------------------


def test_a_bucket_lets_a_burst_through_and_then_its_rate() -> None:
    bucket = TokenBucket(rate=2.0, burst=3.0)
    assert [bucket.take(0.0) for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]
    assert bucket.take(0.5) == 0.0
    assert bucket.take(0.5) == 0.5


@given(
    rate_per_s=st.floats(0.1, 100),
    burst=st.integers(1, 50),
    gaps=st.lists(st.floats(0, 5), max_size=200),
)
@settings(max_examples=100, deadline=None)
def test_a_bucket_never_lets_more_through_than_burst_plus_rate(
    rate_per_s: float, burst: int, gaps: list[float]
) -> None:
    bucket = TokenBucket(rate_per_s, burst)
    now, passed = 50.0, 0
    for gap in gaps:
        now += gap
        wait_s = bucket.take(now)
        passed += wait_s == 0.0
        assert 0.0 <= wait_s <= 1 / rate_per_s + 1e-6
    assert passed <= burst + (now - 50.0) * rate_per_s + 1e-6


def test_addresses_have_buckets_of_their_own_and_never_too_many() -> None:
    buckets = KeyedBuckets(rate=1.0, burst=1.0, max_keys=3)
    assert buckets.take("a", 0.0) == 0.0
    assert buckets.take("b", 0.0) == 0.0
    assert buckets.take("a", 0.0) > 0.0
    for number in range(100):
        buckets.take(f"x{number}", 0.0)
    assert len(buckets) == 3


def test_one_address_cannot_lock_out_the_others_by_guessing() -> None:
    guard = CodeGuard(10)
    tried = 0
    while not guard.wait_s("192.0.2.1", 0.0):
        guard.wrong("192.0.2.1", 0.0)
        tried += 1
    assert tried == 10
    assert guard.wait_s("192.0.2.2", 0.0) == 0.0


def test_guessing_from_many_addresses_runs_out_for_everybody() -> None:
    guard = CodeGuard(10)
    tried = 0
    for number in range(10_000):
        address = f"10.{number >> 8}.{number & 255}.1"
        while not guard.wait_s(address, 0.0):
            guard.wrong(address, 0.0)
            tried += 1
    assert tried == GLOBAL_WRONG_CODES_BURST
    assert guard.wait_s("192.0.2.1", 0.0) > 0.0
    assert guard.wait_s("192.0.2.1", 60.0) == 0.0


def test_a_household_counts_once() -> None:
    assert network("2001:db8:0:1::7") == network("2001:db8:0:1:ffff::9")
    assert network("2001:db8:0:1::7") != network("2001:db8:0:2::7")
    assert network("::ffff:192.0.2.1") == "192.0.2.1"
    assert network("not an address") == "not an address"


# --- names and certificates ----------------------------------------------------------------------


@given(text=st.text(max_size=300))
@settings(max_examples=200, deadline=None)
def test_a_name_is_one_visible_line_or_refused(text: str) -> None:
    try:
        name = clean_name(text, "name", 40)
    except Problem as problem:
        assert problem.field == "name"
        return
    assert 1 <= len(name) <= 40
    assert name == " ".join(name.split())
    assert not any(ord(character) < 32 or character in "\u202e\u200b" for character in name)
    name.encode()


def test_a_certificate_names_this_machine_and_is_renewed_before_it_expires(
    tmp_path: Path,
) -> None:
    now = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    path = tmp_path / "tls.pem"
    first = self_signed(path, ["class.example"], now).read_bytes()
    certificate = x509.load_pem_x509_certificate(first)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert {"localhost", "class.example"} <= set(names.get_values_for_type(x509.DNSName))
    assert ipaddress.ip_address("::1") in names.get_values_for_type(x509.IPAddress)
    later = now + datetime.timedelta(days=VALID_DAYS - RENEW_BEFORE_DAYS - 1)
    assert self_signed(path, ["class.example"], later).read_bytes() == first
    later += datetime.timedelta(days=2)
    assert self_signed(path, ["class.example"], later).read_bytes() != first


def test_a_certificate_is_made_anew_for_a_new_name(tmp_path: Path) -> None:
    path = tmp_path / "tls.pem"
    first = self_signed(path).read_bytes()
    assert self_signed(path).read_bytes() == first
    assert self_signed(path, ["class.example"]).read_bytes() != first
