"""The layer that a line carries, on lines simulated with a made-up clock."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest

from streamer.bandwidth import DownlinkEstimate
from streamer.layers import AUDIO_ONLY, LayerSelector

RATES = (150_000.0, 500_000.0, 1_800_000.0)
SOUND = 40_000.0
STEP_S = 0.25


class Line:
    """A bottleneck and a receiver's estimator, roughly as libwebrtc's behaves."""

    def __init__(self, capacity: Callable[[float], float], first: int = 1) -> None:
        self.capacity = capacity
        self.selector = LayerSelector(first)
        self.estimate = DownlinkEstimate(0.0)
        self.total = 0.0
        self.remb = 300_000.0
        self.history: list[tuple[float, int]] = []

    def run(self, until_s: float, start_s: float = 0.0) -> None:
        now = start_s
        while now < until_s:
            layer = self.selector.wanted
            sent = SOUND + (RATES[layer] if layer >= 0 else 0.0)
            arriving = min(sent, self.capacity(now))
            self.total += sent * STEP_S / 8
            if sent > self.capacity(now):
                self.remb = 0.85 * arriving
            else:
                self.remb = min(self.remb * 1.08**STEP_S + 1000, 1.5 * arriving + 10_000)
            self.estimate.sent(int(self.total), now)
            self.estimate.remb(self.remb, now)
            if sent > 1.5 * self.capacity(now):
                self.estimate.report(1 - arriving / sent, now)
            self.history.append((now, self.selector.choose(RATES, SOUND, self.estimate, now)))
            now += STEP_S

    def switches(self, since_s: float = 0.0) -> int:
        layers = [layer for now, layer in self.history if now >= since_s]
        return sum(a != b for a, b in itertools.pairwise(layers))


@pytest.mark.parametrize(
    ("capacity", "layer"), [(8e6, 2), (1.2e6, 1), (300e3, 0), (700e3, 1), (2.5e6, 2)]
)
def test_a_constant_line_settles_on_the_layer_it_carries(capacity: float, layer: int) -> None:
    line = Line(lambda _now: capacity)
    line.run(120.0)
    settled = [wanted for now, wanted in line.history if now > 30]
    assert settled.count(layer) / len(settled) > 0.85


@pytest.mark.parametrize("capacity", [8e6, 2.5e6, 1.2e6, 700e3, 300e3])
def test_a_constant_line_sees_no_flapping(capacity: float) -> None:
    line = Line(lambda _now: capacity)
    line.run(200.0)
    assert line.switches(since_s=20.0) <= 18  # once per ten seconds


def test_a_line_that_drops_to_a_quarter_is_obeyed_within_three_seconds() -> None:
    line = Line(lambda now: 4e6 if now < 30 else 1e6)
    line.run(33.0)
    assert line.history[-1][1] == 1


def test_a_line_that_comes_back_is_used_again_within_fifteen_seconds() -> None:
    line = Line(lambda now: 4e6 if now < 30 or now > 60 else 1e6)
    line.run(60.0)
    assert line.history[-1][1] <= 1
    line.run(90.0, start_s=60.0)
    back = next(now for now, layer in line.history if now > 60 and layer == 2)
    assert back - 60 <= 15


def test_a_line_too_thin_for_any_picture_gets_sound_alone_and_climbs_back() -> None:
    line = Line(lambda now: 70e3 if 20 < now < 40 else 4e6)
    line.run(39.0)
    assert line.history[-1][1] == AUDIO_ONLY
    line.run(90.0, start_s=39.0)
    assert line.history[-1][1] == 2


def test_a_ceiling_is_never_exceeded() -> None:
    line = Line(lambda _now: 8e6)
    line.selector.ceiling = 0
    line.run(60.0)
    assert {layer for now, layer in line.history if now > 1} == {0}


def test_layers_that_vanish_are_left() -> None:
    line = Line(lambda _now: 8e6)
    line.run(30.0)
    assert line.selector.choose(RATES[:1], SOUND, line.estimate, 31.0) == 0
