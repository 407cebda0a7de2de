"""Small edits of the session descriptions that the command-line clients send."""

from __future__ import annotations

from collections.abc import Iterable

KEYFRAME_FEEDBACK = ("nack pli", "ccm fir")


def without_keyframe_feedback(offer: str) -> str:
    """Drop `nack pli` and `ccm fir` (RFC 4585 4.2, RFC 5104 7.1) from an offer.

    A file sent as it is has its key frames where it has them; promising to make one on request
    would leave late joiners waiting. Without the promise the server serves them from its history.
    """
    lines = offer.split("\r\n")
    return "\r\n".join(line for line in lines if not _asks_for_keyframes(line))


def end_of_candidates(offer: str) -> str:
    """The smallest valid trickle fragment (RFC 8840 9): our credentials, and nothing new."""
    wanted = ("a=ice-ufrag:", "a=ice-pwd:")
    credentials = [_first(offer.split("\r\n"), prefix) for prefix in wanted]
    return "\r\n".join([*credentials, *_first_media(offer), "a=end-of-candidates", ""])


def _asks_for_keyframes(line: str) -> bool:
    if not line.startswith("a=rtcp-fb:"):
        return False
    feedback = " ".join(line.split()[1:])
    return feedback in KEYFRAME_FEEDBACK


def _first(lines: Iterable[str], prefix: str) -> str:
    return next((line for line in lines if line.startswith(prefix)), prefix)


def _first_media(offer: str) -> list[str]:
    lines = offer.split("\r\n")
    return [_first(lines, "m="), _first(lines, "a=mid:")]
