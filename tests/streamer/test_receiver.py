"""A receiver's numbering stays one unbroken stream whatever the publisher does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer import rtcp
from streamer.publisher import PublishedTrack
from streamer.receiver import RESEND_BURST, ReceiverTrack
from streamer.rtp import Packet, header, parse


def published(seq: int, timestamp: int, now: float) -> PublishedTrack:
    track = PublishedTrack("video", "vp8", 90000, 96, ssrc=1)
    track.receive(Packet(96, True, seq, timestamp, 1, b"\x10\x00", (), now))
    return track


def test_numbering_goes_on_without_a_gap_when_the_publisher_is_replaced() -> None:
    receiver = ReceiverTrack("s", "video", 9, None)
    receiver.anchor(1000, 50_000, 10.0)
    receiver.state = "running"
    last_seq = (1000 + receiver.seq_offset) & 0xFFFF
    last_timestamp = (50_000 + receiver.timestamp_offset) & 0xFFFFFFFF
    receiver.release(published(1000, 50_000, 10.0), 10.0)
    receiver.anchor(7, 4_000_000_000, 12.0)
    assert (7 + receiver.seq_offset) & 0xFFFF == (last_seq + 1) & 0xFFFF
    moved = (4_000_000_000 + receiver.timestamp_offset - last_timestamp) & 0xFFFFFFFF
    assert moved == 2 * 90000


@given(st.integers(0, 0xFFFF), st.integers(0, 0xFFFFFFFF), st.floats(0, 1000))
def test_the_next_number_always_follows_the_last(seq: int, timestamp: int, now: float) -> None:
    receiver = ReceiverTrack("s", "video", 9, None)
    before = receiver.last_seq
    receiver.anchor(seq, timestamp, now)
    assert (seq + receiver.seq_offset) & 0xFFFF == before + 1
    assert receiver.original_seq(before + 1) == seq


def test_a_packet_from_before_the_source_changed_is_not_looked_up_in_the_new_one() -> None:
    receiver = ReceiverTrack("s", "video", 9, None)
    receiver.anchor(500, 77, 0.0)
    assert receiver.original_seq(receiver.last_seq) is None
    assert receiver.original_seq((receiver.last_seq + 1) & 0xFFFF) == 500


def test_a_retransmission_carries_the_original_number_before_the_payload() -> None:
    receiver = ReceiverTrack("s", "video", 9, 10)
    receiver.payload_type, receiver.rtx_payload_type = 96, 97
    receiver.anchor(5, 77, 0.0)
    packet = Packet(102, True, 5, 77, 1, b"payload")
    rendered = header(96, True, 5, 77, 0) + b"payload"
    resent = parse(memoryview(receiver.rtx_packet(packet, rendered)), {})
    original = (5 + receiver.seq_offset) & 0xFFFF
    assert (resent.ssrc, resent.payload_type, resent.marker) == (10, 97, True)
    assert resent.payload == original.to_bytes(2, "big") + b"payload"


def test_without_rtx_the_very_same_packet_is_repeated() -> None:
    receiver = ReceiverTrack("s", "video", 9, None)
    receiver.payload_type = 96
    receiver.anchor(5, 77, 0.0)
    packet = Packet(102, True, 5, 77, 1, b"payload")
    rendered = header(96, True, 5, 77, 0) + b"payload"
    first, second = (receiver.rtx_packet(packet, rendered) for _ in range(2))
    assert first == second
    assert parse(memoryview(first), {}).seq == receiver.last_seq + 1


def test_a_nack_storm_is_answered_within_the_allowance_only() -> None:
    receiver = ReceiverTrack("s", "video", 9, None)
    assert sum(receiver.may_resend(1.0) for _ in range(10_000)) == RESEND_BURST
    assert receiver.may_resend(1.1)


@pytest.mark.parametrize("lost", [-3, 0, 12])
def test_a_report_is_remembered(lost: int) -> None:
    receiver = ReceiverTrack("s", "video", 9, None)
    receiver.report(
        rtcp.ReportBlock(
            ssrc=9, fraction_lost=64, packets_lost=lost, highest_seq=5, jitter=90, lsr=0, dlsr=0
        )
    )
    assert (receiver.fraction_lost, receiver.packets_lost, receiver.jitter) == (64, lost, 90)
