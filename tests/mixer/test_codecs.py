"""Payloads there and back: order, fragments, key frames, sound codecs; bad bytes are refused."""

from __future__ import annotations

import random

import av
import numpy as np
import pytest
from aiortc.codecs import depayload
from aiortc.rtcrtpparameters import RTCRtpCodecParameters
from hypothesis import given, settings
from hypothesis import strategies as st

from mixer import control, depacketize, packetize
from mixer.decode import VideoInput
from mixer.encode import VideoEncoder
from mixer.errors import MediaError
from mixer.opus import AudioDecoder, OpusEncoder
from mixer.reorder import PATIENCE_S, Reorder
from streamer import codecs, rtp
from streamer.framing import Deframer
from tests.mixer import harness

H264 = RTCRtpCodecParameters("video/H264", 90_000)
VP8 = RTCRtpCodecParameters("video/VP8", 90_000)


def unit(kind: int, size: int, seed: int = 1) -> bytes:
    # No zero bytes: random ones could look like a start code, which an encoder never writes.
    body = bytes(1 + byte % 255 for byte in random.Random(seed).randbytes(size - 1))
    return bytes((0x60 | kind,)) + body


@given(st.lists(st.integers(2, 5000), min_size=1, max_size=8), st.integers(0, 99))
def test_h264_survives_packets_and_other_depacketizers_agree(sizes: list[int], seed: int) -> None:
    annexb = b"".join(
        depacketize.START_CODE + unit(1 if index else 5, size, seed + index)
        for index, size in enumerate(sizes)
    )
    payloads = packetize.h264(annexb)
    assert all(len(payload) <= packetize.MAX_PAYLOAD_BYTES for payload in payloads)
    assert depacketize.h264(payloads) == annexb
    assert b"".join(depayload(H264, payload) for payload in payloads) == annexb
    assert codecs.KEYFRAME_TESTS["h264"](payloads[0])


@given(st.binary(min_size=1, max_size=6000), st.integers(0, 0x7FFF))
def test_vp8_survives_packets_and_other_depacketizers_agree(frame: bytes, picture: int) -> None:
    payloads = packetize.vp8(frame, picture)
    assert all(len(payload) <= packetize.MAX_PAYLOAD_BYTES for payload in payloads)
    assert depacketize.vp8(payloads) == frame
    assert b"".join(depayload(VP8, payload) for payload in payloads) == frame
    assert codecs.KEYFRAME_TESTS["vp8"](payloads[0]) is depacketize.vp8_is_keyframe(frame)


@pytest.mark.parametrize("codec", sorted(depacketize.DEPACKETIZERS))
@given(payloads=st.lists(st.binary(min_size=1, max_size=60), min_size=1, max_size=5))
@settings(max_examples=200)
def test_hostile_payloads_are_refused_or_make_a_frame(codec: str, payloads: list[bytes]) -> None:
    try:
        frame = depacketize.DEPACKETIZERS[codec](payloads)
    except MediaError:
        return
    assert frame
    depacketize.KEYFRAME_TESTS[codec](frame)


@pytest.mark.parametrize(
    ("payloads", "what"),
    [
        ([b"\x7c\x05abc"], "FU-A without its start"),
        ([b"\x7c\x85abc"], "FU-A without its end"),
        ([b"\x7c\x85abc", b"\x41abc"], "FU-A without its end"),
        ([b"\x78\x00\x09abc"], "STAP-A is cut off"),
        ([b"\x79abc"], "not of packetization mode"),
    ],
)
def test_h264_errors_say_what_is_wrong(payloads: list[bytes], what: str) -> None:
    with pytest.raises(MediaError, match=what):
        depacketize.h264(payloads)


def test_an_rtp_stream_numbers_its_packets_and_reports() -> None:
    stream = packetize.RtpStream(102, 90_000)
    framed = stream.frame([b"a", b"b"], 1.0, marker=True) + stream.frame([b"c"], 1.04, marker=True)
    packets = [rtp.parse(memoryview(frame), {}) for frame in Deframer().feed(framed)]
    assert [packet.payload for packet in packets] == [b"a", b"b", b"c"]
    assert [packet.marker for packet in packets] == [False, True, True]
    first = packets[0]
    assert [(packet.seq - first.seq) & 0xFFFF for packet in packets] == [0, 1, 2]
    assert (packets[2].timestamp - first.timestamp) & 0xFFFFFFFF == 3600
    assert stream.packets == 3 and stream.octets == 3
    (sound,) = Deframer().feed(stream.sound(b"dd", 1.08))
    packet = rtp.parse(memoryview(sound), {})
    assert (packet.payload, packet.marker, packet.ssrc) == (b"dd", False, stream.ssrc)
    assert (packet.seq - first.seq) & 0xFFFF == 3
    assert (packet.timestamp - first.timestamp) & 0xFFFFFFFF == 7200
    assert stream.packets == 4 and stream.octets == 5


# --- order ---------------------------------------------------------------------------------------


def packets_of(frames: int, per_frame: int, first_seq: int = 65_530) -> list[rtp.Packet]:
    return [
        rtp.Packet(
            96,
            part == per_frame - 1,
            (first_seq + frame * per_frame + part) & 0xFFFF,
            frame * 3000,
            1,
            bytes((0x10 if part == 0 else 0, frame, part)),
        )
        for frame in range(frames)
        for part in range(per_frame)
    ]


@given(st.integers(1, 12), st.integers(1, 5), st.randoms(use_true_random=False))
def test_packets_in_a_jumble_come_out_as_frames_in_order(
    frames: int, per_frame: int, rng: random.Random
) -> None:
    packets = packets_of(frames, per_frame)
    jumbled = [packets[0]]
    rest = packets[1:]
    for start in range(0, len(rest), 4):
        block = rest[start : start + 4]
        rng.shuffle(block)
        jumbled += block
    reorder = Reorder()
    out = [coded for packet in jumbled for coded in reorder.put(packet, 0.0)]
    assert [coded.packets[0].timestamp // 3000 for coded in out] == list(range(frames))
    assert all(coded.complete and not coded.broken for coded in out)
    assert [p.seq for coded in out for p in coded.packets] == [p.seq for p in packets]


@given(st.sets(st.integers(1, 39), max_size=10))
def test_a_lost_packet_breaks_its_frame_and_marks_the_next(lost: set[int]) -> None:
    packets = packets_of(10, 4)
    reorder = Reorder()
    out = []
    for index, packet in enumerate(packets):
        if index not in lost:
            packet.arrival = index * 0.01
            out += reorder.put(packet, packet.arrival)
    out += reorder.late(10.0)
    whole = [coded for coded in out if coded.complete]
    hurt = {index // 4 for index in lost}
    assert {c.packets[0].timestamp // 3000 for c in whole if len(c.packets) == 4} == (
        set(range(10)) - hurt
    )
    # The first frame handed out from a hole on says that something is missing.
    for frame in sorted(hurt):
        following = [c for c in out if c.packets[0].timestamp // 3000 >= frame]
        assert not following or following[0].broken or not following[0].complete


def test_a_hole_is_waited_for_as_long_as_a_resend_takes() -> None:
    packets = packets_of(3, 1)
    reorder = Reorder()
    assert len(reorder.put(packets[0], 0.0)) == 1
    packets[2].arrival = 0.01
    assert reorder.put(packets[2], 0.01) == []
    assert reorder.late(PATIENCE_S * 0.9) == []
    assert len(reorder.put(packets[1], PATIENCE_S * 0.9)) == 2


@given(st.lists(st.tuples(st.integers(0, 65_535), st.booleans()), max_size=80))
@settings(max_examples=100)
def test_any_sequence_numbers_are_taken(numbers: list[tuple[int, bool]]) -> None:
    reorder = Reorder()
    for index, (seq, marker) in enumerate(numbers):
        reorder.put(
            rtp.Packet(96, marker, seq, index // 2, 1, b"x", (), index * 0.05), index * 0.05
        )
    reorder.late(100.0)


# --- pictures ------------------------------------------------------------------------------------


def as_packets(frames: list[list[bytes]], payload_type: int, fps: int = 15) -> list[rtp.Packet]:
    packets: list[rtp.Packet] = []
    for number, payloads in enumerate(frames):
        for part, payload in enumerate(payloads):
            packets.append(
                rtp.Packet(
                    payload_type,
                    part == len(payloads) - 1,
                    len(packets),
                    number * 90_000 // fps,
                    1,
                    payload,
                    arrival=number / fps,
                )
            )
    return packets


@pytest.mark.parametrize("track", [harness.VP8, harness.H264], ids=["vp8", "h264"])
@pytest.mark.parametrize("size", [(320, 180), (322, 242), (90, 160)])
def test_pictures_of_any_size_are_decoded(track: control.PipedTrack, size: tuple[int, int]) -> None:
    frames = harness.still(track.codec, (200, 60, 40), 5, *size, 15)
    video = VideoInput(track)
    decoded = video.receive(as_packets(frames, track.payload_type), 1.0)
    assert len(decoded) >= harness.CYCLE_FRAMES - 1
    assert (decoded[0].image.width, decoded[0].image.height) == size


def test_vp9_pictures_are_decoded() -> None:
    context = av.CodecContext.create("libvpx-vp9", "w")
    context.width, context.height, context.pix_fmt = 320, 180, "yuv420p"
    context.time_base = harness.Fraction(1, 15)
    context.options = {"deadline": "realtime", "cpu-used": "8", "lag-in-frames": "0"}
    image = harness.numbered((200, 60, 40), 5, 320, 180)
    frames: list[list[bytes]] = []
    for number in range(5):
        frame = av.VideoFrame.from_ndarray(image, format="bgr24").reformat(format="yuv420p")
        frame.pts = number
        for packet in context.encode(frame):
            data, inter = bytes(packet), 0x40 if frames else 0
            pieces = [data[at : at + 1000] for at in range(0, len(data), 1000)]
            # RFC 9628: I with a 15-bit picture id, P, B and E.
            heads = [
                0x80 | inter | (0x08 if n == 0 else 0) | (0x04 if n == len(pieces) - 1 else 0)
                for n in range(len(pieces))
            ]
            frames.append(
                [bytes((h, 0x80, number)) + piece for h, piece in zip(heads, pieces, strict=True)]
            )
    track = control.PipedTrack(
        kind="video", codec="vp9", clock_rate=90_000, channels=1, payload_type=98
    )
    decoded = VideoInput(track).receive(as_packets(frames, 98), 1.0)
    assert len(decoded) == 5
    assert (decoded[0].image.width, decoded[0].image.height) == (320, 180)


@pytest.mark.parametrize(("turn", "expected"), [(0, (320, 180)), (1, (180, 320)), (2, (320, 180))])
def test_a_turned_camera_is_set_upright(turn: int, expected: tuple[int, int]) -> None:
    packets = as_packets(harness.still("vp8", (200, 60, 40), 5, 320, 180, 15), 96)
    for packet in packets:
        packet.extensions = ((rtp.VIDEO_ORIENTATION, bytes((turn,))),)
    decoded = VideoInput(harness.VP8).receive(packets, 1.0)
    assert (decoded[-1].image.width, decoded[-1].image.height) == expected


def test_after_a_loss_nothing_is_shown_until_a_key_frame_which_is_asked_for() -> None:
    frames = harness.still("vp8", (10, 200, 40), 5, 320, 180, 15)
    packets = as_packets(frames + frames, 96)
    starts = [p.timestamp for p in packets]
    hurt = starts[3] if starts[3] != starts[0] else starts[4]
    video = VideoInput(harness.VP8)
    video.receive(packets[:1], 0.0)
    survivors = [p for p in packets[1:] if p.timestamp != hurt]
    decoded = []
    for packet in survivors:
        packet.arrival += 0.0
        decoded += video.receive([packet], packet.arrival)
        if video.wants_keyframe(packet.arrival):
            asked = packet.arrival
    shown = [d.timestamp for d in decoded]
    second_key = 15 * 6000
    assert second_key in shown
    assert not [t for t in shown if hurt < t < second_key]
    assert 0.0 < asked < 1.5


def test_garbage_never_raises_and_is_counted() -> None:
    rng = random.Random(5)
    video = VideoInput(harness.H264)
    packets = [
        rtp.Packet(102, True, n, n * 6000, 1, bytes((0x65,)) + rng.randbytes(50), arrival=n / 15)
        for n in range(40)
    ]
    assert video.receive(packets, 3.0) == []
    assert video.wants_keyframe(3.0)


def test_codecs_that_cannot_be_mixed_are_refused() -> None:
    av1 = control.PipedTrack(
        kind="video", codec="av1", clock_rate=90_000, channels=1, payload_type=45
    )
    with pytest.raises(MediaError, match="h264, vp8, vp9"):
        VideoInput(av1)


@pytest.mark.parametrize("codec", ["h264", "vp8"])
def test_the_encoder_gives_key_frames_on_request_only(codec: control.VideoCodec) -> None:
    encoder = VideoEncoder(codec, control.Picture(320, 180, 15, 300))
    frame = av.VideoFrame(320, 180, "yuv420p")
    for plane in frame.planes:
        plane.update(bytes([100]) * plane.buffer_size)
    for number in range(30):
        if number == 20:
            encoder.request_keyframe()
        payloads = encoder.encode(frame, number / 15)
        assert payloads and all(len(p) <= packetize.MAX_PAYLOAD_BYTES for p in payloads)
        starts = codecs.KEYFRAME_TESTS[codec](payloads[0])
        assert starts == (number in (0, 20)), number
    assert (encoder.frames, encoder.keyframes) == (30, 2)


# --- sound ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("channels", "rate_hz"), [(1, 48_000), (2, 48_000), (1, 8_000)])
def test_mono_stereo_and_8_khz_opus_come_out_as_48_khz_mono(channels: int, rate_hz: int) -> None:
    at = np.arange(rate_hz) / rate_hz
    sound = (0.3 * np.sin(2 * np.pi * 700 * at)).astype(np.float32)
    decoder = AudioDecoder(harness.AUDIO)
    packets = harness.opus_packets(sound, channels=channels, rate_hz=rate_hz)
    out = np.concatenate([decoder(packet) for packet in packets])
    assert abs(len(out) - 48_000) <= 960
    assert harness.tone_levels(out[9_600:], [700])[0] == pytest.approx(-10.5, abs=1.5)


@pytest.mark.parametrize("codec", ["pcmu", "pcma"])
def test_g711_is_decoded_like_ffmpeg_does(codec: str) -> None:
    at = np.arange(8_000) / 8_000
    pcm = (np.sin(2 * np.pi * 500 * at) * 8_000).astype(np.int16)
    name = {"pcmu": "pcm_mulaw", "pcma": "pcm_alaw"}[codec]
    context = av.CodecContext.create(name, "w")
    context.sample_rate, context.format, context.layout = 8_000, "s16", "mono"
    frame = av.AudioFrame.from_ndarray(pcm.reshape(1, -1), format="s16", layout="mono")
    frame.sample_rate = 8_000
    payload = b"".join(bytes(packet) for packet in context.encode(frame))
    track = control.PipedTrack(
        kind="audio", codec=codec, clock_rate=8_000, channels=1, payload_type=0
    )
    decoder = AudioDecoder(track)
    out = np.concatenate([decoder(payload[at : at + 160]) for at in range(0, 8_000, 160)])
    assert len(out) == 48_000
    assert harness.tone_levels(out, [500])[0] == pytest.approx(-12.2, abs=0.5)


def test_the_opus_encoder_says_what_it_hears() -> None:
    encoder, decoder = OpusEncoder(32), AudioDecoder(harness.AUDIO)
    sound = harness.tone(600, 0.25)
    packets = [encoder.encode(sound[n * 960 : (n + 1) * 960]) for n in range(50)]
    assert all(0 < len(packet) < 400 for packet in packets)
    out = np.concatenate([decoder(packet) for packet in packets])
    assert harness.tone_levels(out[9_600:], [600])[0] == pytest.approx(-12, abs=1.5)


@given(st.binary(max_size=200))
@settings(max_examples=100)
def test_hostile_opus_is_concealed(payload: bytes) -> None:
    samples = AudioDecoder(harness.AUDIO)(payload)
    assert samples.dtype == np.float32
