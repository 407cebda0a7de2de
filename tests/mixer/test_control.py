"""The mixer's channel: every message survives it, and names are checked."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixer import control
from mixer.errors import RefusedError
from streamer import control as worker_control

TRACK = control.PipedTrack(
    kind="audio", codec="opus", clock_rate=48_000, channels=2, payload_type=111
)
REQUESTS: list[control.AnyRequest] = [
    control.AddInput(
        request_id=1,
        lesson_id="l",
        input_id="i",
        path="/p",
        role="return",
        tracks=[TRACK],
        seat="s",
    ),
    control.RemoveInput(request_id=2, lesson_id="l", input_id="i"),
    control.AddOutput(request_id=3, lesson_id="l", output="class~s", path="/p"),
    control.RemoveOutput(request_id=4, lesson_id="l", output="wall"),
    control.SetFloor(request_id=5, lesson_id="l", seats=["a", "b"], all_answer=True),
    control.SetTile(request_id=6, lesson_id="l", seat="a", name="红星小学", hand=True),
    control.SetLayout(request_id=7, lesson_id="l", layout="side-by-side"),
    control.MuteSeat(request_id=8, lesson_id="l", seat="a", muted=False),
    control.CloseLesson(request_id=9, lesson_id="l"),
    control.GetStats(request_id=10),
    control.Drain(request_id=11),
]
TELLS: list[control.AnyReply | control.AnyNotification] = [
    control.Done(request_id=1),
    control.Failed(request_id=1, code="absent-stream", field="layout", detail="d"),
    control.Ready(mixer=1, pid=2),
    control.InputState(lesson_id="l", input_id="i", seat="s", state="stalled"),
    control.OutputBroken(lesson_id="l", output="wall"),
    control.Levels(lesson_id="l", seats={"a": -20.5}, teacher=-30.0),
    control.HowlRound(lesson_id="l", seat="a", frequency_hz=1250.0),
    control.DirectorCut(lesson_id="l", layout="pip", why="speech", seat="a"),
    control.WallChanged(lesson_id="l", width=2, height=2, tiles=[control.Tile("a", 0, 0, 2, 2)]),
    control.Shed(lesson_id="l", what="wall", wall_fps=7.5, stage_fps=25.0),
]


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda message: type(message).__name__)
def test_requests_survive_the_channel(request_: control.AnyRequest) -> None:
    framed = control.frame(request_)
    assert int.from_bytes(framed[:4], "big") == len(framed) - 4
    assert control.request_decoder.decode(framed[4:]) == request_


@pytest.mark.parametrize("message", TELLS, ids=lambda message: type(message).__name__)
def test_replies_and_notifications_survive_the_channel(
    message: control.AnyReply | control.AnyNotification,
) -> None:
    assert control.from_mixer_decoder.decode(control.frame(message)[4:]) == message


@given(st.binary(max_size=100))
def test_other_bytes_are_refused_with_a_decode_error(data: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        control.request_decoder.decode(data)


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("wall", ("wall", "")),
        ("stage", ("stage", "")),
        ("class", ("class", "")),
        ("teacher-mix", ("teacher-mix", "")),
        ("class~s-17", ("class-seat", "s-17")),
        ("class~a~b", ("class-seat", "a~b")),
    ],
)
def test_output_names(output: str, expected: tuple[str, str]) -> None:
    assert control.output_kind(output) == expected


@pytest.mark.parametrize("output", ["", "class~", "camera", "wall~x", "class~" + "x" * 200])
def test_other_output_names_are_refused(output: str) -> None:
    with pytest.raises(RefusedError, match="output"):
        control.output_kind(output)


@pytest.mark.parametrize(
    ("output", "kinds"),
    [("wall", ["video"]), ("stage", ["audio", "video"]), ("class~x", ["audio"])],
)
def test_what_a_workers_pipe_is_opened_with(output: str, kinds: list[str]) -> None:
    tracks = control.output_tracks(output)
    assert [track.kind for track in tracks] == kinds
    # They fit the worker's own request, and no payload type looks like RTCP.
    request = worker_control.OpenPipeIn(
        request_id=1, pipe_id="p", output_id="o", path="/p", tracks=tracks
    )
    body = worker_control.frame(request)[4:]
    assert worker_control.request_decoder.decode(body) == request
    assert not [track for track in tracks if 64 <= track.payload_type < 96]
