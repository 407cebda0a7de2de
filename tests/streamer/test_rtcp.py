"""RTCP: against an independent implementation, round trips, limits, and hostile bytes."""

from __future__ import annotations

import struct

import pytest
from aiortc import rtp as aiortc_rtp
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer import rtcp
from streamer.errors import PacketError

U32 = st.integers(0, 2**32 - 1)
U16 = st.integers(0, 2**16 - 1)
BLOCKS = st.builds(
    rtcp.ReportBlock,
    ssrc=U32,
    fraction_lost=st.integers(0, 255),
    packets_lost=st.integers(-(2**23), 2**23 - 1),
    highest_seq=U32,
    jitter=U32,
    lsr=U32,
    dlsr=U32,
)
CNAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40)
BLOCK = rtcp.ReportBlock(0x11111111, 64, -3, 0x00010203, 90, 0xAABBCCDD, 65536)


def raw(count: int, kind: int, body: bytes, version: int = 2) -> bytes:
    return struct.pack("!BBH", version << 6 | count, kind, len(body) // 4) + body


def their_block(block: rtcp.ReportBlock) -> aiortc_rtp.RtcpReceiverInfo:
    return aiortc_rtp.RtcpReceiverInfo(
        ssrc=block.ssrc,
        fraction_lost=block.fraction_lost,
        packets_lost=block.packets_lost,
        highest_sequence=block.highest_seq,
        jitter=block.jitter,
        lsr=block.lsr,
        dlsr=block.dlsr,
    )


# --- against aiortc ----------------------------------------------------------------------------


@settings(max_examples=100)
@given(
    ssrc=U32,
    ntp=st.integers(0, 2**64 - 1),
    rtp=U32,
    packets=U32,
    octets=U32,
    cname=CNAMES,
    blocks=st.lists(BLOCKS, max_size=4),
)
def test_sender_reports_agree_with_aiortc_both_ways(
    ssrc: int,
    ntp: int,
    rtp: int,
    packets: int,
    octets: int,
    cname: str,
    blocks: list[rtcp.ReportBlock],
) -> None:
    data = rtcp.sender_report(ssrc, ntp, rtp, packets, octets, cname, blocks)
    theirs, sdes = aiortc_rtp.RtcpPacket.parse(data)
    assert theirs == aiortc_rtp.RtcpSrPacket(
        ssrc=ssrc,
        sender_info=aiortc_rtp.RtcpSenderInfo(
            ntp_timestamp=ntp, rtp_timestamp=rtp, packet_count=packets, octet_count=octets
        ),
        reports=[their_block(block) for block in blocks],
    )
    assert isinstance(sdes, aiortc_rtp.RtcpSdesPacket)
    assert sdes.chunks == [aiortc_rtp.RtcpSourceInfo(ssrc, [(1, cname.encode())])]
    expected = [
        rtcp.SenderReport(ssrc, ntp, rtp, packets, octets, tuple(blocks)),
        rtcp.SourceDescription({ssrc: cname}),
    ]
    assert rtcp.parse(data) == expected
    assert rtcp.parse(bytes(theirs) + bytes(sdes)) == expected


@settings(max_examples=100)
@given(ssrc=U32, cname=CNAMES, blocks=st.lists(BLOCKS, max_size=31))
def test_receiver_reports_agree_with_aiortc_both_ways(
    ssrc: int, cname: str, blocks: list[rtcp.ReportBlock]
) -> None:
    data = rtcp.receiver_report(ssrc, blocks, cname)
    theirs, _sdes = aiortc_rtp.RtcpPacket.parse(data)
    assert theirs == aiortc_rtp.RtcpRrPacket(
        ssrc=ssrc, reports=[their_block(block) for block in blocks]
    )
    assert rtcp.parse(bytes(theirs)) == [rtcp.ReceiverReport(ssrc, tuple(blocks))]
    assert rtcp.parse(data) == [
        rtcp.ReceiverReport(ssrc, tuple(blocks)),
        rtcp.SourceDescription({ssrc: cname}),
    ]


@settings(max_examples=150)
@given(sender=U32, media=U32, seqs=st.lists(U16, min_size=1, max_size=60))
def test_nacks_agree_with_aiortc_both_ways(sender: int, media: int, seqs: list[int]) -> None:
    data = rtcp.nack(sender, media, seqs)
    [theirs] = aiortc_rtp.RtcpPacket.parse(data)
    assert isinstance(theirs, aiortc_rtp.RtcpRtpfbPacket)
    assert (theirs.ssrc, theirs.media_ssrc, theirs.fmt) == (sender, media, 1)
    assert sorted(seq & 0xFFFF for seq in theirs.lost) == sorted(set(seqs))
    [ours] = rtcp.parse(data)
    assert isinstance(ours, rtcp.Nack)
    assert set(ours.sequence_numbers) == set(seqs)
    assert len(ours.sequence_numbers) == len(set(seqs))

    ascending = sorted(set(seqs))  # the only order that aiortc packs
    made = bytes(aiortc_rtp.RtcpRtpfbPacket(1, sender, media, ascending))
    assert rtcp.parse(made) == [rtcp.Nack(sender, media, tuple(ascending))]


@settings(max_examples=100)
@given(
    sender=U32,
    bps=st.integers(0, rtcp.MAX_BITRATE_BPS),
    ssrcs=st.lists(U32, max_size=6),
)
def test_remb_agrees_with_aiortc_both_ways(sender: int, bps: int, ssrcs: list[int]) -> None:
    data = rtcp.remb(sender, bps, ssrcs)
    [theirs] = aiortc_rtp.RtcpPacket.parse(data)
    assert isinstance(theirs, aiortc_rtp.RtcpPsfbPacket)
    told, told_ssrcs = aiortc_rtp.unpack_remb_fci(theirs.fci)
    assert told_ssrcs == ssrcs
    assert told <= bps <= told * (1 + 2**-17) + 1
    assert rtcp.parse(data) == [rtcp.Remb(sender, told, tuple(ssrcs))]
    fci = aiortc_rtp.pack_remb_fci(bps, ssrcs)
    assert bytes(aiortc_rtp.RtcpPsfbPacket(15, sender, 0, fci)) == data


def test_picture_loss_full_intra_and_bye_agree_with_aiortc() -> None:
    assert rtcp.picture_loss(1, 2) == bytes(aiortc_rtp.RtcpPsfbPacket(1, 1, 2))
    fir = rtcp.full_intra(1, [(7, 3), (8, 260)])
    [theirs] = aiortc_rtp.RtcpPacket.parse(fir)
    assert isinstance(theirs, aiortc_rtp.RtcpPsfbPacket)
    assert (theirs.fmt, theirs.ssrc, theirs.media_ssrc) == (4, 1, 0)
    assert theirs.fci == bytes.fromhex("0000000703000000 0000000804000000")
    assert rtcp.bye([5, 6]) == bytes(aiortc_rtp.RtcpByePacket([5, 6]))
    assert rtcp.parse(rtcp.picture_loss(1, 2) + fir + rtcp.bye([5, 6])) == [
        rtcp.PictureLoss(1, 2),
        rtcp.FullIntra(1, ((7, 3), (8, 4))),
        rtcp.Bye((5, 6)),
    ]


# --- details -----------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", ["", "done", "下课了", "r" * 300])
def test_a_bye_keeps_its_reason(reason: str) -> None:
    assert rtcp.parse(rtcp.bye([9], reason)) == [rtcp.Bye((9,), reason[:255])]


def test_reports_of_many_sources_spill_into_further_receiver_reports() -> None:
    blocks = [rtcp.ReportBlock(n, 0, 0, 0, 0, 0, 0) for n in range(70)]
    sender, second, third, _sdes = rtcp.parse(rtcp.sender_report(1, 2, 3, 4, 5, "c", blocks))
    assert isinstance(sender, rtcp.SenderReport)
    assert isinstance(second, rtcp.ReceiverReport)
    assert isinstance(third, rtcp.ReceiverReport)
    assert [*sender.blocks, *second.blocks, *third.blocks] == blocks
    first, second, _third, _sdes = rtcp.parse(rtcp.receiver_report(1, blocks, "c"))
    assert isinstance(first, rtcp.ReceiverReport)
    assert isinstance(second, rtcp.ReceiverReport)
    assert (len(first.blocks), len(second.blocks)) == (31, 31)


def test_cumulative_loss_is_clamped_and_counters_wrap() -> None:
    block = rtcp.ReportBlock(1, 0, 2**30, 0, 0, 0, 0)
    data = rtcp.sender_report(1, 0, 2**32 + 5, 2**32 + 6, 2**32 + 7, "c", [block])
    report = rtcp.parse(data)[0]
    assert isinstance(report, rtcp.SenderReport)
    assert (report.rtp, report.packets, report.octets) == (5, 6, 7)
    assert report.blocks[0].packets_lost == 2**23 - 1


def test_a_nack_across_the_wrap_takes_one_entry() -> None:
    data = rtcp.nack(1, 2, [0, 65535, 1, 65534, 1])
    assert data[12:] == struct.pack("!HH", 65534, 0b111)
    assert rtcp.parse(data) == [rtcp.Nack(1, 2, (65534, 65535, 0, 1))]


def test_a_nack_asks_for_the_oldest_when_not_all_fit() -> None:
    [packet] = rtcp.parse(rtcp.nack(1, 2, range(0, 30000, 20)))
    assert isinstance(packet, rtcp.Nack)
    assert packet.sequence_numbers == tuple(range(0, 253 * 20, 20))


def test_a_nack_for_nothing_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="at least one"):
        rtcp.nack(1, 2, [])


def test_a_greedy_nack_yields_a_thousand_numbers_each_once() -> None:
    words = b"".join(struct.pack("!HH", pid * 10, 0xFFFF) for pid in range(253))
    [packet] = rtcp.parse(raw(1, 205, bytes(8) + words))
    assert isinstance(packet, rtcp.Nack)
    assert len(packet.sequence_numbers) == len(set(packet.sequence_numbers)) == 1000
    with pytest.raises(PacketError, match="254 entries"):
        rtcp.parse(raw(1, 205, bytes(8 + 254 * 4)))


def test_an_absurd_bandwidth_is_bounded() -> None:
    body = struct.pack("!II4sI", 1, 0, b"REMB", (63 << 18) | 0x3FFFF)
    assert rtcp.parse(raw(15, 206, body)) == [rtcp.Remb(1, rtcp.MAX_BITRATE_BPS, ())]
    assert rtcp.parse(rtcp.remb(1, 2**100, [])) == rtcp.parse(
        rtcp.remb(1, rtcp.MAX_BITRATE_BPS, [])
    )


def test_types_and_formats_we_do_not_read_are_told_as_unknown() -> None:
    data = (
        raw(15, 205, bytes(12))  # transport-wide congestion control
        + raw(15, 206, bytes(8) + b"ELSE")
        + raw(2, 206, bytes(8))
        + raw(3, 204, b"\0\0\0\1name")
        + raw(0, 207, bytes(4))
    )
    assert rtcp.parse(data) == [
        rtcp.Unknown(205, 15),
        rtcp.Unknown(206, 15),
        rtcp.Unknown(206, 2),
        rtcp.Unknown(204, 3),
        rtcp.Unknown(207, 0),
    ]


def test_padding_and_profile_extensions_are_skipped() -> None:
    padded = bytearray(raw(1, 206, struct.pack("!II", 1, 2) + b"\0\0\0\4"))
    padded[0] |= 0x20
    assert rtcp.parse(bytes(padded)) == [rtcp.PictureLoss(1, 2)]
    extended = raw(0, 201, struct.pack("!I", 5) + b"extended")
    assert rtcp.parse(extended) == [rtcp.ReceiverReport(5)]


def test_source_descriptions_of_several_chunks_and_items_are_read() -> None:
    chunk_a = struct.pack("!I", 1) + b"\x02\x03Ann\x01\x05a@b.c\x00" + bytes(3)
    chunk_b = struct.pack("!I", 2) + b"\x01\x02\xff!" + bytes(4)
    [packet] = rtcp.parse(raw(2, 202, chunk_a + chunk_b))
    assert packet == rtcp.SourceDescription({1: "a@b.c", 2: "\ufffd!"})


def test_memoryviews_are_parsed_like_bytes() -> None:
    assert rtcp.parse(memoryview(rtcp.picture_loss(1, 2))) == [rtcp.PictureLoss(1, 2)]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "0 bytes"),
        (bytes(3), "3 bytes"),
        (rtcp.picture_loss(1, 2) + b"\0", "13 bytes"),
        (raw(0, 201, bytes(4), version=1), "wrong version"),
        (raw(0, 72, bytes(4)), "packet type"),
        (rtcp.picture_loss(1, 2)[:-4], "cut off"),
        (raw(1, 201, bytes(4 + 20)), "24 bytes, 28 needed"),
        (raw(0, 200, bytes(20)), "20 bytes, 24 needed"),
        (raw(1, 205, bytes(8)), "NACK with 0"),
        (raw(1, 206, bytes(4)), "8 needed"),
        (raw(4, 206, bytes(12)), "FIR with 4"),
        (raw(15, 206, bytes(8) + b"REMB"), "16 needed"),
        (raw(15, 206, bytes(8) + b"REMB\x02\0\0\1" + bytes(4)), "24 needed"),
        (raw(2, 203, bytes(4)), "8 needed"),
        (raw(1, 203, bytes(4) + b"\x05abc"), "BYE reason"),
        (raw(1, 202, b""), "SDES chunk"),
        (raw(1, 202, bytes(4) + b"\x01\x09abcdef"), "SDES item"),
        (raw(1, 202, bytes(4) + b"\x01\x02ab"), "SDES item"),
        (b"\xa1" + raw(1, 206, bytes(12))[1:], "padding"),
        (b"\xa1" + raw(1, 206, bytes(11) + b"\x10")[1:], "padding"),
        (b"\xa1" + raw(1, 206, bytes(11) + b"\x02")[1:], "padding"),
        (b"\xa1" + raw(1, 206, bytes(11) + b"\x04")[1:] + rtcp.bye([1]), "padding"),
        (raw(0, 204, b"") * 65, "more than 64"),
    ],
)
def test_malformed_packets_are_refused_by_name(data: bytes, said: str) -> None:
    with pytest.raises(PacketError, match=said):
        rtcp.parse(data)


@pytest.mark.parametrize(
    ("unix", "ntp"),
    [
        (0.0, 2208988800 << 32),
        (0.5, (2208988800 << 32) + 2**31),
        (1_700_000_000.25, (3908988800 << 32) + 2**30),
        (2**32 - 2208988800, 0),  # the era that begins in 2036
    ],
)
def test_unix_time_becomes_ntp_time(unix: float, ntp: int) -> None:
    assert rtcp.ntp_from_unix(unix) == ntp


# --- hostile bytes -----------------------------------------------------------------------------


def parse_or_refuse(data: bytes) -> None:
    try:
        packets = rtcp.parse(data)
    except PacketError:
        return
    assert 1 <= len(packets) <= rtcp.MAX_PACKETS
    for packet in packets:
        if isinstance(packet, rtcp.Nack):
            assert 1 <= len(packet.sequence_numbers) <= rtcp.MAX_NACK_NUMBERS
        if isinstance(packet, rtcp.Remb):
            assert 0 <= packet.bitrate_bps <= rtcp.MAX_BITRATE_BPS


@settings(max_examples=200)
@given(st.binary(max_size=120))
def test_arbitrary_bytes_are_packets_or_a_packet_error(data: bytes) -> None:
    parse_or_refuse(data)


@settings(max_examples=200)
@given(
    st.lists(
        st.tuples(st.integers(0, 63), st.integers(198, 208), st.binary(max_size=60)),
        min_size=1,
        max_size=4,
    )
)
def test_arbitrary_bodies_under_valid_headers_are_packets_or_a_packet_error(
    parts: list[tuple[int, int, bytes]],
) -> None:
    bodies = [(low, kind, body[: len(body) // 4 * 4]) for low, kind, body in parts]
    parse_or_refuse(
        b"".join(struct.pack("!BBH", 0x80 | low, k, len(b) // 4) + b for low, k, b in bodies)
    )


VALID = (
    rtcp.sender_report(1, 2, 3, 4, 5, "someone", [BLOCK])
    + rtcp.receiver_report(1, [BLOCK, BLOCK], "someone")
    + rtcp.nack(1, 2, [1, 2, 3, 900])
    + rtcp.remb(1, 1_000_000, [2, 3])
    + rtcp.full_intra(1, [(2, 3)])
    + rtcp.picture_loss(1, 2)
    + rtcp.bye([1], "bye now")
)


@settings(max_examples=200)
@given(
    changes=st.lists(
        st.tuples(st.integers(0, len(VALID) - 1), st.integers(0, 255)), min_size=1, max_size=5
    ),
    cut=st.integers(0, len(VALID)),
)
def test_mutated_packets_are_packets_or_a_packet_error(
    changes: list[tuple[int, int]], cut: int
) -> None:
    data = bytearray(VALID)
    for position, value in changes:
        data[position] = value
    parse_or_refuse(bytes(data))
    parse_or_refuse(bytes(data[:cut]))
