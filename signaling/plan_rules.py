"""Refuses caps above the plan in a configuration, unless the stream says `override = true`.

Only what the configuration itself says is judged by, never what was calibrated on this machine:
the same file must be valid or not wherever it is checked.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from signaling.config_errors import ConfigProblem
from signaling.config_model import Config
from signaling.config_rules import worker_count
from signaling.planner import Binding, ModePlan, Node, plan_mode

_BINDING_ZH: dict[Binding, str] = {
    "uplink": "服务器出口带宽",
    "workers": "媒体进程的 CPU",
    "cpu": "全机 CPU（含混流）",
    "interaction": "老师能照顾到的教室数",
    "lines": "教学点线路",
    "most": "系统上限",
}
_BINDING_EN: dict[Binding, str] = {
    "uplink": "the server's uplink",
    "workers": "the CPU of the media processes",
    "cpu": "the processors, mixing included",
    "interaction": "how many classrooms one teacher can call on",
    "lines": "the teaching points' lines",
    "most": "the highest cap there is",
}


def binding_name(binding: Binding, language: str) -> str:
    """A constraint in words, for the middle of a sentence."""
    return (_BINDING_EN if language == "en" else _BINDING_ZH)[binding]


def configured_node(config: Config) -> Node:
    """The node as the configuration describes it, nothing measured."""
    return Node.of(config.planner, workers=worker_count(config.server), cores=os.cpu_count() or 1)


def check_caps(config: Config) -> list[ConfigProblem]:
    """Every cap of a mode that its plan does not carry."""
    node = configured_node(config)
    return [
        problem
        for mode_name in config.modes
        for problem in _check_mode(config, plan_mode(config, mode_name, node))
    ]


def _check_mode(config: Config, plan: ModePlan) -> Iterator[ConfigProblem]:
    for stream in plan.streams:
        if not stream.above or stream.override:
            continue
        settings = f"profiles.{plan.profile}.streams.{stream.stream}"
        own = stream.stream in config.modes[plan.mode].receiver_caps
        key = (
            f"modes.{plan.mode}.receiver_caps.{stream.stream}"
            if own
            else (f"{settings}.receiver_cap")
        )
        en = [f"at most {stream.cap} in mode {plan.mode}"]
        zh = [f"{plan.mode} 模式下至多 {stream.cap}"]
        for lift in plan.lifts[:1]:
            if lift.key != "cores":
                shown = lift_value(lift.need)
                en.append(f"or {lift.key} = {shown} (good for {lift.reaches})")
                zh.append(f"或 {lift.key} = {shown}（可到 {lift.reaches}）")
        en.append(f"or {settings}.override = true if you know better")
        zh.append(f"或确认无误后写明 {settings}.override = true")
        yield ConfigProblem(
            key,
            str(stream.configured),
            f"{', '.join(en)}. What binds is {binding_name(plan.binding, 'en')}; see `tongke plan`",
            f"{'，'.join(zh)}。受限于{binding_name(plan.binding, 'zh')}，详见 tongke plan",
        )


def lift_value(value: float) -> str:
    """A figure of a lift, as TOML takes it; what must not be exceeded is rounded down."""
    if value == int(value):
        return str(int(value))
    return f"{int(value * 100) / 100:g}"
