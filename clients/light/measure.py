"""What a run costs: the server by its own metrics, the generator by the operating system's."""

from __future__ import annotations

import math
import re
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from time import monotonic
from urllib.parse import urlsplit

import aiohttp

from .endpoint import Shared

METRICS_TIMEOUT_S = 5.0
SATURATED_PERCENT = 90.0
# NAME{labels} VALUE [TIMESTAMP]; label values may hold anything but an unescaped quote.
_SERIES = re.compile(r'([A-Za-z_:][\w:]*)(?:\{(?:[^"}]|"(?:[^"\\]|\\.)*")*\})?\s+(\S+)(?:\s+\d+)?')


def parse_metrics(text: str) -> dict[str, float]:
    """The sum of each metric over all its labels (Prometheus text format 0.0.4)."""
    totals: dict[str, float] = defaultdict(float)
    for line in text.splitlines():
        found = _SERIES.fullmatch(line.strip())
        if found is None:
            continue  # comments, blanks and what we cannot read
        try:
            value = float(found.group(2))
        except ValueError:
            continue
        if math.isfinite(value):
            totals[found.group(1)] += value
    return dict(totals)


@dataclass(frozen=True, slots=True)
class ServerSample:
    """The server's counters at one moment; `workers_rss_bytes` is None where it does not tell."""

    at: float
    worker_cpu_s: float
    control_cpu_s: float | None
    forwarded: float
    workers_rss_bytes: float | None

    @classmethod
    def of(cls, metrics: Mapping[str, float], at: float) -> ServerSample | None:
        """None when the metrics are not those of a Tongke server."""
        worker_cpu_s = metrics.get("tongke_worker_cpu_seconds_total")
        forwarded = metrics.get("tongke_rtp_packets_forwarded_total")
        if worker_cpu_s is None or forwarded is None:
            return None
        rss = next(
            (
                value
                for name, value in metrics.items()
                if name.startswith("tongke_worker_") and ("rss" in name or "resident" in name)
            ),
            None,
        )
        return cls(at, worker_cpu_s, metrics.get("process_cpu_seconds_total"), forwarded, rss)


async def sample_server(shared: Shared, url: str, token: str) -> ServerSample | None:
    """Read `/metrics` beside the given address; None where there are none for us."""
    parts = urlsplit(url)
    try:
        async with shared.http.get(
            f"{parts.scheme}://{parts.netloc}/metrics",
            headers={"Authorization": f"Bearer {token}"},
            timeout=aiohttp.ClientTimeout(total=METRICS_TIMEOUT_S),
            allow_redirects=False,
        ) as response:
            if response.status != 200:
                return None
            body = await response.text(errors="replace")
    except (aiohttp.ClientError, TimeoutError, OSError):
        return None
    return ServerSample.of(parse_metrics(body), monotonic())


def server_cost(
    before: ServerSample | None, after: ServerSample | None
) -> dict[str, float | None] | None:
    """CPU of all server processes over packets forwarded in between; None when it is not known.

    A server that was restarted in between (counters went back) has no cost either.
    """
    if before is None or after is None:
        return None
    packets = after.forwarded - before.forwarded
    worker_s = after.worker_cpu_s - before.worker_cpu_s
    control_s: float | None = None
    if before.control_cpu_s is not None and after.control_cpu_s is not None:
        control_s = after.control_cpu_s - before.control_cpu_s
    if packets <= 0 or worker_s < 0 or (control_s is not None and control_s < 0):
        return None
    window_s = after.at - before.at
    total_s = worker_s + (control_s or 0.0)
    return {
        "cpu_us_per_packet": round(total_s / packets * 1e6, 3),
        "worker_cpu_us_per_packet": round(worker_s / packets * 1e6, 3),
        "cpu_percent": round(total_s / window_s * 100, 1),
        "control_cpu_percent": None if control_s is None else round(control_s / window_s * 100, 1),
        "packets_forwarded": packets,
        "window_s": round(window_s, 2),
    }


class GeneratorMeter:
    """Which part of its one core this process uses, between calls of `lap` and over a window."""

    def __init__(self) -> None:
        self.window_percent = 0.0
        self.peak_percent = 0.0
        self._lap = self._window = (monotonic(), time.process_time())

    def lap(self) -> float:
        """Percent since the last lap."""
        percent, self._lap = _percent_since(self._lap)
        self.peak_percent = max(self.peak_percent, percent)
        return percent

    def begin_window(self) -> None:
        self._window = (monotonic(), time.process_time())

    def end_window(self) -> None:
        self.window_percent, _ = _percent_since(self._window)


def _percent_since(then: tuple[float, float]) -> tuple[float, tuple[float, float]]:
    now = (monotonic(), time.process_time())
    elapsed_s = now[0] - then[0]
    return (100 * (now[1] - then[1]) / elapsed_s if elapsed_s > 0 else 0.0), now
