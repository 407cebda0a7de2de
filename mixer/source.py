"""One input of a lesson: a pipe's packets sorted into sound and picture, and the state of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Literal

from streamer import rtcp, rtp

from . import control
from .clock import LipSync
from .decode import VideoInput, check_codec
from .errors import MediaError, RefusedError
from .jitter import AudioPlayout
from .links import InputLink
from .opus import AudioDecoder

STALLED_S = 3.0
LAYER_SILENT_S = 1.5  # longer than between the pictures of a 1 fps camera
LEVEL_KEPT_S = 0.5

State = Literal["ok", "stalled", "broken"]


def slot_of(role: control.Role, seat: str) -> str:
    """The name of the place an input's picture goes to; a seat's cannot be taken for another."""
    return f"seat:{seat}" if role == "return" else role


def check_request(request: control.AddInput) -> None:
    """Refuse what makes no sense, before anything is touched."""
    if request.role == "return" and not 0 < len(request.seat) <= control.MAX_SEAT_CHARACTERS:
        raise RefusedError(
            "invalid", "seat", f"a return names its seat, 1 to {control.MAX_SEAT_CHARACTERS} long"
        )
    if request.role != "return" and request.seat:
        raise RefusedError("invalid", "seat", f"a {request.role} input has no seat")
    for kind in ("audio", "video"):
        # Layers of one picture are several tracks of the same payload.
        types = {track.payload_type for track in request.tracks if track.kind == kind}
        if len(types) > 1 or not request.tracks:
            raise RefusedError("invalid", "tracks", "one audio track, one video track, or both")
    for track in request.tracks:
        rates = (48_000, 8_000) if track.kind == "audio" else (90_000,)
        if track.clock_rate not in rates:
            allowed = " or ".join(str(rate) for rate in rates)
            raise RefusedError("invalid", "tracks", f"{track.kind} clock rate must be {allowed}")
        if track.kind == "video":
            try:
                check_codec(track)
            except MediaError as error:
                raise RefusedError("invalid", "tracks", str(error)) from None


class Source:
    """An `AddInput` come to life. `on_video` takes its video packets, `on_state` its changes."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        request: control.AddInput,
        on_video: Callable[[Source, list[rtp.Packet]], None],
        on_state: Callable[[Source, State, str], None],
    ) -> None:
        self.id = request.input_id
        self.role = request.role
        self.seat = request.seat
        self.name = request.name
        self.slot = slot_of(request.role, request.seat)
        self.state: State = "ok"
        self.audio = next((t for t in request.tracks if t.kind == "audio"), None)
        self.video = next((t for t in request.tracks if t.kind == "video"), None)
        try:
            decoder = None if self.audio is None else AudioDecoder(self.audio)
        except MediaError as error:
            raise RefusedError("invalid", "tracks", str(error)) from None
        self.playout = (
            None
            if decoder is None or self.audio is None
            else AudioPlayout(decoder, self.audio.clock_rate)
        )
        self.sync = LipSync(
            48_000 if self.audio is None else self.audio.clock_rate,
            90_000 if self.video is None else self.video.clock_rate,
        )
        self.audible = False
        self.tells_level = False  # the sender writes its level into each packet (RFC 6464)
        self._level: tuple[float, float] | None = None  # dBFS, when
        self._audio_ssrc: int | None = None
        self._video_ssrc: int | None = None
        self._last_video = float("-inf")
        self._last_packet: float | None = None
        self._picture_state: State = "ok"
        self._on_video = on_video
        self._on_state = on_state
        self.link = InputLink(loop, request.path, self)

    # --- what the link tells -------------------------------------------------------------------

    def input_connected(self, now: float) -> None:
        self._last_packet = now

    def input_packets(self, packets: list[rtp.Packet], now: float) -> None:
        self._last_packet = now
        audio_type = -1 if self.audio is None else self.audio.payload_type
        video_type = -1 if self.video is None else self.video.payload_type
        video: list[rtp.Packet] = []
        for packet in packets:
            if packet.payload_type == video_type:
                if self._is_chosen(packet.ssrc, now):
                    video.append(packet)
            elif packet.payload_type == audio_type:
                self._hear(packet, now)
        if video:
            self._on_video(self, video)

    def _is_chosen(self, ssrc: int, now: float) -> bool:
        """One picture is decoded: of several layers the first, until it falls silent."""
        if ssrc != self._video_ssrc and now - self._last_video < LAYER_SILENT_S:
            return False
        self._video_ssrc = ssrc
        self._last_video = now
        return True

    def ask_keyframe(self) -> None:
        self.link.ask_keyframe(self._video_ssrc or 0)

    def _hear(self, packet: rtp.Packet, now: float) -> None:
        if self.playout is None:
            return
        if packet.ssrc != self._audio_ssrc:
            self._audio_ssrc = packet.ssrc
            self.playout.reset()
        for uri, data in packet.extensions:
            if uri == rtp.AUDIO_LEVEL and data:
                self.tells_level = True
                level = -float(data[0] & 0x7F)
                if self._level is None or level > self._level[0] or now - self._level[1] > 0.2:
                    self._level = level, now
        if packet.payload and self.listened_to:
            self.playout.put(packet.timestamp, packet.payload, now)

    def input_report(self, report: rtcp.SenderReport, now: float) -> None:
        if report.ssrc == self._audio_ssrc:
            self.sync.audio.report(report)
        elif report.ssrc == self._video_ssrc:
            self.sync.video.report(report)

    def input_closed(self, detail: str) -> None:
        self._set("broken", detail)

    # --- sound ---------------------------------------------------------------------------------

    @property
    def listened_to(self) -> bool:
        """Whether its sound is decoded: for the mix, or to know a level that it does not tell."""
        return self.audible or not self.tells_level

    def set_audible(self, audible: bool) -> None:
        if audible == self.audible:
            return
        if self.playout is not None and not self.listened_to:
            self.playout.reset()  # what was not listened to left a hole, not a loss
        self.audible = audible
        if not self.listened_to:
            self.sync.playing(None, 0.0)  # its picture need not wait for sound any more

    def told_level(self, now: float) -> float | None:
        """The level that the sender told lately, dBFS."""
        if self._level is None or now - self._level[1] > LEVEL_KEPT_S:
            return None
        return self._level[0]

    # --- state ---------------------------------------------------------------------------------

    def picture_state(self, state: State) -> None:
        self._picture_state = state

    def check(self, now: float) -> None:
        """Now and then: has it fallen silent, or come back?"""
        if self.state == "broken" and not self.link.connected:
            return
        if self._last_packet is None:
            return  # nobody has connected yet
        if now - self._last_packet > STALLED_S:
            if self.role != "slides":  # slides that do not change need no packets
                self._set("stalled", f"nothing came for {STALLED_S:g} seconds")
        elif self._picture_state == "broken":
            self._set("broken", "its picture cannot be decoded")
        else:
            self._set("ok", "")

    def _set(self, state: State, detail: str) -> None:
        if state != self.state:
            self.state = state
            self._on_state(self, state, detail)

    @property
    def visible(self) -> bool:
        """Whether it may be shown on the stage: a teacher whose picture stands still stays."""
        usable = self.state == "ok" or (self.role == "teacher" and self.state == "stalled")
        return self.video is not None and self.link.connected and usable

    def stats(self, video: VideoInput | None) -> control.InputStats:
        playout = self.playout
        return control.InputStats(
            input_id=self.id,
            state=self.state,
            audio_packets=playout.packets if playout else 0,
            audio_concealed=playout.concealed if playout else 0,
            audio_late=playout.late if playout else 0,
            audio_delay_ms=round(playout.delay_s * 1000, 1) if playout else 0.0,
            drift_ppm=round(playout.rate * 1e6) if playout else 0.0,
            frames_decoded=video.decoded if video else 0,
            frames_failed=video.failed if video else 0,
            keyframe_requests=video.keyframe_requests if video else 0,
        )

    def close(self) -> None:
        self.link.close()
