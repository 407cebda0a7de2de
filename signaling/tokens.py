"""Signs and checks the bearer tokens: JWT (RFC 7519) with HS256 and our own claims.

Whatever is wrong with a token, its holder gets one answer, `invalid-token`, with a reason that
names no secret. Time is an argument (seconds since 1970) so that expiry can be tested.
"""

from __future__ import annotations

import math
import secrets
import time
from typing import Annotated, Final, Literal, get_args

import jwt
import msgspec

from signaling.problems import Problem

Role = Literal["teacher", "point", "observer", "ops"]

ROLES: Final[tuple[str, ...]] = get_args(Role)
ALGORITHM: Final = "HS256"
MAX_TOKEN_BYTES: Final = 4096
# RFC 7518 section 3.2: the key must be at least as long as the hash.
MIN_SECRET_BYTES: Final = 32
# 9999-12-31: whatever is later is not a date that anybody meant.
MAX_EXPIRY_S: Final = 253_402_300_799

_Text = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]


class Claims(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a token says about who holds it. `lesson` is the only lesson it opens."""

    sub: _Text
    role: Role
    exp: Annotated[int, msgspec.Meta(ge=0, le=MAX_EXPIRY_S)]
    lesson: _Text | None = None
    seat: _Text | None = None
    name: _Text | None = None
    org: _Text | None = None


class TokenAuthority:
    """Holds the signing secret; the only place where tokens are made and believed."""

    __slots__ = ("_secret",)

    def __init__(self, secret: bytes) -> None:
        if len(secret) < MIN_SECRET_BYTES:
            raise ValueError(
                f"the token secret has {len(secret)} bytes: give at least {MIN_SECRET_BYTES}, "
                "or leave auth.secret empty to have one generated"
            )
        self._secret = secret

    def issue(
        self,
        role: str,
        *,
        ttl_s: float,
        lesson: str | None = None,
        seat: str | None = None,
        name: str | None = None,
        org: str | None = None,
        now: float | None = None,
    ) -> str:
        """Sign a token for `ttl_s` seconds from `now`, with a fresh random subject.

        Raises ValueError for claims that `verify` would not accept.
        """
        if not math.isfinite(ttl_s) or ttl_s <= 0:
            raise ValueError(f"ttl_s must be more than 0 seconds, not {ttl_s!r}")
        issued_at = time.time() if now is None else now
        claims = {
            "sub": secrets.token_urlsafe(12),
            "role": role,
            "exp": math.ceil(issued_at + ttl_s),
        }
        claims |= {
            key: value
            for key, value in (("lesson", lesson), ("seat", seat), ("name", name), ("org", org))
            if value is not None
        }
        try:
            msgspec.convert(claims, Claims)
        except msgspec.ValidationError as error:
            raise ValueError(f"cannot issue such a token: {error}") from error
        token = jwt.encode(claims, self._secret, algorithm=ALGORITHM)
        if len(token) > MAX_TOKEN_BYTES:
            raise ValueError(f"the token would exceed {MAX_TOKEN_BYTES} bytes: shorten the name")
        return token

    def verify(self, token: str, now: float | None = None) -> Claims:
        """The claims of a token we signed that has not expired, or `Problem("invalid-token")`."""
        if not token or len(token) > MAX_TOKEN_BYTES:
            raise _invalid("缺失或过长", "it is missing or too long")
        try:
            payload = jwt.decode(
                token,
                self._secret,
                algorithms=[ALGORITHM],
                # Expiry is checked below against `now`; types are checked by `Claims`.
                options={
                    "verify_signature": True,
                    "verify_exp": False,
                    "verify_nbf": False,
                    "verify_iat": False,
                    "verify_aud": False,
                },
            )
            claims = msgspec.convert(payload, Claims)
        except (
            jwt.PyJWTError,
            msgspec.ValidationError,
            # PyJWT parses the header before the signature is known to be good: a hostile one
            # (lone surrogates, a list as `alg`, brackets nested thousands deep) gives these.
            ValueError,
            TypeError,
            AttributeError,
            RecursionError,
        ) as error:
            raise _invalid("签名或内容有误", "its signature or content is wrong") from error
        if (time.time() if now is None else now) >= claims.exp:
            raise _invalid("已过期", "it has expired")
        return claims


def _invalid(zh: str, en: str) -> Problem:
    return Problem("invalid-token", detail_args={"reason": {"zh-CN": zh, "en": en}})
