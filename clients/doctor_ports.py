"""What `tongke doctor` asks about ports: free before the start, the server's own while it runs."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from signaling.addresses import media_binds, url_host
from signaling.config import Config, is_loopback, worker_count

from .doctor_finding import Finding, fine, trouble

PortState = Literal["free", "taken", "forbidden", "no-address"]


@dataclass(frozen=True, slots=True)
class PortUse:
    """One port that the server needs, and how it is."""

    kind: Literal["tcp", "udp"]
    host: str
    port: int
    key: str
    state: PortState


def look_at_ports(config: Config, *, running: bool) -> list[Finding]:
    return judge_ports(list(_uses(config)), running=running)


def judge_ports(uses: Sequence[PortUse], *, running: bool) -> list[Finding]:
    """Before the start all ports must be free; of a running server all are taken, by itself."""
    found: list[Finding] = []
    for use in uses:
        where = f"{use.kind} {url_host(use.host)}:{use.port}"
        name = f"port {use.port}/{use.kind}"
        if use.state == "no-address":
            found.append(
                trouble(
                    name,
                    "fail",
                    (f"本机没有地址 {use.host}", f"this machine has no address {use.host}"),
                    (
                        'server.host 改为 "0.0.0.0" 或本机地址',
                        'set server.host to "0.0.0.0" or one of this machine\'s addresses',
                    ),
                )
            )
        elif use.state == "forbidden":
            found.append(
                trouble(
                    name,
                    "fail",
                    (f"没有权限使用 {where}", f"not allowed to use {where}"),
                    (
                        f"把 {use.key} 改为 1024 以上，或前置反向代理",
                        f"set {use.key} above 1023, or put a reverse proxy in front",
                    ),
                )
            )
        elif use.state == "taken" and not running:
            found.append(
                trouble(
                    name,
                    "fail",
                    (
                        f"{where} 被别的程序占用，而服务器没有运行",
                        f"{where} is used by another program; the server is not running",
                    ),
                    (
                        f"用 ss -lnp 'sport = :{use.port}' 找出并停掉它，或改 {use.key}",
                        f"find it with ss -lnp 'sport = :{use.port}' and stop it, or change"
                        f" {use.key}",
                    ),
                )
            )
        elif use.state == "free" and running:
            found.append(
                trouble(
                    name,
                    "warn",
                    (
                        f"服务器在运行，却没有监听 {where}",
                        f"the server runs but does not listen at {where}",
                    ),
                    (
                        "它是用别的配置启动的吗？请重启，或用 --config 指明",
                        "was it started with another configuration? restart it, or give --config",
                    ),
                )
            )
        else:
            state = ("服务器正在监听", "the server listens") if running else ("空闲", "free")
            found.append(fine(name, f"{where}：{state[0]}", f"{where}: {state[1]}"))
    return found


def _uses(config: Config) -> Iterator[PortUse]:
    server = config.server
    yield _use("tcp", server.host, server.port, "server.port")
    behind_proxy = bool(server.public_url or server.announce) and is_loopback(server.host)
    for index in range(worker_count(server)):
        port = server.media_port + index
        for bind in media_binds(server.host, port, everywhere=behind_proxy)[:1]:
            yield _use("udp", bind.host, port, "server.media_port")
            yield _use("tcp", bind.host, port, "server.media_port")


def _use(kind: Literal["tcp", "udp"], host: str, port: int, key: str) -> PortUse:
    return PortUse(kind, host, port, key, try_port(kind, host, port))


def try_port(kind: Literal["tcp", "udp"], host: str, port: int) -> PortState:
    """Bind it and let it go again."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM) as probe:
        if kind == "tcp":
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            if kind == "tcp":
                probe.listen(1)
        except OSError as error:
            if error.errno == errno.EACCES:
                return "forbidden"
            if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT) or isinstance(
                error, socket.gaierror
            ):
                return "no-address"
            return "taken"
    return "free"
