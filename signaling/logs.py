"""Logging of the control process, for people or as JSON lines.

Nothing personal is logged anywhere: no name, address, token or join code. Lessons, seats and
sessions appear by their ids only: as members of their own in JSON, at the end of a line for people
(`log.info(…, extra={"lesson": …, "seat": …})`).

`TONGKE_LOG_FORMAT` (`human`, `json`) and `TONGKE_LOG_LEVEL` choose, where a caller does not.
"""

from __future__ import annotations

import logging
import os
import secrets
import sys
from datetime import UTC, datetime
from typing import Final, Literal

import msgspec
from aiohttp.http_exceptions import HttpProcessingError

LogFormat = Literal["human", "json"]

FORMAT_VARIABLE: Final = "TONGKE_LOG_FORMAT"
LEVEL_VARIABLE: Final = "TONGKE_LOG_LEVEL"
LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
# What a record may be about, besides its words.
IDS: Final = ("lesson", "seat", "session")


def _ids(record: logging.LogRecord) -> dict[str, str]:
    """The ids that the record was given with `extra`."""
    found = {name: getattr(record, name, None) for name in IDS}
    return {name: str(value) for name, value in found.items() if value}


class JsonFormatter(logging.Formatter):
    """One JSON object per record: time, level, logger, message, and the trace if any."""

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        entry |= _ids(record)
        if record.exc_info:
            entry["trace"] = self.formatException(record.exc_info)
        return msgspec.json.encode(entry).decode()


class HumanFormatter(logging.Formatter):
    """A line of text, with the ids that it is about at its end."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the base's name
        ids = "".join(f" {name}={value}" for name, value in _ids(record).items())
        return super().formatMessage(record) + ids


class MalformedHttp(logging.Filter):
    """Makes one line of aiohttp's trace of a request that is no HTTP.

    The trace would show the sender's address, and pieces of the request: a token, for instance.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if not isinstance(error, HttpProcessingError):
            return True
        record.levelno, record.levelname = logging.INFO, "INFO"
        record.msg, record.args = "refused a malformed request: %s", (type(error).__name__,)
        record.exc_info = record.exc_text = None
        return logging.getLogger().isEnabledFor(logging.INFO)


_malformed_http = MalformedHttp()


def set_up(log_format: LogFormat | None = None, level: str | None = None) -> None:
    """Send the log of this process to standard error, replacing what was set up before.

    None leaves the choice to the environment; what is not understood there is as if not set.
    """
    if log_format is None:
        log_format = "json" if os.environ.get(FORMAT_VARIABLE, "").lower() == "json" else "human"
    wanted = (level or os.environ.get(LEVEL_VARIABLE, "")).upper()
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if log_format == "json" else HumanFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(wanted if wanted in LEVELS else "INFO")
    # Its access log would name addresses, and its debug lines say nothing we need.
    logging.getLogger("aiohttp.access").setLevel(logging.CRITICAL)
    logging.getLogger("aiohttp.server").addFilter(_malformed_http)


def new_incident() -> str:
    """An id that a user can read out and the operations staff can find in the log."""
    return secrets.token_hex(4)
