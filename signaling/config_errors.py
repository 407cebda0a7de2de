"""What is wrong with a configuration: every problem at once, each with key, value and way out."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from signaling.problems import Problem


class ConfigProblem(msgspec.Struct, frozen=True):
    """One key that cannot stay as it is. `value` is shown as TOML would write it."""

    key: str
    value: str
    allowed: str
    allowed_zh: str


class ConfigError(Exception):
    """A configuration that was refused as a whole: nothing of it is in effect."""

    def __init__(self, errors: Sequence[ConfigProblem]) -> None:
        super().__init__(f"{len(errors)} configuration errors")
        self.errors: tuple[ConfigProblem, ...] = tuple(errors)

    def __str__(self) -> str:
        return self.text("en")

    def text(self, language: str) -> str:
        """All problems, one a line, for a terminal."""
        if language == "en":
            head = f"the configuration has {len(self.errors)} error(s):"
            lines = [f"  {e.key} = {e.value}: allowed: {e.allowed}" for e in self.errors]
        else:
            head = f"配置有 {len(self.errors)} 处错误："
            lines = [f"  {e.key} = {e.value}：允许：{e.allowed_zh}" for e in self.errors]
        return "\n".join([head, *lines])

    def problem(self) -> Problem:
        """The same as a `config-invalid` problem; its document still needs a language."""
        return _ConfigInvalid(self)

    def document(self, language: str) -> dict[str, object]:
        """The `config-invalid` problem document in one language."""
        return self.problem().document(language)


class _ConfigInvalid(Problem):
    """A `Problem` whose `errors` member follows the language of the document."""

    def __init__(self, error: ConfigError) -> None:
        super().__init__("config-invalid", detail_args={"count": len(error.errors)})
        self._error = error

    def document(self, language: str) -> dict[str, object]:
        return super().document(language) | {
            "errors": [
                {
                    "key": e.key,
                    "value": e.value,
                    "allowed": e.allowed if language == "en" else e.allowed_zh,
                }
                for e in self._error.errors
            ]
        }
