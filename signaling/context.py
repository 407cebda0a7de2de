"""What the HTTP handlers share: the parts of the control process, and the gates in front of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING

from signaling.config_model import Config, Limits
from signaling.problems import Problem
from signaling.ratelimit import CodeGuard, KeyedBuckets, TokenBucket, network
from signaling.tokens import Claims, TokenAuthority

if TYPE_CHECKING:
    from signaling.audit import AuditLog
    from signaling.configuring import Configuring
    from signaling.desk import Desk
    from signaling.events import Hub
    from signaling.interaction import Interaction
    from signaling.lessons import LessonRegistry
    from signaling.supervisor import Supervisor

# A school behind one address opens all its pages in the same minute: ten seconds' worth, at least
# a thousand requests, may come at once.
BURST_S = 10.0
LEAST_BURST = 1000.0


class Gates:
    """The rate limits in front of the handlers. Each raises Problem `too-many-requests`."""

    def __init__(self, limits: Limits) -> None:
        self._requests = KeyedBuckets(*_request_rate(limits))
        self._joins = TokenBucket(limits.joins_per_second, limits.joins_burst)
        self._codes = CodeGuard(limits.wrong_codes_per_10min)
        self._tokens = KeyedBuckets(*_token_rate(limits))
        self._seats = KeyedBuckets(*_per_minute(limits.joins_per_seat_per_minute))
        self._new_seats = KeyedBuckets(*_per_minute(limits.new_seats_per_ip_per_minute))

    def configure(self, limits: Limits) -> None:
        self._requests.configure(*_request_rate(limits))
        self._joins.rate, self._joins.burst = limits.joins_per_second, limits.joins_burst
        self._codes.configure(limits.wrong_codes_per_10min)
        self._tokens.configure(*_token_rate(limits))
        self._seats.configure(*_per_minute(limits.joins_per_seat_per_minute))
        self._new_seats.configure(*_per_minute(limits.new_seats_per_ip_per_minute))

    def request(self, address: str) -> None:
        """Any request that costs us something, from an address."""
        _pass(self._requests.take(network(address), monotonic()))

    def token(self, claims: Claims) -> None:
        """A request with a valid token. A seat has one budget, whatever token stands for it."""
        _pass(self._tokens.take(claims.seat or claims.sub, monotonic()))

    def join(self, claims: Claims) -> None:
        """A media session that is about to be opened with a valid token, from wherever.

        A token without a seat may stand for a whole county: only the budget of all limits it.
        """
        if claims.seat is not None:
            _pass(self._seats.take(claims.seat, monotonic()))
        _pass(self._joins.take(monotonic()))

    def new_seat(self, address: str) -> None:
        """A right join code for which an address is about to get a seat that nobody had."""
        _pass(self._new_seats.take(network(address), monotonic()))

    def code(self, address: str) -> None:
        """A join code that is about to be looked up."""
        _pass(self._codes.wait_s(address, monotonic()))

    def wrong_code(self, address: str) -> None:
        self._codes.wrong(address, monotonic())


def _request_rate(limits: Limits) -> tuple[float, float]:
    rate = limits.per_ip_requests_per_second
    return rate, max(LEAST_BURST, rate * BURST_S)


def _token_rate(limits: Limits) -> tuple[float, float]:
    rate = limits.per_token_requests_per_second
    return rate, rate * BURST_S


def _per_minute(count: int) -> tuple[float, float]:
    """A minute's worth may come at once."""
    return count / 60, float(count)


def _pass(wait_s: float) -> None:
    if wait_s:
        raise Problem("too-many-requests", retry_after=min(600, math.ceil(wait_s)))


@dataclass(slots=True, kw_only=True)
class Context:
    """Everything a handler may need. `base_url` is how other machines reach the pages."""

    configuring: Configuring
    tokens: TokenAuthority
    registry: LessonRegistry
    desk: Desk
    hub: Hub
    supervisor: Supervisor
    gates: Gates
    interaction: Interaction
    audit: AuditLog
    base_url: str = ""

    @property
    def config(self) -> Config:
        return self.configuring.config
