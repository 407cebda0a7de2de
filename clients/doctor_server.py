"""Calls of `tongke doctor` to the server on this machine, whatever its certificate."""

from __future__ import annotations

import json
import ssl
import urllib.request

from signaling.addresses import WILDCARDS, url_host
from signaling.config import Config

HTTP_S = 5.0
PROBE_S = 2.0
MOST_ANSWER_BYTES = 256 * 1024


def local_base(config: Config) -> str:
    """Where the server would be found from this machine."""
    server = config.server
    host = "127.0.0.1" if server.host in WILDCARDS else server.host
    return f"{'http' if server.tls == 'off' else 'https'}://{url_host(host)}:{server.port}"


def is_running(base: str) -> bool:
    """Whether a Tongke server answers there."""
    try:
        return "version" in call(base, "GET", "/api/v1/hello", timeout_s=PROBE_S)
    except (OSError, ValueError):
        return False


def call(
    base: str,
    method: str,
    path: str,
    token: str = "",
    body: object = None,
    timeout_s: float = HTTP_S,
) -> dict[str, object]:
    """A JSON call to our own server: its certificate is whatever it made itself."""
    data = json.dumps(body).encode() if body else None
    text = send(base, method, path, token, data, "application/json", timeout_s)
    found = json.loads(text) if text else {}
    return found if isinstance(found, dict) else {}


def send(
    base: str,
    method: str,
    path: str,
    token: str,
    data: bytes | None,
    content_type: str,
    timeout_s: float = HTTP_S,
) -> str:
    request = urllib.request.Request(base + path, data=data, method=method)
    if data is not None:
        request.add_header("Content-Type", content_type)
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with urllib.request.urlopen(request, timeout=timeout_s, context=context) as answer:
        return str(answer.read(MOST_ANSWER_BYTES).decode(errors="replace"))
