"""Late joiners of a source without key frames on request: the backlog's timestamps."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streamer.catchup import FRAME_STEP_TICKS, compressed_timestamps


def test_frames_are_drawn_together_before_the_last_and_packets_of_a_frame_stay_together() -> None:
    last = 100_000
    assert compressed_timestamps([91_000, 91_000, 94_000, last, last]) == [
        last - 2 * FRAME_STEP_TICKS,
        last - 2 * FRAME_STEP_TICKS,
        last - FRAME_STEP_TICKS,
        last,
        last,
    ]


@given(st.integers(0, 2**32 - 1), st.lists(st.integers(0, 9000), min_size=1, max_size=50))
def test_order_is_kept_across_the_wrap(first: int, steps: list[int]) -> None:
    timestamps = [first]
    for step in steps:
        timestamps.append((timestamps[-1] + step) % 2**32)
    made = compressed_timestamps(timestamps)
    assert made[-1] == timestamps[-1]
    for before, after, step in zip(made, made[1:], steps, strict=False):
        assert (after - before) % 2**32 == (FRAME_STEP_TICKS if step else 0)
