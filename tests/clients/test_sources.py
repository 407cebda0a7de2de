"""Files become packets or frames in the right order, with timestamps that never go back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import islice, pairwise
from pathlib import Path

import pytest
from aiortc.codecs.h264 import H264Encoder
from aiortc.codecs.vpx import Vp8Encoder
from av.audio.frame import AudioFrame
from av.packet import Packet
from av.video.frame import VideoFrame
from hypothesis import given
from hypothesis import strategies as st

from clients.sources import CameraSource, FileSource, Timed, in_time_order, open_source
from clients.tracks import LiveTrack
from clients.words import BAD_USAGE, CommandError
from streamer.codecs import h264_starts_keyframe, vp8_starts_keyframe
from tests import media

NAL_SPS, NAL_PPS, NAL_IDR = 7, 8, 5


async def _items(path: Path, *, loop: bool = False, count: int = 100_000) -> list[Timed]:
    source = open_source(str(path), loop=loop)
    assert isinstance(source, FileSource)
    return await asyncio.to_thread(lambda: list(islice(source.items(), count)))


def _nal_types(packet: Packet) -> list[int]:  # type: ignore[type-arg]
    return [nal[0] & 0x1F for nal in H264Encoder._split_bitstream(bytes(packet))]


async def test_h264_from_mp4_has_start_codes_and_parameter_sets_before_every_key_frame() -> None:
    items = await _items(media.h264_clip())
    packets = [item for _, kind, item in items if kind == "video"]
    assert packets and all(isinstance(packet, Packet) for packet in packets)
    keys = [packet for packet in packets if packet.is_keyframe]
    assert len(keys) >= 4
    for packet in keys:
        types = _nal_types(packet)
        assert types.index(NAL_SPS) < types.index(NAL_PPS) < types.index(NAL_IDR)
    for packet in packets:
        payloads, timestamp = H264Encoder().pack(packet)
        assert timestamp == packet.pts
        assert all(0 < len(payload) <= 1300 for payload in payloads)
        # Access unit delimiters and SEI may stand before the parameter sets.
        assert any(map(h264_starts_keyframe, payloads)) == packet.is_keyframe


async def test_vp8_from_webm_goes_out_byte_for_byte() -> None:
    items = await _items(media.vp8_clip())
    for _, kind, item in items:
        assert isinstance(item, Packet)
        if kind == "video":
            payloads, _ = Vp8Encoder().pack(item)
            assert vp8_starts_keyframe(payloads[0]) == item.is_keyframe
            descriptor_bytes = 4  # X, I, and a picture id of 15 bits
            assert b"".join(p[descriptor_bytes:] for p in payloads) == bytes(item)


async def test_another_codec_comes_as_frames_at_its_own_rate() -> None:
    items = await _items(media.foreign_clip())
    frames = [(due, item) for due, kind, item in items if kind == "video"]
    assert all(isinstance(item, VideoFrame) for _, item in frames)
    assert all((item.width, item.height) == (640, 360) for _, item in frames)
    gaps = [later - earlier for (earlier, _), (later, _) in pairwise(frames)]
    assert max(gaps) < 0.06
    blocks = [item for _, kind, item in items if kind == "audio"]
    assert all(isinstance(b, AudioFrame) and b.sample_rate == 48_000 for b in blocks)
    assert all(b.samples == 960 for b in blocks[:-1])


@pytest.mark.parametrize("clip", [media.h264_clip, media.vp8_clip, media.foreign_clip])
async def test_a_looped_file_has_no_seam(clip: Callable[[], Path]) -> None:
    once = await _items(clip())
    count = len(once) * 2 + len(once) // 2
    items = await _items(clip(), loop=True, count=count)
    assert len(items) == count
    # Where the sound of a file outlasts its picture, the last picture stands that long.
    for kind, clock_hz, most_s in (("video", 90_000, 0.3), ("audio", 48_000, 0.3)):
        stamps = [item.pts for _, of_kind, item in items if of_kind == kind]
        assert all(stamp is not None for stamp in stamps)
        gaps = [(later - earlier) / clock_hz for earlier, later in pairwise(stamps)]  # type: ignore[operator]
        assert min(gaps) > 0
        assert max(gaps) < most_s
    dues = [due for due, _, _ in items]
    assert all(later >= earlier for earlier, later in pairwise(dues))


async def test_a_camera_that_ends_is_opened_again_and_time_goes_on(
    capsys: pytest.CaptureFixture[str],
) -> None:
    once = await _items(media.h264_clip())
    plan = open_source(str(media.h264_clip()), loop=False).plan
    camera = CameraSource(str(media.h264_clip()), plan)
    count = len(once) * 2
    items = await asyncio.to_thread(lambda: list(islice(camera.items(), count)))
    stamps = [item.pts for _, kind, item in items if kind == "video"]
    assert len(items) == count
    assert all(later > earlier for earlier, later in pairwise(stamps))  # type: ignore[operator]
    assert "h264.mp4" in capsys.readouterr().err


async def test_picture_and_sound_keep_step_over_many_rounds() -> None:
    items = await _items(media.h264_clip(), loop=True, count=3000)
    latest = {kind: max(i.due_s for i in items if i.kind == kind) for kind in ("video", "audio")}
    assert abs(latest["video"] - latest["audio"]) < 0.3


async def test_a_file_that_is_no_media_is_refused_in_words(tmp_path: Path) -> None:
    text = tmp_path / "notes.mp4"
    text.write_text("not a film")
    for path in (text, tmp_path / "missing.mp4", tmp_path):
        with pytest.raises(CommandError, match=path.name):
            open_source(str(path), loop=False)


async def test_an_unknown_drawn_scene_is_bad_usage() -> None:
    with pytest.raises(CommandError, match="test:teacher") as caught:
        open_source("test:circus", loop=False)
    assert caught.value.exit_code == BAD_USAGE


@pytest.mark.parametrize("name", ["test:", "test:blackboard", "test:teacher"])
async def test_a_drawn_scene_gives_picture_and_sound_in_step(name: str) -> None:
    source = open_source(name, loop=False)
    items = await asyncio.to_thread(lambda: list(islice(source.items(), 80)))
    assert {item.kind for item in items} == {"video", "audio"}
    assert source.plan.video is not None and not source.plan.video.passthrough
    latest = {kind: max(i.due_s for i in items if i.kind == kind) for kind in ("video", "audio")}
    assert abs(latest["video"] - latest["audio"]) < 0.1


async def test_a_source_plays_in_real_time_to_whoever_is_attached_and_then_ends() -> None:
    source = open_source(str(media.vp8_clip()), loop=False)
    track = source.attach()["video"]
    first = asyncio.ensure_future(track.recv())
    await track.wanted.wait()
    source.start()
    packet = await first
    assert isinstance(packet, Packet) and packet.is_keyframe
    later = source.attach()["video"]
    packet = await asyncio.wait_for(later.recv(), 5)
    assert isinstance(packet, Packet) and packet.is_keyframe, "a new connection starts at one"
    source.close()


def _packet(keyframe: bool) -> Packet:  # type: ignore[type-arg]
    packet = Packet(b"x")
    packet.is_keyframe = keyframe
    return packet


async def test_a_track_that_overflows_goes_on_at_the_next_key_frame() -> None:
    track = LiveTrack("video")
    track.wanted.set()
    track.push(_packet(False))
    track.push(_packet(True))
    for _ in range(1000):
        track.push(_packet(False))
    assert track.dropped > 0
    track.push(_packet(True))
    received = await track.recv()
    assert isinstance(received, Packet) and received.is_keyframe


@given(
    st.lists(st.tuples(st.floats(0, 100), st.floats(-0.5, 0.5)), max_size=60),
)
def test_a_stream_whose_parts_are_apart_comes_out_in_time_order(
    moments: list[tuple[float, float]],
) -> None:
    read = [Timed(t + shift, "video", i) for i, (t, shift) in enumerate(sorted(moments))]  # type: ignore[arg-type]
    sorted_items = list(in_time_order(read, 1.0))
    assert sorted(read) == sorted(sorted_items)
    dues = [timed.due_s for timed in sorted_items]
    assert dues == sorted(dues)
