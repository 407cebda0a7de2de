"""The typed channel between the control process and the recording process.

Framed like the worker's channel. The first message is `RecorderSettings`; the process answers
`Ready`. Each request carries a `request_id` that exactly one reply repeats; notifications carry
none. Media comes over pipes: a worker's `OpenPipeOut` connects to the path of an `OpenRecording`.
"""

from __future__ import annotations

import msgspec

from .control import LENGTH, MAX_MESSAGE_BYTES, PipedTrack, frame
from .muxer import Note

__all__ = ["LENGTH", "MAX_MESSAGE_BYTES", "PipedTrack", "frame"]

MIN_SEGMENT_S, MAX_SEGMENT_S = 1.0, 24 * 3600.0


class Message(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", omit_defaults=True):
    """Base of everything on the channel; the class name is the tag."""


class RecorderSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Given to the process on start, before any other message."""

    log_level: str = "INFO"


# --- requests ----------------------------------------------------------------------------------


class Request(Message, frozen=True, kw_only=True):
    request_id: int


class OpenRecording(Request, frozen=True, kw_only=True, tag="open_recording"):
    """Listen at `path` for one worker's pipe and write what comes to `folder`, which is made.

    `segment_s` is how long a file may grow before, at a key frame, the next begins.
    """

    recording_id: str
    path: str
    folder: str
    stream: str
    tracks: list[PipedTrack]
    segment_s: float = 600.0


class CloseRecording(Request, frozen=True, kw_only=True, tag="close_recording"):
    """Finish the files and forget it. `Done` also when there is no such recording."""

    recording_id: str


class Drain(Request, frozen=True, kw_only=True, tag="drain"):
    """Finish all files and exit with status 0 once the reply is written."""


# --- replies -----------------------------------------------------------------------------------


class Done(Message, frozen=True, kw_only=True, tag="done"):
    request_id: int


class Failed(Message, frozen=True, kw_only=True, tag="failed"):
    request_id: int
    detail: str


# --- notifications -----------------------------------------------------------------------------


class Ready(Message, frozen=True, kw_only=True, tag="ready"):
    pid: int


class SegmentChanged(Message, frozen=True, kw_only=True, tag="segment_changed"):
    """A file has begun, has grown (every second) or is complete."""

    recording_id: str
    note: Note


class RecordingEnded(Message, frozen=True, kw_only=True, tag="recording_ended"):
    """The far end closed the pipe, or `error` says why writing failed. It is forgotten here."""

    recording_id: str
    error: str = ""


AnyRequest = OpenRecording | CloseRecording | Drain
AnyReply = Done | Failed
AnyNotification = Ready | SegmentChanged | RecordingEnded

settings_decoder = msgspec.msgpack.Decoder(RecorderSettings)
request_decoder = msgspec.msgpack.Decoder(AnyRequest)
from_recorder_decoder = msgspec.msgpack.Decoder(AnyReply | AnyNotification)
