"""Every operation of the server, one entry per route and method, for the OpenAPI document.

Whoever adds a route adds it here: a test compares this list with the routes of the server.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from signaling import openapi_shapes as shapes
from signaling.admission_bodies import PatchLesson, PatchStream
from signaling.api import CreateLesson, Join, PutConfig
from signaling.api_ops import PostDrain
from signaling.interaction import Action as FloorAction
from signaling.linetest import LineResult

SDP: Final = "application/sdp"
FRAGMENT: Final = "application/trickle-ice-sdpfrag"
HTML: Final = "text/html"
SVG: Final = "image/svg+xml"
TEXT: Final = "text/plain"
TOML: Final = "application/toml"
BYTES: Final = "application/octet-stream"

API: Final = "/api/v1"
LESSON: Final = API + "/lessons/{lesson}"

# A type is a JSON shape, a text the media type of something else, None no content.
Content = type | str | None


@dataclass(frozen=True, slots=True)
class Operation:
    """What one method of one path takes and answers.

    `token` says whether it needs one; `refusals` are statuses beyond those that follow from the
    rest (see `statuses`). `query` are (name, type of JSON schema) of optional parameters.
    """

    method: str
    path: str
    summary: str
    answers: dict[int, Content]
    body: Content = None
    token: bool = True
    refusals: tuple[int, ...] = ()
    query: tuple[tuple[str, str], ...] = ()

    @property
    def statuses(self) -> list[int]:
        """Every status that the operation may answer."""
        found = {*self.answers, *self.refusals}
        if self.path.startswith((API, "/whip", "/whep")):
            found |= {429, 500}
        if self.token:
            found |= {401, 403}
        if "{" in self.path:
            found |= {404}
        if self.body is not None:
            found |= {400, 408, 413, 415}
        if self.query:
            found |= {400}
        return sorted(found)


def _pages() -> list[Operation]:
    summaries = {
        "/": "The page that leads to the others",
        "/teach": "The teacher's page",
        "/join": "The teaching point's page",
        "/join/{code}": "The teaching point's page with the code filled in",
        "/ops": "The page of operations",
    }
    pages = [
        Operation("get", path, summary, {200: HTML}, token=False, refusals=(404,))
        for path, summary in summaries.items()
    ]
    return [
        *pages,
        Operation("get", "/favicon.ico", "The logo", {200: SVG}, token=False, refusals=(404,)),
        Operation("get", "/static/{path}", "A file of the pages", {200: BYTES}, token=False),
    ]


def _machines() -> list[Operation]:
    return [
        Operation("get", "/healthz", "Whether the process lives", {200: TEXT}, token=False),
        Operation(
            "get", "/readyz", "Whether it takes lessons", {200: TEXT}, token=False, refusals=(503,)
        ),
        Operation(
            "get", "/metrics", "Prometheus metrics", {200: TEXT}, token=False, refusals=(503,)
        ),
        Operation("get", API + "/openapi.json", "This document", {200: shapes.Open}, token=False),
    ]


def _everybody() -> list[Operation]:
    return [
        Operation(
            "get", API + "/hello", "Version, languages, modes", {200: shapes.Hello}, token=False
        ),
        Operation("get", API + "/me", "What a token says", {200: shapes.Me}),
        Operation(
            "post",
            API + "/join",
            "Join a lesson by its code; answers a token for a seat",
            {201: shapes.Joined},
            Join,
            token=False,
            refusals=(404, 410, 503),
        ),
    ]


def _lessons() -> list[Operation]:
    return [
        Operation("get", API + "/lessons", "Own lessons, for ops all", {200: shapes.LessonList}),
        Operation(
            "post",
            API + "/lessons",
            "Create a lesson",
            {201: shapes.Lesson},
            CreateLesson,
            refusals=(503,),
        ),
        Operation("get", LESSON, "Read a lesson", {200: shapes.Lesson}),
        Operation(
            "patch",
            LESSON,
            "Change a lesson's cap (ops), list or reservations",
            {200: shapes.Lesson},
            PatchLesson,
            refusals=(410,),
        ),
        Operation("delete", LESSON, "End a lesson", {200: shapes.Lesson}),
        Operation(
            "get",
            LESSON + "/join.svg",
            "The QR of the join address",
            {200: SVG},
            token=False,
            refusals=(410,),
        ),
        Operation("get", LESSON + "/streams/{stream}", "Read a stream", {200: shapes.OutputStream}),
        Operation(
            "patch",
            LESSON + "/streams/{stream}",
            "Change a stream's cap (ops) or reservations",
            {200: shapes.OutputStream},
            PatchStream,
            refusals=(410,),
        ),
        Operation(
            "get",
            LESSON + "/decisions",
            "Why who was admitted, the newest first (ops)",
            {200: shapes.DecisionList},
            query=(("limit", "integer"), ("before", "integer")),
        ),
        Operation("get", LESSON + "/seats", "Who is in a lesson", {200: shapes.SeatList}),
        Operation("delete", LESSON + "/seats/{seat}", "Release a seat", {204: None}),
        Operation(
            "get",
            LESSON + "/events",
            "The WebSocket of a lesson's pages, see docs/protocol.md",
            {101: None},
            token=False,
            refusals=(426, 503),
        ),
        Operation("get", LESSON + "/floor", "Read the floor", {200: shapes.Open}, refusals=(410,)),
        Operation(
            "post",
            LESSON + "/floor",
            "Act on the floor",
            {200: shapes.Open},
            FloorAction,
            refusals=(409, 410, 503),
        ),
    ]


def _plans() -> list[Operation]:
    linetest = LESSON + "/linetest"
    return [
        Operation(
            "get",
            API + "/plan",
            "The recommended caps of each mode, or of one lesson",
            {200: shapes.Open},
            query=(("lesson", "string"), ("lines", "string")),
            refusals=(404,),
        ),
        Operation(
            "get",
            API + "/plan/{mode}.svg",
            "Receivers against load, drawn",
            {200: SVG},
            query=(("lines", "string"),),
        ),
        Operation(
            "get",
            linetest + "/ping",
            "Time a round trip",
            {200: BYTES, 204: None},
            refusals=(410,),
        ),
        Operation(
            "get",
            linetest + "/down",
            "Bytes to measure the line by",
            {200: BYTES},
            query=(("bytes", "integer"),),
            refusals=(410, 503),
        ),
        Operation(
            "post",
            linetest + "/up",
            "Take bytes to measure the line by",
            {200: shapes.Open, 204: None},
            BYTES,
            refusals=(410, 503),
        ),
        Operation(
            "post",
            linetest + "/result",
            "Report a line test",
            {200: shapes.Open, 201: shapes.Open, 204: None},
            LineResult,
            refusals=(410,),
        ),
    ]


def _recordings() -> list[Operation]:
    path = LESSON + "/recordings"
    return [
        Operation("get", path, "What was recorded (teacher, ops)", {200: shapes.RecordingList}),
        Operation(
            "get",
            path + "/{file}",
            "A recorded file, or with Range a part of it",
            {200: BYTES, 206: BYTES},
            refusals=(416,),
        ),
        Operation("delete", path + "/{file}", "Delete it", {204: None}, refusals=(409,)),
    ]


def _operations() -> list[Operation]:
    config = API + "/config"
    return [
        Operation("get", config, "The configuration, secrets left out", {200: shapes.Open}),
        Operation("put", config, "Replace the configuration", {200: shapes.Open}, PutConfig),
        Operation("get", config + "/toml", "The text of the configuration", {200: TOML}),
        Operation("get", API + "/stats", "Figures of workers and sessions", {200: shapes.Open}),
    ]


def _desk() -> list[Operation]:
    """The operations page."""
    ops = API + "/ops"
    session = ops + "/sessions/{session}"
    shown: dict[int, Content] = {200: shapes.Open}
    return [
        Operation("get", ops + "/overview", "All lessons at a glance", {**shown, 304: None}),
        Operation("get", session + "/series", "An hour of one receiver", shown),
        Operation("post", session + "/rejoin", "Ask a receiver to come anew", {204: None}),
        Operation("get", ops + "/lessons/{lesson}/series", "An hour of one lesson", shown),
        Operation("get", ops + "/workers/{worker}/series", "An hour of one worker", shown),
        Operation("get", ops + "/alarms", "Alarms that stand, and their log", shown),
        Operation("post", ops + "/alarms/{alarm}/ack", "Silence an alarm", {204: None}),
        Operation("post", ops + "/drain", "Give a worker or all nothing new", shown, PostDrain),
        Operation("get", ops + "/config/history", "Configurations that were in effect", shown),
        Operation("post", ops + "/config/diff", "What a text would change", shown, PutConfig),
        Operation(
            "post", ops + "/config/undo", "One configuration back", shown, refusals=(400, 404)
        ),
    ]


def _media() -> list[Operation]:
    """WHIP (RFC 9725) and WHEP."""
    found: list[Operation] = []
    for protocol, verb in (("/whip", "Send"), ("/whep", "Receive")):
        endpoint = protocol + "/{lesson}/{stream}"
        location = endpoint + "/{session}"
        found += [
            Operation(
                "post",
                endpoint,
                f"{verb} a stream: an SDP offer, answered by an SDP answer",
                {201: SDP},
                SDP,
                refusals=(410, 503),
            ),
            Operation("options", endpoint, "What is taken here", {204: None}, token=False),
            Operation("options", location, "What is taken here", {204: None}, token=False),
            Operation(
                "patch",
                location,
                "Trickle ICE, or restart it",
                {200: FRAGMENT, 204: None},
                FRAGMENT,
                refusals=(412, 428, 503),
            ),
            Operation("delete", location, "End a media session", {200: None}),
        ]
    return found


OPERATIONS: Final = (
    *_pages(),
    *_machines(),
    *_everybody(),
    *_lessons(),
    *_plans(),
    *_recordings(),
    *_operations(),
    *_desk(),
    *_media(),
)
