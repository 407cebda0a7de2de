from __future__ import annotations

import asyncio
import random
import re
import socket
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clients.light import LightFailure, LightPublisher, LightReceiver, open_shared
from clients.light.crowd import Crowd
from clients.light.lesson import STAMP_END, ReferenceLesson, read_stamp, stamp
from clients.light.offer import Credentials, Sources, publisher_offer, receiver_offer
from clients.light.peer import choose_candidate, inbox
from clients.light.reception import MAX_JUMP, KeyframeWatch, StreamReception
from clients.light.tally import LogHistogram, percentile
from streamer.codecs import KEYFRAME_TESTS
from streamer.sdp import parse_candidate, parse_description
from tests.clients.small_server import SmallServer

FINGERPRINT = ":".join(["AB"] * 32)


async def until(condition: Callable[[], bool], within_s: float = 10.0) -> None:
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110 - what is waited for are counters
            await asyncio.sleep(0.01)


# --- the reference lesson ------------------------------------------------------------------------


def test_a_frame_is_seven_or_eight_packets_and_two_megabits_a_second() -> None:
    lesson = ReferenceLesson(rng=random.Random(1))
    frames = [lesson.video_frame() for _ in range(3000)]
    assert {len(frame) for frame in frames} == {7, 8}
    assert all(STAMP_END <= len(payload) <= 1150 for frame in frames for payload in frame)
    for frame in frames:
        assert max(map(len, frame)) - min(map(len, frame)) <= 1
    bits_per_s = sum(len(payload) for frame in frames for payload in frame) * 8 / 100
    assert bits_per_s == pytest.approx(2_000_000, rel=0.01)


def test_only_the_first_packet_of_a_key_frame_looks_like_one() -> None:
    lesson = ReferenceLesson(keyframe_every_s=2.0, frames_per_s=30)
    is_key = KEYFRAME_TESTS["vp8"]
    marks = [[is_key(bytes(payload)) for payload in lesson.video_frame()] for _ in range(121)]
    for number, frame in enumerate(marks):
        assert frame == [number in (0, 60, 120)] + [False] * (len(frame) - 1)


def test_a_requested_key_frame_is_the_next_frame_and_the_rhythm_starts_anew() -> None:
    lesson = ReferenceLesson()
    is_key = KEYFRAME_TESTS["vp8"]
    for _ in range(10):
        lesson.video_frame()
    lesson.request_keyframe()
    assert is_key(bytes(lesson.video_frame()[0]))
    keys = [is_key(bytes(lesson.video_frame()[0])) for _ in range(60)]
    assert keys == [False] * 59 + [True]


def test_the_stamp_leaves_descriptor_and_frame_header_alone() -> None:
    lesson = ReferenceLesson()
    payload = lesson.video_frame()[0]
    stamp(payload, 123_456_789_012_345)
    assert KEYFRAME_TESTS["vp8"](bytes(payload))
    packet = bytes(12) + payload
    assert read_stamp(packet, 12, len(packet)) == 123_456_789_012_345
    assert read_stamp(packet, 12, 12 + STAMP_END - 1) is None


@given(st.binary(max_size=64), st.integers(0, 64))
def test_other_peoples_payloads_have_no_stamp(data: bytes, offset: int) -> None:
    if data[offset + 16 : offset + 20] != b"tkld":
        assert read_stamp(data, offset, len(data)) is None


# --- counting what comes -------------------------------------------------------------------------


def feed(stream: StreamReception, seq: int, now: float) -> None:
    """As the hot loop does it."""
    if seq == stream.next_seq:
        stream.next_seq = (seq + 1) & 0xFFFF
        stream.packets += 1
    else:
        stream.irregular(seq, now)


@settings(max_examples=150)
@given(
    first=st.integers(0, 0xFFFF),
    fates=st.lists(st.sampled_from(["comes", "lost", "resent"]), min_size=1, max_size=200),
    shuffle=st.randoms(use_true_random=False),
)
def test_every_packet_is_received_recovered_or_lost(
    first: int, fates: list[str], shuffle: random.Random
) -> None:
    fates = ["comes", *fates, "comes"]
    stream = StreamReception(1, "video", first)
    arriving = [number for number, fate in enumerate(fates) if fate == "comes"]
    middle = arriving[1:-1]
    # Reordering within the window in which nothing is given up.
    shuffle.shuffle(middle)
    for number in (arriving[0], *middle, arriving[-1]):
        feed(stream, (first + number) & 0xFFFF, 0.0)
    missing = {(first + n) & 0xFFFF for n, fate in enumerate(fates) if fate != "comes"}
    assert set(stream.missing) == missing
    for number, fate in enumerate(fates):
        if fate == "resent":
            assert stream.resent((first + number) & 0xFFFF)
    stream.to_ask(10.0)
    assert stream.packets == len(arriving)
    assert stream.recovered == fates.count("resent")
    assert stream.lost(10.0) == fates.count("lost")
    assert stream.lost_raw(10.0) == len(fates) - len(arriving)
    assert stream.duplicates == 0


def test_a_hole_is_asked_for_after_30_ms_again_after_80_ms_and_never_more() -> None:
    stream = StreamReception(1, "video", 65534)
    feed(stream, 65534, 0.0)
    feed(stream, 1, 1.0)
    assert stream.to_ask(1.02) == []
    assert stream.to_ask(1.03) == [65535, 0]
    assert stream.to_ask(1.06) == []
    assert stream.resent(0)
    assert stream.to_ask(1.09) == [65535]
    assert stream.to_ask(1.9) == []
    assert stream.lost(1.9) == 1
    assert stream.to_ask(3.1) == []
    assert not stream.missing
    assert stream.lost_for_good == 1


def test_what_may_still_come_is_not_lost_yet() -> None:
    stream = StreamReception(1, "video", 5)
    feed(stream, 5, 0.0)
    feed(stream, 7, 1.0)
    assert stream.lost(1.1) == 0
    assert stream.lost(1.3) == 1


def test_a_packet_that_comes_twice_is_counted_once() -> None:
    stream = StreamReception(1, "audio", 5)
    for seq in (5, 6, 6, 5):
        feed(stream, seq, 0.0)
    assert (stream.packets, stream.duplicates) == (2, 2)


def test_numbering_that_begins_anew_is_not_a_loss() -> None:
    stream = StreamReception(1, "video", 5)
    feed(stream, 5, 0.0)
    feed(stream, 5 + MAX_JUMP + 10, 0.0)
    assert stream.restarts == 1
    assert stream.lost(10.0) == 0


def test_the_receiver_report_tells_the_loss_and_the_time_since_the_senders() -> None:
    stream = StreamReception(7, "video", 100)
    for seq in range(100, 164):
        feed(stream, seq, 0.0)
    feed(stream, 228, 0.0)
    stream.sender_report(0x1234_5678_9ABC_DEF0, 10.0)
    block = stream.report_block(10.5)
    assert (block.ssrc, block.packets_lost, block.highest_seq) == (7, 64, 228)
    assert block.fraction_lost == (64 << 8) // 129
    assert (block.lsr, block.dlsr) == (0x5678_9ABC, 32768)
    assert stream.report_block(11.0).fraction_lost == 0


@given(
    count=st.integers(1, 12), order=st.randoms(use_true_random=False), start=st.integers(0, 65535)
)
def test_a_key_frame_is_complete_with_its_last_missing_packet(
    count: int, order: random.Random, start: int
) -> None:
    # The first comes first (it is what shows the key frame), the others in any order.
    rest = list(range(1, count))
    order.shuffle(rest)
    watch = KeyframeWatch()
    done = [
        watch.packet((start + index) & 0xFFFF, 9000, marker=index == count - 1, starts=index == 0)
        for index in (0, *rest)
    ]
    assert done == [False] * (count - 1) + [True]


def test_a_newer_key_frame_takes_over_from_one_that_never_completed() -> None:
    watch = KeyframeWatch()
    assert not watch.packet(10, 1, marker=False, starts=True)
    assert not watch.packet(12, 1, marker=True, starts=False)
    assert not watch.packet(13, 2, marker=True, starts=False)
    assert not watch.packet(14, 3, marker=False, starts=True)
    assert watch.packet(15, 3, marker=True, starts=False)


@given(st.lists(st.integers(1_000, 10_000_000_000), min_size=1, max_size=300))
def test_histogram_percentiles_are_within_three_percent(values: list[int]) -> None:
    histogram = LogHistogram()
    for value in values:
        histogram.observe(value)
    for rank in (50, 99, 100):
        exact = percentile([float(value) for value in values], rank)
        found = histogram.percentile_ms(rank)
        assert exact is not None and found is not None
        assert exact * 0.97 <= found * 1e6 <= exact * 1.03


# --- negotiation -------------------------------------------------------------------------------


def test_the_offers_are_what_a_server_reads() -> None:
    wanted = parse_description(receiver_offer(Credentials.fresh(), FINGERPRINT))
    assert [media.direction for media in wanted.media] == ["recvonly", "recvonly"]
    assert {codec.name for codec in wanted.media[1].codecs} == {"vp8", "vp9", "h264", "av1"}
    assert all(codec.rtx_payload_type for codec in wanted.media[1].codecs)
    assert wanted.setup == "actpass"
    sources = Sources.fresh()
    given_ = parse_description(publisher_offer(Credentials.fresh(), FINGERPRINT, sources))
    assert given_.media[0].ssrcs == (sources.audio,)
    assert given_.media[1].rtx_ssrcs == {sources.video: sources.video_rtx}


def candidates(*hosts: str) -> list[object]:
    lines = [f"candidate:{n} 1 udp {100 - n} {host} 40000 typ host" for n, host in enumerate(hosts)]
    lines.insert(0, f"candidate:9 1 tcp 9 {hosts[0]} 40000 typ host tcptype passive")
    return [parse_candidate(line) for line in lines]


@pytest.mark.parametrize(
    ("hosts", "url_host", "chosen"),
    [
        (("10.0.0.5", "127.0.0.1"), "127.0.0.1", "127.0.0.1"),
        (("10.0.0.5", "127.0.0.1"), "localhost", "127.0.0.1"),
        (("fd00::1", "10.0.0.5"), "127.0.0.1", "10.0.0.5"),
        (("fd00::1", "10.0.0.5"), "fd00::1", "fd00::1"),
        (("fd00::1",), "127.0.0.1", "fd00::1"),
    ],
)
def test_the_candidate_that_the_url_names_is_preferred(
    hosts: tuple[str, ...], url_host: str, chosen: str
) -> None:
    assert choose_candidate(candidates(*hosts), url_host) == (chosen, 40000)  # type: ignore[arg-type]


def test_a_server_without_udp_is_a_failure_with_a_name() -> None:
    with pytest.raises(LightFailure, match="no-udp-candidate"):
        choose_candidate([], "127.0.0.1")


# --- against a real worker ---------------------------------------------------------------------


async def test_receivers_get_picture_sound_and_delays() -> None:
    async with SmallServer() as server, open_shared(server.origin) as shared:
        publisher = LightPublisher(shared, f"{server.origin}/whip/l/camera", "teacher")
        await publisher.connect()
        crowd = Crowd(shared, f"{server.origin}/whep/l/camera", "point", 8, sample=0.2)
        await crowd.join(0.2)
        await until(lambda: all(len(r.streams) == 2 for r in crowd.receivers))
        await asyncio.sleep(1.0)
        await crowd.settle()
        totals = crowd.totals()
        assert (totals.connected, totals.joined, totals.ended_early) == (8, 8, 0)
        assert totals.lost == 0
        assert totals.decrypt_failures == totals.bad_packets == 0
        assert totals.decrypted > 8 * 50
        assert shared.tally.phase.video.count > 0
        assert shared.tally.phase.audio.count > 0
        # All that the server says it sent has been counted.
        for session in server.receivers:
            assert session.remb_kbps == 20_000
            assert session.rtt_ms is not None or session.connected_s < 3
        assert await crowd.leave() == 0
        assert await publisher.close()
        assert sorted(server.deleted) == sorted(server.opened)
        assert server.tokens == {"Bearer teacher", "Bearer point"}


async def test_many_joiners_cost_the_publisher_few_key_frames() -> None:
    async with SmallServer() as server, open_shared(server.origin) as shared:
        publisher = LightPublisher(shared, f"{server.origin}/whip/l/camera", "t")
        await publisher.connect()
        crowd = Crowd(shared, f"{server.origin}/whep/l/camera", "t", 12)
        await crowd.join(1.2)
        assert crowd.totals().joined == 12
        assert 1 <= len(publisher.keyframe_request_times) < 12
        assert publisher.remb_bps is not None
        spacing_s = publisher.least_request_spacing_s
        assert spacing_s is None or spacing_s > 0.45
        await crowd.leave()
        await publisher.close()


class LossyReceiver(LightReceiver):
    """Loses one burst in ten of what arrives after the handshake, as a bad line would."""

    __slots__ = ("bursts",)

    def _account(self, size: int, segment: int) -> None:
        if self.joined_s is not None and inbox.data[0] & 0xC0 == 0x80:
            self.bursts = getattr(self, "bursts", 0) + 1
            if self.bursts % 10 == 0:
                return
        super()._account(size, segment)


async def test_lost_packets_are_asked_for_and_recovered() -> None:
    async with SmallServer() as server, open_shared(server.origin) as shared:
        publisher = LightPublisher(shared, f"{server.origin}/whip/l/camera", "t")
        await publisher.connect()
        receiver = LossyReceiver(shared, f"{server.origin}/whep/l/camera", "t")
        await receiver.connect()
        await receiver.joined()
        await until(lambda: receiver.video is not None and receiver.video.recovered >= 10)
        assert receiver.video is not None
        assert receiver.nacks >= 10
        assert receiver.rtx_packets >= receiver.video.recovered
        assert receiver.decrypt_failures == 0
        await receiver.close()
        await publisher.close()


class ForgetfulPublisher(LightPublisher):
    """Leaves out every fifth datagram of media the first time."""

    __slots__ = ("counter",)

    def _send(self, datagram: bytes) -> None:
        if datagram and datagram[0] & 0xC0 == 0x80 and datagram[1] & 0x7F == 96:
            self.counter = getattr(self, "counter", 0) + 1
            if self.counter % 5 == 0:
                return
        super()._send(datagram)


async def test_a_publisher_resends_what_the_server_misses() -> None:
    async with SmallServer() as server, open_shared(server.origin) as shared:
        publisher = ForgetfulPublisher(shared, f"{server.origin}/whip/l/camera", "t")
        await publisher.connect()
        receiver = LightReceiver(shared, f"{server.origin}/whep/l/camera", "t")
        await receiver.connect()
        await receiver.joined()
        await until(lambda: publisher.resent_packets >= 20)
        assert publisher.nacked_packets >= publisher.resent_packets
        await receiver.close()
        await publisher.close()


@pytest.mark.parametrize("gso", [False, True])
async def test_frames_arrive_whole_with_and_without_segmentation(gso: bool) -> None:
    async with SmallServer() as server, open_shared(server.origin) as shared:
        publisher = LightPublisher(shared, f"{server.origin}/whip/l/camera", "t", gso=gso)
        await publisher.connect()
        receiver = LightReceiver(shared, f"{server.origin}/whep/l/camera", "t", gro=not gso)
        await receiver.connect()
        await receiver.joined()
        await until(lambda: receiver.video is not None and receiver.video.packets > 100)
        assert receiver.video is not None
        assert not receiver.video.missing
        await receiver.close()
        await publisher.close()


async def test_a_receiver_without_a_publisher_connects_and_waits_for_a_picture() -> None:
    async with SmallServer() as server, open_shared(server.origin) as shared:
        receiver = LightReceiver(shared, f"{server.origin}/whep/l/camera", "t")
        await receiver.connect()
        with pytest.raises(TimeoutError):
            await receiver.joined(0.2)
        publisher = LightPublisher(shared, f"{server.origin}/whip/l/camera", "t")
        await publisher.connect()
        assert await receiver.joined() > 0
        await receiver.close()
        await publisher.close()


async def test_a_full_stream_is_a_failure_with_the_servers_reason() -> None:
    async with SmallServer(cap=2) as server, open_shared(server.origin) as shared:
        publisher = LightPublisher(shared, f"{server.origin}/whip/l/camera", "t")
        await publisher.connect()
        crowd = Crowd(shared, f"{server.origin}/whep/l/camera", "t", 5)
        await crowd.join(0.3)
        assert crowd.totals().joined == 2
        assert dict(shared.tally.failures) == {"http-503 receiver-cap-reached": 3}
        await crowd.leave()
        await publisher.close()


async def test_a_certificate_that_does_not_match_is_refused_and_the_session_deleted() -> None:
    def forged(answer: str) -> str:
        lines = [
            f"a=fingerprint:sha-256 {FINGERPRINT}" if line.startswith("a=fingerprint") else line
            for line in answer.split("\r\n")
        ]
        return "\r\n".join(lines)

    async with SmallServer(before_answer=forged) as server, open_shared(server.origin) as shared:
        receiver = LightReceiver(shared, f"{server.origin}/whep/l/camera", "t")
        with pytest.raises(LightFailure) as caught:
            await receiver.connect()
        assert caught.value.reason == "dtls-failed"
        assert server.deleted == server.opened


async def test_a_server_that_refuses_our_checks_is_a_failure() -> None:
    def wrong_password(answer: str) -> str:
        return answer.replace("a=ice-pwd:", "a=ice-pwd:wrong")

    async with (
        SmallServer(before_answer=wrong_password) as server,
        open_shared(server.origin) as shared,
    ):
        receiver = LightReceiver(shared, f"{server.origin}/whep/l/camera", "t")
        with pytest.raises(LightFailure, match="ice-refused 401"):
            await receiver.connect()
        assert server.deleted == server.opened


async def test_an_address_that_never_answers_times_out() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        port = silent.getsockname()[1]

        def elsewhere(answer: str) -> str:
            return re.sub(r"(a=candidate:.* udp .* 127.0.0.1) \d+", rf"\1 {port}", answer)

        async with (
            SmallServer(before_answer=elsewhere) as server,
            open_shared(server.origin) as shared,
        ):
            receiver = LightReceiver(shared, f"{server.origin}/whep/l/camera", "t")
            with pytest.raises(LightFailure, match="ice-timeout"):
                await receiver.connect(timeout_s=0.6)
            assert server.deleted == server.opened
        silent.setblocking(False)
        checks = [silent.recv(2048) for _ in range(3)]
        assert len(set(checks)) == 1  # the same request, sent again


async def test_garbage_instead_of_an_answer_is_a_failure() -> None:
    async with (
        SmallServer(before_answer=lambda _: "hello") as server,
        open_shared(server.origin) as shared,
    ):
        receiver = LightReceiver(shared, f"{server.origin}/whep/l/camera", "t")
        with pytest.raises(LightFailure, match="invalid-answer"):
            await receiver.connect()


async def test_nobody_there_is_a_failure() -> None:
    async with open_shared("http://127.0.0.1:9") as shared:
        receiver = LightReceiver(shared, "http://127.0.0.1:9/whep/l/camera", "t")
        with pytest.raises(LightFailure, match="unreachable"):
            await receiver.connect()


async def test_receivers_notice_that_the_server_hangs_up() -> None:
    async with SmallServer() as server, open_shared(server.origin) as shared:
        publisher = LightPublisher(shared, f"{server.origin}/whip/l/camera", "t")
        await publisher.connect()
        crowd = Crowd(shared, f"{server.origin}/whep/l/camera", "t", 3)
        await crowd.join(0.0)
        for session in list(server.worker.sessions.values()):
            session.close("lesson-over")
        await until(lambda: crowd.totals().ended_early == 3)
        assert {receiver.ended for receiver in crowd.receivers} == {"closed-by-server"}
        crowd.note_silent()
        assert crowd.note_silent() == 3


@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(min_size=0, max_size=80), max_size=8))
def test_hostile_datagrams_never_raise(datagrams: list[bytes]) -> None:
    async def scenario() -> None:
        async with open_shared("http://127.0.0.1:9") as shared:
            receiver = LightReceiver(shared, "http://127.0.0.1:9/whep/l/camera", "t")
            for datagram in datagrams:
                for data in (
                    datagram,
                    b"\x80\x60" + datagram,
                    b"\x00\x01" + datagram,
                    b"\x16" + datagram,
                ):
                    inbox.data[: len(data)] = data
                    receiver._account(len(data), len(data))
            assert receiver.video is None or receiver.video.packets == 0

    asyncio.run(scenario())
