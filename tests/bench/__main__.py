"""`make bench`: runs the measurements, prints their tables and writes bench-results/*.json."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from . import bench_mixer, climit, machine, parts, relay
from .house import finish, open_house

RESULTS = Path("bench-results")
DEFAULT_RECEIVERS = (30, 100, 300)


def _table(title: str, head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    cells = [[str(cell) for cell in row] for row in [head, *rows]]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    print(f"\n{title}")
    for row in cells:
        print("  " + "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)))


def _limit() -> float | None:
    reason = climit.build()
    if reason is not None:
        print(f"  no C limit to compare with: {reason}")
        return None
    return min(climit.us_per_packet(300) for _ in range(3))


def bench_parts() -> dict[str, object]:
    """The steps of the hot loop, and the loop against the C limit."""
    limit = _limit()
    rows = parts.rows()
    _table(
        "One forwarded packet, CPU µs (1,134 bytes before sealing)",
        ("step", "µs", "× C limit"),
        [
            (name, f"{us:.2f}", f"{us / limit:.2f}" if limit and "loop" in name else "")
            for name, us in rows.items()
        ]
        + ([("C limit, 300 receivers", f"{limit:.2f}", "1.00")] if limit else []),
    )
    return {"us": rows, "c_limit_us": limit}


def bench_relay() -> dict[str, object]:
    """aiortc's MediaRelay, for comparison."""
    cost = relay.us_per_packet()
    print(f"\naiortc MediaRelay, {relay.RECEIVERS} receivers: {cost:.0f} µs per packet")
    return {"us": cost, "receivers": relay.RECEIVERS}


def _get(value: object, *names: str) -> object:
    for name in names:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _number(value: object, digits: int = 2) -> str:
    return f"{value:.{digits}f}" if isinstance(value, int | float) else "-"


def bench_lesson(
    receivers: Sequence[int], seconds: float, ramp_s: float, *, workers: int = 1, gro: bool = True
) -> list[dict[str, object]]:
    """The reference lesson through the real server; a fresh server for each number."""
    limit = _limit()
    results = []
    rows = []
    for count in receivers:
        with open_house(workers, pin=workers == 1) as house:
            result = house.load(count, ramp_s=ramp_s, seconds=seconds, gro=gro)
        result["receivers_asked"] = count
        result["c_limit_us"] = limit
        results.append(result)
        cost = _get(result, "server", "cpu_us_per_packet")
        saturated = _get(result, "generator", "saturated_by")
        rows.append(
            (
                count,
                _get(result, "receivers", "joined"),
                _number(cost),
                _number(cost / limit) if limit and isinstance(cost, int | float) else "-",
                _number(_get(result, "delay_ms", "video", "p50")),
                _number(_get(result, "delay_ms", "video", "p99")),
                _number(_get(result, "delay_ms", "audio", "p50")),
                _number(_get(result, "delay_ms", "audio", "p99")),
                _number(_get(result, "packets", "lost_percent_steady"), 3),
                _number(_get(result, "server", "rss_kib_per_receiver"), 0),
                _number(_get(result, "join_s", "p99")),
                _number(_get(result, "generator", "cpu_percent"), 0),
                ",".join(saturated) if isinstance(saturated, list) else "",
            )
        )
    _table(
        f"Reference lesson, {workers} worker(s), {seconds:.0f} s steady, joined over {ramp_s:.0f} s"
        + ("" if gro else ", generator without GRO"),
        (
            "receivers",
            "joined",
            "µs/packet",
            "× limit",
            "video p50 ms",
            "p99",
            "audio p50 ms",
            "p99",
            "lost %",
            "KiB/recv",
            "join p99 s",
            "gen CPU %",
            "generator limit",
        ),
        rows,
    )
    return results


def bench_storm(receivers: int, ramp_s: float) -> dict[str, object]:
    """The bell rings: many join at once while thirty receive; what do the thirty notice?"""
    with open_house() as house:
        calm = house.load(30, ramp_s=1, seconds=15)
        base = house.start_load(30, ramp_s=1, seconds=ramp_s + 20)
        time.sleep(8)
        crowd = finish(
            house.start_load(receivers, ramp_s=ramp_s, seconds=5, publish=False), ramp_s + 5
        )
        stormy = finish(base, ramp_s + 20)
    _table(
        f"{receivers} join within {ramp_s:.0f} s while 30 receive",
        ("", "joined", "join p50 s", "p99", "video p50 ms", "p99", "lost %", "key-frame spacing s"),
        [
            (
                name,
                _get(result, "receivers", "joined"),
                _number(_get(result, "join_s", "p50")),
                _number(_get(result, "join_s", "p99")),
                _number(_get(result, "delay_ms", "video", "p50")),
                _number(_get(result, "delay_ms", "video", "p99")),
                _number(_get(result, "packets", "lost_percent_steady"), 3),
                _number(_get(result, "publisher", "least_request_spacing_s"), 3),
            )
            for name, result in (
                ("the thirty, alone", calm),
                ("the thirty, during", stormy),
                ("the crowd", crowd),
            )
        ],
    )
    return {"calm": calm, "during": stormy, "crowd": crowd}


def bench_soak(minutes: float) -> dict[str, object]:
    """Joins and leaves for minutes on end: does the worker's memory settle?"""
    samples: list[tuple[float, float]] = []
    with open_house() as house:
        start = time.monotonic()
        samples.append((0.0, house.resident_mib()))
        while time.monotonic() - start < minutes * 60:
            house.load(100, ramp_s=5, seconds=15)
            samples.append((time.monotonic() - start, house.resident_mib()))
    _table(
        f"A hundred receivers come and go for {minutes:.0f} min",
        ("s", "workers MiB"),
        [(f"{at:.0f}", f"{mib:.1f}") for at, mib in samples],
    )
    return {"samples": samples}


def bench_the_mixer() -> object:
    """Wall, stage and mixes, against FFmpeg graphs on the same inputs."""
    rows = bench_mixer.rows()
    print("\nMixer, CPU of one core")
    for row in rows:
        figures = "  ".join(f"{key} {value}" for key, value in row.items() if key != "what")
        print(f"  {row['what']:56} {figures}")
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("what", nargs="*", default=["parts", "relay", "lesson", "storm"])
    parser.add_argument("--receivers", type=int, nargs="+", default=list(DEFAULT_RECEIVERS))
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--ramp", type=float, default=5.0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--no-gro", action="store_true")
    parser.add_argument("--minutes", type=float, default=10.0, help="of soak")
    arguments = parser.parse_args()
    benches: dict[str, Callable[[], object]] = {
        "parts": bench_parts,
        "relay": bench_relay,
        "lesson": lambda: bench_lesson(
            arguments.receivers,
            arguments.seconds,
            arguments.ramp,
            workers=arguments.workers,
            gro=not arguments.no_gro,
        ),
        "storm": lambda: bench_storm(max(arguments.receivers), arguments.ramp),
        "soak": lambda: bench_soak(arguments.minutes),
        "mixer": bench_the_mixer,
    }
    unknown = [name for name in arguments.what if name not in benches]
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}; choose from {', '.join(benches)}")
    print(json.dumps(machine.describe()))
    if not machine.can_pin():
        print("this machine has one core: server and generator share it, so no cost is printed")
        return 1
    if not machine.quiet():
        print(f"NOTE: load average {os.getloadavg()[0]:.1f} before the start: figures will be high")
    results: dict[str, object] = {"machine": machine.describe()}
    for name in arguments.what:
        results[name] = benches[name]()
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{time.strftime('%Y%m%d-%H%M%S')}.json"
    path.write_text(json.dumps(results, indent=1))
    print(f"\nwritten: {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
