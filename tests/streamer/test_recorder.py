"""What comes over a pipe becomes segments whose sound and picture are in step."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer import opus, rtcp
from streamer.control import PipedTrack
from streamer.recorder import Begin, End, Event, Media, Recorder
from streamer.rtp import Packet
from tests.streamer.coded import Sender, film, pictures, sound, talk, track

NTP_S = 3_900_000_000.0  # the publisher's clock when ours says 0

Arrivals = list[tuple[float, list[Packet]]]


def report(sender: Sender, at_s: float) -> rtcp.SenderReport:
    """Says which timestamp the publisher gives to what it takes at `at_s`."""
    ntp = int((NTP_S + at_s) * 2**32)
    return rtcp.SenderReport(sender.index, ntp, sender.timestamp(at_s), 0, 0)


def run(
    recorder: Recorder,
    *streams: Iterable[tuple[float, list[Packet]]],
    senders: Iterable[Sender] = (),
    late_s: dict[int, float] | None = None,
) -> list[Event]:
    """Play streams into a recorder, each as late as said, with a report of each every second."""
    events: list[Event] = []
    items: list[tuple[float, list[Packet], rtcp.SenderReport | None]] = []
    for stream in streams:
        for at_s, packets in stream:
            due_s = at_s + (late_s or {}).get(packets[0].ssrc, 0.0)
            for packet in packets:
                packet.arrival = due_s
            items.append((due_s, packets, None))
    end_s = max(at_s for at_s, _, _ in items)
    for sender in senders:
        items += [(0.2 + n, [], report(sender, 0.2 + n)) for n in range(int(end_s) + 1)]
    items += [(n / 10, [], None) for n in range(int(end_s * 10) + 1)]
    for now, packets, sent in sorted(items, key=lambda item: item[0]):
        if sent is not None:
            recorder.report(sent)
        for packet in packets:
            events += recorder.packet(packet, now)
        if not packets and sent is None:
            events += recorder.tick(now)
    return events + recorder.finish(end_s + 1)


def begun(events: list[Event]) -> list[Begin]:
    return [event for event in events if isinstance(event, Begin)]


def media(events: list[Event], kind: str, segment: int | None = None) -> list[Media]:
    return [
        event
        for event in events
        if isinstance(event, Media) and event.kind == kind and segment in (None, event.segment)
    ]


# --- in step -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sound_late_s", "reports"),
    [(0.0, True), (0.4, True), (0.0, False)],  # without reports nothing tells that sound is late
)
def test_the_flash_and_the_beep_come_out_together(sound_late_s: float, reports: bool) -> None:
    flash, beep = 50, 100  # both two seconds from the start
    ears, eyes = Sender("opus", 0, timestamp=77), Sender("vp8", 1)
    events = run(
        Recorder([track("opus"), track("vp8")], 600),
        talk(sound(200, (beep,)), 0, sender=ears),
        film("vp8", pictures("vp8", 100, flash_at=(flash,)), 1, sender=eyes),
        senders=(ears, eyes) if reports else (),
        late_s={0: sound_late_s},
    )
    assert len(begun(events)) == 1
    seen = media(events, "video")[flash].at_s
    heard = media(events, "audio")[beep].at_s
    assert abs(seen - heard) < 0.010


def test_a_sound_card_that_runs_fast_stays_in_step_for_as_long_as_it_takes() -> None:
    drift = 1.0005  # 500 ppm: 30 ms a minute
    ears, eyes = Sender("opus", 0), Sender("vp8", 1)
    packets = sound(100)
    recorder = Recorder([track("opus"), track("vp8")], 1e6)
    events: list[Event] = []
    picture = pictures("vp8", 25)[0].data
    for second in range(180):
        # The sound's own clock counts more samples than there are in a second of the reports.
        ntp = int((NTP_S + second) * 2**32)
        recorder.report(rtcp.SenderReport(0, ntp, ears.timestamp(second * drift), 0, 0))
        recorder.report(report(eyes, second))
        for packet in eyes.frame(picture, second, second):
            events += recorder.packet(packet, second)
        for n in range(50):
            own_s = second * drift + n * 0.020
            for packet in ears.frame(packets[n], own_s, second + n * 0.020):
                events += recorder.packet(packet, second + n * 0.020)
    heard = media(events, "audio")
    seen = media(events, "video")
    # The last second's first sound was taken with the last picture.
    assert min(abs(one.at_s - seen[-1].at_s) for one in heard[-60:]) < 0.021
    # A player that only counts samples is not led astray either.
    counted = heard[0].at_s + sum(opus.duration_s(one.data) for one in heard)
    assert abs(counted - heard[-1].at_s) < 0.045


def test_lost_sound_is_made_up_with_silence_of_the_same_length() -> None:
    lost = set(range(60, 70))
    stream = [item for n, item in enumerate(talk(sound(150), 0)) if n not in lost]
    events = run(Recorder([track("opus")], 600), stream, senders=(Sender("opus", 0),))
    heard = media(events, "audio")
    assert len(heard) == 150
    assert [n for n, one in enumerate(heard) if one.data == b"\xfc\xff\xfe"] == sorted(lost)
    assert all(abs(b.at_s - a.at_s - 0.020) < 0.003 for a, b in itertools.pairwise(heard))


# --- segments ----------------------------------------------------------------------------------


def test_a_segment_that_has_grown_long_ends_at_a_key_frame() -> None:
    ears, eyes = Sender("opus", 0), Sender("h264", 1)
    events = run(
        Recorder([track("opus"), track("h264")], 2.0),
        talk(sound(300), 0, sender=ears),
        film("h264", pictures("h264", 50) * 3, 1, sender=eyes),
        senders=(ears, eyes),
        late_s={0: 0.15},
    )
    starts = begun(events)
    assert [start.at_s for start in starts] == pytest.approx([0.0, 2.0, 4.0], abs=0.01)
    assert [event.segment for event in events if isinstance(event, End)] == [1, 2, 3]
    for start in starts:
        assert media(events, "video", start.segment)[0].keyframe
        # Sound that came later than the picture of its time still went where it belongs.
        assert all(one.at_s >= start.at_s for one in media(events, "audio", start.segment))
    assert len(media(events, "video")) == 150
    assert len(media(events, "audio")) == 300


def test_a_new_picture_size_begins_a_segment() -> None:
    eyes = Sender("vp8", 0)
    small = list(film("vp8", pictures("vp8", 50), 0, sender=eyes))
    large = list(film("vp8", pictures("vp8", 50, 320, 192), 0, start_s=2.0, sender=eyes))
    events = run(Recorder([track("vp8")], 600), small, large, senders=(eyes,))
    sizes = [(b.picture.width, b.picture.height) for b in begun(events) if b.picture]
    assert sizes == [(160, 96), (320, 192)]
    assert len(media(events, "video", 1)) == len(media(events, "video", 2)) == 50


def test_a_camera_that_is_switched_on_later_begins_a_segment_with_both() -> None:
    ears, eyes = Sender("opus", 0), Sender("vp8", 1)
    events = run(
        Recorder([track("opus"), track("vp8")], 600),
        talk(sound(350), 0, sender=ears),
        film("vp8", pictures("vp8", 50), 1, start_s=4.0, sender=eyes),
        senders=(ears, eyes),
    )
    first, second = begun(events)
    assert first.picture is None
    assert second.picture is not None
    assert second.at_s == pytest.approx(4.0, abs=0.05)
    assert len(media(events, "audio")) == 350


def test_timestamps_that_begin_anew_begin_a_segment() -> None:
    before, after = Sender("vp8", 0), Sender("vp8", 0, seq=5000, timestamp=10**9)
    events = run(
        Recorder([track("vp8")], 600),
        film("vp8", pictures("vp8", 50), 0, sender=before),
        film("vp8", pictures("vp8", 50), 0, start_s=2.0, sender=after),
    )
    assert len(begun(events)) == 2
    assert len(media(events, "video", 2)) == 50
    assert media(events, "video", 2)[-1].at_s < 3.0


# --- layers ------------------------------------------------------------------------------------


def layered(large_until_s: float, large_from_s: float = 0.0) -> list[Event]:
    low, high = Sender("vp8", 0), Sender("vp8", 1)
    frames = pictures("vp8", 50, 320, 192) * 5
    large = [
        (at_s, packets)
        for at_s, packets in film("vp8", frames, 1, sender=high)
        if large_from_s <= at_s < large_until_s
    ]
    return run(
        Recorder([track("vp8"), track("vp8")], 600),
        film("vp8", pictures("vp8", 50) * 5, 0, sender=low),
        large,
        senders=(low, high),
    )


def widths(events: list[Event]) -> list[int]:
    return [start.picture.width for start in begun(events) if start.picture is not None]


def test_the_largest_layer_is_recorded() -> None:
    events = layered(100.0)
    assert widths(events) == [320]
    assert len(media(events, "video")) == 250


def test_a_larger_layer_that_begins_later_takes_over() -> None:
    assert widths(layered(100.0, 4.0)) == [160, 320]


def test_when_the_largest_layer_ceases_the_next_goes_on_in_step() -> None:
    events = layered(4.0)
    assert widths(events) == [320, 160]
    low = media(events, "video", 2)
    # Frame n of the film is at n / 25 s in whichever layer.
    assert low[0].at_s * 25 == pytest.approx(round(low[0].at_s * 25), abs=0.1)
    assert 6.0 <= low[0].at_s < 7.1


# --- key frames --------------------------------------------------------------------------------


def test_a_key_frame_is_asked_for_after_a_loss_and_not_too_often() -> None:
    recorder = Recorder([track("vp8")], 600)
    frames = list(film("vp8", pictures("vp8", 100, keyframe_every=100), 0))
    asked: list[float] = []
    for number, (at_s, packets) in enumerate(frames):
        if number == 20:
            continue
        for packet in packets:
            recorder.packet(packet, at_s)
        recorder.tick(at_s)
        asked += [at_s for _ in recorder.wanted_keyframes(at_s)]
    assert asked[0] == pytest.approx(21 / 25 + 1.0, abs=0.1)  # once the hole was given up
    assert len(asked) > 1
    assert all(b - a > 0.99 for a, b in itertools.pairwise(asked))


def test_a_file_that_cannot_make_key_frames_is_not_asked() -> None:
    recorder = Recorder([track("vp8", answers_pli=False)], 600)
    for at_s, packets in list(film("vp8", pictures("vp8", 50), 0))[1:20]:
        for packet in packets:
            recorder.packet(packet, at_s)
        assert recorder.wanted_keyframes(at_s) == []


# --- hostile -----------------------------------------------------------------------------------


def test_packets_of_another_track_or_codec_are_counted_and_left_out() -> None:
    recorder = Recorder([track("vp8")], 600)
    recorder.packet(Packet(96, True, 1, 1, 7, b"x"), 0.0)
    recorder.packet(Packet(45, True, 1, 1, 0, b"x"), 0.0)
    assert recorder.foreign_packets == 2


def test_a_codec_that_no_file_takes_leaves_the_rest_recorded() -> None:
    strange = PipedTrack(kind="video", codec="h263", clock_rate=90_000, channels=1, payload_type=34)
    ears = Sender("opus", 0)
    events = run(Recorder([track("opus"), strange], 600), talk(sound(150), 0), senders=(ears,))
    assert len(media(events, "audio")) == 150


@given(
    seed=st.integers(0, 2**32),
    codec=st.sampled_from(["vp8", "h264", "vp9", "av1"]),
)
@settings(max_examples=60, deadline=None)
def test_whatever_comes_no_track_of_a_segment_goes_back_in_time(seed: int, codec: str) -> None:
    dice = random.Random(seed)
    recorder = Recorder([track("opus"), track(codec)], 1.0)
    ears, eyes = Sender("opus", 0), Sender(codec, 1)
    events: list[Event] = []
    now = 0.0
    genuine = [p for _, ps in film(codec, pictures(codec), 1, sender=eyes) for p in ps]
    genuine += [p for _, ps in talk(sound(50), 0, sender=ears) for p in ps]
    for _ in range(200):
        now += dice.choice((0.0, 0.01, 0.1, 3.0))
        packet = dice.choice(genuine)
        packet = Packet(
            packet.payload_type,
            packet.marker,
            packet.seq if dice.random() < 0.7 else dice.randrange(65536),
            packet.timestamp if dice.random() < 0.7 else dice.randrange(2**32),
            packet.ssrc,
            packet.payload if dice.random() < 0.8 else dice.randbytes(dice.randrange(30)),
            (),
            now,
        )
        events += recorder.packet(packet, now)
        if dice.random() < 0.2:
            recorder.report(
                rtcp.SenderReport(
                    dice.randrange(3), dice.randrange(2**64), dice.randrange(2**32), 0, 0
                )
            )
        events += recorder.tick(now)
    events += recorder.finish(now)
    last: dict[tuple[int, str], float] = {}
    open_segments: set[int] = set()
    for event in events:
        if isinstance(event, Begin):
            open_segments.add(event.segment)
        elif isinstance(event, End):
            open_segments.remove(event.segment)
        else:
            assert event.segment in open_segments
            key = (event.segment, event.kind)
            assert event.at_s > last.get(key, -1e18)
            last[key] = event.at_s
    assert not open_segments
