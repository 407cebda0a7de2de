"""Prometheus metrics: the lessons' from here, the media's from the workers, added up.

Counters include the earlier lives of a worker, so they never go down at its restart.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from signaling.desk import Desk
from signaling.events import Hub
from signaling.lessons import LessonRegistry
from signaling.supervisor import Supervisor, Worker, merge
from streamer.control import Histogram

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

# Shown until a worker has told its own bounds, so that the metric exists from the start.
_NO_DELAYS = Histogram(bounds=[0.001, 0.01, 0.1], counts=[0, 0, 0, 0], sum=0.0)


class Metrics(Collector):
    """Collects when asked. Ask the workers for fresh statistics before."""

    def __init__(
        self, registry: LessonRegistry, desk: Desk, hub: Hub, supervisor: Supervisor
    ) -> None:
        self._lessons = registry
        self._desk = desk
        self._hub = hub
        self._supervisor = supervisor
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        ProcessCollector(registry=self._registry)  # CPU and memory of the control process itself

    def add(self, collector: Collector) -> None:
        """Collect from another part of the server as well."""
        self._registry.register(collector)

    async def text(self) -> bytes:
        """The whole exposition, the workers asked."""
        await self._supervisor.refresh_stats(sessions=False)
        return generate_latest(self._registry)

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        yield from self._streams()
        yield from self._control()
        yield from self._per_worker()
        yield from self._totals()
        yield from self._histograms()

    def _streams(self) -> Iterator[Metric]:
        labels = ["lesson", "stream"]
        receivers = GaugeMetricFamily(
            "tongke_receivers", "Places of an output stream taken by receivers", labels=labels
        )
        cap = GaugeMetricFamily(
            "tongke_receiver_cap", "Receivers an output stream admits at most", labels=labels
        )
        waiting = GaugeMetricFamily(
            "tongke_waiting", "Receivers in the waiting list of an output stream", labels=labels
        )
        live = GaugeMetricFamily(
            "tongke_stream_live", "1 while media arrives for an output stream", labels=labels
        )
        for lesson in self._lessons.running():
            for name, stream in lesson.streams.items():
                key = [lesson.id, name]
                receivers.add_metric(key, stream.admission.receivers)
                cap.add_metric(key, stream.admission.cap)
                waiting.add_metric(key, stream.admission.waiting)
                live.add_metric(key, float(stream.live))
        yield from (receivers, cap, waiting, live)

    def _control(self) -> Iterator[Metric]:
        yield GaugeMetricFamily(
            "tongke_lessons", "Lessons that have not ended", value=len(self._lessons.running())
        )
        yield GaugeMetricFamily("tongke_pages", "Pages with an open socket", value=len(self._hub))
        sessions = GaugeMetricFamily("tongke_sessions", "Media sessions", labels=["kind"])
        kinds = [session.kind for session in self._desk.sessions]
        for kind in ("publisher", "receiver"):
            sessions.add_metric([kind], kinds.count(kind))
        yield sessions
        refused = CounterMetricFamily(
            "tongke_admission_refused", "Media sessions refused, by reason", labels=["reason"]
        )
        for reason, count in sorted(self._desk.refused.items()):
            refused.add_metric([reason], count)
        yield refused

    def _per_worker(self) -> Iterator[Metric]:
        workers = self._supervisor.workers
        for name, text, counter in (
            ("tongke_rtp_packets_received", "RTP packets from publishers", "rtp_packets_received"),
            ("tongke_rtp_packets_forwarded", "RTP packets to receivers", "rtp_packets_forwarded"),
            ("tongke_rtp_bytes_forwarded", "RTP bytes to receivers", "rtp_bytes_forwarded"),
        ):
            family = CounterMetricFamily(name, text, labels=["worker"])
            for worker in workers:
                family.add_metric([str(worker.index)], _total(worker, counter))
            yield family
        cpu = CounterMetricFamily(
            "tongke_worker_cpu_seconds", "CPU time used, in seconds", labels=["worker"]
        )
        restarts = CounterMetricFamily(
            "tongke_worker_restarts", "Times the worker had to be restarted", labels=["worker"]
        )
        memory = GaugeMetricFamily(
            "tongke_worker_resident_bytes", "Resident memory", labels=["worker"]
        )
        ready = GaugeMetricFamily("tongke_worker_ready", "1 while it serves", labels=["worker"])
        for worker in workers:
            key = [str(worker.index)]
            stats = worker.stats
            cpu.add_metric(key, worker.past.cpu_seconds + (stats.cpu_seconds if stats else 0.0))
            restarts.add_metric(key, worker.restarts)
            memory.add_metric(key, stats.rss_bytes if stats else 0)
            ready.add_metric(key, float(worker.ready.is_set()))
        yield from (cpu, restarts, memory, ready)

    def _totals(self) -> Iterator[Metric]:
        workers = self._supervisor.workers
        for name, text, counters in (
            ("tongke_nacks", "NACKs, ours and receivers'", ("nacks_received", "nacks_sent")),
            ("tongke_retransmissions", "Packets sent again on request", ("retransmissions",)),
            (
                "tongke_keyframe_requests",
                "Key frames asked of publishers",
                ("keyframe_requests",),
            ),
            ("tongke_send_errors", "Datagrams that the system refused to send", ("send_errors",)),
            (
                "tongke_send_would_block",
                "Sends that found a socket's buffer full",
                ("send_would_block",),
            ),
        ):
            value = sum(_total(worker, counter) for worker in workers for counter in counters)
            yield CounterMetricFamily(name, text, value=value)
        drops = CounterMetricFamily(
            "tongke_dropped", "Packets and datagrams dropped, by reason", labels=["reason"]
        )
        totals: dict[str, int] = {}
        for worker in workers:
            now = worker.stats.counters.drops if worker.stats is not None else {}
            for lives in (worker.past.drops, now):
                for reason, count in lives.items():
                    totals[reason] = totals.get(reason, 0) + count
        for reason, count in sorted(totals.items()):
            drops.add_metric([reason], count)
        yield drops

    def _histograms(self) -> Iterator[Metric]:
        yield _histogram(
            "tongke_join_seconds",
            "From a receiver's request to its first complete key frame sent, in seconds",
            self._desk.join_times.histogram,
        )
        delays: list[Histogram] = []
        for worker in self._supervisor.workers:
            delays += worker.past.delays
            if worker.stats is not None:
                delays.append(worker.stats.forward_delay_s)
        yield _histogram(
            "tongke_forward_delay_seconds",
            "From a packet's arrival to its copies being handed to the system, in seconds",
            merge(delays) if delays else _NO_DELAYS,
        )


def _total(worker: Worker, counter: str) -> int:
    now = getattr(worker.stats.counters, counter) if worker.stats is not None else 0
    return worker.past.counters.get(counter, 0) + int(now)


def _histogram(name: str, text: str, histogram: Histogram) -> HistogramMetricFamily:
    return HistogramMetricFamily(
        name, text, buckets=_cumulative(histogram), sum_value=histogram.sum
    )


def _cumulative(histogram: Histogram) -> Sequence[tuple[str, float]]:
    """Prometheus counts what is at most the bound, all smaller buckets included."""
    buckets: list[tuple[str, float]] = []
    total = 0
    for number, count in enumerate(histogram.counts):
        total += count
        last = number >= len(histogram.bounds)
        buckets.append(("+Inf" if last else repr(float(histogram.bounds[number])), total))
    return buckets
