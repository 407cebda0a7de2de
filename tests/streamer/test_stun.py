"""STUN messages: the RFC's own vectors, an independent implementation, and hostile bytes."""

from __future__ import annotations

import struct
from binascii import crc32

import pytest
from aioice import stun as aioice_stun
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer import stun
from streamer.errors import PacketError

# The sample messages of RFC 5769 sections 2.1 to 2.3, and the password and address they name.
RFC5769_PASSWORD = b"VOkJxbRl1RmTxUk/WvJxBt"
RFC5769_REQUEST = bytes.fromhex(
    "000100582112a442b7e7a701bc34d686fa87dfae802200105354554e207465737420636c69656e74"
    "002400046e0001ff80290008932ff9b151263b36000600096576746a3a68367659202020"
    "000800149aeaa70cbfd8cb56781ef2b5b2d3f249c1b571a280280004e57a3bcf"
)
RFC5769_RESPONSE_IPV4 = bytes.fromhex(
    "0101003c2112a442b7e7a701bc34d686fa87dfae8022000b7465737420766563746f7220"
    "002000080001a147e112a643000800142b91f599fd9e90c38c7489f92af9ba53f06be7d7"
    "80280004c07d4c96"
)
RFC5769_RESPONSE_IPV6 = bytes.fromhex(
    "010100482112a442b7e7a701bc34d686fa87dfae8022000b7465737420766563746f7220"
    "002000140002a1470113a9faa5d3f179bc25f4b5bed2b9d900080014a382954e4be67bf1"
    "1784c97c8292c275bfe3ed4180280004c8fb0b4c"
)
RFC5769_TRANSACTION = bytes.fromhex("b7e7a701bc34d686fa87dfae")

TRANSACTION = bytes(range(12))
KEY = b"the-answerer-password-24"


def attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("!HH", kind, len(value)) + value + bytes(-len(value) % 4)


def plain(body: bytes, kind: int = stun.BINDING_REQUEST) -> bytes:
    return struct.pack("!HHI12s", kind, len(body), stun.MAGIC_COOKIE, TRANSACTION) + body


def request(use_candidate: bool = True) -> bytes:
    return stun.binding_request(
        TRANSACTION,
        "local:remote",
        KEY.decode(),
        priority=0x6E7F1EFF,
        controlling_tie_breaker=0x0123456789ABCDEF,
        use_candidate=use_candidate,
    )


# --- RFC 5769 ----------------------------------------------------------------------------------


def test_the_sample_request_of_rfc_5769_is_read_and_verified() -> None:
    message = stun.parse(RFC5769_REQUEST)
    assert message.type == stun.BINDING_REQUEST
    assert message.transaction_id == RFC5769_TRANSACTION
    assert message.username == "evtj:h6vY"
    assert message.priority == 0x6E0001FF
    assert message.ice_controlled == 0x932FF9B151263B36
    assert message.ice_controlling is None
    assert not message.use_candidate
    assert message.has_integrity
    assert message.has_fingerprint
    assert message.unknown_required == ()
    assert stun.verify_integrity(message, RFC5769_PASSWORD)
    assert not stun.verify_integrity(message, RFC5769_PASSWORD[:-1])


@pytest.mark.parametrize(
    ("data", "host"),
    [
        (RFC5769_RESPONSE_IPV4, "192.0.2.1"),
        (RFC5769_RESPONSE_IPV6, "2001:db8:1234:5678:11:2233:4455:6677"),
    ],
    ids=["ipv4", "ipv6"],
)
def test_the_sample_responses_of_rfc_5769_are_read_and_verified(data: bytes, host: str) -> None:
    message = stun.parse(memoryview(data))
    assert message.type == stun.BINDING_SUCCESS
    assert message.xor_mapped_address == (host, 32853)
    assert stun.verify_integrity(message, RFC5769_PASSWORD)


@pytest.mark.parametrize(
    "data",
    [RFC5769_REQUEST, RFC5769_RESPONSE_IPV4, RFC5769_RESPONSE_IPV6],
    ids=["request", "ipv4", "ipv6"],
)
def test_any_damaged_byte_is_noticed(data: bytes) -> None:
    fingerprint_type = (len(data) - 8, len(data) - 7)
    for position in range(len(data)):
        broken = bytearray(data)
        broken[position] ^= 0x04
        if position in fingerprint_type:  # then it is some other, optional attribute
            assert not stun.parse(bytes(broken)).has_fingerprint
            continue
        with pytest.raises(PacketError):
            stun.parse(bytes(broken))


# --- against aioice ----------------------------------------------------------------------------


@pytest.mark.parametrize("use_candidate", [False, True])
def test_aioice_reads_our_request(use_candidate: bool) -> None:
    theirs = aioice_stun.parse_message(request(use_candidate))
    assert theirs.message_class is aioice_stun.Class.REQUEST
    assert theirs.transaction_id == TRANSACTION
    assert theirs.attributes["USERNAME"] == "local:remote"
    assert theirs.attributes["PRIORITY"] == 0x6E7F1EFF
    assert theirs.attributes["ICE-CONTROLLING"] == 0x0123456789ABCDEF
    assert ("USE-CANDIDATE" in theirs.attributes) is use_candidate
    assert "FINGERPRINT" in theirs.attributes
    assert theirs.check_message_integrity(KEY)


ADDRESSES = st.tuples(st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)), st.integers(0, 65535))


@settings(max_examples=150)
@given(address=ADDRESSES, transaction=st.binary(min_size=12, max_size=12))
def test_aioice_reads_our_success_response_and_so_do_we(
    address: tuple[object, int], transaction: bytes
) -> None:
    host = stun.normalise_host(str(address[0]))
    ours = stun.binding_success(transaction, (str(address[0]), address[1]), KEY)
    theirs = aioice_stun.parse_message(ours)
    assert theirs.message_class is aioice_stun.Class.RESPONSE
    assert theirs.attributes["XOR-MAPPED-ADDRESS"] == (host, address[1])
    assert theirs.check_message_integrity(KEY)
    assert stun.parse(ours).xor_mapped_address == (host, address[1])


def test_aioice_reads_our_errors() -> None:
    signed = stun.binding_error(TRANSACTION, 420, "Unknown Attribute", KEY, (0x7001, 0x7002, 3))
    message = stun.parse(signed)
    assert message.error == (420, "Unknown Attribute")
    assert stun.verify_integrity(message, KEY)
    assert attribute(0x000A, bytes.fromhex("700170020003")) in signed

    theirs = aioice_stun.parse_message(stun.binding_error(TRANSACTION, 487, "Role Conflict", KEY))
    assert theirs.attributes["ERROR-CODE"] == (487, "Role Conflict")
    assert theirs.check_message_integrity(KEY)


def test_an_error_without_key_is_unsigned_but_fingerprinted() -> None:
    message = stun.parse(stun.binding_error(TRANSACTION, 401, "Unauthenticated", None))
    assert message.type == stun.BINDING_ERROR
    assert message.error == (401, "Unauthenticated")
    assert not message.has_integrity
    assert message.has_fingerprint
    assert not stun.verify_integrity(message, KEY)


@settings(max_examples=100)
@given(
    username=st.text(st.characters(codec="utf-8"), max_size=60),
    priority=st.integers(0, 2**32 - 1),
    tie_breaker=st.integers(0, 2**64 - 1),
    controlling=st.booleans(),
)
def test_we_read_requests_of_aioice(
    username: str, priority: int, tie_breaker: int, controlling: bool
) -> None:
    theirs = aioice_stun.Message(aioice_stun.Method.BINDING, aioice_stun.Class.REQUEST)
    theirs.attributes["USERNAME"] = username
    theirs.attributes["PRIORITY"] = priority
    theirs.attributes["ICE-CONTROLLING" if controlling else "ICE-CONTROLLED"] = tie_breaker
    theirs.attributes["USE-CANDIDATE"] = None
    theirs.add_message_integrity(KEY)
    ours = stun.parse(bytes(theirs))
    assert ours.username == username
    assert ours.priority == priority
    assert (ours.ice_controlling, ours.ice_controlled) == (
        (tie_breaker, None) if controlling else (None, tie_breaker)
    )
    assert ours.use_candidate
    assert stun.verify_integrity(ours, KEY)
    assert not stun.verify_integrity(ours, b"another")


# --- details of the RFC ------------------------------------------------------------------------


def test_ipv4_mapped_addresses_are_told_as_ipv4() -> None:
    data = stun.binding_success(TRANSACTION, ("::ffff:192.0.2.7", 5000), KEY)
    assert stun.parse(data).xor_mapped_address == ("192.0.2.7", 5000)
    assert data == stun.binding_success(TRANSACTION, ("192.0.2.7", 5000), KEY)
    assert stun.normalise_host("fe80::1%eth0") == "fe80::1"


def test_of_a_repeated_attribute_the_first_counts() -> None:
    body = attribute(stun.PRIORITY, b"\0\0\0\1") + attribute(stun.PRIORITY, b"\0\0\0\2")
    assert stun.parse(plain(body)).priority == 1


def test_what_follows_message_integrity_is_ignored() -> None:
    body = attribute(stun.MESSAGE_INTEGRITY, bytes(20)) + attribute(stun.USE_CANDIDATE, b"")
    message = stun.parse(plain(body + attribute(0x7FFF, b"x")))
    assert not message.use_candidate
    assert message.unknown_required == ()


def test_unknown_required_attributes_are_listed_and_optional_ones_are_not() -> None:
    body = attribute(0x7001, b"abc") + attribute(0xC057, bytes(4)) + attribute(0x7002, b"")
    assert stun.parse(plain(body)).unknown_required == (0x7001, 0x7002)
    many = b"".join(attribute(0x7000 + n, b"") for n in range(200))
    assert len(stun.parse(plain(many)).unknown_required) == stun.MAX_UNKNOWN_ATTRIBUTES


def test_an_attribute_after_the_fingerprint_is_refused() -> None:
    head = struct.pack("!HHI12s", 1, 12, stun.MAGIC_COOKIE, TRANSACTION)
    fingerprint = attribute(stun.FINGERPRINT, struct.pack("!I", crc32(head) ^ 0x5354554E))
    with pytest.raises(PacketError, match="after FINGERPRINT"):
        stun.parse(head + fingerprint + attribute(stun.USE_CANDIDATE, b""))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "0 bytes"),
        (bytes(19), "19 bytes"),
        (plain(bytes(3000)), "3020 bytes"),
        (plain(b"")[:4] + bytes(16), "magic cookie"),
        (b"\x80" + plain(b"")[1:], "leading bits"),
        (plain(b"") + bytes(4), "length field"),
        (plain(bytes(2)), "length field"),
        (plain(struct.pack("!HH", 0x8022, 40) + bytes(8)), "cut off"),
        (plain(attribute(stun.USERNAME, b"\xff\xfe")), "USERNAME is not UTF-8"),
        (plain(attribute(stun.USERNAME, b"u" * 600)), "USERNAME of 600"),
        (plain(attribute(stun.PRIORITY, bytes(3))), "PRIORITY of 3"),
        (plain(attribute(stun.ICE_CONTROLLING, bytes(4))), "ICE-CONTROLLING of 4"),
        (plain(attribute(stun.ICE_CONTROLLED, bytes(9))), "ICE-CONTROLLED of 9"),
        (plain(attribute(stun.USE_CANDIDATE, b"yes!")), "USE-CANDIDATE"),
        (plain(attribute(stun.MESSAGE_INTEGRITY, bytes(32))), "MESSAGE-INTEGRITY of 32"),
        (plain(attribute(stun.FINGERPRINT, bytes(4))), "FINGERPRINT"),
        (plain(attribute(stun.XOR_MAPPED_ADDRESS, b"\0\3" + bytes(6))), "XOR-MAPPED-ADDRESS"),
        (plain(attribute(stun.XOR_MAPPED_ADDRESS, b"\0\2" + bytes(6))), "XOR-MAPPED-ADDRESS"),
        (plain(attribute(stun.ERROR_CODE, b"\0\0\2\0")), "ERROR-CODE"),
        (plain(attribute(stun.ERROR_CODE, b"\0\0")), "ERROR-CODE"),
    ],
)
def test_malformed_messages_are_refused_by_name(data: bytes, said: str) -> None:
    with pytest.raises(PacketError, match=said):
        stun.parse(data)


def test_a_transaction_id_of_wrong_length_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="12 bytes"):
        stun.binding_success(b"short", ("192.0.2.1", 1), KEY)


# --- hostile bytes -----------------------------------------------------------------------------


def parse_or_refuse(data: bytes) -> None:
    try:
        message = stun.parse(data)
    except PacketError:
        return
    assert len(message.unknown_required) <= stun.MAX_UNKNOWN_ATTRIBUTES
    stun.verify_integrity(message, KEY)


@settings(max_examples=200)
@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_a_message_or_a_packet_error(data: bytes) -> None:
    parse_or_refuse(data)


KNOWN = [1, 6, 8, 9, 10, 0x14, 0x20, 0x24, 0x25, 0x7001, 0x8022, 0x8028, 0x8029, 0x802A]


@settings(max_examples=200)
@given(
    kind=st.integers(0, 0x3FFF),
    attributes=st.lists(st.tuples(st.sampled_from(KNOWN), st.binary(max_size=24)), max_size=8),
    tail=st.binary(max_size=8),
)
def test_arbitrary_attributes_are_a_message_or_a_packet_error(
    kind: int, attributes: list[tuple[int, bytes]], tail: bytes
) -> None:
    parse_or_refuse(plain(b"".join(attribute(*item) for item in attributes) + tail, kind))


@settings(max_examples=200)
@given(position=st.integers(0, 200), value=st.integers(0, 255), cut=st.integers(0, 130))
def test_mutated_requests_are_a_message_or_a_packet_error(
    position: int, value: int, cut: int
) -> None:
    data = bytearray(request()[:-8])  # without FINGERPRINT, which would catch everything
    data[position % len(data)] = value
    parse_or_refuse(bytes(data))
    short = data[: len(data) - cut] if cut < len(data) else bytearray()
    if len(short) >= 20:
        short[2:4] = (len(short) - 20).to_bytes(2, "big")
    parse_or_refuse(bytes(short))
