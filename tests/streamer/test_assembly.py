"""Packets that come late, twice, in disorder or not at all become whole frames or none."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.assembly import PATIENCE_S, AudioAssembler, CodedFrame, VideoAssembler
from streamer.depacketize import DEPACKETIZERS
from streamer.rtp import Packet
from tests.streamer import coded

CODECS = ("vp8", "vp9", "h264", "av1")


def sent(codec: str, count: int = 50) -> list[list[Packet]]:
    """The packets of each frame."""
    frames = coded.pictures(codec, count=count)
    return [packets for _, packets in coded.film(codec, frames, 0)]


def whole(codec: str, packets: list[Packet]) -> bytes:
    return DEPACKETIZERS[codec]([packet.payload for packet in packets])


def received(assembler: VideoAssembler | AudioAssembler, packets: list[Packet]) -> list[CodedFrame]:
    out: list[CodedFrame] = []
    for packet in packets:
        out += assembler.put(packet, packet.arrival)
    last = packets[-1].arrival if packets else 0.0
    return out + assembler.late(last + PATIENCE_S + 1)


@pytest.mark.parametrize("codec", CODECS)
@given(seed=st.integers(0, 2**32), reach=st.integers(0, 12), twice=st.floats(0, 0.5))
@settings(max_examples=25, deadline=None)
def test_disorder_and_duplicates_change_nothing(
    codec: str, seed: int, reach: int, twice: float
) -> None:
    dice = random.Random(seed)
    frames = sent(codec)
    flat = [packet for packets in frames for packet in packets]
    # The first stays first: before it nobody can know that something is missing.
    arrivals = [(n + dice.uniform(0, reach), n, flat[n]) for n in range(1, len(flat))]
    arrivals += [
        (at + dice.uniform(0, 2 * reach), n, packet)
        for at, n, packet in arrivals
        if dice.random() < twice
    ]
    rest = [packet for _at, _n, packet in sorted(arrivals, key=lambda item: item[:2])]
    out = received(VideoAssembler(codec), [flat[0], *rest])
    assert [frame.data for frame in out] == [whole(codec, packets) for packets in frames]
    assert [frame.timestamp for frame in out] == [packets[0].timestamp for packets in frames]


@pytest.mark.parametrize("codec", CODECS)
@given(seed=st.integers(0, 2**32), loss=st.floats(0.001, 0.2))
@settings(max_examples=25, deadline=None)
def test_after_a_loss_nothing_comes_until_a_key_frame(codec: str, seed: int, loss: float) -> None:
    dice = random.Random(seed)
    frames = sent(codec)
    intact: dict[int, tuple[int, bytes]] = {}
    arrived: list[Packet] = []
    for number, packets in enumerate(frames):
        kept = [packet for packet in packets if number == 0 or dice.random() >= loss]
        arrived += kept
        # H.264's parameter sets are those of the key frame before as well: it does without.
        without_sets = codec == "h264" and len(packets) > 1 and kept == packets[1:]
        if kept == packets or (without_sets and number % 25 == 0):
            intact[packets[0].timestamp] = number, whole(codec, kept)
    assembler = VideoAssembler(codec)
    out = received(assembler, arrived)
    assert out
    before = -1
    for frame in out:
        number, data = intact[frame.timestamp]  # a frame with a hole never comes out
        assert frame.data == data
        assert number > before
        if number != before + 1:
            assert frame.keyframe
        before = number
    assert assembler.lost <= sum(map(len, frames)) - len(arrived)


def test_a_hole_is_waited_for_and_a_resend_fills_it() -> None:
    frames = sent("vp8", 3)
    assembler = VideoAssembler("vp8")
    assert assembler.put(frames[0][0], 0.0) or len(frames[0]) > 1
    for packet in frames[0][1:]:
        assembler.put(packet, 0.0)
    missing, *others = frames[1]
    for packet in (*others, *frames[2]):
        packet.arrival = 0.1
        assert assembler.put(packet, 0.1) == []
    assert assembler.late(0.1 + PATIENCE_S / 2) == []
    assert len(assembler.put(missing, 0.1 + PATIENCE_S / 2)) == 2
    assert assembler.lost == 0
    assert not assembler.needs_keyframe


def test_sound_goes_on_after_a_loss() -> None:
    packets = [p for _, ps in coded.talk(coded.sound(20), 0) for p in ps]
    out = received(AudioAssembler(), packets[:5] + packets[7:])
    assert [frame.timestamp for frame in out] == [
        packet.timestamp for packet in packets[:5] + packets[7:]
    ]


@given(
    st.sampled_from(CODECS),
    st.lists(
        st.tuples(st.integers(0, 0xFFFF), st.integers(0, 3), st.booleans(), st.binary(max_size=20)),
        max_size=60,
    ),
)
def test_hostile_packets_raise_nothing(
    codec: str, packets: list[tuple[int, int, bool, bytes]]
) -> None:
    assembler = VideoAssembler(codec)
    for number, (seq, timestamp, marker, payload) in enumerate(packets):
        now = number / 10
        assembler.put(Packet(96, marker, seq, timestamp, 0, payload, (), now), now)
    assembler.late(1e6)
