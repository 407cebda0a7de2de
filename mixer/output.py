"""One output of a lesson: a pipe to a worker with its RTP streams and their reports."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import time

from . import control
from .errors import RefusedError
from .links import OutputLink
from .packetize import RtpStream


class Output:
    """An `AddOutput` come to life. Raises RefusedError when it cannot be opened."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        request: control.AddOutput,
        on_keyframe: Callable[[Output], None],
        on_closed: Callable[[Output], None],
    ) -> None:
        self.kind, self.seat = control.output_kind(request.output)
        self.name = request.output
        self.picture = _picture(request)
        self.audio = self.kind != "wall"
        self.audio_kbps = request.audio_kbps
        self.mix = ""  # which of the lesson's mixes it carries
        self.audio_stream: RtpStream | None = None
        self.video_stream: RtpStream | None = None
        tracks = control.output_tracks(request.output, request.video_codec)
        for number, track in enumerate(tracks):
            stream = RtpStream(track.payload_type, track.clock_rate, ssrc=number)
            if track.kind == "audio":
                self.audio_stream = stream
            else:
                self.video_stream = stream
        try:
            self._link = OutputLink(
                loop, request.path, lambda: on_keyframe(self), lambda: on_closed(self)
            )
        except OSError as error:
            raise RefusedError("pipe", "path", f"nobody listens there: {error}") from None

    def send_sound(self, packet: bytes, media_s: float) -> None:
        if self.audio_stream is not None:
            self._link.write(self.audio_stream.sound(packet, media_s))

    def send_picture(self, data: bytes) -> bool:
        """Framed packets of one picture; False when they were dropped."""
        return self._link.write(data)

    def send_reports(self, media_s: float) -> None:
        """Both tracks' reports name the same instant, so that receivers bring them together."""
        unix_s = time()
        for stream in (self.audio_stream, self.video_stream):
            if stream is not None and stream.packets:
                self._link.write(stream.report(media_s, unix_s))

    def stats(self, figures: tuple[int, int, float, float]) -> control.OutputStats:
        frames, keyframes, fps, delay_s = figures
        streams = [s for s in (self.audio_stream, self.video_stream) if s is not None]
        return control.OutputStats(
            output=self.name,
            packets=sum(stream.packets for stream in streams),
            bytes=sum(stream.octets for stream in streams),
            dropped=self._link.dropped,
            frames=frames,
            keyframes=keyframes,
            fps=round(fps, 1),
            delay_ms=round(delay_s * 1000, 1),
        )

    def close(self) -> None:
        self._link.close()


def _picture(request: control.AddOutput) -> control.Picture | None:
    """The picture's size and rate, with defaults filled in and bounds kept."""
    default = control.DEFAULT_PICTURES.get(request.output)
    if not 6 <= request.audio_kbps <= 256:
        raise RefusedError("invalid", "audio_kbps", "6 to 256 are accepted")
    if default is None:
        return None
    picture = control.Picture(
        request.width or default.width,
        request.height or default.height,
        request.fps or default.fps,
        request.video_kbps or default.kbps,
    )
    low, high = control.MIN_PICTURE, control.MAX_PICTURE
    for field in ("width", "height", "fps", "kbps"):
        value, least, most = (getattr(p, field) for p in (picture, low, high))
        if not least <= value <= most:
            name = "video_kbps" if field == "kbps" else field
            raise RefusedError("invalid", name, f"{value}: {least} to {most} are accepted")
        if field in ("width", "height") and value % 2:
            raise RefusedError("invalid", field, f"{value}: even numbers are accepted")
    return picture
