"""The TLS context of the pages: a self-signed certificate made here, files given, or none."""

from __future__ import annotations

import datetime
import ipaddress
import socket
import ssl
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from signaling.addresses import local_addresses
from signaling.config_model import Server
from signaling.store.secretfiles import private_pem, write_private

# Browsers refuse server certificates that are valid for longer than this.
VALID_DAYS = 397
RENEW_BEFORE_DAYS = 7
FILE_NAME = "tls-self-signed.pem"


class TlsError(Exception):
    """The certificate or key given cannot be used; the text says which file and why."""


def server_context(server: Server, directory: Path) -> ssl.SSLContext | None:
    """The context for `server.tls`, None for "off"."""
    if server.tls == "off":
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    if server.tls == "files":
        certificate, key = Path(server.tls_certificate), Path(server.tls_key)
    else:
        public_host = urlsplit(server.public_url).hostname
        names = [public_host] if public_host else []
        certificate = key = self_signed(directory / FILE_NAME, names)
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise TlsError(
            f"server.tls_certificate {certificate} with server.tls_key {key}: {error}. "
            'Give a PEM certificate and its key, or set server.tls to "auto"'
        ) from error
    return context


def self_signed(
    path: Path, extra_names: Sequence[str] = (), now: datetime.datetime | None = None
) -> Path:
    """Make sure that `path` holds a certificate and key for this machine's names; return it.

    It is made anew when it is damaged, about to expire, or names another machine, since each new
    certificate costs every visitor a new exception in the browser.
    """
    moment = now or datetime.datetime.now(datetime.UTC)
    names = _names(extra_names)
    if _still_good(path, names, moment):
        return path
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tongke self-signed")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(moment - datetime.timedelta(hours=1))
        .not_valid_after(moment + datetime.timedelta(days=VALID_DAYS))
        .add_extension(x509.SubjectAlternativeName([_general_name(n) for n in names]), False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False)
        .sign(key, hashes.SHA256())
    )
    write_private(path, certificate.public_bytes(serialization.Encoding.PEM) + private_pem(key))
    return path


def _names(extra: Sequence[str]) -> list[str]:
    names = ["localhost", "127.0.0.1", "::1"]
    for name in (socket.gethostname().lower(), *extra, *local_addresses()):
        if name and name not in names and name.isascii():
            names.append(name)
    return names


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name.partition("%")[0]))
    except ValueError:
        return x509.DNSName(name)


def _still_good(path: Path, names: Sequence[str], now: datetime.datetime) -> bool:
    try:
        pem = path.read_bytes()
        certificate = x509.load_pem_x509_certificate(pem)
        serialization.load_pem_private_key(pem, password=None)
        alternative = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (FileNotFoundError, ValueError, x509.ExtensionNotFound):
        return False
    if certificate.not_valid_after_utc - datetime.timedelta(days=RENEW_BEFORE_DAYS) <= now:
        return False
    return {_general_name(name) for name in names} <= set(alternative.value)
