"""RFC 4571 framing: packets come out of a byte stream as they went in, and nothing piles up."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.errors import PacketError
from streamer.framing import MAX_FRAME_BYTES, MAX_NULL_FRAMES, Deframer, frame

PACKETS = st.lists(st.binary(min_size=1, max_size=80), max_size=10)


def test_a_frame_is_the_big_endian_length_and_the_packet() -> None:
    assert frame(b"abc") == b"\x00\x03abc"
    assert frame(bytes(300))[:2] == b"\x01\x2c"


@pytest.mark.parametrize("size", [0, 65536])
def test_a_packet_that_no_length_can_describe_is_refused(size: int) -> None:
    with pytest.raises(PacketError):
        frame(bytes(size))


def test_one_chunk_may_hold_several_packets_and_the_start_of_another() -> None:
    deframer = Deframer()
    assert deframer.feed(frame(b"one") + frame(b"two") + b"\x00\x05thr") == [b"one", b"two"]
    assert deframer.buffered_bytes == 5
    assert deframer.feed(b"ee") == [b"three"]
    assert deframer.buffered_bytes == 0


@settings(max_examples=150)
@given(packets=PACKETS, cuts=st.lists(st.integers(0, 900), max_size=12))
def test_packets_survive_any_cutting_of_the_stream(packets: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(map(frame, packets))
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    deframer = Deframer()
    out: list[bytes] = []
    for start, end in pairwise(edges):
        out += deframer.feed(stream[start:end])
    assert out == packets


def test_the_largest_frame_passes_and_one_byte_more_does_not() -> None:
    assert Deframer().feed(frame(bytes(MAX_FRAME_BYTES))) == [bytes(MAX_FRAME_BYTES)]
    with pytest.raises(PacketError, match="2049 bytes"):
        Deframer().feed((MAX_FRAME_BYTES + 1).to_bytes(2, "big"))


def test_a_few_null_packets_are_skipped_but_a_run_of_them_is_refused() -> None:
    deframer = Deframer()
    null = b"\x00\x00"
    for _ in range(3):
        assert deframer.feed(null * MAX_NULL_FRAMES + frame(b"x")) == [b"x"]
    with pytest.raises(PacketError, match="empty"):
        deframer.feed(null * (MAX_NULL_FRAMES + 1))


def test_after_an_error_the_stream_stays_refused() -> None:
    deframer = Deframer()
    with pytest.raises(PacketError):
        deframer.feed(b"\xff\xff")
    with pytest.raises(PacketError, match="close this connection"):
        deframer.feed(frame(b"fine"))


@settings(max_examples=150)
@given(chunks=st.lists(st.binary(max_size=400), max_size=20))
def test_arbitrary_bytes_give_packets_or_packet_error_and_bounded_memory(
    chunks: list[bytes],
) -> None:
    deframer = Deframer()
    for chunk in chunks:
        try:
            packets = deframer.feed(chunk)
        except PacketError:
            assert deframer.buffered_bytes == 0
            return
        assert all(0 < len(packet) <= MAX_FRAME_BYTES for packet in packets)
        assert deframer.buffered_bytes < MAX_FRAME_BYTES + 2
