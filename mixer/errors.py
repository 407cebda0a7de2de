"""The exception family of the mixer."""

from __future__ import annotations


class MixerError(Exception):
    """Base of all errors that the mixer raises on purpose."""


class RefusedError(MixerError):
    """A request that cannot be served; `field` names the offending part of it."""

    def __init__(self, code: str, field: str, detail: str) -> None:
        super().__init__(f"{field}: {detail}")
        self.code = code
        self.field = field
        self.detail = detail


class MediaError(MixerError):
    """Bytes that are not the payload or the frame that they were taken for."""
