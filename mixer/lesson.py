"""One lesson in the mixer: its inputs, who hears whom, what is shown, and its outputs.

Runs on the loop's thread, which makes the sound; pictures are made by the lesson's `PictureThread`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from time import monotonic
from typing import get_args

from streamer import rtp

from . import control
from .audio import SILENCE_DB, Desk, Samples, SourceKind
from .clock import What
from .errors import RefusedError
from .jitter import FRAME_S
from .labels import Labels
from .opus import OpusEncoder
from .output import Output
from .pictures import PictureDesk
from .picturethread import PictureThread
from .routing import Wish, route
from .showing import Showing
from .source import Source, State, check_request, slot_of

log = logging.getLogger(__name__)

LEVELS_EVERY_S = 0.2
REPORT_EVERY_S = 1.0
KINDS: dict[control.Role, SourceKind] = {
    "teacher": "teacher",
    "slides": "programme",
    "return": "floor",
}

Notify = Callable[[control.AnyNotification], None]


class Lesson:
    """`handle`s requests, is ticked every 20 ms, and tells through `notify`."""

    def __init__(
        self,
        lesson_id: str,
        loop: asyncio.AbstractEventLoop,
        labels: Labels,
        epoch: float,
        notify: Notify,
    ) -> None:
        self.id = lesson_id
        self._loop = loop
        self._epoch = epoch
        self._notify = notify
        self._sources: dict[str, Source] = {}
        self._outputs: dict[str, Output] = {}
        self._muted: frozenset[str] = frozenset()
        self._desk = Desk()
        self._encoders: dict[str, OpusEncoder] = {}
        self._mixes: dict[str, list[str]] = {}
        self._next_levels = 0.0
        self._next_report = 0.0
        self._shed: What = "none"
        self.ticks = self.late_ticks = self.skipped_ticks = 0
        self._pictures = PictureDesk(labels, epoch, self, monotonic())
        self._thread = PictureThread(self._pictures, f"pictures-{lesson_id}")
        self._showing = Showing(self._sources, self._thread.post)
        self._thread.start()
        self._closed = False

    # --- requests ------------------------------------------------------------------------------

    def add_input(self, request: control.AddInput) -> None:
        check_request(request)
        now = monotonic()
        replaced = self._sources.get(request.input_id)
        if replaced is None and len(self._sources) >= control.MAX_INPUTS:
            raise RefusedError(
                "too-many", "input_id", f"a lesson takes at most {control.MAX_INPUTS} inputs"
            )
        slot = slot_of(request.role, request.seat)
        for other in list(self._sources.values()):
            if other is replaced or other.slot == slot:
                self._drop_source(other, keep_slot=other.slot == slot)
        try:
            source = Source(self._loop, request, self._video_packets, self._source_state)
        except OSError as error:
            raise RefusedError("pipe", "path", f"cannot listen there: {error}") from None
        self._sources[source.id] = source
        if source.playout is not None:
            self._desk.add(source.id, KINDS[source.role])
        if source.role == "return" and source.seat not in self._showing.order:
            self._showing.order.append(source.seat)
        self._thread.post(
            lambda desk: desk.attach(
                slot, source.role, source.id, source.video, source.sync, monotonic()
            )
        )
        self._rewire(now)
        self._show_wall()
        self._tell_wall()

    def remove_input(self, request: control.RemoveInput) -> None:
        source = self._sources.get(request.input_id)
        if source is None:
            raise RefusedError("no-such-input", "input_id", "this lesson has no such input")
        self._drop_source(source, keep_slot=False)
        self._rewire(monotonic())
        self._show_wall()
        self._tell_wall()

    def _drop_source(self, source: Source, *, keep_slot: bool) -> None:
        source.close()
        del self._sources[source.id]
        self._desk.remove(source.id)
        slot = source.slot
        if not keep_slot:
            if source.seat in self._showing.order:
                self._showing.order.remove(source.seat)
            self._thread.post(lambda desk: desk.detach(slot, forget=True))

    def add_output(self, request: control.AddOutput) -> None:
        old = self._outputs.pop(request.output, None)
        if old is not None:
            self._close_output(old)
        output = Output(
            self._loop, request, on_keyframe=self._output_keyframe, on_closed=self._output_closed
        )
        if output.picture is not None and output.video_stream is not None:
            picture, stream, name = output.picture, output.video_stream, output.name
            self._thread.post(
                lambda desk: desk.open_output(
                    name, request.video_codec, picture, stream, monotonic()
                )
            )
        self._outputs[output.name] = output
        self._rewire(monotonic())
        if output.name == "wall":
            self._tell_wall()

    def remove_output(self, request: control.RemoveOutput) -> None:
        output = self._outputs.pop(request.output, None)
        if output is None:
            raise RefusedError("no-such-output", "output", "this lesson has no such output")
        self._close_output(output)
        self._rewire(monotonic())

    def _close_output(self, output: Output) -> None:
        output.close()
        name = output.name
        if output.picture is not None:
            self._thread.post(lambda desk: desk.close_output(name))

    def set_floor(self, request: control.SetFloor) -> None:
        self._showing.floor = list(dict.fromkeys(request.seats))
        self._showing.all_answer = request.all_answer
        self._rewire(monotonic())

    def set_tile(self, request: control.SetTile) -> None:
        self._showing.set_tile(request, monotonic())
        self._show_wall()

    def set_layout(self, request: control.SetLayout) -> None:
        self._showing.choose(request.layout)
        self._direct(monotonic())

    def mute_seat(self, request: control.MuteSeat) -> None:
        seats = {request.seat}
        self._muted = self._muted | seats if request.muted else self._muted - seats
        self._rewire(monotonic())
        self._show_wall()

    # --- who hears whom ------------------------------------------------------------------------

    def _rewire(self, now: float) -> None:
        """Recompute which sources are heard and what each distinct mix is made of."""
        sounding = [source for source in self._sources.values() if source.playout]
        routes = route(
            [Wish(o.name, o.kind, o.seat) for o in self._outputs.values() if o.audio],
            lead=[source.id for source in sounding if source.role != "return"],
            returns={source.seat: source.id for source in sounding if source.role == "return"},
            floor=self._showing.floor,
            all_answer=self._showing.all_answer,
            muted=self._muted,
        )
        self._mixes = routes.mixes
        for name, mix in routes.by_output.items():
            self._outputs[name].mix = mix
        audible = routes.audible()
        for source in self._sources.values():
            source.set_audible(source.id in audible)
        for mix in [mix for mix in self._encoders if mix not in routes.mixes]:
            del self._encoders[mix]
            self._desk.forget_mix(mix)
        self._direct(now)

    def tick(self, index: int, now: float) -> None:
        """Sound number `index` is due: `now` is when it should be played."""
        self.ticks += 1
        frames: dict[str, Samples | None] = {}
        for source in self._sources.values():
            playout = source.playout
            if playout is None or not source.listened_to:
                continue
            frames[source.id] = playout.take(now)
            source.sync.playing(playout.played_timestamp(), now)
        sounds, howling = self._desk.mix(frames, self._mixes)
        media_s = index * FRAME_S
        packets: dict[str, bytes] = {}
        for mix, sound in sounds.items():
            encoder = self._encoders.get(mix)
            if encoder is None:
                encoder = self._encoders[mix] = OpusEncoder(self._audio_kbps(mix))
            packets[mix] = encoder.encode(sound)
        for output in list(self._outputs.values()):
            if output.audio and packets.get(output.mix):
                output.send_sound(packets[output.mix], media_s)
        for name in howling:
            self._notify(
                control.HowlRound(
                    lesson_id=self.id,
                    seat=self._sources[name].seat,
                    frequency_hz=self._desk.strips[name].howl.frequency_hz,
                )
            )
        if now >= self._next_levels:
            self._next_levels = now + LEVELS_EVERY_S
            self._slow_tick(now)
        if now >= self._next_report:
            self._next_report = now + REPORT_EVERY_S
            for output in list(self._outputs.values()):
                output.send_reports(now - self._epoch)

    def _audio_kbps(self, mix: str) -> int:
        return max(o.audio_kbps for o in self._outputs.values() if o.audio and o.mix == mix)

    def _slow_tick(self, now: float) -> None:
        """Five times a second: states, levels, labels, the director."""
        teacher: float | None = None
        levels: dict[str, float] = {}
        for source in list(self._sources.values()):
            source.check(now)
            strip = self._desk.strips.get(source.id)
            if strip is None or source.role == "slides":
                continue
            if source.listened_to:
                level: float | None = strip.level_dbfs if source.link.connected else None
                voice = strip.voice and source.audible
                self._showing.director.hear(
                    "" if source.role == "teacher" else source.seat, voice, now
                )
            else:
                level = source.told_level(now)
            if level is None:
                continue
            level = max(SILENCE_DB, round(level, 1))
            if source.role == "teacher":
                teacher = level
            else:
                levels[source.seat] = level
        self._showing.levels = levels
        if levels or teacher is not None:
            self._notify(control.Levels(lesson_id=self.id, seats=levels, teacher=teacher))
        self._show_wall()
        self._direct(now)

    # --- what is shown -------------------------------------------------------------------------

    def _show_wall(self) -> None:
        self._showing.show_wall(self._muted)

    def _tell_wall(self) -> None:
        """The wall's tiles have moved, or there is a wall at last."""
        output = self._outputs.get("wall")
        if output is None or output.picture is None:
            return
        width, height = output.picture.width, output.picture.height
        tiles = self._showing.tiles(width, height)
        self._notify(
            control.WallChanged(lesson_id=self.id, width=width, height=height, tiles=tiles)
        )

    def _direct(self, now: float) -> None:
        cut = self._showing.direct(now)
        if cut is not None:
            self._notify(
                control.DirectorCut(
                    lesson_id=self.id, layout=cut.layout, why=cut.why, seat=cut.seat
                )
            )

    # --- what inputs and outputs tell ----------------------------------------------------------

    def _video_packets(self, source: Source, packets: list[rtp.Packet]) -> None:
        slot = source.slot
        if not self._thread.swamped:
            self._thread.post(lambda desk: desk.packets(slot, packets, monotonic()))

    def _source_state(self, source: Source, state: State, detail: str) -> None:
        self._notify(
            control.InputState(
                lesson_id=self.id,
                input_id=source.id,
                seat=source.seat,
                state=state,
                detail=detail,
            )
        )
        if not source.link.connected and state == "broken":
            slot = source.slot
            self._thread.post(lambda desk: desk.detach(slot, forget=False))
        self._direct(monotonic())

    def _output_keyframe(self, output: Output) -> None:
        name = output.name
        self._thread.post(lambda desk: desk.request_keyframe(name))

    def _output_closed(self, output: Output) -> None:
        if self._outputs.get(output.name) is not output:
            return
        del self._outputs[output.name]
        self._close_output(output)
        self._notify(control.OutputBroken(lesson_id=self.id, output=output.name))
        self._rewire(monotonic())

    # --- what the picture desk tells, in its own thread ----------------------------------------

    def picture_packets(self, output: str, data: bytes) -> None:
        self._soon(self._send_picture, output, data)

    def keyframe_wanted(self, input_id: str) -> None:
        self._soon(self._ask_keyframe, input_id)

    def slides_changed(self) -> None:
        self._soon(lambda: self._showing.director.slides_changed(monotonic()))

    def picture_state(self, input_id: str, state: str) -> None:
        self._soon(self._picture_state, input_id, state)

    def shed_changed(self, what: What, wall_fps: float, stage_fps: float) -> None:
        self._soon(self._shed_changed, what, wall_fps, stage_fps)

    def _soon(self, call: Callable[..., None], *arguments: object) -> None:
        if not self._closed and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(call, *arguments)

    def _send_picture(self, name: str, data: bytes) -> None:
        output = self._outputs.get(name)
        if output is not None and not output.send_picture(data):
            self._output_keyframe(output)

    def _ask_keyframe(self, input_id: str) -> None:
        source = self._sources.get(input_id)
        if source is not None:
            source.ask_keyframe()

    def _picture_state(self, input_id: str, state: str) -> None:
        source = self._sources.get(input_id)
        if source is not None and state in get_args(State):
            source.picture_state(state)  # type: ignore[arg-type]

    def _shed_changed(self, what: What, wall_fps: float, stage_fps: float) -> None:
        if what == self._shed:
            return
        self._shed = what
        self._notify(
            control.Shed(lesson_id=self.id, what=what, wall_fps=wall_fps, stage_fps=stage_fps)
        )

    # --- the rest ------------------------------------------------------------------------------

    def stats(self) -> control.LessonStats:
        now = monotonic()
        return control.LessonStats(
            lesson_id=self.id,
            layout=self._showing.director.layout,
            shed=self._shed,
            ticks=self.ticks,
            late_ticks=self.late_ticks,
            skipped_ticks=self.skipped_ticks,
            encoders=len(self._encoders),
            inputs=[
                source.stats(self._pictures.video(source.slot)) for source in self._sources.values()
            ],
            outputs=[
                output.stats(self._pictures.output_figures(output.name, now))
                for output in self._outputs.values()
            ],
        )

    def close(self) -> None:
        self._closed = True
        for source in self._sources.values():
            source.close()
        for output in self._outputs.values():
            output.close()
        self._thread.stop()
