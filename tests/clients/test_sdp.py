"""Edits of the descriptions that we send."""

from __future__ import annotations

from clients.sdp import end_of_candidates, without_keyframe_feedback

OFFER = "\r\n".join(
    [
        "v=0",
        "a=group:BUNDLE 0 1",
        "m=video 9 UDP/TLS/RTP/SAVPF 99 100",
        "a=mid:0",
        "a=ice-ufrag:abcd",
        "a=ice-pwd:efghefghefghefghefghefgh",
        "a=rtcp-fb:99 nack",
        "a=rtcp-fb:99 nack pli",
        "a=rtcp-fb:99 ccm fir",
        "a=rtcp-fb:* nack pli",
        "a=rtcp-fb:99 goog-remb",
        "m=audio 9 UDP/TLS/RTP/SAVPF 96",
        "a=mid:1",
        "",
    ]
)


def test_only_the_promise_of_key_frames_is_taken_out() -> None:
    edited = without_keyframe_feedback(OFFER)
    assert "nack pli" not in edited and "ccm fir" not in edited
    removed = [line for line in OFFER.split("\r\n") if line not in edited.split("\r\n")]
    assert len(removed) == 3
    assert "a=rtcp-fb:99 nack\r\n" in edited and "goog-remb" in edited


def test_the_fragment_names_the_first_section_and_our_credentials() -> None:
    assert end_of_candidates(OFFER).split("\r\n") == [
        "a=ice-ufrag:abcd",
        "a=ice-pwd:efghefghefghefghefghefgh",
        "m=video 9 UDP/TLS/RTP/SAVPF 99 100",
        "a=mid:0",
        "a=end-of-candidates",
        "",
    ]
