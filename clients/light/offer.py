"""The session descriptions that light peers offer: a browser's, without what they do not use."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from streamer.rtp import ABS_SEND_TIME

ABS_SEND_TIME_ID = 2
OPUS_PAYLOAD_TYPE = 111
VP8_PAYLOAD_TYPE = 96
VP8_RTX_PAYLOAD_TYPE = 97

H264_PARAMETERS = "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id="
# (payload type, its RTX, name, format parameters): what Chromium receives, H.264 in the profiles
# that cameras and browsers publish.
VIDEO_CODECS: tuple[tuple[int, int, str, str], ...] = (
    (VP8_PAYLOAD_TYPE, VP8_RTX_PAYLOAD_TYPE, "VP8", ""),
    (98, 99, "VP9", "profile-id=0"),
    (102, 103, "H264", H264_PARAMETERS + "42001f"),
    (104, 105, "H264", H264_PARAMETERS + "42e01f"),
    (106, 107, "H264", H264_PARAMETERS + "4d001f"),
    (108, 109, "H264", H264_PARAMETERS + "64001f"),
    (45, 46, "AV1", "level-idx=5;profile=0;tier=0"),
)
# For reception: what a payload type carries. RTX types are those of no codec.
CODEC_BY_PAYLOAD_TYPE = {primary: name.lower() for primary, _rtx, name, _ in VIDEO_CODECS}
RTX_PAYLOAD_TYPES = frozenset(rtx for _primary, rtx, _name, _ in VIDEO_CODECS)


@dataclass(frozen=True, slots=True)
class Credentials:
    """Our side of ICE (RFC 8445 section 5.3: at least 4 and 22 characters)."""

    ufrag: str
    pwd: str

    @classmethod
    def fresh(cls) -> Credentials:
        return cls(secrets.token_hex(4), secrets.token_hex(12))


@dataclass(frozen=True, slots=True)
class Sources:
    """The SSRCs of a publisher and the name that ties its sound to its picture."""

    audio: int
    video: int
    video_rtx: int
    cname: str

    @classmethod
    def fresh(cls) -> Sources:
        audio, video, rtx = (secrets.randbits(29) << 2 | offset for offset in (1, 2, 3))
        return cls(audio, video, rtx, secrets.token_hex(8))


def receiver_offer(credentials: Credentials, fingerprint_sha256: str) -> str:
    """Receive one Opus and one video stream of any codec; candidates are learnt from our checks."""
    transport = _transport(credentials, fingerprint_sha256)
    audio = _section("audio", "0", "recvonly", [str(OPUS_PAYLOAD_TYPE)], transport)
    audio += _opus()
    types = [str(number) for primary, rtx, _, _ in VIDEO_CODECS for number in (primary, rtx)]
    video = _section("video", "1", "recvonly", types, transport)
    for primary, rtx, name, parameters in VIDEO_CODECS:
        video += _video_codec(primary, rtx, name, parameters)
    return _joined(audio + video)


def publisher_offer(credentials: Credentials, fingerprint_sha256: str, sources: Sources) -> str:
    """Send one Opus and one VP8 stream, with retransmission of the latter."""
    transport = _transport(credentials, fingerprint_sha256)
    audio = _section("audio", "0", "sendonly", [str(OPUS_PAYLOAD_TYPE)], transport)
    audio += _opus()
    audio += [f"a=ssrc:{sources.audio} cname:{sources.cname}"]
    types = [str(VP8_PAYLOAD_TYPE), str(VP8_RTX_PAYLOAD_TYPE)]
    video = _section("video", "1", "sendonly", types, transport)
    video += _video_codec(VP8_PAYLOAD_TYPE, VP8_RTX_PAYLOAD_TYPE, "VP8", "")
    video += [
        f"a=ssrc-group:FID {sources.video} {sources.video_rtx}",
        f"a=ssrc:{sources.video} cname:{sources.cname}",
        f"a=ssrc:{sources.video_rtx} cname:{sources.cname}",
    ]
    return _joined(audio + video)


def _joined(media: list[str]) -> str:
    head = [
        "v=0",
        f"o=- {secrets.randbits(62)} 2 IN IP4 127.0.0.1",
        "s=-",
        "t=0 0",
        "a=group:BUNDLE 0 1",
    ]
    return "".join(line + "\r\n" for line in head + media)


def _transport(credentials: Credentials, fingerprint_sha256: str) -> list[str]:
    return [
        f"a=ice-ufrag:{credentials.ufrag}",
        f"a=ice-pwd:{credentials.pwd}",
        "a=ice-options:trickle",
        f"a=fingerprint:sha-256 {fingerprint_sha256}",
        "a=setup:actpass",
    ]


def _section(
    kind: str, mid: str, direction: str, payload_types: list[str], transport: list[str]
) -> list[str]:
    return [
        f"m={kind} 9 UDP/TLS/RTP/SAVPF {' '.join(payload_types)}",
        "c=IN IP4 0.0.0.0",
        "a=rtcp:9 IN IP4 0.0.0.0",
        *transport,
        f"a=mid:{mid}",
        f"a={direction}",
        *(["a=msid:tongke-load " + kind] if direction == "sendonly" else []),
        "a=rtcp-mux",
        "a=rtcp-rsize",
        f"a=extmap:{ABS_SEND_TIME_ID} {ABS_SEND_TIME}",
    ]


def _opus() -> list[str]:
    return [
        f"a=rtpmap:{OPUS_PAYLOAD_TYPE} opus/48000/2",
        f"a=fmtp:{OPUS_PAYLOAD_TYPE} minptime=10;useinbandfec=1",
    ]


def _video_codec(primary: int, rtx: int, name: str, parameters: str) -> list[str]:
    feedback = ("goog-remb", "ccm fir", "nack", "nack pli")
    return [
        f"a=rtpmap:{primary} {name}/90000",
        *(f"a=rtcp-fb:{primary} {kind}" for kind in feedback),
        *([f"a=fmtp:{primary} {parameters}"] if parameters else []),
        f"a=rtpmap:{rtx} rtx/90000",
        f"a=fmtp:{rtx} apt={primary}",
    ]
