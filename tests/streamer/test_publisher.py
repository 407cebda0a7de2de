"""What a published track counts, reports and recovers."""

from __future__ import annotations

from streamer import rtcp
from streamer.publisher import PublishedTrack
from streamer.rtp import Packet


def track() -> PublishedTrack:
    return PublishedTrack("video", "vp8", 90000, 96, rtx_payload_type=97, ssrc=1, rtx_ssrc=2)


def packet(seq: int, payload: bytes = b"\x00\x01", timestamp: int | None = None) -> Packet:
    stamp = seq * 3000 if timestamp is None else timestamp
    return Packet(96, True, seq & 0xFFFF, stamp & 0xFFFFFFFF, 1, payload, (), seq / 30)


def test_duplicates_are_not_forwarded() -> None:
    source = track()
    assert source.receive(packet(1))
    assert not source.receive(packet(1))
    assert source.duplicates == 1


def test_loss_is_reported_as_rfc_3550_says() -> None:
    source = track()
    for seq in (65534, 65535, 65536, 65538):
        source.receive(packet(seq))
    block = source.report_block(3000.0)
    assert block is not None
    assert block.highest_seq == (1 << 16) | 2
    assert block.packets_lost == 1
    assert block.fraction_lost == 256 // 5
    for seq in (65539, 65540):
        source.receive(packet(seq))
    later = source.report_block(3001.0)
    assert later is not None
    assert later.fraction_lost == 0


def test_a_retransmission_is_unwrapped_and_counts_as_recovered() -> None:
    source = track()
    source.receive(packet(1))
    source.receive(packet(3))
    rtx = Packet(97, True, 500, 6000, 2, (2).to_bytes(2, "big") + b"\x00\x01", (), 0.2)
    original = source.unwrap_rtx(rtx)
    assert original is not None
    assert (original.seq, original.payload_type, original.ssrc) == (2, 96, 1)
    assert source.receive(original, resent=True)
    assert source.packets_lost == 0
    assert source.recovered == 1


def test_probing_padding_is_not_a_retransmission() -> None:
    assert track().unwrap_rtx(Packet(97, False, 1, 1, 2, b"", (), 0.0)) is None


def test_only_the_first_packet_of_a_key_frame_starts_it() -> None:
    source = PublishedTrack("video", "h264", 90000, 96, ssrc=1)
    parts = [packet(1, b"\x67\x42", 9), packet(2, b"\x68\xce", 9), packet(3, b"\x65\x88", 9)]
    for part in parts:
        source.receive(part)
    assert [part.starts_keyframe for part in parts] == [True, False, False]


def test_sound_and_picture_share_the_publishers_clock() -> None:
    audio = PublishedTrack("audio", "opus", 48000, 111, ssrc=3)
    video = track()
    ntp = 3_900_000_000 << 32
    audio.sender_report(rtcp.SenderReport(3, ntp, 1000, 0, 0, []), 50.0)
    video.sender_report(rtcp.SenderReport(1, ntp + (1 << 31), 9000, 0, 0, []), 50.5)
    offset = 3_900_000_000 - 50.0
    assert audio.rtp_time(51.0, offset) == 1000 + 48000
    assert video.rtp_time(51.0, offset) == 9000 + 45000


def test_before_a_sender_report_the_last_arrival_serves() -> None:
    source = track()
    source.receive(packet(30))
    assert source.rtp_time(2.0, None) == 30 * 3000 + 90000
