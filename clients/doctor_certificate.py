"""What `tongke doctor` asks of the certificate: readable, in time, and with the right name."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509

from signaling.config import Config
from signaling.tls import FILE_NAME

from .doctor_finding import Finding, fine, trouble

WARN_DAYS = 14


def look_at_certificate(config: Config, now: datetime.datetime | None = None) -> list[Finding]:
    server = config.server
    moment = now or datetime.datetime.now(datetime.UTC)
    if server.tls == "off":
        return [fine("certificate", "由反向代理提供（tls = off）", "the proxy's (tls = off)")]
    own = server.tls == "auto"
    path = Path(server.data_dir) / FILE_NAME if own else Path(server.tls_certificate)
    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
    except FileNotFoundError:
        if own:
            return [fine("certificate", "启动时自动生成", "will be made at the start")]
        return [_unreadable(path, "no such file", "没有这个文件")]
    except (OSError, ValueError) as error:
        return [_unreadable(path, str(error), str(error))]
    host = urlsplit(server.public_url).hostname
    return judge_certificate(
        certificate.not_valid_after_utc, _names(certificate), host, moment, self_signed=own
    )


def judge_certificate(
    expires: datetime.datetime,
    names: Sequence[str],
    host: str | None,
    now: datetime.datetime,
    *,
    self_signed: bool,
) -> list[Finding]:
    """`host` is what users type (from server.public_url), None when it is not set."""
    days = (expires - now).days
    renew = (
        ("重启服务器，它会自动换新", "restart the server: it makes a new one")
        if self_signed
        else ("续签后替换证书文件并重启", "renew it, replace the file, and restart")
    )
    if days < 0:
        what = (f"证书已于 {expires:%Y-%m-%d} 过期", f"expired on {expires:%Y-%m-%d}")
        return [trouble("certificate", "fail", what, renew)]
    if host is not None and not any(_covers(name, host) for name in names):
        listed = ", ".join(names[:8]) or "–"
        return [
            trouble(
                "certificate",
                "fail",
                (
                    f"证书里没有 {host}（有：{listed}）",
                    f"it does not name {host} (it names: {listed})",
                ),
                (
                    "换一张包含此名称的证书，或改 server.public_url",
                    "get one that names it, or correct server.public_url",
                ),
            )
        ]
    if days < WARN_DAYS:
        what = (f"证书还有 {days} 天过期", f"expires in {days} days")
        return [trouble("certificate", "warn", what, renew)]
    if self_signed:
        return [
            fine(
                "certificate",
                f"自签，{days} 天后过期；浏览器首次会提示",
                f"self-signed, good for {days} days; browsers ask once",
            )
        ]
    return [fine("certificate", f"{days} 天后过期", f"good for {days} days")]


def _unreadable(path: Path, en: str, zh: str) -> Finding:
    return trouble(
        "certificate",
        "fail",
        (f"读不了证书 {path}：{zh}", f"cannot read {path}: {en}"),
        (
            'server.tls_certificate 应指向 PEM 文件，或设 server.tls = "auto"',
            'server.tls_certificate must name a PEM file, or set server.tls = "auto"',
        ),
    )


def _names(certificate: x509.Certificate) -> list[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [
        *names.get_values_for_type(x509.DNSName),
        *(str(address) for address in names.get_values_for_type(x509.IPAddress)),
    ]


def _covers(name: str, host: str) -> bool:
    """RFC 6125 section 6.4.3: a wildcard stands for exactly one label."""
    if name.startswith("*."):
        return host.partition(".")[2].lower() == name[2:].lower()
    return name.lower() == host.lower()
