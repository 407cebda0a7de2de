"""DTLS without I/O: datagrams go in, datagrams and SRTP keys come out (RFC 6347, 9147, 5764).

OpenSSL does the protocol (through pyOpenSSL's memory BIO); this file keeps datagram boundaries,
checks the peer's certificate against the fingerprint of its session description (RFC 8122), and
exports the SRTP keys. The version is whatever OpenSSL negotiates: 1.2, and 1.3 where it has it.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from OpenSSL import SSL

from .srtp import PROFILE_BY_OPENSSL_NAME, PROFILES, SrtpContext, SrtpProfile

MTU_BYTES = 1200
RECORD_HEADER_BYTES = 13  # RFC 6347 section 4.1
MAX_HANDSHAKE_DATAGRAMS = 200  # a client that needs more is not handshaking
SSL_OP_NO_QUERY_MTU = 0x00001000  # openssl/ssl.h; memory BIOs know no path MTU
DIGESTS = {"sha-256": hashlib.sha256, "sha-384": hashlib.sha384, "sha-512": hashlib.sha512}


def generate_identity(days: int = 365) -> tuple[str, str]:
    """Return (certificate_pem, key_pem) of a fresh self-signed ECDSA P-256 identity."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "tongke")])
    now = datetime.datetime.now(tz=datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=days))
        .sign(key, hashes.SHA256())
    )
    return (
        certificate.public_bytes(serialization.Encoding.PEM).decode(),
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ).decode(),
    )


class Identity:
    """A certificate and key with the OpenSSL context that all sessions of a worker share."""

    def __init__(self, certificate_pem: str, key_pem: str) -> None:
        certificate = x509.load_pem_x509_certificate(certificate_pem.encode())
        key = serialization.load_pem_private_key(key_pem.encode(), None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ValueError("the DTLS key must be an elliptic-curve private key")
        digest = certificate.fingerprint(hashes.SHA256()).hex().upper()
        self.fingerprint = ":".join(digest[i : i + 2] for i in range(0, len(digest), 2))
        context = SSL.Context(SSL.DTLS_METHOD)
        context.set_options(SSL.OP_NO_TICKET | SSL_OP_NO_QUERY_MTU)
        # Self-signed certificates on both sides: the fingerprint, not a chain, is what is trusted.
        context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, lambda *_args: True)
        context.use_certificate(certificate)
        context.use_privatekey(key)
        context.set_cipher_list(
            b"ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:"
            b"ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-ECDSA-AES128-SHA:ECDHE-ECDSA-AES256-SHA:"
            b"ECDHE-RSA-AES128-GCM-SHA256"
        )
        context.set_tlsext_use_srtp(b":".join(profile.openssl_name for profile in PROFILES))
        self.context = context


@dataclass(frozen=True, slots=True)
class SrtpKeys:
    """What a finished handshake yields: contexts to send with and to receive with."""

    profile: SrtpProfile
    outbound: SrtpContext
    inbound: SrtpContext


class DtlsFailure(Exception):  # noqa: N818 - it is an outcome that ends the session
    """The handshake cannot succeed: bad record, wrong fingerprint or no common profile."""


class DtlsTransport:
    """One DTLS association; the server side unless `client` is set.

    `receive` and `handle_timeout` return the datagrams to send. `keys` is set once the handshake
    is done and the peer's certificate matches one of `fingerprints` ((algorithm, upper-case hex
    with colons), RFC 8122). Raises `DtlsFailure`; after that the association is dead.
    """

    __slots__ = (
        "_connection",
        "_datagrams",
        "_farewell",
        "_fingerprints",
        "_is_client",
        "closed",
        "heard_after_retiring",
        "keys",
    )

    def __init__(
        self,
        identity: Identity,
        fingerprints: Sequence[tuple[str, str]],
        *,
        client: bool = False,
    ) -> None:
        connection = SSL.Connection(identity.context, None)
        connection.set_ciphertext_mtu(MTU_BYTES)
        if client:
            connection.set_connect_state()
        else:
            connection.set_accept_state()
        self._connection: SSL.Connection | None = connection
        self._farewell: list[bytes] = []
        self._fingerprints = fingerprints
        self._is_client = client
        self._datagrams = 0
        self.keys: SrtpKeys | None = None
        self.closed = False
        self.heard_after_retiring = False

    retired_in_all: ClassVar[int] = 0

    def start(self) -> list[bytes]:
        """Begin as a client: the ClientHello."""
        return self._advance()

    def receive(self, datagram: bytes) -> list[bytes]:
        """Take one datagram of DTLS records."""
        connection = self._connection
        if connection is None:
            self.heard_after_retiring = True
            return []
        if self.closed:
            return []
        if self.keys is None:
            self._datagrams += 1
            if self._datagrams > MAX_HANDSHAKE_DATAGRAMS:
                raise DtlsFailure("too many handshake datagrams")
        try:
            connection.bio_write(datagram)
        except SSL.Error:
            return []
        if self.keys is None:
            return self._advance()
        return self._read_application_data(connection)

    def retire(self) -> None:
        """Free OpenSSL's state (some 90 KiB) when the handshake is safely over.

        Our close_notify is made now, to be sent later. What the peer still says can no longer be
        read: `heard_after_retiring` tells that it said something, most likely goodbye.
        """
        if self.keys is not None and self._connection is not None:
            self._farewell = self.close()
            self.closed = False
            self._connection = None
            DtlsTransport.retired_in_all += 1

    def timeout_s(self) -> float | None:
        """Seconds until `handle_timeout` is due, or None when no flight is outstanding."""
        if self.keys is not None or self._connection is None:
            return None
        return self._connection.DTLSv1_get_timeout()

    def handle_timeout(self) -> list[bytes]:
        """Retransmit the last flight when its timer has run out (RFC 6347 section 4.2.4)."""
        if self.closed or self.keys is not None or self._connection is None:
            return []
        try:
            self._connection.DTLSv1_handle_timeout()
        except SSL.Error as error:
            raise DtlsFailure(f"handshake timed out: {error}") from error
        return self._take_datagrams(self._connection)

    def close(self) -> list[bytes]:
        """Say close_notify."""
        if self.closed:
            return []
        self.closed = True
        if self._connection is None:
            return self._farewell
        with contextlib.suppress(SSL.Error):
            self._connection.shutdown()
        return self._take_datagrams(self._connection)

    def _advance(self) -> list[bytes]:
        connection = self._connection
        if connection is None:
            return []
        try:
            connection.do_handshake()
        except SSL.WantReadError:
            return self._take_datagrams(connection)
        except SSL.Error as error:
            self.closed = True
            raise DtlsFailure(f"handshake failed: {error}") from error
        datagrams = self._take_datagrams(connection)
        self._finish(connection)
        return datagrams

    def _finish(self, connection: SSL.Connection) -> None:
        certificate = connection.get_peer_certificate(as_cryptography=True)
        der = b"" if certificate is None else certificate.public_bytes(serialization.Encoding.DER)
        if not any(
            algorithm in DIGESTS
            and hmac.compare_digest(
                DIGESTS[algorithm](der).hexdigest().upper(), value.replace(":", "").upper()
            )
            for algorithm, value in self._fingerprints
        ):
            self.closed = True
            raise DtlsFailure("the peer's certificate does not match its a=fingerprint")
        profile = PROFILE_BY_OPENSSL_NAME.get(connection.get_selected_srtp_profile())
        if profile is None:
            self.closed = True
            raise DtlsFailure("no common SRTP protection profile")
        material = connection.export_keying_material(b"EXTRACTOR-dtls_srtp", profile.material_bytes)
        client_key, server_key = profile.split_keys(material)
        ours, theirs = (client_key, server_key) if self._is_client else (server_key, client_key)
        self.keys = SrtpKeys(
            profile,
            SrtpContext(profile, ours, outbound=True),
            SrtpContext(profile, theirs, outbound=False),
        )

    def _read_application_data(self, connection: SSL.Connection) -> list[bytes]:
        try:
            while True:
                connection.recv(2048)  # data channels are not ours: read and thrown away
        except SSL.WantReadError:
            pass
        except SSL.ZeroReturnError:
            self.closed = True
        except SSL.Error:
            pass  # a forged or replayed record: DTLS says to ignore it (RFC 6347 4.1.2.7)
        return self._take_datagrams(connection)

    @staticmethod
    def _take_datagrams(connection: SSL.Connection) -> list[bytes]:
        """Cut what OpenSSL wrote into datagrams of whole records, at most MTU_BYTES each."""
        written = b""
        try:
            while True:
                written += connection.bio_read(65536)
        except SSL.Error:
            pass  # WantReadError: nothing more to send
        datagrams: list[bytes] = []
        start = end = 0
        while end < len(written):
            if not 20 <= written[end] <= 63 or len(written) - end < RECORD_HEADER_BYTES:
                end = len(written)  # a DTLS 1.3 unified header (RFC 9147 4): length is implied
                break
            record = RECORD_HEADER_BYTES + int.from_bytes(written[end + 11 : end + 13], "big")
            if end > start and end + record - start > MTU_BYTES:
                datagrams.append(written[start:end])
                start = end
            end += record
        if end > start:
            datagrams.append(written[start:end])
        return datagrams
