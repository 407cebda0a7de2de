"""The one error family of the control plane: RFC 9457 problem documents in Chinese and English.

A `Problem` is raised where the input came in and turned into a document where the answer is
written. The texts are in `problem_texts`.
"""

from __future__ import annotations

from collections.abc import Mapping
from string import Formatter
from types import MappingProxyType
from typing import Final, Literal

from signaling.problem_texts import KINDS, Text

Language = Literal["zh-CN", "en"]

LANGUAGES: Final[tuple[Language, ...]] = ("zh-CN", "en")
DEFAULT_LANGUAGE: Final[Language] = "zh-CN"
MEDIA_TYPE: Final = "application/problem+json"
TYPE_BASE: Final = "https://tongke.dev/problems/"

MAX_ACCEPT_LANGUAGE_CHARS: Final = 1024
MAX_VALUE_CHARS: Final = 200

_NOTHING: Final[Mapping[str, object]] = MappingProxyType({})


class Problem(Exception):  # noqa: N818 - RFC 9457 calls it a problem
    """An error with a stable type, a status and texts in both languages.

    `detail_args` fill the sentences only; `extra` members are written into the document as well.
    A value may be a mapping from language to text. `field` names the offending part.
    """

    def __init__(
        self,
        type: str,
        *,
        status: int | None = None,
        field: str | None = None,
        retry_after: int | None = None,
        detail_args: Mapping[str, object] = _NOTHING,
        extra: Mapping[str, object] = _NOTHING,
    ) -> None:
        kind = KINDS.get(type)
        if kind is None:
            raise ValueError(f"no problem type {type!r}: the known ones are in KINDS")
        super().__init__(type)
        self.type = type
        self.status = kind.status if status is None else status
        self.field = field
        self.retry_after = kind.retry_after_s if retry_after is None else retry_after
        self.detail_args = dict(detail_args)
        self.extra = dict(extra)

    @property
    def headers(self) -> dict[str, str]:
        """The response headers that belong to this problem (the content type is not one)."""
        headers = {"Vary": "Accept-Language", "Cache-Control": "no-store"}
        if self.retry_after is not None:
            headers["Retry-After"] = str(max(0, self.retry_after))
        if self.status == 401:
            # RFC 9110 section 15.5.2 demands a challenge; RFC 6750 section 3 gives its form.
            headers["WWW-Authenticate"] = 'Bearer error="invalid_token"'
        return headers

    def document(self, language: str) -> dict[str, object]:
        """The members of the problem document in `language` (anything but `en` is zh-CN)."""
        kind = KINDS[self.type]
        text = kind.text(language)
        document: dict[str, object] = {
            "type": TYPE_BASE + self.type,
            "title": text.title,
            "status": self.status,
            "detail": self._detail(text, language),
        }
        if self.field is not None:
            document["field"] = self.field
        for name, value in self.extra.items():
            document.setdefault(name, value)
        return document

    def _detail(self, text: Text, language: str) -> str:
        values: dict[str, object] = {**self.extra, **self.detail_args}
        if self.field is not None:
            values.setdefault("field", self.field)
        if self.retry_after is not None:
            values.setdefault("retry_after", self.retry_after)
        known = {
            name: _localised(value, language) for name, value in values.items() if value is not None
        }
        separator = " " if language == "en" else ""
        return separator.join(
            sentence.format_map(known)
            for sentence in text.sentences
            if _placeholders(sentence) <= known.keys()
        )

    def __str__(self) -> str:
        return f"{self.type}: {self.document('en')['detail']}"


def _placeholders(sentence: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(sentence) if name}


def _localised(value: object, language: str) -> str:
    """A value as the text of one language, cut so that an input cannot bloat its own refusal."""
    if isinstance(value, Mapping):
        chosen = value.get("en" if language == "en" else "zh-CN")
        value = chosen if chosen is not None else next(iter(value.values()), "")
    if isinstance(value, list | tuple | set | frozenset):
        value = ", ".join(str(item) for item in value)
    rendered = str(value)
    if len(rendered) > MAX_VALUE_CHARS:
        return rendered[:MAX_VALUE_CHARS] + "…"
    return rendered


def negotiate_language(accept_language: str | None) -> Language:
    """The supported language an `Accept-Language` header asks for first (RFC 9110 section 12.5.4).

    Any Chinese is answered with zh-CN, any English with en; nothing usable gives zh-CN.
    """
    if not accept_language:
        return DEFAULT_LANGUAGE
    quality: dict[str, float] = {}
    order: list[str] = []
    for item in accept_language[:MAX_ACCEPT_LANGUAGE_CHARS].split(","):
        tag, _, parameters = item.partition(";")
        primary = tag.strip().lower().partition("-")[0]
        name = {"zh": "zh-CN", "en": "en", "*": "*"}.get(primary)
        if name is None:
            continue
        if name not in quality:
            order.append(name)
        quality[name] = max(quality.get(name, 0.0), _quality(parameters))
    for language in LANGUAGES:
        if language not in quality and "*" in quality:
            quality[language] = quality["*"]
            order.append(language)
    ranked = [name for name in order if name != "*" and quality[name] > 0]
    if not ranked:
        return DEFAULT_LANGUAGE
    best = max(ranked, key=lambda name: quality[name])  # max keeps the first of equals
    return "en" if best == "en" else "zh-CN"


def _quality(parameters: str) -> float:
    name, _, value = parameters.partition("=")
    if name.strip().lower() != "q":
        return 1.0
    try:
        weight = float(value)
    except ValueError:
        return 0.0
    return weight if 0.0 <= weight <= 1.0 else 0.0
