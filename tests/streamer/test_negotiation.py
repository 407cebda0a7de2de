"""Our answers: which streams, codecs and extensions are agreed, and that real peers take them."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiortc import RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import AudioStreamTrack, VideoStreamTrack
from hypothesis import given, settings
from hypothesis import strategies as st
from playwright.async_api import Page, async_playwright

from streamer.errors import InvalidSdpError
from streamer.negotiation import (
    LocalTransport,
    PublisherMedia,
    ReceiverMedia,
    negotiate_publisher,
    negotiate_receiver,
)
from streamer.rtp import ABS_SEND_TIME, AUDIO_LEVEL, DEPENDENCY_DESCRIPTOR, MID, VIDEO_ORIENTATION
from streamer.sdp import Codec, Description, parse_candidate_lines, parse_description

DATA = Path(__file__).parent / "data"
OFFERS = {path.stem: path.read_bytes().decode() for path in sorted(DATA.glob("*.sdp"))}
PUBLISHERS = [name for name in OFFERS if "whip" in name]
RECEIVERS = [name for name in OFFERS if "whep" in name]
VIDEO_CODECS = ("vp8", "h264", "vp9", "av1")
TRANSPORT_CC = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01"

LOCAL = LocalTransport(
    ice_ufrag="srv+",
    ice_pwd="serverserverserverserver",
    fingerprint_sha256=":".join(["C3"] * 32),
    candidates=parse_candidate_lines(
        [
            "candidate:1 1 udp 2130706431 127.0.0.1 40000 typ host",
            "candidate:2 1 tcp 1671430143 127.0.0.1 40000 typ host tcptype passive",
        ]
    ),
)


def publish(text: str, video_codecs: tuple[str, ...] = ()) -> PublisherMedia:
    return negotiate_publisher(
        parse_description(text),
        video_codecs=video_codecs,
        video_kbps=1800,
        audio_kbps=48,
        transport=LOCAL,
    )


def numbers() -> Callable[[], int]:
    counter = itertools.count(5001)
    return lambda: next(counter)


def receive(text: str) -> ReceiverMedia:
    return negotiate_receiver(parse_description(text), transport=LOCAL, ssrcs=numbers())


def refusal(run: Callable[[], object]) -> InvalidSdpError:
    with pytest.raises(InvalidSdpError) as caught:
        run()
    return caught.value


# --- the shape of every answer -----------------------------------------------------------------


@pytest.mark.parametrize("name", OFFERS)
def test_an_answer_mirrors_the_lines_of_its_offer(name: str) -> None:
    offer = parse_description(OFFERS[name])
    answer = parse_description(
        publish(OFFERS[name]).answer if name in PUBLISHERS else receive(OFFERS[name]).answer
    )
    assert [(m.kind, m.mid, m.protocol) for m in answer.media] == [
        (m.kind, m.mid, m.protocol) for m in offer.media
    ]
    used = [media for media in answer.media if not media.rejected]
    assert answer.bundle == tuple(mid for mid in offer.bundle if mid in {m.mid for m in used})
    assert answer.ice_lite
    assert answer.extmap_allow_mixed == offer.extmap_allow_mixed
    assert answer.setup == "passive"
    assert (answer.ice_ufrag, answer.ice_pwd) == (LOCAL.ice_ufrag, LOCAL.ice_pwd)
    assert answer.fingerprints == (("sha-256", LOCAL.fingerprint_sha256),)
    assert answer.candidates == LOCAL.candidates
    assert answer.transport.end_of_candidates
    for media, offered in zip(answer.media, offer.media, strict=True):
        if media.rejected:
            assert media.mid not in answer.bundle
            continue
        assert media.rtcp_mux
        assert media.direction == ("recvonly" if name in PUBLISHERS else "sendonly")
        ids = {(extension.id, extension.uri) for extension in media.extensions}
        assert ids <= {(extension.id, extension.uri) for extension in offered.extensions}
        by_type = {codec.payload_type: codec for codec in offered.codecs}
        for codec in media.codecs:
            assert codec.feedback <= by_type[codec.payload_type].feedback
            assert codec.rtx_payload_type == by_type[codec.payload_type].rtx_payload_type


@pytest.mark.parametrize("name", OFFERS)
def test_only_the_first_line_of_the_bundle_carries_candidates(name: str) -> None:
    media = publish(OFFERS[name]) if name in PUBLISHERS else receive(OFFERS[name])
    assert media.answer.count("a=candidate:") == 2
    assert media.answer.index("a=candidate:") < media.answer.index(
        "m=", media.answer.index("m=") + 1
    )


def test_the_peers_transport_is_handed_on() -> None:
    offer = parse_description(OFFERS["chromium-whip"])
    media = publish(OFFERS["chromium-whip"])
    assert (media.ice_ufrag, media.ice_pwd) == (offer.ice_ufrag, offer.ice_pwd)
    assert media.fingerprints == offer.fingerprints
    assert media.setup == "actpass"


# --- publishers --------------------------------------------------------------------------------


@pytest.mark.parametrize("codec", VIDEO_CODECS)
def test_the_preferred_video_codec_is_the_only_one_in_the_answer(codec: str) -> None:
    media = publish(OFFERS["chromium-whip"], (codec, "vp8"))
    audio, video = media.tracks
    assert (audio.kind, audio.mid, audio.mline_index, audio.codec.name) == ("audio", "0", 0, "opus")
    assert (video.kind, video.mid, video.mline_index, video.codec.name) == ("video", "1", 1, codec)
    assert video.codec.rtx_payload_type is not None
    assert video.answers_pli and not audio.answers_pli
    answered = parse_description(media.answer).media[1].codecs
    assert [c.payload_type for c in answered] == [video.codec.payload_type]
    assert answered[0].feedback == {"nack", "nack pli", "ccm fir", "goog-remb"}


def test_the_offers_order_decides_where_no_preferred_codec_is_offered() -> None:
    assert publish(OFFERS["chromium-whip"]).tracks[1].codec.name == "vp8"
    only_h264 = publish(OFFERS["obs-style-whip"], ("av1", "vp9"))
    assert only_h264.tracks[1].codec.name == "h264"


def test_h264_is_taken_in_mode_1_and_constrained_baseline_where_offered() -> None:
    codec = publish(OFFERS["chromium-whip"], ("h264",)).tracks[1].codec
    assert codec.parameter("packetization-mode") == "1"
    assert codec.parameter("profile-level-id") == "42e01f"
    text = publish(OFFERS["chromium-whip"], ("h264",)).answer
    wanted = "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f"
    assert f"a=fmtp:{codec.payload_type} {wanted}\r\n" in text


def test_h264_in_mode_0_is_taken_when_it_stands_alone() -> None:
    text = OFFERS["obs-style-whip"].replace("packetization-mode=1;", "")
    codec = publish(text).tracks[1].codec
    assert codec.name == "h264"
    assert codec.parameter("packetization-mode") is None


def test_ssrcs_of_the_offer_are_handed_on() -> None:
    audio, video = publish(OFFERS["firefox-style-whip"]).tracks
    assert (audio.ssrc, audio.rtx_ssrc) == (2655508255, None)
    assert (video.ssrc, video.rtx_ssrc) == (3735928559, 3405691582)
    simulcast = publish(OFFERS["chromium-whip-simulcast"])
    assert simulcast.tracks[1].ssrc is None
    assert simulcast.tracks[1].rids == ("l", "m", "h")
    assert "a=simulcast:recv l;m;h" in simulcast.answer
    assert "a=rid:m recv" in simulcast.answer


def test_publisher_extensions_leave_out_what_nobody_reads() -> None:
    audio, video = publish(OFFERS["chromium-whip"]).tracks
    assert {MID, ABS_SEND_TIME, AUDIO_LEVEL} == set(audio.extension_ids)
    assert {MID, ABS_SEND_TIME, VIDEO_ORIENTATION} <= set(video.extension_ids)
    assert TRANSPORT_CC not in video.extension_ids
    assert len(set(video.extension_ids.values())) == len(video.extension_ids)
    with_descriptor = publish(OFFERS["chromium-whip-simulcast"]).tracks[1].extension_ids
    assert with_descriptor[DEPENDENCY_DESCRIPTOR] == 12


def test_an_extension_that_the_offerer_only_receives_is_not_expected_from_it() -> None:
    line = f"a=extmap:4 {MID}"
    text = OFFERS["chromium-whip"]
    assert (
        MID not in publish(text.replace(line, f"a=extmap:4/recvonly {MID}")).tracks[0].extension_ids
    )
    kept = publish(text.replace(line, f"a=extmap:4/sendonly {MID}"))
    assert kept.tracks[0].extension_ids[MID] == 4
    assert f"a=extmap:4/recvonly {MID}" in kept.answer


def test_the_answer_limits_both_rates() -> None:
    audio, video = parse_description(publish(OFFERS["chromium-whip"]).answer).media
    assert (audio.bandwidth_bps, video.bandwidth_bps) == (48_000, 1_800_000)
    assert audio.codecs[0].parameter("maxaveragebitrate") == "48000"
    assert audio.codecs[0].parameter("useinbandfec") == "1"
    assert audio.codecs[0].parameter("usedtx") == "0"
    assert audio.codecs[0].feedback == frozenset()


def test_a_publisher_without_key_frame_requests_is_known_as_such() -> None:
    text = OFFERS["obs-style-whip"].replace("a=rtcp-fb:96 nack pli\n", "")
    assert not publish(text).tracks[1].answers_pli
    fir = text.replace("a=rtcp-fb:96 nack\n", "a=rtcp-fb:96 ccm fir\n")
    assert publish(fir).tracks[1].answers_pli


def test_a_second_camera_and_a_data_channel_are_rejected() -> None:
    text = OFFERS["chromium-whip-data"]
    media = publish(text)
    assert len(media.tracks) == 2
    assert "m=application 0 UDP/DTLS/SCTP webrtc-datachannel" in media.answer
    video = text[text.index("m=video") : text.index("m=application")]
    twice = text.replace("BUNDLE 0 1 2", "BUNDLE 0 1 2 3") + video.replace("a=mid:1", "a=mid:3")
    answer = parse_description(publish(twice).answer)
    assert [entry.rejected for entry in answer.media] == [False, False, True, True]
    assert answer.bundle == ("0", "1")


def test_sendrecv_is_taken_as_sending() -> None:
    media = publish(OFFERS["chromium-whip"].replace("a=sendonly", "a=sendrecv"))
    assert len(media.tracks) == 2
    assert media.answer.count("a=recvonly") == 2


def test_shared_payload_types_need_ssrcs_to_tell_streams_apart() -> None:
    text = OFFERS["obs-style-whip"].replace(" 111", " 96").replace(":111", ":96")
    assert len(publish(text).tracks) == 2
    error = refusal(lambda: publish("\n".join(x for x in text.split("\n") if "a=ssrc" not in x)))
    assert error.field == "m=video 1: a=rtpmap"
    assert "distinct payload types" in error.detail


# --- receivers ---------------------------------------------------------------------------------


def test_a_receiver_gets_every_codec_that_both_sides_know() -> None:
    media = receive(OFFERS["chromium-whep"])
    audio, video = media.tracks
    assert [codec.name for codec in audio.codecs] == ["opus"]
    assert {codec.name for codec in video.codecs} == set(VIDEO_CODECS)
    assert all(codec.rtx_payload_type is not None for codec in video.codecs)
    answered = parse_description(media.answer).media[1]
    assert [c.payload_type for c in answered.codecs] == [c.payload_type for c in video.codecs]
    for codec in answered.codecs:
        assert codec.feedback == {"nack", "nack pli", "ccm fir", "goog-remb"}


def test_a_receivers_streams_share_one_name_for_lip_sync() -> None:
    media = receive(OFFERS["chromium-whep"])
    audio, video = media.tracks
    assert (audio.ssrc, audio.rtx_ssrc) == (5001, None)
    assert (video.ssrc, video.rtx_ssrc) == (5002, 5003)
    answered = parse_description(media.answer).media
    assert {entry.cname for entry in answered} == {media.cname}
    assert len({entry.msid.split()[0] for entry in answered}) == 1
    assert len({entry.msid for entry in answered}) == 2
    assert answered[1].ssrcs == (5002,)
    assert answered[1].rtx_ssrcs == {5002: 5003}


def test_a_receiver_without_rtx_gets_no_rtx_ssrc_and_no_time_of_sending() -> None:
    with_rtx = receive(OFFERS["aiortc-whep"]).tracks[1]
    assert with_rtx.rtx_ssrc is not None
    assert with_rtx.extension_ids[ABS_SEND_TIME] == 3
    bare = "\r\n".join(
        line
        for line in OFFERS["aiortc-whep"].split("\r\n")
        if "rtx/90000" not in line and "apt=" not in line
    )
    without_rtx = receive(bare).tracks[1]
    assert without_rtx.rtx_ssrc is None
    assert ABS_SEND_TIME not in without_rtx.extension_ids
    one_without = OFFERS["aiortc-whep"].replace("a=rtpmap:98 rtx/90000\r\na=fmtp:98 apt=97\r\n", "")
    assert ABS_SEND_TIME not in receive(one_without).tracks[1].extension_ids
    no_remb = OFFERS["aiortc-whep"].replace("goog-remb", "x-remb")
    assert ABS_SEND_TIME not in receive(no_remb).tracks[1].extension_ids


def test_a_receiver_is_never_asked_for_transport_wide_feedback() -> None:
    answer = receive(OFFERS["chromium-whep"]).answer
    assert "transport-cc" not in answer and TRANSPORT_CC not in answer


def test_a_line_that_cannot_receive_is_rejected() -> None:
    text = OFFERS["chromium-whep"]
    at = text.index("m=video")
    media = receive(text[:at].replace("a=recvonly", "a=inactive") + text[at:])
    assert [track.kind for track in media.tracks] == ["video"]
    answer = parse_description(media.answer)
    assert answer.media[0].rejected and answer.bundle == ("1",)
    assert answer.candidates == LOCAL.candidates


# --- a receiver's payload type for what is published -------------------------------------------


def h264(payload_type: int, profile: str | None, mode: str | None, rtx: int | None = None) -> Codec:
    given = (("packetization-mode", mode), ("profile-level-id", profile))
    fmtp = tuple((name, value) for name, value in given if value is not None)
    return Codec(payload_type, "h264", 90000, fmtp=fmtp, rtx_payload_type=rtx)


CHROMIUM_VIDEO = receive(OFFERS["chromium-whep"]).tracks[1]


@pytest.mark.parametrize(
    ("published", "expected"),
    [
        (Codec(1, "vp8", 90000), (96, 97)),
        (Codec(1, "vp9", 90000), (98, 99)),
        (Codec(1, "vp9", 90000, fmtp=(("profile-id", "2"),)), (100, 101)),
        (Codec(1, "vp9", 90000, fmtp=(("profile-id", "7"),)), None),
        (Codec(1, "av1", 90000), (45, 46)),
        (Codec(1, "av1", 90000, fmtp=(("profile", "1"),)), (47, 48)),
        (Codec(1, "av1", 90000, fmtp=(("profile", "2"),)), None),
        (h264(1, "42e01f", "1"), (108, 109)),
        (h264(1, "42c028", "1"), (108, 109)),  # another way to write Constrained Baseline
        (h264(1, "4d8028", "1"), (108, 109)),  # and a third
        (h264(1, "42001f", "1"), (102, 103)),
        (h264(1, "42001f", "0"), (104, 107)),
        (h264(1, None, None), (104, 107)),  # Baseline in mode 0 is what silence means
        (h264(1, "4D0028", "1"), (116, 117)),
        (h264(1, "640c1f", "1"), (102, 103)),  # no such profile: any of the same mode
        (h264(1, "42e01f", "2"), None),
        (Codec(1, "h265", 90000), None),
        (Codec(1, "opus", 48000, 2), None),
    ],
)
def test_the_best_payload_type_is_found(
    published: Codec, expected: tuple[int, int | None] | None
) -> None:
    assert CHROMIUM_VIDEO.payload_type_for(published) == expected


def test_a_packetization_mode_that_was_not_agreed_cannot_be_played() -> None:
    track = receive(OFFERS["aiortc-whep"]).tracks[1]
    assert track.payload_type_for(h264(1, "42e01f", "0")) is None
    assert track.payload_type_for(h264(1, "42e01f", "1")) == (101, 102)


def test_opus_matches_by_name() -> None:
    track = receive(OFFERS["chromium-whep"]).tracks[0]
    assert track.payload_type_for(Codec(96, "opus", 48000, 2)) == (111, None)


# --- refusals ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "field", "detail"),
    [
        (
            "a=setup:actpass",
            "a=setup:passive",
            "m=audio 0: a=setup",
            "actpass or active",
        ),
        ("a=setup:actpass\r\n", "", "m=audio 0: a=setup", "actpass or active"),
        ("a=rtcp-mux\r\n", "", "m=audio 0: a=rtcp-mux", "share a port"),
        ("a=group:BUNDLE 0 1\r\n", "", "a=group", "BUNDLE"),
        ("a=group:BUNDLE 0 1", "a=group:BUNDLE 0", "a=group", "m=video 1"),
        ("sha-256", "sha-2y6", "m=audio 0: a=fingerprint", "sha-256"),
        ("opus/48000/2", "opus/48000", "m=audio 0: a=rtpmap", "opus/48000/2"),
        ("UDP/TLS/RTP/SAVPF", "RTP/AVP", "m=audio 0", "UDP/TLS/RTP/SAVPF"),
        ("a=sendonly", "a=recvonly", "m=", "sendonly or sendrecv"),
        ("s=-", "s=-\r\na=ice-lite", "a=ice-lite", "full"),
    ],
)
def test_a_publisher_that_cannot_work_is_told_why(
    old: str, new: str, field: str, detail: str
) -> None:
    error = refusal(lambda: publish(OFFERS["chromium-whip"].replace(old, new)))
    assert error.field == field
    assert detail in error.detail


def test_an_active_offerer_is_answered_passive() -> None:
    media = publish(OFFERS["chromium-whip"].replace("a=setup:actpass", "a=setup:active"))
    assert media.setup == "active"
    assert media.answer.count("a=setup:passive") == 2


def test_video_without_a_forwardable_codec_is_refused() -> None:
    text = OFFERS["aiortc-whip"].replace("VP8/90000", "X8/90000").replace("H264/90000", "X4/90000")
    assert refusal(lambda: publish(text)).field == "m=video 1: a=rtpmap"


def test_payload_types_that_look_like_rtcp_are_passed_over() -> None:
    text = OFFERS["obs-style-whip"].replace("SAVPF 96", "SAVPF 72").replace(":96 ", ":72 ")
    assert refusal(lambda: publish(text)).field == "m=video 1: a=rtpmap"


def test_a_single_line_needs_no_bundle() -> None:
    text = OFFERS["obs-style-whip"].replace("a=group:BUNDLE 0 1\n", "")
    media = publish(text[: text.index("m=video")])
    assert [track.kind for track in media.tracks] == ["audio"]
    assert "a=group" not in media.answer
    assert media.answer.count("a=candidate:") == 2


@st.composite
def damaged_offers(draw: st.DrawFn) -> str:
    """Real offers with lines missing, repeated or of another offer."""
    lines = OFFERS[draw(st.sampled_from(sorted(OFFERS)))].splitlines()
    others = OFFERS[draw(st.sampled_from(sorted(OFFERS)))].splitlines()
    for _round in range(draw(st.integers(0, 6))):
        index = draw(st.integers(0, len(lines) - 1))
        match draw(st.sampled_from(["delete", "repeat", "take", "swap"])):
            case "delete" if len(lines) > 1:
                del lines[index]
            case "repeat":
                lines.insert(index, lines[index])
            case "take":
                lines.insert(index, draw(st.sampled_from(others)))
            case _:
                other = draw(st.integers(0, len(lines) - 1))
                lines[index], lines[other] = lines[other], lines[index]
    return "\n".join(lines)


def offer_or_none(text: str) -> Description | None:
    try:
        return parse_description(text)
    except InvalidSdpError:
        return None


@settings(max_examples=150, deadline=None)
@given(damaged_offers(), st.permutations(VIDEO_CODECS))
def test_a_damaged_offer_is_answered_in_order_or_refused(text: str, preferred: list[str]) -> None:
    offer = offer_or_none(text)
    if offer is None:
        return
    attempts: list[Callable[[], PublisherMedia | ReceiverMedia]] = [
        lambda: publish(text, tuple(preferred)),
        lambda: receive(text),
    ]
    for negotiate in attempts:
        try:
            answer = parse_description(negotiate().answer)
        except InvalidSdpError as error:
            assert error.field and error.detail
        else:
            assert [m.mid for m in answer.media] == [m.mid for m in offer.media]
            assert set(answer.bundle) <= {m.mid for m in answer.media if not m.rejected}


# --- real peers --------------------------------------------------------------------------------


@asynccontextmanager
async def aiortc_peer() -> AsyncIterator[RTCPeerConnection]:
    peer = RTCPeerConnection()
    try:
        yield peer
    finally:
        await peer.close()


async def test_aiortc_takes_our_answer_as_a_publisher() -> None:
    for preferred in ("vp8", "h264"):
        async with aiortc_peer() as peer:
            peer.addTransceiver(AudioStreamTrack(), direction="sendonly")
            peer.addTransceiver(VideoStreamTrack(), direction="sendonly")
            await peer.setLocalDescription(await peer.createOffer())
            media = publish(peer.localDescription.sdp, (preferred,))
            await peer.setRemoteDescription(RTCSessionDescription(media.answer, "answer"))
            assert peer.signalingState == "stable"
            assert [t.currentDirection for t in peer.getTransceivers()] == ["sendonly"] * 2
            assert [t.codec.name for t in media.tracks] == ["opus", preferred]
            assert None not in (media.tracks[0].ssrc, media.tracks[1].rtx_ssrc)


async def test_aiortc_takes_our_answer_as_a_receiver() -> None:
    async with aiortc_peer() as peer:
        peer.addTransceiver("audio", direction="recvonly")
        peer.addTransceiver("video", direction="recvonly")
        await peer.setLocalDescription(await peer.createOffer())
        media = receive(peer.localDescription.sdp)
        await peer.setRemoteDescription(RTCSessionDescription(media.answer, "answer"))
        assert peer.signalingState == "stable"
        assert [t.currentDirection for t in peer.getTransceivers()] == ["recvonly"] * 2
        assert {codec.name for codec in media.tracks[1].codecs} == {"vp8", "h264"}


CHROMIUM_OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

OFFER_SCRIPT = """
async ({role, codec, simulcast}) => {
  const peer = window.peer = new RTCPeerConnection({bundlePolicy: 'max-bundle'});
  const streams = window.streams = [];
  peer.ontrack = event => streams.push([event.track.kind, event.streams.map(s => s.id)]);
  let video;
  if (role === 'publisher') {
    const canvas = document.createElement('canvas');
    canvas.getContext('2d').fillRect(0, 0, 9, 9);
    const audio = new AudioContext();
    const sink = audio.createMediaStreamDestination();
    const tone = audio.createOscillator();
    tone.connect(sink);
    tone.start();
    const options = {direction: 'sendonly', streams: [sink.stream]};
    peer.addTransceiver(sink.stream.getAudioTracks()[0], options);
    const encodings = [{rid: 'l', scaleResolutionDownBy: 2}, {rid: 'h'}];
    video = peer.addTransceiver(
      canvas.captureStream(10).getVideoTracks()[0],
      simulcast ? {...options, sendEncodings: encodings} : options);
  } else {
    peer.addTransceiver('audio', {direction: 'recvonly'});
    video = peer.addTransceiver('video', {direction: 'recvonly'});
  }
  const side = role === 'publisher' ? RTCRtpSender : RTCRtpReceiver;
  const known = side.getCapabilities('video').codecs;
  const wanted = c => c.mimeType.toLowerCase() === 'video/' + codec ? 0 : 1;
  video.setCodecPreferences([...known].sort((a, b) => wanted(a) - wanted(b)));
  await peer.setLocalDescription(await peer.createOffer());
  return peer.localDescription.sdp;
}
"""
ANSWER_SCRIPT = """
async answer => {
  await window.peer.setRemoteDescription({type: 'answer', sdp: answer});
  const [audio, video] = window.peer.getTransceivers();
  const result = {
    state: window.peer.signalingState,
    directions: [audio.currentDirection, video.currentDirection],
    sending: video.sender.getParameters().codecs.map(c => c.mimeType.toLowerCase()),
    receiving: video.receiver.getParameters().codecs.map(c => c.payloadType),
    encodings: video.sender.getParameters().encodings.length,
    streams: window.streams,
  };
  window.peer.close();
  return result;
}
"""


@asynccontextmanager
async def chromium_page() -> AsyncIterator[Page]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=CHROMIUM_OPTIONS
        )
        page = await browser.new_page()
        await page.goto("about:blank")
        yield page
        await browser.close()


@pytest.mark.e2e
async def test_chromium_takes_every_answer() -> None:
    async with chromium_page() as page:
        for codec, simulcast in itertools.product(VIDEO_CODECS, (False, True)):
            wish = {"role": "publisher", "codec": codec, "simulcast": simulcast}
            media = publish(await page.evaluate(OFFER_SCRIPT, wish), (codec,))
            result = await page.evaluate(ANSWER_SCRIPT, media.answer)
            assert result["state"] == "stable"
            assert result["directions"] == ["sendonly", "sendonly"]
            assert result["sending"] == [f"video/{codec}", "video/rtx"]
            assert result["encodings"] == max(1, len(media.tracks[1].rids))
            assert (media.tracks[1].ssrc is None) == simulcast
        for codec in VIDEO_CODECS:
            wish = {"role": "receiver", "codec": codec, "simulcast": False}
            received = receive(await page.evaluate(OFFER_SCRIPT, wish))
            assert received.tracks[1].codecs[0].name == codec
            result = await page.evaluate(ANSWER_SCRIPT, received.answer)
            assert result["state"] == "stable"
            assert result["directions"] == ["recvonly", "recvonly"]
            assert {c.payload_type for c in received.tracks[1].codecs} <= set(result["receiving"])
            assert result["streams"] == [["audio", [received.cname]], ["video", [received.cname]]]
