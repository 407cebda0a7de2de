"""Runs the server inside a command: what may go wrong at the start becomes a readable sentence."""

from __future__ import annotations

import argparse
import errno
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from signaling import logs
from signaling.app import Server
from signaling.config import Config
from signaling.store.database import StoreError
from signaling.supervisor import WorkerUnavailableError
from signaling.tls import TlsError

from .words import CommandError, say

WEB_ROOT = Path(__file__).resolve().parent / "web"


@asynccontextmanager
async def running_server(config: Config, args: argparse.Namespace) -> AsyncIterator[Server]:
    """A started server; stopped, workers and all, however the block ends."""
    try:
        server = Server(
            config,
            web_root=WEB_ROOT,
            config_path=args.config,
            overrides=tuple(args.overrides),
        )
        await server.start()
    except (OSError, ValueError, TlsError, StoreError, WorkerUnavailableError) as error:
        raise _cannot_start(error, config) from error
    try:
        yield server
    finally:
        await server.stop()


def set_up_logs(level: str | None = None) -> None:
    logs.set_up(level=level)
    logging.getLogger("aioice").setLevel(logging.WARNING)


def _cannot_start(error: Exception, config: Config) -> CommandError:
    host, port = config.server.host, config.server.port
    if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
        return CommandError(
            say(
                f"端口 {port} 已被占用：停掉占用它的程序，或用 --set server.port=端口 换一个",
                f"port {port} is in use: stop what uses it, or choose another with"
                " --set server.port=PORT",
            ),
            kind="port-in-use",
        )
    if isinstance(error, OSError) and error.errno == errno.EADDRNOTAVAIL:
        return CommandError(
            say(
                f"本机没有地址 {host}：请改 server.host",
                f"this machine has no address {host}: change server.host",
            ),
            kind="no-such-address",
        )
    if isinstance(error, OSError) and error.errno == errno.EACCES and port < 1024:
        return CommandError(
            say(
                f"没有权限使用端口 {port}：请用 1024 以上的端口",
                f"not allowed to use port {port}: choose one above 1023",
            ),
            kind="port-forbidden",
        )
    reason = str(error)
    if isinstance(error, OSError) and error.strerror and error.filename:
        reason = f"{error.filename}: {error.strerror}"
    return CommandError(
        say(f"服务器启动不了：{reason}", f"the server cannot start: {reason}"), kind="cannot-start"
    )
