"""The rules of the configuration that span several keys, each refusal with its remedy."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Iterator
from typing import Final
from urllib.parse import urlsplit

from signaling.config_check import HIDDEN, show
from signaling.config_errors import ConfigProblem
from signaling.config_model import Config, Server, Stream
from signaling.tokens import MIN_SECRET_BYTES

# What the wire carries beyond the media, per packet: IPv4 20 + UDP 8 + RTP 12 + header
# extensions 8 + GCM tag 16 (RFC 7714) = 64 bytes. Video packets hold about 1,100 bytes; Opus
# makes 50 packets a second of 20 ms each.
PACKET_OVERHEAD_BYTES: Final = 64
VIDEO_PAYLOAD_BYTES: Final = 1100
AUDIO_PACKETS_PER_S: Final = 50

_HOSTNAME: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")


def check(config: Config) -> list[ConfigProblem]:
    """Everything that is wrong between the keys of a configuration whose values fit by type."""
    return [
        *_check_addresses(config.server),
        *_check_ports(config.server),
        *_check_tls(config.server),
        *_check_profiles(config),
        *_check_modes(config),
        *_check_auth(config),
    ]


def wire_kbps(stream: Stream) -> int:
    """What a stream takes of a line, packet headers included (rounded up)."""
    video = stream.video_kbps * (1 + PACKET_OVERHEAD_BYTES / VIDEO_PAYLOAD_BYTES)
    audio = 0.0
    if stream.audio_kbps:
        audio = stream.audio_kbps + PACKET_OVERHEAD_BYTES * 8 * AUDIO_PACKETS_PER_S / 1000
    return int(-(-(video + audio) // 1))


def worker_count(server: Server) -> int:
    """The number of media processes: as configured, or one per core."""
    return server.workers or os.cpu_count() or 1


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _check_addresses(server: Server) -> Iterator[ConfigProblem]:
    if not _is_address(server.host) and not _HOSTNAME.fullmatch(server.host):
        yield ConfigProblem(
            "server.host",
            show("", server.host),
            'an IP address or host name, for example "0.0.0.0", "::" or "127.0.0.1"',
            'IP 地址或主机名，例如 "0.0.0.0"、"::" 或 "127.0.0.1"',
        )
    for number, address in enumerate(server.announce):
        if not _is_address(address, unicast=True):
            yield ConfigProblem(
                f"server.announce[{number}]",
                show("", address),
                "an IPv4 or IPv6 address that clients can reach (no host name, no port)",
                "客户端能访问的 IPv4 或 IPv6 地址（不要写主机名或端口）",
            )
    if server.public_url and not _is_origin(server.public_url):
        yield ConfigProblem(
            "server.public_url",
            show("", server.public_url),
            'http:// or https://, a host and at most a port, for example "https://class.example"',
            'http:// 或 https:// 加主机名，可带端口，例如 "https://class.example"',
        )


def _check_ports(server: Server) -> Iterator[ConfigProblem]:
    count = worker_count(server)
    last = server.media_port + count - 1
    if last > 65535:
        yield ConfigProblem(
            "server.media_port",
            str(server.media_port),
            f"1 to {65536 - count}: {count} workers take one port each, counted up from it",
            f"1 到 {65536 - count}：{count} 个媒体进程各占一个端口，由此依次加一",
        )
    if server.media_port <= server.port <= last:
        yield ConfigProblem(
            "server.media_port",
            str(server.media_port),
            f"a range free of server.port ({server.port}): the workers take TCP and UDP ports "
            f"{server.media_port} to {last}",
            f"避开 server.port（{server.port}）：媒体进程占用 TCP 与 UDP 端口 "
            f"{server.media_port} 到 {last}",
        )


def _check_tls(server: Server) -> Iterator[ConfigProblem]:
    if server.tls == "files":
        for key, value in (
            ("server.tls_certificate", server.tls_certificate),
            ("server.tls_key", server.tls_key),
        ):
            if not value:
                yield ConfigProblem(
                    key,
                    show("", value),
                    'the path of a PEM file while server.tls is "files" '
                    '(or set server.tls to "auto" for a self-signed certificate)',
                    'server.tls 为 "files" 时须填 PEM 文件路径（或将 server.tls 设为 "auto"，'
                    "使用自签证书）",
                )
    elif server.tls == "off":
        behind_proxy = server.public_url.startswith("https://")
        if not is_loopback(server.host) and not behind_proxy:
            yield ConfigProblem(
                "server.tls",
                '"off"',
                '"auto" or "files"; "off" only when server.host is loopback ("127.0.0.1"), or '
                "behind a proxy that does HTTPS: then set server.public_url to its https:// "
                "address. Browsers give no camera on a plain http:// page",
                '"auto" 或 "files"；"off" 仅限 server.host 为本机（"127.0.0.1"），或位于提供 HTTPS '
                "的反向代理之后：此时请将 server.public_url 设为其 https:// 网址。浏览器不允许 "
                "http:// 网页使用摄像头",
            )


def _check_profiles(config: Config) -> Iterator[ConfigProblem]:
    for name, profile in config.profiles.items():
        for stream_name, stream in profile.streams.items():
            repeated = [c for c in stream.codecs if stream.codecs.count(c) > 1]
            if repeated:
                yield ConfigProblem(
                    f"profiles.{name}.streams.{stream_name}.codecs",
                    show("", stream.codecs),
                    f'each codec once ("{repeated[0]}" is there twice)',
                    f"每种编码只写一次（“{repeated[0]}” 重复）",
                )
        # The stage is made here and received instead of the others, so it adds to neither line.
        needs = {
            key: wire_kbps(stream) for key, stream in profile.streams.items() if key != "stage"
        }
        total = sum(needs.values())
        for budget_key, budget in (
            ("uplink_kbps", profile.uplink_kbps),
            ("downlink_kbps", profile.downlink_kbps),
        ):
            if not budget or total <= budget:
                continue
            yield _over_budget(name, budget_key, budget, total, needs, profile.streams)


def _over_budget(
    name: str,
    budget_key: str,
    budget: int,
    total: int,
    needs: dict[str, int],
    streams: dict[str, Stream],
) -> ConfigProblem:
    largest = max(needs, key=lambda key: needs[key])
    ratio = 1 + PACKET_OVERHEAD_BYTES / VIDEO_PAYLOAD_BYTES
    spare = budget - (total - streams[largest].video_kbps * ratio)
    # Two less: each stream's need was rounded up.
    fits = int(spare / ratio) - 2
    listed = ", ".join(f"{key} {kbps}" for key, kbps in needs.items())
    key = f"profiles.{name}.streams.{largest}.video_kbps"
    if fits >= 30:
        en = f"at least {total}, or lower {key} to {fits}"
        zh = f"至少 {total}，或将 {key} 降到 {fits}"
    else:
        en, zh = (
            f"at least {total}, or fewer or smaller streams",
            f"至少 {total}，或减少、调低各路流",
        )
    return ConfigProblem(
        f"profiles.{name}.{budget_key}",
        str(budget),
        f"{en}. The streams with packet overhead need {total} kbit/s together ({listed})",
        f"{zh}。各路流连同包头共需 {total} kbit/s（{listed}）",
    )


def _check_modes(config: Config) -> Iterator[ConfigProblem]:
    for name, mode in config.modes.items():
        profile = config.profiles.get(mode.profile)
        if profile is None:
            known = ", ".join(f'"{key}"' for key in config.profiles)
            yield ConfigProblem(
                f"modes.{name}.profile",
                show("", mode.profile),
                f"the name of a profile: {known}",
                f"带宽配置的名称：{known}",
            )
            continue
        known_streams = dict.fromkeys((*profile.streams, "stage"))
        available = ", ".join(f'"{key}"' for key in known_streams)
        for number, stream in enumerate(mode.streams):
            if stream not in known_streams or stream in mode.streams[:number]:
                yield ConfigProblem(
                    f"modes.{name}.streams[{number}]",
                    show("", stream),
                    f'each once, a stream of profile "{mode.profile}": {available}',
                    f"不重复，且为带宽配置 “{mode.profile}” 中的输出流：{available}",
                )
        for stream in mode.receiver_caps:
            if stream not in known_streams:
                yield ConfigProblem(
                    f"modes.{name}.receiver_caps.{stream}",
                    str(mode.receiver_caps[stream]),
                    f'a stream of profile "{mode.profile}": {available}',
                    f"带宽配置 “{mode.profile}” 中的输出流：{available}",
                )


def _check_auth(config: Config) -> Iterator[ConfigProblem]:
    secret = config.auth.secret
    if secret and len(secret.encode("utf-8", "replace")) < MIN_SECRET_BYTES:
        yield ConfigProblem(
            "auth.secret",
            HIDDEN,
            f"at least {MIN_SECRET_BYTES} bytes (RFC 7518), or empty: one is generated and kept",
            f"至少 {MIN_SECRET_BYTES} 字节（RFC 7518），或留空自动生成并保存",
        )


def _is_address(text: str, *, unicast: bool = False) -> bool:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    return not (unicast and (address.is_unspecified or address.is_multicast))


def _is_origin(text: str) -> bool:
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return False
    return (
        parts.scheme in ("http", "https")
        and bool(parts.hostname)
        and parts.username is None
        and parts.path in ("", "/")
        and not parts.query
        and not parts.fragment
        and port != 0
        and text.isascii()
        and text.isprintable()
        and " " not in text
    )
