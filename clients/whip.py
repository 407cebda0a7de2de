"""The HTTP half of WHIP (RFC 9725) and WHEP: offer in, answer out, liveness, and a clean goodbye.

It knows nothing about media. Refusals become `Refused` with the server's problem document
(RFC 9457), a server that cannot be reached becomes `Unreachable`; both read as sentences.
"""

from __future__ import annotations

import enum
import ipaddress
import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urljoin, urlsplit

import aiohttp

from .words import BAD_USAGE, CommandError, accept_language, say

MAX_ANSWER_BYTES = 1024 * 1024
REQUEST_TIMEOUT_S = 10.0
PROBE_TIMEOUT_S = 2.0
GOODBYE_TIMEOUT_S = 2.0
LONGEST_RETRY_AFTER_S = 60.0
TICKET_HEADER = "Tongke-Ticket"

# Trying again cannot help: the request itself, the token or the lesson is wrong.
HOPELESS_STATUSES = frozenset({400, 401, 403, 404, 405, 406, 410, 413, 415})


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem document, or what we can say about an answer that is none."""

    kind: str
    status: int
    title: str
    detail: str
    retry_after_s: float | None = None
    members: Mapping[str, object] = field(default_factory=dict)

    def __str__(self) -> str:
        colon = "：" if _is_cjk(self.title) else ": "
        text = f"{self.title}{colon}{self.detail}" if self.detail else self.title
        return f"{text} [{self.status} {self.kind}]" if self.kind else f"{text} [{self.status}]"

    @property
    def hopeless(self) -> bool:
        return self.status in HOPELESS_STATUSES

    @property
    def position(self) -> int | None:
        """Our place in the waiting list, where the refusal gives one."""
        value = self.members.get("position")
        return value if isinstance(value, int) and not isinstance(value, bool) else None

    @property
    def ticket(self) -> str | None:
        value = self.members.get("ticket")
        return value if isinstance(value, str) else None


class Refused(Exception):  # noqa: N818 - the server's answer, not our error
    """The server answered, and the answer was no."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


class Unreachable(Exception):  # noqa: N818
    """No answer: connection refused, name unknown, certificate not trusted, time-out."""


class Liveness(enum.Enum):
    ALIVE = "alive"
    GONE = "gone"
    UNKNOWN = "unknown"
    UNREACHABLE = "unreachable"


@dataclass(frozen=True, slots=True)
class Session:
    """An opened WHIP or WHEP session: the answer and the address that stands for it."""

    answer: str
    location: str
    etag: str | None


class WhipClient:
    """One endpoint (`https://host/whip/{lesson}/{stream}` or `/whep/…`) and the right to use it."""

    def __init__(
        self, endpoint: str, token: str, *, insecure: bool = False, ca: Path | None = None
    ) -> None:
        self.endpoint = checked_url(endpoint)
        self._token = token
        self._tls = tls_for(self.endpoint, insecure=insecure, ca=ca)
        self._http: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._http is not None:
            await self._http.close()
            self._http = None

    async def open(self, offer: str, *, ticket: str | None = None) -> Session:
        """POST the offer; the answer's session, or `Refused`, or `Unreachable`."""
        headers = {"Content-Type": "application/sdp", "Accept": "application/sdp"}
        if ticket is not None:
            headers[TICKET_HEADER] = ticket
        async with self._request("POST", self.endpoint, headers, offer) as response:
            body = await _bounded_text(response)
            if response.status != 201:
                raise Refused(problem_of(response.status, response.headers, body))
            location = response.headers.get("Location")
            if not location:
                raise Refused(_no_whip(response.status, "Location"))
            absolute = urljoin(str(response.url), location)
            if _origin(absolute) != _origin(str(response.url)):
                # Our token would go to a host that the user never named.
                raise Refused(_no_whip(response.status, f"Location: {absolute}"))
            return Session(body, absolute, response.headers.get("ETag"))

    async def probe(self, session: Session, fragment: str) -> Liveness:
        """Ask whether the session still exists, by a trickle PATCH that changes nothing."""
        headers = {"Content-Type": "application/trickle-ice-sdpfrag"}
        if session.etag is not None:
            headers["If-Match"] = session.etag
        try:
            async with self._request(
                "PATCH", session.location, headers, fragment, timeout_s=PROBE_TIMEOUT_S
            ) as response:
                status = response.status
        except Unreachable:
            return Liveness.UNREACHABLE
        if status in (404, 410):
            return Liveness.GONE
        return Liveness.ALIVE if status < 300 or status == 412 else Liveness.UNKNOWN

    async def close(self, session: Session) -> bool:
        """DELETE the session; False when the server is no longer there to hear it."""
        try:
            async with self._request(
                "DELETE", session.location, {}, None, timeout_s=GOODBYE_TIMEOUT_S
            ) as response:
                return response.status < 300
        except Unreachable:
            return False

    def _request(
        self,
        method: str,
        url: str,
        headers: dict[str, str],
        body: str | None,
        *,
        timeout_s: float = REQUEST_TIMEOUT_S,
    ) -> _Request:
        if self._http is None:
            # One connection per request: a restarted server must not meet a stale one.
            connector = aiohttp.TCPConnector(ssl=self._tls, force_close=True)
            self._http = aiohttp.ClientSession(connector=connector)
        headers = {
            "Authorization": f"Bearer {self._token}",
            "Accept-Language": accept_language(),
            **headers,
        }
        return _Request(
            self._http.request(
                method,
                url,
                data=body.encode() if body is not None else None,
                headers=headers,
                timeout=aiohttp.ClientTimeout(total=timeout_s),
            ),
            url,
        )


class _Request:
    """An aiohttp request whose failures to reach the server are `Unreachable`."""

    def __init__(self, context: aiohttp.client._RequestContextManager, url: str) -> None:
        self._context = context
        self._url = url

    async def __aenter__(self) -> aiohttp.ClientResponse:
        try:
            return await self._context.__aenter__()
        except aiohttp.ClientConnectorCertificateError as error:
            raise Unreachable(
                say(
                    f"{_origin(self._url)} 的证书不受信任。若是自签名证书，请用 --ca 证书文件，"
                    "或用 --insecure 跳过验证",
                    f"the certificate of {_origin(self._url)} is not trusted. If it is self-signed,"
                    " give it with --ca FILE, or skip the check with --insecure",
                )
            ) from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            reason = str(error) or say("超时", "timed out")
            raise Unreachable(
                say(
                    f"连不上 {_origin(self._url)}：{reason}",
                    f"cannot reach {_origin(self._url)}: {reason}",
                )
            ) from error

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._context.__aexit__(kind, error, trace)


def checked_url(url: str) -> str:
    """The address, or a usage error that shows what one looks like."""
    parts = urlsplit(url)
    try:
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid:
        raise CommandError(
            say(
                f"地址无效：{url!r}。应为 https://主机/whip/课程/camera 这样的地址",
                f"not an address: {url!r}. Expected https://HOST/whip/LESSON/camera or the like",
            ),
            exit_code=BAD_USAGE,
            kind="bad-url",
        )
    return url


def is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def tls_for(url: str, *, insecure: bool = False, ca: Path | None = None) -> ssl.SSLContext | bool:
    """How to check the server: its own self-signed certificate is good enough on loopback only."""
    if ca is not None:
        try:
            return ssl.create_default_context(cafile=str(ca))
        except (OSError, ssl.SSLError) as error:
            raise CommandError(
                say(f"读不了证书 {ca}：{error}", f"cannot read the certificate {ca}: {error}"),
                exit_code=BAD_USAGE,
                kind="bad-ca",
            ) from error
    return not (insecure or is_loopback(url))


def problem_of(status: int, headers: Mapping[str, str], body: str) -> Problem:
    """Read a problem document; anything else becomes a plain sentence about the status."""
    document: dict[str, object] = {}
    if "json" in headers.get("Content-Type", ""):
        try:
            parsed = json.loads(body)
        except (ValueError, RecursionError):
            parsed = None
        if isinstance(parsed, dict):
            document = parsed
    kind = document.get("type")
    title = document.get("title")
    detail = document.get("detail")
    standard = ("type", "title", "status", "detail")
    return Problem(
        kind=kind.rstrip("/").rsplit("/", 1)[-1] if isinstance(kind, str) else "",
        status=status,
        title=title
        if isinstance(title, str) and title
        else say(f"服务器回答 {status}", f"the server answered {status}"),
        detail=detail if isinstance(detail, str) else "",
        retry_after_s=_retry_after_s(headers.get("Retry-After")),
        members={name: value for name, value in document.items() if name not in standard},
    )


def _retry_after_s(value: str | None) -> float | None:
    """RFC 9110 10.2.3, the seconds form only; dates are not worth a parser here."""
    if value is None or not value.strip().isascii() or not value.strip().isdigit():
        return None
    return min(float(value), LONGEST_RETRY_AFTER_S)


def _no_whip(status: int, what: str) -> Problem:
    return Problem(
        kind="not-whip",
        status=status,
        title=say("这不是 WHIP 或 WHEP 服务", "this is not a WHIP or WHEP endpoint"),
        detail=what,
    )


async def _bounded_text(response: aiohttp.ClientResponse) -> str:
    body = bytearray()
    async for chunk in response.content.iter_chunked(65536):
        body += chunk
        if len(body) > MAX_ANSWER_BYTES:
            raise Refused(_no_whip(response.status, f"> {MAX_ANSWER_BYTES} bytes"))
    return body.decode("utf-8", errors="replace")


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _is_cjk(text: str) -> bool:
    return any("\u4e00" <= character <= "\u9fff" for character in text)
