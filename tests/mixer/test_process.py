"""The real mixer process with classrooms on real sockets: who sees what, who hears whom.

Nothing here judges speed: on a busy machine frames come late, so each test waits for what must
become true.
"""

from __future__ import annotations

import asyncio
import itertools
import signal
from collections.abc import Awaitable, Callable

import numpy as np
import pytest

from mixer import control, layouts
from tests.mixer import harness
from tests.mixer.harness import Classroom, MixerProcess, Receiver, running_mixer

COLOURS = {"a": (210, 60, 40), "b": (50, 190, 60), "c": (40, 60, 210)}
TONES = {"a": 500.0, "b": 800.0, "c": 1300.0, "": 2000.0}
PATIENCE_S = 60.0
SOUND_S = 1.5

pytestmark = pytest.mark.timeout(180)


def classroom(seat: str, **fields: object) -> Classroom:
    number = "abc".index(seat) + 1
    video = harness.still("vp8", COLOURS[seat], number, 320, 180, 15)
    room = Classroom(
        seat, video, harness.opus_packets(harness.tone(TONES[seat])), name=f"教室{number}"
    )
    for name, value in fields.items():
        setattr(room, name, value)
    return room


def teacher() -> Classroom:
    video = harness.still("h264", (40, 160, 160), 9, 640, 360, 25)
    sound = harness.opus_packets(harness.tone(TONES[""]))
    return Classroom("", video, sound, codec=harness.H264, fps=25)


async def eventually(test: Callable[[], bool], what: str) -> None:
    """Wait until it is true; what a busy machine delays is late, not wrong."""
    for _ in range(int(PATIENCE_S / 0.5)):
        if test():
            return
        await asyncio.sleep(0.5)
    raise AssertionError(f"never: {what}")


def colour_at(image: harness.BgrImage, rect: layouts.Rect | control.Tile) -> tuple[int, ...]:
    # Left of the number, right of the middle of the tile's edge.
    x, y = rect.x + rect.width // 6, rect.y + rect.height // 3
    patch = image[y - 4 : y + 4, x - 4 : x + 4].reshape(-1, 3)
    return tuple(int(value) for value in patch.mean(axis=0))


def close(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    return max(abs(x - y) for x, y in zip(a, b, strict=True)) < 30


def hears(receiver: Receiver, present: str, absent: str) -> bool:
    """Whether the last of the sound has these seats' tones (empty string: the teacher's)."""
    sound = receiver.sound(SOUND_S)
    if len(sound) < SOUND_S * harness.RATE_HZ:
        return False
    levels = dict(zip(TONES, harness.tone_levels(sound, list(TONES.values())), strict=True))
    there = [levels[seat if seat != "T" else ""] for seat in present]
    away = [levels[seat if seat != "T" else ""] for seat in absent]
    return min(there, default=0.0) > -45 and max(away, default=-99.0) < -60


async def full_lesson(mixer: MixerProcess) -> dict[str, Classroom]:
    rooms = {seat: classroom(seat) for seat in "abc"}
    rooms[""] = teacher()
    await mixer.add_classroom("L", rooms[""], "teacher")
    for seat in "abc":
        await mixer.add_classroom("L", rooms[seat])
    return rooms


async def in_mixer(body: Callable[[MixerProcess], Awaitable[None]]) -> None:
    async with running_mixer() as mixer:
        await body(mixer)
    assert mixer.process.returncode == 0


async def test_the_wall_shows_the_right_colours_in_the_right_tiles() -> None:
    async with running_mixer() as mixer:
        await full_lesson(mixer)
        wall = await mixer.add_receiver("L", "wall", width=640, height=360)
        told = await mixer.notified(lambda m: isinstance(m, control.WallChanged))
        assert [tile.seat for tile in told.tiles] == ["a", "b", "c"]

        def right() -> bool:
            images = wall.pictures()
            return bool(images) and all(
                close(colour_at(images[-1], tile), COLOURS[tile.seat]) for tile in told.tiles
            )

        await eventually(right, "all three colours in their tiles")
        assert wall.pictures()[-1].shape == (360, 640, 3)
    assert mixer.process.returncode == 0


async def test_everybody_hears_everybody_but_itself() -> None:
    async with running_mixer() as mixer:
        await full_lesson(mixer)
        outputs = {
            name: await mixer.add_receiver("L", name)
            for name in ("class", "class~a", "class~b", "class~c", "teacher-mix")
        }
        await eventually(lambda: hears(outputs["class"], "T", "abc"), "the teacher alone")
        await mixer.ask(control.SetFloor, lesson_id="L", seats=["a", "b"])
        expected = {
            "class": ("Tab", "c"),
            "class~a": ("Tb", "ac"),
            "class~b": ("Ta", "bc"),
            "class~c": ("Tab", "c"),
            "teacher-mix": ("ab", "Tc"),
        }
        for name, (present, absent) in expected.items():
            receiver = outputs[name]
            await eventually(
                lambda r=receiver, p=present, a=absent: hears(r, p, a),  # type: ignore[misc]
                f"{name} hears {present} and not {absent}",
            )
        stats = await mixer.ask(control.GetStats)
        assert stats.lessons[0].encoders == 4  # shared, two mix-minus, the returns

        await mixer.ask(control.SetFloor, lesson_id="L", seats=["a"], all_answer=True)
        for name, present, absent in (
            ("class~c", "Tab", "c"),
            ("class", "Ta", "bc"),
            ("teacher-mix", "abc", "T"),
        ):
            receiver = outputs[name]
            await eventually(
                lambda r=receiver, p=present, a=absent: hears(r, p, a),  # type: ignore[misc]
                f"all answer: {name} hears {present} and not {absent}",
            )
        await mixer.ask(control.MuteSeat, lesson_id="L", seat="b")
        await eventually(lambda: hears(outputs["class~c"], "Ta", "bc"), "b is muted")


async def test_the_stage_follows_the_floor_and_the_teachers_choice() -> None:
    async with running_mixer() as mixer:
        await full_lesson(mixer)
        stage = await mixer.add_receiver("L", "stage", width=640, height=360)
        whole = layouts.Rect(0, 0, 640, 360)

        def shows(seat: str, rect: layouts.Rect) -> bool:
            images = stage.pictures()
            wanted = COLOURS.get(seat, (40, 160, 160))
            return bool(images) and close(colour_at(images[-1], rect), wanted)

        await eventually(lambda: shows("", whole), "the teacher alone")
        refused = await mixer.ask(control.SetLayout, lesson_id="L", layout="pip")
        assert (refused.code, refused.field) == ("absent-stream", "layout")
        await mixer.ask(control.SetFloor, lesson_id="L", seats=["b"])
        cut = await mixer.notified(lambda m: isinstance(m, control.DirectorCut) and m.seat == "b")
        assert cut.layout in ("side-by-side", "pip")
        await mixer.ask(control.SetLayout, lesson_id="L", layout="side-by-side")
        left, right = layouts.grid(2, whole)
        await eventually(lambda: shows("", left) and shows("b", right), "teacher and b")
        await mixer.ask(control.SetLayout, lesson_id="L", layout="pip")
        await eventually(lambda: shows("b", whole), "b large")
        await eventually(lambda: hears(stage, "Tb", "ac"), "the stage's sound")
        # Sound and picture name the same instant in their reports.
        await eventually(lambda: len(stage.reports) >= 4, "sender reports")
        assert len({report.ssrc for report in stage.reports}) == 2
        assert len({report.ntp for report in stage.reports[-2:]}) == 1


async def test_a_key_frame_comes_on_request_and_for_whom_joins_late() -> None:
    async with running_mixer() as mixer:
        await mixer.add_classroom("L", classroom("a"))
        wall = await mixer.add_receiver("L", "wall", width=320, height=180)
        await eventually(lambda: len(wall.pictures()) > 3, "a running wall")
        await asyncio.sleep(1.0)
        wall.clear()
        await asyncio.sleep(1.0)
        assert not wall.pictures()  # no key frame yet: nothing can be decoded
        await wall.ask_keyframe()
        await eventually(lambda: bool(wall.pictures()), "pictures after the key frame")


async def test_odd_cameras_all_mix() -> None:
    """An odd size, one turned by 90 degrees at one frame a second, and 8 kHz stereo sound."""
    async with running_mixer() as mixer:
        odd = classroom("a", video=harness.still("vp8", COLOURS["a"], 1, 322, 182, 15))
        slow = classroom("b", fps=1.0, rotation=1)
        sound = harness.tone(TONES["c"])[::6]
        narrow = classroom("c", audio=harness.opus_packets(sound, channels=2, rate_hz=8_000))
        for room in (odd, slow, narrow):
            await mixer.add_classroom("L", room)
        await mixer.ask(control.SetFloor, lesson_id="L", seats=["c"])
        wall = await mixer.add_receiver("L", "wall", width=640, height=360)
        klass = await mixer.add_receiver("L", "class")
        told = await mixer.notified(lambda m: isinstance(m, control.WallChanged))

        def right() -> bool:
            images = wall.pictures()
            if not images:
                return False
            first, second, third = told.tiles
            # The turned picture stands upright: bars at its sides.
            at = second.y + second.height // 3
            bar = images[-1][at, second.x + 10]
            upright = images[-1][at, second.x + second.width // 2 - 35]
            return (
                close(colour_at(images[-1], first), COLOURS["a"])
                and close(colour_at(images[-1], third), COLOURS["c"])
                and int(bar.max()) < 60
                and close(tuple(int(v) for v in upright), COLOURS["b"])
            )

        await eventually(right, "all three cameras on the wall")
        await eventually(lambda: hears(klass, "c", "ab"), "8 kHz sound in the mix")


async def test_a_classroom_that_goes_away_becomes_a_placeholder_and_may_come_back() -> None:
    async with running_mixer() as mixer:
        rooms = {seat: classroom(seat) for seat in "ab"}
        for room in rooms.values():
            await mixer.add_classroom("L", room)
        wall = await mixer.add_receiver("L", "wall", width=640, height=360)
        told = await mixer.notified(lambda m: isinstance(m, control.WallChanged))

        def shows(*seats: str) -> bool:
            images = wall.pictures()
            return bool(images) and all(
                close(colour_at(images[-1], tile), COLOURS[tile.seat]) == (tile.seat in seats)
                for tile in told.tiles
            )

        await eventually(lambda: shows("a", "b"), "both")
        await rooms["a"].leave()
        state = await mixer.notified(
            lambda m: isinstance(m, control.InputState) and m.state == "broken"
        )
        assert (state.seat, state.input_id) == ("a", "in-a")
        await eventually(lambda: shows("b"), "a placeholder for a, b as before")
        await mixer.add_classroom("L", classroom("a"))
        await eventually(lambda: shows("a", "b"), "both again")


async def test_a_broken_stream_has_a_placeholder_and_key_frames_are_asked_for() -> None:
    async with running_mixer() as mixer:
        rubbish = [[bytes((0x90, 0x80, 0x80, 1)) + bytes(range(200))] for _ in range(15)]
        room = classroom("a", video=rubbish)
        await mixer.add_classroom("L", room)
        await mixer.add_classroom("L", classroom("b"))
        wall = await mixer.add_receiver("L", "wall", width=640, height=360)
        state = await mixer.notified(
            lambda m: isinstance(m, control.InputState) and m.seat == "a", within_s=PATIENCE_S
        )
        assert state.state in ("broken", "stalled")
        assert room.keyframe_requests >= 2
        told = await mixer.notified(lambda m: isinstance(m, control.WallChanged))
        await eventually(
            lambda: any(
                close(colour_at(image, told.tiles[1]), COLOURS["b"]) for image in wall.pictures()
            ),
            "b undisturbed",
        )


async def test_levels_are_told_with_and_without_the_senders_help() -> None:
    async with running_mixer() as mixer:
        await mixer.add_classroom("L", classroom("a", audio_level_dbov=42))
        await mixer.add_classroom("L", classroom("b"))
        await mixer.add_receiver("L", "class")
        await mixer.notified(
            lambda m: (
                isinstance(m, control.Levels)
                and m.seats.get("a") == -42.0  # told by the sender: not decoded off the floor
                and abs(m.seats.get("b", 0.0) - -23.0) < 2.0  # measured
            ),
            within_s=PATIENCE_S,
        )


async def test_requests_that_make_no_sense_are_refused_and_change_nothing() -> None:
    async with running_mixer() as mixer:
        base = {"lesson_id": "L", "input_id": "i", "path": mixer.path("i")}
        tracks = [harness.AUDIO, harness.VP8]
        av1 = control.PipedTrack(
            kind="video", codec="av1", clock_rate=90_000, channels=1, payload_type=45
        )
        cases = [
            (control.AddInput, {**base, "role": "return", "tracks": tracks}, "invalid", "seat"),
            (
                control.AddInput,
                {**base, "role": "teacher", "seat": "x", "tracks": tracks},
                "invalid",
                "seat",
            ),
            (control.AddInput, {**base, "role": "teacher", "tracks": []}, "invalid", "tracks"),
            (control.AddInput, {**base, "role": "teacher", "tracks": [av1]}, "invalid", "tracks"),
            (
                control.AddInput,
                {**base, "path": "/nowhere/x", "role": "teacher", "tracks": tracks},
                "pipe",
                "path",
            ),
            (
                control.AddOutput,
                {"lesson_id": "L", "output": "camera", "path": "x"},
                "invalid",
                "output",
            ),
            (
                control.AddOutput,
                {"lesson_id": "L", "output": "wall", "path": mixer.path("nobody")},
                "pipe",
                "path",
            ),
            (
                control.AddOutput,
                {"lesson_id": "L", "output": "wall", "path": "x", "width": 641},
                "invalid",
                "width",
            ),
            (control.RemoveInput, {"lesson_id": "L", "input_id": "x"}, "no-such-input", "input_id"),
            (
                control.RemoveOutput,
                {"lesson_id": "L", "output": "wall"},
                "no-such-output",
                "output",
            ),
            (control.CloseLesson, {"lesson_id": "none"}, "no-such-lesson", "lesson_id"),
        ]
        for make, fields, code, field in cases:
            reply = await mixer.ask(make, **fields)
            assert isinstance(reply, control.Failed), (make, fields)
            assert (reply.code, reply.field) == (code, field), reply
            assert reply.detail
        stats = await mixer.ask(control.GetStats)
        assert all(not lesson.inputs and not lesson.outputs for lesson in stats.lessons)


async def test_lessons_in_one_process_do_not_mix() -> None:
    async with running_mixer() as mixer:
        for lesson, seat in (("one", "a"), ("two", "b")):
            await mixer.add_classroom(lesson, classroom(seat))
            await mixer.ask(control.SetFloor, lesson_id=lesson, seats=["a", "b"])
        one = await mixer.add_receiver("one", "class")
        two = await mixer.add_receiver("two", "class")
        await eventually(lambda: hears(one, "a", "bc"), "lesson one hears a alone")
        await eventually(lambda: hears(two, "b", "ac"), "lesson two hears b alone")
        await mixer.ask(control.CloseLesson, lesson_id="one")
        await asyncio.wait_for(one.ended.wait(), PATIENCE_S)
        two.clear()
        await eventually(lambda: hears(two, "b", "ac"), "lesson two goes on")


async def test_an_output_whose_worker_dies_is_told_and_the_others_go_on() -> None:
    async with running_mixer() as mixer:
        await mixer.add_classroom("L", teacher(), "teacher")
        dying = await mixer.add_receiver("L", "class")
        living = await mixer.add_receiver("L", "stage", width=320, height=180)
        await eventually(lambda: len(dying.packets) > 5, "sound")
        await dying.close()
        told = await mixer.notified(lambda m: isinstance(m, control.OutputBroken))
        assert told.output == "class"
        living.clear()
        await eventually(lambda: hears(living, "T", "abc"), "the stage goes on")


async def test_sound_has_no_holes_in_its_numbering_and_time() -> None:
    async with running_mixer() as mixer:
        await mixer.add_classroom("L", teacher(), "teacher")
        klass = await mixer.add_receiver("L", "class")
        await eventually(lambda: len(klass.packets) > 100, "two seconds of sound")
        packets = klass.packets[:100]
        for before, after in itertools.pairwise(packets):
            assert (after.seq - before.seq) & 0xFFFF == 1
            step = (after.timestamp - before.timestamp) & 0xFFFFFFFF
            # A machine that stood still for over 200 ms leaves whole frames out.
            assert step == 960 or (step % 960 == 0 and step > 9_600)


@pytest.mark.parametrize("number", [signal.SIGKILL])
async def test_a_killed_mixer_takes_nobody_with_it(number: signal.Signals) -> None:
    async with running_mixer() as mixer:
        room = classroom("a")
        await mixer.add_classroom("L", room)
        klass = await mixer.add_receiver("L", "class")
        mixer.process.send_signal(number)
        await asyncio.wait_for(klass.ended.wait(), PATIENCE_S)
        assert await mixer.process.wait() == -number
        await room.leave()


async def test_the_mixer_ends_when_its_control_process_is_gone() -> None:
    async with running_mixer() as mixer:
        await mixer.add_classroom("L", classroom("a"))
        await mixer.add_receiver("L", "wall", width=320, height=180)
        mixer._writer.close()
        assert await asyncio.wait_for(mixer.process.wait(), PATIENCE_S) == 0


def test_the_harness_tells_tones_apart() -> None:
    levels = harness.tone_levels(harness.tone(500, 0.1, 2.0), [500.0, 800.0])
    assert levels[0] == pytest.approx(-20, abs=0.5)
    assert levels[1] < -80
    assert np.isfinite(levels).all()
