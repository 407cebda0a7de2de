"""Reads the configuration: embedded defaults, under a TOML file, under `--set key=value`.

A file says only what differs from `defaults/default.toml`: tables are merged key by key, lists
and values are replaced. What comes out is a frozen, validated `Config`, or one `ConfigError`
that names every key at fault, its value and what is allowed.
"""

from __future__ import annotations

import copy
import tomllib
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Final

import msgspec
import tomlkit

from signaling.config_check import HIDDEN, build, show
from signaling.config_errors import ConfigError, ConfigProblem
from signaling.config_model import (
    Alarms,
    Auth,
    Config,
    Limits,
    Mixer,
    Mode,
    Planner,
    Profile,
    Recording,
    Server,
    Stream,
)
from signaling.config_rules import check, is_loopback, wire_kbps, worker_count
from signaling.plan_rules import check_caps

__all__ = [
    "Alarms",
    "Auth",
    "Change",
    "Config",
    "ConfigError",
    "ConfigProblem",
    "Limits",
    "Mixer",
    "Mode",
    "Planner",
    "Profile",
    "Recording",
    "Server",
    "Stream",
    "default_text",
    "describe_changes",
    "is_loopback",
    "json_schema",
    "load",
    "parse",
    "public",
    "to_toml",
    "wire_kbps",
    "worker_count",
]

MAX_FILE_BYTES: Final = 1024 * 1024
MAX_KEY_DEPTH: Final = 8


class Change(msgspec.Struct, frozen=True):
    """A key that differs between two configurations. `live` is false if it needs a restart."""

    key: str
    old: str
    new: str
    live: bool


@cache
def default_text() -> str:
    """The embedded, commented defaults, the same text as `configs/default.toml`."""
    return resources.files("signaling").joinpath("defaults/default.toml").read_text("utf-8")


def load(path: Path | None, overrides: Sequence[str] = ()) -> Config:
    """The configuration in a file (None: the embedded defaults) with overrides on top."""
    text = "" if path is None else _read(path)
    config = parse(text, overrides)
    if config.server.tls == "files":
        _refuse_unreadable(config.server)
    return config


def parse(text: str, overrides: Sequence[str] = ()) -> Config:
    """The configuration in a TOML text laid over the defaults. Touches no file."""
    merged = copy.deepcopy(_defaults())
    _merge(merged, _toml(text))
    problems: list[ConfigProblem] = []
    for override in overrides:
        try:
            _merge(merged, _override(override))
        except ConfigError as error:
            problems.extend(error.errors)
    config, found = build(merged)
    problems.extend(found)
    if config is not None:
        # Caps are judged by a model of what runs: it takes a configuration that could run.
        problems.extend(check(config) or check_caps(config))
    if config is None or problems:
        raise ConfigError(problems)
    return config


def to_toml(config: Config, *, secrets: bool = False) -> str:
    """A TOML text that parses to the same configuration; secrets only when asked for."""
    data = msgspec.to_builtins(config) if secrets else public(config)
    return tomlkit.dumps(data)


def public(config: Config) -> dict[str, object]:
    """The configuration as plain data, the secrets left out."""
    data: dict[str, object] = msgspec.to_builtins(config)
    auth = data["auth"]
    assert isinstance(auth, dict)
    del auth["secret"]
    return data


def json_schema() -> dict[str, object]:
    """The JSON schema of a configuration file, descriptions and defaults included.

    Nothing is required in it, because whatever a file leaves out comes from the defaults.
    """
    schema: dict[str, object] = msgspec.json.schema(Config)
    definitions = schema["$defs"]
    assert isinstance(definitions, dict)
    for definition in definitions.values():
        definition.pop("required", None)
    for section in (Server, Limits, Auth, Planner, Recording, Alarms):
        values = _defaults()[section.__name__.lower()]
        assert isinstance(values, dict)
        for key, value in values.items():
            definitions[section.__name__]["properties"][key]["default"] = value
    return schema


def describe_changes(old: Config, new: Config) -> list[Change]:
    """The keys whose values differ, in order, and whether each is applied without a restart.

    Limits, token lifetimes, profiles and modes are live (profiles and modes for lessons created
    from then on). What processes were started with, `[server]` and the signing secret, is not.
    """
    before, after = _flat(msgspec.to_builtins(old)), _flat(msgspec.to_builtins(new))
    return [
        Change(key, _shown(key, before), _shown(key, after), live=_is_live(key))
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key)
    ]


def _is_live(key: str) -> bool:
    return key != "auth.secret" and not key.startswith("server.")


def _shown(key: str, values: Mapping[str, object]) -> str:
    if key not in values:
        return "(missing)"
    return HIDDEN if key == "auth.secret" else show(key, values[key])


def _flat(table: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    flat: dict[str, object] = {}
    for name, value in table.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


@cache
def _defaults() -> dict[str, object]:
    return tomllib.loads(default_text())


def _merge(base: dict[str, object], over: Mapping[str, object]) -> None:
    for key, value in over.items():
        current = base.get(key)
        if isinstance(current, dict) and isinstance(value, dict):
            _merge(current, value)
        else:
            base[key] = value


def _toml(text: str) -> dict[str, object]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _refused("(file)", str(error), "TOML 1.0 text", "TOML 1.0 文本") from error
    except (ValueError, RecursionError) as error:
        # Numbers of thousands of digits and brackets nested thousands deep get here.
        raise _refused(
            "(file)",
            type(error).__name__,
            "TOML 1.0 text with sensible numbers and nesting",
            "TOML 1.0 文本，数字与嵌套须合理",
        ) from error


def _override(text: str) -> dict[str, object]:
    """`a.b.c=value` as nested tables. The value is TOML; bare words are taken as text."""
    dotted, equals, raw = text.partition("=")
    names = [name.strip() for name in dotted.split(".")]
    well_formed = equals and all(names) and len(names) <= MAX_KEY_DEPTH and _is_unicode(text)
    if not well_formed:
        raise _refused(
            f"--set {_ascii(text[:60])}",
            "(not understood)",
            "key=value with a dotted key, for example server.port=8443",
            "“键=值”，键用点分隔，例如 server.port=8443",
        )
    value: object = _value(names, raw.strip())
    for name in reversed(names):
        value = {name: value}
    assert isinstance(value, dict)
    return value


def _value(names: Sequence[str], raw: str) -> object:
    try:
        parsed = tomllib.loads(f"value = {raw}")
    except (ValueError, RecursionError) as error:
        if raw[:1] in ("[", "{", '"', "'"):
            key = ".".join(names)
            raise _refused(
                key,
                show(key, raw),
                "a complete TOML value (in quotes?)",
                "完整的 TOML 值（引号？）",
            ) from error
        return raw
    return parsed["value"] if len(parsed) == 1 else raw


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # bytes of the command line that were not UTF-8
        return False
    return True


def _ascii(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise _refused(
            "--config", f"{path} ({reason})", "a readable TOML file", "可读取的 TOML 文件"
        ) from error
    if len(content) > MAX_FILE_BYTES:
        raise _refused("--config", str(path), "a file of at most 1 MiB", "不超过 1 MiB 的文件")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _refused(
            "--config", f"{path} (byte {error.start})", "UTF-8 text", "UTF-8 编码的文本"
        ) from error


def _refuse_unreadable(server: Server) -> None:
    problems = [
        ConfigProblem(key, show(key, value), "a PEM file that exists", "已存在的 PEM 文件")
        for key, value in (
            ("server.tls_certificate", server.tls_certificate),
            ("server.tls_key", server.tls_key),
        )
        if not Path(value).is_file()
    ]
    if problems:
        raise ConfigError(problems)


def _refused(key: str, value: str, allowed: str, allowed_zh: str) -> ConfigError:
    return ConfigError([ConfigProblem(key, value, allowed, allowed_zh)])
