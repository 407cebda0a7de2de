"""A hundred joiners cost the teacher one key frame, and never two within half a second."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from streamer.keyframes import KeyframeRequests


def test_the_first_request_goes_out_at_once() -> None:
    assert KeyframeRequests().request(10.0)


def test_a_hundred_requests_within_the_interval_are_one() -> None:
    requests = KeyframeRequests(0.5)
    assert sum(requests.request(1.0 + index * 0.004) for index in range(100)) == 1


def test_a_request_held_back_goes_out_when_the_interval_is_over() -> None:
    requests = KeyframeRequests(0.5)
    requests.request(1.0)
    requests.keyframe()
    assert not requests.request(1.2)
    assert not requests.due(1.4)
    assert requests.due(1.5)


def test_an_unanswered_request_is_repeated_and_an_answered_one_is_not() -> None:
    requests = KeyframeRequests(0.5)
    requests.request(1.0)
    assert requests.due(1.5)
    requests.keyframe()
    assert not requests.due(9.0)


@given(
    st.lists(st.tuples(st.floats(0, 0.3), st.sampled_from(["request", "due", "key"])), max_size=80)
)
def test_two_requests_are_never_closer_than_the_interval(steps: list[tuple[float, str]]) -> None:
    requests = KeyframeRequests(0.5)
    now, sent = 0.0, []
    for wait, what in steps:
        now += wait
        if what == "key":
            requests.keyframe()
        elif requests.request(now) if what == "request" else requests.due(now):
            sent.append(now)
    assert all(b - a >= 0.5 for a, b in itertools.pairwise(sent))
