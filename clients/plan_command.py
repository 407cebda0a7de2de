"""`tongke plan`: the recommended cap of every stream, what holds it down, what would lift it."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .arguments import count
from .words import BAD_USAGE, FAILED, OK, CommandError, emit_json, progress, say

if TYPE_CHECKING:
    from signaling.config import Config
    from signaling.planner import Binding, Lift, ModePlan

MODES = ("dispatch", "masterclass", "open")
MOST_LINES = 10_000


def lines(text: str) -> list[float]:
    """An argparse type: `2000,4000,8000`, or `@FILE` with one figure a line (kbit/s)."""
    words = text
    if text.startswith("@"):
        try:
            words = Path(text[1:]).read_text("utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise argparse.ArgumentTypeError(
                say(f"读不了 {text[1:]}：{error}", f"cannot read {text[1:]}: {error}")
            ) from error
    found: list[float] = []
    for word in words.replace(",", " ").split():
        try:
            value = float(word)
        except ValueError:
            value = -1.0
        if not 0 <= value <= 100_000_000:
            raise argparse.ArgumentTypeError(
                say(
                    f"“{word[:40]}” 不是线路速率，应为 kbit/s 数，例如 2000,4000,8000",
                    f"{word[:40]!r} is not a line: give kbit/s, for example 2000,4000,8000",
                )
            )
        found.append(value)
    if not 0 < len(found) <= MOST_LINES:
        raise argparse.ArgumentTypeError(
            say(f"要有 1 到 {MOST_LINES} 条线路", f"give 1 to {MOST_LINES} lines")
        )
    return found


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--mode", choices=MODES, help=say("只看一种课堂模式", "one mode only (default: all)")
    )
    parser.add_argument(
        "--lines",
        type=lines,
        metavar="KBPS,…|@FILE",
        help=say("各教学点实测下行（kbit/s）", "measured downlinks of the teaching points, kbit/s"),
    )
    parser.add_argument(
        "--lessons",
        type=count,
        metavar="N",
        help=say("同时满员的课数", "lessons that are full at the same time"),
    )
    parser.add_argument(
        "--svg",
        type=Path,
        metavar="FILE",
        help=say("把接收端与负载画成图（需 --mode）", "draw receivers against load (with --mode)"),
    )
    parser.add_argument(
        "--calibrate",
        action="store_true",
        help=say(
            "先在本机实测转发一个包的 CPU（约 3 秒）并保存",
            "first measure the CPU per forwarded packet here (some 3 s) and keep it",
        ),
    )


def run(args: argparse.Namespace) -> int:
    from signaling.plan_document import document

    from .settings import load_config

    config = load_config(args)
    if args.lessons == 0:
        raise CommandError(
            say("--lessons 至少为 1", "--lessons must be at least 1"),
            exit_code=BAD_USAGE,
            kind="usage",
        )
    if args.svg is not None and args.mode is None:
        raise CommandError(
            say("--svg 要与 --mode 同用：一张图画一种模式", "--svg needs --mode: a mode a drawing"),
            exit_code=BAD_USAGE,
            kind="usage",
        )
    if args.calibrate:
        _calibrate(config)
    plans = _plans(args, config)
    if args.svg is not None:
        _draw(args.svg, plans[0])
    if args.json:
        emit_json({"ok": True, "plans": [document(plan) for plan in plans]})
    else:
        print("\n\n".join(report(plan) for plan in plans))
    return OK


def _plans(args: argparse.Namespace, config: Config) -> list[ModePlan]:
    from signaling.calibration import stored
    from signaling.config import worker_count
    from signaling.planner import Node, plan_mode

    kept = stored(Path(config.server.data_dir))
    node = Node.of(
        config.planner,
        workers=worker_count(config.server),
        cores=os.cpu_count() or 1,
        measured_us=None if kept is None else kept.packet_us,
    )
    modes = [args.mode] if args.mode is not None else [m for m in MODES if m in config.modes]
    if args.mode is not None and args.mode not in config.modes:
        raise CommandError(
            say(f"配置中没有模式 {args.mode}", f"the configuration has no mode {args.mode}"),
            exit_code=BAD_USAGE,
            kind="usage",
        )
    return [
        plan_mode(config, mode, node, lines_kbps=args.lines, lessons=args.lessons) for mode in modes
    ]


def _calibrate(config: Config) -> None:
    from signaling.calibration import Calibration, save, this_machine, whole_us
    from signaling.store.secretfiles import data_directory

    from . import calibrate

    progress(say("正在实测转发一个包的 CPU……", "measuring the CPU per forwarded packet…"))
    try:
        measured = calibrate.measure()
        kept = Calibration(
            loop_us=round(measured.loop_us, 3),
            packet_us=whole_us(measured.loop_us),
            gso=measured.gso,
            receivers=calibrate.RECEIVERS,
            measured_at=time.time(),
            machine=this_machine(),
        )
        path = save(data_directory(config.server.data_dir), kept)
    except OSError as error:
        raise CommandError(
            say(f"没有测成：{error}", f"could not calibrate: {error}"),
            exit_code=FAILED,
            kind="calibration-failed",
        ) from error
    progress(
        say(
            f"转发循环 {kept.loop_us} µs/包，整台服务器按 {kept.packet_us} µs/包计，已存入 {path}",
            f"the loop takes {kept.loop_us} µs a packet, the whole server is counted with"
            f" {kept.packet_us} µs; kept in {path}",
        )
    )
    if config.planner.packet_us:
        progress(
            say(
                "注意：配置中 planner.packet_us 不为 0，规划仍按它计算",
                "note: planner.packet_us is set in the configuration and wins over it",
            )
        )


def _draw(path: Path, plan: ModePlan) -> None:
    from signaling.plan_drawing import svg

    try:
        path.write_text(svg(plan, say("zh-CN", "en")), "utf-8")
    except OSError as error:
        raise CommandError(
            say(f"写不了 {path}：{error.strerror}", f"cannot write {path}: {error.strerror}"),
            kind="cannot-write",
        ) from error


# --- for people --------------------------------------------------------------------------------


def report(plan: ModePlan) -> str:
    """One mode in some lines of text."""
    from signaling.plan_drawing import bars
    from signaling.plan_rules import binding_name

    language = say("zh", "en")
    binds = binding_name(plan.binding, language)
    rows = [
        say(
            f"{plan.mode} 模式（带宽配置 {plan.profile}）：每路输出流建议名额 {plan.cap}，"
            f"受限于{binds}",
            f"{plan.mode} (profile {plan.profile}): recommended cap of each stream {plan.cap},"
            f" held by {binds}",
        )
    ]
    rows += _stream_rows(plan)
    rows += bars(plan, language)
    rows += [_lift_row(one, plan.binding, language) for one in plan.lifts]
    if plan.lines is not None:
        rows.append(
            say(
                f"  线路：{plan.lines.full} 条可收全画面（≥ {plan.lines.full_kbps} kbit/s），"
                f"{plan.lines.smaller} 条只能收小画面（≥ {plan.lines.least_kbps} kbit/s），"
                f"{plan.lines.too_slow} 条不够",
                f"  lines: {plan.lines.full} carry the full picture"
                f" (≥ {plan.lines.full_kbps} kbit/s), {plan.lines.smaller} the small one only"
                f" (≥ {plan.lines.least_kbps} kbit/s), {plan.lines.too_slow} are too slow",
            )
        )
    rows.append("  " + _cost_source(plan))
    return "\n".join(rows)


def _stream_rows(plan: ModePlan) -> Sequence[str]:
    rows: list[str] = []
    for one in plan.streams:
        verdict = say("在规划之内", "within the plan")
        if one.above:
            verdict = (
                say("超出规划，已写明 override", "ABOVE the plan, by override = true")
                if one.override
                else say("超出规划", "ABOVE the plan")
            )
        need = one.demand
        rows.append(
            say(
                f"  {one.stream}：名额 {one.configured}（{verdict}）；每路 {need.kbps:.0f} kbit/s"
                f"（码流 {need.wire_kbps:.0f} + 重传 {need.resend_kbps:.0f}"
                f" + 切换 {need.switch_kbps:.0f}），{need.packets_per_s:.0f} 包/秒",
                f"  {one.stream}: cap {one.configured} ({verdict}); {need.kbps:.0f} kbit/s each"
                f" (stream {need.wire_kbps:.0f} + resending {need.resend_kbps:.0f}"
                f" + switches {need.switch_kbps:.0f}), {need.packets_per_s:.0f} packets/s",
            )
        )
    return rows


def _lift_row(one: Lift, binding: Binding, language: str) -> str:
    from signaling.plan_rules import binding_name, lift_value

    then = binding_name(one.then, language)
    after = "" if one.then == binding else say(f"（随后受限于{then}）", f" (then {then} binds)")
    have, need = lift_value(one.have), lift_value(one.need)
    name = {
        "cores": say("CPU 核数", "processors"),
        "lines": say("够用的线路数", "lines that are fast enough"),
    }.get(one.key, one.key)
    return say(
        f"  放宽：{name} 由 {have} 改为 {need}，可到 {one.reaches}{after}",
        f"  to lift it: {name} from {have} to {need} allows {one.reaches}{after}",
    )


def _cost_source(plan: ModePlan) -> str:
    cost = f"{plan.node.packet_us:g}"
    target = f"{plan.planner.target_cpu_percent:g}"
    where = {
        "config": say("取自配置", "from the configuration"),
        "calibrated": say("本机实测", "measured on this machine"),
        "default": say(
            "默认值，未在本机实测，可用 --calibrate",
            "the default, not measured here: --calibrate does",
        ),
    }[plan.node.packet_us_source]
    return say(
        f"假设：转发一个包 {cost} µs CPU（{where}），{plan.node.workers} 个媒体进程，"
        f"{plan.node.cores} 核，CPU ≤ {target} %，出口 {plan.planner.node_uplink_kbps} kbit/s",
        f"assumed: {cost} µs of CPU per packet ({where}), {plan.node.workers} workers,"
        f" {plan.node.cores} processors, CPU ≤ {target} %, uplink"
        f" {plan.planner.node_uplink_kbps} kbit/s",
    )
