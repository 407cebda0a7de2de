"""Who comes in: the limits per address and per token around the check of the token itself."""

from __future__ import annotations

from aiohttp import web

from signaling.context import Context
from signaling.requests import bearer, client_address
from signaling.tokens import Claims


def claims_of(request: web.Request, context: Context) -> Claims:
    """The claims of a request's token, within the limits. Raises Problem."""
    context.gates.request(client_address(request, context.config))
    claims = bearer(request, context.tokens)
    context.gates.token(claims)
    return claims
