"""The picture desk on a made-up clock: what it sends, asks for, and gives up when it is late."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest

from mixer import control, layouts
from mixer.clock import LipSync
from mixer.labels import Label, Labels
from mixer.packetize import RtpStream
from mixer.pictures import STALE_S, UNCHANGED_EVERY_S, PictureDesk
from streamer import rtp
from streamer.framing import Deframer
from tests.mixer import harness

SMALL = control.Picture(320, 180, 15, 300)
STEP_S = 0.01


class Told:
    """Keeps what the desk tells."""

    def __init__(self) -> None:
        self.sent: Counter[str] = Counter()
        self.packets: list[tuple[str, rtp.Packet]] = []
        self.keyframes_wanted: Counter[str] = Counter()
        self.slides = 0
        self.states: list[tuple[str, str]] = []
        self.shed: list[str] = []

    def picture_packets(self, output: str, data: bytes) -> None:
        self.sent[output] += 1
        for frame in Deframer().feed(data):
            self.packets.append((output, rtp.parse(memoryview(frame), {})))

    def keyframe_wanted(self, input_id: str) -> None:
        self.keyframes_wanted[input_id] += 1

    def slides_changed(self) -> None:
        self.slides += 1

    def picture_state(self, input_id: str, state: str) -> None:
        self.states.append((input_id, state))

    def shed_changed(self, what: str, wall_fps: float, stage_fps: float) -> None:
        if not self.shed or self.shed[-1] != what:
            self.shed.append(what)


class World:
    """A desk, its clock, and a classroom's packets."""

    def __init__(self, late_s: float = 0.0) -> None:
        self.now = 0.0
        self.late_s = late_s
        self.told = Told()
        clock = lambda: self.now + self.late_s  # noqa: E731
        self.desk = PictureDesk(Labels(), 0.0, self.told, 0.0, clock=clock)
        self.seq = 0

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while self.now < end - 1e-9:
            self.desk.run(self.now)
            self.now += STEP_S

    def send(self, slot: str, frame: list[bytes]) -> None:
        packets = []
        for index, payload in enumerate(frame):
            last = index == len(frame) - 1
            timestamp = round(self.now * 90_000)
            packets.append(
                rtp.Packet(96, last, self.seq & 0xFFFF, timestamp, 1, payload, (), self.now)
            )
            self.seq += 1
        self.desk.packets(slot, packets, self.now)


def wall_of_one(late_s: float = 0.0) -> tuple[World, list[list[bytes]]]:
    world = World(late_s)
    world.desk.attach("seat:a", "return", "in-a", harness.VP8, LipSync(), 0.0)
    world.desk.open_output("wall", "h264", SMALL, RtpStream(102, 90_000), 0.0)
    world.desk.set_wall(["seat:a"], {"seat:a": Label("a", 1)})
    return world, harness.still("vp8", (200, 40, 40), 1, 320, 180, 15)


def test_an_unchanged_wall_costs_next_to_nothing() -> None:
    world, _frames = wall_of_one()
    world.run(0.2)
    before = world.told.sent["wall"]
    world.run(10.0)
    assert world.told.sent["wall"] - before == pytest.approx(10.0 / UNCHANGED_EVERY_S, abs=6)


def test_a_changing_wall_comes_at_its_rate() -> None:
    world, frames = wall_of_one()
    for frame in itertools.islice(itertools.cycle(frames), 60):
        world.send("seat:a", frame)
        world.run(1 / 15)
    assert world.told.sent["wall"] == pytest.approx(60, abs=8)
    stamps = [p.timestamp for output, p in world.told.packets if p.marker]
    steps = [(b - a) & 0xFFFFFFFF for a, b in itertools.pairwise(stamps)]
    assert min(steps) > 0 and max(steps) < 90_000


def test_a_camera_that_stops_is_told_and_blanked_and_comes_back() -> None:
    world, frames = wall_of_one()
    world.send("seat:a", frames[0])
    world.run(STALE_S - 0.5)
    assert world.told.states == [("in-a", "ok")]
    world.run(1.0)
    assert world.told.states[-1] == ("in-a", "stalled")
    world.send("seat:a", frames[1])
    world.run(0.5)
    assert world.told.states[-1] == ("in-a", "ok")


def test_slides_that_stand_still_stay() -> None:
    world, frames = wall_of_one()
    world.desk.attach("slides", "slides", "in-s", harness.VP8, LipSync(), 0.0)
    world.send("slides", frames[0])
    world.run(20.0)
    assert ("in-s", "stalled") not in world.told.states


def test_a_new_slide_is_noticed_and_a_moving_pointer_is_not() -> None:
    world = World()
    world.desk.attach("slides", "slides", "in-s", harness.VP8, LipSync(), 0.0)
    world.desk.open_output("stage", "h264", SMALL, RtpStream(102, 90_000), 0.0)
    world.desk.set_stage("slides", layouts.StageSources(None, "slides", ()), "", {})
    page = np.full((180, 320, 3), 240, np.uint8)
    pointed = page.copy()
    pointed[80:90, 100:110] = (0, 0, 255)
    other = np.full((180, 320, 3), 60, np.uint8)
    images = iter([page, pointed, page, other])
    frames = harness.coded_cycle("vp8", images, 15, 300, 4)
    for number, frame in enumerate(frames):
        world.send("slides", frame)
        world.run(1.0)
        assert world.told.slides == (1 if number == 3 else 0)


def test_a_stream_that_cannot_be_decoded_is_called_broken() -> None:
    world, _frames = wall_of_one()
    for _ in range(100):
        world.send("seat:a", [bytes((0x10, 0x01, 2, 3))])  # never a key frame
        world.run(0.1)
    assert ("in-a", "broken") in world.told.states
    assert 5 <= world.told.keyframes_wanted["in-a"] <= 12  # once a second, not once a packet


def test_when_late_the_wall_gives_way_then_its_decoding_then_the_stage() -> None:
    world, frames = wall_of_one(late_s=0.3)
    world.desk.open_output("stage", "h264", SMALL, RtpStream(102, 90_000), 0.0)
    endless = itertools.cycle(frames)
    for _ in range(90):
        world.send("seat:a", next(endless))
        world.run(1 / 15)
    assert world.told.shed == ["none", "wall", "stage"]
    video = world.desk.video("seat:a")
    assert video is not None and video.keyframes_only
    world.late_s = 0.0
    for _ in range(15 * 60):
        world.send("seat:a", next(endless))
        world.run(1 / 15)
    assert world.told.shed == ["none", "wall", "stage", "wall", "none"]
    assert not video.keyframes_only


def test_packets_that_waited_too_long_are_left_out_and_a_key_frame_is_asked_for() -> None:
    world, frames = wall_of_one()
    for frame in frames[:3]:
        world.send("seat:a", frame)
        world.run(1 / 15)
    late = [rtp.Packet(96, True, world.seq & 0xFFFF, 9999, 1, frames[3][0], (), world.now)]
    world.seq += 1
    world.now += 2.0
    world.desk.packets("seat:a", late, world.now)
    world.send("seat:a", frames[4])
    world.run(0.5)
    assert world.told.keyframes_wanted["in-a"] >= 1


def test_packets_for_places_that_are_gone_are_ignored() -> None:
    world, frames = wall_of_one()
    world.desk.detach("seat:a", forget=True)
    world.send("seat:a", frames[0])
    world.desk.detach("seat:zz", forget=False)
    world.desk.request_keyframe("stage")
    world.desk.close_output("stage")
    world.run(0.2)
