"""The TLS context of the pages: a self-signed certificate made here, files given, or none.

A certificate that is renewed on disk is taken over while connections go on: they keep what they
were opened with, new ones get the new one.
"""

from __future__ import annotations

import datetime
import ipaddress
import logging
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

log = logging.getLogger(__name__)

# Browsers refuse server certificates that are valid for longer than this.
VALID_DAYS = 397
RENEW_BEFORE_DAYS = 7
FILE_NAME = "tls-self-signed.pem"


class TlsError(Exception):
    """The certificate or key given cannot be used; the text says which file and why."""


Stamp = tuple[tuple[int, int, int], ...]


class Certificate:
    """The certificate of the pages and the context that serves it; `context` is None for "off".

    Raises TlsError when the certificate cannot be used at the start.
    """

    def __init__(self, server: Server, directory: Path) -> None:
        self._server = server
        self._directory = directory
        self._stamp: Stamp = ()
        self.context: ssl.SSLContext | None = None
        if server.tls != "off":
            paths = self._paths()
            self._stamp = _stamp(paths)
            self.context = _context(*paths)

    def refresh(self) -> bool:
        """Take over the files if they have changed and are good; True if they were.

        Files that do not fit each other, perhaps because the second is still being written, are
        logged once and looked at again when they change again.
        """
        if self.context is None:
            return False
        try:
            paths = self._paths()
            stamp = _stamp(paths)
            if stamp == self._stamp:
                return False
            self._stamp = stamp
            _context(*paths)  # a live context that fails half-way would have lost the old one
            self.context.load_cert_chain(*paths)
        except (OSError, TlsError) as error:
            log.error("the certificate on disk is not used, the old one goes on: %s", error)
            return False
        log.info("the certificate has been renewed from %s", paths[0])
        return True

    def _paths(self) -> tuple[Path, Path]:
        """Certificate and key; a self-signed one is made when need be."""
        if self._server.tls == "files":
            return Path(self._server.tls_certificate), Path(self._server.tls_key)
        public_host = urlsplit(self._server.public_url).hostname
        path = self_signed(self._directory / FILE_NAME, [public_host] if public_host else [])
        return path, path


def _context(certificate: Path, key: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise TlsError(
            f"server.tls_certificate {certificate} with server.tls_key {key}: {error}. "
            'Give a PEM certificate and its key, or set server.tls to "auto"'
        ) from error
    return context


def _stamp(paths: tuple[Path, Path]) -> Stamp:
    """What differs when a file was written anew or another one took its name."""
    stats = [path.stat() for path in paths]
    return tuple((stat.st_ino, stat.st_mtime_ns, stat.st_size) for stat in stats)


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
