"""The drawn lesson: a function of time alone, that writes, counts, and is wiped."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixer.blackboard import LESSON_S, WIPE_AT_S, Blackboard, Painter, lesson
from mixer.teacher import TeacherScene

SMALL = (320, 180)


@pytest.mark.parametrize("size", [(320, 180), (1280, 720), (640, 480)])
def test_a_frame_has_the_size_that_was_asked_for(size: tuple[int, int]) -> None:
    for painter in (Blackboard(*size), TeacherScene(*size)):
        frame = painter.frame(3.0)
        assert frame.shape == (size[1], size[0], 3)
        assert frame.dtype == np.uint8


@given(times=st.lists(st.floats(0, 3 * LESSON_S, allow_nan=False), min_size=1, max_size=4))
@settings(max_examples=30, deadline=None)
def test_the_picture_depends_on_the_time_and_not_on_the_way_there(times: list[float]) -> None:
    wandering = _shared(Blackboard)
    for t_s in times:
        seen = wandering.frame(t_s)
    assert np.array_equal(seen, Blackboard(*SMALL).frame(times[-1]))


def test_the_teacher_depends_on_the_time_only() -> None:
    one, other = TeacherScene(*SMALL), TeacherScene(*SMALL)
    one.frame(40.0)
    assert np.array_equal(one.frame(17.3), other.frame(17.3))


def test_chalk_accumulates_until_the_board_is_wiped() -> None:
    board = Blackboard(*SMALL, clock=False)
    clean = board.frame(0.0)
    written = [int((board.frame(t).astype(int) - clean > 60).sum()) for t in (0.0, 8.0, 25.0, 55.0)]
    assert written[0] == 0
    assert written == sorted(written) and len(set(written)) == len(written)
    assert np.array_equal(board.frame(LESSON_S - 0.5), clean)
    assert np.array_equal(board.frame(LESSON_S), clean)


def test_consecutive_frames_differ_because_the_clock_runs() -> None:
    board = Blackboard(1280, 720)
    assert not np.array_equal(board.frame(50.0), board.frame(50.1))


def test_a_caller_may_draw_on_a_frame_without_spoiling_the_board() -> None:
    board = Blackboard(*SMALL)
    first = board.frame(10.0)
    kept = first.copy()
    first[:] = 0
    assert np.array_equal(board.frame(10.0), kept)


def test_the_lesson_is_written_in_order_and_ends_before_the_wipe() -> None:
    times = [piece.at_s for piece in lesson()]
    assert times == sorted(times)
    assert times[-1] < WIPE_AT_S
    for piece in lesson():
        assert min(piece.x0, piece.x1) > 0 and max(piece.x0, piece.x1) < 1280
        assert min(piece.y0, piece.y1) > 0 and max(piece.y0, piece.y1) < 720


def test_the_teacher_moves_her_mouth_when_she_speaks() -> None:
    scene = TeacherScene(640, 360)
    speaking, pausing = scene.frame(0.9), scene.frame(0.05)
    assert not np.array_equal(speaking, pausing)


_boards: dict[type, Painter] = {}


def _shared(kind: type[Blackboard]) -> Painter:
    return _boards.setdefault(kind, kind(*SMALL))
