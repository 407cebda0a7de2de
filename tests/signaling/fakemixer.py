"""A mixer without media: the real channel, `Done` to everything, and a file of what it was asked.

It dies on `CloseLesson` of the lesson "die", hangs on that of "hang", and refuses the layout "pip".
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import sys
import time

from mixer import control
from tests.signaling.fakeworker import note


class FakeMixer:
    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock

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

    def send(self, message: control.AnyReply | control.AnyNotification) -> None:
        self.sock.sendall(control.frame(message))

    def run(self) -> None:
        settings = control.settings_decoder.decode(self.read())
        self.send(control.Ready(mixer=settings.mixer, pid=os.getpid()))
        while True:
            request = control.request_decoder.decode(self.read())
            if not isinstance(request, control.GetStats):
                note(request)
            self.answer(request)
            if isinstance(request, control.Drain):
                return

    def answer(self, request: control.AnyRequest) -> None:
        number = request.request_id
        match request:
            case control.CloseLesson(lesson_id="die"):
                os.kill(os.getpid(), signal.SIGKILL)
            case control.CloseLesson(lesson_id="hang"):
                time.sleep(3600)
            case control.SetLayout(layout="pip"):
                self.send(
                    control.Failed(
                        request_id=number, code="absent-stream", field="layout", detail="no child"
                    )
                )
            case control.GetStats():
                self.send(
                    control.Stats(
                        request_id=number, mixer=0, cpu_seconds=1.0, rss_bytes=1, lessons=[]
                    )
                )
            case control.AddOutput(lesson_id=lesson, output="wall"):
                self.send(control.Done(request_id=number))
                self.send(control.WallChanged(lesson_id=lesson, width=1280, height=720, tiles=[]))
                self.send(control.Levels(lesson_id=lesson, seats={"s": -20.0}, teacher=-30.0))
                self.send(control.HowlRound(lesson_id=lesson, seat="s", frequency_hz=2000.4))
            case _:
                self.send(control.Done(request_id=number))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--fd", type=int, required=True)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        FakeMixer(socket.socket(fileno=parser.parse_args().fd)).run()
    except (EOFError, ConnectionError):
        sys.exit(0)


if __name__ == "__main__":
    main()
