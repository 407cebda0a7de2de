"""Fails loudly when the installed aiortc no longer has the private attributes that we touch."""

from __future__ import annotations

import pytest
from aiortc import RTCPeerConnection

from clients.aiortc_edge import (
    RECEIVER_RTX,
    RECEIVER_STREAMS,
    SENDER_ENCODER,
    AiortcChangedError,
    StreamCounters,
    install_encoder,
    receiver_counters,
)
from clients.encoders import OpusLiveEncoder


async def test_a_sender_has_the_place_for_its_encoder() -> None:
    peer = RTCPeerConnection()
    try:
        sender = peer.addTransceiver("audio").sender
        assert getattr(sender, SENDER_ENCODER) is None
        encoder = OpusLiveEncoder(48)
        install_encoder(sender, encoder)
        assert getattr(sender, SENDER_ENCODER) is encoder
    finally:
        await peer.close()


async def test_a_receiver_has_its_counters() -> None:
    peer = RTCPeerConnection()
    try:
        receiver = peer.addTransceiver("video").receiver
        assert getattr(receiver, RECEIVER_STREAMS) == {}
        assert getattr(receiver, RECEIVER_RTX) == {}
        assert receiver_counters(receiver, 90_000) == StreamCounters(0, 0, 0, 0.0)
    finally:
        await peer.close()


def test_another_aiortc_is_named_in_the_error() -> None:
    with pytest.raises(AiortcChangedError, match=SENDER_ENCODER):
        install_encoder(object(), OpusLiveEncoder(48))  # type: ignore[arg-type]
    with pytest.raises(AiortcChangedError, match=RECEIVER_STREAMS):
        receiver_counters(object(), 90_000)  # type: ignore[arg-type]


def test_a_packet_that_came_by_retransmission_is_not_lost() -> None:
    assert StreamCounters(packets=90, missing=10, retransmitted=8, jitter_ms=0.0).lost == 2
    assert StreamCounters(packets=90, missing=1, retransmitted=8, jitter_ms=0.0).lost == 0
