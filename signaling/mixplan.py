"""What a lesson wants of the mixer, computed from its state: one pure function."""

from __future__ import annotations

from collections.abc import Sequence

from mixer import control
from signaling import returns
from signaling.config_model import Config
from signaling.lessons import Lesson, OutputStream
from signaling.mixing import Input, Plan
from signaling.presence import Seat
from signaling.sessions import MediaSession

LEAST_AUDIO_KBPS = 16


def wanted(config: Config, lesson: Lesson, sessions: Sequence[MediaSession]) -> bool:
    """Whether a lesson that is not mixed yet is to be."""
    if lesson.returns or any(_of_mix(session) for session in sessions):
        return True
    always = config.mixer.start == "always"
    return always and any(stream.tracks for stream in lesson.streams.values())


def _of_mix(session: MediaSession) -> bool:
    return session.kind == "receiver" and (session.stream.inner or session.stream.name == "stage")


def plan(config: Config, lesson: Lesson, sessions: Sequence[MediaSession], home: int) -> Plan:
    """The lesson's inputs, outputs, floor and listeners as they are to be now."""
    listeners = tuple(
        (session, returns.class_output(lesson, session.seat.id))
        for session in sessions
        if session.kind == "receiver"
        and session.stream.name == "class"
        and session.seat is not None
    )
    inputs: dict[str, Input] = {}
    for name, role in _LEADING:
        _add(inputs, lesson.streams.get(name), role, None)
    seats = {seat_id: lesson.roster.get(seat_id) for seat_id in lesson.returns}
    for seat_id, seat in seats.items():
        if seat is not None:
            _add(inputs, lesson.inner.get(f"return~{seat_id}"), "return", seat)
    return Plan(
        home=home,
        inputs=inputs,
        kept=frozenset(f"return~{seat_id}" for seat_id in lesson.returns),
        outputs=_outputs(config, lesson, sessions, [name for _, name in listeners]),
        floor=lesson.floor.seats,
        all_answer=lesson.floor.all_answer,
        tiles={seat_id: _tile(lesson, seat) for seat_id, seat in seats.items() if seat is not None},
        muted=frozenset(lesson.floor.muted),
        layout=lesson.floor.layout,
        listeners=listeners,
    )


_LEADING: tuple[tuple[str, control.Role], ...] = (("camera", "teacher"), ("slides", "slides"))


def _add(
    inputs: dict[str, Input], stream: OutputStream | None, role: control.Role, seat: Seat | None
) -> None:
    if stream is not None and stream.tracks:
        inputs[stream.name] = Input(
            role,
            stream.serial,
            tuple(stream.tracks),
            seat=seat.id if seat is not None else "",
            name=seat.name if seat is not None else "",
        )


def _tile(lesson: Lesson, seat: Seat) -> control.SetTile:
    quality: control.Quality = ""
    if seat.state == "reconnecting":
        quality = "lost"
    elif seat.worst_quality is not None:
        quality = seat.worst_quality.level
    return control.SetTile(
        request_id=0,
        lesson_id=lesson.id,
        seat=seat.id,
        name=seat.name[: control.MAX_NAME_CHARACTERS],
        hand=lesson.hands.is_raised(seat.id),
        quality=quality,
        muted=seat.id in lesson.floor.muted,
    )


def _outputs(
    config: Config, lesson: Lesson, sessions: Sequence[MediaSession], class_names: Sequence[str]
) -> dict[str, control.AddOutput]:
    """Only what somebody receives is made, each thing once; `always` makes the stage anyway."""
    codec = config.mixer.video_codec
    received = {session.stream.name for session in sessions if session.kind == "receiver"}
    names = received & {"wall", "teacher-mix", "class"} | set(class_names)
    outputs = {
        name: control.AddOutput(
            request_id=0, lesson_id=lesson.id, output=name, path="", video_codec=codec
        )
        for name in sorted(names)
    }
    if "stage" in lesson.streams and ("stage" in received or config.mixer.start == "always"):
        outputs["stage"] = _stage(config, lesson)
    return outputs


def _stage(config: Config, lesson: Lesson) -> control.AddOutput:
    """As large as the configuration says, within what the mixer makes."""
    largest, smallest = control.MAX_PICTURE, control.MIN_PICTURE
    try:
        settings = config.stream(lesson.mode, "stage")
    except KeyError:  # the mode has gone from the configuration since
        width = height = fps = kbps = 0
        audio_kbps = 48
    else:
        width = min(max(settings.width, smallest.width), largest.width)
        height = min(max(settings.height, smallest.height), largest.height)
        fps = min(max(settings.fps, smallest.fps), largest.fps)
        kbps = min(max(settings.video_kbps, smallest.kbps), largest.kbps)
        audio_kbps = max(settings.audio_kbps, LEAST_AUDIO_KBPS)
    return control.AddOutput(
        request_id=0,
        lesson_id=lesson.id,
        output="stage",
        path="",
        video_codec=config.mixer.video_codec,
        width=width,
        height=height,
        fps=fps,
        video_kbps=kbps,
        audio_kbps=audio_kbps,
    )
