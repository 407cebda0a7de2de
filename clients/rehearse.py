"""`tongke rehearse`: a whole lesson with synthetic classrooms, and whether the plan holds.

It asks the server for the lesson's plan, sends every stream that nobody sends yet at its full
bit rate, lets as many classrooms join as the plan says, and judges what they got.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import resource
from dataclasses import dataclass, field
from time import monotonic
from urllib.parse import quote, urlsplit

import uvloop

from signaling.addresses import WILDCARDS, url_host
from signaling.config import Config

from .arguments import Stopper, required_token
from .light.crowd import Crowd
from .light.endpoint import LightFailure, Shared, open_shared
from .light.lesson import ReferenceLesson
from .light.measure import GeneratorMeter, sample_server
from .light.publisher import LightPublisher
from .light.report import Run, build
from .rehearse_lesson import LessonPlan, Seats, ask_plan
from .rehearse_verdict import Check, Limits, judge
from .whip import is_loopback
from .words import BAD_USAGE, FAILED, OK, CommandError, emit_json, progress, say

HEADSTART_S = 0.5
PROGRESS_S = 2.0
DESCRIPTORS_PER_CLASSROOM = 4  # two sockets, and HTTP connections while joining or leaving
SPARE_DESCRIPTORS = 64
MOST_CLASSROOMS = 10_000


@dataclass(slots=True)
class Rehearsal:
    """One rehearsal in progress: a crowd, and a publisher where one is needed, for each stream."""

    base: str
    token: str
    args: argparse.Namespace
    lesson: str
    result: dict[str, object] = field(default_factory=dict)


def run(args: argparse.Namespace, config: Config) -> int:
    base, lesson = target(args, config)
    if not is_loopback(base) and not args.i_own_this_server:
        raise CommandError(
            say(
                f"{urlsplit(base).hostname} 不是本机。排练会给服务器加上真实负载；"
                "若这台服务器归您管理，请加 --i-own-this-server",
                f"{urlsplit(base).hostname} is not this machine. A rehearsal is a real load; if"
                " this server is yours, say so with --i-own-this-server",
            ),
            exit_code=BAD_USAGE,
            kind="not-loopback",
        )
    rehearsal = Rehearsal(base, required_token(args), args, lesson)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        error = runner.run(_stoppable(rehearsal))
    if error is not None:
        raise error
    if not rehearsal.result:
        raise KeyboardInterrupt
    if args.json:
        emit_json(rehearsal.result)
    else:
        print(_table(rehearsal.result), flush=True)
    return OK if rehearsal.result["ok"] else FAILED


def target(args: argparse.Namespace, config: Config) -> tuple[str, str]:
    """The server's address and the id of the lesson that the arguments name."""
    text: str = args.lesson
    if "://" not in text:
        return _server(args, config), text
    parts = urlsplit(text)
    words = parts.path.strip("/").split("/")
    marked = [i for i, word in enumerate(words[:-1]) if word in ("whep", "whip", "lessons")]
    if parts.scheme not in ("http", "https") or not parts.hostname or not marked:
        raise CommandError(
            say(
                f"{text}：应为课的编号（l_…），或 https://主机/whep/课/流",
                f"{text}: expected the id of a lesson (l_…), or https://HOST/whep/LESSON/STREAM",
            ),
            exit_code=BAD_USAGE,
            kind="url",
        )
    return f"{parts.scheme}://{parts.netloc}", words[marked[0] + 1]


def _server(args: argparse.Namespace, config: Config) -> str:
    if args.server:
        parts = urlsplit(args.server)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise CommandError(
                say(f"--server {args.server} 不是网址", f"--server {args.server} is no address"),
                exit_code=BAD_USAGE,
                kind="url",
            )
        return f"{parts.scheme}://{parts.netloc}"
    server = config.server
    host = "127.0.0.1" if server.host in WILDCARDS else server.host
    return f"{'http' if server.tls == 'off' else 'https'}://{url_host(host)}:{server.port}"


async def _stoppable(rehearsal: Rehearsal) -> CommandError | None:
    async with Stopper() as stopper:
        return await stopper.run(_rehearse(rehearsal))


# --- the run -----------------------------------------------------------------------------------


async def _rehearse(rehearsal: Rehearsal) -> None:
    async with open_shared(rehearsal.base) as first:
        plan = await ask_plan(first, rehearsal.base, rehearsal.token, rehearsal.lesson)
        count = _classrooms(rehearsal.args, plan)
        _raise_descriptor_limit(count)
        progress(
            say(
                f"{plan.plan.mode} 课 {plan.lesson}：规划名额 {plan.plan.cap}，"
                f"排练 {count} 间教室 × {len(plan.streams)} 路流",
                f"{plan.plan.mode} lesson {plan.lesson}: planned cap {plan.plan.cap}; rehearsing"
                f" {count} classrooms × {len(plan.streams)} streams",
            )
        )
        async with contextlib.AsyncExitStack() as stack:
            seats = Seats(first, rehearsal.base, rehearsal.token, plan)
            stack.push_async_callback(seats.release)
            tokens = await seats.take(count)
            acts = [await _Act.begin(stack, rehearsal, plan, name, tokens) for name in plan.streams]
            await _perform(acts, rehearsal.args)
            reports = {act.stream: build(act.run) for act in acts}
    rehearsal.result = _result(rehearsal, plan, count, reports)


def _classrooms(args: argparse.Namespace, plan: LessonPlan) -> int:
    """How many take part: as many as asked or planned, never more than the caps admit."""
    room = plan.room()
    wanted = args.receivers if args.receivers is not None else min(plan.plan.cap, room)
    if not 1 <= wanted <= MOST_CLASSROOMS or wanted > room:
        raise CommandError(
            say(
                f"无法排练 {wanted} 间教室：本课的名额还可接入 {max(0, room)} 间",
                f"cannot rehearse {wanted} classrooms: the lesson's caps admit {max(0, room)} more",
            ),
            kind="no-room",
        )
    return wanted


def _raise_descriptor_limit(classrooms: int) -> None:
    needed = classrooms * DESCRIPTORS_PER_CLASSROOM + SPARE_DESCRIPTORS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise CommandError(
            say(
                f"{classrooms} 间教室需要 {needed} 个文件描述符，上限为 {hard}（ulimit -n）",
                f"{classrooms} classrooms need {needed} file descriptors, but the system allows"
                f" {hard} (ulimit -n)",
            ),
            exit_code=BAD_USAGE,
            kind="descriptors",
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


@dataclass(slots=True)
class _Act:
    """One stream of the rehearsal, with what it measures."""

    stream: str
    url: str
    token: str
    shared: Shared
    crowd: Crowd
    run: Run

    @classmethod
    async def begin(
        cls,
        stack: contextlib.AsyncExitStack,
        rehearsal: Rehearsal,
        plan: LessonPlan,
        stream: str,
        tokens: list[str],
    ) -> _Act:
        """Publish where nobody does; everything is undone when the stack is left."""
        shared = await stack.enter_async_context(open_shared(rehearsal.base))
        path = f"{quote(plan.lesson, safe='')}/{quote(stream, safe='')}"
        url = f"{rehearsal.base}/whep/{path}"
        act = cls(
            stream=stream,
            url=url,
            token=rehearsal.token,
            shared=shared,
            crowd=Crowd(shared, url, tokens, len(tokens)),
            run=Run(url, len(tokens), shared.tally, GeneratorMeter()),
        )
        state = plan.streams[stream]
        if not state.live:
            publisher = LightPublisher(
                shared,
                f"{rehearsal.base}/whip/{path}",
                rehearsal.token,
                lesson=ReferenceLesson(
                    video_bps=state.video_kbps * 1000, frames_per_s=max(1, state.fps)
                ),
            )
            stack.push_async_callback(publisher.close)
            try:
                await publisher.connect()
            except LightFailure as failure:
                raise CommandError(
                    say(f"无法发布 {stream}：{failure}", f"cannot publish {stream}: {failure}"),
                    kind="publish-failed",
                ) from failure
            act.run.publisher = publisher
        stack.push_async_callback(act.leave)
        return act

    async def leave(self) -> None:
        self.run.not_deleted = await self.crowd.leave()


async def _perform(acts: list[_Act], args: argparse.Namespace) -> None:
    """All classrooms join all streams along the ramp, and receive for a while."""
    await asyncio.sleep(HEADSTART_S)
    for act in acts:
        act.run.before = await sample_server(act.shared, act.url, act.token)
    watching = asyncio.create_task(_watch(acts))
    try:
        await asyncio.gather(*(act.crowd.join(args.ramp) for act in acts))
        for act in acts:
            act.run.joining = act.shared.tally.begin_phase()
            act.run.after_join = act.crowd.totals()
            act.run.at_start = await sample_server(act.shared, act.url, act.token)
            act.run.meter.begin_window()
            act.crowd.note_silent()
        started = monotonic()
        await asyncio.sleep(args.seconds)
        for act in acts:
            act.run.steady_s = monotonic() - started
            act.run.meter.end_window()
            act.run.at_end = await sample_server(act.shared, act.url, act.token)
            act.run.silent = act.crowd.note_silent()
            act.run.after_steady = act.crowd.totals()
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
    await acts[0].crowd.settle()
    for act in acts:
        act.run.end = act.crowd.totals()


async def _watch(acts: list[_Act]) -> None:
    started = monotonic()
    while True:
        await asyncio.sleep(PROGRESS_S)
        acts[0].run.meter.lap()
        parts = []
        for act in acts:
            totals = act.crowd.totals()
            parts.append(f"{act.stream} {totals.joined}/{act.crowd.count}")
        progress(f"{monotonic() - started:4.0f} s  " + "  ".join(parts))


# --- the result --------------------------------------------------------------------------------


def _result(
    rehearsal: Rehearsal, plan: LessonPlan, count: int, reports: dict[str, dict[str, object]]
) -> dict[str, object]:
    node = plan.plan.node
    checks = judge(
        reports,
        Limits(
            join_s=rehearsal.args.join_s,
            delay_ms=rehearsal.args.delay_ms,
            cpu_percent=node.target_cpu_percent * node.workers,
        ),
    )
    return {
        "ok": all(check.ok is not False for check in checks),
        "lesson": plan.lesson,
        "mode": plan.plan.mode,
        "classrooms": count,
        "planned": plan.plan.cap,
        "binding": plan.plan.binding,
        "planned_packet_us": node.packet_us,
        "planned_packet_us_source": node.packet_us_source,
        "checks": [check.document() for check in checks],
        "saturated": any(_saturated(report) for report in reports.values()),
        "streams": reports,
    }


def _saturated(report: dict[str, object]) -> bool:
    generator = report.get("generator")
    return isinstance(generator, dict) and bool(generator.get("saturated"))


def _table(result: dict[str, object]) -> str:
    checks = result["checks"]
    assert isinstance(checks, list)
    rows = [Check.of(one).row() for one in checks]
    if result["ok"]:
        rows.append(
            say(
                f"规划成立：{result['classrooms']} 间教室（规划名额 {result['planned']}）",
                f"The plan holds with {result['classrooms']} classrooms"
                f" (planned: {result['planned']})",
            )
        )
    else:
        rows.append(
            say(
                f"规划不成立：{result['classrooms']} 间教室",
                f"The plan does NOT hold with {result['classrooms']} classrooms",
            )
        )
        if result["saturated"]:
            rows.append(
                say(
                    "但排练程序自己已到极限：请换一台机器排练，或减少 --receivers",
                    "But the rehearsal itself was at its limits: run it on another machine, or"
                    " with fewer --receivers",
                )
            )
    return "\n".join(rows)
