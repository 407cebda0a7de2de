"""A plan as plain data, for `tongke plan --json` and the operations page."""

from __future__ import annotations

from signaling.planner import Constraint, Lift, ModePlan, StreamPlan

# Significant digits: a plan is a model, and ten digits would claim more.
DIGITS = 4


def document(plan: ModePlan) -> dict[str, object]:
    """Everything that is known about the plan of one mode."""
    return {
        "mode": plan.mode,
        "profile": plan.profile,
        "cap": plan.cap,
        "binding": plan.binding,
        "streams": {one.stream: _stream(one) for one in plan.streams},
        "constraints": [_constraint(one, plan.cap) for one in plan.constraints],
        "lifts": [lift(one) for one in plan.lifts],
        "lines": None
        if plan.lines is None
        else {
            "full": plan.lines.full,
            "smaller": plan.lines.smaller,
            "too_slow": plan.lines.too_slow,
            "full_kbps": plan.lines.full_kbps,
            "least_kbps": plan.lines.least_kbps,
        },
        "node": {
            "workers": plan.node.workers,
            "cores": plan.node.cores,
            "packet_us": plan.node.packet_us,
            "packet_us_source": plan.node.packet_us_source,
            "uplink_kbps": plan.planner.node_uplink_kbps,
            "target_cpu_percent": plan.planner.target_cpu_percent,
        },
    }


def lift(one: Lift) -> dict[str, object]:
    return {
        "key": one.key,
        "have": _short(one.have),
        "need": _short(one.need),
        "reaches": one.reaches,
        "then": one.then,
    }


def _stream(one: StreamPlan) -> dict[str, object]:
    return {
        "cap": one.cap,
        "configured": one.configured,
        "above": one.above,
        "override": one.override,
        "kbps": _short(one.demand.kbps),
        "wire_kbps": _short(one.demand.wire_kbps),
        "resend_kbps": _short(one.demand.resend_kbps),
        "switch_kbps": _short(one.demand.switch_kbps),
        "packets_per_s": _short(one.demand.packets_per_s),
    }


def _constraint(one: Constraint, cap: int) -> dict[str, object]:
    return {
        "name": one.name,
        "limit": one.limit,
        "used_percent": None if one.name == "lines" else _short(one.used_percent(cap)),
    }


def _short(value: float) -> float | int:
    if value == int(value):
        return int(value)
    return float(f"{value:.{DIGITS}g}") if abs(value) < 10_000 else round(value)
