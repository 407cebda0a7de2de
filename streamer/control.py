"""The typed channel between the control process and one streamer worker.

Messages are msgspec structs, msgpack-encoded, each preceded by its length as four bytes in
network order, over a stream socket that the worker inherits. A request carries a `request_id`;
exactly one reply with the same id answers it. Notifications carry no id and come at any time.

The channel carries no media and no lesson: an `output_id` is a name that the control process
made up, and a worker only ever compares it.
"""

from __future__ import annotations

import struct
from typing import Literal

import msgspec

MAX_MESSAGE_BYTES = 8 * 1024 * 1024
LENGTH = struct.Struct("!I")


class Message(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", omit_defaults=True):
    """Base of everything on the channel; the class name is the tag."""


# --- what a worker is told when it starts ------------------------------------------------------


class Address(msgspec.Struct, frozen=True):
    """A local address to bind, or an announced one (what candidates carry)."""

    host: str
    port: int


class WorkerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Given to a worker on start, as one length-prefixed message before any other.

    `binds` are addresses to listen on, UDP and TCP with the same port each; `announce` are the
    host addresses written into candidates (empty: the bound addresses, wildcards expanded to the
    machine's own). `certificate_pem` and `key_pem` are the DTLS identity (ECDSA P-256).
    """

    worker: int
    binds: list[Address]
    announce: list[str]
    certificate_pem: str
    key_pem: str
    consent_timeout_s: float = 30.0
    keyframe_interval_s: float = 0.5
    gso: bool = True
    max_sessions: int = 2000
    log_level: str = "INFO"


# --- requests ----------------------------------------------------------------------------------


class Request(Message, frozen=True, kw_only=True):
    request_id: int


class OpenPublisher(Request, frozen=True, kw_only=True, tag="open_publisher"):
    """Negotiate a session that sends to `output_id`. An earlier publisher of it is replaced.

    `video_codecs` is the order of preference, lower-case names (`vp8`, `h264`, `vp9`, `av1`);
    empty takes the offer's order. Answered by `Opened` or `Failed`.
    """

    session_id: str
    output_id: str
    offer: str
    video_codecs: list[str] = []
    video_kbps: int = 2500
    audio_kbps: int = 48


class OpenReceiver(Request, frozen=True, kw_only=True, tag="open_receiver"):
    """Negotiate a session that receives `output_id`, whether or not it has a publisher yet."""

    session_id: str
    output_id: str
    offer: str


class PatchSession(Request, frozen=True, kw_only=True, tag="patch_session"):
    """Apply an `application/trickle-ice-sdpfrag` (RFC 8840): trickled candidates or ICE restart.

    `if_match` is the entity tag of the ICE session the fragment belongs to, or `*` for a restart.
    """

    session_id: str
    fragment: str
    if_match: str


class PipedTrack(msgspec.Struct, frozen=True, kw_only=True):
    """A track as it travels over a pipe: what the far end must know to hand it on."""

    kind: Literal["audio", "video"]
    codec: str
    clock_rate: int
    channels: int
    payload_type: int
    fmtp: list[tuple[str, str]] = []
    answers_pli: bool = True


class OpenPipeIn(Request, frozen=True, kw_only=True, tag="open_pipe_in"):
    """Listen at a Unix socket `path` for an output that another process sends (`OpenPipeOut`)."""

    pipe_id: str
    output_id: str
    path: str
    tracks: list[PipedTrack]


class OpenPipeOut(Request, frozen=True, kw_only=True, tag="open_pipe_out"):
    """Send an output to whoever listens at `path`. It ends when the output's publisher changes.

    `one_picture` sends a single layer, the largest that carries packets now, for a far end that
    decodes. Such a pipe also ends when its layer falls silent while another goes on, so that it
    can be opened anew with that one.
    """

    pipe_id: str
    output_id: str
    path: str
    one_picture: bool = False


class ClosePipe(Request, frozen=True, kw_only=True, tag="close_pipe"):
    pipe_id: str


class CloseSession(Request, frozen=True, kw_only=True, tag="close_session"):
    session_id: str
    reason: str = "closed"


class MoveReceiver(Request, frozen=True, kw_only=True, tag="move_receiver"):
    """From now on a receiver gets `output_id` instead of its output, without renegotiation.

    Its numbering goes on: for the far end it is the same stream with other contents.
    """

    session_id: str
    output_id: str


class LimitPublisher(Request, frozen=True, kw_only=True, tag="limit_publisher"):
    """Tell a publisher to send no more than this, by REMB; until the next one."""

    session_id: str
    kbps: int


class CloseOutput(Request, frozen=True, kw_only=True, tag="close_output"):
    """Close every session of an output and forget it."""

    output_id: str
    reason: str = "closed"


class GetStats(Request, frozen=True, kw_only=True, tag="get_stats"):
    """Answered by `Stats`. `sessions=False` leaves the per-session lists empty."""

    sessions: bool = True


class Drain(Request, frozen=True, kw_only=True, tag="drain"):
    """Close all sessions and exit with status 0 once the reply is written."""


# --- replies -----------------------------------------------------------------------------------


class Opened(Message, frozen=True, kw_only=True, tag="opened"):
    request_id: int
    answer: str
    etag: str


class Patched(Message, frozen=True, kw_only=True, tag="patched"):
    """`fragment` is set (and `etag` is new) when the patch was an ICE restart."""

    request_id: int
    fragment: str | None = None
    etag: str


class Done(Message, frozen=True, kw_only=True, tag="done"):
    request_id: int


FailureCode = Literal[
    "invalid-sdp",
    "no-such-session",
    "no-such-output",
    "stale-etag",
    "too-many-sessions",
    "internal",
]


class Failed(Message, frozen=True, kw_only=True, tag="failed"):
    """`field` names the offending part, e.g. `m=video 1: a=rtpmap`."""

    request_id: int
    code: FailureCode
    detail: str
    field: str = ""


class TrackStats(msgspec.Struct, frozen=True, kw_only=True):
    """One RTP stream of a session, seen from the worker; counters since the session began.

    For a publisher the loss is what we saw missing; for a receiver it is what its last receiver
    report said (`fraction_lost` 0..1, `packets_lost` cumulative).
    """

    kind: Literal["audio", "video"]
    codec: str
    ssrc: int
    packets: int = 0
    bytes: int = 0
    packets_lost: int = 0
    fraction_lost: float = 0.0
    jitter_ms: float = 0.0
    nacks: int = 0
    retransmissions: int = 0
    keyframe_requests: int = 0
    rate_kbps: float = 0.0
    layer: int | None = None
    """For a receiver's picture: which of the publisher's layers it gets, None for none."""


class SessionStats(msgspec.Struct, frozen=True, kw_only=True):
    session_id: str
    output_id: str
    role: Literal["publisher", "receiver"]
    state: str
    transport: Literal["", "udp", "tcp"] = ""
    remote: str = ""
    srtp_profile: str = ""
    rtt_ms: float | None = None
    remb_kbps: float | None = None
    connected_s: float = 0.0
    tracks: list[TrackStats] = []


class Counters(msgspec.Struct, kw_only=True):
    """Worker totals since it started. Everything dropped is counted under a reason."""

    rtp_packets_received: int = 0
    rtp_bytes_received: int = 0
    rtp_packets_forwarded: int = 0
    rtp_bytes_forwarded: int = 0
    nacks_received: int = 0
    nacks_sent: int = 0
    retransmissions: int = 0
    keyframe_requests: int = 0
    send_would_block: int = 0
    send_errors: int = 0
    drops: dict[str, int] = {}


class Histogram(msgspec.Struct, frozen=True, kw_only=True):
    """Cumulative-free histogram: `counts[i]` observations ≤ `bounds[i]`, the last is +Inf."""

    bounds: list[float]
    counts: list[int]
    sum: float


class Stats(Message, frozen=True, kw_only=True, tag="stats"):
    request_id: int
    worker: int
    cpu_seconds: float
    rss_bytes: int
    counters: Counters
    forward_delay_s: Histogram
    sessions: list[SessionStats] = []


# --- notifications -----------------------------------------------------------------------------


class Ready(Message, frozen=True, kw_only=True, tag="ready"):
    """The worker is listening; `candidates` are what answers will carry."""

    worker: int
    pid: int
    candidates: list[str]


SessionState = Literal["new", "connecting", "connected", "disconnected", "closed"]


class SessionChanged(Message, frozen=True, kw_only=True, tag="session_changed"):
    """`closed` is final and said once; `reason` is one of `closed`, `consent-expired`,
    `dtls-failed`, `dtls-closed`, `never-connected`, `replaced`, or what the closer gave."""

    session_id: str
    output_id: str
    state: SessionState
    reason: str = ""


class OutputChanged(Message, frozen=True, kw_only=True, tag="output_changed"):
    """An output's publisher came (a higher `generation`), or its packets began or ceased (`live`).

    `tracks` are what pipes to other workers must be opened with, again for each generation.
    `piped` tells that the publisher is itself a pipe.
    """

    output_id: str
    live: bool
    generation: int = 0
    piped: bool = False
    tracks: list[PipedTrack] = []


class FirstKeyframe(Message, frozen=True, kw_only=True, tag="first_keyframe"):
    """A receiver was sent its first complete key frame, `after_s` seconds from its request."""

    session_id: str
    after_s: float


AnyRequest = (
    OpenPublisher
    | OpenReceiver
    | PatchSession
    | CloseSession
    | MoveReceiver
    | LimitPublisher
    | CloseOutput
    | OpenPipeIn
    | OpenPipeOut
    | ClosePipe
    | GetStats
    | Drain
)
AnyReply = Opened | Patched | Done | Failed | Stats
AnyNotification = Ready | SessionChanged | OutputChanged | FirstKeyframe

_encoder = msgspec.msgpack.Encoder()
settings_decoder = msgspec.msgpack.Decoder(WorkerSettings)
request_decoder = msgspec.msgpack.Decoder(AnyRequest)
from_worker_decoder = msgspec.msgpack.Decoder(AnyReply | AnyNotification)


def frame(message: msgspec.Struct) -> bytes:
    """Encode one message with its length in front."""
    body = _encoder.encode(message)
    return LENGTH.pack(len(body)) + body
