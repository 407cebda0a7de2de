"""The lite side of ICE: who is believed, which path is used, and when a peer counts as gone."""

from __future__ import annotations

import asyncio
import re
import struct
from typing import cast

import pytest
from aioice import Candidate, Connection
from aioice import stun as aioice_stun
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer import ice, stun

LOCAL, LOCAL_PWD = "localUfr", "local-password-of-24-chr"
REMOTE, REMOTE_PWD = "remoteUf", "remote-password-of-24-ch"
WIFI = ("udp", "192.0.2.10", 4000)
MOBILE = ("udp", "198.51.100.7", 9000)
HIGH, LOW = 0x6E7F1EFF, 0x6E7E1EFF


def lite(now: float = 0.0) -> ice.LiteAgent:
    machine = ice.LiteAgent(LOCAL, LOCAL_PWD, now)
    machine.set_remote(REMOTE, REMOTE_PWD)
    return machine


def check(
    *,
    username: str = f"{LOCAL}:{REMOTE}",
    password: str = LOCAL_PWD,
    nominate: bool = False,
    priority: int = HIGH,
) -> bytes:
    return stun.binding_request(
        b"transaction!",
        username,
        password,
        priority=priority,
        controlling_tie_breaker=1,
        use_candidate=nominate,
    )


def receive(
    machine: ice.LiteAgent, data: bytes, path: tuple[str, str, int] = WIFI, now: float = 1.0
) -> ice.IceResult:
    return machine.receive(data, path, now, reflect=(path[1], path[2]))


def error_of(result: ice.IceResult) -> tuple[int, bool]:
    """The code of an error response, and whether it is signed with our password."""
    assert not result.accepted
    assert result.response is not None
    message = stun.parse(result.response)
    assert message.error is not None
    assert message.transaction_id == b"transaction!"
    return message.error[0], stun.verify_integrity(message, LOCAL_PWD.encode())


# --- checks ------------------------------------------------------------------------------------


def test_an_authentic_check_is_answered_with_the_address_it_came_from() -> None:
    machine = lite()
    result = receive(machine, check(), now=5.0)
    assert result.accepted
    assert result.reason == ""
    assert result.response is not None
    answer = aioice_stun.parse_message(result.response)
    assert answer.message_class is aioice_stun.Class.RESPONSE
    assert answer.transaction_id == b"transaction!"
    assert answer.attributes["XOR-MAPPED-ADDRESS"] == ("192.0.2.10", 4000)
    assert answer.check_message_integrity(LOCAL_PWD.encode())
    assert machine.last_check == 5.0


def test_the_first_valid_path_is_usable_before_nomination() -> None:
    machine = lite()
    first = receive(machine, check())
    assert (first.selected_changed, first.nominated) == (True, False)
    assert machine.selected_path == WIFI
    second = receive(machine, check(), MOBILE)
    assert (second.selected_changed, second.nominated) == (False, False)
    assert machine.selected_path == WIFI
    assert not machine.nominated


def test_nomination_selects_its_path_and_the_latest_one_wins() -> None:
    machine = lite()
    receive(machine, check())
    result = receive(machine, check(nominate=True), MOBILE, now=2.0)
    assert (result.selected_changed, result.nominated) == (True, True)
    assert machine.selected_path == MOBILE
    assert machine.nominated
    result = receive(machine, check(nominate=True, priority=LOW), WIFI, now=4.0)
    assert (result.selected_changed, result.nominated) == (True, True)
    assert machine.selected_path == WIFI


def test_a_repeated_nomination_changes_nothing() -> None:
    machine = lite()
    receive(machine, check(nominate=True))
    result = receive(machine, check(nominate=True), now=3.0)
    assert (result.selected_changed, result.nominated) == (False, True)


def test_of_nominations_at_the_same_time_the_higher_priority_wins() -> None:
    """Aggressive nomination: every pair is marked, the best one is meant."""
    for order in ([HIGH, LOW, HIGH, LOW], [LOW, HIGH, LOW]):
        machine = lite()
        for step, priority in enumerate(order):
            path = WIFI if priority == HIGH else MOBILE
            receive(machine, check(nominate=True, priority=priority), path, now=1 + step * 0.05)
        assert machine.selected_path == WIFI


def test_a_losing_nomination_is_answered_but_not_called_nominated() -> None:
    machine = lite()
    receive(machine, check(nominate=True), now=1.0)
    result = receive(machine, check(nominate=True, priority=LOW), MOBILE, now=1.1)
    assert result.accepted
    assert not result.nominated
    assert not result.selected_changed


def test_a_lost_path_gives_way_to_the_next_one_checked() -> None:
    machine = lite()
    receive(machine, check(nominate=True))
    machine.forget(MOBILE)
    assert machine.selected_path == WIFI
    machine.forget(WIFI)
    assert machine.selected_path != WIFI
    assert receive(machine, check(), MOBILE).selected_changed
    assert machine.selected_path == MOBILE


class _LitePeer(asyncio.DatagramProtocol):
    """Puts a LiteAgent on a socket."""

    def __init__(self, machine: ice.LiteAgent) -> None:
        self.machine = machine
        self.results: list[ice.IceResult] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        result = self.machine.receive(data, ("udp", *addr), 1.0, reflect=addr)
        self.results.append(result)
        if result.response is not None:
            self.transport.sendto(result.response, addr)


async def test_aioice_connects_to_us_and_nominates() -> None:
    peer = Connection(ice_controlling=True, use_ipv6=False)
    peer.remote_is_lite = True
    await peer.gather_candidates()
    if not peer.local_candidates:
        await peer.close()
        pytest.skip("aioice leaves loopback out, and this machine has no other IPv4 address")
    machine = ice.LiteAgent(LOCAL, LOCAL_PWD, 0.0)
    machine.set_remote(peer.local_username, peer.local_password)
    transport, ours = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: _LitePeer(machine), local_addr=("0.0.0.0", 0)
    )
    try:
        port = transport.get_extra_info("sockname")[1]
        host = peer.local_candidates[0].host
        [udp, _tcp] = ice.host_candidates([host], port)
        await peer.add_remote_candidate(Candidate.from_sdp(udp.removeprefix("candidate:")))
        await peer.add_remote_candidate(None)
        peer.remote_username, peer.remote_password = LOCAL, LOCAL_PWD
        await asyncio.wait_for(peer.connect(), 10)
        assert all(result.accepted for result in ours.results)
        assert machine.nominated
        local_ports = {candidate.port for candidate in peer.local_candidates}
        assert machine.selected_path in {("udp", host, port) for port in local_ports}
    finally:
        transport.close()
        await peer.close()


# --- what is refused ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "username",
    ["", ":", LOCAL, f"{LOCAL}:other", f"other:{REMOTE}", f"{REMOTE}:{LOCAL}", f"{LOCAL}{REMOTE}"],
)
def test_a_wrong_username_is_refused_with_401(username: str) -> None:
    machine = lite()
    result = receive(machine, check(username=username))
    assert error_of(result) == (401, False)
    assert result.reason == "wrong-username"
    assert machine.selected_path is None


def test_an_agent_vouches_for_authentic_checks_only_and_changes_nothing_by_it() -> None:
    machine = lite()
    assert machine.vouches_for(check())
    assert not machine.vouches_for(check(password=REMOTE_PWD))
    assert not machine.vouches_for(check(username="other:one"))
    assert not machine.vouches_for(b"noise")
    assert machine.last_check == 0.0
    assert machine.selected_path is None


def test_a_wrong_password_is_refused_with_401_and_is_no_consent() -> None:
    machine = lite()
    result = receive(machine, check(password=REMOTE_PWD, nominate=True), now=9.0)
    assert error_of(result) == (401, False)
    assert result.reason == "bad-integrity"
    assert machine.last_check == 0.0
    assert machine.selected_path is None


def test_a_request_without_credentials_is_refused_with_400() -> None:
    bare = struct.pack("!HHI12s", 1, 0, stun.MAGIC_COOKIE, b"transaction!")
    assert error_of(receive(lite(), bare)) == (400, False)


def theirs(attributes: dict[str, object], insert: bytes = b"") -> bytes:
    """A request signed by aioice, with raw attributes put in front."""
    message = aioice_stun.Message(
        aioice_stun.Method.BINDING, aioice_stun.Class.REQUEST, b"transaction!"
    )
    message.attributes["USERNAME"] = f"{LOCAL}:{REMOTE}"
    message.attributes.update(attributes)
    body = insert + bytes(message)[20:]
    unsigned = bytes(message)[:2] + struct.pack("!H", len(body)) + bytes(message)[4:20] + body
    digest = aioice_stun.message_integrity(unsigned, LOCAL_PWD.encode())
    size = struct.pack("!H", len(body) + 24)
    return unsigned[:2] + size + unsigned[4:] + struct.pack("!HH", 8, 20) + digest


def test_a_controlled_peer_is_told_to_switch_roles() -> None:
    machine = lite()
    result = receive(machine, theirs({"ICE-CONTROLLED": 2**63}))
    assert error_of(result) == (487, True)
    assert result.reason == "role-conflict"
    assert machine.selected_path is None
    assert receive(machine, theirs({"ICE-CONTROLLING": 7})).accepted


def test_an_unknown_required_attribute_is_refused_with_420_naming_it() -> None:
    result = receive(lite(), theirs({}, insert=struct.pack("!HHI", 0x7ABC, 4, 1)))
    assert error_of(result) == (420, True)
    assert result.response is not None
    assert bytes.fromhex("000a00027abc0000") in result.response


def test_an_unauthenticated_unknown_attribute_gives_401_first() -> None:
    data = bytearray(theirs({}, insert=struct.pack("!HHI", 0x7ABC, 4, 1)))
    data[-1] ^= 1
    assert error_of(receive(lite(), bytes(data))) == (401, False)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "malformed"),
        (b"\x00\x01garbage", "malformed"),
        (check()[:-1], "malformed"),
        (struct.pack("!HHI12s", 0x0011, 0, stun.MAGIC_COOKIE, bytes(12)), "indication"),
        (stun.binding_success(bytes(12), ("192.0.2.1", 1), LOCAL_PWD.encode()), "not-a-request"),
        (struct.pack("!HHI12s", 0x0003, 0, stun.MAGIC_COOKIE, bytes(12)), "not-a-request"),
    ],
)
def test_what_is_no_binding_request_gets_no_answer(data: bytes, reason: str) -> None:
    machine = lite()
    result = receive(machine, data, now=9.0)
    assert result == ice.IceResult(reason=reason)
    assert machine.last_check == 0.0


def test_before_the_remote_description_any_remote_part_will_do() -> None:
    machine = ice.LiteAgent(LOCAL, LOCAL_PWD, 0.0)
    assert receive(machine, check(username=f"{LOCAL}:whoever")).accepted


# --- consent -----------------------------------------------------------------------------------


def test_consent_expires_without_checks_and_is_renewed_by_each() -> None:
    machine = ice.LiteAgent(LOCAL, LOCAL_PWD, 100.0, consent_timeout_s=30.0)
    assert not machine.expired(130.0)
    assert machine.expired(130.1)
    receive(machine, check(), now=120.0)
    assert not machine.expired(150.0)
    assert machine.expired(150.1)


# --- restart -----------------------------------------------------------------------------------

NEW, NEW_PWD = "freshUfr", "fresh-password-of-24-chr"
NEW_REMOTE = "fresherR"


def new_check(nominate: bool = False, priority: int = HIGH) -> bytes:
    return check(
        username=f"{NEW}:{NEW_REMOTE}", password=NEW_PWD, nominate=nominate, priority=priority
    )


def restarted() -> ice.LiteAgent:
    machine = lite()
    receive(machine, check(nominate=True), now=1.0)
    machine.restart(NEW, NEW_PWD, NEW_REMOTE, "remote-password-two-24-c")
    return machine


def test_a_restart_is_told_from_a_trickled_fragment() -> None:
    machine = lite()
    assert not machine.is_restart(None, None)
    assert not machine.is_restart(REMOTE, REMOTE_PWD)
    assert machine.is_restart("other", REMOTE_PWD)
    assert machine.is_restart(None, "other")
    assert machine.is_restart("other", None)


def test_old_credentials_hold_until_the_first_check_with_new_ones() -> None:
    machine = restarted()
    assert machine.local_ufrags() == [NEW, LOCAL]
    assert receive(machine, check(), now=2.0).accepted
    assert machine.take_retired_ufrags() == []
    assert receive(machine, new_check(), MOBILE, now=3.0).accepted
    assert error_of(receive(machine, check(), now=4.0)) == (401, False)
    assert machine.local_ufrags() == [NEW, LOCAL]
    assert machine.take_retired_ufrags() == [LOCAL]
    assert machine.local_ufrags() == [NEW]


def test_a_bad_check_with_the_new_username_does_not_end_the_old_credentials() -> None:
    machine = restarted()
    forged = check(username=f"{NEW}:{NEW_REMOTE}", password="guess")
    assert receive(machine, forged).reason == "bad-integrity"
    assert receive(machine, check()).accepted


def test_media_stays_on_the_old_path_until_the_restart_nominates() -> None:
    machine = restarted()
    assert not receive(machine, new_check(), MOBILE, now=1.1).selected_changed
    assert machine.selected_path == WIFI
    assert not machine.nominated
    # Even at once and with a lower priority: the old generation's nomination no longer counts.
    result = receive(machine, new_check(nominate=True, priority=LOW), MOBILE, now=1.2)
    assert result.nominated
    assert machine.selected_path == MOBILE


def test_a_second_restart_before_any_check_keeps_the_working_generation() -> None:
    machine = restarted()
    machine.restart("thirdUfr", "third-password-of-24-chr", "thirdRem", "x" * 24)
    assert machine.take_retired_ufrags() == [NEW]
    assert receive(machine, check()).accepted
    assert receive(machine, new_check()).reason == "wrong-username"
    third = check(username="thirdUfr:thirdRem", password="third-password-of-24-chr")
    assert receive(machine, third).accepted
    assert receive(machine, check()).reason == "wrong-username"


# --- descriptions ------------------------------------------------------------------------------


def test_generated_credentials_are_long_random_ice_chars() -> None:
    ufrags = {ice.generate_ufrag() for _ in range(50)}
    pwds = {ice.generate_pwd() for _ in range(50)}
    assert len(ufrags) == len(pwds) == 50
    assert all(re.fullmatch(r"[A-Za-z0-9+/]{8,256}", ufrag) for ufrag in ufrags)
    assert all(re.fullmatch(r"[A-Za-z0-9+/]{24,256}", pwd) for pwd in pwds)


def test_the_priority_formula_gives_the_well_known_host_value() -> None:
    assert ice.candidate_priority(126, 65535, 1) == 2130706431


def test_candidates_are_read_by_aioice_with_udp_before_tcp() -> None:
    lines = ice.host_candidates(["192.0.2.1", "2001:DB8:0::1"], 7000)
    parsed = [Candidate.from_sdp(line.removeprefix("candidate:")) for line in lines]
    assert [(c.transport, c.host, c.port, c.type, c.tcptype) for c in parsed] == [
        ("udp", "192.0.2.1", 7000, "host", None),
        ("udp", "2001:db8::1", 7000, "host", None),
        ("tcp", "192.0.2.1", 7000, "host", "passive"),
        ("tcp", "2001:db8::1", 7000, "host", "passive"),
    ]
    priorities = [c.priority for c in parsed]
    assert priorities == sorted(priorities, reverse=True)
    assert len(set(priorities)) == 4
    assert len({c.foundation for c in parsed}) == 4
    assert all(c.component == 1 for c in parsed)


def test_repeated_and_mapped_addresses_make_one_candidate() -> None:
    lines = ice.host_candidates(["192.0.2.1", "::ffff:192.0.2.1", "192.0.2.1"], 7000)
    assert [line.split()[4] for line in lines] == ["192.0.2.1", "192.0.2.1"]


@pytest.mark.parametrize(
    "address", ["", "example.org", "1.2.3", "0.0.0.0", "::", "224.0.0.1", ":x"]
)
def test_what_no_peer_can_reach_is_not_announced(address: str) -> None:
    with pytest.raises(ValueError, match="cannot be announced"):
        ice.host_candidates([address], 7000)


def test_a_port_outside_the_range_is_not_announced() -> None:
    with pytest.raises(ValueError, match="port 0"):
        ice.host_candidates(["192.0.2.1"], 0)


# --- any order of events -----------------------------------------------------------------------

EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["check", "nominate", "forged", "noise", "restart", "forget"]),
        st.sampled_from([WIFI, MOBILE]),
        st.sampled_from([HIGH, LOW]),
        st.floats(0.0, 2.0),
    ),
    max_size=30,
)


@settings(max_examples=150)
@given(EVENTS)
def test_whatever_happens_only_authentic_checks_select_paths_and_give_consent(
    events: list[tuple[str, tuple[str, str, int], int, float]],
) -> None:
    machine = lite()
    username, password = f"{LOCAL}:{REMOTE}", LOCAL_PWD
    now, last_authentic, generation = 0.0, 0.0, 0
    for kind, path, priority, pause in events:
        now += pause
        before = machine.selected_path
        if kind == "restart":
            generation += 1
            machine.restart(f"gen{generation}", f"pwd{generation}", f"rem{generation}", "p")
            username, password = f"gen{generation}:rem{generation}", f"pwd{generation}"
            assert f"gen{generation}" in machine.local_ufrags()
            machine.take_retired_ufrags()
            assert len(machine.local_ufrags()) <= 2
        elif kind == "forget":
            machine.forget(path)
            assert machine.selected_path != path
        elif kind in ("check", "nominate"):
            data = check(
                username=username,
                password=password,
                nominate=kind == "nominate",
                priority=priority,
            )
            result = receive(machine, data, path, now)
            last_authentic = now
            assert result.accepted
            assert result.selected_changed == (machine.selected_path != before)
            assert machine.selected_path is not None
            assert not result.nominated or machine.selected_path == path
        else:
            data = check(username=username, password="wrong", nominate=True)
            result = receive(machine, data if kind == "forged" else b"\0\1noise", path, now)
            assert not (result.accepted or result.nominated or result.selected_changed)
            assert machine.selected_path == before
        assert machine.last_check == last_authentic
