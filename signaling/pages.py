"""Serves the pages and their files from one directory, and nothing outside it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

from aiohttp import web

from signaling.problems import Problem

# Named here because what the system's table says of them differs from machine to machine; what is
# not named is not served.
CONTENT_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".ico": "image/x-icon",
    ".jpg": "image/jpeg",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".mp4": "video/mp4",
    ".opus": "audio/ogg",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".wasm": "application/wasm",
    ".webmanifest": "application/manifest+json",
    ".woff2": "font/woff2",
}

# Asked again at each use, answered with 304: a new version is never mixed with an old one.
CACHE = "no-cache"


class Pages:
    """The static part of the site under `root`."""

    def __init__(self, root: Path) -> None:
        self._root = root.resolve()

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/", self._page("index.html")),
            web.get("/teach", self._page("teach/index.html")),
            web.get("/join", self._page("join/index.html")),
            web.get("/join/{code}", self._page("join/index.html")),
            web.get("/ops", self._page("ops/index.html")),
            web.get("/favicon.ico", self._page("shared/logo.svg")),
            web.get("/static/{path:.+}", self._static),
        ]

    def _page(self, name: str) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def page(request: web.Request) -> web.StreamResponse:
            return self.file(name)

        return page

    async def _static(self, request: web.Request) -> web.StreamResponse:
        return self.file(request.match_info["path"])

    def file(self, name: str) -> web.StreamResponse:
        """The file with that name under the root. Raises Problem `not-found`."""
        try:
            path = (self._root / name).resolve()
            is_file = path.is_file()
        except (OSError, ValueError) as error:  # too long, or with a null byte
            raise Problem("not-found") from error
        content_type = CONTENT_TYPES.get(path.suffix.lower())
        hidden = any(part.startswith(".") for part in Path(name).parts)
        if not is_file or hidden or content_type is None or not path.is_relative_to(self._root):
            raise Problem("not-found")
        return web.FileResponse(
            path, headers={"Cache-Control": CACHE, "Content-Type": content_type}
        )
