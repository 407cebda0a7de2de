"""Session descriptions and ICE fragments: what real ones say, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.errors import InvalidSdpError
from streamer.sdp import (
    Candidate,
    Description,
    build_fragment,
    parse_candidate,
    parse_candidate_lines,
    parse_description,
    parse_fragment,
)

DATA = Path(__file__).parent / "data"
OFFERS = {path.stem: path.read_bytes().decode() for path in sorted(DATA.glob("*.sdp"))}
PWD = "p" * 22
FINGERPRINT = "sha-256 " + ":".join(["0a"] * 32)


def minimal(*extra: str, media: str = "m=video 9 UDP/TLS/RTP/SAVPF 96") -> str:
    lines = [
        "v=0",
        "o=- 1 1 IN IP4 127.0.0.1",
        "s=课堂",
        "t=0 0",
        media,
        "a=mid:0",
        "a=ice-ufrag:abcd",
        f"a=ice-pwd:{PWD}",
        f"a=fingerprint:{FINGERPRINT}",
        "a=setup:actpass",
        "a=rtcp-mux",
        "a=rtpmap:96 VP8/90000",
        *extra,
    ]
    return "\r\n".join(lines) + "\r\n"


def without(text: str, start: str) -> str:
    return "".join(line for line in text.splitlines(keepends=True) if not line.startswith(start))


def field_of(text: str) -> str:
    with pytest.raises(InvalidSdpError) as caught:
        parse_description(text)
    assert caught.value.detail
    return caught.value.field


# --- what real offers say ----------------------------------------------------------------------


def test_a_chromium_publisher_is_read_in_full() -> None:
    offer = parse_description(OFFERS["chromium-whip"])
    audio, video = offer.media
    assert offer.bundle == ("0", "1")
    assert offer.extmap_allow_mixed
    assert offer.ice_options == ("trickle",)
    assert offer.setup == "actpass"
    assert [algorithm for algorithm, _value in offer.fingerprints] == ["sha-256"]
    assert (audio.kind, audio.mid, audio.direction, audio.rtcp_mux) == (
        "audio",
        "0",
        "sendonly",
        True,
    )
    opus = audio.codecs[0]
    assert (opus.name, opus.clock_rate, opus.channels) == ("opus", 48000, 2)
    assert opus.parameter("useinbandfec") == "1"
    assert opus.parameter("stereo") is None
    red = audio.codecs[1]
    assert (red.name, red.fmtp) == ("red", (("", "111/111"),))
    vp8 = video.codecs[0]
    assert (vp8.payload_type, vp8.name, vp8.rtx_payload_type) == (96, "vp8", 97)
    assert vp8.feedback == {"goog-remb", "transport-cc", "ccm fir", "nack", "nack pli"}
    assert not any(codec.name == "rtx" for codec in video.codecs)
    assert video.ssrcs and list(video.rtx_ssrcs) == list(video.ssrcs)
    assert video.cname == audio.cname != ""
    assert video.msid.split()[0] == audio.msid.split()[0]
    assert video.rids == video.simulcast == ()


def test_a_chromium_simulcast_publisher_announces_rids_and_no_ssrc() -> None:
    video = parse_description(OFFERS["chromium-whip-simulcast"]).media[1]
    assert video.rids == video.simulcast == ("l", "m", "h")
    assert video.ssrcs == ()
    assert video.msid


def test_a_data_channel_is_recognised() -> None:
    channel = parse_description(OFFERS["chromium-whip-data"]).media[2]
    assert (channel.kind, channel.sctp, channel.formats) == (
        "application",
        True,
        ("webrtc-datachannel",),
    )


def test_a_chromium_receiver_is_read_in_full() -> None:
    offer = parse_description(OFFERS["chromium-whep"])
    video = offer.media[1]
    assert video.direction == "recvonly"
    assert {"vp8", "vp9", "h264", "av1"} <= {codec.name for codec in video.codecs}
    assert len([codec for codec in video.codecs if codec.name == "h264"]) > 4


def test_aiortc_candidates_and_three_fingerprints_are_read() -> None:
    offer = parse_description(OFFERS["aiortc-whip"])
    assert {algorithm for algorithm, _v in offer.fingerprints} == {"sha-256", "sha-384", "sha-512"}
    assert offer.candidates and all(c.type == "host" for c in offer.candidates)
    assert offer.transport.end_of_candidates


def test_a_bundle_only_line_on_port_zero_is_not_rejected() -> None:
    offer = parse_description(OFFERS["firefox-style-whip"])
    video = offer.media[1]
    assert video.bundle_only and not video.rejected
    assert video.transport is not None and video.transport.ice_ufrag == offer.ice_ufrag
    assert offer.fingerprints == offer.media[0].transport.fingerprints  # type: ignore[union-attr]
    assert video.ssrcs == (3735928559,)
    assert video.rtx_ssrcs == {3735928559: 3405691582}


def test_session_level_attributes_hold_for_every_m_line() -> None:
    offer = parse_description(OFFERS["obs-style-whip"])
    for media in offer.media:
        assert media.transport is not None
        assert media.transport.setup == "actpass"
        assert media.transport.ice_ufrag == "k9Qz"
        assert media.transport.fingerprints == offer.fingerprints
    assert offer.ice_options == ("ice2", "trickle")
    assert offer.candidates[1].related_host == "0.0.0.0"


def test_gstreamer_parameters_with_equals_signs_stay_whole() -> None:
    video = parse_description(OFFERS["gstreamer-style-whip"]).media[0]
    sprop = video.codecs[0].parameter("sprop-parameter-sets")
    assert sprop is not None and sprop.endswith("==,aMuMsg==")


def test_bundled_lines_without_transport_take_that_of_the_first() -> None:
    text = minimal("m=audio 9 UDP/TLS/RTP/SAVPF 111", "a=mid:1", "a=rtpmap:111 opus/48000/2")
    text = text.replace("t=0 0\r\n", "t=0 0\r\na=group:BUNDLE 0 1\r\n")
    video, audio = parse_description(text).media
    assert audio.transport == video.transport
    assert field_of(text.replace("a=group:BUNDLE 0 1", "a=group:BUNDLE 0")) == (
        "m=audio 1: a=ice-ufrag"
    )


def test_bandwidth_and_feedback_for_all_payload_types_are_read() -> None:
    text = minimal("a=rtcp-fb:* nack  PLI").replace("a=mid:0", "b=AS:300\r\nb=CT:9\r\na=mid:0")
    video = parse_description(text).media[0]
    assert video.bandwidth_bps == 300_000
    assert video.codecs[0].feedback == {"nack pli"}
    both = text.replace("b=CT:9", "b=TIAS:250500")
    assert parse_description(both).media[0].bandwidth_bps == 250_500


def test_simulcast_groups_set_the_order_and_repair_ssrcs_are_left_out() -> None:
    video = parse_description(
        minimal(
            "a=ssrc-group:SIM 3 1 2",
            "a=ssrc-group:FID 3 30",
            "a=ssrc-group:FEC-FR 3 31",
            *(f"a=ssrc:{ssrc} cname:me" for ssrc in (1, 2, 3, 30, 31)),
        )
    ).media[0]
    assert video.ssrcs == (3, 1, 2)
    assert video.rtx_ssrcs == {3: 30}


def test_lf_ends_a_line_as_well_as_crlf() -> None:
    for text in OFFERS.values():
        unix = text.replace("\r\n", "\n")
        assert parse_description(unix) == parse_description(unix.replace("\n", "\r\n"))


@pytest.mark.parametrize("name", OFFERS)
def test_what_is_written_reads_the_same(name: str) -> None:
    offer = parse_description(OFFERS[name])
    assert parse_description(offer.to_text()) == offer


# --- refusals name the line --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("extra", "field"),
    [
        ("a=rtpmap:96 VP9/90000", "m=video 0: a=rtpmap"),
        ("a=rtpmap:vp8", "m=video 0: a=rtpmap"),
        ("a=rtpmap:200 VP8/90000", "m=video 0: a=rtpmap"),
        ("a=rtpmap:97 VP8/0", "m=video 0: a=rtpmap"),
        ("a=fmtp:96 名=1", "m=video 0: a=fmtp"),
        ("a=rtcp-fb:x nack", "m=video 0: a=rtcp-fb"),
        ("a=extmap:0 urn:x", "m=video 0: a=extmap"),
        ("a=extmap:256 urn:x", "m=video 0: a=extmap"),
        ("a=extmap:1 urn:x\r\na=extmap:1 urn:y", "m=video 0: a=extmap"),
        ("a=ssrc:4294967296 cname:x", "m=video 0: a=ssrc"),
        ("a=ssrc:1 cname:", "m=video 0: a=ssrc"),
        ("a=ssrc-group:FID 1 1", "m=video 0: a=ssrc-group"),
        ("a=ssrc-group:FID 1 2\r\na=ssrc-group:FID 2 1", "m=video 0: a=ssrc-group"),
        ("a=rid:! send", "m=video 0: a=rid"),
        ("a=simulcast:send a;;b", "m=video 0: a=simulcast"),
        ("a=sendonly\r\na=recvonly", "m=video 0: a=recvonly"),
        ("a=setup:passive", "m=video 0: a=setup"),
        ("a=ice-ufrag:abce", "m=video 0: a=ice-ufrag"),
        ("a=mid:1", "m=video 0: a=mid"),
        ("a=fingerprint:sha-256 AB", "m=video 0: a=fingerprint"),
        ("a=fingerprint:sha-1 " + ":".join(["0a"] * 32), "m=video 0: a=fingerprint"),
        ("a=candidate:1 1 udp", "m=video 0: a=candidate"),
        ("a=candidate:1 1 udp 1 127.0.0.1 70000 typ host", "m=video 0: a=candidate"),
        ("a=candidate:1 1 udp 4294967296 127.0.0.1 1 typ host", "m=video 0: a=candidate"),
        ("a=msid:一 二", "m=video 0: a=msid"),
        ("b=AS:lots", "m=video 0: b="),
        ("m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0", "a=mid"),
        ("m=audio nine RTP/AVP 0", "m= 1"),
        ("m=audio 99999 RTP/AVP 0", "m=audio 1"),
        ("m=audio 9 RTP/AVP 0 0", "m=audio 1"),
        ("m=audio 9 UDP/TLS/RTP/SAVPF opus", "m=audio 1"),
        ("a=(", "m=video 0: a="),
        ("nonsense", "line 13"),
        ("a=x\ry", "line 13"),
        ("a=x\x00", "sdp"),
        ("a=x\ud800", "sdp"),
    ],
)
def test_a_bad_line_is_named(extra: str, field: str) -> None:
    text = minimal(extra)
    if extra.startswith("m=audio 9 UDP/TLS/RTP/SAVPF opus"):
        text += f"a=ice-ufrag:abcd\r\na=ice-pwd:{PWD}\r\na=fingerprint:{FINGERPRINT}\r\n"
    assert field_of(text) == field


@pytest.mark.parametrize(
    ("start", "field"),
    [
        ("v=0", "v="),
        ("a=ice-ufrag", "m=video 0: a=ice-ufrag"),
        ("a=ice-pwd", "m=video 0: a=ice-pwd"),
        ("a=fingerprint", "m=video 0: a=fingerprint"),
        ("m=", "m="),
    ],
)
def test_a_missing_line_is_named(start: str, field: str) -> None:
    assert field_of(without(minimal(), start)) == field


@pytest.mark.parametrize(
    ("name", "value"),
    [("ice-ufrag", "abc"), ("ice-ufrag", "a" * 257), ("ice-ufrag", "ab-d"), ("ice-pwd", "p" * 21)],
)
def test_ice_credentials_keep_to_rfc_8839(name: str, value: str) -> None:
    text = without(minimal(), f"a={name}") + f"a={name}:{value}\r\n"
    assert field_of(text) == f"m=video 0: a={name}"


def test_everything_is_bounded() -> None:
    assert field_of(minimal("a=x:" + "x" * 65536)) == "sdp"
    assert field_of(minimal("s=" + "课" * 22000)) == "sdp"
    assert field_of(minimal(*["m=audio 0 RTP/AVP 0"] * 32)) == "m="
    many = " ".join(str(number) for number in range(128))
    maps = [f"a=rtpmap:{number} X/8000" for number in range(96)]
    text = minimal(*maps, media=f"m=video 9 UDP/TLS/RTP/SAVPF {many}")
    assert field_of(without(text, "a=rtpmap:96")) == "m=video 0: a=rtpmap"
    too_many = " ".join(str(number) for number in range(129))
    assert field_of(minimal(media=f"m=video 9 UDP/TLS/RTP/SAVPF {too_many}")) == "m=video 0"
    line = "a=candidate:1 1 udp 1 127.0.0.1 1 typ host"
    assert field_of(minimal(*[line] * 65)) == "m=video 0: a=candidate"
    ssrcs = [f"a=ssrc:{number} cname:x" for number in range(65)]
    assert field_of(minimal(*ssrcs)) == "m=video 0: a=ssrc"
    assert field_of(minimal(*[f"a=extmap:{n} urn:{n}" for n in range(1, 66)])) == (
        "m=video 0: a=extmap"
    )
    assert field_of(minimal(*[f"a=fingerprint:{FINGERPRINT}"] * 8)) == "m=video 0: a=fingerprint"


def test_an_answer_that_rejects_everything_is_refused() -> None:
    assert field_of("v=0\r\na=x\r\nm=video 0 UDP/TLS/RTP/SAVPF 96\r\n") == "m="


def test_a_bundle_must_name_existing_lines_once() -> None:
    for group in ("0 1", "0 0"):
        text = minimal().replace("t=0 0", f"t=0 0\r\na=group:BUNDLE {group}")
        assert field_of(text) == "a=group"


# --- candidates and fragments ------------------------------------------------------------------


def test_a_candidate_keeps_its_tcp_type_and_drops_what_nobody_needs() -> None:
    line = (
        "candidate:7 1 TCP 1518280447 2001:db8::1 9 typ srflx raddr 10.0.0.1 rport 5 tcptype active"
    )
    candidate = parse_candidate("a=" + line + " generation 0 network-id 1")
    assert candidate == Candidate(
        "7", 1, "tcp", 1518280447, "2001:db8::1", 9, "srflx", "active", "10.0.0.1", 5
    )
    assert candidate.to_line() == line.replace("TCP", "tcp")
    assert parse_candidate_lines([candidate.to_line()]) == (candidate,)


def test_a_chromium_style_fragment_is_read() -> None:
    fragment = parse_fragment(
        "a=ice-ufrag:GL8w\r\na=ice-pwd:tELYK1FLHmeqXtFFjqQtwGEi\r\n"
        "m=audio 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:0\r\n"
        "a=candidate:1 1 udp 2113937151 5a1b.local 54321 typ host generation 0 ufrag GL8w\r\n"
        "a=end-of-candidates\r\n"
        "m=video 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:1\r\n"
    )
    assert (fragment.ice_ufrag, fragment.ice_pwd) == ("GL8w", "tELYK1FLHmeqXtFFjqQtwGEi")
    assert [candidate.host for candidate in fragment.candidates] == ["5a1b.local"]
    assert fragment.end_of_candidates
    assert fragment.mids == ("0", "1")


def test_a_fragment_may_leave_out_credentials_but_not_half_of_them() -> None:
    assert parse_fragment("m=audio 9 RTP/AVP 0\na=mid:0\n").ice_ufrag is None
    with pytest.raises(InvalidSdpError, match="ice-pwd"):
        parse_fragment("a=ice-ufrag:abcd\n")
    with pytest.raises(InvalidSdpError, match="differ"):
        parse_fragment(
            f"a=ice-ufrag:abcd\na=ice-pwd:{PWD}\n"
            f"m=audio 9 RTP/AVP 0\na=ice-ufrag:abce\na=ice-pwd:{PWD}\n"
        )


def test_an_empty_fragment_is_refused() -> None:
    for text in ("", "\r\n\r\n", "v=0\r\n"):
        with pytest.raises(InvalidSdpError):
            parse_fragment(text)


ICE_TEXT = st.text("abcXYZ019+/", min_size=22, max_size=40)
CANDIDATES = st.builds(
    Candidate,
    foundation=st.text("0123456789abcdef", min_size=1, max_size=32),
    component=st.integers(1, 256),
    transport=st.sampled_from(["udp", "tcp"]),
    priority=st.integers(0, 2**32 - 1),
    host=st.ip_addresses().map(str),
    port=st.integers(0, 65535),
    type=st.sampled_from(["host", "srflx", "relay"]),
    tcptype=st.sampled_from(["", "passive", "active"]),
)


@settings(deadline=None)
@given(
    ufrag=ICE_TEXT,
    pwd=ICE_TEXT,
    candidates=st.lists(CANDIDATES, max_size=5),
    mids=st.lists(st.text("abc01", min_size=1, max_size=4), unique=True, max_size=4),
    end=st.booleans(),
    lite=st.booleans(),
)
def test_a_fragment_reads_as_it_was_built(
    ufrag: str, pwd: str, candidates: list[Candidate], mids: list[str], end: bool, lite: bool
) -> None:
    fragment = parse_fragment(
        build_fragment(
            ice_ufrag=ufrag,
            ice_pwd=pwd,
            candidates=candidates,
            mids=mids,
            end_of_candidates=end,
            ice_lite=lite,
        )
    )
    assert (fragment.ice_ufrag, fragment.ice_pwd) == (ufrag, pwd)
    assert fragment.candidates == tuple(candidates)
    assert fragment.mids == tuple(mids)
    assert (fragment.end_of_candidates, fragment.ice_lite) == (end, lite)


# --- whatever comes ----------------------------------------------------------------------------

# Surrogates included: they reach us as text that no UTF-8 holds.
ANY_TEXT = st.text(st.characters(codec=None), max_size=60)
SDP_LINE = st.one_of(
    st.sampled_from(sorted({line for text in OFFERS.values() for line in text.splitlines()})),
    st.builds(
        "a={}:{}".format, st.sampled_from(["rtpmap", "fmtp", "ssrc", "mid", "rid"]), ANY_TEXT
    ),
    ANY_TEXT,
)


def parsed(text: str) -> Description | None:
    """The description, or None after the only error that is allowed."""
    try:
        return parse_description(text)
    except InvalidSdpError as error:
        assert error.field and error.detail
        (error.field + error.detail).encode()  # an error can always be sent on
        return None


@settings(deadline=None)
@given(ANY_TEXT)
def test_any_text_is_read_or_refused(text: str) -> None:
    parsed(text)
    parsed("v=0\n" + text)
    try:
        parse_fragment(text)
    except InvalidSdpError as error:
        assert error.field


@settings(max_examples=150, deadline=None)
@given(st.lists(SDP_LINE, max_size=40))
def test_any_mixture_of_lines_is_read_or_refused(lines: list[str]) -> None:
    parsed("\n".join(["v=0", *lines]))
    try:
        parse_fragment("\n".join(lines))
    except InvalidSdpError as error:
        assert error.field


@st.composite
def mutated_offers(draw: st.DrawFn) -> str:
    """A real offer with a few lines deleted, repeated, moved, altered or put in."""
    lines = draw(st.sampled_from(sorted(OFFERS.values()))).splitlines()
    for _round in range(draw(st.integers(1, 6))):
        index = draw(st.integers(0, len(lines) - 1))
        match draw(st.sampled_from(["delete", "repeat", "move", "alter", "insert"])):
            case "delete":
                del lines[index : index + draw(st.integers(1, 10))]
            case "repeat":
                lines.insert(index, lines[index])
            case "move":
                lines.insert(draw(st.integers(0, len(lines) - 1)), lines.pop(index))
            case "alter":
                line = lines[index]
                at = draw(st.integers(0, len(line)))
                width = draw(st.integers(0, 3))
                lines[index] = line[:at] + draw(st.text(max_size=3)) + line[at + width :]
            case _:
                lines.insert(index, draw(SDP_LINE))
        if not lines:
            break
    return "\r\n".join(lines)


@settings(max_examples=200, deadline=None)
@given(mutated_offers())
def test_a_mutated_offer_is_refused_or_reads_the_same_once_written(text: str) -> None:
    description = parsed(text)
    if description is not None:
        assert description.transport.ice_ufrag
        assert parse_description(description.to_text()) == description
