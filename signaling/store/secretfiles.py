"""Secrets that the server makes for itself and keeps in its data directory, readable by it only.

A file is written whole under another name and renamed, so a crash leaves the old one or the new
one, and its mode is 0600 from the first byte.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import secrets
import tempfile
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

SECRET_BYTES = 32
DTLS_VALID_DAYS = 3650


def data_directory(path: str) -> Path:
    """The data directory, made if need be, closed to others."""
    directory = Path(path)
    if not directory.is_dir():
        directory.mkdir(mode=0o700, parents=True)
    return directory


def write_private(path: Path, content: bytes) -> None:
    """Replace `path` with `content` in one step, mode 0600."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")  # mode 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except OSError:
        with contextlib.suppress(FileNotFoundError):
            Path(name).unlink()
        raise


# Its name, for whoever wants to know whether there is one already.
TOKEN_SECRET = "token-secret"


def token_secret(directory: Path) -> bytes:
    """The secret that signs tokens: the same as long as the data directory is."""
    path = directory / TOKEN_SECRET
    with contextlib.suppress(FileNotFoundError):
        kept = path.read_bytes()
        if len(kept) >= SECRET_BYTES:
            return kept
    made = secrets.token_bytes(SECRET_BYTES)
    write_private(path, made)
    return made


def dtls_identity(directory: Path) -> tuple[str, str]:
    """The certificate and key (PEM) by which workers prove themselves in DTLS.

    Clients compare the fingerprint in the answer (RFC 8122), nobody checks names or issuers; so
    it stays the same for years.
    """
    path = directory / "dtls.pem"
    with contextlib.suppress(FileNotFoundError, ValueError):
        return _split(path.read_bytes(), datetime.datetime.now(datetime.UTC))
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tongke")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=DTLS_VALID_DAYS))
        .sign(key, hashes.SHA256())
    )
    certificate_pem = certificate.public_bytes(serialization.Encoding.PEM)
    key_pem = private_pem(key)
    write_private(path, certificate_pem + key_pem)
    return certificate_pem.decode(), key_pem.decode()


def private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _split(pem: bytes, now: datetime.datetime) -> tuple[str, str]:
    """Certificate and key of one file. Raises ValueError when they are damaged or expired."""
    certificate = x509.load_pem_x509_certificate(pem)
    key = serialization.load_pem_private_key(pem, password=None)
    if certificate.not_valid_after_utc <= now or not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError("the kept DTLS certificate has expired")
    return certificate.public_bytes(serialization.Encoding.PEM).decode(), private_pem(key).decode()
