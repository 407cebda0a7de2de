"""The ring of sent packets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.history import History
from streamer.rtp import Packet


def packet(seq: int, keyframe: bool = False) -> Packet:
    made = Packet(96, False, seq & 0xFFFF, seq * 3000 & 0xFFFFFFFF, 1, b"x")
    made.starts_keyframe = keyframe
    return made


def test_a_packet_is_found_by_its_number_until_the_ring_has_gone_round() -> None:
    history = History(8)
    for seq in range(65530, 65530 + 12):
        assert history.add(packet(seq))
    assert history.get(65533) is None
    assert [history.get(seq & 0xFFFF) is not None for seq in range(65534, 65542)] == [True] * 8
    assert history.highest == 5


def test_a_duplicate_is_told() -> None:
    history = History(8)
    assert history.add(packet(3))
    assert not history.add(packet(3))


def test_a_very_late_packet_does_not_displace_a_newer_one() -> None:
    history = History(8)
    history.add(packet(100))
    assert history.add(packet(92))
    assert history.get(100) is not None
    assert history.get(92) is None


def test_everything_since_the_newest_key_frame_comes_in_order() -> None:
    history = History(16)
    for seq in range(10):
        history.add(packet(seq, keyframe=seq in (2, 6)))
    assert [p.seq for p in history.since_keyframe()] == [6, 7, 8, 9]


def test_a_hole_since_the_key_frame_gives_nothing() -> None:
    history = History(16)
    for seq in (6, 7, 9):
        history.add(packet(seq, keyframe=seq == 6))
    assert history.since_keyframe() == []


def test_a_key_frame_that_has_left_the_ring_gives_nothing() -> None:
    history = History(4)
    for seq in range(10):
        history.add(packet(seq, keyframe=seq == 0))
    assert history.since_keyframe() == []
    assert History(4).since_keyframe() == []


@pytest.mark.parametrize("size", [0, 3, 65536])
def test_a_size_that_is_no_power_of_two_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match="power of two"):
        History(size)


@given(st.lists(st.integers(0, 65535), max_size=200))
def test_it_never_returns_a_packet_with_another_number(seqs: list[int]) -> None:
    history = History(16)
    for seq in seqs:
        history.add(packet(seq))
        held = history.get(seq)
        assert held is None or held.seq == seq
