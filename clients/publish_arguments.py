"""The arguments of `tongke publish`, apart from it so that `--help` loads no media library."""

from __future__ import annotations

import argparse

from .arguments import add_endpoint_arguments, count, kbps, seconds
from .plan import CODEC_CHOICES, DEFAULT_KBPS
from .words import say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help=say(
            "媒体文件、rtsp:// 地址、/dev/video0，或现画的 test:blackboard、test:teacher",
            "media file, rtsp:// address, /dev/video0, or the drawn test:blackboard, test:teacher",
        ),
    )
    add_endpoint_arguments(parser, "https://HOST/whip/LESSON/camera")
    parser.add_argument("--loop", action="store_true", help=say("循环播放文件", "repeat the file"))
    parser.add_argument(
        "--seconds", type=seconds, metavar="N", help=say("N 秒后停止", "stop after")
    )
    parser.add_argument(
        "--codec",
        choices=CODEC_CHOICES,
        default="auto",
        help=say(
            "画面编码（默认 auto：能原样发就原样发）", "video codec (auto: as it is if it can)"
        ),
    )
    parser.add_argument(
        "--kbps",
        type=kbps,
        default=DEFAULT_KBPS,
        metavar="N",
        help=say("需要编码时的码率", "video bitrate when it has to be encoded"),
    )
    parser.add_argument(
        "--retry",
        type=count,
        metavar="N",
        help=say("连续失败 N 次后放弃（默认一直重试）", "give up after N failures in a row"),
    )
