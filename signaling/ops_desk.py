"""What operations see: samples of all sessions and workers, the overview, and the alarms.

Fed every few seconds with what the workers said last and between that with the pages' own reports.
No clock and no I/O: `now` is monotonic seconds, `wall_s` seconds since 1970.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from signaling.alarms import Alarms, LogEntry, Reading
from signaling.config_model import Config
from signaling.desk import Desk
from signaling.lessons import Lesson, LessonRegistry
from signaling.sessions import MediaSession
from signaling.sockets import QualityReport
from signaling.supervisor import Supervisor, Worker
from signaling.timeseries import SeriesBook
from streamer.control import SessionStats

SESSION_FIELDS: Final = (
    "loss_percent",
    "rtt_ms",
    "jitter_ms",
    "layer",
    "freezes",
    "remb_kbps",
    "kbps",
    "fps",
)
LESSON_FIELDS: Final = ("receivers", "waiting", "loss_percent", "freezes", "kbps")
WORKER_FIELDS: Final = ("cpu_percent", "uplink_mbps", "packets_per_s", "sessions")

RESTARTS_WITHIN_S: Final = 600.0
FREEZES_WITHIN_S: Final = 60.0
# In the overview; the list of seats has the whole name.
NAME_CHARS: Final = 16


@dataclass(slots=True)
class _Seen:
    """What is known of one session between two samples."""

    bytes: int | None = None
    at: float = 0.0
    kbps: float | None = None
    loss_percent: float | None = None
    rtt_ms: float | None = None
    jitter_ms: float | None = None
    layer: int | None = None
    fps: float | None = None
    freezes: deque[tuple[float, int]] = field(default_factory=deque)

    def freezes_since(self, since: float) -> int:
        while self.freezes and self.freezes[0][0] < since:
            self.freezes.popleft()
        return sum(count for _, count in self.freezes)


@dataclass(slots=True)
class _Load:
    """What a worker did between two samples."""

    at: float = 0.0
    pid: int | None = None
    cpu_s: float = 0.0
    bytes: int = 0
    packets: int = 0
    cpu_percent: float | None = None
    kbps: float | None = None
    packets_per_s: float | None = None
    restarts: int = 0
    restarted_at: deque[float] = field(default_factory=lambda: deque(maxlen=1000))


class OpsDesk:
    """Samples, remembers, judges, and describes it all in one document."""

    def __init__(
        self,
        config: Callable[[], Config],
        registry: LessonRegistry,
        desk: Desk,
        supervisor: Supervisor,
    ) -> None:
        self.series = SeriesBook()
        self.alarms = Alarms()
        self._config = config
        self._registry = registry
        self._desk = desk
        self._supervisor = supervisor
        self._seen: dict[str, _Seen] = {}
        self._loads = {worker.index: _Load() for worker in supervisor.workers}
        self._was_live: dict[str, float] = {}  # LESSON/STREAM → when media last came
        self._free_mb: float | None = None

    # --- what comes in -------------------------------------------------------------------------

    def reported(self, session_id: str, report: QualityReport, now: float) -> None:
        """A page told how well it receives: it counts the freezes, which no worker can see."""
        seen = self._seen.setdefault(session_id, _Seen())
        seen.fps = report.fps
        if report.freezes:
            seen.freezes.append((now, report.freezes))

    def sample(self, now: float, wall_s: float, free_mb: float | None) -> list[LogEntry]:
        """Take what the workers said last. Answers the alarms that were raised or cleared."""
        self._free_mb = free_mb
        by_id: dict[str, SessionStats] = {}
        for worker in self._supervisor.workers:
            self._sample_worker(worker, now)
            if worker.stats is not None:
                by_id |= {stats.session_id: stats for stats in worker.stats.sessions}
        for session in self._desk.sessions:
            stats = by_id.get(session.id)
            if session.kind == "receiver" and stats is not None:
                self._sample_session(session.id, stats, now)
        for lesson, receivers in self._by_lesson():
            self._sample_lesson(lesson, receivers, now)
        alive = {session.id for session in self._desk.sessions}
        self._seen = {key: seen for key, seen in self._seen.items() if key in alive}
        self.series.forget_gone(now, alive.__contains__)
        hold_s = self._config().alarms.hold_s
        return self.alarms.judge(self._readings(now), now, wall_s, hold_s)

    def _sample_worker(self, worker: Worker, now: float) -> None:
        load = self._loads[worker.index]
        if worker.restarts > load.restarts:
            load.restarted_at.extend([now] * (worker.restarts - load.restarts))
        load.restarts = worker.restarts
        stats = worker.stats
        pid = worker.process.pid if worker.process is not None else None
        if stats is None:
            load.cpu_percent = load.kbps = load.packets_per_s = None
            load.pid = None
            return
        sent, packets = stats.counters.rtp_bytes_forwarded, stats.counters.rtp_packets_forwarded
        elapsed_s = now - load.at
        if load.pid == pid and elapsed_s > 0:
            load.cpu_percent = max(0.0, (stats.cpu_seconds - load.cpu_s) / elapsed_s * 100)
            load.kbps = max(0.0, (sent - load.bytes) * 8 / 1000 / elapsed_s)
            load.packets_per_s = max(0.0, (packets - load.packets) / elapsed_s)
        load.pid, load.at = pid, now
        load.cpu_s, load.bytes, load.packets = stats.cpu_seconds, sent, packets
        self.series.put(
            f"worker:{worker.index}",
            WORKER_FIELDS,
            now,
            {
                "cpu_percent": load.cpu_percent,
                "uplink_mbps": None if load.kbps is None else load.kbps / 1000,
                "packets_per_s": load.packets_per_s,
                "sessions": sum(s.worker == worker.index for s in self._desk.sessions),
            },
        )

    def _sample_session(self, session_id: str, stats: SessionStats, now: float) -> None:
        seen = self._seen.setdefault(session_id, _Seen())
        total = sum(track.bytes for track in stats.tracks)
        if seen.bytes is not None and now > seen.at:
            seen.kbps = max(0.0, (total - seen.bytes) * 8 / 1000 / (now - seen.at))
        seen.bytes, seen.at = total, now
        video = [track for track in stats.tracks if track.kind == "video"]
        tracks = video or stats.tracks
        seen.loss_percent = max((track.fraction_lost * 100 for track in tracks), default=None)
        seen.jitter_ms = max((track.jitter_ms for track in tracks), default=None)
        seen.layer = video[0].layer if video else None
        seen.rtt_ms = stats.rtt_ms
        self.series.put(
            session_id,
            SESSION_FIELDS,
            now,
            {
                "loss_percent": seen.loss_percent,
                "rtt_ms": seen.rtt_ms,
                "jitter_ms": seen.jitter_ms,
                "layer": seen.layer,
                "freezes": seen.freezes_since(now - FREEZES_WITHIN_S),
                "remb_kbps": stats.remb_kbps,
                "kbps": seen.kbps,
                "fps": seen.fps,
            },
        )

    def _sample_lesson(self, lesson: Lesson, receivers: list[MediaSession], now: float) -> None:
        figures = self._figures(receivers, now)
        waiting = sum(stream.admission.waiting for stream in lesson.streams.values())
        values: dict[str, float | None] = {"receivers": len(receivers), "waiting": waiting}
        self.series.put(f"lesson:{lesson.id}", LESSON_FIELDS, now, figures | values)
        for name, stream in lesson.streams.items():
            if stream.live:
                self._was_live[f"{lesson.id}/{name}"] = now

    # --- what is said about it -----------------------------------------------------------------

    def overview(self, now: float) -> dict[str, object]:
        """Everything at a glance, short enough to be fetched every two seconds."""
        config = self._config()
        loads = list(self._loads.values())
        return {
            "server": {
                "refusing_lessons": self._desk.refusing_lessons,
                "uplink_kbps": _rounded(sum(load.kbps or 0.0 for load in loads)),
                "uplink_limit_kbps": config.planner.node_uplink_kbps,
                "target_cpu_percent": config.planner.target_cpu_percent,
                "disk_free_mb": _rounded(self._free_mb),
            },
            "workers": [self._worker_document(worker) for worker in self._supervisor.workers],
            "lessons": [
                self._lesson_document(lesson, receivers, now)
                for lesson, receivers in self._by_lesson()
            ],
            "alarms": self.alarms.standing(),
        }

    def _worker_document(self, worker: Worker) -> dict[str, object]:
        load = self._loads[worker.index]
        return {
            "worker": worker.index,
            "ready": worker.ready.is_set(),
            "drained": worker.index in self._desk.drained,
            "restarts": worker.restarts,
            "sessions": sum(s.worker == worker.index for s in self._desk.sessions),
            "cpu_percent": _rounded(load.cpu_percent),
            "kbps": _rounded(load.kbps),
            "packets_per_s": _rounded(load.packets_per_s),
            "rss_bytes": worker.stats.rss_bytes if worker.stats is not None else None,
        }

    def _lesson_document(
        self, lesson: Lesson, receivers: list[MediaSession], now: float
    ) -> dict[str, object]:
        figures = self._figures(receivers, now)
        return {
            "id": lesson.id,
            "title": lesson.title,
            "mode": lesson.mode,
            "state": lesson.state,
            "join_code": lesson.join_code,
            "streams": {
                name: {
                    "cap": stream.admission.cap,
                    "receivers": stream.admission.receivers,
                    "waiting": stream.admission.waiting,
                    "live": stream.live,
                }
                for name, stream in lesson.streams.items()
            },
            "loss_percent": _rounded(figures["loss_percent"]),
            "freezes": figures["freezes"],
            "kbps": _rounded(figures["kbps"]),
            "receivers": [self._receiver(session, now) for session in receivers],
        }

    def _receiver(self, session: MediaSession, now: float) -> list[object]:
        """A row rather than an object: the names of its members would be most of the document.

        Session, seat, name, stream, state, loss (%), round trip (ms), layer, freezes in the last
        minute, kbit/s.
        """
        seen = self._seen.get(session.id, _Seen())
        seat = session.seat
        return [
            session.id,
            seat.id if seat is not None else None,
            seat.name[:NAME_CHARS] if seat is not None else "",
            session.stream.name,
            session.state,
            _rounded(seen.loss_percent),
            _rounded(seen.rtt_ms),
            seen.layer,
            seen.freezes_since(now - FREEZES_WITHIN_S),
            None if seen.kbps is None else round(seen.kbps),
        ]

    # --- inside --------------------------------------------------------------------------------

    def _by_lesson(self) -> list[tuple[Lesson, list[MediaSession]]]:
        """Running lessons, each with the receivers of its public streams."""
        found: dict[str, list[MediaSession]] = {x.id: [] for x in self._registry.running()}
        for session in self._desk.sessions:
            if session.kind == "receiver" and session.lesson.id in found:
                found[session.lesson.id].append(session)
        return [(lesson, found[lesson.id]) for lesson in self._registry.running()]

    def _figures(self, receivers: list[MediaSession], now: float) -> dict[str, float | None]:
        seen = [self._seen[one.id] for one in receivers if one.id in self._seen]
        losses = [one.loss_percent for one in seen if one.loss_percent is not None]
        return {
            "loss_percent": sum(losses) / len(losses) if losses else None,
            "freezes": sum(one.freezes_since(now - FREEZES_WITHIN_S) for one in seen),
            "kbps": sum(one.kbps or 0.0 for one in seen),
        }

    def _readings(self, now: float) -> Iterator[Reading]:
        config = self._config()
        limits = config.alarms
        for session in self._desk.sessions:
            seen = self._seen.get(session.id)
            if seen is None or session.kind != "receiver":
                continue
            seat = session.seat.id if session.seat is not None else session.id
            subject = f"{session.lesson.id}/{seat}/{session.stream.name}"
            freezes = seen.freezes_since(now - FREEZES_WITHIN_S)
            yield Reading("loss", subject, seen.loss_percent or 0.0, limits.loss_percent)
            yield Reading("freeze", subject, freezes, limits.freezes_per_minute)
        running = {lesson.id: lesson for lesson in self._registry.running()}
        for key, live_at in list(self._was_live.items()):
            lesson = running.get(key.partition("/")[0])
            if lesson is None:
                del self._was_live[key]
            else:
                yield Reading("no-picture", key, now - live_at, limits.no_picture_s)
        for index, load in self._loads.items():
            name = str(index)
            while load.restarted_at and load.restarted_at[0] < now - RESTARTS_WITHIN_S:
                load.restarted_at.popleft()
            restarts = len(load.restarted_at)
            yield Reading("cpu", name, load.cpu_percent or 0.0, limits.cpu_percent)
            yield Reading("worker-restart", name, restarts, limits.worker_restarts)
        uplink = sum(load.kbps or 0.0 for load in self._loads.values())
        share = uplink / config.planner.node_uplink_kbps * 100
        yield Reading("uplink", "server", share, limits.uplink_percent)
        if self._free_mb is not None:
            yield Reading("disk", "server", self._free_mb, limits.disk_free_mb, low_is_bad=True)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1)
