"""Token buckets: for one rate, for a rate per address, and for the guessing of join codes.

All of them take the time as an argument and answer with the seconds to wait, 0.0 meaning "go".
"""

from __future__ import annotations

import ipaddress
import math

MAX_KEYS = 20_000
# IPv6 gives every household a /64 (RFC 6177), so one address of it says nothing about the next.
IPV6_PREFIX_BITS = 64
WRONG_CODES_WINDOW_S = 600.0
# A million codes, and for everybody together 120 wrong tries at once and 6 a minute after that:
# 480 in the hour that a lesson lasts, a chance of 0.05 % to find it (docs/ops-security.md).
GLOBAL_WRONG_CODES_BURST = 120
GLOBAL_WRONG_CODES_PER_S = 6 / 60
# Providers give a /48 to whoever asks: 65,536 networks of /64 must not be as many budgets.
IPV6_SITE_BITS = 48
SITE_BUDGETS = 3


class TokenBucket:
    """Lets `burst` through at once and `rate` a second in the long run."""

    __slots__ = ("_tokens", "_updated", "burst", "rate")

    def __init__(self, rate: float, burst: float) -> None:
        self.rate = rate
        self.burst = burst
        self._tokens = burst
        self._updated = -math.inf

    def wait_s(self, now: float, amount: float = 1.0) -> float:
        """Seconds until `amount` may be taken; 0.0 when it may be taken now. Takes nothing."""
        elapsed = max(0.0, now - self._updated)
        if elapsed:
            self._tokens = min(self.burst, self._tokens + elapsed * self.rate)
            self._updated = now
        missing = amount - self._tokens
        # The tolerance keeps rounding from asking for a wait of some femtoseconds.
        return missing / self.rate if missing > 1e-9 else 0.0

    def take(self, now: float, amount: float = 1.0) -> float:
        """Take `amount` if there is that much; else leave all and return the seconds to wait."""
        wait = self.wait_s(now, amount)
        if not wait:
            self._tokens -= amount
        return wait


class KeyedBuckets:
    """One token bucket per key. Beyond `max_keys` the key unused for longest is forgotten."""

    def __init__(self, rate: float, burst: float, max_keys: int = MAX_KEYS) -> None:
        self.rate = rate
        self.burst = burst
        self._max_keys = max_keys
        self._buckets: dict[str, TokenBucket] = {}

    def __len__(self) -> int:
        return len(self._buckets)

    def configure(self, rate: float, burst: float) -> None:
        """Change the rate; buckets start afresh, which errs towards letting people in."""
        if (rate, burst) != (self.rate, self.burst):
            self.rate, self.burst = rate, burst
            self._buckets.clear()

    def take(self, key: str, now: float) -> float:
        return self._bucket(key).take(now)

    def wait_s(self, key: str, now: float) -> float:
        bucket = self._buckets.get(key)
        return bucket.wait_s(now) if bucket is not None else 0.0

    def _bucket(self, key: str) -> TokenBucket:
        bucket = self._buckets.pop(key, None)
        if bucket is None:
            bucket = TokenBucket(self.rate, self.burst)
            if len(self._buckets) >= self._max_keys:
                del self._buckets[next(iter(self._buckets))]
        self._buckets[key] = bucket  # last in order: used most recently
        return bucket


class CodeGuard:
    """Makes guessing join codes hopeless: few wrong tries per address, and few for everybody.

    Right codes cost nothing, so a whole school behind one address joins without a wait. The
    budget for everybody is far more than one address may use, so none can lock out the others.
    """

    def __init__(self, wrong_per_window: int) -> None:
        self._per_address = KeyedBuckets(wrong_per_window / WRONG_CODES_WINDOW_S, wrong_per_window)
        per_site = SITE_BUDGETS * wrong_per_window
        self._per_site = KeyedBuckets(per_site / WRONG_CODES_WINDOW_S, per_site)
        self._everybody = TokenBucket(GLOBAL_WRONG_CODES_PER_S, GLOBAL_WRONG_CODES_BURST)

    def configure(self, wrong_per_window: int) -> None:
        self._per_address.configure(wrong_per_window / WRONG_CODES_WINDOW_S, wrong_per_window)
        per_site = SITE_BUDGETS * wrong_per_window
        self._per_site.configure(per_site / WRONG_CODES_WINDOW_S, per_site)

    def wait_s(self, address: str, now: float) -> float:
        """Seconds until this address may try a code."""
        return max(
            self._per_address.wait_s(network(address), now),
            self._per_site.wait_s(site(address), now),
            self._everybody.wait_s(now),
        )

    def wrong(self, address: str, now: float) -> None:
        """The address has tried a code that no lesson has."""
        self._per_address.take(network(address), now)
        self._per_site.take(site(address), now)
        self._everybody.take(now)


def site(address: str) -> str:
    """What one customer of a provider has: an IPv4 address, or the /48 of an IPv6 address."""
    return network(address, IPV6_SITE_BITS)


def network(address: str, prefix_bits: int = IPV6_PREFIX_BITS) -> str:
    """What counts as one address: an IPv4 address, or the /64 of an IPv6 address."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        prefix = int(parsed) >> (128 - prefix_bits) << (128 - prefix_bits)
        return f"{ipaddress.IPv6Address(prefix)}/{prefix_bits}"
    return str(parsed)
