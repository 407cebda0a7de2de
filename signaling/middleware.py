"""Around every handler: problems become documents, surprises become incidents, headers are set."""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable

import msgspec
from aiohttp import web

from signaling.logs import new_incident
from signaling.problems import MEDIA_TYPE, Problem
from signaling.requests import invalid, language

log = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_HOST = re.compile(r"[A-Za-z0-9.-]+(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]+\](:[0-9]{1,5})?")
_MEDIA_PATHS = ("/whip/", "/whep/")

_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": (
        "camera=(self), microphone=(self), display-capture=(self), fullscreen=(self), "
        "autoplay=(self), screen-wake-lock=(self), geolocation=(), payment=(), usb=()"
    ),
}

# WHIP and WHEP are for players on any page: a bearer token, never a cookie, is what counts.
_CORS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Expose-Headers": (
        "Location, ETag, Link, Accept-Patch, Accept-Post, Retry-After, WWW-Authenticate"
    ),
}


@web.middleware
async def problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn whatever a handler raises into an answer that says what to do next."""
    try:
        response = await handler(request)
    except Problem as problem:
        response = problem_response(request, problem)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        response = problem_response(request, _from_http(error))
        if "Allow" in error.headers:
            response.headers["Allow"] = error.headers["Allow"]
    except ConnectionError:
        raise  # the client is gone; nobody reads an answer
    except Exception:  # the edge: logged under an id that the user can report
        incident = new_incident()
        log.exception("incident %s: %s %s", incident, request.method, _route(request))
        response = problem_response(request, Problem("internal", extra={"incident": incident}))
    return response


async def set_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Signal handler: security headers on every response, CORS on those of WHIP and WHEP."""
    for name, value in _HEADERS.items():
        response.headers.setdefault(name, value)
    response.headers["Content-Security-Policy"] = content_security_policy(request.host)
    if request.path.startswith(_MEDIA_PATHS):
        for name, value in _CORS.items():
            response.headers[name] = value
    response.headers.popall("Server", None)


def content_security_policy(host: str) -> str:
    """Everything from us only. Not every browser takes our WebSocket for 'self', so it is named."""
    sockets = f" ws://{host} wss://{host}" if _HOST.fullmatch(host) else ""
    return (
        "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
        f"media-src 'self' blob:; connect-src 'self'{sockets}; object-src 'none'; "
        "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    )


def problem_response(request: web.Request, problem: Problem) -> web.Response:
    """The problem document in the language of the request."""
    spoken = language(request)
    response = web.Response(
        status=problem.status,
        body=msgspec.json.encode(problem.document(spoken)),
        content_type=MEDIA_TYPE,
        headers=problem.headers,
    )
    response.headers["Content-Language"] = spoken
    return response


def _from_http(error: web.HTTPException) -> Problem:
    """The problem for what aiohttp itself refuses."""
    match error.status:
        case 404:
            return Problem("not-found")
        case 413:
            return Problem("body-too-large")
        case 415:
            return Problem("unsupported-media-type")
        case 405:
            allowed = error.headers.get("Allow", "")
            reason = {"zh-CN": f"此处可用的方法：{allowed}", "en": f"allowed here: {allowed}"}
            return Problem(
                "invalid-request", status=405, field="method", detail_args={"reason": reason}
            )
        case _:
            problem = invalid("request", error.reason, error.reason)
            problem.status = error.status
            return problem


def _route(request: web.Request) -> str:
    """The pattern that matched, since the path itself may hold a join code or a session."""
    resource = request.match_info.route.resource
    return resource.canonical if resource is not None else "(no route)"
