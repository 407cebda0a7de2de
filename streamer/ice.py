"""The lite side of ICE: answers connectivity checks and says which path to send on (RFC 8445).

A lite implementation gathers only host candidates, sends no checks and is always controlled
(RFC 8445 section 2.5): the peer tries the candidates and nominates, we answer. Its checks, which
go on as consent (RFC 7675), are how we know that it is still there.
"""

from __future__ import annotations

import ipaddress
import secrets
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from . import stun
from .errors import PacketError

ICE_CHARS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
UFRAG_CHARS = 8  # 48 bits; RFC 8445 section 5.3 asks for 24
PWD_CHARS = 24  # 144 bits; RFC 8445 section 5.3 asks for 128

HOST_TYPE_PREFERENCE = 126  # RFC 8445 section 5.1.2.2
# Below server-reflexive UDP (100): TCP is for networks that let no UDP through.
TCP_HOST_TYPE_PREFERENCE = 90
TCP_PASSIVE_DIRECTION = 4  # RFC 6544 section 4.2, for host candidates
MAX_CANDIDATE_ADDRESSES = 32

# A peer that nominates aggressively (RFC 5245) marks every check of every pair and then uses the
# pair of highest priority. Nominations closer together than this are taken for that; later ones
# are a change of mind, which always wins.
AGGRESSIVE_WINDOW_S = 0.5
NO_TIME = float("-inf")


@dataclass(slots=True)
class IceResult:
    """What to do about one received STUN message.

    `response` is to be sent back on the path that the message came from. `accepted`: it was an
    authentic check. `nominated`: it chose this path and the path is the selected one.
    `selected_changed`: `selected_path` is another than before. `reason` says why a message was
    not accepted.
    """

    response: bytes | None = None
    accepted: bool = False
    nominated: bool = False
    selected_changed: bool = False
    reason: str = ""


@dataclass(slots=True)
class _Credentials:
    """One ICE generation: what both sides have given in offer and answer."""

    local_ufrag: str
    local_key: bytes
    remote_ufrag: str | None = None
    remote_pwd: str | None = None


class LiteAgent:
    """One session's ICE state: time and bytes come in, answers and the selected path go out.

    Until the peer nominates, the first path with an authentic check is selected, so that DTLS may
    start. `last_check` is the time of the last authentic check on any path, at first that of the
    creation.
    """

    __slots__ = (
        "_consent_timeout_s",
        "_current",
        "_nominated_at",
        "_previous",
        "_retired",
        "_selected_priority",
        "last_check",
        "selected_path",
    )

    def __init__(
        self, local_ufrag: str, local_pwd: str, now: float, consent_timeout_s: float = 30.0
    ) -> None:
        self._current = _Credentials(local_ufrag, local_pwd.encode())
        self._previous: _Credentials | None = None
        self._retired: list[str] = []
        self._consent_timeout_s = consent_timeout_s
        self._nominated_at = NO_TIME
        self._selected_priority = 0
        self.last_check = now
        self.selected_path: Hashable | None = None

    # --- credentials ---------------------------------------------------------------------------

    def set_remote(self, ufrag: str, pwd: str) -> None:
        """What the peer's description gave; until then any remote part of USERNAME will do."""
        self._current.remote_ufrag = ufrag
        self._current.remote_pwd = pwd

    def is_restart(self, ufrag: str | None, pwd: str | None) -> bool:
        """Whether these remote credentials, None where not given, differ from the current ones."""
        current = self._current
        return (ufrag is not None and ufrag != current.remote_ufrag) or (
            pwd is not None and pwd != current.remote_pwd
        )

    def restart(self, new_ufrag: str, new_pwd: str, remote_ufrag: str, remote_pwd: str) -> None:
        """Begin a new generation; the old one stays valid until the new one's first check.

        The selected path stays selected until the peer nominates anew (RFC 8445 section 9).
        """
        if self._previous is None:
            self._previous = self._current
        else:  # the current generation was never used: the one before it still carries consent
            self._retired.append(self._current.local_ufrag)
        self._current = _Credentials(new_ufrag, new_pwd.encode(), remote_ufrag, remote_pwd)

    def local_ufrags(self) -> list[str]:
        """Every local ufrag that may still be registered for this session, the current first."""
        previous = [] if self._previous is None else [self._previous.local_ufrag]
        return [self._current.local_ufrag, *previous, *self._retired]

    def take_retired_ufrags(self) -> list[str]:
        """Local ufrags that are valid no longer, each told once, so that they can be forgotten."""
        retired, self._retired = self._retired, []
        return retired

    # --- checks --------------------------------------------------------------------------------

    def receive(
        self, data: bytes, address_key: Hashable, now: float, reflect: tuple[str, int]
    ) -> IceResult:
        """Take a STUN message from the path `address_key`; `reflect` is the address it came from.

        Never raises on what the peer sends.
        """
        try:
            message = stun.parse(data)
        except PacketError:
            return IceResult(reason="malformed")
        if message.type == stun.BINDING_INDICATION:
            return IceResult(reason="indication")  # a keep-alive, unauthenticated: no consent
        if message.type != stun.BINDING_REQUEST:
            return IceResult(reason="not-a-request")
        if message.username is None or not message.has_integrity:
            return _refuse(message, 400, "Bad Request", None, "unauthenticated")
        credentials = self._credentials_for(message.username)
        if credentials is None:
            return _refuse(message, 401, "Unauthenticated", None, "wrong-username")
        key = credentials.local_key
        if not stun.verify_integrity(message, key):
            return _refuse(message, 401, "Unauthenticated", None, "bad-integrity")
        if message.unknown_required:
            return _refuse(message, 420, "Unknown Attribute", key, "unknown-attribute")
        if message.ice_controlled is not None:
            # RFC 8445 section 7.3.1.1, where a lite side cannot be the one to switch.
            return _refuse(message, 487, "Role Conflict", key, "role-conflict")

        if credentials is self._current and self._previous is not None:
            self._retired.append(self._previous.local_ufrag)
            self._previous = None
            self._nominated_at = NO_TIME  # the new generation nominates from scratch
        self.last_check = now
        before = self.selected_path
        nominated = message.use_candidate and self._nominate(
            address_key, message.priority or 0, now
        )
        if self.selected_path is None:
            self.selected_path = address_key
        return IceResult(
            stun.binding_success(message.transaction_id, reflect, key),
            accepted=True,
            nominated=nominated,
            selected_changed=self.selected_path != before,
        )

    def vouches_for(self, data: bytes) -> bool:
        """Whether a message is an authentic request, without acting on it.

        For first contact, where taking it means opening a socket: a forger gets none.
        """
        try:
            message = stun.parse(data)
        except PacketError:
            return False
        if message.username is None or not message.has_integrity:
            return False
        credentials = self._credentials_for(message.username)
        return credentials is not None and stun.verify_integrity(message, credentials.local_key)

    def _credentials_for(self, username: str) -> _Credentials | None:
        """The generation that `local:remote` belongs to (RFC 8445 section 7.2.2)."""
        local, separator, remote = username.partition(":")
        for credentials in (self._current, self._previous):
            if (
                credentials is not None
                and separator
                and local == credentials.local_ufrag
                and credentials.remote_ufrag in (None, remote)
            ):
                return credentials
        return None

    def _nominate(self, address_key: Hashable, priority: int, now: float) -> bool:
        """Select the path of a check with USE-CANDIDATE; False when a better one was just taken."""
        if (
            address_key != self.selected_path
            and now - self._nominated_at < AGGRESSIVE_WINDOW_S
            and priority < self._selected_priority
        ):
            return False
        self.selected_path = address_key
        self._selected_priority = priority
        self._nominated_at = now
        return True

    @property
    def nominated(self) -> bool:
        """Whether the peer has nominated the selected path in the current generation."""
        return self._nominated_at > NO_TIME

    def forget(self, address_key: Hashable) -> None:
        """A path is gone (its TCP connection ended): the next check's path replaces it."""
        if self.selected_path == address_key:
            self.selected_path = None
            self._nominated_at = NO_TIME

    def expired(self, now: float) -> bool:
        """Whether consent has run out: no authentic check for so long (RFC 7675 section 5.1)."""
        return now - self.last_check > self._consent_timeout_s


def _refuse(
    message: stun.StunMessage, code: int, phrase: str, key: bytes | None, reason: str
) -> IceResult:
    unknown = message.unknown_required if code == 420 else ()
    response = stun.binding_error(message.transaction_id, code, phrase, key, unknown)
    return IceResult(response, reason=reason)


# --- what goes into descriptions ---------------------------------------------------------------


def generate_ufrag() -> str:
    return "".join(secrets.choice(ICE_CHARS) for _ in range(UFRAG_CHARS))


def generate_pwd() -> str:
    return "".join(secrets.choice(ICE_CHARS) for _ in range(PWD_CHARS))


def candidate_priority(type_pref: int, local_pref: int, component: int = 1) -> int:
    """RFC 8445 section 5.1.2.1."""
    return (type_pref << 24) + (local_pref << 8) + 256 - component


def host_candidates(addresses: Sequence[str], port: int) -> list[str]:
    """Candidate attributes (without `a=`) for UDP on every address, then for passive TCP.

    Addresses are IPv4 or IPv6 in order of preference; repeated ones are taken once.
    """
    if not 0 < port <= 0xFFFF:
        raise ValueError(f"port {port}: 1 to 65535 can be announced")
    hosts = list(dict.fromkeys(_announceable(address) for address in addresses))
    if len(hosts) > MAX_CANDIDATE_ADDRESSES:
        raise ValueError(
            f"{len(hosts)} addresses: at most {MAX_CANDIDATE_ADDRESSES} can be announced, "
            "list the ones that receivers reach"
        )
    udp = []
    tcp = []
    for index, host in enumerate(hosts):
        # Each address has its own local preference (RFC 8445 section 5.1.2.1), and each protocol
        # and address its own foundation (section 5.1.1.3).
        priority = candidate_priority(HOST_TYPE_PREFERENCE, 0xFFFF - index)
        udp.append(f"candidate:{index + 1} 1 udp {priority} {host} {port} typ host")
        local_pref = (TCP_PASSIVE_DIRECTION << 13) + 0x1FFF - index  # RFC 6544 section 4.2
        priority = candidate_priority(TCP_HOST_TYPE_PREFERENCE, local_pref)
        foundation = len(hosts) + index + 1
        tcp.append(
            f"candidate:{foundation} 1 tcp {priority} {host} {port} typ host tcptype passive"
        )
    return udp + tcp


def _announceable(address: str) -> str:
    try:
        parsed = ipaddress.ip_address(stun.normalise_host(address))
    except ValueError:
        raise ValueError(
            f"{address!r} cannot be announced: give an IPv4 or IPv6 address, not a name"
        ) from None
    if parsed.is_unspecified or parsed.is_multicast:
        raise ValueError(f"{address!r} cannot be announced: give an address that receivers reach")
    return str(parsed)
