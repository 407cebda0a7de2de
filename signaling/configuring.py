"""The configuration in effect: how it is shown, replaced while running, and written back."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import msgspec
import tomlkit
from tomlkit.exceptions import TOMLKitError

from signaling import config as configuration
from signaling.config_model import Config
from signaling.store.secretfiles import write_private

log = logging.getLogger(__name__)


class Configuring:
    """Holds the configuration; whoever needs it asks each time, so that a reload reaches all.

    `path` is the file that it came from, None for the embedded defaults; `overrides` are the
    `--set` arguments, which win over the file at every reload too.
    """

    def __init__(
        self, config: Config, path: Path | None = None, overrides: tuple[str, ...] = ()
    ) -> None:
        self.config = config
        self.path = path
        self._overrides = overrides
        self._text = _read(path) if path is not None else None
        self._listeners: list[Callable[[Config], None]] = []

    @property
    def source(self) -> str:
        return self.path.name if self.path is not None else "defaults"

    @property
    def toml(self) -> str:
        """The file's text, or where there is none what is in effect, with no secret in it."""
        if self._text is None:
            return configuration.to_toml(self.config)
        return _without_secret(self._text)

    def on_change(self, listener: Callable[[Config], None]) -> None:
        self._listeners.append(listener)

    def apply(self, config: Config) -> list[configuration.Change]:
        """Put a validated configuration into effect, as far as that goes without a restart.

        `[server]` and the signing secret stay as the processes were started with them.
        """
        changes = configuration.describe_changes(self.config, config)
        for change in changes:
            log.info(
                "configuration: %s is now %s%s",
                change.key,
                change.new,
                "" if change.live else ", after a restart",
            )
        auth = msgspec.structs.replace(config.auth, secret=self.config.auth.secret)
        self.config = msgspec.structs.replace(config, server=self.config.server, auth=auth)
        for listener in self._listeners:
            listener(self.config)
        return changes

    def preview(self, text: str) -> list[configuration.Change]:
        """What `replace_toml` would change. Raises ConfigError."""
        if self._text is not None:
            configuration.parse(text, self._overrides)
            text = _with_secret_of(self._text, text)
        config = configuration.parse(text, self._overrides)
        if not _secret(text):
            auth = msgspec.structs.replace(config.auth, secret=self.config.auth.secret)
            config = msgspec.structs.replace(config, auth=auth)
        return configuration.describe_changes(self.config, config)

    def replace_toml(self, text: str) -> list[configuration.Change]:
        """Validate a text, write it to the file where there is one, and put it into effect.

        Raises ConfigError, and then nothing has changed.
        """
        config = configuration.parse(text, self._overrides)
        if self._text is not None:
            # What was shown had the secret left out: saving it back must not lose it.
            text = _with_secret_of(self._text, text)
        if self.path is not None:
            write_private(self.path, text.encode())
        self._text = text
        return self.apply(config)

    def reread(self) -> list[configuration.Change]:
        """Load the file again. Raises ConfigError, and then nothing has changed."""
        config = configuration.load(self.path, self._overrides)
        if self.path is not None:
            self._text = _read(self.path)
        return self.apply(config)


def _read(path: Path) -> str | None:
    try:
        return path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError):
        return None


def _secret(text: str) -> str:
    try:
        auth = tomlkit.parse(text).unwrap().get("auth", {})
    except TOMLKitError:
        return ""
    return str(auth.get("secret", "")) if isinstance(auth, dict) else ""


def _without_secret(text: str) -> str:
    """The text, comments and all, less `auth.secret`."""
    if not _secret(text):
        return text
    document = tomlkit.parse(text)
    document["auth"].remove("secret")
    return tomlkit.dumps(document)


def _with_secret_of(old: str, new: str) -> str:
    """The new text with the old one's `auth.secret`, unless it has one itself."""
    secret = _secret(old)
    if not secret or _secret(new):
        return new
    document = tomlkit.parse(new)
    document.setdefault("auth", tomlkit.table())["secret"] = secret
    return tomlkit.dumps(document)
