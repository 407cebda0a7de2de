"""Measures what forwarding a packet costs on this machine: the worker's own loop over loopback.

The loop is `streamer.fanout`, with real SRTP contexts and sockets connected to one sink that
never reads: what the kernel drops there costs what a delivered datagram would up to the driver.
CPU time counts, not time on the clock, so other work on the machine disturbs little; the least of
the rounds is taken.
"""

from __future__ import annotations

import os
import socket
import time
from dataclasses import dataclass

from streamer import srtp
from streamer.delay import DelayHistogram
from streamer.fanout import FanoutGroup, send
from streamer.paths import UdpPath
from streamer.receiver import ReceiverTrack
from streamer.rtp import Packet

# A frame of 2 Mbit/s video at 30 frames a second, as the reference lesson has it.
FRAME_PACKETS = 8
PAYLOAD_BYTES = 1122
RECEIVERS = 100
DEFAULT_SECONDS = 3.0
ROUNDS = 6
UDP_GRO = 104  # linux/udp.h: the sink takes a run as one datagram, as a network device would


@dataclass(frozen=True, slots=True)
class Measured:
    """Microseconds of CPU per packet and receiver, and whether runs left as one datagram."""

    loop_us: float
    gso: bool


def measure(seconds: float = DEFAULT_SECONDS, receivers: int = RECEIVERS) -> Measured:
    """Run the loop for about so long. Raises OSError when no sockets can be had."""
    tracks: list[ReceiverTrack] = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sink:
        sink.bind(("127.0.0.1", 0))
        try:
            sink.setsockopt(socket.SOL_UDP, UDP_GRO, 1)
            gso = True
        except OSError:
            gso = False
        try:
            for index in range(receivers):
                tracks.append(_track(index, sink.getsockname(), gso))
            loop_us = _least_us(tracks, seconds)
            return Measured(loop_us, all(bool(track.path.segments) for track in tracks))
        finally:
            for track in tracks:
                track.path.close()


def _track(index: int, address: tuple[str, int], gso: bool) -> ReceiverTrack:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.connect(address)
    sock.setblocking(False)
    track = ReceiverTrack(str(index), "video", 1000 + index, None)
    profile = srtp.AEAD_AES_128_GCM
    keys = os.urandom(profile.key_bytes + profile.salt_bytes)
    track.connect(
        UdpPath(sock, address, gso, lambda _path: None),
        srtp.SrtpContext(profile, keys, outbound=True),
    )
    return track


def _least_us(tracks: list[ReceiverTrack], seconds: float) -> float:
    """The cheapest of some rounds; each frame gets new numbers, as in a lesson."""
    group = FanoutGroup((96, (), 3, srtp.AEAD_AES_128_GCM.tag_bytes))
    delays = DelayHistogram()
    payload = os.urandom(PAYLOAD_BYTES)
    frame = 0
    least = float("inf")
    for _ in range(ROUNDS):
        ends = time.monotonic() + seconds / ROUNDS
        started = time.process_time()
        frames = 0
        while not frames or time.monotonic() < ends:
            first = frame * FRAME_PACKETS
            batch = [
                Packet(96, index == FRAME_PACKETS - 1, (first + index) & 0xFFFF, frame, 1, payload)
                for index in range(FRAME_PACKETS)
            ]
            send(group.prepare(batch, b"abc"), tracks, time.monotonic(), delays)
            frame += 1
            frames += 1
        spent = time.process_time() - started
        least = min(least, spent / (frames * FRAME_PACKETS * len(tracks)))
    return least * 1e6
