"""Speaks to the person at the terminal in their language: progress on stderr, results on stdout."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from typing import Literal

Language = Literal["zh", "en"]

OK = 0
FAILED = 1
BAD_USAGE = 2


class CommandError(Exception):
    """Something the user must hear about; `str()` is the whole sentence, already translated."""

    def __init__(self, message: str, *, exit_code: int = FAILED, kind: str = "failed") -> None:
        super().__init__(message)
        self.exit_code = exit_code
        self.kind = kind


def language_of(environ: Mapping[str, str]) -> Language:
    """The first locale variable that is set decides, in the order of POSIX; English otherwise."""
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        value = environ.get(name)
        if value:
            return "zh" if value.lower().startswith("zh") else "en"
    return "en"


def say(zh: str, en: str) -> str:
    """Choose the text in the user's language."""
    return zh if language_of(os.environ) == "zh" else en


def accept_language() -> str:
    """What we ask servers for, so that problem documents arrive in the user's language."""
    return say("zh-CN, zh;q=0.9, en;q=0.5", "en, zh-CN;q=0.5")


def progress(line: str) -> None:
    """One line about long work; on stderr, so that `--json` output stays pure."""
    print(line, file=sys.stderr, flush=True)


def emit_json(result: Mapping[str, object]) -> None:
    """The one JSON object of a `--json` run."""
    print(json.dumps(result, ensure_ascii=False), flush=True)
