"""What every route of an organization asks first, in the order in which a request is judged: 503, 401, 403."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final, NamedTuple, TypeVar

from aiohttp import web

from streamhub.gateway import places
from streamhub.gateway.gateway import GATEWAY, Gateway
from streamhub.keys.key import PREFIX
from streamhub.leases.node import boottime
from streamhub.organizations import LONGEST_ID
from streamhub.web.auth import Claims, bearer
from streamhub.web.connection import Connection
from streamhub.web.problems import unauthorized
from streamhub.web.scopes import Rule

FOUND_WITHIN: Final = 15.0  # seconds

A = TypeVar("A")


class Admitted(NamedTuple):
    """A request's token, the organization it is for, and the hub's moment."""

    gateway: Gateway
    claims: Claims
    slug: str
    place: places.Place


@asynccontextmanager
async def admitted(request: web.Request, rule: Rule) -> AsyncIterator[Admitted]:
    """A request whose token `rule` (of web/scopes.py) allows on the organization that the path names. Within the block
    it is this request's turn to ask the database by statements of its own. Raises ApiError: 503, 401, 403."""
    async with found(request, rule) as asked, asked.gateway.own_statements:
        yield asked


@asynccontextmanager
async def found(request: web.Request, rule: Rule) -> AsyncIterator[Admitted]:
    """As `admitted`, for a route that asks together with others: it takes `own_statements` for its own statements."""
    gateway = request.app[GATEWAY]
    gateway.admit()
    by_browser = "text/html" in request.headers.get("Accept", "")
    token = bearer(request.headers.getall("Authorization", []), by_browser=by_browser)
    claims = await _claims(gateway, token)
    if len(claims.organization_id) > LONGEST_ID:
        detail = f"organization.id has {len(claims.organization_id)} characters; at most {LONGEST_ID} are allowed."
        raise unauthorized("INVALID_TOKEN", f"The token is not valid. Its claim {detail}")
    if isinstance(request.protocol, Connection):
        request.protocol.has_valid_token(claims.api_key)
    slug = request.match_info.get("organization", claims.slug)
    rule(claims, slug)
    async with gateway.turn(request):
        yield Admitted(gateway, claims, slug, await _answered(gateway, lambda: places.find(gateway.finder, claims)))


async def _claims(gateway: Gateway, token: str) -> Claims:
    if token.startswith(PREFIX):
        return await _answered(gateway, lambda: gateway.api_keys.claims(token, time.time()))
    return await gateway.authenticator.verify(token, time.time())


async def _answered(gateway: Gateway, ask: Callable[[], Awaitable[A]]) -> A:
    """The first statements of a request: on a busy machine the pool's time-out may be too short for a connection to be
    made. As long as the database answers the node's renewals meanwhile, the request waits on."""
    give_up = boottime() + FOUND_WITHIN
    while True:
        began = boottime()
        try:
            return await ask()
        except TimeoutError:
            if not gateway.node.renewed_since(began) or boottime() > give_up:
                raise
