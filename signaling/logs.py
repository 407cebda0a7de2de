"""Logging of the control process, for people or as JSON lines.

Nothing personal is logged anywhere: no name, address, token or join code. Lessons, seats and
sessions appear by their ids only.
"""

from __future__ import annotations

import logging
import secrets
import sys
from datetime import UTC, datetime
from typing import Literal

import msgspec
from aiohttp.http_exceptions import HttpProcessingError

LogFormat = Literal["human", "json"]


class JsonFormatter(logging.Formatter):
    """One JSON object per record: time, level, logger, message, and the trace if any."""

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            entry["trace"] = self.formatException(record.exc_info)
        return msgspec.json.encode(entry).decode()


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


def set_up(log_format: LogFormat = "human", level: str = "INFO") -> None:
    """Send the log of this process to standard error, replacing what was set up before."""
    handler = logging.StreamHandler(sys.stderr)
    if log_format == "json":
        handler.setFormatter(JsonFormatter())
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # Its access log would name addresses, and its debug lines say nothing we need.
    logging.getLogger("aiohttp.access").setLevel(logging.CRITICAL)
    logging.getLogger("aiohttp.server").addFilter(_malformed_http)


def new_incident() -> str:
    """An id that a user can read out and the operations staff can find in the log."""
    return secrets.token_hex(4)
