"""The session of a receiver: its tracks take part in the fan-out, its feedback is answered here."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from typing import Any

from . import control, rtcp
from .negotiation import ReceiverMedia
from .negotiation import ReceiverTrack as NegotiatedTrack
from .output import Output
from .receiver import ReceiverTrack
from .rtp import TIMESTAMP_MASK
from .session import Role, Session

REPORT_INTERVAL_S = 2.0


class ReceiverSession(Session):
    """Receives one output. `clock_offset_s` asks for the publisher's clock (lip sync)."""

    role: Role = "receiver"

    def __init__(
        self,
        *args: Any,
        media: ReceiverMedia,
        output: Output,
        clock_offset_s: Callable[[Output], float | None],
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self._output = output
        self._publisher_clock_offset_s = clock_offset_s
        self._cname = media.cname
        # Spread the reports of many receivers over the interval.
        self._next_report = self.created_at + secrets.randbelow(1000) / 1000 * REPORT_INTERVAL_S
        self._remb_kbps: float | None = None
        self._tracks: list[tuple[ReceiverTrack, NegotiatedTrack]] = [
            (
                ReceiverTrack(self.id, negotiated.kind, negotiated.ssrc, negotiated.rtx_ssrc),
                negotiated,
            )
            for negotiated in media.tracks
        ]
        self._by_ssrc = {track.ssrc: track for track, _negotiated in self._tracks}

    def on_connected(self, now: float) -> None:
        self._connect_tracks()
        for track, negotiated in self._tracks:
            self._output.attach(track, negotiated, now)

    def on_path_changed(self, now: float) -> None:
        self._connect_tracks()

    def _connect_tracks(self) -> None:
        if self.path is not None and self.outbound is not None:
            for track, _negotiated in self._tracks:
                track.connect(self.path, self.outbound)

    def on_closed(self, now: float) -> None:
        for track, _negotiated in self._tracks:
            self._output.detach(track, now)

    # --- feedback ------------------------------------------------------------------------------

    def on_rtcp(self, packets: Sequence[rtcp.AnyPacket], now: float) -> None:
        for packet in packets:
            if isinstance(packet, rtcp.ReceiverReport | rtcp.SenderReport):
                self._reports(packet.blocks)
            elif isinstance(packet, rtcp.Nack):
                track = self._by_ssrc.get(packet.media_ssrc)
                if track is not None:
                    track.nacks += len(packet.sequence_numbers)
                    self.counters.nacks_received += len(packet.sequence_numbers)
                    layer = self._output.track_of(track)
                    if layer is not None:
                        layer.resend(track, packet.sequence_numbers, now)
            elif isinstance(packet, rtcp.PictureLoss):
                self._picture_lost(packet.media_ssrc, now)
            elif isinstance(packet, rtcp.FullIntra):
                for ssrc, _number in packet.requests:
                    self._picture_lost(ssrc, now)
            elif isinstance(packet, rtcp.Remb):
                self._remb_kbps = packet.bitrate_bps / 1000

    def _picture_lost(self, ssrc: int, now: float) -> None:
        track = self._by_ssrc.get(ssrc)
        layer = None if track is None else self._output.track_of(track)
        if track is not None and track.kind == "video" and layer is not None:
            layer.picture_lost(track, now)

    def _reports(self, blocks: Sequence[rtcp.ReportBlock]) -> None:
        for block in blocks:
            track = self._by_ssrc.get(block.ssrc)
            if track is None:
                continue
            track.report(block)
            if block.lsr:
                # RFC 3550 section 6.4.1: round trip = arrival − LSR − DLSR, in 1/65536 s.
                arrival = rtcp.ntp_from_unix(time.time()) >> 16 & 0xFFFFFFFF
                round_trip = (arrival - block.lsr - block.dlsr) & 0xFFFFFFFF
                if round_trip < 60 * 65536:
                    self.rtt_s = round_trip / 65536

    def periodic(self, now: float) -> None:
        if now < self._next_report:
            return
        self._next_report = now + REPORT_INTERVAL_S
        ntp = rtcp.ntp_from_unix(time.time())
        offset = self._publisher_clock_offset_s(self._output)
        for track, _negotiated in self._tracks:
            layer = self._output.track_of(track)
            source = None if layer is None else layer.source
            if source is None or track.state != "running" or not track.packets:
                continue
            timestamp = (source.rtp_time(now, offset) + track.timestamp_offset) & TIMESTAMP_MASK
            self.send_rtcp(
                rtcp.sender_report(
                    track.ssrc,
                    ntp,
                    timestamp,
                    track.packets & 0xFFFFFFFF,
                    track.octets & 0xFFFFFFFF,
                    self._cname,
                )
            )

    @property
    def remb_kbps(self) -> float | None:
        return self._remb_kbps

    def stats(self, now: float) -> control.SessionStats:
        base = super().stats(now)
        if self._remb_kbps is None:
            return base
        return control.SessionStats(
            **{name: getattr(base, name) for name in base.__struct_fields__ if name != "remb_kbps"},
            remb_kbps=self._remb_kbps,
        )

    def track_stats(self) -> list[control.TrackStats]:
        found: list[control.TrackStats] = []
        for track, _negotiated in self._tracks:
            layer = self._output.track_of(track)
            source = None if layer is None else layer.source
            found.append(
                control.TrackStats(
                    kind=track.kind,
                    codec="" if source is None else source.codec,
                    ssrc=track.ssrc,
                    packets=track.packets,
                    bytes=track.octets,
                    packets_lost=track.packets_lost,
                    fraction_lost=track.fraction_lost / 256,
                    jitter_ms=round(track.jitter * 1000 / track.clock_rate, 2),
                    nacks=track.nacks,
                    retransmissions=track.resent,
                    keyframe_requests=track.keyframe_requests,
                )
            )
        return found
