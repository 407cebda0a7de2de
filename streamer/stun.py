"""STUN Binding messages as ICE uses them: parsed and built, without I/O (RFC 8489, RFC 8445)."""

from __future__ import annotations

import hmac
import ipaddress
import socket
import struct
from binascii import crc32
from collections.abc import Sequence
from dataclasses import dataclass, field

from .errors import PacketError

BINDING_REQUEST = 0x0001
BINDING_INDICATION = 0x0011
BINDING_SUCCESS = 0x0101
BINDING_ERROR = 0x0111
MAGIC_COOKIE = 0x2112A442
HEADER_BYTES = 20
MAX_MESSAGE_BYTES = 2048
MAX_USERNAME_BYTES = 513  # RFC 5389 section 15.3; RFC 8489 went down to 508
MAX_REASON_BYTES = 763  # RFC 8489 section 14.8
MAX_UNKNOWN_ATTRIBUTES = 16  # what we list in a 420: keeps the answer smaller than the request

# Attributes (RFC 8489 section 18.3, RFC 8445 section 16.1).
MAPPED_ADDRESS = 0x0001
USERNAME = 0x0006
MESSAGE_INTEGRITY = 0x0008
ERROR_CODE = 0x0009
UNKNOWN_ATTRIBUTES = 0x000A
REALM = 0x0014
NONCE = 0x0015
XOR_MAPPED_ADDRESS = 0x0020
PRIORITY = 0x0024
USE_CANDIDATE = 0x0025
FINGERPRINT = 0x8028
ICE_CONTROLLED = 0x8029
ICE_CONTROLLING = 0x802A
# Comprehension-required attributes that change nothing for us and are not "unknown".
_TOLERATED = frozenset((MAPPED_ADDRESS, UNKNOWN_ATTRIBUTES, REALM, NONCE))

FAMILY_IPV4 = 1
FAMILY_IPV6 = 2
FINGERPRINT_XOR = 0x5354554E
INTEGRITY_BYTES = 24  # attribute header and SHA-1 digest
FINGERPRINT_BYTES = 8

_HEADER = struct.Struct("!HHI12s")
_ATTRIBUTE = struct.Struct("!HH")
_UINT32 = struct.Struct("!I")
_UINT64 = struct.Struct("!Q")
_SUCCESS_IPV4 = struct.Struct("!HHI12sHHBBHI")
_SUCCESS_IPV6 = struct.Struct("!HHI12sHHBBH16s")
_FINGERPRINT = struct.Struct("!HHI")
_INTEGRITY_HEADER = _ATTRIBUTE.pack(MESSAGE_INTEGRITY, 20)


@dataclass(slots=True)
class StunMessage:
    """What a STUN message says, as far as ICE cares; absent attributes are None.

    `unknown_required` lists comprehension-required attributes that we do not know, at most
    `MAX_UNKNOWN_ATTRIBUTES`. `data` and `integrity_offset` (-1: absent) serve `verify_integrity`.
    """

    type: int
    transaction_id: bytes
    username: str | None = None
    priority: int | None = None
    use_candidate: bool = False
    ice_controlling: int | None = None
    ice_controlled: int | None = None
    xor_mapped_address: tuple[str, int] | None = None
    error: tuple[int, str] | None = None
    unknown_required: tuple[int, ...] = ()
    has_fingerprint: bool = False
    integrity_offset: int = field(default=-1, repr=False)
    data: bytes = field(default=b"", repr=False)

    @property
    def has_integrity(self) -> bool:
        return self.integrity_offset >= 0


def parse(data: bytes | memoryview) -> StunMessage:
    """Parse one whole STUN message; its FINGERPRINT, where it has one, must be right.

    MESSAGE-INTEGRITY is left to `verify_integrity`, since the key depends on the username.
    """
    data = bytes(data)
    size = len(data)
    if not HEADER_BYTES <= size <= MAX_MESSAGE_BYTES:
        raise PacketError(f"STUN message of {size} bytes, 20 to {MAX_MESSAGE_BYTES} accepted")
    kind, length, cookie, transaction_id = _HEADER.unpack_from(data)
    if kind & 0xC000 or cookie != MAGIC_COOKIE:
        raise PacketError("not STUN: wrong leading bits or magic cookie")
    if length != size - HEADER_BYTES or length % 4:
        raise PacketError(f"STUN length field says {length}, the body has {size - HEADER_BYTES}")

    message = StunMessage(kind, transaction_id, data=data)
    seen: set[int] = set()
    unknown: list[int] = []
    offset = HEADER_BYTES
    while offset < size:  # both are multiples of four, so a header always fits
        if message.has_fingerprint:
            raise PacketError("STUN attribute after FINGERPRINT")
        attribute, value_bytes = _ATTRIBUTE.unpack_from(data, offset)
        start = offset + 4
        end = start + value_bytes
        if end > size:
            raise PacketError(f"STUN attribute 0x{attribute:04x} is cut off")
        if attribute == FINGERPRINT:
            _check_fingerprint(data, offset, data[start:end])
            message.has_fingerprint = True
        elif message.integrity_offset < 0 and attribute not in seen:
            # What follows MESSAGE-INTEGRITY is not authenticated and is ignored (RFC 8489
            # section 14.5); of an attribute that comes twice the first counts (section 14).
            seen.add(attribute)
            if attribute == MESSAGE_INTEGRITY:
                if value_bytes != 20:
                    raise PacketError(f"MESSAGE-INTEGRITY of {value_bytes} bytes instead of 20")
                message.integrity_offset = offset
            else:
                _take_attribute(message, attribute, data[start:end], unknown)
        offset = end + (-value_bytes % 4)
    message.unknown_required = tuple(unknown)
    return message


def _take_attribute(message: StunMessage, attribute: int, value: bytes, unknown: list[int]) -> None:
    if attribute == USERNAME:
        message.username = _text("USERNAME", value, MAX_USERNAME_BYTES)
    elif attribute == PRIORITY:
        message.priority = _number("PRIORITY", value, _UINT32)
    elif attribute == USE_CANDIDATE:
        if value:
            raise PacketError("USE-CANDIDATE carries a value")
        message.use_candidate = True
    elif attribute == ICE_CONTROLLING:
        message.ice_controlling = _number("ICE-CONTROLLING", value, _UINT64)
    elif attribute == ICE_CONTROLLED:
        message.ice_controlled = _number("ICE-CONTROLLED", value, _UINT64)
    elif attribute == XOR_MAPPED_ADDRESS:
        message.xor_mapped_address = _unpack_xor_address(value, message.transaction_id)
    elif attribute == ERROR_CODE:
        if len(value) < 4 or not 3 <= value[2] & 7 <= 6 or value[3] > 99:
            raise PacketError("ERROR-CODE outside 300 to 699")
        reason = _text("ERROR-CODE", value[4:], MAX_REASON_BYTES)
        message.error = ((value[2] & 7) * 100 + value[3], reason)
    elif (
        attribute < 0x8000 and attribute not in _TOLERATED and len(unknown) < MAX_UNKNOWN_ATTRIBUTES
    ):
        unknown.append(attribute)


def _check_fingerprint(data: bytes, offset: int, value: bytes) -> None:
    if len(value) != 4 or _UINT32.unpack(value)[0] != crc32(data[:offset]) ^ FINGERPRINT_XOR:
        raise PacketError("STUN FINGERPRINT does not match")


def _text(name: str, value: bytes, limit: int) -> str:
    if len(value) > limit:
        raise PacketError(f"{name} of {len(value)} bytes, at most {limit} accepted")
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise PacketError(f"{name} is not UTF-8") from None


def _number(name: str, value: bytes, layout: struct.Struct) -> int:
    if len(value) != layout.size:
        raise PacketError(f"{name} of {len(value)} bytes instead of {layout.size}")
    number: int = layout.unpack(value)[0]
    return number


def _unpack_xor_address(value: bytes, transaction_id: bytes) -> tuple[str, int]:
    """RFC 8489 section 14.2."""
    if len(value) == 8 and value[1] == FAMILY_IPV4:
        bits = _UINT32.unpack_from(value, 4)[0] ^ MAGIC_COOKIE
        host = str(ipaddress.IPv4Address(bits))
    elif len(value) == 20 and value[1] == FAMILY_IPV6:
        host = normalise_host(socket.inet_ntop(socket.AF_INET6, _xor16(value[4:], transaction_id)))
    else:
        raise PacketError("XOR-MAPPED-ADDRESS of unknown family or wrong length")
    return host, ((value[2] << 8) | value[3]) ^ (MAGIC_COOKIE >> 16)


def _xor16(address: bytes, transaction_id: bytes) -> bytes:
    pad = (MAGIC_COOKIE << 96) | int.from_bytes(transaction_id, "big")
    return (int.from_bytes(address, "big") ^ pad).to_bytes(16, "big")


def normalise_host(host: str) -> str:
    """An address as text, without zone, and IPv4-mapped IPv6 (`::ffff:192.0.2.1`) as IPv4."""
    host = host.partition("%")[0]
    if ":" not in host:
        return host
    address = ipaddress.IPv6Address(host)
    return str(address.ipv4_mapped or address)


def verify_integrity(message: StunMessage, key: bytes) -> bool:
    """Whether MESSAGE-INTEGRITY is there and was made with `key` (RFC 8489 section 14.5)."""
    offset = message.integrity_offset
    if offset < 0:
        return False
    data = message.data
    # The HMAC was computed when MESSAGE-INTEGRITY was the last attribute: so says the length.
    length = offset - HEADER_BYTES + INTEGRITY_BYTES
    covered = data[:2] + length.to_bytes(2, "big") + data[4:offset]
    return hmac.compare_digest(
        hmac.digest(key, covered, "sha1"), data[offset + 4 : offset + INTEGRITY_BYTES]
    )


def binding_request(
    transaction_id: bytes,
    username: str,
    password: str,
    *,
    priority: int,
    controlling_tie_breaker: int,
    use_candidate: bool,
) -> bytes:
    """A connectivity check of a full, controlling ICE implementation (RFC 8445 section 7.2.2)."""
    body = _attribute(USERNAME, username.encode())
    body += _attribute(PRIORITY, _UINT32.pack(priority))
    body += _attribute(ICE_CONTROLLING, _UINT64.pack(controlling_tie_breaker))
    if use_candidate:
        body += _attribute(USE_CANDIDATE, b"")
    return _message(BINDING_REQUEST, transaction_id, body, password.encode())


def binding_success(transaction_id: bytes, address: tuple[str, int], key: bytes) -> bytes:
    """The answer to a check: the address it came from, signed with our own password.

    Long-handed because every receiver asks for one each consent interval.
    """
    host, port = address
    if ":" in host:
        host = normalise_host(host)
    xor_port = port ^ (MAGIC_COOKIE >> 16)
    if ":" in host:
        packed = _xor16(socket.inet_pton(socket.AF_INET6, host), transaction_id)
        head = _SUCCESS_IPV6.pack(
            *(BINDING_SUCCESS, 24 + INTEGRITY_BYTES, MAGIC_COOKIE, _checked(transaction_id)),
            *(XOR_MAPPED_ADDRESS, 20, 0, FAMILY_IPV6, xor_port, packed),
        )
    else:
        bits = int.from_bytes(socket.inet_aton(host), "big") ^ MAGIC_COOKIE
        head = _SUCCESS_IPV4.pack(
            *(BINDING_SUCCESS, 12 + INTEGRITY_BYTES, MAGIC_COOKIE, _checked(transaction_id)),
            *(XOR_MAPPED_ADDRESS, 8, 0, FAMILY_IPV4, xor_port, bits),
        )
    return _sealed(head, key)


def binding_error(
    transaction_id: bytes,
    code: int,
    reason: str,
    key: bytes | None,
    unknown: Sequence[int] = (),
) -> bytes:
    """An error answer, signed when `key` is given; `unknown` are the attributes a 420 names."""
    value = bytes((0, 0, code // 100, code % 100)) + reason.encode()
    body = _attribute(ERROR_CODE, value)
    if unknown:
        body += _attribute(UNKNOWN_ATTRIBUTES, struct.pack(f"!{len(unknown)}H", *unknown))
    return _message(BINDING_ERROR, transaction_id, body, key)


def _attribute(attribute: int, value: bytes) -> bytes:
    return _ATTRIBUTE.pack(attribute, len(value)) + value + bytes(-len(value) % 4)


def _message(kind: int, transaction_id: bytes, body: bytes, key: bytes | None) -> bytes:
    if key is None:
        length = len(body) + FINGERPRINT_BYTES
        signed = _HEADER.pack(kind, length, MAGIC_COOKIE, _checked(transaction_id)) + body
        return signed + _FINGERPRINT.pack(FINGERPRINT, 4, crc32(signed) ^ FINGERPRINT_XOR)
    length = len(body) + INTEGRITY_BYTES
    return _sealed(_HEADER.pack(kind, length, MAGIC_COOKIE, _checked(transaction_id)) + body, key)


def _sealed(message: bytes, key: bytes) -> bytes:
    """Append MESSAGE-INTEGRITY, whose length the header already counts, and FINGERPRINT."""
    digest = hmac.digest(key, message, "sha1")
    length = len(message) - HEADER_BYTES + INTEGRITY_BYTES + FINGERPRINT_BYTES
    signed = b"".join(
        (message[:2], length.to_bytes(2, "big"), message[4:], _INTEGRITY_HEADER, digest)
    )
    return signed + _FINGERPRINT.pack(FINGERPRINT, 4, crc32(signed) ^ FINGERPRINT_XOR)


def _checked(transaction_id: bytes) -> bytes:
    """struct would pad or cut a wrong length silently."""
    if len(transaction_id) != 12:
        raise ValueError(f"a STUN transaction id has 12 bytes, not {len(transaction_id)}")
    return transaction_id
