"""The arguments of `tongke watch`, apart from it so that `--help` loads no media library."""

from __future__ import annotations

import argparse
from pathlib import Path

from .arguments import add_endpoint_arguments, count, seconds
from .words import say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_endpoint_arguments(parser, "https://HOST/whep/LESSON/camera")
    parser.add_argument(
        "--seconds",
        type=seconds,
        metavar="N",
        help=say("从连上起收看 N 秒", "stop N s after the first connection"),
    )
    parser.add_argument(
        "--record", type=Path, metavar="FILE", help=say("录成 mp4、mkv 或 webm", "mp4, mkv or webm")
    )
    parser.add_argument(
        "--no-wait",
        action="store_true",
        help=say("满员时不排队，直接退出（1）", "exit with 1 instead of waiting when it is full"),
    )
    parser.add_argument(
        "--retry",
        type=count,
        metavar="N",
        help=say(
            "连续失败 N 次后放弃（默认：首次失败即退出，之后一直重连）",
            "give up after N failures in a row (default: at once at first, never once connected)",
        ),
    )
