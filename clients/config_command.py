"""`tongke config check FILE | schema | show`: what a configuration says and whether it holds."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from .arguments import add_config_arguments, add_json_argument
from .words import OK, emit_json, progress, say


def add_arguments(
    parser: argparse.ArgumentParser, *, parser_class: type[argparse.ArgumentParser]
) -> None:
    actions = parser.add_subparsers(
        dest="action", metavar="ACTION", required=True, parser_class=parser_class
    )
    check = actions.add_parser("check", help=say("检查一个配置文件", "check a file"))
    check.add_argument("file", type=Path, metavar="FILE", nargs="?")
    schema = actions.add_parser("schema", help=say("打印 JSON schema", "print the JSON schema"))
    show = actions.add_parser(
        "show", help=say("打印生效的配置（不含密钥）", "print what is in effect, secrets left out")
    )
    for action in (check, schema, show):
        add_config_arguments(action)
        add_json_argument(action)


def run(args: argparse.Namespace) -> int:
    from signaling import config as configuration

    from .settings import ConfigRefusedError, load_config

    if args.action == "schema":
        text = json.dumps(
            configuration.json_schema(), ensure_ascii=False, indent=None if args.json else 2
        )
        print(text)
        return OK
    if args.action == "check" and args.file is not None:
        args.config = args.file
    try:
        config = load_config(args)
    except ConfigRefusedError as error:
        if args.json:
            emit_json(
                {"ok": False, "error": str(error), "type": error.kind, "errors": error.errors}
            )
        progress(str(error))
        return error.exit_code
    if args.action == "show":
        if args.json:
            emit_json(configuration.public(config))
        else:
            print(configuration.to_toml(config), end="")
        return OK
    checked = str(args.config) if args.config is not None else say("默认配置", "the defaults")
    if args.json:
        emit_json({"ok": True, "errors": []})
    else:
        print(say(f"{checked}：没有问题", f"{checked}: no errors"))
    return OK
