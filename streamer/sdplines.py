"""Cuts session description text into the session part and m-lines, within bounds (RFC 8866).

The grammar below `a=` belongs to the callers; here are the lines, and the functions that turn a
value of the wrong form into an `InvalidSdpError` naming its line.
"""

from __future__ import annotations

import re

from .errors import InvalidSdpError

MAX_BYTES = 64 * 1024
MAX_MEDIA = 32
MAX_CODECS = 64
MAX_FORMATS = 2 * MAX_CODECS  # a codec and its retransmission

TOKEN = r"[!#$%&'*+\-.0-9A-Z^_`a-z{|}~]"  # RFC 8866 section 9

_FORBIDDEN = re.compile("[\x00-\x08\x0b-\x0c\x0e-\x1f\x7f\ud800-\udfff]")
_LINE = re.compile(r"([a-z])=(.*)")
_MLINE = re.compile(
    rf"([A-Za-z0-9-]{{1,32}}) +([0-9]{{1,5}})(?:/[0-9]{{1,5}})? +([A-Za-z0-9/]{{1,64}})"
    rf"((?: +{TOKEN}{{1,64}})+)"
)
_ATTRIBUTE = re.compile(rf"({TOKEN}{{1,64}})(?::(.*))?")


class Section:
    """The session part or one m-line: attributes by name, in the order given."""

    __slots__ = ("attributes", "bandwidths", "formats", "kind", "port", "prefix", "protocol")

    def __init__(self, prefix: str = "") -> None:
        self.prefix = prefix
        self.kind = ""
        self.port = 0
        self.protocol = ""
        self.formats: list[str] = []
        self.attributes: dict[str, list[str]] = {}
        self.bandwidths: list[str] = []

    @property
    def rejected(self) -> bool:
        """Port 0, unless that only says that the port is the bundle's (RFC 9143 section 6)."""
        return self.port == 0 and not self.has("bundle-only")

    def has(self, name: str) -> bool:
        return name in self.attributes

    def all(self, name: str) -> list[str]:
        return self.attributes.get(name, [])

    def words(self, name: str) -> list[str]:
        """Words of every line of that name; some writers put commas between them."""
        return [word for value in self.all(name) for word in value.replace(",", " ").split()]

    def one(self, name: str) -> str | None:
        """The value of an attribute that means something only once."""
        values = self.all(name)
        if any(value != values[0] for value in values[1:]):
            raise InvalidSdpError(self.field(name), "given twice with different values")
        return values[0] if values else None

    def field(self, name: str) -> str:
        return f"{self.prefix}a={name}"


def read_sections(text: str) -> tuple[Section, list[Section]]:
    """The session part and the m-lines of a text, which may end its lines by CRLF or LF."""
    if len(text) > MAX_BYTES or len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        raise InvalidSdpError("sdp", f"longer than {MAX_BYTES} bytes")
    if _FORBIDDEN.search(text):
        raise InvalidSdpError("sdp", "holds control characters; it must be lines of UTF-8 text")
    session = section = Section()
    sections: list[Section] = []
    for line_number, raw in enumerate(text.split("\n"), 1):
        line = raw.removesuffix("\r").rstrip(" \t")
        if not line:
            continue
        found = _LINE.fullmatch(line)
        if found is None or "\r" in line:
            raise InvalidSdpError(
                f"line {line_number}", f"{quoted(line)} is not of the form <letter>=<value>"
            )
        letter, value = found.groups()
        if letter == "m":
            if len(sections) == MAX_MEDIA:
                raise InvalidSdpError("m=", f"more than {MAX_MEDIA} m-lines")
            section = _media_section(value, len(sections))
            sections.append(section)
        elif letter == "b":
            section.bandwidths.append(value)
        elif letter == "a":
            attribute = _ATTRIBUTE.fullmatch(value)
            if attribute is None:
                raise InvalidSdpError(f"{section.prefix}a=", f"{quoted(value)} is no attribute")
            name, content = attribute.groups()
            section.attributes.setdefault(name, []).append((content or "").strip(" \t"))
    if not sections and not session.attributes:
        raise InvalidSdpError("sdp", "empty: no m-line and no attribute")
    return session, sections


def _media_section(value: str, index: int) -> Section:
    found = _MLINE.fullmatch(value)
    if found is None:
        raise InvalidSdpError(
            f"m= {index}", f"{quoted(value)} is not <media> <port> <protocol> <format> …"
        )
    kind, port, protocol, formats = found.groups()
    listed = formats.split()
    if len(listed) > MAX_FORMATS:
        raise InvalidSdpError(f"m={kind} {index}", f"more than {MAX_FORMATS} formats")
    if len(set(listed)) < len(listed):
        raise InvalidSdpError(f"m={kind} {index}", "a format is listed twice")
    section = Section(f"m={kind} {index}: ")
    section.kind, section.protocol, section.formats = kind, protocol, listed
    section.port = number(port, 0, 0xFFFF, f"m={kind} {index}", "port")
    return section


def quoted(value: str) -> str:
    """A stranger's text, short and harmless enough to stand in an error message."""
    return ascii(value) if len(value) <= 60 else ascii(value[:60]) + "…"


def number(text: str, low: int, high: int, field: str, what: str) -> int:
    """`text` as a number within bounds."""
    if len(text) > 12 or not (text.isascii() and text.isdigit()) or not low <= int(text) <= high:
        raise InvalidSdpError(field, f"{what} {quoted(text)} is not a number of {low}…{high}")
    return int(text)


def matched(
    pattern: re.Pattern[str], value: str, section: Section, name: str, form: str
) -> re.Match[str]:
    """The match of a whole attribute value; `form` tells the writer what is expected."""
    found = pattern.fullmatch(value)
    if found is None:
        raise InvalidSdpError(section.field(name), f"{quoted(value)} is not {form}")
    return found
