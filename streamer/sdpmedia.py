"""Reads one m-line's attributes: codecs, header extensions, SSRCs, simulcast and bandwidth."""

from __future__ import annotations

import dataclasses
import re

from .description import Codec, HeaderExtension, Media, Transport
from .errors import InvalidSdpError
from .sdplines import MAX_CODECS, TOKEN, Section, matched, number, quoted

MAX_EXTENSIONS = 64
MAX_PARAMETERS = 64
MAX_FMTP = 2048
MAX_FEEDBACK = 16
MAX_SSRCS = 64
MAX_RIDS = 16

DIRECTIONS = ("sendrecv", "sendonly", "recvonly", "inactive")
REPAIR_GROUPS = ("FID", "FEC", "FEC-FR")  # RFC 5576 section 4.2, RFC 5956 section 4.3

_RTPMAP = re.compile(rf"([0-9]{{1,3}}) +({TOKEN}{{1,64}})/([0-9]{{1,9}})(?:/([0-9]{{1,3}}))?")
_FMTP = re.compile(r"([0-9]{1,3}) +([\x20-\x7e]+)")
_FEEDBACK = re.compile(r"([0-9]{1,3}|\*) +([\x21-\x7e][\x20-\x7e]{0,127})")
_EXTMAP = re.compile(
    r"([0-9]{1,5})(?:/(sendrecv|sendonly|recvonly|inactive))? +([\x21-\x7e]{1,256})(?: .*)?"
)
_SSRC = re.compile(rf"([0-9]{{1,10}})(?: +({TOKEN}{{1,64}})(?::(.*))?)?")
_CNAME = re.compile(r"[\x21-\x7e]{1,255}")
_MSID = re.compile(r"([\x21-\x7e]{1,128})(?: +([\x21-\x7e]{1,128}))?")
_RID = re.compile(r"([A-Za-z0-9_-]{1,255}) +(send|recv)(?: .*)?")
_RID_ID = re.compile(r"[A-Za-z0-9_-]{1,255}")
_BANDWIDTH = re.compile(r"(AS|TIAS):([0-9]{1,12})")


def parse_media(section: Section, session: Section, mid: str, transport: Transport | None) -> Media:
    """The m-line as a value; what it does not say itself it takes from the session part."""
    codecs, other_formats = _codecs(section) if "RTP/" in section.protocol else ((), None)
    ssrcs, rtx_ssrcs = _ssrcs(section)
    cname, msid = _names(section)
    return Media(
        mid=mid,
        kind=section.kind,
        port=section.port,
        protocol=section.protocol,
        direction=_direction(section) or _direction(session) or "sendrecv",
        codecs=codecs,
        other_formats=tuple(section.formats) if other_formats is None else other_formats,
        extensions=_extensions(section),
        ssrcs=ssrcs,
        rtx_ssrcs=rtx_ssrcs,
        rids=_rids(section),
        simulcast=_simulcast(section),
        rtcp_mux=any(s.has(n) for s in (section, session) for n in ("rtcp-mux", "rtcp-mux-only")),
        cname=cname,
        msid=msid,
        bandwidth_bps=_bandwidth_bps(section),
        bundle_only=section.has("bundle-only"),
        transport=transport,
    )


# --- codecs ------------------------------------------------------------------------------------


def _codecs(section: Section) -> tuple[tuple[Codec, ...], tuple[str, ...]]:
    """Codecs in the m-line's order, retransmission folded in, and what else it lists."""
    where = section.field("rtpmap")
    listed = [number(f, 0, 127, section.prefix[:-2], "payload type") for f in section.formats]
    named = _rtpmaps(section)
    fmtp = _fmtp(section)
    feedback = _feedback(section)
    retransmission: dict[int, int] = {}
    codecs = []
    for payload_type in listed:
        if payload_type not in named:
            continue
        name, clock_rate, channels = named[payload_type]
        codec = Codec(
            payload_type=payload_type,
            name=name,
            clock_rate=clock_rate,
            channels=channels,
            fmtp=fmtp.get(payload_type, ()),
            feedback=frozenset(feedback.get(payload_type, set()) | feedback.get(None, set())),
        )
        if name == "rtx":
            apt = codec.parameter("apt")
            if apt is None:
                raise InvalidSdpError(
                    section.field("fmtp"), f"rtx {payload_type} needs apt=<payload type> (RFC 4588)"
                )
            original = number(apt, 0, 127, section.field("fmtp"), "apt")
            retransmission.setdefault(original, payload_type)
        else:
            codecs.append(codec)
    if len(codecs) > MAX_CODECS:
        raise InvalidSdpError(where, f"more than {MAX_CODECS} codecs")
    folded = tuple(
        dataclasses.replace(codec, rtx_payload_type=retransmission.get(codec.payload_type))
        for codec in codecs
    )
    used = {number for codec in folded for number in (codec.payload_type, codec.rtx_payload_type)}
    return folded, tuple(str(number) for number in listed if number not in used)


def _rtpmaps(section: Section) -> dict[int, tuple[str, int, int]]:
    named: dict[int, tuple[str, int, int]] = {}
    for value in section.all("rtpmap"):
        found = matched(_RTPMAP, value, section, "rtpmap", "<payload type> <name>/<clock rate>")
        field = section.field("rtpmap")
        payload_type = number(found.group(1), 0, 127, field, "payload type")
        entry = (
            found.group(2).lower(),
            number(found.group(3), 1, 999_999_999, field, "clock rate"),
            number(found.group(4) or "1", 1, 255, field, "channel count"),
        )
        if named.setdefault(payload_type, entry) != entry:
            raise InvalidSdpError(field, f"payload type {payload_type} is given to two codecs")
    return named


def _fmtp(section: Section) -> dict[int, tuple[tuple[str, str], ...]]:
    parameters: dict[int, tuple[tuple[str, str], ...]] = {}
    for value in section.all("fmtp"):
        found = matched(_FMTP, value, section, "fmtp", "<payload type> <printable parameters>")
        payload_type = number(found.group(1), 0, 127, section.field("fmtp"), "payload type")
        given = list(parameters.get(payload_type, ()))
        for item in found.group(2).split(";"):
            name, equals, content = item.strip().partition("=")
            if equals and name.strip():
                given.append((name.strip().lower(), content.strip()))
            elif item.strip():
                given.append(("", item.strip()))
        if len(given) > MAX_PARAMETERS or sum(len(n) + len(c) + 2 for n, c in given) > MAX_FMTP:
            raise InvalidSdpError(
                section.field("fmtp"),
                f"more than {MAX_PARAMETERS} parameters or {MAX_FMTP} characters of one codec",
            )
        parameters[payload_type] = tuple(given)
    return parameters


def _feedback(section: Section) -> dict[int | None, set[str]]:
    """Feedback kinds by payload type; those of `*` under None."""
    feedback: dict[int | None, set[str]] = {}
    for value in section.all("rtcp-fb"):
        found = matched(_FEEDBACK, value, section, "rtcp-fb", "<payload type or *> <kind>")
        payload_type = None
        if found.group(1) != "*":
            field = section.field("rtcp-fb")
            payload_type = number(found.group(1), 0, 127, field, "payload type")
        kinds = feedback.setdefault(payload_type, set())
        kinds.add(" ".join(found.group(2).lower().split()))
        if len(kinds) > MAX_FEEDBACK:
            raise InvalidSdpError(section.field("rtcp-fb"), f"more than {MAX_FEEDBACK} kinds")
    return feedback


# --- the rest of an m-line ---------------------------------------------------------------------


def _direction(section: Section) -> str | None:
    given = [direction for direction in DIRECTIONS if section.has(direction)]
    if len(given) > 1:
        raise InvalidSdpError(section.field(given[1]), f"contradicts a={given[0]}")
    return given[0] if given else None


def _extensions(section: Section) -> tuple[HeaderExtension, ...]:
    values = section.all("extmap")
    field = section.field("extmap")
    if len(values) > MAX_EXTENSIONS:
        raise InvalidSdpError(field, f"more than {MAX_EXTENSIONS} header extensions")
    by_id: dict[int, HeaderExtension] = {}
    for value in values:
        found = matched(_EXTMAP, value, section, "extmap", "<id> <URI>")
        id_ = number(found.group(1), 1, 255, field, "id")
        extension = HeaderExtension(id_, found.group(3), found.group(2) or "sendrecv")
        if by_id.setdefault(id_, extension) != extension:
            raise InvalidSdpError(field, f"id {id_} stands for two header extensions")
    return tuple(by_id.values())


def _ssrcs(section: Section) -> tuple[tuple[int, ...], dict[int, int]]:
    """Media SSRCs in order, and the retransmission SSRC of each that has one."""
    order: list[int] = []
    in_groups: list[int] = []
    repair: set[int] = set()
    rtx_ssrcs: dict[int, int] = {}
    for value in section.all("ssrc-group"):
        semantics, *members = value.split()[:MAX_SSRCS] or [""]
        field = section.field("ssrc-group")
        numbers = [number(member, 0, 0xFFFFFFFF, field, "SSRC") for member in members]
        if semantics == "SIM":
            order += numbers
        elif semantics in REPAIR_GROUPS and len(numbers) > 1:
            if numbers[0] in numbers[1:]:
                raise InvalidSdpError(field, f"SSRC {numbers[0]} cannot repair itself")
            in_groups.append(numbers[0])
            repair.update(numbers[1:])
            if semantics == "FID":
                rtx_ssrcs.setdefault(numbers[0], numbers[1])
    for value in section.all("ssrc"):
        found = matched(_SSRC, value, section, "ssrc", "<number> <attribute>:<value>")
        order.append(number(found.group(1), 0, 0xFFFFFFFF, section.field("ssrc"), "SSRC"))
    ssrcs = [ssrc for ssrc in dict.fromkeys((*order, *in_groups)) if ssrc not in repair]
    if len(ssrcs) + len(repair) > MAX_SSRCS:
        raise InvalidSdpError(section.field("ssrc"), f"more than {MAX_SSRCS} SSRCs")
    if repair and not ssrcs:
        raise InvalidSdpError(section.field("ssrc-group"), "all SSRCs repair each other")
    return tuple(ssrcs), {ssrc: rtx_ssrcs[ssrc] for ssrc in ssrcs if ssrc in rtx_ssrcs}


def _names(section: Section) -> tuple[str, str]:
    """(cname, msid), from `a=ssrc` where the m-line itself has no `a=msid`."""
    cname = ""
    msids = section.all("msid")
    for value in section.all("ssrc"):
        found = matched(_SSRC, value, section, "ssrc", "<number> <attribute>:<value>")
        if found.group(2) == "cname" and not cname:
            form = "cname:<up to 255 printable characters>"
            cname = matched(_CNAME, found.group(3) or "", section, "ssrc", form).group()
        elif found.group(2) == "msid" and not msids:
            msids = [found.group(3) or ""]
    if not msids:
        return cname, ""
    found = matched(_MSID, msids[0], section, "msid", "<stream> <track>")
    return cname, " ".join(part for part in found.groups() if part)


def _rids(section: Section) -> tuple[str, ...]:
    rids = []
    for value in section.all("rid"):
        found = matched(_RID, value, section, "rid", "<id> send or <id> recv (RFC 8851)")
        if found.group(2) == "send":
            rids.append(found.group(1))
    if len(rids) > MAX_RIDS:
        raise InvalidSdpError(section.field("rid"), f"more than {MAX_RIDS} rids")
    return tuple(dict.fromkeys(rids))


def _simulcast(section: Section) -> tuple[str, ...]:
    """The send list: the first alternative of each stream, whether paused (~) or not (RFC 8853)."""
    words = (section.one("simulcast") or "").split()
    streams: list[str] = []
    for direction, listing in zip(words[::2], words[1::2], strict=False):
        if direction != "send":
            continue
        for stream in listing.split(";"):
            rid = stream.split(",")[0].removeprefix("~")
            if not _RID_ID.fullmatch(rid) or len(streams) == MAX_RIDS:
                raise InvalidSdpError(
                    section.field("simulcast"),
                    f"{quoted(listing)} is not a list of at most {MAX_RIDS} rids",
                )
            streams.append(rid)
    return tuple(streams)


def _bandwidth_bps(section: Section) -> int | None:
    """`b=TIAS` (RFC 3890), else `b=AS`; other kinds are not ours to read."""
    given: dict[str, int] = {}
    for value in section.bandwidths:
        if value.startswith(("AS:", "TIAS:")):
            found = _BANDWIDTH.fullmatch(value)
            if found is None:
                raise InvalidSdpError(
                    f"{section.prefix}b=", f"{quoted(value)} is not <kind>:<rate>"
                )
            given[found.group(1)] = int(found.group(2))
    if "TIAS" in given:
        return given["TIAS"]
    return given["AS"] * 1000 if "AS" in given else None
