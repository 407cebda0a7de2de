"""The picture desk of one lesson: decodes what comes, composes wall and stage, encodes them.

`PictureDesk` is plain and synchronous: told the time, it does what is due. A
`PictureThread` runs it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic
from typing import Protocol

import cv2
import numpy as np

from streamer.rtp import Packet

from . import layouts
from .canvas import Canvas
from .clock import LipSync, Pace, Shedder, What
from .control import LayoutName, Picture, PipedTrack, VideoCodec
from .decode import Image, Pending, Plane, VideoInput
from .encode import VideoEncoder
from .labels import Label, Labels
from .packetize import RtpStream

STALE_S = 3.0  # a camera without a picture for that long gets a placeholder
SLOW_STALE_S = 10.0  # while only key frames are decoded
UNCHANGED_EVERY_S = 0.5  # an unchanged picture is sent that seldom
EARLY_S = 0.010  # a picture due this soon is taken now rather than a whole frame later
SLIDE_SIZE = (32, 18)
SLIDE_CHANGE = 5.0  # mean difference of luma
SLIDE_CHECK_S = 0.5
ASKED_IN_VAIN = 3  # key-frame requests without an answer: the stream is broken
HOPELESS_S = 1.0  # packets that have waited that long are not decoded any more
DELAYS_KEPT = 250
SETTLE_S = 2.0  # opening encoders makes the first pictures late, which says nothing


class Events(Protocol):
    """What the desk tells; called in the desk's own thread."""

    def picture_packets(self, output: str, data: bytes) -> None: ...

    def keyframe_wanted(self, input_id: str) -> None: ...

    def slides_changed(self) -> None: ...

    def picture_state(self, input_id: str, state: str) -> None: ...

    def shed_changed(self, what: What, wall_fps: float, stage_fps: float) -> None: ...


@dataclass(slots=True)
class _Slot:
    """A place that pictures come from: a seat, the teacher, the slides."""

    role: str
    input_id: str = ""
    video: VideoInput | None = None
    sync: LipSync = field(default_factory=LipSync)
    pending: Pending = field(default_factory=Pending)
    image: Image | None = None
    version: int = 0
    arrival: float = 0.0  # of the picture shown
    since: float = 0.0  # when this input was attached
    state: str = ""
    thumbnail: Plane | None = None
    checked: float = 0.0


@dataclass(slots=True)
class _Output:
    name: str
    canvas: Canvas
    encoder: VideoEncoder
    stream: RtpStream
    pace: Pace
    seen: dict[str, int] = field(default_factory=dict)
    sent: float = float("-inf")
    keyframe: bool = True
    frames: int = 0
    delays_s: deque[float] = field(default_factory=lambda: deque(maxlen=DELAYS_KEPT))
    times: deque[float] = field(default_factory=lambda: deque(maxlen=DELAYS_KEPT))


class PictureDesk:
    """All pictures of one lesson. `epoch` is when its media clock was zero."""

    def __init__(
        self,
        labels: Labels,
        epoch: float,
        events: Events,
        now: float,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._labels = labels
        self._epoch = epoch
        self._events = events
        self._clock = clock  # tells how long the work took
        self._slots: dict[str, _Slot] = {}
        self._outputs: dict[str, _Output] = {}
        self._wall: list[str] = []
        self._labelled: dict[str, Label] = {}
        self._stage: tuple[LayoutName, layouts.StageSources, str] = (
            "teacher",
            layouts.StageSources(None, None, ()),
            "",
        )
        self._stage_labels: dict[str, Label] = {}
        self._shedder = Shedder(now)
        self._settled = now

    # --- sources -------------------------------------------------------------------------------

    def attach(
        self,
        slot: str,
        role: str,
        input_id: str,
        track: PipedTrack | None,
        sync: LipSync,
        now: float,
    ) -> None:
        """Pictures for a slot come from this input from now on; the last one stays meanwhile."""
        place = self._slots.setdefault(slot, _Slot(role))
        place.input_id = input_id
        place.video = None if track is None else VideoInput(track)
        place.sync = sync
        place.pending = Pending()
        place.since = now
        place.state = ""
        self._set_keyframes_only()

    def detach(self, slot: str, *, forget: bool) -> None:
        """The input has gone; `forget` takes the slot away as well."""
        place = self._slots.get(slot)
        if place is None:
            return
        if forget:
            del self._slots[slot]
            return
        place.video = None
        self._blank(place)

    def packets(self, slot: str, packets: list[Packet], now: float) -> None:
        """RTP of a slot's video, as it came."""
        place = self._slots.get(slot)
        if place is None or place.video is None:
            return
        if now - packets[0].arrival > HOPELESS_S:
            return  # the hole that this leaves asks for a key frame
        for frame in place.video.receive(packets, now):
            due = place.sync.due(frame.timestamp, frame.arrival)
            place.pending.put(frame.image, due, frame.arrival)
        self._want_keyframe(place, now)

    def _want_keyframe(self, place: _Slot, now: float) -> None:
        if place.video is not None and place.video.wants_keyframe(now):
            self._events.keyframe_wanted(place.input_id)

    def _blank(self, place: _Slot) -> None:
        if place.image is not None:
            place.image = None
            place.version += 1

    def video(self, slot: str) -> VideoInput | None:
        """For statistics."""
        place = self._slots.get(slot)
        return None if place is None else place.video

    # --- what is shown -------------------------------------------------------------------------

    def set_wall(self, slots: list[str], labels: dict[str, Label]) -> None:
        self._wall = slots
        self._labelled = labels
        output = self._outputs.get("wall")
        if output is not None:
            self._place_wall(output)

    def set_stage(
        self,
        layout: LayoutName,
        sources: layouts.StageSources,
        featured: str,
        labels: dict[str, Label],
    ) -> None:
        self._stage = (layout, sources, featured)
        self._stage_labels = labels
        output = self._outputs.get("stage")
        if output is not None:
            self._place_stage(output)
        self._set_keyframes_only()

    def _place_wall(self, output: _Output) -> None:
        canvas = output.canvas
        self._place(output, layouts.wall(self._wall, canvas.width, canvas.height))
        for slot in self._wall:
            canvas.label(slot, self._labelled.get(slot))

    def _place_stage(self, output: _Output) -> None:
        canvas = output.canvas
        layout, sources, featured = self._stage
        placed = layouts.stage(layout, sources, canvas.width, canvas.height, featured=featured)
        self._place(output, placed)
        for slot, _rect in placed:
            canvas.label(slot, self._stage_labels.get(slot) if len(placed) > 1 else None)

    def _place(self, output: _Output, placed: list[layouts.Placed]) -> None:
        output.canvas.place(placed)
        shown = {source for source, _rect in placed}
        output.seen = {slot: seen for slot, seen in output.seen.items() if slot in shown}

    # --- outputs -------------------------------------------------------------------------------

    def open_output(
        self, name: str, codec: VideoCodec, picture: Picture, stream: RtpStream, now: float
    ) -> None:
        canvas = Canvas(picture.width, picture.height, self._labels)
        encoder = VideoEncoder(codec, picture)
        pace = Pace(picture.fps, now)
        output = self._outputs[name] = _Output(name, canvas, encoder, stream, pace)
        if name == "wall":
            self._place_wall(output)
        else:
            self._place_stage(output)
        self._settled = now + SETTLE_S
        self._apply_rates(now)

    def close_output(self, name: str) -> None:
        self._outputs.pop(name, None)

    def request_keyframe(self, name: str) -> None:
        output = self._outputs.get(name)
        if output is not None:
            output.keyframe = True
            output.encoder.request_keyframe()

    def output_figures(self, name: str, now: float) -> tuple[int, int, float, float]:
        """Frames, key frames, frames a second, and the 95th percentile of the delay in seconds."""
        output = self._outputs.get(name)
        if output is None:
            return 0, 0, 0.0, 0.0
        recent = sum(1 for at in list(output.times) if now - at <= 2.0)
        delays = sorted(output.delays_s)
        worst = delays[int(len(delays) * 0.95)] if delays else 0.0
        return output.encoder.frames, output.encoder.keyframes, recent / 2.0, worst

    # --- time ----------------------------------------------------------------------------------

    def next_s(self, now: float) -> float:
        """When `run` should be called next, if nothing else happens."""
        return min((output.pace.next_s for output in self._outputs.values()), default=now + 0.1)

    def run(self, now: float) -> None:
        """Do what is due: first the stage, then the wall."""
        self._check_slots(now)
        for name in ("stage", "wall"):
            output = self._outputs.get(name)
            if output is None:
                continue
            due_at = output.pace.next_s
            if output.pace.due(now):
                if not self._send(output, now):
                    output.pace.postpone(now)
                    continue
                late_periods = (self._clock() - due_at) * output.pace.fps
                if now < self._settled:
                    continue
                if self._shedder.observe(late_periods, now):
                    self._apply_rates(now)

    def _send(self, output: _Output, now: float) -> bool:
        """Compose and send one picture; False when it would be the same as the last."""
        arrivals: list[float] = []
        for slot, _rect in output.canvas.placed:
            place = self._slots.get(slot)
            if place is None:
                continue
            self._advance(place, now)
            if output.seen.get(slot) != place.version:
                output.seen[slot] = place.version
                output.canvas.show(slot, place.image)
                if place.image is not None:
                    arrivals.append(place.arrival)
        changed = output.canvas.compose()
        if not changed and not output.keyframe and now - output.sent < UNCHANGED_EVERY_S:
            return False
        media_s = now - self._epoch
        payloads = output.encoder.encode(output.canvas.frame, media_s)
        if not payloads:
            return False
        output.keyframe = False
        output.sent = now
        self._events.picture_packets(
            output.name, output.stream.frame(payloads, media_s, marker=True)
        )
        done = self._clock()
        output.times.append(now)
        output.delays_s += [done - arrival for arrival in arrivals]
        return True

    def _advance(self, place: _Slot, now: float) -> None:
        """Show the newest picture that is due."""
        taken = place.pending.take(now + EARLY_S)
        if taken is None:
            return
        place.image, place.arrival = taken
        place.version += 1
        if place.role == "slides" and now - place.checked >= SLIDE_CHECK_S:
            place.checked = now
            small = cv2.resize(place.image.y, SLIDE_SIZE, interpolation=cv2.INTER_AREA)
            thumbnail: Plane = np.asarray(small, np.uint8)
            before, place.thumbnail = place.thumbnail, thumbnail
            if before is not None:
                difference = np.abs(thumbnail.astype(np.int16) - before.astype(np.int16))
                if float(difference.mean()) > SLIDE_CHANGE:
                    self._events.slides_changed()

    def _check_slots(self, now: float) -> None:
        """Late packets, key frames still missing, cameras that have fallen silent."""
        for place in self._slots.values():
            video = place.video
            if video is None:
                continue
            for frame in video.receive([], now):
                due = place.sync.due(frame.timestamp, frame.arrival)
                place.pending.put(frame.image, due, frame.arrival)
            self._want_keyframe(place, now)
            state = self._state(place, video, now)
            if state != place.state:
                place.state = state
                self._events.picture_state(place.input_id, state)
            if state != "ok" and place.role != "slides":
                self._blank(place)

    def _state(self, place: _Slot, video: VideoInput, now: float) -> str:
        limit_s = SLOW_STALE_S if video.keyframes_only else STALE_S
        if now - max(place.since, video.last_decoded) <= limit_s:
            return "ok" if video.decoded else place.state or "ok"
        if now - video.last_packet > limit_s:
            return "ok" if place.role == "slides" and video.decoded else "stalled"
        # Nothing that came could be decoded, though a key frame was asked for: not just a pause.
        asked = video.asked_in_vain >= ASKED_IN_VAIN or not video.answers_pli
        return "broken" if asked else place.state or "ok"

    # --- when the processor is short -----------------------------------------------------------

    def _apply_rates(self, now: float) -> None:
        rates = {"wall": 0.0, "stage": 0.0}
        for name, divisor in zip(("wall", "stage"), self._shedder.divisors(), strict=True):
            output = self._outputs.get(name)
            if output is not None:
                rates[name] = output.encoder.picture.fps / divisor
                if output.pace.fps != rates[name]:
                    output.pace.set_fps(rates[name], now)
        self._set_keyframes_only()
        self._events.shed_changed(self._shedder.what, rates["wall"], rates["stage"])

    def _set_keyframes_only(self) -> None:
        """Tiles of the wall alone do with key frames when even their decoding costs too much."""
        _layout, sources, _featured = self._stage
        for slot, place in self._slots.items():
            if place.video is not None:
                on_stage = slot in sources.floor
                place.video.keyframes_only = (
                    self._shedder.keyframes_only and place.role == "return" and not on_stage
                )
