"""Reads requests: who asks and with what token, and bodies no larger or stranger than allowed."""

from __future__ import annotations

import asyncio
import re
import unicodedata
from typing import TypeVar

import msgspec
from aiohttp import web

from signaling.config_model import Config
from signaling.config_rules import is_loopback
from signaling.problems import Language, Problem, negotiate_language
from signaling.tokens import Claims, TokenAuthority

T = TypeVar("T")

# A body of some kilobytes that takes longer is not meant to arrive.
BODY_TIMEOUT_S = 20.0

_BEARER = re.compile(r"bearer +([A-Za-z0-9._~+/=-]+)", re.IGNORECASE)


def language(request: web.Request) -> Language:
    return negotiate_language(request.headers.get("Accept-Language"))


def client_address(request: web.Request, config: Config) -> str:
    """The address that limits apply to.

    Behind a proxy on this machine (TLS off) it is the last one that the proxy has noted; the ones
    before it came from the client and may say anything.
    """
    remote = request.remote or ""
    if config.server.tls == "off" and is_loopback(remote):
        forwarded = request.headers.get("X-Forwarded-For", "").rpartition(",")[2].strip()
        return forwarded[:64] or remote
    return remote


def bearer(request: web.Request, tokens: TokenAuthority) -> Claims:
    """The claims of the request's token. Raises Problem `invalid-token`."""
    match = _BEARER.fullmatch(request.headers.get("Authorization", "").strip())
    return tokens.verify(match.group(1) if match is not None else "")


async def read_body(request: web.Request, limit_bytes: int) -> bytes:
    """The whole body. Raises Problem `body-too-large` without having kept more than the limit."""
    too_large = Problem("body-too-large", extra={"limit": limit_bytes})
    if request.content_length is not None and request.content_length > limit_bytes:
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            async for chunk in request.content.iter_any():
                body += chunk
                if len(body) > limit_bytes:
                    raise too_large
    except TimeoutError as error:
        raise _too_slow() from error
    return bytes(body)


def _too_slow() -> Problem:
    problem = invalid("body", "发送太慢", "it came too slowly")
    problem.status = 408
    return problem


async def read_text(request: web.Request, limit_bytes: int, content_type: str) -> str:
    """A body of one content type as text.

    Raises Problem `unsupported-media-type`, `body-too-large` or `invalid-request`.
    """
    if request.content_type.lower() != content_type:
        raise Problem("unsupported-media-type", detail_args={"expected": content_type})
    try:
        return (await read_body(request, limit_bytes)).decode()
    except UnicodeDecodeError as error:
        raise invalid(f"byte {error.start}", "应为 UTF-8 文本", "it must be UTF-8") from error


async def read_json(request: web.Request, limit_bytes: int, decoder: msgspec.json.Decoder[T]) -> T:
    """A JSON body of a known shape. Raises Problem `invalid-request` and names the field."""
    if request.content_type.lower() not in ("application/json", "application/octet-stream"):
        raise Problem("unsupported-media-type", detail_args={"expected": "application/json"})
    return decode(await read_body(request, limit_bytes), decoder)


def decode(data: bytes | str, decoder: msgspec.json.Decoder[T]) -> T:
    """JSON of a known shape. Raises Problem `invalid-request`."""
    try:
        return decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        # "Expected `int`, got `str` - at `$.streams.camera.cap`"
        reason, _, path = str(error).partition(" - at `$")
        field = path.rstrip("`").lstrip(".") or "body"
        raise invalid(field, reason, reason) from error


def invalid(field: str, zh: str, en: str) -> Problem:
    return Problem("invalid-request", field=field, detail_args={"reason": {"zh-CN": zh, "en": en}})


def clean_name(text: str, field: str, longest: int) -> str:
    """A name as people will see it: one line, no control or direction characters, not empty.

    Raises Problem `invalid-request`.
    """
    visible = "".join(
        character if unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Co") else " "
        for character in unicodedata.normalize("NFC", text[: 8 * longest])
    )
    name = " ".join(visible.split())
    if not name or len(name) > longest:
        raise invalid(field, f"应为 1 到 {longest} 个字", f"it must have 1 to {longest} characters")
    return name
