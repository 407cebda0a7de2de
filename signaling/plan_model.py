"""What a plan is made of: the node, a receiver's demand, constraints and what would lift them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from signaling.config_model import Planner

# CPU of the server per forwarded packet where nobody has measured: `tongke load` with a hundred
# receivers against the real server on a busy 2-core virtual machine gave 4.9 µs, with receiving,
# feedback and the control process in it.
DEFAULT_PACKET_US: Final = 5.0

PacketCostSource = Literal["config", "calibrated", "default"]
Binding = Literal["uplink", "workers", "cpu", "interaction", "lines", "most"]
# What each constraint is called in a sentence; the first that binds is named.
BINDINGS: Final[tuple[Binding, ...]] = ("uplink", "workers", "cpu", "interaction", "lines", "most")


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """The machine: what it has, and what a forwarded packet costs it."""

    workers: int
    cores: int
    packet_us: float
    packet_us_source: PacketCostSource

    @classmethod
    def of(
        cls, planner: Planner, *, workers: int, cores: int, measured_us: float | None = None
    ) -> Node:
        """A figure in the configuration wins over a measured one, that over the default."""
        packet_us = DEFAULT_PACKET_US
        source: PacketCostSource = "default"
        if planner.packet_us:
            packet_us, source = planner.packet_us, "config"
        elif measured_us is not None:
            packet_us, source = measured_us, "calibrated"
        return cls(
            workers=workers,
            # A configuration for a bigger machine may be checked on a smaller one.
            cores=max(cores, workers),
            packet_us=packet_us,
            packet_us_source=source,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What one receiver of one stream takes of the server."""

    wire_kbps: float
    """The stream on the wire, packet headers included."""
    resend_kbps: float
    """Headroom for packets that are sent again."""
    switch_kbps: float
    """Headroom for key frames after layer switches: a mean over all receivers, so the server's."""
    packets_per_s: float
    """Packets of the stream and those sent again."""
    least_kbps: float
    """The same stream at its smallest layer, with the headroom for packets sent again."""

    @property
    def kbps(self) -> float:
        """What to reserve of the server's uplink."""
        return self.wire_kbps + self.resend_kbps + self.switch_kbps

    @property
    def line_kbps(self) -> float:
        """What a teaching point's own line must carry."""
        return self.wire_kbps + self.resend_kbps


@dataclass(frozen=True, slots=True, kw_only=True)
class Lift:
    """What moves a constraint: the key, from what to what, and how far that goes."""

    key: str
    have: float
    need: float
    reaches: int
    then: Binding


@dataclass(frozen=True, slots=True, kw_only=True)
class Constraint:
    """One thing that limits receivers. `limit` is None where it does not apply."""

    name: Binding
    limit: int | None
    load_percent_per_receiver: float
    """Of the resource, for one receiver of all streams; 0 where load is not a matter of degree."""
    fixed_percent: float = 0.0
    """Of the resource, before the first receiver."""
    budget_percent: float = 100.0
    """How much of the resource may be used."""

    def used_percent(self, receivers: float) -> float:
        """Of what may be used, with so many receivers: 100 where the constraint binds."""
        load = self.fixed_percent + self.load_percent_per_receiver * receivers
        return 100 * load / self.budget_percent


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamPlan:
    """The recommended cap of one stream beside the configured one."""

    stream: str
    cap: int
    configured: int
    override: bool
    demand: Demand

    @property
    def above(self) -> bool:
        """Whether the configuration admits more than the plan."""
        return self.configured > self.cap


@dataclass(frozen=True, slots=True, kw_only=True)
class Lines:
    """Measured lines of teaching points, sorted by what of the lesson fits into them."""

    full: int
    smaller: int
    too_slow: int
    full_kbps: int
    least_kbps: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ModePlan:
    """The plan of one mode. `binding` is what holds `cap` down."""

    mode: str
    profile: str
    cap: int
    binding: Binding
    constraints: tuple[Constraint, ...]
    lifts: tuple[Lift, ...]
    streams: tuple[StreamPlan, ...]
    lines: Lines | None
    node: Node
    planner: Planner

    def constraint(self, name: Binding) -> Constraint:
        return next(one for one in self.constraints if one.name == name)
