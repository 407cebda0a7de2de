"""One output: who publishes it, who receives it, and the batches that go from one to the others."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from . import control, rtp
from .catchup import CatchUp
from .delay import DelayHistogram
from .description import Codec
from .fanout import MAX_BATCH_PACKETS, FanoutGroup, GroupKey, Prepared, send
from .negotiation import ReceiverTrack as NegotiatedTrack
from .publisher import Kind, PublishedTrack
from .receiver import ReceiverTrack
from .rtp import Packet

SILENT_AFTER_S = 3.0  # a publisher that sends nothing for so long is not live
LAYER_SILENT_S = 1.5  # a layer that sends nothing for so long is paused
RECATCH_INTERVAL_S = 2.0  # how often a receiver of a source without PLI may be caught up again


class Tap(Protocol):
    """Something that takes an output's packets as they came, such as a pipe."""

    def send(self, source: PublishedTrack, batch: Sequence[Packet]) -> None: ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Feed:
    """A published track with its codec and the way to ask its publisher for a key frame."""

    source: PublishedTrack
    codec: Codec
    request_keyframe: Callable[[], None]


class OutputTrack:
    """One encoding of an output (its sound, or one layer of its picture) and who receives it.

    A receiver belongs to one layer at a time (`receiver.layer`). While it waits in another for the
    key frame to switch at, it goes on receiving the one it is in.
    """

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

    def set_source(self, feed: Feed | None, now: float) -> None:
        """Begin with a new publisher's track (or none); receivers keep their numbering."""
        old = self.source
        self.collect()
        if old is not None:
            for receiver in self._negotiated:
                if receiver.layer is self:
                    receiver.release(old, now)
                    receiver.layer = None
        self.pending.clear()
        self._finishing.clear()
        self._catching_up.clear()
        self._groups.clear()
        self._keys.clear()
        self.source = None if feed is None else feed.source
        self.codec = None if feed is None else feed.codec
        self.request_from_source = None if feed is None else feed.request_keyframe
        if feed is not None:
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
        """Add a connected receiver; its picture starts, or switches, with the next key frame."""
        if receiver in self._negotiated:
            return
        self._negotiated[receiver] = negotiated
        if self.source is not None:
            self._place(receiver, now)
            if self.kind == "video" and receiver.layer is not self:
                self.request_keyframe(now)

    def detach(self, receiver: ReceiverTrack, now: float) -> None:
        """Take a receiver out; its numbering is kept for the layer or source that follows."""
        self._remove_from_group(receiver)
        self._negotiated.pop(receiver, None)
        self._last_catch_up.pop(receiver, None)
        if receiver.layer is self:
            receiver.layer = None
            if self.source is not None:
                receiver.release(self.source, now)

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
        uris = negotiated.extension_ids
        carried = tuple(sorted((uri, uris[uri]) for uri in rtp.CARRIED_EXTENSIONS if uri in uris))
        key = (types[0], carried, uris.get(rtp.ABS_SEND_TIME, 0), receiver.srtp.tag_bytes)
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = FanoutGroup(key)
        self._keys[receiver] = key
        if self.kind == "video" and self._start_catch_up(receiver, group, now):
            return
        if receiver.layer is None:
            receiver.state = "waiting"
        group.waiting.append(receiver)

    def _remove_from_group(self, receiver: ReceiverTrack) -> None:
        key = self._keys.pop(receiver, None)
        if key is not None:
            group = self._groups[key]
            group.dismiss(receiver)
            if receiver in group.waiting:
                group.waiting.remove(receiver)
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
        for start in range(0, len(batch), MAX_BATCH_PACKETS):
            part = batch[start : start + MAX_BATCH_PACKETS]
            for group in self._groups.values():
                if group.running:
                    self._send_running(group, part, send_time, received_at)
                if group.waiting:
                    self._start_waiting(group, part, send_time, received_at)
            if self._finishing:
                self._note_first_keyframes(part)

    def _send_running(
        self, group: FanoutGroup, part: list[Packet], send_time: bytes, received_at: float
    ) -> None:
        """To everybody; late packets only to those who were there when they were due."""
        running = group.running
        late = [packet.seq for packet in part if packet.late]
        if late:
            newcomers = [r for r in running if not all(r.covers(seq) for seq in late)]
            if newcomers:
                present = [packet for packet in part if not packet.late]
                self._send(group, present, newcomers, send_time, received_at)
                running = [receiver for receiver in running if receiver not in newcomers]
                self._send(group, part, running, send_time, received_at)
                return
        prepared = group.prepare(part, send_time)
        self._count(prepared, group.send_running(prepared, received_at, self._delays), part)

    def _send(
        self,
        group: FanoutGroup,
        packets: list[Packet],
        receivers: list[ReceiverTrack],
        send_time: bytes,
        received_at: float,
    ) -> None:
        if not packets or not receivers:
            return
        prepared = group.prepare(packets, send_time)
        self._count(prepared, send(prepared, receivers, received_at, self._delays), packets)

    def _count(self, prepared: Prepared, sent: int, packets: Sequence[Packet]) -> None:
        self._counters.rtp_packets_forwarded += sent
        self._counters.rtp_bytes_forwarded += sent * prepared.octets // len(packets)

    def collect(self) -> None:
        """Bring what the fan-out has counted by group to the receivers."""
        for group in self._groups.values():
            group.collect()

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
            self._enter(receiver, group, first, received_at)
            receiver.state = "running"
            if self.kind == "video":
                receiver.first_keyframe_timestamp = first.timestamp
        # What came late from before the start is for those who were there then.
        onward = [p for p in part[start:] if (p.seq - first.seq) & rtp.SEQ_MASK < 0x8000]
        self._send(group, onward, starting, send_time, received_at)
        group.admit(starting)
        if self.kind == "video":
            self._finishing += starting

    def _enter(
        self, receiver: ReceiverTrack, group: FanoutGroup, first: Packet, now: float
    ) -> None:
        """From this packet on the receiver belongs to this layer, and to no other."""
        timestamp = None
        previous = receiver.layer
        if previous is not None and previous is not self:
            if previous.source is not None and self.source is not None:
                timestamp = self.source.same_instant(first.timestamp, previous.source)
                if timestamp is not None:
                    timestamp = (timestamp + receiver.timestamp_offset) & rtp.TIMESTAMP_MASK
            previous.detach(receiver, now)
        receiver.layer = self
        receiver.anchor(first.seq, first.timestamp, now, timestamp)
        receiver.payload_type = group.payload_type
        types = self._negotiated[receiver].payload_type_for(self.codec) if self.codec else None
        receiver.rtx_payload_type = types[1] if types is not None else None
        if self.codec is not None:
            receiver.clock_rate = self.codec.clock_rate

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
        if key is None or source is None or receiver.layer is not self:
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
        receiver.layer = None
        group.dismiss(receiver)
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
        self._enter(receiver, group, packets[0], now)
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
                catch_up.group.admit([catch_up.receiver])
                self._on_first_keyframe(catch_up.receiver.session_id)
            else:
                remaining.append(catch_up)
        self._catching_up = remaining


class Output:
    """A named bundle of one sound and one picture, the picture in one or more layers.

    `layers` are in the publisher's order. `generation` counts publishers, so that pipes can be
    opened anew for each.
    """

    __slots__ = (
        "_counters",
        "_delays",
        "_on_first_keyframe",
        "_told",
        "_viewers",
        "audio",
        "generation",
        "id",
        "layers",
        "live",
        "publisher_id",
    )

    def __init__(
        self,
        output_id: str,
        counters: control.Counters,
        delays: DelayHistogram,
        on_first_keyframe: Callable[[str], None],
    ) -> None:
        self.id = output_id
        self._counters = counters
        self._delays = delays
        self._on_first_keyframe = on_first_keyframe
        self._viewers: dict[ReceiverTrack, NegotiatedTrack] = {}
        self.audio = OutputTrack("audio", counters, delays, on_first_keyframe)
        self.layers = [OutputTrack("video", counters, delays, on_first_keyframe)]
        self.publisher_id: str | None = None
        self.generation = 0
        self.live = False
        self._told = (False, 0)

    # --- publisher -----------------------------------------------------------------------------

    def begin(self, publisher_id: str, feeds: Sequence[Feed], now: float) -> None:
        """A publisher has come, in place of any other; pipes of the old one end.

        `feeds` are its tracks: at most one of sound, the others the picture's layers.
        """
        self.publisher_id = publisher_id
        self.generation += 1
        self._close_taps()
        sounds = [feed for feed in feeds if feed.source.kind == "audio"]
        pictures = [feed for feed in feeds if feed.source.kind == "video"]
        while len(self.layers) < len(pictures):
            self.layers.append(
                OutputTrack("video", self._counters, self._delays, self._on_first_keyframe)
            )
        for receiver in self._viewers:
            for layer in self.layers:
                layer.detach(receiver, now)
        self.audio.set_source(sounds[0] if sounds else None, now)
        for index, layer in enumerate(self.layers):
            layer.set_source(pictures[index] if index < len(pictures) else None, now)
        for receiver, negotiated in self._viewers.items():
            self._join_first(receiver, negotiated, now)

    def end(self, publisher_id: str, now: float) -> None:
        """A publisher has gone; nothing happens when another took its place before."""
        if self.publisher_id != publisher_id:
            return
        self.publisher_id = None
        self._close_taps()
        for track in self.tracks:
            track.set_source(None, now)

    def _close_taps(self) -> None:
        for track in self.tracks:
            for tap in track.taps[:]:
                tap.close()

    # --- receivers -----------------------------------------------------------------------------

    def attach(self, receiver: ReceiverTrack, negotiated: NegotiatedTrack, now: float) -> None:
        """Add a connected receiver's track: the sound, or the picture's first choice of layer."""
        if receiver.kind == "audio":
            self.audio.attach(receiver, negotiated, now)
        else:
            self._viewers[receiver] = negotiated
            self._join_first(receiver, negotiated, now)

    def detach(self, receiver: ReceiverTrack, now: float) -> None:
        self._viewers.pop(receiver, None)
        for track in self.tracks:
            track.detach(receiver, now)

    def track_of(self, receiver: ReceiverTrack) -> OutputTrack | None:
        """The sound, or the layer that the receiver gets now or, before its start, waits for."""
        if receiver.kind == "audio":
            return self.audio
        if receiver.layer is not None:
            return receiver.layer
        for layer in self.layers:
            if receiver in layer.receivers:
                return layer
        return None

    def _join_first(self, receiver: ReceiverTrack, negotiated: NegotiatedTrack, now: float) -> None:
        """Start in the layer that was received last, or in the middle one: quick and not blind."""
        count = len(self.present_layers)
        wanted = receiver.preferred_layer
        if wanted is None or wanted >= count:
            wanted = count // 2
        self.layers[wanted].attach(receiver, negotiated, now)

    def select(self, receiver: ReceiverTrack, index: int | None, now: float) -> None:
        """Move a viewer to layer `index` of `layers` at its next key frame; None: no picture."""
        receiver.preferred_layer = index
        negotiated = self._viewers.get(receiver)
        if negotiated is None:
            return
        target = None if index is None else self.layers[index]
        for layer in self.layers:
            if layer is not target and (target is None or layer is not receiver.layer):
                layer.detach(receiver, now)
        if target is not None:
            target.attach(receiver, negotiated, now)
        elif receiver.layer is None:
            receiver.state = "paused"

    def layer_index(self, receiver: ReceiverTrack) -> int | None:
        """Which layer the receiver gets now, as an index of `layers`."""
        for index, layer in enumerate(self.layers):
            if receiver.layer is layer:
                return index
        return None

    @property
    def present_layers(self) -> list[OutputTrack]:
        """The layers that are published now, in the publisher's order."""
        return [layer for layer in self.layers if layer.source is not None]

    def layers_by_rate(self, now: float) -> list[int]:
        """Indices of the layers that carry packets now, the smallest rate first.

        Browsers stop sending a layer when the CPU or the uplink is short.
        """
        sending = [
            (layer.source.rate_bps, index)
            for index, layer in enumerate(self.layers)
            if layer.source is not None
            and layer.source.rate_bps > 0
            and now - layer.source.last_arrival < LAYER_SILENT_S
        ]
        return [index for _rate, index in sorted(sending)]

    @property
    def tracks(self) -> list[OutputTrack]:
        """Sound first: it must never wait behind a picture of the same batch."""
        return [self.audio, *self.layers]

    # --- time ----------------------------------------------------------------------------------

    def flush(self, received_at: float) -> None:
        for track in self.tracks:
            if track.pending:
                track.flush(received_at)

    def tick(self, now: float) -> None:
        for track in self.tracks:
            track.tick(now)

    def news(self, now: float) -> bool:
        """Whether `live` or `generation` has changed since this last said so."""
        arrivals = [
            track.source.last_arrival
            for track in self.tracks
            if track.source is not None and track.source.packets
        ]
        self.live = bool(arrivals) and now - max(arrivals) < SILENT_AFTER_S
        present = (self.live, self.generation)
        changed = present != self._told
        self._told = present
        return changed

    def published(self) -> list[tuple[PublishedTrack, Codec]]:
        """What is published now, the sound first."""
        return [
            (track.source, track.codec)
            for track in self.tracks
            if track.source is not None and track.codec is not None
        ]

    @property
    def unused(self) -> bool:
        return (
            self.publisher_id is None
            and not self._viewers
            and not any(True for _ in self.audio.receivers)
        )
