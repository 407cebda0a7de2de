"""The console script `tongke`: reads the arguments and hands over to the one command they name.

Nothing heavy is imported before a command is chosen, so `tongke token` and `--help` are instant.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import NoReturn

from . import (
    audit_command,
    config_command,
    plan_command,
    publish_arguments,
    rehearse_arguments,
    token_command,
    watch_arguments,
)
from .arguments import add_config_arguments, add_json_argument
from .family import die_with_parent
from .usage import usage_in_chinese
from .words import BAD_USAGE, FAILED, OK, CommandError, emit_json, language_of, progress, say

DEBUG_VARIABLE = "TONGKE_DEBUG"


class Parser(argparse.ArgumentParser):
    """Complains in the user's language, on stderr, with exit code 2; JSON callers get JSON too."""

    def error(self, message: str) -> NoReturn:
        if language_of(os.environ) == "zh":
            message = usage_in_chinese(message)
        raise CommandError(
            say(
                f"{self.prog}：{message}。用法见 {self.prog} --help",
                f"{self.prog}: {message}. See {self.prog} --help",
            ),
            exit_code=BAD_USAGE,
            kind="usage",
        )


def build_parser(chosen: str | None = None) -> Parser:
    """The whole parser. Only the command `chosen` gets the arguments that cost an import."""
    parser = Parser(
        prog="tongke",
        description=say("同课：一堂课，很多教室。", "Tongke: one lesson, many classrooms."),
    )
    commands = parser.add_subparsers(
        dest="command", metavar="COMMAND", required=True, parser_class=Parser
    )
    for name, summary, arguments in (
        ("serve", say("运行服务器", "run the server"), _serve_arguments),
        ("demo", say("运行服务器和一堂演示课", "the server and a looping lesson"), _demo_arguments),
        (
            "publish",
            say("发布文件、摄像头", "publish a file or camera"),
            publish_arguments.add_arguments,
        ),
        (
            "watch",
            say("无界面收看并统计", "receive and count, headless"),
            watch_arguments.add_arguments,
        ),
        ("load", say("压力测试", "many receivers, to see what holds"), None),
        ("token", say("签发令牌", "sign a token"), token_command.add_arguments),
        (
            "plan",
            say("计算各路输出流的合理名额", "compute the cap that each stream can carry"),
            plan_command.add_arguments,
        ),
        (
            "rehearse",
            say("课前用虚拟教室排练一遍", "run a lesson with synthetic classrooms"),
            rehearse_arguments.add_arguments,
        ),
        ("doctor", say("检查本机能否上课", "check this machine, and how to mend it"), None),
        ("audit", say("检查、查看审计日志", "check or show the audit log"), None),
        ("config", say("检查、查看配置", "check or show the configuration"), None),
    ):
        command = commands.add_parser(name, help=summary, description=summary)
        if name in ("audit", "config"):
            two_words = audit_command if name == "audit" else config_command
            two_words.add_arguments(command, parser_class=Parser)
            continue
        if name == "load" and chosen == "load":
            _load_arguments(command)
        if arguments is not None:
            arguments(command)
        add_config_arguments(command)
        with contextlib.suppress(argparse.ArgumentError):  # `load` brings its own
            add_json_argument(command)
    return parser


def _serve_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--check",
        action="store_true",
        help=say("只检查配置，然后退出", "validate the configuration and exit"),
    )


def _demo_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--source",
        metavar="FILE",
        help=say("循环播放的媒体文件（默认现画一堂课）", "media file to repeat (default: drawn)"),
    )


def _load_arguments(parser: argparse.ArgumentParser) -> None:
    from . import load

    load.add_arguments(parser)


def _run_serve(args: argparse.Namespace) -> int:
    from . import serve

    return serve.run(args)


def _run_demo(args: argparse.Namespace) -> int:
    from . import demo

    return demo.run(args)


def _run_publish(args: argparse.Namespace) -> int:
    from . import publish

    return publish.run(args)


def _run_watch(args: argparse.Namespace) -> int:
    from . import watch

    return watch.run(args)


def _run_load(args: argparse.Namespace) -> int:
    from . import load
    from .settings import load_config

    return load.run(args, load_config(args))


def _run_rehearse(args: argparse.Namespace) -> int:
    from . import rehearse
    from .settings import load_config

    return rehearse.run(args, load_config(args))


def _run_doctor(args: argparse.Namespace) -> int:
    from . import doctor

    return doctor.run(args)


RUNNERS: dict[str, Callable[[argparse.Namespace], int]] = {
    "serve": _run_serve,
    "demo": _run_demo,
    "publish": _run_publish,
    "watch": _run_watch,
    "load": _run_load,
    "token": token_command.run,
    "plan": plan_command.run,
    "rehearse": _run_rehearse,
    "doctor": _run_doctor,
    "audit": audit_command.run,
    "config": config_command.run,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code: 0 it worked, 1 it failed, 2 it was asked wrongly."""
    words = list(sys.argv[1:] if argv is None else argv)
    die_with_parent()
    try:
        return _dispatch(words)
    except CommandError as error:
        _complain(words, str(error), error.kind)
        return error.exit_code
    except KeyboardInterrupt:
        progress(say("已中断", "interrupted"))
        return FAILED
    except BrokenPipeError:
        # Whoever read our output has gone; say no more, also not at interpreter exit.
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except Exception as error:  # noqa: BLE001 - the last resort: a sentence, never a traceback
        if os.environ.get(DEBUG_VARIABLE):
            traceback.print_exc()
        _complain(
            words,
            say(
                f"内部错误：{type(error).__name__}：{error}（设 {DEBUG_VARIABLE}=1 看详情）",
                f"internal error: {type(error).__name__}: {error}"
                f" (set {DEBUG_VARIABLE}=1 to see where)",
            ),
            "internal",
        )
        return FAILED


def _dispatch(words: Sequence[str]) -> int:
    chosen = next((word for word in words if not word.startswith("-")), None)
    try:
        args = build_parser(chosen).parse_args(words)
    except SystemExit as leaving:  # --help
        return OK if leaving.code in (0, None) else BAD_USAGE
    if args.command in ("publish", "watch") and (args.config is not None or args.overrides):
        from .settings import load_config

        load_config(args)  # they need none of it, but a wrong one should not pass in silence
    return RUNNERS[args.command](args)


def _complain(words: Sequence[str], sentence: str, kind: str) -> None:
    progress(sentence)
    if "--json" in words:
        emit_json({"ok": False, "error": sentence, "type": kind})


if __name__ == "__main__":
    sys.exit(main())
