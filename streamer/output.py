"""One output: who publishes it, who receives it, and the batches that go from one to the others."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

from . import control, rtp
from .catchup import CatchUp
from .delay import DelayHistogram
from .description import Codec
from .fanout import MAX_BATCH_PACKETS, FanoutGroup, GroupKey, send
from .negotiation import ReceiverTrack as NegotiatedTrack
from .publisher import Kind, PublishedTrack
from .receiver import ReceiverTrack
from .rtp import Packet

SILENT_AFTER_S = 3.0  # a publisher that sends nothing for so long is not live
RECATCH_INTERVAL_S = 2.0  # how often a receiver of a source without PLI may be caught up again


class Tap(Protocol):
    """Something that takes an output's packets as they came, such as a pipe."""

    def send(self, source: PublishedTrack, batch: Sequence[Packet]) -> None: ...

    def close(self) -> None: ...


class OutputTrack:
    """The audio or the video of an output: one source, many receivers in groups."""

    __slots__ = (
        "_catching_up",
        "_counters",
        "_delays",
        "_finishing",
        "_groups",
        "_keys",
        "_last_catch_up",
        "_negotiated",
        "_on_first_keyframe",
        "codec",
        "kind",
        "pending",
        "request_from_source",
        "source",
        "taps",
    )

    def __init__(
        self,
        kind: Kind,
        counters: control.Counters,
        delays: DelayHistogram,
        on_first_keyframe: Callable[[str], None],
    ) -> None:
        self.kind: Kind = kind
        self.source: PublishedTrack | None = None
        self.request_from_source: Callable[[], None] | None = None
        self.pending: list[Packet] = []
        # Pipes to other processes: they take every packet in the publisher's numbering.
        self.taps: list[Tap] = []
        self.codec: Codec | None = None
        self._counters = counters
        self._delays = delays
        self._on_first_keyframe = on_first_keyframe
        self._groups: dict[GroupKey, FanoutGroup] = {}
        self._keys: dict[ReceiverTrack, GroupKey] = {}
        self._negotiated: dict[ReceiverTrack, NegotiatedTrack] = {}
        self._finishing: list[ReceiverTrack] = []
        self._catching_up: list[CatchUp] = []
        self._last_catch_up: dict[ReceiverTrack, float] = {}

    # --- source --------------------------------------------------------------------------------

    def set_source(
        self,
        source: PublishedTrack | None,
        codec: Codec | None,
        request_keyframe: Callable[[], None] | None,
        now: float,
    ) -> None:
        """Begin with a new publisher's track (or none); receivers keep their numbering."""
        old = self.source
        if old is not None:
            for receiver in self._negotiated:
                receiver.release(old, now)
        self.pending.clear()
        self._finishing.clear()
        self._catching_up.clear()
        self._groups.clear()
        self._keys.clear()
        self.source = source
        self.codec = codec
        self.request_from_source = request_keyframe
        if source is not None:
            for receiver in self._negotiated:
                self._place(receiver, now)
            if self.kind == "video" and self._keys:
                self.request_keyframe(now)

    def request_keyframe(self, now: float) -> None:
        """Ask the publisher for a key frame, together with everybody else who needs one."""
        source = self.source
        if source is None or not source.answers_pli:
            return
        if source.keyframes.request(now):
            self._ask_source(source)

    def _ask_source(self, source: PublishedTrack) -> None:
        source.keyframe_requests += 1
        self._counters.keyframe_requests += 1
        if self.request_from_source is not None:
            self.request_from_source()

    # --- receivers -----------------------------------------------------------------------------

    def attach(self, receiver: ReceiverTrack, negotiated: NegotiatedTrack, now: float) -> None:
        """Add a connected receiver; its picture starts with the next key frame."""
        self._negotiated[receiver] = negotiated
        if self.source is not None:
            self._place(receiver, now)
            if self.kind == "video" and receiver.state == "waiting":
                self.request_keyframe(now)

    def detach(self, receiver: ReceiverTrack) -> None:
        self._remove_from_group(receiver)
        self._negotiated.pop(receiver, None)
        self._last_catch_up.pop(receiver, None)

    @property
    def receivers(self) -> Iterable[ReceiverTrack]:
        return self._negotiated

    def _place(self, receiver: ReceiverTrack, now: float) -> None:
        """Put a receiver into the group for the present codec, waiting for its start."""
        codec, negotiated = self.codec, self._negotiated[receiver]
        types = negotiated.payload_type_for(codec) if codec is not None else None
        if types is None or codec is None:
            receiver.state = "idle"  # this receiver cannot decode what is published
            return
        receiver.payload_type, receiver.rtx_payload_type = types
        receiver.clock_rate = codec.clock_rate
        uris = negotiated.extension_ids
        carried = tuple(sorted((uri, uris[uri]) for uri in rtp.CARRIED_EXTENSIONS if uri in uris))
        key = (types[0], carried, uris.get(rtp.ABS_SEND_TIME, 0), receiver.srtp.tag_bytes)
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = FanoutGroup(key)
        self._keys[receiver] = key
        if self.kind == "video" and self._start_catch_up(receiver, group, now):
            return
        receiver.state = "waiting"
        group.waiting.append(receiver)

    def _remove_from_group(self, receiver: ReceiverTrack) -> None:
        key = self._keys.pop(receiver, None)
        if key is not None:
            group = self._groups[key]
            for members in (group.running, group.waiting):
                if receiver in members:
                    members.remove(receiver)
            if not group.running and not group.waiting and key not in self._keys.values():
                del self._groups[key]
        if receiver in self._finishing:
            self._finishing.remove(receiver)
        self._catching_up = [c for c in self._catching_up if c.receiver is not receiver]

    # --- batches -------------------------------------------------------------------------------

    def flush(self, received_at: float) -> None:
        """Send what has been pushed since the last flush to everybody."""
        batch = self.pending
        if not batch:
            return
        self.pending = []
        if self.taps and self.source is not None:
            for tap in self.taps[:]:
                tap.send(self.source, batch)
        if not self._groups:
            return
        send_time = rtp.abs_send_time(time.time())
        counters = self._counters
        for start in range(0, len(batch), MAX_BATCH_PACKETS):
            part = batch[start : start + MAX_BATCH_PACKETS]
            for group in self._groups.values():
                if group.running:
                    prepared = group.prepare(part, send_time)
                    sent = send(prepared, group.running, received_at, self._delays)
                    counters.rtp_packets_forwarded += sent
                    counters.rtp_bytes_forwarded += sent * prepared.octets // len(part)
                if group.waiting:
                    self._start_waiting(group, part, send_time, received_at)
            if self._finishing:
                self._note_first_keyframes(part)

    def _start_waiting(
        self, group: FanoutGroup, part: list[Packet], send_time: bytes, received_at: float
    ) -> None:
        """Let the waiting receivers in where a key frame begins (audio: at once)."""
        start = 0
        if self.kind == "video":
            while start < len(part) and not part[start].starts_keyframe:
                start += 1
            if start == len(part):
                return
        first = part[start]
        starting, group.waiting = group.waiting, []
        for receiver in starting:
            receiver.anchor(first.seq, first.timestamp, received_at)
            receiver.state = "running"
            if self.kind == "video":
                receiver.first_keyframe_timestamp = first.timestamp
        prepared = group.prepare(part[start:], send_time)
        sent = send(prepared, starting, received_at, self._delays)
        self._counters.rtp_packets_forwarded += sent
        self._counters.rtp_bytes_forwarded += sent * prepared.octets // len(prepared.packets)
        group.running += starting
        if self.kind == "video":
            self._finishing += starting

    def _note_first_keyframes(self, part: list[Packet]) -> None:
        """A receiver's first key frame is complete with the packet that ends it."""
        ended = {packet.timestamp for packet in part if packet.marker}
        still: list[ReceiverTrack] = []
        for receiver in self._finishing:
            if receiver.first_keyframe_timestamp in ended:
                self._on_first_keyframe(receiver.session_id)
            else:
                still.append(receiver)
        self._finishing = still

    # --- feedback from receivers ---------------------------------------------------------------

    def resend(self, receiver: ReceiverTrack, seqs: Iterable[int], now: float) -> None:
        """Answer a receiver's NACK from the history, within its allowance."""
        key = self._keys.get(receiver)
        source = self.source
        if key is None or source is None or receiver.state not in ("running", "catching-up"):
            return
        group = self._groups[key]
        for seq in seqs:
            original = receiver.original_seq(seq)
            packet = None if original is None else source.history.get(original)
            if packet is None:
                continue
            if not receiver.may_resend(now):
                self._counters.drops["resend-limit"] = (
                    self._counters.drops.get("resend-limit", 0) + 1
                )
                return
            send_time = rtp.abs_send_time(time.time())
            plain = receiver.rtx_packet(packet, group.render(packet, send_time))
            protected = receiver.srtp.protect(plain)
            if protected:
                receiver.path.send(protected)
                receiver.resent += 1
                self._counters.retransmissions += 1

    def picture_lost(self, receiver: ReceiverTrack, now: float) -> None:
        """A receiver's decoder needs a key frame."""
        receiver.keyframe_requests += 1
        source = self.source
        if source is None:
            return
        if source.answers_pli:
            self.request_keyframe(now)
            return
        key = self._keys.get(receiver)
        if (
            key is None
            or receiver.state != "running"
            or now - self._last_catch_up.get(receiver, 0.0) < RECATCH_INTERVAL_S
        ):
            return
        group = self._groups[key]
        receiver.release(source, now)
        group.running.remove(receiver)
        if not self._start_catch_up(receiver, group, now):
            receiver.state = "waiting"
            group.waiting.append(receiver)

    # --- sources that cannot make key frames on request ----------------------------------------

    def _start_catch_up(self, receiver: ReceiverTrack, group: FanoutGroup, now: float) -> bool:
        source = self.source
        if source is None or source.answers_pli:
            return False
        packets = source.history.since_keyframe()
        if not packets:
            return False
        receiver.anchor(packets[0].seq, packets[0].timestamp, now)
        receiver.state = "catching-up"
        self._last_catch_up[receiver] = now
        self._catching_up.append(CatchUp(receiver, group, source, packets))
        return True

    def tick(self, now: float) -> None:
        """Every 20 ms: key-frame requests that were held back, and receivers that catch up."""
        source = self.source
        if source is None:
            return
        if source.answers_pli and source.keyframes.due(now):
            self._ask_source(source)
        if not self._catching_up:
            return
        send_time = rtp.abs_send_time(time.time())
        remaining: list[CatchUp] = []
        for catch_up in self._catching_up:
            sent = catch_up.step(send_time)
            self._counters.rtp_packets_forwarded += sent
            if catch_up.finished:
                catch_up.receiver.state = "running"
                catch_up.group.running.append(catch_up.receiver)
                self._on_first_keyframe(catch_up.receiver.session_id)
            else:
                remaining.append(catch_up)
        self._catching_up = remaining


class Output:
    """A named bundle of one audio and one video track with its present publisher.

    `generation` counts its publishers, so that pipes can be opened anew for each.
    """

    __slots__ = ("_told", "audio", "generation", "id", "live", "publisher_id", "video")

    def __init__(
        self,
        output_id: str,
        counters: control.Counters,
        delays: DelayHistogram,
        on_first_keyframe: Callable[[str], None],
    ) -> None:
        self.id = output_id
        self.audio = OutputTrack("audio", counters, delays, on_first_keyframe)
        self.video = OutputTrack("video", counters, delays, on_first_keyframe)
        self.publisher_id: str | None = None
        self.generation = 0
        self.live = False
        self._told = (False, 0)

    def track(self, kind: Kind) -> OutputTrack:
        return self.audio if kind == "audio" else self.video

    def begin(
        self,
        publisher_id: str,
        tracks: Mapping[Kind, tuple[PublishedTrack, Codec]],
        request_keyframe: Callable[[], None],
        now: float,
    ) -> None:
        """A publisher has come, in place of any other; pipes of the old one end."""
        self.publisher_id = publisher_id
        self.generation += 1
        for output_track in (self.audio, self.video):
            for tap in output_track.taps[:]:
                tap.close()
            source, codec = tracks.get(output_track.kind, (None, None))
            asks = request_keyframe if output_track.kind == "video" else None
            output_track.set_source(source, codec, asks, now)

    def end(self, publisher_id: str, now: float) -> None:
        """A publisher has gone; nothing happens when another took its place before."""
        if self.publisher_id != publisher_id:
            return
        self.publisher_id = None
        for output_track in (self.audio, self.video):
            for tap in output_track.taps[:]:
                tap.close()
            output_track.set_source(None, None, None, now)

    def flush(self, received_at: float) -> None:
        """Sound first: it must never wait behind a picture of the same batch."""
        self.audio.flush(received_at)
        self.video.flush(received_at)

    def tick(self, now: float) -> None:
        self.audio.tick(now)
        self.video.tick(now)

    def news(self, now: float) -> bool:
        """Whether `live` or `generation` has changed since this last said so."""
        arrivals = [
            track.source.last_arrival
            for track in (self.audio, self.video)
            if track.source is not None and track.source.packets
        ]
        self.live = bool(arrivals) and now - max(arrivals) < SILENT_AFTER_S
        present = (self.live, self.generation)
        changed = present != self._told
        self._told = present
        return changed

    def tracks(self) -> list[tuple[PublishedTrack, Codec]]:
        """What is published now."""
        return [
            (track.source, track.codec)
            for track in (self.audio, self.video)
            if track.source is not None and track.codec is not None
        ]

    @property
    def unused(self) -> bool:
        return (
            self.publisher_id is None
            and not any(True for _ in self.audio.receivers)
            and not any(True for _ in self.video.receivers)
        )
