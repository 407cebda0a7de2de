"""The planner: limits by tables, and properties that hold whatever the inputs."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from signaling.config import Config, load
from signaling.config_model import MAX_CAP, Planner
from signaling.planner import Binding, Lift, ModePlan, Node, demand, plan_mode, sort_lines

DEFAULTS = load(None)
NODE = Node(workers=4, cores=4, packet_us=5.0, packet_us_source="default")


def with_planner(config: Config, **changes: object) -> Config:
    planner = msgspec.structs.replace(config.planner, **changes)
    return msgspec.structs.replace(config, planner=planner)


def node(**changes: object) -> Node:
    values = {"workers": 4, "cores": 4, "packet_us": 5.0, "packet_us_source": "config", **changes}
    return Node(**values)  # type: ignore[arg-type]


# --- tables --------------------------------------------------------------------------------------


def test_the_headroom_of_the_default_camera_is_as_documented() -> None:
    camera = DEFAULTS.stream("open", "camera")
    need = demand(camera, "camera", DEFAULTS.planner)
    assert need.wire_kbps == 1661  # 1500 × (1 + 64/1100) + 48 + 25.6, rounded up
    assert need.resend_kbps == pytest.approx(166.1)
    assert need.switch_kbps == pytest.approx(0.1 * 6 * 1500 / 25)
    assert need.packets_per_s == pytest.approx((1500e3 / 8 / 1100 + 50) * 1.1)
    assert need.line_kbps == pytest.approx(1661 * 1.1)


@pytest.mark.parametrize(
    ("mode", "cap", "binding"),
    [("dispatch", 30, "interaction"), ("masterclass", 120, "interaction"), ("open", 264, "uplink")],
)
def test_the_default_modes(mode: str, cap: int, binding: str) -> None:
    plan = plan_mode(DEFAULTS, mode, NODE)
    assert (plan.cap, plan.binding) == (cap, binding)
    assert all(not stream.above for stream in plan.streams)


@pytest.mark.parametrize(
    ("changes", "mode", "cap", "binding"),
    [
        ({"node_uplink_kbps": 37_810}, "dispatch", 10, "uplink"),
        ({"node_uplink_kbps": 100}, "open", 0, "uplink"),
        ({"answer_s": 80.0}, "dispatch", 15, "interaction"),
        ({"lesson_minutes": 45.0}, "dispatch", 33, "interaction"),
        ({"interaction_percent": 0.0}, "dispatch", 0, "interaction"),
        ({"interaction_percent": 0.0}, "open", 264, "uplink"),
        ({"answers_each": {"dispatch": 2.0}}, "dispatch", 15, "interaction"),
        ({"lessons": 4}, "open", 66, "uplink"),
        ({"mixer_core_percent": 300.0}, "dispatch", 0, "cpu"),
        ({"mixer_core_percent": 300.0, "tiles": {}}, "dispatch", 30, "interaction"),
    ],
)
def test_each_constraint_can_bind(
    changes: dict[str, object], mode: str, cap: int, binding: str
) -> None:
    plan = plan_mode(with_planner(DEFAULTS, **changes), mode, NODE)
    assert (plan.cap, plan.binding) == (cap, binding)


def test_workers_bind_before_the_machine_when_they_are_few() -> None:
    wide = with_planner(DEFAULTS, node_uplink_kbps=100_000_000)
    plan = plan_mode(wide, "open", node(workers=1, cores=4))
    assert plan.binding == "workers"
    # 485 packets a second of 5 µs: 0.2425 % of a core for each, of 70 %.
    assert plan.cap == int(0.70 / (485 * 5e-6))
    workers = next(one for one in plan.lifts if one.key == "server.workers")
    assert (workers.have, workers.need) == (1, 2)


def test_a_configured_cost_wins_over_a_measured_one_and_that_over_the_default() -> None:
    planner = DEFAULTS.planner
    configured = msgspec.structs.replace(planner, packet_us=2.5)
    for chosen, measured, wanted in (
        (configured, 3.0, (2.5, "config")),
        (planner, 3.0, (3.0, "calibrated")),
        (planner, None, (5.0, "default")),
    ):
        made = Node.of(chosen, workers=2, cores=2, measured_us=measured)
        assert (made.packet_us, made.packet_us_source) == wanted


def test_a_file_for_a_bigger_machine_is_planned_for_that_machine() -> None:
    assert Node.of(DEFAULTS.planner, workers=16, cores=2).cores == 16


def test_lines_are_sorted_by_what_fits_into_them() -> None:
    plan = plan_mode(DEFAULTS, "open", NODE, lines_kbps=[100, 744, 745, 3654, 3655, 90_000])
    assert plan.lines is not None
    assert (plan.lines.full_kbps, plan.lines.least_kbps) == (3655, 745)
    assert (plan.lines.full, plan.lines.smaller, plan.lines.too_slow) == (2, 2, 2)
    assert (plan.cap, plan.binding) == (4, "lines")
    assert plan.lifts[0].key == "lines"


def test_lines_that_nobody_measured_bind_nothing() -> None:
    assert plan_mode(DEFAULTS, "open", NODE, lines_kbps=[]).constraint("lines").limit is None


def test_a_cap_above_the_plan_is_marked_whether_or_not_it_is_overridden() -> None:
    narrow = with_planner(DEFAULTS, node_uplink_kbps=100_000)
    camera, slides = plan_mode(narrow, "open", NODE).streams
    assert camera.above and slides.above and not camera.override


# --- properties ----------------------------------------------------------------------------------

PLANNERS = st.builds(
    Planner,
    node_uplink_kbps=st.integers(1, 100_000_000),
    lessons=st.integers(1, 200),
    target_cpu_percent=st.floats(1, 95),
    packet_us=st.just(0.0),
    retransmission_percent=st.floats(0, 100),
    switch_percent=st.floats(0, 100),
    keyframe_frames=st.floats(1, 100),
    mixer_core_percent=st.floats(0, 200),
    tile_core_percent=st.floats(0, 50),
    tiles=st.fixed_dictionaries({"dispatch": st.integers(0, 64)}),
    lesson_minutes=st.floats(1, 600),
    interaction_percent=st.floats(0, 100),
    answer_s=st.floats(1, 3600),
    answers_each=st.fixed_dictionaries({"dispatch": st.floats(0, 100)}),
)
NODES = st.builds(
    lambda workers, extra, us: Node(
        workers=workers, cores=workers + extra, packet_us=us, packet_us_source="config"
    ),
    st.integers(1, 64),
    st.integers(0, 64),
    st.floats(0.1, 1000),
)
LINES = st.lists(st.floats(0, 100_000), max_size=20)


def plan_of(planner: Planner, on: Node, lines: list[float]) -> ModePlan:
    config = msgspec.structs.replace(DEFAULTS, planner=planner)
    return plan_mode(config, "dispatch", on, lines_kbps=lines)


@settings(max_examples=150, deadline=None)
@given(PLANNERS, NODES, LINES)
def test_the_plan_is_never_above_a_constraint(
    planner: Planner, on: Node, lines: list[float]
) -> None:
    plan = plan_of(planner, on, lines)
    assert 0 <= plan.cap <= MAX_CAP
    assert plan.constraint(plan.binding).limit == plan.cap
    tiny = 1 + 1e-6
    lessons = planner.lessons
    for one in plan.constraints:
        assert one.limit is None or plan.cap <= one.limit
    if plan.cap:
        need = [stream.demand for stream in plan.streams]
        assert plan.cap * lessons * sum(d.kbps for d in need) <= planner.node_uplink_kbps * tiny
        cores = plan.cap * lessons * sum(d.packets_per_s for d in need) * on.packet_us / 1e6
        assert cores <= on.workers * planner.target_cpu_percent / 100 * tiny
        assert cores <= on.cores * planner.target_cpu_percent / 100 * tiny
        seconds = planner.lesson_minutes * 60 * planner.interaction_percent / 100
        wished = plan.cap * planner.answers_each["dispatch"] * planner.answer_s
        assert wished <= seconds * tiny + 1e-6
        for one in plan.constraints:
            if one.name in ("uplink", "workers", "cpu"):
                assert one.used_percent(plan.cap) <= 100 * tiny


def _scaled(name: str, factor: float) -> Callable[[Planner, Node], tuple[Planner, Node]]:
    """One input made larger; whole numbers stay whole."""

    def change(planner: Planner, on: Node) -> tuple[Planner, Node]:
        if hasattr(planner, name):
            old = getattr(planner, name)
            new: object
            if isinstance(old, dict):
                new = {key: value * 2 for key, value in old.items()}
            else:
                new = type(old)(old * factor)
            return msgspec.structs.replace(planner, **{name: new}), on
        values = {
            "workers": on.workers,
            "cores": on.cores,
            "packet_us": on.packet_us,
            "packet_us_source": "config",
        }
        values[name] = type(values[name])(values[name] * factor)  # type: ignore[operator,call-arg]
        return planner, Node(**values)  # type: ignore[arg-type]

    return change


MORE_HELPS = ("node_uplink_kbps", "target_cpu_percent", "lesson_minutes", "interaction_percent",
              "workers", "cores")  # fmt: skip
MORE_COSTS = ("lessons", "retransmission_percent", "switch_percent", "keyframe_frames",
              "mixer_core_percent", "tile_core_percent", "tiles", "answer_s", "answers_each",
              "packet_us")  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(PLANNERS, NODES, LINES, st.sampled_from(MORE_HELPS + MORE_COSTS))
def test_the_plan_is_monotone_in_every_input(
    planner: Planner, on: Node, lines: list[float], name: str
) -> None:
    before = plan_of(planner, on, lines).cap
    after = plan_of(*_scaled(name, 2.0)(planner, on), lines).cap
    if name in MORE_HELPS:
        assert after >= before
    else:
        assert after <= before


@settings(max_examples=100, deadline=None)
@given(PLANNERS, NODES, LINES.filter(bool), st.data())
def test_a_faster_line_and_one_more_never_lower_the_plan(
    planner: Planner, on: Node, lines: list[float], data: st.DataObject
) -> None:
    before = plan_of(planner, on, lines).cap
    index = data.draw(st.integers(0, len(lines) - 1))
    faster = [line * 2 if number == index else line for number, line in enumerate(lines)]
    assert plan_of(planner, on, faster).cap >= before
    assert plan_of(planner, on, [*lines, data.draw(st.floats(0, 1e6))]).cap >= before


@settings(max_examples=100, deadline=None)
@given(PLANNERS, st.sampled_from(("width", "video_kbps", "audio_kbps")), st.integers(1, 4000))
def test_a_dearer_stream_never_raises_the_plan(planner: Planner, name: str, more: int) -> None:
    base = msgspec.structs.replace(DEFAULTS, planner=planner)
    profile = base.profiles["standard"]
    camera = profile.streams["camera"]
    value = getattr(camera, name) + more
    streams = {**profile.streams, "camera": msgspec.structs.replace(camera, **{name: value})}
    dear = msgspec.structs.replace(
        base, profiles={"standard": msgspec.structs.replace(profile, streams=streams)}
    )
    before = plan_mode(base, "dispatch", NODE)
    after = plan_mode(dear, "dispatch", NODE)
    assert after.cap <= before.cap


def _lifted(lift: Lift, planner: Planner, on: Node) -> tuple[Planner, Node] | None:
    """The inputs with a lift applied; None where it is not a matter of inputs."""
    name = lift.key.rpartition(".")[2]
    if lift.key == "lines":
        return None
    if name in ("workers", "cores"):
        return planner, node(
            workers=int(lift.need) if name == "workers" else on.workers,
            cores=max(on.cores, int(lift.need)) if name == "cores" else on.cores,
            packet_us=on.packet_us,
        )
    if name == "packet_us":
        return planner, node(workers=on.workers, cores=on.cores, packet_us=lift.need)
    value: object = {"dispatch": lift.need} if name == "answers_each" else lift.need
    return msgspec.structs.replace(planner, **{name: value}), on


@settings(max_examples=200, deadline=None)
@given(PLANNERS, NODES)
def test_what_is_said_to_lift_a_constraint_does(planner: Planner, on: Node) -> None:
    plan = plan_of(planner, on, [])
    for lift in plan.lifts:
        assert lift.reaches > plan.cap
        lifted = _lifted(lift, planner, on)
        if lifted is None:
            continue
        limit = plan_of(*lifted, []).constraint(plan.binding).limit
        if limit is None:
            assert lift.key == "planner.answers_each" and lift.need == 0  # the wish is given up
            continue
        assert limit >= lift.reaches, lift
        # And no less of it would do, or not by much: the figure is not a guess.
        assert limit <= max(lift.reaches * 2, lift.reaches + 200), lift


@given(st.lists(st.floats(0, 1e7), max_size=50))
def test_every_line_is_in_exactly_one_class(lines: list[float]) -> None:
    plan = plan_mode(DEFAULTS, "open", NODE)
    found = sort_lines(lines, {one.stream: one.demand for one in plan.streams})
    assert found.full + found.smaller + found.too_slow == len(lines)


def test_the_bindings_are_the_constraints_of_every_plan() -> None:
    names: list[Binding] = [one.name for one in plan_mode(DEFAULTS, "open", NODE).constraints]
    assert sorted(names) == sorted({"uplink", "workers", "cpu", "interaction", "lines", "most"})
