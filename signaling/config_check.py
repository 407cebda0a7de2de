"""Turns parsed TOML into the structs of the model and lists every value that does not fit.

msgspec stops at the first mistake; somebody who edits a file wants to hear of all of them, with
the nearest known key for a typing error and the range for a number.
"""

from __future__ import annotations

import difflib
import math
import re
from typing import Final

from msgspec import inspect

from signaling.config_errors import ConfigProblem
from signaling.config_model import Config

MAX_VALUE_CHARS: Final = 80
HIDDEN: Final = "***"

_CONFIG_TYPE: Final = inspect.type_info(Config)
_ALTERNATIVES: Final = re.compile(r"^\^\(([a-z0-9|]+)\)\$$")


class Missing:
    """Stands for a value that could not be built; never part of a `Config`."""


MISSING: Final = Missing()


def build(data: object) -> tuple[Config | None, list[ConfigProblem]]:
    """The configuration in `data`, or None with everything that is wrong in it."""
    problems: list[ConfigProblem] = []
    value = _build(data, _CONFIG_TYPE, "", problems)
    if problems or not isinstance(value, Config):
        return None, problems
    return value, []


def show(key: str, value: object) -> str:
    """A value as TOML would write it, cut short; a secret is never shown."""
    # Any text under [auth]: a mistyped `secrets = "…"` must not end up on a screen or in a log.
    if key.partition(".")[0] == "auth" and isinstance(value, str) and value:
        return HIDDEN
    if value is MISSING:
        return "(missing)"
    if isinstance(value, bool):
        text = "true" if value else "false"
    elif isinstance(value, str):
        text = '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    elif isinstance(value, dict):
        text = "{" + ", ".join(str(name) for name in value) + "}"
    elif isinstance(value, list):
        text = "[" + ", ".join(show("", item) for item in value[:20]) + "]"
    elif isinstance(value, int):
        # str() of an int of more than 4,300 digits raises.
        text = (
            str(value) if value.bit_length() < 256 else f"(a number of {value.bit_length()} bits)"
        )
    else:
        text = str(value)
    return text if len(text) <= MAX_VALUE_CHARS else text[:MAX_VALUE_CHARS] + "…"


def _plain(type_: inspect.Type) -> inspect.Type:
    while isinstance(type_, inspect.Metadata):
        type_ = type_.type
    return type_


def _build(value: object, type_: inspect.Type, key: str, problems: list[ConfigProblem]) -> object:
    type_ = _plain(type_)
    if isinstance(type_, inspect.StructType):
        return _build_table(value, type_, key, problems)
    if isinstance(type_, inspect.DictType):
        return _build_mapping(value, type_, key, problems)
    if isinstance(type_, inspect.ListType):
        return _build_list(value, type_, key, problems)
    if _fits(value, type_):
        return float(value) if isinstance(type_, inspect.FloatType) else value  # type: ignore[arg-type]
    en, zh = allowed(type_)
    problems.append(ConfigProblem(key, show(key, value), en, zh))
    return MISSING


def _build_table(
    value: object, type_: inspect.StructType, key: str, problems: list[ConfigProblem]
) -> object:
    if not isinstance(value, dict):
        problems.append(_not_a_table(key, value))
        return MISSING
    fields = {field.encode_name: field for field in type_.fields}
    for name in value:
        if name not in fields:
            problems.append(_unknown(_join(key, str(name)), value[name], str(name), list(fields)))
    built: dict[str, object] = {}
    for name, field in fields.items():
        path = _join(key, name)
        if name in value:
            built[name] = _build(value[name], field.type, path, problems)
        elif not field.required:
            built[name] = field.default  # an exception that a file asks for, such as `override`
        else:
            en, zh = allowed(_plain(field.type))
            problems.append(
                ConfigProblem(path, show(path, MISSING), f"{en}; add this key", f"{zh}；请补上此项")
            )
            built[name] = MISSING
    if MISSING in built.values():
        return MISSING
    return type_.cls(**built)


def _build_mapping(
    value: object, type_: inspect.DictType, key: str, problems: list[ConfigProblem]
) -> object:
    if not isinstance(value, dict):
        problems.append(_not_a_table(key, value))
        return MISSING
    if len(value) < (type_.min_length or 0):
        problems.append(ConfigProblem(key, show(key, value), "at least one entry", "至少一项"))
    key_type = _plain(type_.key_type)
    names = _alternatives(key_type)
    built: dict[object, object] = {}
    for name, item in value.items():
        path = _join(key, str(name))
        if names and name not in names:
            problems.append(_unknown(path, item, str(name), names))
            continue
        if not _fits(name, key_type):
            en, zh = allowed(key_type)
            problems.append(
                ConfigProblem(path, show(path, item), f"as a name, {en}", f"名称为{zh}")
            )
        built[name] = _build(item, type_.value_type, path, problems)
    return MISSING if MISSING in built.values() else built


def _build_list(
    value: object, type_: inspect.ListType, key: str, problems: list[ConfigProblem]
) -> object:
    low, high = type_.min_length or 0, type_.max_length
    if not isinstance(value, list) or len(value) < low or (high is not None and len(value) > high):
        en, zh = allowed(type_)
        problems.append(ConfigProblem(key, show(key, value), en, zh))
        return MISSING
    built = [
        _build(item, type_.item_type, f"{key}[{number}]", problems)
        for number, item in enumerate(value)
    ]
    return MISSING if MISSING in built else built


def _fits(value: object, type_: inspect.Type) -> bool:
    if isinstance(type_, inspect.StrType):
        return (
            isinstance(value, str)
            and len(value) >= (type_.min_length or 0)
            and (type_.max_length is None or len(value) <= type_.max_length)
            and (type_.pattern is None or re.search(type_.pattern + r"\Z", value) is not None)
        )
    if isinstance(type_, inspect.BoolType):
        return isinstance(value, bool)
    if isinstance(type_, inspect.LiteralType):
        return isinstance(value, str) and value in type_.values
    if isinstance(type_, inspect.IntType):
        return (
            isinstance(value, int)
            and not isinstance(value, bool)
            and (type_.ge is None or value >= type_.ge)
            and (type_.le is None or value <= type_.le)
            and (type_.multiple_of is None or value % type_.multiple_of == 0)
        )
    if isinstance(type_, inspect.FloatType):
        return (
            isinstance(value, int | float)
            and not isinstance(value, bool)
            and (type_.ge is None or value >= type_.ge)
            and (type_.le is None or value <= type_.le)
            and math.isfinite(value)
        )
    raise TypeError(f"the model uses a type this check does not know: {type_!r}")


def allowed(type_: inspect.Type) -> tuple[str, str]:
    """What a value of this type may be, in English and Chinese."""
    type_ = _plain(type_)
    if isinstance(type_, inspect.IntType | inspect.FloatType):
        whole = isinstance(type_, inspect.IntType)
        even = whole and type_.multiple_of == 2
        en = "an even whole number" if even else "a whole number" if whole else "a number"
        zh = "偶数" if even else "整数" if whole else "数字"
        return f"{en} from {type_.ge} to {type_.le}", f"{type_.ge} 到 {type_.le} 的{zh}"
    if isinstance(type_, inspect.BoolType):
        return "true or false", "true 或 false"
    names = _alternatives(type_)
    if names:
        listed = ", ".join(f'"{name}"' for name in names)
        return f"one of {listed}", f"{listed} 之一"
    if isinstance(type_, inspect.StrType):
        if type_.pattern is not None:
            return (
                "1 to 40 lower-case letters, digits, - or _, a letter or digit first",
                "1 到 40 个小写字母、数字、- 或 _，首位为字母或数字",
            )
        low = type_.min_length or 0
        return (
            f"text of {low} to {type_.max_length} characters, in quotes",
            f"{low} 到 {type_.max_length} 个字符的文本，加引号",
        )
    if isinstance(type_, inspect.ListType):
        en, zh = allowed(type_.item_type)
        low = type_.min_length or 0
        return (
            f"a list [..] of {low} to {type_.max_length} items, each {en}",
            f"{low} 到 {type_.max_length} 项的列表 [..]，每项为{zh}",
        )
    return "a table", "一个表"


def _alternatives(type_: inspect.Type) -> list[str]:
    if isinstance(type_, inspect.LiteralType):
        return [str(value) for value in type_.values]
    if isinstance(type_, inspect.StrType) and type_.pattern is not None:
        match = _ALTERNATIVES.match(type_.pattern)
        return match.group(1).split("|") if match else []
    return []


def _not_a_table(key: str, value: object) -> ConfigProblem:
    name = key or "(top level)"
    return ConfigProblem(
        name, show(key, value), f"a table: write [{name}]", f"一个表：请写成 [{name}]"
    )


def _unknown(path: str, value: object, name: str, known: list[str]) -> ConfigProblem:
    near = difflib.get_close_matches(name[:64], known, n=1, cutoff=0.5)
    listed = ", ".join(known) or "nothing"
    if near:
        en, zh = f'no such key; did you mean "{near[0]}"? ', f"没有这个键，是否想写 “{near[0]}”？"
    else:
        en, zh = "no such key; ", "没有这个键；"
    return ConfigProblem(
        path[:200],
        show(path, value),
        f"{en}Known here: {listed}".replace("; Known", "; known"),
        f"{zh}此处可用：{listed}",
    )


def _join(key: str, name: str) -> str:
    return f"{key}.{name}" if key else name
