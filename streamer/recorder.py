"""Turns what comes over a pipe into what goes into files: whole frames with times, in segments.

Holds no socket and no file. The largest layer that is being sent is recorded. Sound and picture
share one line of time, from sender reports. A new segment begins, always with a key frame, when
the picture's format changes, a track appears, the publisher's clock leaps, or one has grown long.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from . import opus, rtcp
from .assembly import CodedFrame
from .control import PipedTrack
from .errors import PacketError
from .pictures import Picture, describe
from .recorded_track import Kind, RecordedTrack, recordable
from .rtp import Packet
from .timeline import Timeline, TrackClock

# At the start frames wait until the reports tell how sound and picture lie to each other.
HOLD_S = 2.0
SETTLE_S = 0.3  # even with all reports there: other layers' key frames are under way
MAX_HELD_BYTES = 32 << 20
ASK_KEYFRAME_S = 1.0
OVERLAP_S = 1.0  # how long sound may still go to the segment before
GAP_S = 0.020  # sound missing for so long is made up with silence: players count samples
MAX_GAP_S = 600.0


@dataclass(frozen=True, slots=True)
class Begin:
    """A new segment with these tracks; `at_s` is its first second, which was `age_s` ago.

    Segments count from 1.
    """

    segment: int
    at_s: float
    age_s: float
    picture: Picture | None
    sound: bool


@dataclass(frozen=True, slots=True)
class Media:
    """A frame of a segment; `at_s` never goes back within a track of a segment."""

    segment: int
    kind: Kind
    data: bytes
    at_s: float
    keyframe: bool


@dataclass(frozen=True, slots=True)
class End:
    """Nothing more comes for this segment."""

    segment: int


Event = Begin | Media | End


@dataclass(frozen=True, slots=True)
class _Held:
    index: int
    frame: CodedFrame
    own_s: float


class Recorder:
    """Records one publisher of one output. `tracks` are as the pipe was announced.

    Every method that takes something returns the events it leads to, in order.
    """

    def __init__(self, tracks: Sequence[PipedTrack], segment_s: float) -> None:
        self._tracks = [RecordedTrack(track) if recordable(track) else None for track in tracks]
        self._segment_s = segment_s
        self._timeline = Timeline([])
        self._held: list[_Held] = []
        self._held_bytes = 0
        self._hold_since: float | None = None
        self._held_back = True
        self._current: int | None = None  # the layer that is recorded
        self._segment = 0
        self._begun: Begin | None = None
        self._open_before: tuple[int, float] | None = None  # segment to end, and when
        self._last_s: dict[tuple[int, Kind], float] = {}
        self._sound_end_s: float | None = None
        self._sound_heard = False
        self.foreign_packets = 0
        self._reset_clocks()

    # --- input ---------------------------------------------------------------------------------

    def packet(self, packet: Packet, now: float) -> list[Event]:
        """A packet of the pipe: its SSRC is the track's place in the list."""
        track = self._tracks[packet.ssrc] if packet.ssrc < len(self._tracks) else None
        if track is None or packet.payload_type != track.payload_type:
            self.foreign_packets += 1
            return []
        frames = track.put(packet, now)
        track.last_arrival = now
        return self._frames(packet.ssrc, frames, now)

    def report(self, report: rtcp.SenderReport) -> None:
        track = self._tracks[report.ssrc] if report.ssrc < len(self._tracks) else None
        if track is not None:
            track.clock.report(report.ntp, report.rtp)
            if not self._held_back:
                self._timeline.follow_reports()

    def tick(self, now: float) -> list[Event]:
        """A few times a second: what has waited long enough."""
        events: list[Event] = []
        for index, track in enumerate(self._tracks):
            if track is not None:
                events += self._frames(index, track.late(now), now)
        if self._held_back and self._hold_since is not None and self._settled(now):
            events += self._release(now)
        if self._open_before is not None and now >= self._open_before[1]:
            events += self._end_before()
        return events

    def finish(self, now: float) -> list[Event]:
        """The pipe has ended: everything that is complete, and the end of what is open."""
        events: list[Event] = []
        for index, track in enumerate(self._tracks):
            if track is not None:
                events += self._frames(index, track.late(now + 3600.0), now)
        if self._held_back and self._held:
            events += self._release(now)
        events += self._end_before()
        if self._begun is not None:
            events.append(End(self._begun.segment))
            self._begun = None
        return events

    def wanted_keyframes(self, now: float) -> list[int]:
        """The tracks whose publisher should be asked for a key frame now."""
        wanted: list[int] = []
        for index, track in enumerate(self._tracks):
            if track is None or track.video is None or not track.answers_pli:
                continue
            broken = track.video.needs_keyframe and track.sending(now)
            if (broken or self._deserted(index, track, now)) and now >= track.asked_at:
                track.asked_at = now + ASK_KEYFRAME_S
                wanted.append(index)
        return wanted

    @property
    def lost_packets(self) -> int:
        """Lost for good, of all tracks."""
        assemblers = [t.video or t.audio for t in self._tracks if t is not None]
        return sum(assembler.lost for assembler in assemblers if assembler is not None)

    # --- holding at the start ------------------------------------------------------------------

    def _reset_clocks(self) -> None:
        """Begin anew: nothing is known of how the tracks lie to each other."""
        for track in self._tracks:
            if track is not None:
                track.clock = TrackClock(track.clock.clock_rate)
        clocks = [t.clock if t is not None else TrackClock(1) for t in self._tracks]
        self._timeline = Timeline(clocks)
        self._held_back = True
        self._hold_since = None
        self._current = None
        self._sound_end_s = None

    def _frames(self, index: int, frames: list[CodedFrame], now: float) -> list[Event]:
        events: list[Event] = []
        for frame in frames:
            track = self._tracks[index]
            assert track is not None
            own_s, leapt = track.clock.elapsed_s(frame.timestamp, frame.arrival)
            if leapt:
                events += self._leap(now)
                own_s, _ = track.clock.elapsed_s(frame.timestamp, frame.arrival)
            if self._held_back:
                if self._hold_since is None:
                    self._hold_since = now
                self._held.append(_Held(index, frame, own_s))
                self._held_bytes += len(frame.data)
                if self._settled(now):
                    events += self._release(now)
            else:
                events += self._place(index, frame, own_s, now)
        return events

    def _leap(self, now: float) -> list[Event]:
        """The publisher's timestamps began anew: so does everything."""
        events = self._release(now) if self._held_back and self._held else []
        events += self._end_before()
        if self._begun is not None:
            events.append(End(self._begun.segment))
            self._begun = None
        self._reset_clocks()
        return events

    def _settled(self, now: float) -> bool:
        """Whether it is known by now how the tracks lie to each other."""
        assert self._hold_since is not None
        waited_s = now - self._hold_since
        if waited_s >= HOLD_S or self._held_bytes >= MAX_HELD_BYTES:
            return True
        if waited_s < SETTLE_S:
            return False
        here = {held.index for held in self._held}
        if not self._timeline.reported:
            return False
        announced = {index for index, track in enumerate(self._tracks) if track is not None}
        return announced <= here

    def _release(self, now: float) -> list[Event]:
        """Begin: choose the largest layer that is there, and let go what was held."""
        held, self._held, self._held_bytes = self._held, [], 0
        self._held_back = False
        self._timeline.begin()
        self._current = self._largest(held)
        chosen: list[tuple[float, _Held]] = []
        started = False
        for item in held:
            if item.index == self._current:
                started = started or item.frame.keyframe
            if self._is_sound(item.index) or (item.index == self._current and started):
                chosen.append((self._timeline.place(item.index, item.own_s), item))
        if not chosen:
            self._held_back, self._hold_since = True, None
            return []
        self._timeline.start_at(min(at_s for at_s, _ in chosen))
        # The sound before the first picture belongs to the same segment, so that begins first.
        chosen.sort(key=lambda pair: pair[0])
        events: list[Event] = []
        picture = None
        track = self._tracks[self._current] if self._current is not None else None
        if track is not None:
            first = next(item for _, item in chosen if item.index == self._current)
            picture = self._described(track, first.frame)
        events += self._begin(0.0, picture, now - chosen[0][1].frame.arrival, now)
        for _, item in chosen:
            events += self._place(item.index, item.frame, item.own_s, now)
        return events

    def _largest(self, held: list[_Held]) -> int | None:
        best: int | None = None
        best_area = 0
        for item in held:
            track = self._tracks[item.index]
            if track is None or track.kind == "audio" or not item.frame.keyframe:
                continue
            picture = self._described(track, item.frame)
            if picture is not None and picture.area > best_area:
                best, best_area = item.index, picture.area
        return best

    def _described(self, track: RecordedTrack, frame: CodedFrame) -> Picture | None:
        """The picture a key frame begins; that of the key frame before where it cannot be read."""
        try:
            track.picture = describe(track.codec, frame.data)
        except PacketError:
            if track.codec == "h264":  # parameter sets may come once only
                return track.picture
            return None
        return track.picture

    # --- placing -------------------------------------------------------------------------------

    def _is_sound(self, index: int) -> bool:
        track = self._tracks[index]
        return track is not None and track.kind == "audio"

    def _place(self, index: int, frame: CodedFrame, own_s: float, now: float) -> list[Event]:
        at_s = self._timeline.place(index, own_s)
        if self._is_sound(index):
            return self._sound(frame, at_s, now)
        events: list[Event] = []
        if frame.keyframe:
            events += self._consider(index, frame, at_s, now)
        if index == self._current and self._begun is not None and self._begun.picture is not None:
            events += self._media(self._begun.segment, "video", frame.data, at_s, frame.keyframe)
        return events

    def _consider(self, index: int, frame: CodedFrame, at_s: float, now: float) -> list[Event]:
        """A key frame is where layers are changed and segments begin."""
        track = self._tracks[index]
        assert track is not None
        picture = self._described(track, frame)
        if picture is None:
            return []
        current = self._tracks[self._current] if self._current is not None else None
        if index != self._current:
            least_px = 0
            if current is not None and current.picture is not None and current.sending(now):
                least_px = current.picture.area
            if picture.area <= least_px:
                return []
            self._current = index
        begun = self._begun
        if begun is not None and begun.picture == picture and at_s - begun.at_s < self._segment_s:
            return []
        return self._begin(at_s, picture, now - frame.arrival, now)

    def _deserted(self, index: int, track: RecordedTrack, now: float) -> bool:
        """Whether the layer should take the place of one that has ceased."""
        if not track.sending(now) or index == self._current or self._held_back:
            return False
        current = self._tracks[self._current] if self._current is not None else None
        return current is None or not current.sending(now)

    def _begin(self, at_s: float, picture: Picture | None, age_s: float, now: float) -> list[Event]:
        events = self._end_before()
        if self._begun is not None:
            # Sound from before the key frame may still be on its way.
            self._open_before = (self._begun.segment, now + OVERLAP_S)
        self._segment += 1
        sound = any(track is not None and track.kind == "audio" for track in self._tracks)
        self._begun = Begin(self._segment, at_s, age_s, picture, sound)
        events.append(self._begun)
        return events

    def _end_before(self) -> list[Event]:
        if self._open_before is None:
            return []
        segment, self._open_before = self._open_before[0], None
        return [End(segment)]

    def _sound(self, frame: CodedFrame, at_s: float, now: float) -> list[Event]:
        """A packet of sound, and silence for what is missing before it."""
        length_s = opus.duration_s(frame.data)
        if not length_s:
            return []
        events: list[Event] = []
        begun = self._begun
        long = begun is not None and at_s - begun.at_s >= self._segment_s
        if begun is None or (begun.picture is None and long):
            events += self._begin(at_s, None, now - frame.arrival, now)
        end_s = self._sound_end_s
        if end_s is None and self._begun is not None and at_s - self._begun.at_s < HOLD_S:
            end_s = self._begun.at_s  # many players take each track's first frame for its zero
        if end_s is not None:
            if at_s - end_s <= -GAP_S:
                return events  # the publisher's clock goes slower than its sound: leave one out
            if at_s - end_s > MAX_GAP_S:
                end_s = at_s
            while at_s - end_s >= GAP_S:
                events += self._sound_packet(opus.silence(frame.data), end_s)
                end_s += GAP_S
        events += self._sound_packet(frame.data, at_s)
        self._sound_end_s = (at_s if end_s is None else end_s) + length_s
        return events

    def _sound_packet(self, data: bytes, at_s: float) -> list[Event]:
        begun = self._begun
        assert begun is not None
        segment = begun.segment
        if at_s < begun.at_s:
            if self._open_before is None:
                return []
            segment = self._open_before[0]
            return self._media(segment, "audio", data, at_s, True)
        return [*self._end_before(), *self._media(segment, "audio", data, at_s, True)]

    def _media(
        self, segment: int, kind: Kind, data: bytes, at_s: float, keyframe: bool
    ) -> list[Event]:
        key = (segment, kind)
        last_s = self._last_s.get(key)
        if last_s is None:
            # Of earlier segments nothing more is needed but the one before.
            self._last_s = {k: v for k, v in self._last_s.items() if k[0] >= segment - 1}
        elif at_s <= last_s:
            at_s = last_s + 0.001
        self._last_s[key] = at_s
        return [Media(segment, kind, data, at_s, keyframe)]
