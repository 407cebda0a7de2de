"""A stand-in for the server: the JSON, the events and the media of `docs/protocol.md` with canned
data, so that the pages can be looked at and tested without workers, caps or a store.

Media is real: each WHEP session is answered by aiortc with a generated picture and a tone, and each
WHIP session is drained. `FakeServer` is driven directly from the test that runs it.
"""

from __future__ import annotations

import asyncio
import contextlib
import fractions
import json
import re
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from aiohttp import WSMsgType, web
from aiortc import MediaStreamTrack, RTCPeerConnection, RTCSessionDescription, VideoStreamTrack
from aiortc.contrib.media import MediaBlackhole
from aiortc.mediastreams import MediaStreamError

WEB = Path(__file__).parents[2] / "clients" / "web"
CSP = "default-src 'self'; frame-ancestors 'none'; base-uri 'none'"
LESSON_ID = "l_fake"
CODE = "482913"
QR = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 21 21"><rect width="21" height="21" '
    'fill="#fff"/>{}</svg>'
)


class Picture(VideoStreamTrack):
    """A blackboard with a name on it and a moving dot, 640 × 360."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.count = 0

    async def recv(self) -> av.VideoFrame:
        pts, time_base = await self.next_timestamp()
        self.count += 1
        board = np.full((360, 640, 3), (60, 90, 30) if self.name == "camera" else (250, 250, 250))
        board = board.astype(np.uint8)
        ink = (255, 255, 255) if self.name == "camera" else (40, 40, 40)
        cv2.putText(board, self.name, (40, 180), cv2.FONT_HERSHEY_SIMPLEX, 3, ink, 6)
        cv2.circle(board, (40 + self.count * 4 % 560, 280), 24, (60, 200, 255), -1)
        frame = av.VideoFrame.from_ndarray(board, format="bgr24")
        frame.pts, frame.time_base = pts, time_base
        return frame


class Tone(MediaStreamTrack):
    """A quiet 440 Hz tone in 20 ms frames."""

    kind = "audio"

    def __init__(self) -> None:
        super().__init__()
        self.samples = 0
        self.began = time.monotonic()

    async def recv(self) -> av.AudioFrame:
        if self.readyState != "live":
            raise MediaStreamError
        due = self.began + self.samples / 48000
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        phase = (np.arange(960) + self.samples) * (2 * np.pi * 440 / 48000)
        wave = (np.sin(phase) * 6000).astype(np.int16).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(wave, format="s16", layout="mono")
        frame.sample_rate = 48000
        frame.pts, frame.time_base = self.samples, fractions.Fraction(1, 48000)
        self.samples += 960
        return frame


@dataclass
class FakeServer:
    """What the pages see; tests change it and call `tell` or `publish`."""

    lesson: dict[str, Any] = field(default_factory=lambda: make_lesson())
    seats: list[dict[str, Any]] = field(default_factory=list)
    county: dict[str, Any] | None = None  # an overview to show instead of the one lesson
    refuse_whep: tuple[int, dict[str, Any]] | None = None
    refuse_join: tuple[int, dict[str, Any]] | None = None
    config_errors: list[dict[str, Any]] = field(default_factory=list)
    heard: list[dict[str, Any]] = field(default_factory=list)
    posts: list[str] = field(default_factory=list)
    deletes: list[str] = field(default_factory=list)
    patches: list[str] = field(default_factory=list)
    joins: list[dict[str, Any]] = field(default_factory=list)
    floor: dict[str, Any] | None = None
    return_size: dict[str, Any] | None = None
    wall: dict[str, Any] | None = None
    exists: bool = False
    token_valid: bool = True
    csp: str = CSP
    port: int = 0
    _sockets: dict[web.WebSocketResponse, str] = field(default_factory=dict)
    _peers: set[RTCPeerConnection] = field(default_factory=set)
    _runner: web.AppRunner | None = None
    _packets: int = 0

    # --- life ---------------------------------------------------------------------------------

    async def start(self, port: int = 0) -> None:
        app = web.Application()
        app.router.add_get("/", self.page("index.html"))
        for path, name in {
            "/teach": "teach",
            "/join": "join",
            "/join/{code}": "join",
            "/ops": "ops",
        }.items():
            app.router.add_get(path, self.page(f"{name}/index.html"))
        app.router.add_static("/static", WEB)
        api = "/api/v1"
        lesson = f"{api}/lessons/{LESSON_ID}"
        app.router.add_get(f"{api}/hello", self.hello)
        app.router.add_get(f"{api}/me", self.me)
        app.router.add_post(f"{api}/join", self.join)
        app.router.add_get(f"{api}/lessons", self.list_lessons)
        app.router.add_post(f"{api}/lessons", self.create)
        app.router.add_get(lesson, self.read_lesson)
        app.router.add_delete(lesson, self.end)
        app.router.add_get(f"{lesson}/join.svg", self.qr)
        app.router.add_get(f"{lesson}/events", self.events)
        app.router.add_get(f"{api}/lessons/{{lesson}}/seats", self.list_seats)
        app.router.add_delete(f"{lesson}/seats/{{seat}}", self.release)
        app.router.add_patch(f"{lesson}/streams/{{stream}}", self.set_cap)
        app.router.add_get(f"{api}/stats", self.stats)
        app.router.add_get(f"{api}/ops/overview", self.overview)
        app.router.add_get(f"{api}/ops/sessions/{{session}}/series", self.series)
        app.router.add_post(f"{api}/ops/alarms/{{alarm}}/ack", self.acknowledge)
        app.router.add_get(f"{api}/ops/alarms", self.alarm_log)
        app.router.add_get(f"{api}/ops/config/history", self.config_history)
        app.router.add_post(f"{api}/ops/config/diff", self.config_diff)
        app.router.add_get(f"{api}/plan", self.plan)
        app.router.add_get(f"{api}/config/toml", self.config_text)
        app.router.add_put(f"{api}/config", self.save_config)
        for protocol in ("whip", "whep"):
            app.router.add_post(f"/{protocol}/{LESSON_ID}/{{stream}}", self.media)
            session = f"/{protocol}/{LESSON_ID}/{{stream}}/{{session}}"
            app.router.add_delete(session, self.close_media)
            app.router.add_patch(session, self.patch_media)
        app.on_response_prepare.append(self.harden)
        self._runner = web.AppRunner(app, shutdown_timeout=0.2)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", port)
        await site.start()
        assert site._server is not None
        self.port = site._server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]

    async def stop(self) -> None:
        await self.drop_media()
        await self.drop_sockets()
        if self._runner is not None:
            await self._runner.cleanup()

    async def drop_media(self) -> None:
        """As when a worker dies: every session is gone."""
        peers, self._peers = list(self._peers), set()
        await asyncio.gather(*(peer.close() for peer in peers))

    async def drop_sockets(self) -> None:
        for socket in list(self._sockets):
            await socket.close()

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def tell(self, message: dict[str, Any]) -> None:
        for socket in list(self._sockets):
            with contextlib.suppress(ConnectionError):
                await socket.send_json(message)

    async def publish(self) -> None:
        """Send the lesson and the seats to all sockets, as after any change."""
        await self.tell({"type": "lesson", "lesson": self.lesson})
        await self.tell({"type": "seats", "seats": self.seats})

    async def set_live(self, stream: str, live: bool = True) -> None:
        self.lesson["streams"][stream]["live"] = live
        if live:
            self.lesson["state"] = "live"
            self.lesson["started_at"] = self.lesson["started_at"] or time.time()
        await self.publish()

    async def set_floor(self, **changes: Any) -> None:
        """Change the floor, as after any action, and tell everybody."""
        self.floor = (self.floor or make_floor()) | changes
        await self.tell({"type": "floor", **self.floor})

    # --- handlers -----------------------------------------------------------------------------

    async def harden(self, _request: web.Request, response: web.StreamResponse) -> None:
        response.headers["Content-Security-Policy"] = self.csp

    def page(self, name: str) -> Any:
        async def serve(_request: web.Request) -> web.FileResponse:
            return web.FileResponse(WEB / name)

        return serve

    async def hello(self, _request: web.Request) -> web.Response:
        return web.json_response({"version": "0", "languages": ["zh-CN", "en"], "ice_servers": []})

    async def me(self, request: web.Request) -> web.Response:
        role = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if not self.token_valid or role not in ("teacher", "ops"):
            return problem(401, "invalid-token")
        return web.json_response(
            {"role": role, "lesson": None, "seat": None, "name": None, "exp": time.time() + 3600}
        )

    async def join(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.joins.append(body)
        if self.refuse_join is not None:
            status, members = self.refuse_join
            return problem(status, **members)
        if body["code"] != CODE:
            return problem(404, "unknown-join-code")
        seat = {"id": "s_1", "name": body["name"]}
        return web.json_response(
            {"token": "point", "seat": seat, "lesson": self.lesson}, status=201
        )

    async def list_lessons(self, _request: web.Request) -> web.Response:
        return web.json_response({"lessons": [self.lesson] if self.exists else []})

    async def create(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.exists = True
        self.lesson = make_lesson(title=body["title"], mode=body["mode"])
        return web.json_response(self.lesson, status=201)

    async def read_lesson(self, _request: web.Request) -> web.Response:
        if not self.exists:
            return problem(404, "no-such-lesson")
        return web.json_response(self.lesson)

    async def end(self, _request: web.Request) -> web.Response:
        self.lesson |= {"state": "ended", "ended_at": time.time()}
        await self.tell({"type": "ended"})
        return web.json_response(self.lesson)

    async def qr(self, _request: web.Request) -> web.Response:
        dots = "".join(
            f'<rect x="{x}" y="{y}" width="1" height="1"/>'
            for x in range(21)
            for y in range(21)
            if (x * 7 + y * 13 + x * y) % 3 == 0
        )
        return web.Response(text=QR.format(dots), content_type="image/svg+xml")

    async def events(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        hello = await socket.receive_json()
        role = hello["token"]
        self._sockets[socket] = role
        await socket.send_json(
            {
                "type": "welcome",
                "lesson": self.lesson,
                "role": role,
                "seat": "s_1" if role == "point" else None,
                "now": time.time(),
            }
        )
        if self.floor is not None:
            await socket.send_json({"type": "floor", **self.floor})
        if role != "point":
            await socket.send_json({"type": "seats", "seats": self.seats})
            if self.wall is not None:
                await socket.send_json(self.wall)
        elif self.return_size is not None:
            await socket.send_json(self.return_size)
        async for frame in socket:
            if frame.type is WSMsgType.TEXT:
                await self.hear(socket, json.loads(frame.data))
        self._sockets.pop(socket, None)
        return socket

    async def hear(self, socket: web.WebSocketResponse, message: dict[str, Any]) -> None:
        self.heard.append(message)
        if message["type"] == "hand":
            await socket.send_json({"type": "hand", "raised": message["raised"]})
        elif message["type"] == "lower-hand":
            for seat in self.seats:
                if seat["id"] == message["seat"]:
                    seat["hand"] = None
            await self.publish()
        elif self.floor is not None:
            await self.conduct(message)

    async def conduct(self, message: dict[str, Any]) -> None:
        """Carry out what a page asks of the floor; refusals are told by the test itself."""
        assert self.floor is not None
        kind, seat = message["type"], message.get("seat", "s_1")
        seats, muted = list(self.floor["seats"]), list(self.floor["muted"])
        if kind == "grant":
            await self.set_floor(seats=[*seats, seat])
        elif kind in ("revoke", "hand-back"):
            await self.set_floor(seats=[one for one in seats if one != seat])
        elif kind == "mute":
            await self.set_floor(muted=[*muted, seat])
        elif kind == "unmute":
            await self.set_floor(muted=[one for one in muted if one != seat])
        elif kind in ("mute-all", "unmute-all"):
            everybody = [one["id"] for one in self.seats]
            await self.set_floor(muted=everybody if kind == "mute-all" else [])
        elif kind == "all-answer":
            await self.set_floor(all_answer=message["on"])
        elif kind == "layout":
            await self.set_floor(layout=message["layout"])

    async def list_seats(self, _request: web.Request) -> web.Response:
        return web.json_response({"seats": self.seats})

    async def release(self, request: web.Request) -> web.Response:
        self.seats = [seat for seat in self.seats if seat["id"] != request.match_info["seat"]]
        return web.Response(status=204)

    async def set_cap(self, request: web.Request) -> web.Response:
        stream = self.lesson["streams"][request.match_info["stream"]]
        stream["cap"] = (await request.json())["cap"]
        return web.json_response(stream)

    async def stats(self, _request: web.Request) -> web.Response:
        self._packets += 5800
        counters = {
            "rtp_packets_forwarded": self._packets,
            "rtp_bytes_forwarded": self._packets * 1100,
        }
        worker = {
            "rss_bytes": 70 << 20,
            "sessions": 4,
            "ready": True,
            "restarts": 0,
            "counters": counters,
        }
        workers = [
            worker | {"worker": n, "cpu_seconds": time.monotonic() * 0.07, "counters": counters}
            for n in range(2)
        ]
        return web.json_response({"workers": workers, "lessons": [], "sessions": []})

    async def overview(self, _request: web.Request) -> web.Response:
        if self.county is not None:
            return web.json_response(county_moves(self.county))
        lesson = self.lesson | {"receivers": [], "loss_percent": None, "freezes": 0, "kbps": 0}
        return web.json_response(make_overview([lesson] if self.exists else []))

    async def series(self, _request: web.Request) -> web.Response:
        wave = [abs(np.sin(n / 40)) * 5 if n % 150 > 12 else None for n in range(720)]
        names = ("loss_percent", "rtt_ms", "jitter_ms", "layer", "freezes", "fps", "kbps")
        fields = {name: [x and round(x * (n + 1), 2) for x in wave] for n, name in enumerate(names)}
        return web.json_response({"grain_s": 5, "age_s": 1, "fields": fields})

    async def acknowledge(self, request: web.Request) -> web.Response:
        for alarm in (self.county or {}).get("alarms", []):
            alarm["acknowledged"] |= str(alarm["id"]) == request.match_info["alarm"]
        return web.Response(status=204)

    async def alarm_log(self, _request: web.Request) -> web.Response:
        return web.json_response({"alarms": [], "log": []})

    async def config_history(self, _request: web.Request) -> web.Response:
        return web.json_response({"history": [], "undo": None})

    async def config_diff(self, _request: web.Request) -> web.Response:
        change = {"key": "limits.lessons", "old": "50", "new": "60", "live": True}
        return web.json_response({"changes": [change]})

    async def plan(self, _request: web.Request) -> web.Response:
        streams = {"camera": {"cap": 34}, "slides": {"cap": 60}}
        return web.json_response({"plans": [{"mode": "dispatch", "streams": streams}]})

    async def config_text(self, _request: web.Request) -> web.Response:
        text = '[server]\nhost = "0.0.0.0"\nport = 8443\n\n[profiles.rural-4m]\nreceiver_cap = 30\n'
        return web.Response(text=text)

    async def save_config(self, request: web.Request) -> web.Response:
        self.heard.append({"type": "config", **(await request.json())})
        if self.config_errors:
            return problem(400, "config-invalid", errors=self.config_errors)
        return web.json_response({})

    async def media(self, request: web.Request) -> web.Response:
        protocol, stream = request.path.split("/")[1], request.match_info["stream"]
        self.posts.append(f"{protocol}/{stream}")
        if protocol == "whep" and self.refuse_whep is not None:
            status, members = self.refuse_whep
            return problem(status, **members)
        peer = RTCPeerConnection()
        self._peers.add(peer)
        offer = give_candidate(await request.text())
        if protocol == "whip":
            sink = MediaBlackhole()
            peer.on("track", sink.addTrack)
            await peer.setRemoteDescription(RTCSessionDescription(offer, "offer"))
            await sink.start()
            if stream in self.lesson["streams"]:
                await self.set_live(stream)
        else:
            await peer.setRemoteDescription(RTCSessionDescription(offer, "offer"))
            if self.lesson["streams"].get(stream, {"live": True})["live"]:
                for kind in re.findall(r"^m=(\w+)", offer, re.MULTILINE):
                    peer.addTrack(Tone() if kind == "audio" else Picture(stream))
        await peer.setLocalDescription(await peer.createAnswer())
        return web.Response(
            status=201,
            text=peer.localDescription.sdp,
            content_type="application/sdp",
            headers={"Location": f"{request.path}/x{len(self.posts)}", "ETag": '"1"'},
        )

    async def close_media(self, request: web.Request) -> web.Response:
        protocol, stream = request.path.split("/")[1], request.match_info["stream"]
        self.deletes.append(f"{protocol}/{stream}")
        if protocol == "whip" and stream in self.lesson["streams"]:
            await self.set_live(stream, live=False)
        return web.Response()

    async def patch_media(self, request: web.Request) -> web.Response:
        self.patches.append(await request.text())
        return problem(404, "no-such-session")


def make_lesson(title: str = "三年级数学：认识分数", mode: str = "dispatch") -> dict[str, Any]:
    stream = {"cap": 30, "receivers": 0, "waiting": 0, "live": False}
    return {
        "id": LESSON_ID,
        "title": title,
        "mode": mode,
        "state": "waiting",
        "join_code": CODE,
        "join_url": f"https://tongke.example/join/{CODE}",
        "join_qr": f"/api/v1/lessons/{LESSON_ID}/join.svg",
        "created_at": time.time(),
        "started_at": None,
        "ended_at": None,
        "streams": {"camera": dict(stream), "slides": dict(stream)},
    }


def make_floor(**more: Any) -> dict[str, Any]:
    return {
        "size": 2,
        "seats": [],
        "queue": [],
        "muted": [],
        "all_answer": False,
        "layout": "auto",
    } | more


def make_return(quality: str = "tile") -> dict[str, Any]:
    """What a seat is told to send."""
    sizes = {"off": (0, 0, 0, 0), "tile": (320, 180, 15, 200), "full": (1280, 720, 25, 1500)}
    names = ("width", "height", "fps", "kbps")
    return {"type": "return", "quality": quality} | dict(zip(names, sizes[quality], strict=True))


def make_wall(*seats: str) -> dict[str, Any]:
    """A wall of three tiles a row."""
    tiles = [
        {"seat": seat, "x": at % 3 * 426, "y": at // 3 * 240, "width": 426, "height": 240}
        for at, seat in enumerate(seats)
    ]
    return {"type": "wall", "width": 1280, "height": 720, "tiles": tiles}


def make_overview(lessons: list[dict[str, Any]]) -> dict[str, Any]:
    worker = {"ready": True, "drained": False, "restarts": 0, "sessions": 600}
    worker |= {"cpu_percent": 41.0, "kbps": 610_000.0, "packets_per_s": 70_000.0}
    return {
        "server": {
            "refusing_lessons": False,
            "uplink_kbps": 1_220_000.0 if len(lessons) > 1 else 1200.0,
            "uplink_limit_kbps": 2_000_000,
            "target_cpu_percent": 70,
            "disk_free_mb": 81_920.0,
        },
        "workers": [worker | {"worker": n, "rss_bytes": (70 + n) << 20} for n in range(2)],
        "lessons": lessons,
        "alarms": [],
    }


def make_county(lessons: int = 40, receivers: int = 30) -> dict[str, Any]:
    """An overview of many lessons with many receivers, some of which fare badly."""
    subjects = ["三年级数学：分数", "四年级语文：观潮", "五年级英语", "音乐：茉莉花", "科学：光"]
    found = []
    for number in range(lessons):
        rows = [
            [
                *(f"x{number}_{n}", f"s_{number}_{n}", f"{town}镇第{n}教学点"),
                *("camera", "connected", 0.2, 38.0, 2 - n % 3 // 2, 0, 1650),
            ]
            for n in range(receivers)
            for town in ["红星育才城关柳河"[n % 4 * 2 : n % 4 * 2 + 2]]
        ]
        lesson = make_lesson(title=f"{subjects[number % 5]}（{number + 1}）")
        lesson |= {"id": f"l_{number}", "state": "live", "join_code": str(482913 + number)}
        lesson["streams"]["camera"] |= {"receivers": receivers, "live": True, "cap": 30}
        lesson["streams"]["slides"] |= {"live": True, "waiting": number % 3}
        lesson |= {"receivers": rows, "loss_percent": 0.2, "freezes": 0, "kbps": 49_500.0}
        found.append(lesson)
    overview = make_overview(found)
    kinds = [("loss", "l_0/s_0_4/camera", 8.2, 5), ("freeze", "l_3/s_3_1/camera", 9, 6)]
    kinds += [("no-picture", "l_7/slides", 33, 20), ("cpu", "1", 92, 85)]
    overview["alarms"] = [
        {"id": 40 - n, "kind": kind, "subject": subject, "value": value, "limit": limit}
        | {"since": 1_700_000_000, "acknowledged": n == 3}
        for n, (kind, subject, value, limit) in enumerate(kinds)
    ]
    return overview


def county_moves(county: dict[str, Any]) -> dict[str, Any]:
    """The figures of every receiver change a little, as they do in earnest."""
    rng = np.random.default_rng()
    for lesson in county["lessons"]:
        for row in lesson["receivers"]:
            dice = float(rng.random())
            row[5], row[6] = round(dice**6 * 9, 1), round(30 + dice * 20, 1)
            row[8], row[9] = int(dice > 0.97), int(1500 + dice * 300)
        lesson["loss_percent"] = round(sum(row[5] for row in lesson["receivers"]) / 30, 1)
        lesson["freezes"] = sum(row[8] for row in lesson["receivers"])
    return county


def make_seat(
    number: int, name: str, level: str | None = "good", hand: float | None = None, **more: Any
) -> dict[str, Any]:
    quality = {"level": level, "fps": 24.0, "loss": 0.01, "rtt_ms": 38.0, "kbps": 1650.0}
    return {
        "id": f"s_{number}",
        "name": name,
        "role": "point",
        "state": "receiving",
        "streams": ["camera"],
        "hand": hand,
        "quality": quality if level else None,
    } | more


def problem(status: int, kind: str, retry_after: int | None = None, **members: Any) -> web.Response:
    body = {
        "type": f"https://tongke.dev/problems/{kind}",
        "title": kind,
        "status": status,
        "detail": kind,
    }
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    return web.Response(
        status=status,
        text=json.dumps(body | members),
        content_type="application/problem+json",
        headers=headers,
    )


def give_candidate(offer: str) -> str:
    """Add a candidate that leads nowhere: aioice gives up at once on a peer with none, while an
    ICE-lite server, which the pages are made for, waits for the peer's checks."""
    dead_end = "a=candidate:1 1 udp 1 127.0.0.1 9 typ host\r\n"
    return re.sub(r"(m=[^\r\n]*\r\nc=[^\r\n]*\r\n)", rf"\1{dead_end}", offer)
