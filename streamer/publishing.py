"""The session of a publisher: its packets go into the output, our reports and requests go back."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any

from . import control, rtcp, rtp
from .description import Codec
from .errors import PacketError
from .negotiation import PublisherMedia
from .output import Output, OutputTrack
from .port import inbox
from .publisher import PublishedTrack
from .session import Role, Session

REPORT_INTERVAL_S = 1.0
EARLY_S = 3.0  # libwebrtc takes REMB as its rate in its first two seconds: say it often then
NTP_UNIX_OFFSET_S = 2208988800  # RFC 5905: 1900 to 1970
DEFAULT_RTT_S = 0.1


class PublisherSession(Session):
    """Feeds one output's tracks. SSRCs come from the offer or are learnt by payload type."""

    role: Role = "publisher"

    def __init__(
        self,
        *args: Any,
        media: PublisherMedia,
        output: Output,
        dirty: set[Output],
        max_bitrate_bps: int,
        keyframe_interval_s: float,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self._output = output
        self._dirty = dirty
        self._max_bitrate_bps = max_bitrate_bps
        self._ssrc = secrets.randbits(31) | 1
        self._cname = secrets.token_hex(8)
        self._next_report = 0.0
        self._clock_offset_s: float | None = None
        self._by_ssrc: dict[int, tuple[OutputTrack, PublishedTrack, bool]] = {}
        self._by_payload_type: dict[int, tuple[OutputTrack, PublishedTrack, bool]] = {}
        self._tracks: list[tuple[OutputTrack, PublishedTrack]] = []
        self._codecs: dict[str, Codec] = {}
        for negotiated in media.tracks:
            codec = negotiated.codec
            track = PublishedTrack(
                negotiated.kind,
                codec.name,
                codec.clock_rate,
                codec.payload_type,
                rtx_payload_type=codec.rtx_payload_type,
                ssrc=negotiated.ssrc,
                rtx_ssrc=negotiated.rtx_ssrc,
                extension_uris={
                    identifier: uri
                    for uri, identifier in negotiated.extension_ids.items()
                    if uri in rtp.CARRIED_EXTENSIONS
                },
                answers_pli=negotiated.answers_pli,
                keyframe_interval_s=keyframe_interval_s,
            )
            output_track = output.track(negotiated.kind)
            self._tracks.append((output_track, track))
            self._codecs[negotiated.kind] = codec
            self._by_payload_type[codec.payload_type] = (output_track, track, False)
            if codec.rtx_payload_type is not None:
                self._by_payload_type[codec.rtx_payload_type] = (output_track, track, True)
            if track.ssrc is not None:
                self._by_ssrc[track.ssrc] = (output_track, track, False)
            if track.rtx_ssrc is not None:
                self._by_ssrc[track.rtx_ssrc] = (output_track, track, True)

    @property
    def clock_offset_s(self) -> float | None:
        """Publisher's NTP seconds minus our monotonic seconds, from its first sender report."""
        return self._clock_offset_s

    def on_connected(self, now: float) -> None:
        self._output.begin(
            self.id,
            {track.kind: (track, self._codecs[track.kind]) for _output, track in self._tracks},
            self._ask_keyframe,
            now,
        )
        self.periodic(now)

    def on_closed(self, now: float) -> None:
        self._output.end(self.id, now)

    # --- media ---------------------------------------------------------------------------------

    def on_rtp(self, size: int, now: float) -> None:
        data = inbox.data
        ssrc = int.from_bytes(data[8:12], "big")
        route = self._by_ssrc.get(ssrc) or self._learn(ssrc, data[1] & 0x7F)
        if route is None:
            self._drop("unknown-ssrc")
            return
        output_track, track, is_rtx = route
        if output_track.source is not track:
            self._drop("replaced-publisher")
            return
        self.counters.rtp_packets_received += 1
        self.counters.rtp_bytes_received += size
        try:
            packet: rtp.Packet | None = rtp.parse(inbox.view[:size], track.extension_uris, now)
        except PacketError:
            self._drop("bad-rtp")
            return
        if is_rtx:
            packet = track.unwrap_rtx(packet) if packet is not None else None
            if packet is None:
                return  # padding that probes for bandwidth
        elif packet is not None and packet.payload_type != track.payload_type:
            self._drop("unknown-payload-type")
            return
        if packet is None or not track.receive(packet, resent=is_rtx):
            return
        if not track.losses.received(packet.seq, now) and track.answers_pli:
            output_track.request_keyframe(now)
        output_track.pending.append(packet)
        self._dirty.add(self._output)
        if track.losses.pending:
            self._ask_missing(track, now)

    def _learn(
        self, ssrc: int, payload_type: int
    ) -> tuple[OutputTrack, PublishedTrack, bool] | None:
        """Bind an SSRC that the offer did not announce, by its payload type (RFC 9143 9.2)."""
        route = self._by_payload_type.get(payload_type)
        if route is None:
            return None
        _output_track, track, is_rtx = route
        if is_rtx:
            if track.rtx_ssrc is not None:
                return None
            track.rtx_ssrc = ssrc
        else:
            if track.ssrc is not None:
                return None
            track.ssrc = ssrc
        self._by_ssrc[ssrc] = route
        return route

    # --- feedback ------------------------------------------------------------------------------

    def _ask_missing(self, track: PublishedTrack, now: float) -> None:
        if track.kind == "audio" or track.ssrc is None:
            return  # Opus conceals; its NACK is not negotiated
        wanted = track.losses.due(now, self.rtt_s or DEFAULT_RTT_S)
        if wanted:
            track.nacks += len(wanted)
            self.counters.nacks_sent += len(wanted)
            self.send_rtcp(rtcp.nack(self._ssrc, track.ssrc, wanted))

    def _ask_keyframe(self) -> None:
        for _output_track, track in self._tracks:
            if track.kind == "video" and track.ssrc is not None:
                self.send_rtcp(rtcp.picture_loss(self._ssrc, track.ssrc))

    def retry_tick(self, now: float) -> None:
        """Every 20 ms: ask again for what is still missing."""
        for _output_track, track in self._tracks:
            if track.losses.pending:
                self._ask_missing(track, now)

    def on_rtcp(self, packets: Sequence[rtcp.AnyPacket], now: float) -> None:
        for packet in packets:
            if isinstance(packet, rtcp.SenderReport):
                route = self._by_ssrc.get(packet.ssrc)
                if route is None:
                    continue
                if self._clock_offset_s is None:
                    self._clock_offset_s = packet.ntp / 2**32 - now
                route[1].sender_report(packet, now)

    def periodic(self, now: float) -> None:
        if now < self._next_report:
            return
        early = self.connected_at is not None and now - self.connected_at < EARLY_S
        self._next_report = now + (0.2 if early else REPORT_INTERVAL_S)
        blocks = [
            block
            for _output_track, track in self._tracks
            if (block := track.report_block(now)) is not None
        ]
        report = rtcp.receiver_report(self._ssrc, blocks, self._cname)
        video = [t.ssrc for _o, t in self._tracks if t.kind == "video" and t.ssrc is not None]
        if video:
            report += rtcp.remb(self._ssrc, self._max_bitrate_bps, video)
        self.send_rtcp(report)

    def track_stats(self) -> list[control.TrackStats]:
        return [
            control.TrackStats(
                kind=track.kind,
                codec=track.codec,
                ssrc=track.ssrc or 0,
                packets=track.packets,
                bytes=track.bytes,
                packets_lost=track.packets_lost,
                fraction_lost=track.fraction_lost / 256,
                jitter_ms=round(track.jitter * 1000 / track.clock_rate, 2),
                nacks=track.nacks,
                retransmissions=track.recovered,
                keyframe_requests=track.keyframe_requests,
            )
            for _output_track, track in self._tracks
        ]
