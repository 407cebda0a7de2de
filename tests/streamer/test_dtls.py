"""The DTLS machine against itself as a client, against loss, garbage and wrong fingerprints."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.dtls import MTU_BYTES, DtlsFailure, DtlsTransport, Identity, generate_identity
from streamer.srtp import PinnedBuffer

SERVER = Identity(*generate_identity())
CLIENT = Identity(*generate_identity())


def pair(client_fingerprint: str = CLIENT.fingerprint) -> tuple[DtlsTransport, DtlsTransport]:
    return (
        DtlsTransport(SERVER, [("sha-256", client_fingerprint)]),
        DtlsTransport(CLIENT, [("sha-256", SERVER.fingerprint)], client=True),
    )


def shake(server: DtlsTransport, client: DtlsTransport) -> list[int]:
    sizes = []
    to_server, to_client = client.start(), []
    while to_server or to_client:
        sizes += [len(datagram) for datagram in to_server + to_client]
        to_client = [out for datagram in to_server for out in server.receive(datagram)]
        to_server = [out for datagram in to_client for out in client.receive(datagram)]
    return sizes


def test_both_sides_end_with_matching_keys_and_the_cheapest_profile() -> None:
    server, client = pair()
    sizes = shake(server, client)
    assert max(sizes) <= MTU_BYTES
    assert server.keys is not None
    assert client.keys is not None
    assert server.keys.profile.name == client.keys.profile.name == "AEAD_AES_128_GCM"
    packet = bytes([0x80, 96]) + bytes(10) + b"hello"
    for sender, receiver in ((server.keys, client.keys), (client.keys, server.keys)):
        protected = sender.outbound.protect(packet)
        buffer = PinnedBuffer(2048)
        buffer.data[: len(protected)] = protected
        assert receiver.inbound.unprotect(buffer, len(protected)) == len(packet)


def test_a_certificate_other_than_the_announced_one_ends_the_session() -> None:
    server, client = pair(client_fingerprint=SERVER.fingerprint)
    with pytest.raises(DtlsFailure, match="fingerprint"):
        shake(server, client)
    assert server.keys is None


def test_a_lost_flight_is_sent_again_when_the_timer_runs_out() -> None:
    _server, client = pair()
    client.start()  # the ClientHello is lost
    timeout = client.timeout_s()
    assert timeout is not None
    assert 0 < timeout <= 1.5


def test_close_notify_is_understood() -> None:
    server, client = pair()
    shake(server, client)
    for datagram in server.close():
        client.receive(datagram)
    assert client.closed
    assert server.close() == []


def test_a_retired_association_still_says_goodbye_and_notices_that_it_is_spoken_to() -> None:
    server, client = pair()
    shake(server, client)
    server.retire()
    assert server.keys is not None
    assert not server.closed
    for datagram in client.close():
        assert server.receive(datagram) == []
    assert server.heard_after_retiring
    goodbye = server.close()
    assert goodbye
    fresh_server, fresh_client = pair()
    shake(fresh_server, fresh_client)
    fresh_server.retire()
    for datagram in fresh_server.close():
        fresh_client.receive(datagram)
    assert fresh_client.closed


def test_an_unfinished_handshake_does_not_retire() -> None:
    server, client = pair()
    server.receive(client.start()[0])
    server.retire()
    assert server.timeout_s() is not None


@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(max_size=300), max_size=5))
def test_garbage_before_the_handshake_is_ignored_or_ends_it(datagrams: list[bytes]) -> None:
    server, _client = pair()
    for datagram in datagrams:
        try:
            server.receive(datagram)
        except DtlsFailure:
            break
    assert server.keys is None


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 400), st.integers(1, 255))
def test_a_client_hello_with_a_flipped_byte_never_raises_anything_else(at: int, flip: int) -> None:
    server, client = pair()
    hello = bytearray(client.start()[0])
    hello[at % len(hello)] ^= flip
    try:
        server.receive(bytes(hello))
    except DtlsFailure:
        assert server.closed


@settings(max_examples=60, deadline=None)
@given(st.binary(min_size=1, max_size=300))
def test_garbage_after_the_handshake_changes_nothing(datagram: bytes) -> None:
    server, client = pair()
    shake(server, client)
    server.receive(datagram)
    assert server.keys is not None
