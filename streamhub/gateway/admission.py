"""What every route of an organization asks first, in the order in which a request is judged: 503, 401, 403."""

import time
from typing import NamedTuple

from aiohttp import web

from streamhub.errors import ApiError, Fault
from streamhub.gateway import parameters, registry
from streamhub.gateway.auth import Claims, require_integration
from streamhub.gateway.gateway import GATEWAY, Gateway


class Admitted(NamedTuple):
    """Who asks, for which organization, at which moment of the hub."""

    gateway: Gateway
    claims: Claims
    slug: str
    place: registry.Place


async def admitted(request: web.Request) -> Admitted:
    """An integration of the organization that the path names. Raises ApiError: 503, 401, 403."""
    gateway = request.app[GATEWAY]
    gateway.admit()
    claims = await gateway.authenticator.claims(request, time.time())
    slug = request.match_info["organization"]
    require_integration(claims, slug)
    return Admitted(gateway, claims, slug, await registry.find(gateway.hub, claims))


def refuse_parameters(request: web.Request) -> None:
    """For a route that knows no parameter. Raises ApiError (400)."""
    faults: list[Fault] = []
    for _ in parameters.known_parameters(request, (), faults):
        pass
    if faults:
        raise ApiError(faults)
