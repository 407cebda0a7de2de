"""Where the microseconds of one forwarded packet go: each step of the hot loop timed alone."""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Callable

from streamer import srtp
from streamer.delay import DelayHistogram
from streamer.fanout import UDP_SEGMENT, FanoutGroup, scratch, send
from streamer.paths import UdpPath
from streamer.receiver import ReceiverTrack
from streamer.rtp import Packet

PACKETS, PAYLOAD = 8, 1122
PLAIN = 12 + PAYLOAD
UDP_GRO = 104


def best_us(work: Callable[[int], None], count: int, rounds: int = 7) -> float:
    """The least CPU time of one repetition over some rounds, in microseconds."""
    least = float("inf")
    for _ in range(rounds):
        start = time.process_time()
        work(count)
        least = min(least, (time.process_time() - start) / count)
    return least * 1e6


def _sink() -> socket.socket:
    sink = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sink.bind(("127.0.0.1", 0))
    sink.setsockopt(socket.SOL_UDP, UDP_GRO, 1)
    return sink


def _frame() -> list[Packet]:
    return [
        Packet(96, index == PACKETS - 1, index, 3000, 1, os.urandom(PAYLOAD))
        for index in range(PACKETS)
    ]


def loop_us(receivers: int, *, gso: bool) -> float:
    """The whole loop as the worker runs it, per packet."""
    sink = _sink()
    group = FanoutGroup((96, (), 3, 16))
    tracks = []
    for index in range(receivers):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.connect(sink.getsockname())
        sock.setblocking(False)
        track = ReceiverTrack(str(index), "video", 1000 + index, None)
        profile = srtp.AEAD_AES_128_GCM
        track.connect(
            UdpPath(sock, sink.getsockname(), gso, lambda _path: None),
            srtp.SrtpContext(profile, os.urandom(28), outbound=True),
        )
        tracks.append(track)
    delays = DelayHistogram()
    frame = _frame()

    def work(count: int) -> None:
        for _ in range(count):
            prepared = group.prepare(frame, b"abc")
            send(prepared, tracks, time.monotonic(), delays)

    count = max(3, 6000 // receivers)
    try:
        return best_us(work, count, rounds=5) / (PACKETS * receivers)
    finally:
        for track in tracks:
            track.path.close()
        sink.close()


def rows() -> dict[str, float]:
    """Microseconds per packet of each step, and of the loop with and without GSO."""
    context = srtp.SrtpContext(srtp.AEAD_AES_128_GCM, os.urandom(28), outbound=True)
    sha1 = srtp.SrtpContext(srtp.AES128_CM_SHA1_80, os.urandom(30), outbound=True)
    template = os.urandom((PLAIN + 16) * PACKETS)
    data, length, protect = scratch.data, scratch.length, srtp.protect_rtp
    pack = struct.Struct("!HII").pack_into
    sequence = iter(range(1 << 60))
    sink = _sink()
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.connect(sink.getsockname())
    run = [scratch.view[: (PLAIN + 16) * PACKETS]]
    control = [(socket.SOL_UDP, UDP_SEGMENT, struct.pack("=H", PLAIN + 16))]
    single = scratch.view[: PLAIN + 16]

    def copy(count: int) -> None:
        for _ in range(count):
            data[: len(template)] = template

    def write(count: int) -> None:
        for _ in range(count):
            pack(data, 2, 5, 77, 99)

    def sealing(handle: object) -> Callable[[int], None]:
        def seal(count: int) -> None:
            data[0], data[1] = 0x80, 96
            for _ in range(count):
                pack(data, 2, next(sequence) & 0xFFFF, 77, 99)
                length[0] = PLAIN
                protect(handle, scratch.pointer, length)

        return seal

    def gso(count: int) -> None:
        for _ in range(count):
            sock.sendmsg(run, control)

    def plain(count: int) -> None:
        for _ in range(count):
            sock.send(single)

    header = best_us(write, 50_000)
    made = {
        "copy the batch": best_us(copy, 20_000) / PACKETS,
        "write the header": header,
        "seal, AES-128-GCM": best_us(sealing(context.handle), 20_000) - header,
        "seal, AES128-CM-SHA1": best_us(sealing(sha1.handle), 10_000) - header,
        "send, GSO run of 8": best_us(gso, 4_000) / PACKETS,
        "send, one by one": best_us(plain, 10_000),
        "loop, 30 receivers": loop_us(30, gso=True),
        "loop, 300 receivers": loop_us(300, gso=True),
        "loop, 300, no GSO": loop_us(300, gso=False),
    }
    sock.close()
    sink.close()
    return made
