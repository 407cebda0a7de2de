"""Loads the configuration that `--config` and `--set` describe, or says what is wrong with it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from signaling.config import Config, ConfigError, load

from .words import BAD_USAGE, CommandError, say


class ConfigRefusedError(CommandError):
    """A configuration with errors; keeps them for `--json`."""

    def __init__(self, error: ConfigError) -> None:
        super().__init__(error.text(say("zh-CN", "en")), exit_code=BAD_USAGE, kind="config-invalid")
        self.errors = [
            {"key": e.key, "value": e.value, "allowed": say(e.allowed_zh, e.allowed)}
            for e in error.errors
        ]


def load_config(args: argparse.Namespace, defaults: Sequence[str] = ()) -> Config:
    """`defaults` are overrides of ours that the user's own `--set` still wins over."""
    try:
        return load(args.config, [*defaults, *args.overrides])
    except ConfigError as error:
        raise ConfigRefusedError(error) from error
