"""The typed channel between the control process and one mixer process.

Framed like the streamer's channel: msgspec structs, msgpack-encoded, a four-byte length in front,
over a stream socket that the mixer inherits. The first message is `MixerSettings`; the mixer
answers `Ready`. Each request carries a `request_id` that exactly one reply repeats; notifications
carry none. A lesson begins with the first request that names it and ends with `CloseLesson`.

Media goes over pipes only. An input's socket is listened on by the mixer and connected to by a
worker's `OpenPipeOut` (with `one_picture`); an output's socket is listened on by a worker's
`OpenPipeIn`, opened with `output_tracks(...)`, and connected to by the mixer.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from streamer.control import LENGTH, MAX_MESSAGE_BYTES, PipedTrack, frame

from .errors import RefusedError

__all__ = ["LENGTH", "MAX_MESSAGE_BYTES", "PipedTrack", "frame"]

MAX_INPUTS = 64
MAX_WALL_TILES = 36
MAX_TILES = 500  # seats that can be labelled
MAX_NAME_CHARACTERS = 64
MAX_SEAT_CHARACTERS = 128

OPUS_PAYLOAD_TYPE = 111
VIDEO_PAYLOAD_TYPES = {"h264": 102, "vp8": 100}

Role = Literal["teacher", "slides", "return"]
VideoCodec = Literal["h264", "vp8"]
LayoutName = Literal["teacher", "side-by-side", "pip", "slides", "grid"]
LayoutChoice = Literal["auto", "teacher", "side-by-side", "pip", "slides", "grid"]
Quality = Literal["", "good", "fair", "poor", "lost"]
OutputKind = Literal["wall", "stage", "class", "class-seat", "teacher-mix"]


class Message(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", omit_defaults=True):
    """Base of everything on the channel; the class name is the tag."""


class MixerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Given to a mixer on start, before any other message.

    `font` is a font file for names on tiles; empty takes OpenCV's own, which knows Chinese from
    OpenCV 5 on. Without any such font a tile shows its number.
    """

    mixer: int
    font: str = ""
    log_level: str = "INFO"


# --- requests ----------------------------------------------------------------------------------


class Request(Message, frozen=True, kw_only=True):
    request_id: int


class AddInput(Request, frozen=True, kw_only=True, tag="add_input"):
    """Listen at `path` for one input. The same `input_id` again replaces it: the tile stays.

    The worker's pipe is opened with `one_picture`; `tracks` are the output's as it told them.
    `seat` is required for a `return` and refused for others. `name` is what the tile shows.
    Answered by `Done` once a worker can connect, or by `Failed`.
    """

    lesson_id: str
    input_id: str
    path: str
    role: Role
    tracks: list[PipedTrack]
    seat: str = ""
    name: str = ""


class RemoveInput(Request, frozen=True, kw_only=True, tag="remove_input"):
    lesson_id: str
    input_id: str


class AddOutput(Request, frozen=True, kw_only=True, tag="add_output"):
    """Connect to `path`, where a worker listens, and send `output` there from now on.

    `wall` (video), `stage` (video and audio), `class` (audio: teacher and floor, for classrooms
    off the floor), `class~{seat}` (the same without that seat), `teacher-mix` (the returns
    without the teacher). The same name again replaces it. Zeros take `DEFAULT_PICTURES`.
    """

    lesson_id: str
    output: str
    path: str
    video_codec: VideoCodec = "h264"
    width: int = 0
    height: int = 0
    fps: int = 0
    video_kbps: int = 0
    audio_kbps: int = 32


class RemoveOutput(Request, frozen=True, kw_only=True, tag="remove_output"):
    lesson_id: str
    output: str


class SetFloor(Request, frozen=True, kw_only=True, tag="set_floor"):
    """Who is heard besides the teacher, first come first. `all_answer` opens every return.

    While all answer, a seat with its own `class~{seat}` hears all the others; the shared mix
    keeps to teacher and `seats`, so that nobody ever hears itself.
    """

    lesson_id: str
    seats: list[str]
    all_answer: bool = False


class SetTile(Request, frozen=True, kw_only=True, tag="set_tile"):
    """What the wall says of a seat. It may come before the seat's input, and outlives it."""

    lesson_id: str
    seat: str
    name: str = ""
    hand: bool = False
    quality: Quality = ""
    muted: bool = False


class SetLayout(Request, frozen=True, kw_only=True, tag="set_layout"):
    """The stage's layout; `auto` lets the director choose. One that needs a picture which is not
    there (slides, a seat on the floor) is refused with code `absent-stream`."""

    lesson_id: str
    layout: LayoutChoice


class MuteSeat(Request, frozen=True, kw_only=True, tag="mute_seat"):
    """Take a seat out of every mix, whatever the floor says; the tile shows it."""

    lesson_id: str
    seat: str
    muted: bool = True


class CloseLesson(Request, frozen=True, kw_only=True, tag="close_lesson"):
    lesson_id: str


class GetStats(Request, frozen=True, kw_only=True, tag="get_stats"):
    pass


class Drain(Request, frozen=True, kw_only=True, tag="drain"):
    """Close all lessons and exit with status 0 once the reply is written."""


# --- replies -----------------------------------------------------------------------------------


class Done(Message, frozen=True, kw_only=True, tag="done"):
    request_id: int


FailureCode = Literal[
    "no-such-lesson",
    "no-such-input",
    "no-such-output",
    "absent-stream",
    "too-many",
    "invalid",
    "pipe",
]


class Failed(Message, frozen=True, kw_only=True, tag="failed"):
    """`field` names the offending part of the request, `detail` what would be accepted."""

    request_id: int
    code: FailureCode
    detail: str
    field: str = ""


class InputStats(msgspec.Struct, frozen=True, kw_only=True):
    """Counters since the input connected; `audio_delay_ms` is what the jitter buffer adds."""

    input_id: str
    state: str
    audio_packets: int = 0
    audio_concealed: int = 0
    audio_late: int = 0
    audio_delay_ms: float = 0.0
    drift_ppm: float = 0.0
    frames_decoded: int = 0
    frames_failed: int = 0
    keyframe_requests: int = 0


class OutputStats(msgspec.Struct, frozen=True, kw_only=True):
    """`frames` and `keyframes` are of the picture; `delay_ms` is from the instant a picture was
    due to the instant its packets left, 95th percentile of the last ten seconds."""

    output: str
    packets: int = 0
    bytes: int = 0
    dropped: int = 0
    frames: int = 0
    keyframes: int = 0
    fps: float = 0.0
    delay_ms: float = 0.0


class LessonStats(msgspec.Struct, frozen=True, kw_only=True):
    """`late_ticks` counts sound that came out over 20 ms late, `skipped_ticks` sound that did
    not; `encoders` is how many distinct sounds are being encoded."""

    lesson_id: str
    layout: str
    shed: str
    ticks: int
    late_ticks: int
    skipped_ticks: int
    encoders: int
    inputs: list[InputStats]
    outputs: list[OutputStats]


class Stats(Message, frozen=True, kw_only=True, tag="stats"):
    request_id: int
    mixer: int
    cpu_seconds: float
    rss_bytes: int
    lessons: list[LessonStats]


# --- notifications -----------------------------------------------------------------------------


class Ready(Message, frozen=True, kw_only=True, tag="ready"):
    mixer: int
    pid: int


class InputState(Message, frozen=True, kw_only=True, tag="input_state"):
    """`ok`: media comes. `stalled`: nothing for three seconds. `broken`: the pipe ended, or what
    comes cannot be decoded; the tile shows a placeholder until a new `AddInput` or good media."""

    lesson_id: str
    input_id: str
    seat: str
    state: Literal["ok", "stalled", "broken"]
    detail: str = ""


class OutputBroken(Message, frozen=True, kw_only=True, tag="output_broken"):
    """The far end of an output went away; the output is forgotten. Open it anew."""

    lesson_id: str
    output: str


class Levels(Message, frozen=True, kw_only=True, tag="levels"):
    """How loud each seat is now, in dBFS; at most five times a second, only what is known."""

    lesson_id: str
    seats: dict[str, float]
    teacher: float | None = None


class HowlRound(Message, frozen=True, kw_only=True, tag="howl_round"):
    """A seat (empty: the teacher) began to howl and has been pulled down."""

    lesson_id: str
    seat: str
    frequency_hz: float


class DirectorCut(Message, frozen=True, kw_only=True, tag="director_cut"):
    """The stage changed. `why` is one of `manual`, `speech`, `floor`, `slides`, `hand`, `idle`,
    `gone`."""

    lesson_id: str
    layout: LayoutName
    why: str
    seat: str = ""


class Tile(msgspec.Struct, frozen=True):
    """Where a seat's tile is on the wall, in pixels of the picture."""

    seat: str
    x: int
    y: int
    width: int
    height: int


class WallChanged(Message, frozen=True, kw_only=True, tag="wall_changed"):
    """The wall's tiles, for a page that wants to know what was clicked."""

    lesson_id: str
    width: int
    height: int
    tiles: list[Tile]


class Shed(Message, frozen=True, kw_only=True, tag="shed"):
    """What the mixer gives up because its processor is short: the wall's frame rate first, then
    the stage's, never the sound."""

    lesson_id: str
    what: Literal["none", "wall", "stage"]
    wall_fps: float
    stage_fps: float


AnyRequest = (
    AddInput
    | RemoveInput
    | AddOutput
    | RemoveOutput
    | SetFloor
    | SetTile
    | SetLayout
    | MuteSeat
    | CloseLesson
    | GetStats
    | Drain
)
AnyReply = Done | Failed | Stats
AnyNotification = (
    Ready | InputState | OutputBroken | Levels | HowlRound | DirectorCut | WallChanged | Shed
)

settings_decoder = msgspec.msgpack.Decoder(MixerSettings)
request_decoder = msgspec.msgpack.Decoder(AnyRequest)
from_mixer_decoder = msgspec.msgpack.Decoder(AnyReply | AnyNotification)


# --- what both sides must agree on -------------------------------------------------------------


class Picture(msgspec.Struct, frozen=True):
    width: int
    height: int
    fps: int
    kbps: int


DEFAULT_PICTURES = {
    "wall": Picture(1280, 720, 15, 1200),
    "stage": Picture(1280, 720, 25, 1800),
}
MAX_PICTURE = Picture(1920, 1080, 30, 20_000)
MIN_PICTURE = Picture(160, 90, 1, 50)


def output_kind(output: str) -> tuple[OutputKind, str]:
    """What kind of output a name means, and the seat of a `class~{seat}`."""
    if output in ("wall", "stage", "class", "teacher-mix"):
        return output, ""  # type: ignore[return-value]
    name, tilde, seat = output.partition("~")
    if name == "class" and tilde and 0 < len(seat) <= MAX_SEAT_CHARACTERS:
        return "class-seat", seat
    raise RefusedError(
        "invalid", "output", "wall, stage, class, class~{seat} and teacher-mix are the outputs"
    )


def output_tracks(output: str, video_codec: VideoCodec = "h264") -> list[PipedTrack]:
    """What the worker's `OpenPipeIn` for an output of the mixer must be opened with."""
    kind, _seat = output_kind(output)
    tracks: list[PipedTrack] = []
    if kind != "wall":
        tracks.append(
            PipedTrack(
                kind="audio",
                codec="opus",
                clock_rate=48_000,
                channels=2,  # RFC 7587 section 7: always two in the name, whatever is inside
                payload_type=OPUS_PAYLOAD_TYPE,
                fmtp=[("minptime", "10"), ("useinbandfec", "1")],
            )
        )
    if kind in ("wall", "stage"):
        fmtp = (
            [
                ("level-asymmetry-allowed", "1"),
                ("packetization-mode", "1"),
                ("profile-level-id", "42e01f"),
            ]
            if video_codec == "h264"
            else []
        )
        tracks.append(
            PipedTrack(
                kind="video",
                codec=video_codec,
                clock_rate=90_000,
                channels=1,
                payload_type=VIDEO_PAYLOAD_TYPES[video_codec],
                fmtp=fmtp,
            )
        )
    return tracks
