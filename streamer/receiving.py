"""The session of a receiver: its tracks take part in the fan-out, its feedback is answered here."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from . import control, rtcp
from .bandwidth import DownlinkEstimate
from .layers import AUDIO_ONLY, LayerSelector
from .negotiation import ReceiverMedia
from .negotiation import ReceiverTrack as NegotiatedTrack
from .output import Output, OutputTrack
from .receiver import ReceiverTrack
from .rtp import TIMESTAMP_MASK
from .session import Role, Session

REPORT_INTERVAL_S = 2.0
OVERHEAD_BYTES = 12  # of the RTP header: REMB counts it, `octets` does not


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
        self._estimate = DownlinkEstimate(self.created_at)
        self._selector: LayerSelector | None = None
        self._layer_count = 0
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

    def move(self, output: Output, now: float) -> None:
        """Receive another output from now on; numbering and SSRCs stay, so nobody notices."""
        if output is self._output:
            return
        for track, _negotiated in self._tracks:
            self._output.detach(track, now)
            track.preferred_layer = None
        self._output = output
        self.output_id = output.id
        self._selector = None
        if self.connected_at is not None:
            for track, negotiated in self._tracks:
                output.attach(track, negotiated, now)

    # --- feedback ------------------------------------------------------------------------------

    def on_rtcp(self, packets: Sequence[rtcp.AnyPacket], now: float) -> None:
        for packet in packets:
            if isinstance(packet, rtcp.ReceiverReport | rtcp.SenderReport):
                self._reports(packet.blocks, now)
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
                self._estimate.remb(packet.bitrate_bps, now)

    def _picture_lost(self, ssrc: int, now: float) -> None:
        track = self._by_ssrc.get(ssrc)
        layer = None if track is None else self._output.track_of(track)
        if track is not None and track.kind == "video" and layer is not None:
            layer.picture_lost(track, now)

    def _reports(self, blocks: Sequence[rtcp.ReportBlock], now: float) -> None:
        kinds = {track.kind for track in self._by_ssrc.values()}
        for block in blocks:
            track = self._by_ssrc.get(block.ssrc)
            if track is None:
                continue
            track.report(block)
            if track.kind == "video" or "video" not in kinds:
                self._estimate.report(block.fraction_lost / 256, now)
            if block.lsr:
                # RFC 3550 section 6.4.1: round trip = arrival − LSR − DLSR, in 1/65536 s.
                arrival = rtcp.ntp_from_unix(time.time()) >> 16 & 0xFFFFFFFF
                round_trip = (arrival - block.lsr - block.dlsr) & 0xFFFFFFFF
                if round_trip < 60 * 65536:
                    self.rtt_s = round_trip / 65536

    # --- choice of layer -----------------------------------------------------------------------

    def _choose_layer(self, now: float) -> None:
        """Send this viewer the largest layer of the picture that its line carries."""
        output = self._output
        total = sum(track.octets + OVERHEAD_BYTES * track.packets for track, _ in self._tracks)
        self._estimate.sent(total, now)
        order = output.layers_by_rate(now)
        if not order or len(output.present_layers) < 2:
            self._selector = None
            return
        rates = [self._rate_of(output.layers[index]) for index in order]
        sound = self._rate_of(output.audio)
        for track, _negotiated in self._tracks:
            if track.kind != "video":
                continue
            received = output.layer_index(track)
            if self._selector is None or len(order) != self._layer_count:
                # Layers came or went: begin again where the viewer is, or in the middle.
                first = order.index(received) if received in order else (len(order) - 1) // 2
                self._selector = LayerSelector(first, now)
                self._layer_count = len(order)
            choice = self._selector.choose(rates, sound, self._estimate, now)
            wanted = None if choice == AUDIO_ONLY else order[choice]
            if wanted != track.preferred_layer or (wanted is None) != (received is None):
                output.select(track, wanted, now)

    @staticmethod
    def _rate_of(track: OutputTrack) -> float:
        return 0.0 if track.source is None else track.source.rate_bps

    # --- reports -------------------------------------------------------------------------------

    def periodic(self, now: float) -> None:
        self._choose_layer(now)
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

    def stats(self, now: float) -> control.SessionStats:
        remb_bps = self._estimate.remb_bps
        return msgspec.structs.replace(
            super().stats(now), remb_kbps=None if remb_bps is None else remb_bps / 1000
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
                    layer=self._output.layer_index(track) if track.kind == "video" else None,
                )
            )
        return found
