"""`tongke load`: many light receivers against one stream, and what joining and receiving was like.

It may itself publish the reference lesson first (`--publish`), which alone makes end-to-end delay
measurable. It says so when its own core or buffers, not the server, set the figures.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import resource
import signal
from collections.abc import Coroutine
from time import monotonic
from urllib.parse import urlsplit

import uvloop

from .arguments import TOKEN_VARIABLE, required_token
from .light.crowd import Crowd
from .light.endpoint import LightFailure, Shared, open_shared
from .light.measure import GeneratorMeter, sample_server
from .light.publisher import LightPublisher
from .light.receiver import DEFAULT_SAMPLE
from .light.report import Run, build, table
from .whip import checked_url, is_loopback
from .words import BAD_USAGE, FAILED, OK, CommandError, emit_json, progress, say

DEFAULT_RECEIVERS = 10
DEFAULT_RAMP_S = 5.0
DEFAULT_SECONDS = 30.0
MOST_RECEIVERS = 20_000
PUBLISHER_HEADSTART_S = 0.5
PROGRESS_S = 1.0
SPARE_DESCRIPTORS = 64
DESCRIPTORS_PER_RECEIVER = 2  # the UDP socket, and an HTTP connection while joining or leaving


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("url", metavar="URL", help="https://HOST/whep/LESSON/STREAM")
    parser.add_argument(
        "--token",
        metavar="T",
        help=say(f"令牌，也可放在环境变量 {TOKEN_VARIABLE}", f"token; or in {TOKEN_VARIABLE}"),
    )
    parser.add_argument(
        "--receivers",
        type=int,
        metavar="N",
        default=DEFAULT_RECEIVERS,
        help=say("接收端数量", "how many receivers"),
    )
    parser.add_argument(
        "--ramp",
        type=float,
        metavar="S",
        default=DEFAULT_RAMP_S,
        help=say("在 S 秒内均匀加入", "they join evenly over S seconds"),
    )
    parser.add_argument(
        "--seconds",
        type=float,
        metavar="S",
        default=DEFAULT_SECONDS,
        help=say("全部加入后再接收 S 秒", "receive for S seconds after all have joined"),
    )
    parser.add_argument(
        "--sample",
        type=float,
        metavar="PART",
        default=DEFAULT_SAMPLE,
        help=say("解密的比例（0 到 1）", "part of the packets to decrypt (0 to 1)"),
    )
    parser.add_argument(
        "--publish",
        action="store_true",
        help=say("先自己发布标准课（可测延迟）", "publish the reference lesson first (for delays)"),
    )
    parser.add_argument(
        "--publish-token",
        metavar="T",
        help=say("发布用的令牌（默认同 --token）", "token to publish with (default: --token)"),
    )
    parser.add_argument(
        "--no-gro",
        action="store_true",
        help=say("每包一次系统调用地接收", "receive every packet with a system call of its own"),
    )
    parser.add_argument(
        "--i-own-this-server",
        action="store_true",
        help=say("允许以非本机服务器为目标", "allow a target that is not this machine"),
    )
    if "--json" not in parser._option_string_actions:
        parser.add_argument(
            "--json",
            action="store_true",
            help=say(
                "标准输出只打印一个 JSON 对象", "print one JSON object on stdout, nothing else"
            ),
        )


def run(args: argparse.Namespace, config: object = None) -> int:
    """Carry it out; return the exit code. Raises CommandError for what was asked wrongly."""
    check(args)
    token = required_token(args)
    result = uvloop.run(_load(args, token))
    if args.json:
        emit_json(result)
    else:
        print(table(result), flush=True)
    return OK if result["ok"] else FAILED


def check(args: argparse.Namespace) -> None:
    """Refuse what makes no sense, and above all other people's servers."""
    checked_url(args.url)
    path = urlsplit(args.url).path.strip("/").split("/")
    if len(path) != 3 or path[0] != "whep":
        raise _usage(
            "url",
            f"{args.url}：地址应形如 https://主机/whip/课程/流，其中 whip 改为 whep",
            f"{args.url}: expected https://HOST/whep/LESSON/STREAM",
        )
    if not is_loopback(args.url) and not args.i_own_this_server:
        raise _usage(
            "not-loopback",
            f"{urlsplit(args.url).hostname} 不是本机。压力测试会使服务器满载；"
            "若这台服务器归您管理，请加 --i-own-this-server",
            f"{urlsplit(args.url).hostname} is not this machine. A load test takes a server to its"
            " limits; if this server is yours, say so with --i-own-this-server",
        )
    for name, value, least, most in (
        ("receivers", args.receivers, 1, MOST_RECEIVERS),
        ("ramp", args.ramp, 0, 3600),
        ("seconds", args.seconds, 0, 7 * 86400),
        ("sample", args.sample, 0, 1),
    ):
        if not least <= value <= most:
            raise _usage(
                "out-of-range",
                f"--{name} {value}：应在 {least} 与 {most} 之间",
                f"--{name} {value}: must be between {least} and {most}",
            )
    _raise_descriptor_limit(args.receivers)


def _raise_descriptor_limit(receivers: int) -> None:
    needed = receivers * DESCRIPTORS_PER_RECEIVER + SPARE_DESCRIPTORS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < needed:
        if hard != resource.RLIM_INFINITY and hard < needed:
            raise _usage(
                "descriptors",
                f"{receivers} 路接收端需要 {needed} 个文件描述符，上限为 {hard}（ulimit -n）",
                f"{receivers} receivers need {needed} file descriptors, but the system allows"
                f" {hard} (ulimit -n)",
            )
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def _usage(kind: str, zh: str, en: str) -> CommandError:
    return CommandError(say(zh, en), exit_code=BAD_USAGE, kind=kind)


# --- the run -----------------------------------------------------------------------------------


async def _load(args: argparse.Namespace, token: str) -> dict[str, object]:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with open_shared(args.url) as shared:
        crowd = Crowd(
            shared, args.url, token, args.receivers, sample=args.sample, gro=not args.no_gro
        )
        run = Run(args.url, args.receivers, shared.tally, GeneratorMeter())
        try:
            if args.publish:
                run.publisher = await _publish(shared, args, token)
            await _phases(args, token, shared, crowd, run, stop)
        finally:
            run.not_deleted = await crowd.leave()
            if run.publisher is not None:
                await run.publisher.close()
            gc.unfreeze()
    return build(run)


async def _publish(shared: Shared, args: argparse.Namespace, token: str) -> LightPublisher:
    url = args.url.replace("/whep/", "/whip/", 1)
    publisher = LightPublisher(shared, url, args.publish_token or token)
    try:
        await publisher.connect()
    except LightFailure as failure:
        raise CommandError(
            say(f"无法发布到 {url}：{failure}", f"cannot publish to {url}: {failure}"),
            kind="publish-failed",
        ) from failure
    await asyncio.sleep(PUBLISHER_HEADSTART_S)
    return publisher


async def _phases(
    args: argparse.Namespace,
    token: str,
    shared: Shared,
    crowd: Crowd,
    run: Run,
    stop: asyncio.Event,
) -> None:
    """Join along the ramp, receive for a while, and read the server's counters around it."""
    run.before = await sample_server(shared, args.url, token)
    watching = asyncio.create_task(_progress(crowd, run.meter))
    try:
        joined = await _unless(stop, crowd.join(args.ramp))
        run.joining = shared.tally.begin_phase()
        run.after_join = crowd.totals()
        if joined and run.after_join.joined:
            # A collector that walks all receivers would add its pauses to the delays.
            gc.collect()
            gc.freeze()
            run.at_start = await sample_server(shared, args.url, token)
            run.meter.begin_window()
            started = monotonic()
            await _unless(stop, asyncio.sleep(args.seconds))
            run.steady_s = monotonic() - started
            run.meter.end_window()
            run.at_end = await sample_server(shared, args.url, token)
    finally:
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching
    run.interrupted = stop.is_set()
    run.silent = crowd.silent
    run.after_steady = crowd.totals()
    await crowd.settle()
    run.end = crowd.totals()


async def _unless(stop: asyncio.Event, work: Coroutine[object, object, None]) -> bool:
    """Run to the end, or cancel it when told to stop; whether it came to its end."""
    task = asyncio.ensure_future(work)
    stopping = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({task, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finished = task.done()
    finally:
        stopping.cancel()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    return finished


async def _progress(crowd: Crowd, meter: GeneratorMeter) -> None:
    """One line a second on stderr; also where silent receivers and CPU peaks are noticed."""
    started = monotonic()
    last = crowd.totals()
    last_at = started
    while True:
        await asyncio.sleep(PROGRESS_S)
        totals, now = crowd.totals(), monotonic()
        seconds, last_at = now - last_at, now
        silent = crowd.note_silent()
        packets = (totals.received - last.received) / seconds
        mbps = (totals.octets - last.octets) * 8 / seconds / 1e6
        lost = totals.lost_percent(last)
        percent = meter.lap()
        last = totals
        progress(
            say(
                f"{now - started:4.0f} 秒  画面 {totals.joined}/{crowd.count}"
                f"  {packets:,.0f} 包/秒  {mbps:.1f} Mbit/s  丢 {lost:.2f} %"
                f"  发生器 {percent:.0f} %" + (f"  无数据 {silent} 路" if silent else ""),
                f"{now - started:4.0f} s  joined {totals.joined}/{crowd.count}"
                f"  {packets:,.0f} packets/s  {mbps:.1f} Mbit/s  lost {lost:.2f} %"
                f"  generator {percent:.0f} %" + (f"  {silent} silent" if silent else ""),
            )
        )
