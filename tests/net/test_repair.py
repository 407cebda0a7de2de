"""Lost packets come again, lost keys are asked for with restraint, lost addresses are found anew.

The peers are Chromium, aiortc and raw ones; the lines between them and the worker are ours.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import numpy as np
import pytest
import pytest_asyncio
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription, VideoStreamTrack
from aiortc.mediastreams import MediaStreamTrack
from av import VideoFrame

from streamer import rtcp
from streamer.losses import MAX_TRIES, LossDetector
from streamer.receiver import ReceiverTrack
from tests.e2e.browsers import Browsers, Tab, chromium
from tests.net.house import House, house, until
from tests.net.impairment import BurstLoss, Conditions
from tests.net.lesson import teaching
from tests.net.pages import Seen, Whip, measure, whip
from tests.net.peer import RawPeer
from tests.net.proxy import Proxy, through

ONE_WAY_S = 0.02  # 40 ms there and back
CLEAN = Conditions(delay_s=ONE_WAY_S)
LOSSY = Conditions(delay_s=ONE_WAY_S, loss=0.05)
BURSTY = Conditions(delay_s=ONE_WAY_S, burst_loss=BurstLoss.averaging(0.05, mean_burst=4))
WATCHED_S = 2.5
TRIES = 4  # a busy machine starves peers too: one undisturbed look is enough
MOST_CONCEALED = 0.08  # sound is not resent: what is lost is concealed, less what FEC restores
MOST_FROZEN = 0.3  # of the time: a burst may take its resends along, twice
FEWEST_DECODED = 0.7  # of the frames sent


# --- Chromium ----------------------------------------------------------------------------------


@dataclass
class Lesson:
    """A teacher's page and a school's, each behind a line of its own."""

    whip: Whip
    teacher: Tab
    school: Tab

    @property
    def house(self) -> House:
        return self.whip.house

    async def goes_on(self, seconds: float = WATCHED_S) -> tuple[Seen, Seen]:
        """What teacher and school did in that time."""
        before = await measure(self.teacher.page), await measure(self.school.page)
        await asyncio.sleep(seconds)
        teacher, school = await measure(self.teacher.page), await measure(self.school.page)
        return teacher - before[0], school - before[1]

    async def keeps_moving(self) -> tuple[Seen, Seen]:
        """Look until a stretch of picture and sound is as good as the line allows."""
        faults: list[str] = []
        for _ in range(TRIES):
            teacher, school = await self.goes_on()
            found = [
                (school.frames_decoded > FEWEST_DECODED * teacher.frames_sent > 0, "few frames"),
                (school.frozen_s < MOST_FROZEN * WATCHED_S, "long freezes"),
                (school.energy > 0, "no sound"),
                (school.concealed < MOST_CONCEALED, "made-up sound"),
            ]
            bad = ", ".join(fault for fine, fault in found if not fine)
            if not bad:
                return teacher, school
            faults.append(f"{bad}: {school}")
        raise AssertionError("\n".join(faults))

    async def school_decodes(self, frames: int, within_s: float = 10.0) -> None:
        target = (await measure(self.school.page)).frames_decoded + frames
        async with asyncio.timeout(within_s):
            while (await measure(self.school.page)).frames_decoded < target:  # noqa: ASYNC110
                await asyncio.sleep(0.1)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browsers() -> AsyncIterator[Browsers]:
    async with chromium() as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def lesson(browsers: Browsers) -> AsyncIterator[Lesson]:
    async with (
        house() as opened,
        whip(opened) as served,
        Proxy(opened.address, up=CLEAN, down=CLEAN, seed=11) as uplink,
        Proxy(opened.address, up=CLEAN, down=CLEAN, seed=22) as downlink,
    ):
        served.lines = {"teacher": uplink, "school": downlink}
        teacher = await served.publish(browsers, "teacher")
        school = await served.watch(browsers, "school")
        begun = Lesson(served, teacher, school)
        await begun.school_decodes(30, 20.0)
        yield begun
        await browsers.close_tabs()


@pytest.mark.e2e
@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("bad", [LOSSY, BURSTY], ids=["random", "bursts"])
async def test_what_the_uplink_loses_is_asked_for_and_sent_again(
    lesson: Lesson, bad: Conditions
) -> None:
    line = lesson.whip.lines["teacher"]
    before, nacks = lesson.house.track("teacher"), lesson.house.counters.nacks_sent
    lost_before = line.counts[0].lost + line.counts[0].lost_in_bursts
    resent_before = (await measure(lesson.teacher.page)).packets_resent
    with line.changed(up=bad):
        _teacher, school = await lesson.keeps_moving()
    await lesson.school_decodes(10)
    after = lesson.house.track("teacher")

    assert line.counts[0].lost + line.counts[0].lost_in_bursts > lost_before
    assert lesson.house.counters.nacks_sent > nacks
    recovered = after.retransmissions - before.retransmissions
    assert recovered > 0
    # The line has been mended for a while: all that could be repaired has been.
    assert after.packets_lost - before.packets_lost <= 0.05 * recovered + 1
    resent = (await measure(lesson.teacher.page)).packets_resent - resent_before
    assert resent >= recovered
    # The school's own line was clean: holes that others fill in time are none of its losses.
    assert school.packets_lost <= 0.01 * school.packets_received


@pytest.mark.e2e
@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("bad", [LOSSY, BURSTY], ids=["random", "bursts"])
async def test_what_the_downlink_loses_is_sent_again_to_the_one_who_asks(
    lesson: Lesson, bad: Conditions
) -> None:
    line = lesson.whip.lines["school"]
    resent = lesson.house.counters.retransmissions
    with line.changed(down=bad):
        teacher, school = await lesson.keeps_moving()

    assert school.nacks_sent > 0
    assert lesson.house.counters.nacks_received > 0
    assert lesson.house.counters.retransmissions - resent >= school.packets_repaired * 0.8
    assert school.packets_repaired > 0.01 * school.packets_received
    assert teacher.nacks_received == 0, "the teacher's line was clean"


@pytest.mark.e2e
@pytest.mark.asyncio(loop_scope="module")
async def test_an_ice_restart_keeps_the_media_flowing(lesson: Lesson) -> None:
    before = await measure(lesson.school.page)
    for tab in (lesson.school, lesson.teacher):
        await lesson.whip.restart(tab)
    await lesson.school_decodes(40)
    after = await measure(lesson.school.page) - before
    assert after.state == "connected"
    assert after.packets_lost <= 0.02 * after.packets_received
    assert {one.state for one in lesson.house.worker.sessions.values()} == {"connected"}
    # Names of the generation before go when the new one is used.
    await until(lambda: len(lesson.house.worker._by_ufrag) == 2)


@pytest.mark.e2e
@pytest.mark.asyncio(loop_scope="module")
async def test_a_receiver_that_comes_from_a_new_address_is_followed(lesson: Lesson) -> None:
    before = lesson.house.session("school").remote
    lesson.whip.lines["school"].change_addresses()
    await until(lambda: lesson.house.session("school").remote != before)
    await lesson.school_decodes(20)
    assert lesson.house.session("school").state == "connected"


# --- aiortc ------------------------------------------------------------------------------------


class Noise(VideoStreamTrack):
    """A small picture that costs a few packets a frame."""

    def __init__(self) -> None:
        super().__init__()
        self._random = np.random.default_rng(1)

    async def recv(self) -> VideoFrame:
        timestamp, base = await self.next_timestamp()
        pixels = self._random.integers(0, 255, (120, 160, 3), dtype=np.uint8)
        frame = VideoFrame.from_ndarray(pixels, format="bgr24")
        frame.pts, frame.time_base = timestamp, base
        return frame


async def connected(house: House, role: str, name: str, line: Proxy) -> RTCPeerConnection:
    """An aiortc peer behind a line."""
    peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    if role == "publisher":
        peer.addTrack(Noise())
    else:
        peer.addTransceiver("video", direction="recvonly")
    await peer.setLocalDescription(await peer.createOffer())
    answer = through(house.open(role, name, peer.localDescription.sdp), line.address)
    await peer.setRemoteDescription(RTCSessionDescription(answer, "answer"))
    return peer


async def test_aiortc_repairs_and_is_repaired_on_bad_lines_both_ways() -> None:
    frames = 0

    async def watch(track: MediaStreamTrack) -> None:
        nonlocal frames
        while True:
            await track.recv()
            frames += 1

    async with (
        house() as opened,
        Proxy(opened.address, up=LOSSY, down=CLEAN, seed=1) as uplink,
        Proxy(opened.address, up=CLEAN, down=LOSSY, seed=2) as downlink,
    ):
        publisher = await connected(opened, "publisher", "p", uplink)
        receiver = await connected(opened, "receiver", "r", downlink)
        [transceiver] = receiver.getTransceivers()
        watching = asyncio.ensure_future(watch(transceiver.receiver.track))
        await until(lambda: opened.track("p").retransmissions >= 5, 20)
        await until(lambda: opened.counters.retransmissions >= 5, 20)
        seen = frames
        await until(lambda: frames > seen + 10)
        # Both ways the resends fill the holes: hardly any of the losses remain.
        assert opened.track("p").packets_lost <= 0.02 * opened.track("p").packets + 2
        assert opened.counters.nacks_sent >= 5
        assert opened.counters.nacks_received >= 5
        watching.cancel()
        for peer in (publisher, receiver):
            await peer.close()


# --- raw peers ---------------------------------------------------------------------------------


async def test_every_packet_crosses_two_lossy_lines_in_the_end() -> None:
    async with (
        house() as opened,
        Proxy(opened.address, up=LOSSY, down=CLEAN, seed=3) as uplink,
        Proxy(opened.address, up=CLEAN, down=LOSSY, seed=4) as downlink,
    ):
        publisher, receiver = RawPeer("publisher", 1), RawPeer("receiver", 2)
        opened.peers += [publisher, receiver]
        for name, peer, line in (("p", publisher, uplink), ("r", receiver, downlink)):
            await peer.connect(through(opened.open(peer.role, name, peer.offer), line.address))
        async with teaching(publisher) as taught:
            publisher.on_nack = taught.resend
            await until(lambda: receiver.received_video.packets > 240)
        await asyncio.sleep(0.5)
        assert opened.track("p").packets_lost == 0
        assert opened.track("p").retransmissions > 5
        missing = receiver.received_video.missing
        assert missing > 5, "the downlink lost nothing"
        for _ in range(20):
            if not (lost := receiver.holes()):
                break
            receiver.send_rtcp(rtcp.nack(1, receiver.received_video_ssrc, lost))
            await asyncio.sleep(0.06)
        assert receiver.holes() == []
        assert opened.counters.retransmissions >= missing


async def test_on_a_long_line_a_lost_packet_is_asked_for_once() -> None:
    """Asking again before the resend can be here would double the load of a bad line."""
    far = Conditions(delay_s=0.15)
    async with (
        house() as opened,
        Proxy(opened.address, up=replace(far, loss=0.1), down=far, seed=5) as uplink,
    ):
        publisher = RawPeer("publisher", 1)
        opened.peers.append(publisher)
        await publisher.connect(
            through(opened.open("publisher", "p", publisher.offer), uplink.address)
        )
        async with teaching(publisher) as taught:
            publisher.on_nack = taught.resend
            await until(lambda: opened.track("p").retransmissions >= 4)
            first = opened.track("p")
            await until(lambda: opened.track("p").retransmissions >= first.retransmissions + 12)
            last = opened.track("p")
        # The first losses are asked for at a guessed pace, and some resends are lost themselves.
        assert last.nacks - first.nacks < 2 * (last.retransmissions - first.retransmissions)
        assert 290 <= (opened.session("p").rtt_ms or 0) < 600


async def test_joiners_and_losses_cost_the_publisher_one_key_frame_per_half_second() -> None:
    """Thirty receivers come at odd moments, each of them asks, and asks again."""
    rng = random.Random(5)
    async with house(keyframe_interval_s=0.5) as opened:
        publisher = await opened.publisher()
        async with teaching(publisher) as taught:
            receivers: list[RawPeer] = []
            for number in range(15):
                receivers.append(await opened.receiver(f"r{number}"))
                await asyncio.sleep(rng.random() * 0.05)
                for peer in receivers:
                    if peer.received_video.packets:
                        peer.send_rtcp(rtcp.picture_loss(1, peer.received_video_ssrc))
            await until(lambda: all(peer.received_video.packets > 10 for peer in receivers))
        asked = [when for when, _pli in publisher.rtcp_of(rtcp.PictureLoss)]
        assert len(asked) >= 3
        # Two timers and a socket lie between the decision and here.
        assert min(b - a for a, b in itertools.pairwise(asked)) > 0.5 - 0.03
        assert taught.key_frames <= len(asked) + 1


async def test_a_raw_receiver_that_moves_is_followed_with_its_first_check() -> None:
    async with house() as opened:
        publisher = await opened.publisher()
        receiver = await opened.receiver("r")
        async with teaching(publisher):
            await until(lambda: receiver.received_video.packets > 20)
            receiver.move()
            await asyncio.sleep(0.2)
            receiver.check()
            seen = receiver.received_video.packets
            await until(lambda: receiver.received_video.packets > seen + 20)
        # What went to the old address can be asked for.
        receiver.send_rtcp(rtcp.nack(1, receiver.received_video_ssrc, receiver.holes()))
        await until(lambda: receiver.holes() == [])


async def test_a_peer_that_moves_without_nominating_is_followed_after_a_silence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As aioice does: it nominates once, and its consent checks from the new address do not."""
    monkeypatch.setattr("streamer.session.IDLE_PATH_S", 0.5)
    async with house() as opened:
        publisher = await opened.publisher()
        receiver = await opened.receiver("r")
        async with teaching(publisher):
            await until(lambda: receiver.received_video.packets > 20)
            receiver.move()
            seen = receiver.received_video.packets
            for _ in range(80):
                receiver.check(nominate=False)
                await asyncio.sleep(0.1)
                if receiver.received_video.packets > seen + 20:
                    break
            assert receiver.received_video.packets > seen + 20


async def test_a_peer_without_consent_is_let_go_and_one_with_consent_stays() -> None:
    async with house(consent_timeout_s=1.0) as opened:
        gone = await opened.receiver("gone")
        here = await opened.receiver("here")
        gone.close()
        async with asyncio.timeout(8):
            while opened.end_of("gone") is None:
                here.check()
                await asyncio.sleep(0.1)
        assert opened.end_of("gone") == "consent-expired"
        assert opened.end_of("here") is None
        assert list(opened.worker.sessions) == ["here"]
        assert len(opened.worker._by_ufrag) == 1
        assert len(opened.worker.port._owners) == 1
        await until(lambda: here.checks_answered > 3)


def test_a_nack_is_understood_however_long_the_lesson_lasts() -> None:
    """The 16 bits of a sequence number go round; what counts as old must not."""
    receiver = ReceiverTrack("r", "video", 1, 2)
    receiver.anchor(500, 0, 0.0)
    first = receiver.anchor_seq
    assert receiver.original_seq((first - 1) & 0xFFFF) is None
    for packets in range(0, 200_000, 1_000):
        receiver.packets = packets
        assert receiver.original_seq((first + packets) & 0xFFFF) == (500 + packets) & 0xFFFF


def test_a_resend_is_waited_for_though_a_queue_has_grown_since_the_last() -> None:
    """The round trip was 10 ms; now it is a second: nothing is given up before."""
    losses = LossDetector()
    for seq, now in ((0, 0.0), (2, 0.1)):
        losses.received(seq, now)
    assert losses.due(0.1, 0.1) == [1]
    losses.received(1, 0.11, resent=True)
    assert losses.rtt_s is not None
    assert losses.rtt_s == pytest.approx(0.01)
    losses.received(4, 0.2)
    asked = [tick for tick in range(10, 60) if losses.due(tick / 50, losses.rtt_s) == [3]]
    assert len(asked) <= MAX_TRIES
    assert losses.missing(3)
    losses.received(3, 1.2, resent=True)
    assert 0.01 < losses.rtt_s < 0.2
    assert losses.pending == 0
