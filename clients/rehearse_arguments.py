"""The arguments of `tongke rehearse`, apart from what runs it, so that `--help` stays instant."""

from __future__ import annotations

import argparse

from .arguments import TOKEN_VARIABLE, count, seconds
from .words import say

DEFAULT_SECONDS = 20.0
DEFAULT_RAMP_S = 5.0
DEFAULT_JOIN_S = 2.0
DEFAULT_DELAY_MS = 150.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "lesson",
        metavar="LESSON|URL",
        help=say(
            "课的编号（l_…）或其地址 https://主机/whep/课/流",
            "id of the lesson (l_…), or its address https://HOST/whep/LESSON/STREAM",
        ),
    )
    parser.add_argument(
        "--server",
        metavar="URL",
        help=say("服务器网址（默认本机）", "address of the server (default: this machine's)"),
    )
    parser.add_argument(
        "--token",
        metavar="T",
        help=say(
            f"运维或本课老师的令牌，也可放在环境变量 {TOKEN_VARIABLE}",
            f"token of operations or the lesson's teacher; or in {TOKEN_VARIABLE}",
        ),
    )
    parser.add_argument(
        "--receivers",
        type=count,
        metavar="N",
        help=say(
            "虚拟教室数（默认为规划的名额）", "classrooms (default: as many as the plan says)"
        ),
    )
    parser.add_argument(
        "--seconds",
        type=seconds,
        metavar="S",
        default=DEFAULT_SECONDS,
        help=say("全部加入后再收 S 秒", "receive for S seconds after all have joined"),
    )
    parser.add_argument(
        "--ramp",
        type=seconds,
        metavar="S",
        default=DEFAULT_RAMP_S,
        help=say("在 S 秒内均匀加入", "they join evenly over S seconds"),
    )
    parser.add_argument(
        "--join-s",
        type=seconds,
        metavar="S",
        default=DEFAULT_JOIN_S,
        help=say("加入用时 p99 的上限（秒）", "most that p99 of joining may take, seconds"),
    )
    parser.add_argument(
        "--delay-ms",
        type=seconds,
        metavar="MS",
        default=DEFAULT_DELAY_MS,
        help=say("延迟 p99 的上限（毫秒）", "most that p99 of the delay may be, milliseconds"),
    )
    parser.add_argument(
        "--i-own-this-server",
        action="store_true",
        help=say("允许以非本机服务器为目标", "allow a target that is not this machine"),
    )
