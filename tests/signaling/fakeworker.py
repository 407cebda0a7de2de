"""A worker without media: the real channel, canned answers. Run as a module like the real one.

What it does is steered by the offer: a line `a=fake:KEY` makes it refuse, die, hang, or send
notifications, so that a test needs no second channel to it.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import sys
import time
from pathlib import Path

import msgspec

from streamer import control

ANSWER = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=ice-lite\r\n"
TRACKS = [
    control.PipedTrack(kind="audio", codec="opus", clock_rate=48000, channels=2, payload_type=111),
    control.PipedTrack(kind="video", codec="vp8", clock_rate=90000, channels=1, payload_type=96),
]


def note(request: msgspec.Struct) -> None:
    """Write down what was asked, for tests that name a file for it."""
    path = os.environ.get("FAKE_LOG")
    if path:
        with Path(path).open("ab") as file:
            file.write(msgspec.json.encode(request) + b"\n")


class FakeWorker:
    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.sessions: dict[str, tuple[str, bool]] = {}
        self.etags: dict[str, int] = {}
        self.forwarded = 0
        self.generation = 0

    def read(self) -> bytes:
        head = self._exactly(control.LENGTH.size)
        return self._exactly(control.LENGTH.unpack(head)[0])

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            chunk = self.sock.recv(size - len(data))
            if not chunk:
                raise EOFError
            data += chunk
        return data

    def send(self, *messages: control.AnyReply | control.AnyNotification) -> None:
        self.sock.sendall(b"".join(control.frame(message) for message in messages))

    def run(self) -> None:
        settings = control.settings_decoder.decode(self.read())
        if settings.announce == ["192.0.2.66"]:  # an address a test uses for "dies at once"
            sys.exit(1)
        self.settings = settings
        self.send(
            control.Ready(worker=settings.worker, pid=os.getpid(), candidates=["candidate:1 …"])
        )
        while True:
            request = control.request_decoder.decode(self.read())
            self.handle(request)
            if isinstance(request, control.Drain):
                return

    def handle(self, request: control.AnyRequest) -> None:
        number = request.request_id
        match request:
            case control.OpenPublisher() | control.OpenReceiver():
                self.open(request)
            case control.PatchSession():
                self.patch(request)
            case control.CloseSession():
                if request.session_id in self.sessions:
                    self.close(request.session_id, request.reason)
                    self.send(control.Done(request_id=number))
                else:
                    self.send(control.Failed(request_id=number, code="no-such-session", detail=""))
            case control.CloseOutput():
                for session_id, (output, _) in list(self.sessions.items()):
                    if output == request.output_id:
                        self.close(session_id, request.reason)
                self.send(control.Done(request_id=number))
            case control.GetStats():
                self.send(self.stats(number, request.sessions))
            case (
                control.MoveReceiver()
                | control.LimitPublisher()
                | control.OpenPipeIn()
                | control.OpenPipeOut()
                | control.ClosePipe()
            ):
                note(request)
                self.send(control.Done(request_id=number))
            case control.Drain():
                self.send(control.Done(request_id=number))

    def open(self, request: control.OpenPublisher | control.OpenReceiver) -> None:
        number, session_id, output = request.request_id, request.session_id, request.output_id
        if "a=fake:die" in request.offer:
            os.kill(os.getpid(), signal.SIGKILL)
        if "a=fake:hang" in request.offer:
            time.sleep(3600)
        if "a=fake:full" in request.offer:
            self.send(control.Failed(request_id=number, code="too-many-sessions", detail="full"))
            return
        if not request.offer.startswith("v=0"):
            self.send(
                control.Failed(
                    request_id=number, code="invalid-sdp", field="v=", detail="expected v=0"
                )
            )
            return
        publisher = isinstance(request, control.OpenPublisher)
        if publisher:
            for other, (at, publishes) in list(self.sessions.items()):
                if at == output and publishes:
                    self.close(other, "replaced")
        self.sessions[session_id] = (output, publisher)
        self.etags[session_id] = 1
        self.send(control.Opened(request_id=number, answer=ANSWER, etag=f"{session_id}-1"))
        if "a=fake:silent" in request.offer:
            return
        self.send(
            control.SessionChanged(session_id=session_id, output_id=output, state="connected")
        )
        if publisher:
            self.generation += 1
            self.send(
                control.OutputChanged(
                    output_id=output, live=True, generation=self.generation, tracks=TRACKS
                )
            )
        else:
            self.send(control.FirstKeyframe(session_id=session_id, after_s=0.2))
        if "a=fake:lost" in request.offer:
            self.close(session_id, "consent-expired")

    def close(self, session_id: str, reason: str) -> None:
        output, publisher = self.sessions.pop(session_id)
        self.send(
            control.SessionChanged(
                session_id=session_id, output_id=output, state="closed", reason=reason
            )
        )
        if publisher and reason != "replaced":
            self.send(control.OutputChanged(output_id=output, live=False))

    def patch(self, request: control.PatchSession) -> None:
        number, session_id = request.request_id, request.session_id
        if session_id not in self.sessions:
            self.send(control.Failed(request_id=number, code="no-such-session", detail="gone"))
            return
        tag = f"{session_id}-{self.etags[session_id]}"
        if request.if_match == "*":
            self.etags[session_id] += 1
            tag = f"{session_id}-{self.etags[session_id]}"
            fragment = "a=ice-ufrag:new\r\na=ice-pwd:newnewnewnewnewnewnewnew\r\n"
            self.send(control.Patched(request_id=number, etag=tag, fragment=fragment))
        elif request.if_match == tag:
            self.send(control.Patched(request_id=number, etag=tag))
        else:
            self.send(control.Failed(request_id=number, code="stale-etag", detail="stale"))

    def stats(self, number: int, sessions: bool) -> control.Stats:
        self.forwarded += 100
        return control.Stats(
            request_id=number,
            worker=self.settings.worker,
            cpu_seconds=1.5,
            rss_bytes=1000,
            counters=control.Counters(
                rtp_packets_received=10,
                rtp_packets_forwarded=self.forwarded,
                nacks_received=3,
                nacks_sent=4,
                drops={"stun-rejected": 2},
            ),
            forward_delay_s=control.Histogram(bounds=[0.001, 0.01], counts=[5, 2, 1], sum=0.03),
            sessions=[
                control.SessionStats(
                    session_id=session_id,
                    output_id=output,
                    role="publisher" if publisher else "receiver",
                    state="connected",
                )
                for session_id, (output, publisher) in self.sessions.items()
                if sessions
            ],
        )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--fd", type=int, required=True)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        FakeWorker(socket.socket(fileno=parser.parse_args().fd)).run()
    except (EOFError, ConnectionError):
        sys.exit(0)


if __name__ == "__main__":
    main()
