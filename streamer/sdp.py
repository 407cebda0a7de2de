"""Reads WebRTC session descriptions and ICE fragments, which come from strangers, into values.

Whatever the text is, the result is a value or an `InvalidSdpError` that names the line. Lines that
we have no use for are passed over unread; lines that we use must be right.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from .description import (
    Candidate,
    Codec,
    Description,
    Fragment,
    HeaderExtension,
    Media,
    Transport,
)
from .errors import InvalidSdpError
from .sdplines import TOKEN, Section, matched, number, quoted, read_sections
from .sdpmedia import parse_media

__all__ = [
    "Candidate",
    "Codec",
    "Description",
    "Fragment",
    "HeaderExtension",
    "Media",
    "Transport",
    "build_fragment",
    "parse_candidate",
    "parse_candidate_lines",
    "parse_description",
    "parse_fragment",
]

MAX_CANDIDATES = 64
MAX_FINGERPRINTS = 8

SETUPS = ("actpass", "active", "passive", "holdconn")
DIGEST_BYTES = {"sha-1": 20, "sha-224": 28, "sha-256": 32, "sha-384": 48, "sha-512": 64}

_MID = re.compile(rf"{TOKEN}{{1,64}}")
_UFRAG = re.compile(r"[A-Za-z0-9+/]{4,256}")  # RFC 8839 section 5.4
_PWD = re.compile(r"[A-Za-z0-9+/]{22,256}")
_FINGERPRINT = re.compile(rf"({TOKEN}{{1,32}}) +([0-9A-Fa-f]{{2}}(?::[0-9A-Fa-f]{{2}}){{15,127}})")
_CANDIDATE = re.compile(
    r"([\x21-\x7e]{1,64}) +([0-9]{1,3}) +([A-Za-z0-9-]{1,16}) +([0-9]{1,10})"
    r" +([A-Za-z0-9._:%-]{1,255}) +([0-9]{1,5}) +typ +([A-Za-z0-9-]{1,16})"
    r"((?: +[\x21-\x7e]{1,256}){0,64})"
)


def parse_description(text: str) -> Description:
    """Read an offer or an answer."""
    session, sections = read_sections(text)
    if not text.startswith("v=0"):
        raise InvalidSdpError("v=", "a session description starts with the line v=0")
    if not sections:
        raise InvalidSdpError("m=", "there is no m-line, so nothing to send or receive")
    bundle = _bundle(session)
    mids = [_mid(section) for section in sections]
    named = {mid: section for mid, section in zip(mids, sections, strict=True) if mid}
    if len(named) < sum(1 for mid in mids if mid):
        raise InvalidSdpError("a=mid", "two m-lines have the same mid; each needs its own")
    for mid in bundle:
        if mid not in named:
            raise InvalidSdpError("a=group", f"BUNDLE names mid {quoted(mid)}, which no m-line has")

    # The bundle's first living m-line may speak for all others of it (RFC 9143 section 7.1.3).
    leader = next((named[mid] for mid in bundle if not named[mid].rejected), None)
    shared = None if leader is None else _transport(leader, session, None)
    media = []
    for section, mid in zip(sections, mids, strict=True):
        transport = None
        if section is leader:
            transport = shared
        elif not section.rejected:
            transport = _transport(section, session, shared if mid in bundle else None)
        media.append(parse_media(section, session, mid, transport))
    if all(entry.rejected for entry in media):
        raise InvalidSdpError("m=", "every m-line is rejected (port 0), so nothing can flow")

    options = [option for s in (session, *sections) for option in s.words("ice-options")]
    mixed = "extmap-allow-mixed"
    living = [section for section in sections if not section.rejected]
    return Description(
        media=tuple(media),
        bundle=bundle,
        ice_lite=session.has("ice-lite"),
        ice_options=tuple(dict.fromkeys(options)),
        extmap_allow_mixed=session.has(mixed) or all(section.has(mixed) for section in living),
    )


def parse_fragment(text: str) -> Fragment:
    """Read an `application/trickle-ice-sdpfrag` body (RFC 8840 section 9)."""
    session, sections = read_sections(text)
    parts = (session, *sections)
    credentials = {
        (_ufrag(part), _pwd(part)) for part in parts if part.has("ice-ufrag") or part.has("ice-pwd")
    }
    if len(credentials) > 1:
        raise InvalidSdpError(
            "a=ice-ufrag", "m-lines differ in ICE credentials; all are bundled here, send one pair"
        )
    ufrag, pwd = credentials.pop() if credentials else (None, None)
    candidates = [candidate for part in parts for candidate in _candidates(part)]
    if len(candidates) > MAX_CANDIDATES:
        raise InvalidSdpError("a=candidate", f"more than {MAX_CANDIDATES} candidates")
    mids = [mid for section in sections if (mid := _mid(section))]
    return Fragment(
        ice_ufrag=ufrag,
        ice_pwd=pwd,
        candidates=tuple(candidates),
        end_of_candidates=any(part.has("end-of-candidates") for part in parts),
        mids=tuple(dict.fromkeys(mids)),
        ice_lite=session.has("ice-lite"),
    )


def build_fragment(
    *,
    ice_ufrag: str,
    ice_pwd: str,
    candidates: Sequence[Candidate] = (),
    mids: Sequence[str] = (),
    end_of_candidates: bool = False,
    ice_lite: bool = False,
) -> str:
    """Write a fragment, for example the answer to an ICE restart (RFC 9725 section 4.3)."""
    return Fragment(
        ice_ufrag=ice_ufrag,
        ice_pwd=ice_pwd,
        candidates=tuple(candidates),
        end_of_candidates=end_of_candidates,
        mids=tuple(mids),
        ice_lite=ice_lite,
    ).to_text()


def parse_candidate(line: str, field: str = "a=candidate") -> Candidate:
    """Read one candidate, with or without `a=` and `candidate:` in front."""
    found = _CANDIDATE.fullmatch(
        line.strip(" \t\r\n").removeprefix("a=").removeprefix("candidate:")
    )
    if found is None:
        raise InvalidSdpError(
            field, f"{quoted(line)} is no candidate (RFC 8839: foundation component transport …)"
        )
    foundation, component, transport, priority, host, port, kind, rest = found.groups()
    words = rest.split()
    extra = dict(zip(words[::2], words[1::2], strict=False))
    related_host = extra.get("raddr", "")
    related_port = extra.get("rport", "0") if related_host else "0"
    return Candidate(
        foundation=foundation,
        component=number(component, 1, 256, field, "component"),
        transport=transport.lower(),
        priority=number(priority, 0, 0xFFFFFFFF, field, "priority"),
        host=host,
        port=number(port, 0, 0xFFFF, field, "port"),
        type=kind,
        tcptype=extra.get("tcptype", ""),
        related_host=related_host,
        related_port=number(related_port, 0, 0xFFFF, field, "rport"),
    )


def parse_candidate_lines(lines: Iterable[str]) -> tuple[Candidate, ...]:
    """Read several candidates."""
    return tuple(parse_candidate(line) for line in lines)


# --- session and transport ---------------------------------------------------------------------


def _bundle(session: Section) -> tuple[str, ...]:
    groups = [
        words[1:] for value in session.all("group") if (words := value.split())[:1] == ["BUNDLE"]
    ]
    if not groups:
        return ()
    if len(groups) > 1:
        raise InvalidSdpError("a=group", "more than one BUNDLE group; put all m-lines in one")
    if len(set(groups[0])) < len(groups[0]):
        raise InvalidSdpError("a=group", "BUNDLE names a mid twice")
    return tuple(groups[0])


def _mid(section: Section) -> str:
    value = section.one("mid")
    if value is None:
        return ""
    return matched(_MID, value, section, "mid", "a token of at most 64 characters").group()


def _ufrag(section: Section, session: Section | None = None) -> str:
    return _credential("ice-ufrag", _UFRAG, 4, section, session)


def _pwd(section: Section, session: Section | None = None) -> str:
    return _credential("ice-pwd", _PWD, 22, section, session)


def _credential(
    name: str, pattern: re.Pattern[str], least: int, section: Section, session: Section | None
) -> str:
    value = section.one(name)
    if value is None and session is not None:
        value = session.one(name)
    if value is None:
        raise InvalidSdpError(section.field(name), "missing; ICE needs a=ice-ufrag and a=ice-pwd")
    if not pattern.fullmatch(value):
        raise InvalidSdpError(
            section.field(name), f"must be {least}…256 letters, digits, + or / (RFC 8839)"
        )
    return value


def _transport(section: Section, session: Section, shared: Transport | None) -> Transport:
    """The m-line's own transport attributes, else the session's, else the bundle's."""
    given = [part for part in (section, session) if part.has("ice-ufrag") or part.has("ice-pwd")]
    if shared is not None and not given:
        ufrag, pwd = shared.ice_ufrag, shared.ice_pwd
    else:
        ufrag, pwd = _ufrag(section, session), _pwd(section, session)
    fingerprints = _fingerprints(section) or _fingerprints(session)
    setup = section.one("setup") or session.one("setup")
    if setup is not None and setup not in SETUPS:
        raise InvalidSdpError(
            section.field("setup"), f"{quoted(setup)} is none of " + ", ".join(SETUPS)
        )
    if shared is not None:
        fingerprints, setup = fingerprints or shared.fingerprints, setup or shared.setup
    if not fingerprints:
        raise InvalidSdpError(section.field("fingerprint"), "missing; media is DTLS-SRTP only")
    return Transport(
        ice_ufrag=ufrag,
        ice_pwd=pwd,
        fingerprints=fingerprints,
        setup=setup or "",
        candidates=_candidates(section),
        end_of_candidates=section.has("end-of-candidates") or session.has("end-of-candidates"),
    )


def _fingerprints(section: Section) -> tuple[tuple[str, str], ...]:
    values = section.all("fingerprint")
    if len(values) > MAX_FINGERPRINTS:
        raise InvalidSdpError(section.field("fingerprint"), f"more than {MAX_FINGERPRINTS}")
    result = []
    for value in values:
        form = "<algorithm> and hex pairs with colons (RFC 8122)"
        found = matched(_FINGERPRINT, value, section, "fingerprint", form)
        algorithm, digest = found.group(1).lower(), found.group(2).upper()
        length = len(digest.split(":"))
        if DIGEST_BYTES.get(algorithm, length) != length:
            raise InvalidSdpError(
                section.field("fingerprint"),
                f"{algorithm} has {DIGEST_BYTES[algorithm]} bytes, not {length}",
            )
        result.append((algorithm, digest))
    return tuple(result)


def _candidates(section: Section) -> tuple[Candidate, ...]:
    values = section.all("candidate")
    if len(values) > MAX_CANDIDATES:
        raise InvalidSdpError(section.field("candidate"), f"more than {MAX_CANDIDATES}")
    return tuple(parse_candidate(value, section.field("candidate")) for value in values)
