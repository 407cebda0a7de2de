"""Answers offers: which m-lines, codecs, header extensions and SSRCs a session will use (RFC 8829).

Data in, data out. A publisher gets one codec per kind, a receiver every codec that we can forward,
because its publisher may come later and may change.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from .description import Candidate, Codec, Description, HeaderExtension, Media, Transport
from .errors import InvalidSdpError
from .payloads import answer_parameters, best_match, forwardable, preference_rank
from .rtp import ABS_SEND_TIME, AUDIO_LEVEL, DEPENDENCY_DESCRIPTOR, MID, VIDEO_ORIENTATION

Kind = Literal["audio", "video"]

RTP_STREAM_ID = "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id"
REPAIRED_RTP_STREAM_ID = "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id"

RECEIVER_EXTENSIONS = frozenset((MID, AUDIO_LEVEL, VIDEO_ORIENTATION, DEPENDENCY_DESCRIPTOR))
PUBLISHER_EXTENSIONS = RECEIVER_EXTENSIONS | {ABS_SEND_TIME, RTP_STREAM_ID, REPAIRED_RTP_STREAM_ID}
VIDEO_FEEDBACK = frozenset({"nack", "nack pli", "ccm fir", "goog-remb"})

MAX_LAYERS = 4
LAYERS_ALLOWANCE = 1.4  # 180p and 360p beside 720p need about a third more

# What the DTLS layer can check (RFC 8122 section 5 leaves the choice to us).
FINGERPRINT_ALGORITHMS = ("sha-256", "sha-384", "sha-512")
REVERSED = {"sendonly": "recvonly", "recvonly": "sendonly"}

_PROTOCOL = re.compile(r"(?:(?:UDP|TCP)/(?:TLS|DTLS)/)?RTP/SAVPF?")  # RFC 8829 section 5.1.2


@dataclass(frozen=True, slots=True)
class LocalTransport:
    """Our side of a session's transport, as its answer announces it."""

    ice_ufrag: str
    ice_pwd: str
    fingerprint_sha256: str
    candidates: tuple[Candidate, ...]
    setup: str = "passive"


@dataclass(frozen=True, slots=True)
class PublisherTrack:
    """One stream that a publisher sends. SSRCs are None where the offer does not announce them."""

    kind: Kind
    mid: str
    mline_index: int
    codec: Codec
    extension_ids: Mapping[str, int]
    ssrc: int | None
    rtx_ssrc: int | None
    answers_pli: bool
    bandwidth_bps: int  # what the answer allows it, all layers together
    rids: tuple[str, ...] = ()  # simulcast layers in the offer's order (RFC 8853); none for one


@dataclass(frozen=True, slots=True)
class ReceiverTrack:
    """One stream that we send to a receiver, in any of `codecs`."""

    kind: Kind
    mid: str
    mline_index: int
    codecs: tuple[Codec, ...]
    extension_ids: Mapping[str, int]
    ssrc: int
    rtx_ssrc: int | None

    def payload_type_for(self, codec: Codec) -> tuple[int, int | None] | None:
        """(payload type, that of its retransmission) for a publisher's codec; None: cannot play."""
        match = best_match(codec, self.codecs)
        return None if match is None else (match.payload_type, match.rtx_payload_type)


@dataclass(frozen=True, slots=True)
class PublisherMedia:
    """What was agreed with a publisher, our answer, and what the offer says of its transport."""

    answer: str
    tracks: tuple[PublisherTrack, ...]
    ice_ufrag: str
    ice_pwd: str
    fingerprints: tuple[tuple[str, str], ...]
    setup: str


@dataclass(frozen=True, slots=True)
class ReceiverMedia:
    """What was agreed with a receiver, our answer, and what the offer says of its transport."""

    answer: str
    tracks: tuple[ReceiverTrack, ...]
    cname: str
    ice_ufrag: str
    ice_pwd: str
    fingerprints: tuple[tuple[str, str], ...]
    setup: str


def negotiate_publisher(
    offer: Description,
    *,
    video_codecs: Sequence[str],
    video_kbps: int,
    audio_kbps: int,
    transport: LocalTransport,
) -> PublisherMedia:
    """Answer somebody who sends us at most one audio and one video stream."""
    used = _usable_media(offer, ("sendonly", "sendrecv"))
    kbps = {"audio": audio_kbps, "video": video_kbps}
    tracks: list[PublisherTrack] = []
    answers: dict[int, Media] = {}
    for index, kind, media in used:
        codec = _choose_codec(index, media, video_codecs)
        extensions = _extensions(media, PUBLISHER_EXTENSIONS, "sendonly")
        ssrc = media.ssrcs[0] if media.ssrcs else None
        rids = _layers(media, extensions)
        # The limit is for the largest layer; the smaller ones come on top.
        bandwidth_bps = int(kbps[kind] * 1000 * (LAYERS_ALLOWANCE if rids else 1))
        tracks.append(
            PublisherTrack(
                kind=kind,
                mid=media.mid,
                mline_index=index,
                codec=codec,
                extension_ids=_ids(extensions),
                ssrc=ssrc,
                rtx_ssrc=None if ssrc is None else media.rtx_ssrcs.get(ssrc),
                answers_pli=not codec.feedback.isdisjoint({"nack pli", "ccm fir"}),
                bandwidth_bps=bandwidth_bps,
                rids=rids,
            )
        )
        answers[index] = dataclasses.replace(
            _answered(media, "recvonly", (_answer_codec(codec, kind, bandwidth_bps),), extensions),
            bandwidth_bps=bandwidth_bps,
            rids=rids,
            simulcast=rids,
            rid_direction="recv",
        )
    _require_distinct_payload_types(tracks)
    peer = _peer(offer, used)
    return PublisherMedia(
        answer=_answer_text(offer, transport, answers),
        tracks=tuple(tracks),
        ice_ufrag=peer.ice_ufrag,
        ice_pwd=peer.ice_pwd,
        fingerprints=peer.fingerprints,
        setup=peer.setup,
    )


def negotiate_receiver(
    offer: Description, *, transport: LocalTransport, ssrcs: Callable[[], int]
) -> ReceiverMedia:
    """Answer somebody to whom we send; `ssrcs` gives a fresh SSRC for each stream."""
    used = _usable_media(offer, ("recvonly", "sendrecv"))
    send_time = _may_carry_send_time(used)
    tracks: list[ReceiverTrack] = []
    answers: dict[int, Media] = {}
    name = ""
    for index, kind, media in used:
        codecs = _forwardable_codecs(index, media)
        wanted = RECEIVER_EXTENSIONS | ({ABS_SEND_TIME} if send_time and kind == "video" else set())
        extensions = _extensions(media, wanted, "recvonly")
        ssrc = ssrcs()
        has_rtx = any(codec.rtx_payload_type is not None for codec in codecs)
        rtx_ssrc = ssrcs() if has_rtx else None
        # One stream name and one cname, so that the receiver plays sound and picture in step.
        name = name or f"tongke-{ssrc:08x}"
        tracks.append(
            ReceiverTrack(
                kind=kind,
                mid=media.mid,
                mline_index=index,
                codecs=codecs,
                extension_ids=_ids(extensions),
                ssrc=ssrc,
                rtx_ssrc=rtx_ssrc,
            )
        )
        accepted = tuple(_answer_codec(codec, kind) for codec in codecs)
        answers[index] = dataclasses.replace(
            _answered(media, "sendonly", accepted, extensions),
            ssrcs=(ssrc,),
            rtx_ssrcs={} if rtx_ssrc is None else {ssrc: rtx_ssrc},
            cname=name,
            msid=f"{name} {name}-{kind}",
        )
    peer = _peer(offer, used)
    return ReceiverMedia(
        answer=_answer_text(offer, transport, answers),
        tracks=tuple(tracks),
        cname=name,
        ice_ufrag=peer.ice_ufrag,
        ice_pwd=peer.ice_pwd,
        fingerprints=peer.fingerprints,
        setup=peer.setup,
    )


# --- which m-lines -----------------------------------------------------------------------------

_Used = Sequence[tuple[int, Kind, Media]]


def _usable_media(offer: Description, directions: tuple[str, str]) -> _Used:
    """The first audio and the first video m-line of the right direction, checked for use."""
    if offer.ice_lite:
        raise InvalidSdpError("a=ice-lite", "we are ICE-lite ourselves; the offerer must be full")
    used = list(_first_of_each_kind(offer, directions))
    if not used:
        raise InvalidSdpError(
            "m=", f"no audio or video m-line is {' or '.join(directions)}, so nothing can flow"
        )
    for index, _kind, media in used:
        if not _PROTOCOL.fullmatch(media.protocol):
            raise InvalidSdpError(
                f"m={media.kind} {index}", "the protocol must be UDP/TLS/RTP/SAVPF (DTLS-SRTP)"
            )
        if not media.rtcp_mux:
            raise _missing(index, media, "rtcp-mux", "RTP and RTCP must share a port (RFC 8834)")
        if len(used) > 1 and media.mid not in offer.bundle:
            raise InvalidSdpError(
                "a=group", f"m={media.kind} {index} is not in a BUNDLE group with the other m-line"
            )
    _check_peer(used[0][0], used[0][2], _peer(offer, used))
    return used


def _first_of_each_kind(
    offer: Description, directions: tuple[str, str]
) -> Iterator[tuple[int, Kind, Media]]:
    seen: set[str] = set()
    for index, media in enumerate(offer.media):
        if media.rejected or media.direction not in directions or media.kind in seen:
            continue
        if media.kind == "audio":
            yield index, "audio", media
        elif media.kind == "video":
            yield index, "video", media
        seen.add(media.kind)


def _peer(offer: Description, used: _Used) -> Transport:
    """The transport of the bundle's first m-line among those that we use (RFC 9143 section 7.3)."""
    by_mid = {media.mid: media for _index, _kind, media in used}
    leaders = [by_mid[mid] for mid in offer.bundle if mid in by_mid] or [used[0][2]]
    transport = leaders[0].transport
    if transport is None:
        raise InvalidSdpError("a=ice-ufrag", "missing; ICE needs a=ice-ufrag and a=ice-pwd")
    return transport


def _check_peer(index: int, media: Media, peer: Transport) -> None:
    if peer.setup not in ("actpass", "active"):
        raise _missing(
            index, media, "setup", "the offerer must be actpass or active; we answer passive"
        )
    if all(algorithm not in FINGERPRINT_ALGORITHMS for algorithm, _value in peer.fingerprints):
        raise _missing(
            index,
            media,
            "fingerprint",
            "none of " + ", ".join(FINGERPRINT_ALGORITHMS) + " is given",
        )


def _require_distinct_payload_types(tracks: Sequence[PublisherTrack]) -> None:
    """Without SSRCs in the offer, only the payload type tells bundled streams apart."""
    owners: dict[int, PublisherTrack] = {}
    for track in tracks:
        for payload_type in (track.codec.payload_type, track.codec.rtx_payload_type):
            if payload_type is None:
                continue
            other = owners.setdefault(payload_type, track)
            if other is not track and (other.ssrc is None or track.ssrc is None):
                raise InvalidSdpError(
                    f"m={track.kind} {track.mline_index}: a=rtpmap",
                    f"payload type {payload_type} also stands for {other.codec.name}; bundled"
                    " m-lines need distinct payload types (RFC 9143 section 9.1.1)",
                )


def _missing(index: int, media: Media, attribute: str, detail: str) -> InvalidSdpError:
    return InvalidSdpError(f"m={media.kind} {index}: a={attribute}", detail)


# --- codecs and header extensions --------------------------------------------------------------


def _forwardable_codecs(index: int, media: Media) -> tuple[Codec, ...]:
    found = tuple(usable for codec in media.codecs if (usable := forwardable(codec, media.kind)))
    if not found:
        wanted = "opus/48000/2" if media.kind == "audio" else "VP8, H264, VP9 or AV1 at 90000"
        raise _missing(index, media, "rtpmap", f"no codec that we can forward; offer {wanted}")
    return found


def _choose_codec(index: int, media: Media, preferred: Sequence[str]) -> Codec:
    """The first preferred name that is offered, else the first offered; of it the best variant."""
    offered = _forwardable_codecs(index, media)
    for name in (*preferred, *(codec.name for codec in offered)):
        variants = [codec for codec in offered if codec.name == name]
        if variants:
            return min(variants, key=preference_rank)  # min keeps the offer's order among equals
    return offered[0]


def _answer_codec(codec: Codec, kind: Kind, bandwidth_bps: int | None = None) -> Codec:
    feedback = codec.feedback & VIDEO_FEEDBACK if kind == "video" else frozenset[str]()
    return dataclasses.replace(
        codec, fmtp=answer_parameters(codec, bandwidth_bps), feedback=feedback
    )


def _layers(media: Media, extensions: Sequence[HeaderExtension]) -> tuple[str, ...]:
    """The simulcast layers to accept: those listed, where packets can say which they are."""
    uris = {extension.uri for extension in extensions}
    if media.kind != "video" or RTP_STREAM_ID not in uris:
        return ()
    layers = tuple(rid for rid in media.simulcast if rid in media.rids)[:MAX_LAYERS]
    return layers if len(layers) > 1 else ()


def _may_carry_send_time(used: _Used) -> bool:
    """Whether packets may carry the time of sending, for a receiver that estimates from it.

    Without RTX a resent packet must be the very same bytes as the first time (its SRTP nonce is
    the same too), which a new time of sending would break: so every codec must have RTX.
    """
    codecs = [
        codec
        for index, kind, media in used
        if kind == "video"
        for codec in _forwardable_codecs(index, media)
    ]
    return all(codec.rtx_payload_type is not None for codec in codecs) and any(
        "goog-remb" in codec.feedback for codec in codecs
    )


def _extensions(
    media: Media, wanted: frozenset[str], offered_direction: str
) -> tuple[HeaderExtension, ...]:
    """Those of the offer that we want, once each, in a direction that fits (RFC 8285 section 5)."""
    found: dict[str, HeaderExtension] = {}
    for extension in media.extensions:
        if extension.uri in wanted and extension.direction in ("sendrecv", offered_direction):
            direction = REVERSED.get(extension.direction, extension.direction)
            found.setdefault(extension.uri, dataclasses.replace(extension, direction=direction))
    return tuple(found.values())


def _ids(extensions: Sequence[HeaderExtension]) -> dict[str, int]:
    return {extension.uri: extension.id for extension in extensions}


# --- the answer --------------------------------------------------------------------------------


def _answered(
    media: Media, direction: str, codecs: tuple[Codec, ...], extensions: tuple[HeaderExtension, ...]
) -> Media:
    """The m-line of the answer, still without its transport."""
    return Media(
        mid=media.mid,
        kind=media.kind,
        port=9,
        protocol=media.protocol,
        direction=direction,
        codecs=codecs,
        extensions=extensions,
        rtcp_mux=True,
    )


def _rejected(media: Media) -> Media:
    """The m-line refused (RFC 3264 section 6); it must still list a format."""
    formats = media.formats[:1]
    return Media(media.mid, media.kind, 0, media.protocol, "inactive", other_formats=formats)


def _answer_text(offer: Description, local: LocalTransport, answers: Mapping[int, Media]) -> str:
    """One m-line for each of the offer, in its order (RFC 3264 section 6)."""
    answered = {media.mid for media in answers.values()}
    bundle = tuple(mid for mid in offer.bundle if mid in answered)
    first = bundle[0] if bundle else next(iter(answers.values())).mid
    transport = Transport(
        ice_ufrag=local.ice_ufrag,
        ice_pwd=local.ice_pwd,
        fingerprints=(("sha-256", local.fingerprint_sha256),),
        setup=local.setup,
    )
    # The bundle has one transport: its candidates stand once, in its first m-line.
    leading = dataclasses.replace(
        transport, candidates=local.candidates, end_of_candidates=bool(local.candidates)
    )
    media = [
        dataclasses.replace(answers[index], transport=leading if entry.mid == first else transport)
        if index in answers
        else _rejected(entry)
        for index, entry in enumerate(offer.media)
    ]
    return Description(
        media=tuple(media),
        bundle=bundle,
        ice_lite=True,
        ice_options=("trickle",),
        extmap_allow_mixed=offer.extmap_allow_mixed,
        # Any number that differs between sessions will do (RFC 8866 section 5.2).
        session_id=int.from_bytes(local.ice_ufrag.encode()[:7], "big"),
    ).to_text()
