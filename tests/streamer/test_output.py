"""An output's tracks: who gets which packet, when, and what is asked of the publisher."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence

from streamer import control, rtp, srtp
from streamer.delay import DelayHistogram
from streamer.description import Codec
from streamer.output import Feed, Output
from streamer.publisher import PublishedTrack
from streamer.receiver import ReceiverTrack
from streamer.rtp import Packet

KEY, DELTA = b"\x10\x00key", b"\x10\x01delta"
VP8 = Codec(96, "vp8", 90000, rtx_payload_type=97)
OPUS = Codec(111, "opus", 48000, channels=2)


class MemoryPath:
    """A path that keeps what is sent on it."""

    transport = "udp"
    key = "memory"
    remote = ("127.0.0.1", 1)
    segments = False

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.would_block = 0
        self.send_errors = 0
        self.last_received = 0.0

    def sendmsg(self, *_args: object) -> int:
        raise AssertionError("segments is off")

    def send(self, datagram: bytes) -> None:
        self.sent.append(datagram)

    def send_spans(self, data: bytearray, spans: Sequence[tuple[int, int]]) -> None:
        self.sent += [bytes(data[start:end]) for start, end in spans]

    def close(self) -> None:
        pass


class Negotiated:
    """Stands for what an answer agreed on: payload types by codec name, extension ids by URI."""

    def __init__(self, types: dict[str, tuple[int, int | None]]) -> None:
        self._types = types
        self.extension_ids: dict[str, int] = {}

    def payload_type_for(self, codec: Codec) -> tuple[int, int | None] | None:
        return self._types.get(codec.name)


class Bench:
    """An output with a VP8 and an Opus source and any number of receivers."""

    def __init__(self, *, answers_pli: bool = True) -> None:
        self.counters = control.Counters()
        self.first_keyframes: list[str] = []
        self.output = Output("o", self.counters, DelayHistogram(), self.first_keyframes.append)
        self.asked = 0
        self.answers_pli = answers_pli
        self.publish("p1")

    def publish(self, publisher_id: str, now: float = 0.0) -> None:
        self.video = PublishedTrack("video", "vp8", 90000, 96, ssrc=1, answers_pli=self.answers_pli)
        self.audio = PublishedTrack("audio", "opus", 48000, 111, ssrc=2)
        self.output.begin(
            publisher_id, [Feed(self.video, VP8, self.ask), Feed(self.audio, OPUS, self.ask)], now
        )

    def ask(self) -> None:
        self.asked += 1

    def receiver(
        self, name: str, now: float = 0.0, types: dict[str, tuple[int, int | None]] | None = None
    ) -> tuple[ReceiverTrack, MemoryPath, srtp.SrtpContext]:
        profile = srtp.AEAD_AES_128_GCM
        key = os.urandom(profile.key_bytes + profile.salt_bytes)
        track = ReceiverTrack(name, "video", 77, 78)
        path = MemoryPath()
        track.connect(path, srtp.SrtpContext(profile, key, outbound=True))
        negotiated = Negotiated(types or {"vp8": (100, 101)})
        self.output.attach(track, negotiated, now)  # type: ignore[arg-type]
        return track, path, srtp.SrtpContext(profile, key, outbound=False)

    def send(self, seq: int, payload: bytes, now: float = 0.0, *, marker: bool = True) -> None:
        packet = Packet(96, marker, seq, seq * 3000, 1, payload, (), now)
        if self.video.receive(packet):
            self.output.layers[0].pending.append(packet)
        self.output.flush(now)


def opened(path: MemoryPath, inbound: srtp.SrtpContext) -> list[Packet]:
    buffer = srtp.PinnedBuffer(4096)
    packets = []
    for datagram in path.sent:
        buffer.data[: len(datagram)] = datagram
        size = inbound.unprotect(buffer, len(datagram))
        assert size > 0
        packets.append(rtp.parse(buffer.view[:size], {}))
    path.sent.clear()
    return packets


def test_a_receiver_starts_with_a_key_frame_and_then_gets_everything() -> None:
    bench = Bench()
    _track, path, inbound = bench.receiver("a")
    assert bench.asked == 1
    bench.send(1, DELTA)
    assert path.sent == []
    bench.send(2, KEY)
    bench.send(3, DELTA)
    assert [p.payload for p in opened(path, inbound)] == [KEY, DELTA]
    assert bench.first_keyframes == ["a"]


def test_the_first_key_frame_counts_when_its_last_packet_is_sent() -> None:
    bench = Bench()
    bench.receiver("a")
    packet = Packet(96, False, 1, 3000, 1, KEY)
    bench.video.receive(packet)
    bench.output.layers[0].pending.append(packet)
    bench.output.flush(0.0)
    assert bench.first_keyframes == []
    last = Packet(96, True, 2, 3000, 1, b"\x00rest")
    bench.video.receive(last)
    bench.output.layers[0].pending.append(last)
    bench.output.flush(0.0)
    assert bench.first_keyframes == ["a"]


def test_a_hundred_joiners_within_half_a_second_cost_the_publisher_one_request() -> None:
    bench = Bench()
    for index in range(100):
        bench.receiver(f"r{index}", now=index * 0.004)
    assert bench.asked == 1
    bench.output.tick(0.45)
    assert bench.asked == 1
    bench.output.tick(0.55)
    assert bench.asked == 2  # still unanswered


def test_numbering_goes_on_when_the_publisher_is_replaced() -> None:
    bench = Bench()
    _track, path, inbound = bench.receiver("a")
    bench.send(100, KEY)
    first = opened(path, inbound)[0]
    bench.publish("p2", now=1.0)
    bench.send(7, DELTA, now=1.0)
    bench.send(8, KEY, now=1.1)
    second = opened(path, inbound)[0]
    assert second.seq == (first.seq + 1) & 0xFFFF
    assert second.payload == KEY
    assert second.ssrc == first.ssrc


def test_the_old_publishers_end_does_not_touch_its_successor() -> None:
    bench = Bench()
    bench.publish("p2")
    bench.output.end("p1", 0.0)
    assert bench.output.publisher_id == "p2"
    bench.output.end("p2", 0.0)
    assert bench.output.layers[0].source is None


def test_a_receiver_without_the_published_codec_gets_nothing_and_harms_nobody() -> None:
    bench = Bench()
    track, path, _inbound = bench.receiver("a", types={"h264": (102, None)})
    _other, other_path, _ = bench.receiver("b")
    bench.send(1, KEY)
    assert (track.state, path.sent) == ("idle", [])
    assert len(other_path.sent) == 1


def test_a_nack_is_answered_with_the_original_inside_an_rtx_packet() -> None:
    bench = Bench()
    track, path, inbound = bench.receiver("a")
    bench.send(1, KEY)
    bench.send(2, DELTA)
    lost = opened(path, inbound)[1].seq
    bench.output.layers[0].resend(track, [lost, lost + 500], 1.0)
    resent = opened(path, inbound)
    assert [p.payload for p in resent] == [lost.to_bytes(2, "big") + DELTA]
    assert (resent[0].ssrc, resent[0].payload_type) == (78, 101)
    assert bench.counters.retransmissions == 1


def test_a_receiver_that_left_gets_nothing_more() -> None:
    bench = Bench()
    track, path, _inbound = bench.receiver("a")
    bench.send(1, KEY)
    path.sent.clear()
    bench.output.detach(track, 0.0)
    bench.send(2, DELTA)
    assert path.sent == []
    bench.output.end("p1", 0.0)
    assert bench.output.unused


def test_a_joiner_is_caught_up_from_the_last_key_frame_where_none_can_be_asked_for() -> None:
    bench = Bench(answers_pli=False)
    for seq, payload in ((1, DELTA), (2, KEY), (3, DELTA), (4, DELTA)):
        bench.send(seq, payload)
    track, path, inbound = bench.receiver("late", now=1.0)
    assert bench.asked == 0
    assert track.state == "catching-up"
    bench.send(5, DELTA, now=1.0)
    bench.output.tick(1.02)
    assert track.state == "running"
    bench.send(6, DELTA, now=1.03)
    got = opened(path, inbound)
    assert [p.payload for p in got] == [KEY, DELTA, DELTA, DELTA, DELTA]
    assert [(b.seq - a.seq) & 0xFFFF for a, b in itertools.pairwise(got)] == [1] * 4
    steps = [(b.timestamp - a.timestamp) & 0xFFFFFFFF for a, b in itertools.pairwise(got)]
    assert steps == [90, 90, 3000, 3000]
    assert bench.first_keyframes == ["late"]


def test_live_and_generation_are_told_once_each() -> None:
    bench = Bench()
    assert bench.output.news(0.0)
    assert not bench.output.news(0.1)
    bench.send(1, KEY, now=0.2)
    assert bench.output.news(0.3)
    assert bench.output.live
    assert not bench.output.news(0.4)
    assert bench.output.news(10.0)
    assert not bench.output.live


def test_a_receiver_that_moves_to_another_output_sees_one_unbroken_stream() -> None:
    bench, other = Bench(), Bench()
    track, path, inbound = bench.receiver("a")
    bench.send(1, KEY, now=1.0)
    bench.send(2, DELTA, now=1.04)
    bench.output.detach(track, 1.05)
    other.output.attach(track, Negotiated({"vp8": (100, 101)}), 1.05)  # type: ignore[arg-type]
    other.send(40_000, KEY, now=1.08)
    bench.send(3, KEY, now=1.09)
    other.output.detach(track, 1.1)
    bench.output.attach(track, Negotiated({"vp8": (100, 101)}), 1.1)  # type: ignore[arg-type]
    bench.send(4, KEY, now=1.12)
    got = opened(path, inbound)
    assert len(got) == 4
    assert [(b.seq - a.seq) & 0xFFFF for a, b in itertools.pairwise(got)] == [1, 1, 1]
    steps = [(b.timestamp - a.timestamp) & 0xFFFFFFFF for a, b in itertools.pairwise(got)]
    assert all(0 < step < 90_000 for step in steps)
