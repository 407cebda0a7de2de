"""What the light peers of a run share: one HTTP session for WHIP and WHEP, one DTLS identity."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from urllib.parse import urljoin, urlsplit

import aiohttp

from clients.whip import is_loopback, problem_of
from streamer.dtls import Identity, generate_identity

from .tally import Tally

HTTP_TIMEOUT_S = 20.0
HTTP_CONNECTIONS = 2000
GOODBYES_AT_ONCE = 64
MAX_ANSWER_BYTES = 256 * 1024


class LightFailure(Exception):  # noqa: N818 - the outcome of a try, counted by its reason
    """A peer could not connect; `reason` is short and the same for the same cause."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason


class Shared:
    """Offers and goodbyes of many peers through one HTTP session, and what they measure."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, http: aiohttp.ClientSession, identity: Identity
    ) -> None:
        self.loop = loop
        self.http = http
        self.identity = identity
        self.tally = Tally()
        self._goodbyes = asyncio.Semaphore(GOODBYES_AT_ONCE)

    async def post(self, url: str, token: str, offer: str) -> tuple[str, str]:
        """Return (answer, location of the session). Raises LightFailure."""
        try:
            async with self.http.post(
                url,
                data=offer.encode(),
                headers={"Authorization": f"Bearer {token}", "Content-Type": "application/sdp"},
                allow_redirects=False,
            ) as response:
                body = await _bounded_text(response)
                if response.status != 201:
                    problem = problem_of(response.status, response.headers, body)
                    raise LightFailure(f"http-{response.status} {problem.kind}", problem.detail)
                location = urljoin(url, response.headers.get("Location", ""))
        except TimeoutError as error:
            raise LightFailure("http-timeout") from error
        except (aiohttp.ClientError, OSError) as error:
            raise LightFailure("unreachable", str(error) or type(error).__name__) from error
        ours, theirs = urlsplit(url), urlsplit(location)
        # Our token must not go to a host that the user never named.
        if location == url or (theirs.scheme, theirs.netloc) != (ours.scheme, ours.netloc):
            raise LightFailure("no-location")
        return body, location

    async def delete(self, location: str, token: str) -> bool:
        """End a session; False when the server did not take it."""
        async with self._goodbyes:
            try:
                async with self.http.delete(
                    location, headers={"Authorization": f"Bearer {token}"}, allow_redirects=False
                ) as response:
                    # Gone already is as good: the server may have ended it a moment before.
                    return response.status < 300 or response.status in (404, 410)
            except (aiohttp.ClientError, TimeoutError, OSError):
                return False


@contextlib.asynccontextmanager
async def open_shared(url: str) -> AsyncIterator[Shared]:
    """For all peers of one server; its certificate goes unverified on loopback only."""
    connector = aiohttp.TCPConnector(limit=HTTP_CONNECTIONS, ssl=not is_loopback(url))
    timeout = aiohttp.ClientTimeout(total=HTTP_TIMEOUT_S)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as http:
        yield Shared(asyncio.get_running_loop(), http, Identity(*generate_identity()))


async def _bounded_text(response: aiohttp.ClientResponse) -> str:
    body = b""
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > MAX_ANSWER_BYTES:
            raise LightFailure("invalid-answer", f"more than {MAX_ANSWER_BYTES} bytes")
    return body.decode(errors="replace")
