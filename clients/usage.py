"""Puts argparse's complaints into Chinese; what it does not know it leaves as it is."""

from __future__ import annotations

import re

PHRASES: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"^the following arguments are required: (.*)$"), r"缺少参数 \1"),
    (re.compile(r"^unrecognized arguments: (.*)$"), r"不认识的参数 \1"),
    (
        re.compile(r"^argument (\S+): invalid choice: (.+?) \(choose from (.*)\)$"),
        r"\1 不能是 \2，可选 \3",
    ),
    (re.compile(r"^argument (\S+): expected one argument$"), r"\1 后面要有一个值"),
    (re.compile(r"^argument (\S+): invalid (?:int|float) value: (.*)$"), r"\1 要是数字，不是 \2"),
    (re.compile(r"^argument (\S+): invalid \S+ value: (.*)$"), r"\1 的值无效：\2"),
    (re.compile(r"^argument (\S+): (.*[\u4e00-\u9fff].*)$"), r"\1：\2"),
    (re.compile(r"^argument (\S+): not allowed with argument (\S+)$"), r"\1 不能与 \2 同用"),
    (re.compile(r"^ambiguous option: (\S+) could match (.*)$"), r"\1 不明确，可能是 \2"),
)


def usage_in_chinese(message: str) -> str:
    for pattern, replacement in PHRASES:
        if pattern.match(message):
            return pattern.sub(replacement, message)
    return message
