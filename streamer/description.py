"""What a WebRTC session description says, as values, and how it is written (RFC 8866, 8829).

`sdp` reads text into these values; `negotiation` makes new ones for our answers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

# The order that browsers write feedback in; anything else follows alphabetically.
FEEDBACK_ORDER = ("goog-remb", "transport-cc", "ccm fir", "nack", "nack pli")


@dataclass(frozen=True, slots=True)
class Codec:
    """One payload type with its retransmission (RFC 4588); `name` is lower case."""

    payload_type: int
    name: str
    clock_rate: int
    channels: int = 1
    fmtp: tuple[tuple[str, str], ...] = ()  # names lower case; ("", text) for what is no name=value
    feedback: frozenset[str] = frozenset()
    rtx_payload_type: int | None = None

    def parameter(self, name: str) -> str | None:
        """The value of a format parameter, or None when it is not given."""
        for known, value in self.fmtp:
            if known == name:
                return value
        return None


@dataclass(frozen=True, slots=True)
class HeaderExtension:
    """An RTP header extension (RFC 8285); `direction` is the writer's."""

    id: int
    uri: str
    direction: str = "sendrecv"


@dataclass(frozen=True, slots=True)
class Candidate:
    """An ICE candidate (RFC 8839 section 5.1; `tcptype` RFC 6544)."""

    foundation: str
    component: int
    transport: str
    priority: int
    host: str
    port: int
    type: str = "host"
    tcptype: str = ""
    related_host: str = ""
    related_port: int = 0

    def to_line(self) -> str:
        """The attribute without `a=`: `candidate:1 1 udp …`."""
        line = (
            f"candidate:{self.foundation} {self.component} {self.transport} {self.priority}"
            f" {self.host} {self.port} typ {self.type}"
        )
        if self.related_host:
            line += f" raddr {self.related_host} rport {self.related_port}"
        if self.tcptype:
            line += f" tcptype {self.tcptype}"
        return line


@dataclass(frozen=True, slots=True)
class Transport:
    """How one m-line (or the bundle it leads) is reached and whose certificate is trusted.

    `fingerprints` are (algorithm, upper-case hex with colons); `setup` is empty when not given.
    """

    ice_ufrag: str
    ice_pwd: str
    fingerprints: tuple[tuple[str, str], ...]
    setup: str
    candidates: tuple[Candidate, ...] = ()
    end_of_candidates: bool = False


@dataclass(frozen=True, slots=True)
class Media:
    """One m-line with its attributes.

    `ssrcs` are media SSRCs in order, the primary first; those of retransmission and FEC are left
    out. `rids` are those the writer sends (RFC 8851); `simulcast` is its send list. A `transport`
    is missing only where the m-line is rejected.
    """

    mid: str
    kind: str
    port: int
    protocol: str
    direction: str = "sendrecv"
    codecs: tuple[Codec, ...] = ()
    other_formats: tuple[str, ...] = ()  # formats without a=rtpmap, and rtx of none of `codecs`
    extensions: tuple[HeaderExtension, ...] = ()
    ssrcs: tuple[int, ...] = ()
    rtx_ssrcs: Mapping[int, int] = field(default_factory=dict)
    rids: tuple[str, ...] = ()
    simulcast: tuple[str, ...] = ()
    rid_direction: str = "send"  # "recv" in our answers to what the peer sends
    rtcp_mux: bool = False
    cname: str = ""
    msid: str = ""
    bandwidth_bps: int | None = None
    bundle_only: bool = False
    transport: Transport | None = None

    @property
    def rejected(self) -> bool:
        """Port 0, unless that only says that the port is the bundle's (RFC 9143 section 6)."""
        return self.port == 0 and not self.bundle_only

    @property
    def sctp(self) -> bool:
        """Whether this is a data channel."""
        return "SCTP" in self.protocol

    @property
    def formats(self) -> tuple[str, ...]:
        """What the m-line lists, each codec followed by its retransmission."""
        numbers: list[str] = []
        for codec in self.codecs:
            numbers.append(str(codec.payload_type))
            if codec.rtx_payload_type is not None:
                numbers.append(str(codec.rtx_payload_type))
        return (*numbers, *self.other_formats)


@dataclass(frozen=True, slots=True)
class Description:
    """An offer or an answer. `transport` and what it holds are those of the bundle's first m-line
    that is not rejected, or of the first such m-line where nothing is bundled."""

    media: tuple[Media, ...]
    bundle: tuple[str, ...] = ()
    ice_lite: bool = False
    ice_options: tuple[str, ...] = ()
    extmap_allow_mixed: bool = False
    session_id: int = field(default=1, compare=False)

    @property
    def transport(self) -> Transport:
        by_mid = {media.mid: media for media in self.media}
        for media in (*(by_mid[mid] for mid in self.bundle if mid in by_mid), *self.media):
            if media.transport is not None and not media.rejected:
                return media.transport
        raise ValueError("a description without a single accepted m-line has no transport")

    @property
    def ice_ufrag(self) -> str:
        return self.transport.ice_ufrag

    @property
    def ice_pwd(self) -> str:
        return self.transport.ice_pwd

    @property
    def fingerprints(self) -> tuple[tuple[str, str], ...]:
        return self.transport.fingerprints

    @property
    def setup(self) -> str:
        return self.transport.setup

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        return self.transport.candidates

    def to_text(self) -> str:
        """The description as SDP, every line ended by CRLF."""
        lines = [
            "v=0",
            f"o=- {self.session_id} 1 IN IP4 127.0.0.1",
            "s=-",
            "t=0 0",
        ]
        if self.bundle:
            lines.append("a=group:BUNDLE " + " ".join(self.bundle))
        if self.extmap_allow_mixed:
            lines.append("a=extmap-allow-mixed")
        if self.ice_lite:
            lines.append("a=ice-lite")
        if self.ice_options:
            lines.append("a=ice-options:" + " ".join(self.ice_options))
        lines.append("a=msid-semantic: WMS *")
        for media in self.media:
            lines += _media_lines(media)
        return "".join(line + "\r\n" for line in lines)


@dataclass(frozen=True, slots=True)
class Fragment:
    """A trickled piece of ICE (RFC 8840 section 9); credentials are None where left out."""

    ice_ufrag: str | None = None
    ice_pwd: str | None = None
    candidates: tuple[Candidate, ...] = ()
    end_of_candidates: bool = False
    mids: tuple[str, ...] = ()
    ice_lite: bool = False

    def to_text(self) -> str:
        """The fragment; all candidates under its first m-line, as everything is bundled."""
        lines = ["a=ice-lite"] if self.ice_lite else []
        if len(self.mids) > 1:
            lines.append("a=group:BUNDLE " + " ".join(self.mids))
        if self.ice_ufrag is not None and self.ice_pwd is not None:
            lines += [f"a=ice-ufrag:{self.ice_ufrag}", f"a=ice-pwd:{self.ice_pwd}"]
        # RFC 8840 section 9: only the mid of these m-lines means anything.
        for index, mid in enumerate(self.mids or ("",)):
            lines.append("m=audio 9 UDP/TLS/RTP/SAVPF 0")
            if mid:
                lines.append(f"a=mid:{mid}")
            if index == 0:
                lines += ["a=" + candidate.to_line() for candidate in self.candidates]
                if self.end_of_candidates:
                    lines.append("a=end-of-candidates")
        return "".join(line + "\r\n" for line in lines)


def _media_lines(media: Media) -> Iterable[str]:
    yield f"m={media.kind} {media.port} {media.protocol} " + " ".join(media.formats)
    yield "c=IN IP4 0.0.0.0"
    if media.bandwidth_bps is not None:
        yield f"b=AS:{-(-media.bandwidth_bps // 1000)}"
        yield f"b=TIAS:{media.bandwidth_bps}"
    if media.mid:
        yield f"a=mid:{media.mid}"
    if media.bundle_only:
        yield "a=bundle-only"
    if media.transport is not None:
        yield from _transport_lines(media.transport)
    yield f"a={media.direction}"
    for extension in media.extensions:
        direction = "" if extension.direction == "sendrecv" else f"/{extension.direction}"
        yield f"a=extmap:{extension.id}{direction} {extension.uri}"
    if media.msid:
        yield f"a=msid:{media.msid}"
    if media.rtcp_mux:
        yield "a=rtcp-mux"
    for codec in media.codecs:
        yield from _codec_lines(codec)
    for rid in media.rids:
        yield f"a=rid:{rid} {media.rid_direction}"
    if media.simulcast:
        yield f"a=simulcast:{media.rid_direction} " + ";".join(media.simulcast)
    for primary, rtx in media.rtx_ssrcs.items():
        yield f"a=ssrc-group:FID {primary} {rtx}"
    for ssrc in (*media.ssrcs, *media.rtx_ssrcs.values()):
        attributes = [f" cname:{media.cname}"] if media.cname else []
        attributes += [f" msid:{media.msid}"] if media.msid else []
        for attribute in attributes or [""]:
            yield f"a=ssrc:{ssrc}{attribute}"


def _transport_lines(transport: Transport) -> Iterable[str]:
    yield f"a=ice-ufrag:{transport.ice_ufrag}"
    yield f"a=ice-pwd:{transport.ice_pwd}"
    for algorithm, value in transport.fingerprints:
        yield f"a=fingerprint:{algorithm} {value}"
    if transport.setup:
        yield f"a=setup:{transport.setup}"
    for candidate in transport.candidates:
        yield "a=" + candidate.to_line()
    if transport.end_of_candidates:
        yield "a=end-of-candidates"


def _codec_lines(codec: Codec) -> Iterable[str]:
    number = codec.payload_type
    channels = f"/{codec.channels}" if codec.channels != 1 else ""
    name = codec.name.upper() if codec.clock_rate == 90000 else codec.name
    yield f"a=rtpmap:{number} {name}/{codec.clock_rate}{channels}"
    known = [item for item in FEEDBACK_ORDER if item in codec.feedback]
    for item in (*known, *sorted(codec.feedback.difference(FEEDBACK_ORDER))):
        yield f"a=rtcp-fb:{number} {item}"
    if codec.fmtp:
        parameters = (f"{name}={value}" if name else value for name, value in codec.fmtp)
        yield f"a=fmtp:{number} " + ";".join(parameters)
    if codec.rtx_payload_type is not None:
        yield f"a=rtpmap:{codec.rtx_payload_type} rtx/{codec.clock_rate}"
        yield f"a=fmtp:{codec.rtx_payload_type} apt={number}"
