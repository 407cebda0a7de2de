"""RTP payloads back into frames, against what real encoders made."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer import depacketize
from streamer.errors import PacketError
from streamer.pictures import Picture, describe
from tests.streamer import coded

CODECS = ("vp8", "vp9", "h264", "av1")


def inside(codec: str, frame: bytes) -> list[bytes]:
    """What must be left of an encoder's frame: its parts without what only delimits them."""
    if codec == "h264":
        return coded.annex_b_units(frame)
    if codec == "av1":
        return coded.av1_obus(frame)
    return [frame]


def parts(codec: str, frame: bytes) -> list[bytes]:
    """The same of a frame that was put together again."""
    if codec == "h264":
        return list(depacketize.nal_units(frame))
    if codec == "av1":
        return coded.av1_obus(frame)
    return [frame]


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("mtu_bytes", [80, 1100])
def test_every_frame_of_an_encoder_comes_back_whole(codec: str, mtu_bytes: int) -> None:
    for frame in coded.pictures(codec):
        payloads = coded.payloads(codec, frame.data, mtu_bytes)
        again = depacketize.DEPACKETIZERS[codec](payloads)
        assert parts(codec, again) == inside(codec, frame.data)
        assert depacketize.IS_KEYFRAME[codec](again) == frame.keyframe


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize(("width", "height"), [(160, 96), (354, 202)])
def test_a_key_frame_says_how_large_the_picture_is(codec: str, width: int, height: int) -> None:
    frame = coded.pictures(codec, count=1, width=width, height=height)[0]
    whole = depacketize.DEPACKETIZERS[codec](coded.payloads(codec, frame.data))
    picture = describe(codec, whole)
    assert (picture.width, picture.height) == (width, height)
    assert bool(picture.private) == (codec in ("h264", "av1"))


@pytest.mark.parametrize("codec", CODECS)
def test_a_frame_without_its_first_packet_is_refused(codec: str) -> None:
    frame = coded.pictures(codec, count=1, width=354, height=202)[0]
    payloads = coded.payloads(codec, frame.data, 80)
    if codec in ("h264", "av1"):
        payloads = payloads[1:]  # the parameter sets may be missing, the picture's start may not
    assert len(payloads) > 2
    with pytest.raises(PacketError):
        depacketize.DEPACKETIZERS[codec](payloads[1:])


@given(st.sampled_from(CODECS), st.lists(st.binary(max_size=40), max_size=6))
def test_hostile_payloads_raise_nothing_but_our_own_error(
    codec: str, payloads: list[bytes]
) -> None:
    payloads = [payload for payload in payloads if payload]
    try:
        frame = depacketize.DEPACKETIZERS[codec](payloads)
    except PacketError:
        return
    depacketize.IS_KEYFRAME[codec](frame)


HEADS = {
    "vp8": b"\x10\x00\x00\x9d\x01\x2a",
    "vp9": b"\x82\x49\x83\x42",
    "h264": b"",
    "av1": b"",
}


@given(st.sampled_from(CODECS), st.binary(min_size=1, max_size=60))
def test_hostile_key_frames_raise_nothing_but_our_own_error(codec: str, body: bytes) -> None:
    frame = HEADS[codec] + body
    if codec == "h264":
        frame = len(body + b"\x67").to_bytes(4, "big") + b"\x67" + body
        frame += (4).to_bytes(4, "big") + b"\x68\xce\x3c\x80"
    elif codec == "av1":
        frame = bytes((0x0A, len(body))) + body
    try:
        picture = describe(codec, frame)
    except PacketError:
        return
    assert isinstance(picture, Picture)
    assert picture.area > 0
