"""The session of a publisher: its packets go into the output, our reports and requests go back."""

from __future__ import annotations

import functools
import secrets
from collections.abc import Sequence
from typing import Any

from . import control, rtcp, rtp
from .errors import PacketError
from .negotiation import REPAIRED_RTP_STREAM_ID, RTP_STREAM_ID, PublisherMedia
from .negotiation import PublisherTrack as NegotiatedTrack
from .output import Feed, Output, OutputTrack
from .port import inbox
from .publisher import PublishedTrack
from .session import Role, Session

REPORT_INTERVAL_S = 1.0
EARLY_S = 3.0  # libwebrtc takes REMB as its rate in its first two seconds: say it often then
DEFAULT_RTT_S = 0.1


# The index of a feed and whether the packets are its retransmissions.
_Route = tuple[int, bool]


class PublisherSession(Session):
    """Feeds one output's tracks, each simulcast layer its own.

    SSRCs come from the offer or are learnt, by restriction identifier or by payload type.
    """

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
        # Where packets go, and whether they are retransmissions, by SSRC once it is known.
        self._by_ssrc: dict[int, _Route] = {}
        self._by_payload_type: dict[int, _Route] = {}
        self._by_rid: dict[str, tuple[_Route, _Route]] = {}
        self._identifying: dict[int, str] = {}
        self._feeds: list[Feed] = []
        self._tracks: list[OutputTrack] = []
        for negotiated in media.tracks:
            for rid in negotiated.rids or ("",):
                self._add_track(negotiated, rid, keyframe_interval_s)

    def _add_track(self, negotiated: NegotiatedTrack, rid: str, keyframe_interval_s: float) -> None:
        codec = negotiated.codec
        source = PublishedTrack(
            negotiated.kind,
            codec.name,
            codec.clock_rate,
            codec.payload_type,
            rtx_payload_type=codec.rtx_payload_type,
            ssrc=None if rid else negotiated.ssrc,
            rtx_ssrc=None if rid else negotiated.rtx_ssrc,
            extension_uris={
                identifier: uri
                for uri, identifier in negotiated.extension_ids.items()
                if uri in rtp.CARRIED_EXTENSIONS
            },
            answers_pli=negotiated.answers_pli,
            keyframe_interval_s=keyframe_interval_s,
        )
        index = len(self._feeds)
        self._feeds.append(Feed(source, codec, functools.partial(self._ask_keyframe, source)))
        media, resent = (index, False), (index, True)
        if rid:
            self._by_rid[rid] = (media, resent)
            for uri in (RTP_STREAM_ID, REPAIRED_RTP_STREAM_ID):
                if uri in negotiated.extension_ids:
                    self._identifying[negotiated.extension_ids[uri]] = uri
            return
        self._by_payload_type[codec.payload_type] = media
        if codec.rtx_payload_type is not None:
            self._by_payload_type[codec.rtx_payload_type] = resent
        if source.ssrc is not None:
            self._by_ssrc[source.ssrc] = media
        if source.rtx_ssrc is not None:
            self._by_ssrc[source.rtx_ssrc] = resent

    @property
    def clock_offset_s(self) -> float | None:
        """Publisher's NTP seconds minus our monotonic seconds, from its first sender report."""
        return self._clock_offset_s

    def limit(self, bitrate_bps: int, now: float) -> None:
        """Have the publisher send no more than this, and tell it at once."""
        self._max_bitrate_bps = bitrate_bps
        self._next_report = now

    def on_connected(self, now: float) -> None:
        self._output.begin(self.id, self._feeds, now)
        by_source = {track.source: track for track in self._output.tracks}
        self._tracks = [by_source[feed.source] for feed in self._feeds]
        self.periodic(now)

    def on_closed(self, now: float) -> None:
        self._output.end(self.id, now)

    # --- media ---------------------------------------------------------------------------------

    def on_rtp(self, size: int, now: float) -> None:
        data = inbox.data
        ssrc = int.from_bytes(data[8:12], "big")
        route = self._by_ssrc.get(ssrc) or self._learn(ssrc, size)
        if route is None:
            self._drop("unknown-ssrc")
            return
        index, is_rtx = route
        source = self._feeds[index].source
        output_track = self._tracks[index]
        if output_track.source is not source:
            self._drop("replaced-publisher")
            return
        self.counters.rtp_packets_received += 1
        self.counters.rtp_bytes_received += size
        try:
            packet = rtp.parse(inbox.view[:size], source.extension_uris, now)
        except PacketError:
            self._drop("bad-rtp")
            return
        if is_rtx:
            original = source.unwrap_rtx(packet)
            if original is None:
                return  # padding that probes for bandwidth
            if not source.losses.missing(original.seq):
                # A probe with old contents. Forwarding a packet again, or another under its
                # number, would use a receiver's SRTP nonce twice (RFC 7714 section 8.1).
                source.duplicates += 1
                return
            packet = original
        elif packet.payload_type != source.payload_type:
            self._drop("unknown-payload-type")
            return
        if not source.receive(packet, resent=is_rtx):
            return
        if not source.losses.received(packet.seq, now, resent=is_rtx):
            output_track.request_keyframe(now)
        output_track.pending.append(packet)
        self._dirty.add(self._output)
        if source.losses.pending:
            self._ask_missing(source, now)

    def _learn(self, ssrc: int, size: int) -> _Route | None:
        """Bind an SSRC that the offer did not announce, by its rid (RFC 8852) or payload type."""
        route = self._route_by_rid(size) if self._by_rid else None
        if route is None:
            route = self._by_payload_type.get(inbox.data[1] & 0x7F)
        if route is None:
            return None
        index, is_rtx = route
        source = self._feeds[index].source
        if (source.rtx_ssrc if is_rtx else source.ssrc) is not None:
            return None
        if is_rtx:
            source.rtx_ssrc = ssrc
        else:
            source.ssrc = ssrc
        self._by_ssrc[ssrc] = route
        return route

    def _route_by_rid(self, size: int) -> _Route | None:
        try:
            packet = rtp.parse(inbox.view[:size], self._identifying)
        except PacketError:
            return None
        for uri, data in packet.extensions:
            routes = self._by_rid.get(data.decode("ascii", "replace"))
            if routes is not None:
                return routes[uri == REPAIRED_RTP_STREAM_ID]
        return None

    # --- feedback ------------------------------------------------------------------------------

    def _ask_missing(self, track: PublishedTrack, now: float) -> None:
        if track.kind == "audio" or track.ssrc is None:
            return  # Opus conceals; its NACK is not negotiated
        wanted = track.losses.due(now, self._rtt(track))
        if wanted:
            track.nacks += len(wanted)
            self.counters.nacks_sent += len(wanted)
            self.send_rtcp(rtcp.nack(self._ssrc, track.ssrc, wanted))

    def _rtt(self, source: PublishedTrack) -> float:
        """A lite agent sends no checks to time: how long resends take tells the round trip."""
        if source.losses.rtt_s is not None:
            self.rtt_s = source.losses.rtt_s
        return self.rtt_s or DEFAULT_RTT_S

    def _ask_keyframe(self, source: PublishedTrack) -> None:
        if source.ssrc is not None:
            self.send_rtcp(rtcp.picture_loss(self._ssrc, source.ssrc))

    def retry_tick(self, now: float) -> None:
        """Every 20 ms: ask again for what is still missing."""
        for feed in self._feeds:
            if feed.source.losses.pending:
                self._ask_missing(feed.source, now)

    def on_rtcp(self, packets: Sequence[rtcp.AnyPacket], now: float) -> None:
        for packet in packets:
            if isinstance(packet, rtcp.SenderReport):
                route = self._by_ssrc.get(packet.ssrc)
                if route is None:
                    continue
                if self._clock_offset_s is None:
                    self._clock_offset_s = packet.ntp / 2**32 - now
                self._feeds[route[0]].source.sender_report(packet, now)

    def periodic(self, now: float) -> None:
        if now < self._next_report:
            return
        early = self.connected_at is not None and now - self.connected_at < EARLY_S
        self._next_report = now + (0.2 if early else REPORT_INTERVAL_S)
        blocks = [
            block for feed in self._feeds if (block := feed.source.report_block(now)) is not None
        ]
        report = rtcp.receiver_report(self._ssrc, blocks, self._cname)
        sources = [feed.source for feed in self._feeds]
        video = [s.ssrc for s in sources if s.kind == "video" and s.ssrc is not None]
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
                rate_kbps=round(track.rate_bps / 1000, 1),
            )
            for track in (feed.source for feed in self._feeds)
        ]
