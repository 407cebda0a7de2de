"""Prometheus metrics of the interaction: floors, returns, and what the mixer makes and gives up."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from signaling.interaction import Interaction
from signaling.lessons import LessonRegistry
from signaling.mixers import MixerProcess

SHED = ("wall", "stage")


class MixerMetrics(Collector):
    """Collects when asked, from what the mixer's last poll brought."""

    def __init__(
        self, registry: LessonRegistry, interaction: Interaction, mixer: MixerProcess
    ) -> None:
        self._lessons = registry
        self._interaction = interaction
        self._mixer = mixer

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        yield from self._floors()
        yield from self._process()
        yield from self._outputs()

    def _floors(self) -> Iterator[Metric]:
        floor = GaugeMetricFamily(
            "tongke_floor_seats", "Teaching points on the floor", labels=["lesson"]
        )
        returns = GaugeMetricFamily(
            "tongke_returns", "Teaching points that send a return", labels=["lesson"]
        )
        for lesson in self._lessons.running():
            floor.add_metric([lesson.id], len(lesson.floor.seats))
            returns.add_metric([lesson.id], len(lesson.returns))
        yield from (floor, returns)

    def _process(self) -> Iterator[Metric]:
        mixer = self._mixer
        yield GaugeMetricFamily(
            "tongke_mixer_ready", "1 while the mixer serves", value=float(mixer.ready.is_set())
        )
        yield CounterMetricFamily(
            "tongke_mixer_restarts", "Times the mixer had to be restarted", value=mixer.restarts
        )
        yield CounterMetricFamily(
            "tongke_mixer_cpu_seconds", "CPU time used, in seconds", value=mixer.cpu_seconds
        )
        stats = mixer.stats
        yield GaugeMetricFamily(
            "tongke_mixer_resident_bytes",
            "Resident memory",
            value=stats.rss_bytes if stats is not None else 0,
        )

    def _outputs(self) -> Iterator[Metric]:
        shed = GaugeMetricFamily(
            "tongke_mixer_shed",
            "1 while the frame rate of that picture is lowered because the CPU is short",
            labels=["lesson", "what"],
        )
        fps = GaugeMetricFamily(
            "tongke_mixer_frames_per_second",
            "Frame rate of a mixed picture",
            labels=["lesson", "output"],
        )
        delay = GaugeMetricFamily(
            "tongke_mixer_delay_seconds",
            "From the instant a mixed picture was due to its packets' leaving, 95th percentile",
            labels=["lesson", "output"],
        )
        for lesson_id, given_up in sorted(self._interaction.shed.items()):
            for what in SHED:
                # The wall goes first: when the stage is lowered, the wall is too.
                lowered = given_up == what or (given_up == "stage" and what == "wall")
                shed.add_metric([lesson_id, what], float(lowered))
        for lesson in self._mixer.stats.lessons if self._mixer.stats is not None else []:
            for output in lesson.outputs:
                if output.output in ("wall", "stage"):
                    fps.add_metric([lesson.lesson_id, output.output], output.fps)
                    delay.add_metric([lesson.lesson_id, output.output], output.delay_ms / 1000)
        yield from (shed, fps, delay)
