from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import signal
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clients import load
from clients.light.crowd import Totals
from clients.light.measure import GeneratorMeter, ServerSample, parse_metrics, server_cost
from clients.light.report import Run, build, table
from clients.light.tally import Tally
from clients.words import CommandError
from tests.clients.small_server import SmallServer

ROOT = Path(__file__).resolve().parents[2]
URL = "http://127.0.0.1:8080/whep/l_1/camera"


def arguments(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    load.add_arguments(parser)
    return parser.parse_args(words)


# --- what it refuses -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "origin",
    [
        "https://school.example",
        "http://192.168.1.5:8080",
        "http://127.0.0.1.nip.example",
        "http://localhost.example",
        "http://127.0.0.1@school.example",
        "http://[2001:db8::1]:8080",
        "http://0.0.0.0:8080",
    ],
)
def test_a_server_that_is_not_this_machine_needs_a_word(origin: str) -> None:
    url = f"{origin}/whep/l/camera"
    with pytest.raises(CommandError) as caught:
        load.check(arguments(url, "--token", "t"))
    assert (caught.value.exit_code, caught.value.kind) == (2, "not-loopback")
    assert "--i-own-this-server" in str(caught.value)
    load.check(arguments(url, "--token", "t", "--i-own-this-server"))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "localhost", "[::1]"])
def test_loopback_needs_no_word(host: str) -> None:
    load.check(arguments(f"https://{host}:8443/whep/l/camera", "--token", "t"))


@pytest.mark.parametrize(
    "words",
    [
        ("ftp://127.0.0.1/whep/l/camera",),
        ("http://127.0.0.1/whip/l/camera",),
        ("http://127.0.0.1/whep/l",),
        (URL, "--receivers", "0"),
        (URL, "--receivers", "1000000"),
        (URL, "--ramp", "-1"),
        (URL, "--seconds", "nan"),
        (URL, "--sample", "1.5"),
    ],
)
def test_nonsense_is_a_usage_error(words: tuple[str, ...]) -> None:
    with pytest.raises(CommandError) as caught:
        load.check(arguments(*words))
    assert caught.value.exit_code == 2


def test_more_receivers_than_the_system_has_descriptors_for_is_said_before_the_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, 1024))
    with pytest.raises(CommandError) as caught:
        load.check(arguments(URL, "--receivers", "5000"))
    assert "ulimit" in str(caught.value)


def test_a_missing_token_is_a_usage_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TONGKE_TOKEN", raising=False)
    with pytest.raises(CommandError) as caught:
        load.run(arguments(URL))
    assert caught.value.kind == "no-token"


# --- what the server costs -----------------------------------------------------------------------


def test_metrics_are_summed_over_their_labels() -> None:
    text = "\n".join(
        [
            "# HELP tongke_worker_cpu_seconds_total CPU time",
            "# TYPE tongke_worker_cpu_seconds_total counter",
            'tongke_worker_cpu_seconds_total{worker="0"} 1.5',
            'tongke_worker_cpu_seconds_total{worker="1"} 2.5 1700000000000',
            'odd{name="a } \\" b"} 1e3',
            "process_cpu_seconds_total 0.25",
            "broken{ 3",
            "not_a_number NaN",
        ]
    )
    assert parse_metrics(text) == {
        "tongke_worker_cpu_seconds_total": 4.0,
        "odd": 1000.0,
        "process_cpu_seconds_total": 0.25,
    }


@given(st.text())
def test_any_text_can_be_read_for_metrics(text: str) -> None:
    parse_metrics(text)


def sample(at: float, worker: float, control: float | None, forwarded: float) -> ServerSample:
    return ServerSample(at, worker, control, forwarded, None)


def test_the_cost_of_a_packet_counts_all_processes() -> None:
    cost = server_cost(sample(0, 1.0, 0.5, 1000), sample(10, 3.0, 1.0, 1_001_000))
    assert cost is not None
    assert cost["cpu_us_per_packet"] == pytest.approx(2.5)
    assert cost["worker_cpu_us_per_packet"] == pytest.approx(2.0)
    assert cost["cpu_percent"] == pytest.approx(25.0)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (None, sample(1, 1, 1, 1)),
        (sample(0, 5.0, 1, 100), sample(1, 0.1, 2, 200)),
        (sample(0, 1.0, 1, 100), sample(1, 1.1, 2, 100)),
    ],
)
def test_a_restarted_or_idle_server_has_no_cost(
    before: ServerSample | None, after: ServerSample | None
) -> None:
    assert server_cost(before, after) is None


def test_metrics_of_something_else_are_no_sample() -> None:
    assert ServerSample.of({"process_cpu_seconds_total": 1.0}, 0.0) is None


# --- what it reports -----------------------------------------------------------------------------


def finished(**changes: object) -> Run:
    tally = Tally()
    tally.join_s += [0.1, 0.2, 0.3]
    run = Run(URL, 3, tally, GeneratorMeter())
    run.steady_s = 10.0
    run.after_join = Totals(connected=3, joined=3, received=1000)
    run.after_steady = Totals(connected=3, joined=3, received=9700, octets=3_000_000)
    run.end = Totals(connected=3, joined=3, received=9900, recovered=50, lost=50, lost_raw=100)
    for name, value in changes.items():
        setattr(run, name, value)
    return run


def test_loss_is_given_before_and_after_recovery() -> None:
    result = json.loads(json.dumps(build(finished())))
    assert result["packets"]["lost_percent"] == 0.5
    assert result["packets"]["lost_raw_percent"] == 1.0
    assert result["packets"]["per_second"] == 870
    assert result["kbps_per_receiver"] == 800.0
    assert result["join_s"] == {"p50": 0.2, "p95": 0.3, "p99": 0.3, "max": 0.3}
    assert result["delay_ms"] is None
    assert result["server"] is None
    assert result["ok"]


def test_a_receiver_short_or_silent_means_that_the_work_failed() -> None:
    assert not build(finished(asked=4))["ok"]
    assert not build(finished(silent=1))["ok"]
    assert not build(finished(end=Totals(connected=3, joined=3, ended_early=1)))["ok"]


def test_a_saturated_generator_says_so_instead_of_pretending(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LC_ALL", "C")
    run = finished()
    run.meter.window_percent = 96.0
    result = build(run)
    assert result["generator"]["saturated_by"] == ["cpu"]  # type: ignore[index]
    assert "its own, not the server's" in table(result)
    run.meter.window_percent = 30.0
    result = build(run)
    assert "its own, not the server's" not in table(result)
    assert "its own ceiling is about 9 receivers" in table(result)


def test_overflowed_receive_buffers_are_saturation_too() -> None:
    run = finished(end=Totals(connected=3, joined=3, received=10, overflows=7))
    assert run.saturation() == ["receive-buffers"]


def test_the_table_speaks_chinese_where_the_terminal_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "zh_CN.UTF-8")
    text = table(build(finished()))
    assert "接收端" in text
    assert "receivers" not in text


# --- the whole command ---------------------------------------------------------------------------


async def start(server: SmallServer, words: str) -> asyncio.subprocess.Process:
    url = f"{server.origin}/whep/l/camera"
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "clients", "load", url, "--token", "t", "--json", *words.split()),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=ROOT,
        env={**os.environ, "LC_ALL": "C"},
    )


async def test_a_run_ends_with_one_json_object_and_no_session_left() -> None:
    async with SmallServer() as server:
        process = await start(
            server, "--publish --receivers 4 --ramp 0.2 --seconds 1.5 --sample 0.1"
        )
        output, progress = await asyncio.wait_for(process.communicate(), 40)
        result = json.loads(output)
        assert process.returncode == 0, progress.decode()
        assert result["receivers"]["joined"] == 4
        assert result["receivers"]["not_deleted"] == 0
        assert result["packets"]["lost"] == 0
        assert result["delay_ms"]["video"]["samples"] > 0
        assert result["server"]["cpu_us_per_packet"] > 0
        assert result["server"]["rss_kib_per_receiver"] is not None
        assert result["publisher"]["ended_early"] is None
        assert b"joined 4/4" in progress
        assert sorted(server.deleted) == sorted(server.opened)
        assert not server.worker.sessions


async def test_an_interrupted_run_still_reports_and_leaves() -> None:
    async with SmallServer() as server:
        process = await start(server, "--publish --receivers 3 --ramp 0 --seconds 600")
        async with asyncio.timeout(30):
            while len(server.connected) < 3:  # noqa: ASYNC110 - a state of another process
                await asyncio.sleep(0.05)
            await asyncio.sleep(1.5)
        process.send_signal(signal.SIGINT)
        output, progress = await asyncio.wait_for(process.communicate(), 20)
        result = json.loads(output)
        assert process.returncode == 0, progress.decode()
        assert result["interrupted"]
        assert result["steady_s"] < 100
        assert not server.worker.sessions


async def test_a_full_stream_is_reported_with_its_reason_and_exit_code_1() -> None:
    async with SmallServer(cap=1) as server:
        process = await start(server, "--publish --receivers 3 --ramp 0.2 --seconds 0.5")
        output, _ = await asyncio.wait_for(process.communicate(), 40)
        result = json.loads(output)
        assert process.returncode == 1
        assert not result["ok"]
        assert result["receivers"]["joined"] == 1
        assert result["receivers"]["reasons"] == {"http-503 receiver-cap-reached": 2}
