"""This machine's addresses: what to bind, what to announce, and how URLs spell them."""

from __future__ import annotations

import socket

import ifaddr

from signaling.config_rules import is_loopback
from streamer.control import Address

WILDCARDS = ("0.0.0.0", "::")


def local_addresses() -> list[str]:
    """The machine's own addresses, reachable ones first, loopback last, link-local left out."""
    found: list[str] = []
    for adapter in ifaddr.get_adapters():
        for ip in adapter.ips:
            host = ip.ip if isinstance(ip.ip, str) else ip.ip[0]
            if not host.startswith(("fe80", "169.254.")):
                found.append(host)
    return sorted(found, key=lambda host: (is_loopback(host), ":" in host))


def url_host(host: str) -> str:
    """A host as a URL writes it (RFC 3986 section 3.2.2 puts IPv6 into brackets)."""
    return f"[{host}]" if ":" in host else host


def reachable_host(host: str) -> str:
    """What another machine would call us, given what we listen on."""
    if host not in WILDCARDS:
        return host
    return next(iter(local_addresses()), "localhost")


def media_binds(host: str, port: int, *, everywhere: bool) -> list[Address]:
    """The addresses on which a worker listens for media.

    `everywhere` is for a server whose pages are behind a proxy on this machine: media goes past
    the proxy, so loopback would reach nobody. Port 0 lets the system choose, for one family only
    since candidates carry one port.
    """
    if everywhere or host == "::":
        hosts = ["0.0.0.0", "::"] if _has_ipv6() else ["0.0.0.0"]
    elif host == "localhost":
        hosts = ["127.0.0.1"]
    else:
        hosts = [host]
    if port == 0:
        hosts = hosts[:1]
    return [Address(host=name, port=port) for name in hosts]


def listen(host: str, port: int) -> socket.socket:
    """A listening TCP socket for pages; `::` takes both families. Raises OSError when taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    if host == "::" and not _has_ipv6():
        family, host = socket.AF_INET, "0.0.0.0"
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if host == "::" else 1)
        sock.bind((host, port))
        sock.listen(1024)
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock


def _has_ipv6() -> bool:
    if not socket.has_ipv6:
        return False
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True
