"""`tongke audit verify | show`: whether the audit log is as it was written, and what it says."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from .arguments import add_config_arguments, add_json_argument
from .words import BAD_USAGE, FAILED, OK, CommandError, emit_json, say

SHOWN = 50
_NOTED = re.compile(r"(\d{1,12}):([0-9a-f]{64})")


def add_arguments(
    parser: argparse.ArgumentParser, *, parser_class: type[argparse.ArgumentParser]
) -> None:
    actions = parser.add_subparsers(
        dest="action", metavar="ACTION", required=True, parser_class=parser_class
    )
    verify = actions.add_parser(
        "verify", help=say("检查审计日志是否被改动", "check that nothing in the log was changed")
    )
    verify.add_argument(
        "--expect",
        metavar="N:HASH",
        help=say("以前记下的条目号与散列", "number and hash of an entry, noted down earlier"),
    )
    show = actions.add_parser("show", help=say("显示最近的条目", "print the latest entries"))
    show.add_argument(
        "--last",
        type=int,
        default=SHOWN,
        metavar="N",
        help=say(f"条数（默认 {SHOWN}）", f"how many (default {SHOWN})"),
    )
    for action in (verify, show):
        add_config_arguments(action)
        add_json_argument(action)


def run(args: argparse.Namespace) -> int:
    from .settings import load_config

    directory = Path(load_config(args).server.data_dir)
    try:
        return _verify(directory, args) if args.action == "verify" else _show(directory, args)
    except OSError as error:
        raise CommandError(
            say(
                f"读不了 {directory} 里的审计日志：{error.strerror}",
                f"cannot read the audit log in {directory}: {error.strerror}",
            ),
            kind="data-dir",
        ) from error


def _verify(directory: Path, args: argparse.Namespace) -> int:
    from signaling.audit import verify

    verdict = verify(directory, _expected(args.expect))
    if args.json:
        emit_json(
            {
                "ok": verdict.fault is None,
                "entries": verdict.entries,
                "head": f"{verdict.entries}:{verdict.head}",
                "fault": verdict.fault,
                "at_entry": verdict.at_entry,
            }
        )
    elif verdict.fault is None:
        print(
            say(
                f"审计日志完好，共 {verdict.entries} 条。请另处记下：",
                f"the audit log is intact, {verdict.entries} entries. Note this down elsewhere:",
            )
        )
        print(f"{verdict.entries}:{verdict.head}")
    else:
        print(_complaint(verdict.fault, verdict.at_entry or 0))
    return OK if verdict.fault is None else FAILED


def _complaint(fault: str, number: int) -> str:
    zh, en = {
        "damaged": ("不是完整的条目", "is not a whole entry"),
        "changed": ("内容被改动", "was changed"),
        "out-of-order": (
            "不接上一条：有条目被删除、插入或调换",
            "does not follow the one before: entries were removed, inserted or moved",
        ),
        "cut-off": ("起的条目被删除", "and what followed is missing"),
        "not-as-expected": (
            "与记下的散列不符：日志被重写",
            "does not have the hash that was noted down: the log was rewritten",
        ),
    }[fault]
    return say(
        f"审计日志有问题：第 {number} 条{zh}", f"the audit log is at fault: entry {number} {en}"
    )


def _expected(text: str | None) -> tuple[int, str] | None:
    if text is None:
        return None
    match = _NOTED.fullmatch(text.strip())
    if match is None:
        raise CommandError(
            say(
                "--expect 应为 verify 打印的“条目号:散列”",
                "--expect takes what verify printed: the number, a colon and the hash",
            ),
            exit_code=BAD_USAGE,
            kind="usage",
        )
    return int(match.group(1)), match.group(2)


def _show(directory: Path, args: argparse.Namespace) -> int:
    from collections import deque

    from signaling.audit import read

    entries = deque(read(directory), maxlen=max(0, args.last))
    if args.json:
        emit_json(
            {
                "entries": [
                    {name: getattr(entry, name) for name in entry.__struct_fields__}
                    for entry in entries
                ]
            }
        )
        return OK
    for entry in entries:
        actor = " ".join(part for part in (entry.role, entry.token) if part)
        print(f"{entry.n:>6}  {entry.at}  {actor}  {entry.action}  {entry.object}  {entry.reason}")
    return OK
