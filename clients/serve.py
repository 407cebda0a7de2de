"""`tongke serve`: the server, until SIGINT or SIGTERM; SIGHUP reads the configuration again."""

from __future__ import annotations

import argparse
import asyncio
import signal

import uvloop

from signaling.app import Server
from signaling.config import Config, ConfigError

from .arguments import Stopper
from .hosting import running_server, set_up_logs
from .settings import load_config
from .words import OK, emit_json, progress, say


def run(args: argparse.Namespace) -> int:
    config = load_config(args)
    if args.check:
        if args.json:
            emit_json({"ok": True, "errors": []})
        else:
            print(say("配置没有问题", "the configuration is valid"))
        return OK
    set_up_logs()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_serve(config, args))


async def _serve(config: Config, args: argparse.Namespace) -> int:
    async with Stopper(hang_up=False) as stopper:  # SIGHUP means reload
        error = await stopper.run(_until_cancelled(config, args))
    if error is not None:
        raise error
    return OK


async def _until_cancelled(config: Config, args: argparse.Namespace) -> None:
    async with running_server(config, args) as server:
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, _reload, server)
        announce(server, as_json=args.json)
        await asyncio.Event().wait()


def _reload(server: Server) -> None:
    try:
        changes = server.configuring.reread()
    except ConfigError as error:
        progress(
            say(
                f"配置没有重新加载，原配置继续有效。{error.text('zh-CN')}",
                f"not reloaded, the configuration stays as it was: {error.text('en')}",
            )
        )
        return
    later = [change.key for change in changes if not change.live]
    if later:
        names = ", ".join(later)
        progress(say(f"重启后才生效：{names}", f"in effect after a restart: {names}"))
    progress(say(f"配置已重新加载，改动 {len(changes)} 项", f"reloaded, {len(changes)} changes"))


def announce(server: Server, *, as_json: bool) -> None:
    """Say where the pages are. The tokens stand in fragments, which browsers never send."""
    teacher, ops = server.issue_token("teacher"), server.issue_token("ops")
    teacher_url = f"{server.url}/teach#token={teacher}"
    ops_url = f"{server.url}/ops#token={ops}"
    if as_json:
        emit_json(
            {
                "url": server.url,
                "base_url": server.base_url,
                "teacher_url": teacher_url,
                "join_url": f"{server.base_url}/join",
                "ops_url": ops_url,
                "teacher_token": teacher,
                "ops_token": ops,
            }
        )
        return
    print(
        say(
            f"同课已启动。\n  主讲教师  {teacher_url}\n  听课教室  {server.base_url}/join\n"
            f"  运维      {ops_url}\n按 Ctrl-C 停止。",
            f"Tongke is running.\n  teacher         {teacher_url}\n"
            f"  teaching point  {server.base_url}/join\n  operations      {ops_url}\n"
            "Ctrl-C stops it.",
        ),
        flush=True,
    )
