"""Computes how many receivers each output stream can carry, which constraint says so, and what
would lift it.

No clock, no I/O: a `Node` and its assumptions go in, a `ModePlan` comes out. Every classroom is
taken to receive all streams of its mode at their full picture, so all of them get the same cap.
The model and its figures are explained in docs/planner.md; the assumptions are the keys of
`[planner]` and can all be changed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from signaling.config_model import MAX_CAP, Config, Planner, Stream
from signaling.config_rules import (
    AUDIO_PACKETS_PER_S,
    PACKET_OVERHEAD_BYTES,
    VIDEO_PAYLOAD_BYTES,
    wire_kbps,
)
from signaling.plan_model import (
    BINDINGS,
    DEFAULT_PACKET_US,
    Binding,
    Constraint,
    Demand,
    Lift,
    Lines,
    ModePlan,
    Node,
    StreamPlan,
)

__all__ = [
    "DEFAULT_PACKET_US",
    "Binding",
    "Constraint",
    "Demand",
    "Lift",
    "Lines",
    "ModePlan",
    "Node",
    "StreamPlan",
    "demand",
    "plan_mode",
    "sort_lines",
]

# The least that a publisher's page sends of a stream (its smallest simulcast layer, kbit/s).
SMALLEST_LAYER_KBPS: Final = {"camera": 150, "slides": 350}


@dataclass(frozen=True, slots=True)
class _Load:
    """The coefficients that all constraints are made of."""

    kbps: float
    packets_per_s: float
    tiles: int
    answers_each: float


def demand(stream: Stream, name: str, planner: Planner) -> Demand:
    """What a receiver of a stream takes at the full picture."""
    wire = wire_kbps(stream)
    again = planner.retransmission_percent / 100
    # A layer switch costs one key frame, which comes on top of what the encoder was told to make.
    keyframe_kbit = stream.video_kbps / stream.fps * planner.keyframe_frames
    switches = planner.switch_percent / 100 * keyframe_kbit
    video_pps = stream.video_kbps * 1000 / 8 / VIDEO_PAYLOAD_BYTES
    audio_pps = AUDIO_PACKETS_PER_S if stream.audio_kbps else 0
    smallest = min(SMALLEST_LAYER_KBPS.get(name, stream.video_kbps), stream.video_kbps)
    audio_wire = wire - stream.video_kbps * (1 + PACKET_OVERHEAD_BYTES / VIDEO_PAYLOAD_BYTES)
    least = smallest * (1 + PACKET_OVERHEAD_BYTES / VIDEO_PAYLOAD_BYTES) + max(audio_wire, 0.0)
    return Demand(
        wire_kbps=float(wire),
        resend_kbps=wire * again,
        switch_kbps=switches,
        packets_per_s=(video_pps + audio_pps) * (1 + again),
        least_kbps=least * (1 + again),
    )


def plan_mode(
    config: Config,
    mode_name: str,
    node: Node,
    *,
    lines_kbps: Sequence[float] | None = None,
    lessons: int | None = None,
) -> ModePlan:
    """The plan of a mode of a configuration. KeyError if the configuration has no such mode.

    `lines_kbps` are the measured downlinks of the teaching points, none if nobody has measured;
    `lessons` replaces the number of full lessons that the configuration assumes.
    """
    mode, planner = config.modes[mode_name], config.planner
    profile = config.profiles[mode.profile]
    settings = {name: config.stream(mode_name, name) for name in mode.streams}
    demands = {name: demand(stream, name, planner) for name, stream in settings.items()}
    load = _Load(
        kbps=sum(one.kbps for one in demands.values()),
        packets_per_s=sum(one.packets_per_s for one in demands.values()),
        tiles=planner.tiles.get(mode_name, 0),
        answers_each=planner.answers_each.get(mode_name, 0.0),
    )
    full_lessons = lessons or planner.lessons
    lines = sort_lines(lines_kbps, demands) if lines_kbps else None
    constraints = _constraints(planner, node, load, full_lessons, lines)
    limits = {one.name: one.limit for one in constraints if one.limit is not None}
    binding: Binding = min(limits, key=lambda name: (limits[name], BINDINGS.index(name)))
    cap = limits[binding]
    return ModePlan(
        mode=mode_name,
        profile=mode.profile,
        cap=cap,
        binding=binding,
        constraints=constraints,
        lifts=_lifts(
            planner,
            node,
            load,
            full_lessons,
            limits,
            binding,
            lines,
            wanted=max(one.receiver_cap for one in settings.values()),
        ),
        streams=tuple(
            StreamPlan(
                stream=name,
                cap=cap,
                configured=settings[name].receiver_cap,
                override=profile.streams[name].override,
                demand=demands[name],
            )
            for name in mode.streams
        ),
        lines=lines,
        node=node,
        planner=planner,
    )


def sort_lines(lines_kbps: Sequence[float], demands: Mapping[str, Demand]) -> Lines:
    """How many lines carry the full lesson, how many only the smallest layers, how many none."""
    full = sum(one.line_kbps for one in demands.values())
    least = sum(one.least_kbps for one in demands.values())
    carrying = sum(1 for line in lines_kbps if line >= full)
    usable = sum(1 for line in lines_kbps if line >= least)
    return Lines(
        full=carrying,
        smaller=usable - carrying,
        too_slow=len(lines_kbps) - usable,
        full_kbps=math.ceil(full),
        least_kbps=math.ceil(least),
    )


# --- the constraints ---------------------------------------------------------------------------


def _constraints(
    planner: Planner, node: Node, load: _Load, lessons: int, lines: Lines | None
) -> tuple[Constraint, ...]:
    """All of them; the limits are per lesson, with `lessons` of the same kind full at once."""
    target = planner.target_cpu_percent / 100
    cpu_each = load.packets_per_s * node.packet_us / 1e6  # cores
    mixing = _mixer_cores(planner, load.tiles)
    uplink = planner.node_uplink_kbps
    return (
        Constraint(
            name="uplink",
            limit=_whole(uplink, load.kbps * lessons),
            load_percent_per_receiver=100 * load.kbps * lessons / uplink,
        ),
        Constraint(
            name="workers",
            limit=_whole(node.workers * target, cpu_each * lessons),
            load_percent_per_receiver=100 * cpu_each * lessons / node.workers,
            budget_percent=planner.target_cpu_percent,
        ),
        Constraint(
            name="cpu",
            limit=_whole(node.cores * target - mixing * lessons, cpu_each * lessons),
            load_percent_per_receiver=100 * cpu_each * lessons / node.cores,
            fixed_percent=100 * mixing * lessons / node.cores,
            budget_percent=planner.target_cpu_percent,
        ),
        Constraint(
            name="interaction",
            limit=(_whole(_answers(planner), load.answers_each) if load.answers_each > 0 else None),
            load_percent_per_receiver=_interaction_percent(planner, load.answers_each),
        ),
        Constraint(
            name="lines",
            limit=None if lines is None else min(MAX_CAP, lines.full + lines.smaller),
            load_percent_per_receiver=0.0,
        ),
        Constraint(name="most", limit=MAX_CAP, load_percent_per_receiver=100 / MAX_CAP),
    )


def _mixer_cores(planner: Planner, tiles: int) -> float:
    """Cores that the mixer of one lesson takes; a mode without tiles has no mixer."""
    if not tiles:
        return 0.0
    return (planner.mixer_core_percent + planner.tile_core_percent * tiles) / 100


def _answers(planner: Planner) -> float:
    """How often one teacher can call on a classroom in a lesson."""
    return planner.lesson_minutes * 60 * planner.interaction_percent / 100 / planner.answer_s


def _interaction_percent(planner: Planner, answers_each: float) -> float:
    """The part of the time for interaction that one more classroom takes."""
    answers = _answers(planner)
    return 100 * answers_each / answers if answers > 0 else 0.0


def _whole(have: float, each: float) -> int:
    """How many times `each` fits into `have`, never negative, at most the highest cap.

    A billionth is forgiven: 1,200 s ÷ 40 s must be 30 however the floats round.
    """
    if have < 0:
        return 0
    if have >= MAX_CAP * each:  # also where `each` is nothing, or too little to divide by
        return MAX_CAP
    return math.floor(have / each * (1 + 1e-9) + 1e-9)


# --- what would lift them ----------------------------------------------------------------------


def _lifts(
    planner: Planner,
    node: Node,
    load: _Load,
    lessons: int,
    limits: Mapping[Binding, int],
    binding: Binding,
    lines: Lines | None,
    *,
    wanted: int,
) -> tuple[Lift, ...]:
    """Ways to lift the constraint that binds: to the next one, the wanted cap, or the double."""
    others = {name: limit for name, limit in limits.items() if name != binding}
    if binding == "most" or not others:
        return ()
    then = min(others, key=lambda name: (others[name], BINDINGS.index(name)))
    cap = limits[binding]
    sensible = wanted if wanted > cap else max(2 * cap, cap + 10)
    if sensible < others[then]:
        reaches, then = sensible, binding
    else:
        reaches = others[then]
    if reaches <= cap:  # two constraints bind at the same number
        return ()
    needed = reaches * lessons
    target = planner.target_cpu_percent / 100
    cpu_s = load.packets_per_s / 1e6

    def lift(key: str, have: float, need: float) -> Lift:
        return Lift(key=key, have=have, need=need, reaches=reaches, then=then)

    if binding == "uplink":
        return (
            lift(
                "planner.node_uplink_kbps",
                planner.node_uplink_kbps,
                math.ceil(load.kbps * needed),
            ),
        )
    if binding == "workers":
        need = math.ceil(needed * cpu_s * node.packet_us / target - 1e-9)
        return (
            lift("server.workers", node.workers, need),
            lift("planner.packet_us", node.packet_us, node.workers * target / (needed * cpu_s)),
        )
    if binding == "cpu":
        mixing = _mixer_cores(planner, load.tiles) * lessons
        need = math.ceil((needed * cpu_s * node.packet_us + mixing) / target - 1e-9)
        return (lift("cores", node.cores, need),)
    if binding == "interaction":
        answers = reaches * load.answers_each
        seconds = planner.lesson_minutes * 60 * planner.interaction_percent / 100
        found = [lift("planner.answers_each", load.answers_each, _answers(planner) / reaches)]
        if seconds:
            found.append(lift("planner.answer_s", planner.answer_s, seconds / answers))
        percent = answers * planner.answer_s / (planner.lesson_minutes * 60) * 100
        if percent <= 100:
            found.append(lift("planner.interaction_percent", planner.interaction_percent, percent))
        return tuple(found)
    if lines is not None and lines.too_slow:
        faster = min(lines.too_slow, reaches - (lines.full + lines.smaller))
        usable = lines.full + lines.smaller
        return (
            Lift(
                key="lines",
                have=usable,
                need=usable + faster,
                reaches=usable + faster,
                then="lines" if usable + faster < reaches else then,
            ),
        )
    return ()
