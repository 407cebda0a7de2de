"""The recording process and a worker as real processes: a pipe in, a pipe out, files, and kills."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from streamer import control, rtcp
from streamer import recording_control as recording
from streamer.dtls import generate_identity
from streamer.muxer import Note, read_note
from streamer.pipe import frame_packet
from tests.streamer import coded, recorded
from tests.streamer.coded import Sender, track

SECONDS = 3
SPEED = 3  # the film runs so much faster than it was taken, to save time


class Child:
    """A process of ours with its control socket."""

    def __init__(self, module: str, settings: msgspec.Struct, decoder: Any) -> None:
        self.module, self.settings, self.decoder = module, settings, decoder
        self.news: list[Any] = []
        self._replies: dict[int, asyncio.Future[Any]] = {}
        self._last_id = 0

    async def start(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self.process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", self.module, "--fd", str(theirs.fileno())),
                pass_fds=(theirs.fileno(),),
            )
        self._reader, self._writer = await asyncio.open_unix_connection(sock=ours)
        self._writer.write(control.frame(self.settings))
        self._reading = asyncio.create_task(self._read())
        await until(lambda: bool(self.news))

    async def _read(self) -> None:
        try:
            while True:
                head = await self._reader.readexactly(control.LENGTH.size)
                body = await self._reader.readexactly(control.LENGTH.unpack(head)[0])
                message = self.decoder.decode(body)
                future = self._replies.pop(getattr(message, "request_id", 0), None)
                if future is not None:
                    future.set_result(message)
                else:
                    self.news.append(message)
        except (asyncio.IncompleteReadError, ConnectionError):
            return

    async def ask(self, kind: Callable[..., Any], **fields: object) -> Any:
        self._last_id += 1
        future = self._replies[self._last_id] = asyncio.get_running_loop().create_future()
        self._writer.write(control.frame(kind(request_id=self._last_id, **fields)))
        async with asyncio.timeout(10):
            return await future

    async def end(self) -> None:
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()
        self._reading.cancel()
        self._writer.close()

    @property
    def notes(self) -> list[Note]:
        return [m.note for m in self.news if isinstance(m, recording.SegmentChanged)]


async def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - what is awaited has no event
            await asyncio.sleep(0.02)


@pytest_asyncio.fixture
async def recorder() -> AsyncIterator[Child]:
    child = Child(
        "streamer.recording_process",
        recording.RecorderSettings(log_level="WARNING"),
        recording.from_recorder_decoder,
    )
    await child.start()
    yield child
    await child.end()


@pytest_asyncio.fixture
async def worker() -> AsyncIterator[Child]:
    certificate, key = generate_identity()
    settings = control.WorkerSettings(
        worker=0,
        binds=[control.Address("127.0.0.1", 0)],
        announce=["127.0.0.1"],
        certificate_pem=certificate,
        key_pem=key,
    )
    child = Child("streamer.worker", settings, control.from_worker_decoder)
    await child.start()
    yield child
    await child.end()


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Short, because the path of a socket is."""
    return tmp_path_factory.mktemp("rec")


async def send(path: Path, codec: str, seconds: float = SECONDS) -> asyncio.StreamWriter:
    """Publish a film with sound into a pipe as time passes, with reports."""
    _, writer = await asyncio.open_unix_connection(str(path))
    ears, eyes = Sender("opus", 0), Sender(codec, 1)
    frames = coded.pictures(codec, 25 * SECONDS)
    items = [*coded.film(codec, frames, 1, sender=eyes)]
    items += coded.talk(coded.sound(50 * SECONDS), 0, sender=ears)
    items = [item for item in items if item[0] < seconds]
    loop = asyncio.get_running_loop()
    start = loop.time()
    reported = -1
    for at_s, packets in sorted(items, key=lambda item: item[0]):
        await asyncio.sleep(max(0.0, start + at_s / SPEED - loop.time()))
        if int(at_s * 5) > reported:
            reported = int(at_s * 5)
            for sender in (ears, eyes):
                body = rtcp.sender_report(
                    sender.index,
                    int((3.9e9 + at_s) * 2**32),
                    sender.timestamp(at_s),
                    0,
                    0,
                    "test",
                )
                writer.write(len(body).to_bytes(2, "big") + body)
        for packet in packets:
            writer.write(frame_packet(packet, packet.ssrc))
        await writer.drain()
    return writer


async def record(
    recorder: Child, folder: Path, codec: str, *, path: str, name: str = "a" * 16
) -> None:
    done = await recorder.ask(
        recording.OpenRecording,
        recording_id=name,
        path=path,
        folder=str(folder / "l_lesson"),
        stream="camera",
        tracks=[track("opus"), track(codec)],
    )
    assert isinstance(done, recording.Done), done


@pytest.mark.parametrize("codec", ["vp8", "h264"])
async def test_what_a_worker_gets_ends_up_in_a_file(
    recorder: Child, worker: Child, folder: Path, codec: str
) -> None:
    tracks = [track("opus"), track(codec)]
    source = str(folder / "in")
    done = await worker.ask(
        control.OpenPipeIn, pipe_id="in", output_id="o", path=source, tracks=tracks
    )
    assert isinstance(done, control.Done), done
    sending = asyncio.create_task(send(Path(source), codec))
    await until(lambda: any(isinstance(m, control.OutputChanged) for m in worker.news))
    await record(recorder, folder, codec, path=str(folder / "out"))
    done = await worker.ask(
        control.OpenPipeOut, pipe_id="out", output_id="o", path=str(folder / "out")
    )
    assert isinstance(done, control.Done), done
    writer = await sending
    writer.close()  # the publisher goes, so the pipe to the recorder ends
    await until(lambda: any(isinstance(m, recording.RecordingEnded) for m in recorder.news))
    note = recorder.notes[-1]
    assert note.state == "complete"
    path = folder / "l_lesson" / note.file
    found = recorded.probe(path)
    # The picture begins with the first key frame after the pipe was opened: one comes every second.
    assert found["frames"]["video"] in [25 * n for n in range(1, SECONDS + 1)]
    assert found["frames"]["audio"] == pytest.approx(50 * note.duration_s, abs=3)


@pytest.mark.parametrize("codec", ["vp8", "h264"])
async def test_a_killed_process_leaves_files_that_play(
    recorder: Child, folder: Path, codec: str
) -> None:
    await record(recorder, folder, codec, path=str(folder / "p"))
    writer = await send(folder / "p", codec, seconds=2.5)
    await until(lambda: bool(recorder.notes) and recorder.notes[-1].duration_s >= 1.0)
    os.kill(recorder.process.pid, signal.SIGKILL)
    await recorder.process.wait()
    writer.close()
    path = folder / "l_lesson" / recorder.notes[-1].file
    found = recorded.probe(path)
    assert found["frames"]["video"] >= 22
    assert found["frames"]["audio"] >= 45
    note = read_note(path)
    assert note is not None
    assert note.state == "recording"


async def test_draining_finishes_the_files(recorder: Child, folder: Path) -> None:
    await record(recorder, folder, "vp8", path=str(folder / "p"))
    writer = await send(folder / "p", "vp8", seconds=1.0)
    done = await recorder.ask(recording.Drain)
    assert isinstance(done, recording.Done)
    assert await recorder.process.wait() == 0
    writer.close()
    (path,) = (folder / "l_lesson").glob("*.webm")
    note = read_note(path)
    assert note is not None
    assert note.state == "complete"
    assert recorded.probe(path)["frames"]["video"] >= 20
    assert path.stat().st_mode & 0o077 == 0  # nobody else reads what children may be seen in


async def test_without_the_control_process_it_finishes_and_ends(
    recorder: Child, folder: Path
) -> None:
    await record(recorder, folder, "vp8", path=str(folder / "p"))
    writer = await send(folder / "p", "vp8", seconds=1.0)
    recorder._writer.close()
    assert await recorder.process.wait() == 0
    writer.close()
    (path,) = (folder / "l_lesson").glob("*.webm")
    assert recorded.probe(path)["length_s"] is not None


async def test_what_cannot_be_recorded_is_refused_with_the_reason(
    recorder: Child, folder: Path
) -> None:
    await record(recorder, folder, "vp8", path=str(folder / "p"))
    fields: dict[str, object] = {
        "recording_id": "b",
        "path": str(folder / "q"),
        "folder": str(folder),
        "stream": "camera",
        "tracks": [],
    }
    for change, word in (
        ({"recording_id": "a" * 16}, "recording_id"),
        ({"segment_s": 0.0}, "segment_s"),
        ({"path": str(folder / ("x" * 200))}, "path"),
    ):
        failed = await recorder.ask(recording.OpenRecording, **(fields | change))
        assert isinstance(failed, recording.Failed)
        assert word in failed.detail
    assert isinstance(
        await recorder.ask(recording.CloseRecording, recording_id="none"), recording.Done
    )


async def test_garbage_on_a_pipe_ends_that_recording_only(recorder: Child, folder: Path) -> None:
    await record(recorder, folder, "vp8", path=str(folder / "p"))
    await record(recorder, folder, "vp8", path=str(folder / "q"), name="b" * 16)
    _, garbage = await asyncio.open_unix_connection(str(folder / "p"))
    garbage.write(b"\xff" * 4000)
    await until(lambda: any(isinstance(m, recording.RecordingEnded) for m in recorder.news))
    garbage.close()
    writer = await send(folder / "q", "vp8", seconds=1.0)
    writer.close()
    await until(lambda: bool(recorder.notes) and recorder.notes[-1].state == "complete")
