"""What `tongke doctor` asks of the addresses that the server announces for media.

Whether one works is tried as a receiver would: a WHEP session at the running server, and then a
STUN check to each of its candidates (RFC 8445 section 7.2).
"""

from __future__ import annotations

import contextlib
import ipaddress
import re
import secrets
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from signaling.addresses import local_addresses, url_host
from signaling.config import Config, is_loopback
from streamer import stun
from streamer.dtls import Identity, generate_identity
from streamer.errors import PacketError

from .doctor_finding import Finding, fine, trouble
from .doctor_server import call, local_base, send
from .light.offer import Credentials, receiver_offer

STUN_WAIT_S = 0.5
STUN_TRIES = 4
PRIORITY = 1_845_501_695  # peer reflexive (RFC 8445 section 5.1.2.1)
_CANDIDATE = re.compile(r"a=candidate:\S+ \d+ (udp|tcp) \d+ (\S+) (\d+) typ host", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Candidate:
    """An address that the server gives to receivers, and whether it answered a check."""

    kind: str
    host: str
    port: int
    answers: bool


def look_at_announced(config: Config, token: Callable[[], str], *, running: bool) -> list[Finding]:
    """`token` makes an operations token, asked for only when there is a server to try it on."""
    local = set(local_addresses())
    announce = config.server.announce
    if not running:
        return judge_announced(announce, local)
    try:
        candidates = try_candidates(local_base(config), token())
    except (OSError, ValueError) as error:
        return [
            *judge_announced(announce, local),
            trouble(
                "media",
                "fail",
                (f"测试会话没有建成：{error}", f"a test session could not be opened: {error}"),
                ("查看服务器日志；/readyz 应为 200", "see the server's log; /readyz must be 200"),
            ),
        ]
    return judge_candidates(candidates, local)


def judge_announced(announce: Sequence[str], local: set[str]) -> list[Finding]:
    """Without a running server: whether each address is this machine's own."""
    if not announce:
        usable = [address for address in local if not is_loopback(address)]
        if usable:
            return [fine("announce", ", ".join(sorted(usable)), ", ".join(sorted(usable)))]
        return [
            trouble(
                "announce",
                "warn",
                (
                    "本机只有回环地址，别的机器连不上",
                    "only loopback addresses: no other machine can reach it",
                ),
                (
                    "接通网络，或在 server.announce 填写公网地址",
                    "connect the network, or put the public address into server.announce",
                ),
            )
        ]
    return [
        fine(f"announce {address}", "本机地址", "an address of this machine")
        if _same(address, local)
        else trouble(
            f"announce {address}",
            "warn",
            (
                "不是本机地址；若为 NAT 外的公网地址，请启动服务器后再查一次",
                "not of this machine; if it is the public one of a NAT, check again with the"
                " server running",
            ),
            (
                "确认路由器把媒体端口（UDP 与 TCP）转发到本机",
                "make sure that the router forwards the media ports (UDP and TCP) to this machine",
            ),
        )
        for address in announce
    ]


def judge_candidates(candidates: Sequence[Candidate], local: set[str]) -> list[Finding]:
    """With a running server: whether each candidate answered a check from this machine."""
    if not candidates:
        return [
            trouble(
                "media",
                "fail",
                ("应答里没有候选地址", "the answer carries no candidate"),
                ("检查 server.announce 与 server.host", "check server.announce and server.host"),
            )
        ]
    found: list[Finding] = []
    for one in candidates:
        name = f"media {one.kind} {url_host(one.host)}:{one.port}"
        if one.answers:
            found.append(fine(name, "可达", "reachable"))
            continue
        # Many routers do not let the inside reach the outside address: a doubt, no proof.
        own = _same(one.host, local)
        found.append(
            trouble(
                name,
                "fail" if own else "warn",
                ("本机的测试连接得不到回答", "no answer to a test client on this machine"),
                (
                    f"防火墙放行 {one.kind.upper()} {one.port}"
                    + ("" if own else "；路由器转发它；再从外面的机器确认"),
                    f"let {one.kind.upper()} {one.port} through the firewall"
                    + ("" if own else ", forward it on the router, and confirm from outside"),
                ),
            )
        )
    return found


def try_candidates(base: str, token: str) -> list[Candidate]:
    """Open a lesson and a session in it, check each candidate, and leave nothing behind.

    Raises OSError or ValueError when the server does not give a session.
    """
    lesson = call(
        base, "POST", "/api/v1/lessons", token, {"title": "tongke doctor", "mode": "dispatch"}
    )
    identifier = str(lesson.get("id", ""))
    if not re.fullmatch(r"[A-Za-z0-9_-]+", identifier):
        raise ValueError("the server made no lesson")
    try:
        credentials = Credentials.fresh()
        fingerprint = Identity(*generate_identity()).fingerprint
        offer = receiver_offer(credentials, fingerprint).encode()
        path = f"/whep/{identifier}/camera"
        answer = send(base, "POST", path, token, offer, "application/sdp")
        ufrag, pwd = _credential(answer, "ufrag"), _credential(answer, "pwd")
        seen = dict.fromkeys(
            (kind.lower(), host, int(port)) for kind, host, port in _CANDIDATE.findall(answer)
        )
        return [
            Candidate(
                kind,
                host,
                port,
                _stun_answers(host, port, f"{ufrag}:{credentials.ufrag}", pwd)
                if kind == "udp"
                else _tcp_answers(host, port),
            )
            for kind, host, port in seen
        ]
    finally:
        with contextlib.suppress(OSError, ValueError):
            call(base, "DELETE", f"/api/v1/lessons/{identifier}", token)


def _credential(answer: str, name: str) -> str:
    found = re.search(rf"^a=ice-{name}:(\S+)", answer, re.MULTILINE)
    if found is None:
        raise ValueError(f"the answer has no ice-{name}")
    return found.group(1)


def _stun_answers(host: str, port: int, username: str, password: str) -> bool:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.settimeout(STUN_WAIT_S)
        try:
            sock.connect((host, port))
            for _ in range(STUN_TRIES):
                transaction = secrets.token_bytes(12)
                sock.send(
                    stun.binding_request(
                        transaction,
                        username,
                        password,
                        priority=PRIORITY,
                        controlling_tie_breaker=secrets.randbits(64),
                        use_candidate=False,
                    )
                )
                with contextlib.suppress(TimeoutError, PacketError):
                    message = stun.parse(sock.recv(2048))
                    if (
                        message.type == stun.BINDING_SUCCESS
                        and message.transaction_id == transaction
                    ):
                        return True
        except OSError:
            return False
    return False


def _tcp_answers(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=STUN_WAIT_S * STUN_TRIES).close()
    except OSError:
        return False
    return True


def _same(address: str, local: set[str]) -> bool:
    try:
        wanted = ipaddress.ip_address(address)
    except ValueError:
        return False
    for one in local:
        with contextlib.suppress(ValueError):
            if ipaddress.ip_address(one.partition("%")[0]) == wanted:
                return True
    return wanted.is_loopback
