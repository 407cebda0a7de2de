"""Arguments that several commands share, and the way a long-running one is stopped."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
from collections.abc import Coroutine
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from .words import BAD_USAGE, CommandError, say

if TYPE_CHECKING:
    from .whip import WhipClient

TOKEN_VARIABLE = "TONGKE_TOKEN"


def seconds(text: str) -> float:
    """An argparse type: a duration that is a number and more than nothing."""
    value = _number(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(say(f"{text} 秒不行，要大于 0", f"{text} is not above 0"))
    return value


def kbps(text: str) -> int:
    """An argparse type: a video bitrate that an encoder can work with."""
    value = _number(text)
    if not 50 <= value <= 50_000:
        raise argparse.ArgumentTypeError(
            say(f"{text} 不在 50–50000 之间", f"{text} is not between 50 and 50000")
        )
    return round(value)


def count(text: str) -> int:
    """An argparse type: how many times, none included."""
    value = _number(text)
    if value != int(value) or value < 0:
        raise argparse.ArgumentTypeError(say(f"{text} 不是次数", f"{text} is not a count"))
    return int(value)


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not abs(value) < 1e12:
        raise argparse.ArgumentTypeError(say(f"{text} 不是数字", f"{text} is not a number"))
    return value


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", type=Path, metavar="FILE", help=say("配置文件", "config file"))
    parser.add_argument(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help=say("改一项配置，可重复", "change one setting; may be repeated"),
    )


def add_json_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--json",
        action="store_true",
        help=say("标准输出只打印一个 JSON 对象", "print one JSON object on stdout, nothing else"),
    )


def add_endpoint_arguments(parser: argparse.ArgumentParser, example: str) -> None:
    parser.add_argument("url", metavar="URL", help=example)
    parser.add_argument(
        "--token",
        metavar="T",
        help=say(f"令牌，也可放在环境变量 {TOKEN_VARIABLE}", f"token; or in {TOKEN_VARIABLE}"),
    )
    parser.add_argument(
        "--insecure",
        action="store_true",
        help=say("不验证服务器证书", "do not verify the server's certificate"),
    )
    parser.add_argument(
        "--ca", type=Path, metavar="FILE", help=say("信任的证书文件", "certificate to trust (PEM)")
    )


def required_token(args: argparse.Namespace) -> str:
    token: str | None = args.token or os.environ.get(TOKEN_VARIABLE)
    if not token:
        raise CommandError(
            say(
                f"缺少令牌：用 --token T 或环境变量 {TOKEN_VARIABLE}；"
                "可用 tongke token --role ROLE 签发（观看用 point，发布用 teacher）",
                f"no token: give --token T or set {TOKEN_VARIABLE};"
                " `tongke token --role ROLE` makes one (point to watch, teacher to publish)",
            ),
            exit_code=BAD_USAGE,
            kind="no-token",
        )
    return token


def whip_client(args: argparse.Namespace, token: str) -> WhipClient:
    from .whip import WhipClient  # aiohttp: only for those who talk to a server

    return WhipClient(args.url, token, insecure=args.insecure, ca=args.ca)


class Stopper:
    """Turns SIGINT, SIGTERM and a closed terminal into an orderly end of one coroutine."""

    def __init__(self, *, hang_up: bool = True) -> None:
        self._stop = asyncio.Event()
        self._signals = [signal.SIGINT, signal.SIGTERM]
        if hang_up and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup
            self._signals.append(signal.SIGHUP)

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        for number in self._signals:
            loop.add_signal_handler(number, self._stop.set)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        loop = asyncio.get_running_loop()
        for number in self._signals:
            loop.remove_signal_handler(number)

    async def run(
        self, work: Coroutine[object, object, None], *, seconds: float | None = None
    ) -> CommandError | None:
        """Run until done, stopped or `seconds` have passed; return what it failed with, if it did.

        Stopped work is cancelled and awaited, so its `finally` blocks say goodbye to the server.
        """
        task = asyncio.ensure_future(work)
        stopping = asyncio.ensure_future(self._stop.wait())
        await asyncio.wait({task, stopping}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not task.done():
            task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            return None
        except CommandError as error:
            return error
        return None
