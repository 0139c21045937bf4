"""`GET /{org}/types`: which types there are to ask for."""

from aiohttp import web

from streamhub.gateway.admission import admitted
from streamhub.history.types import seen_lately
from streamhub.web.parameters import refuse_parameters
from streamhub.web.scopes import events_read


async def types(request: web.Request) -> web.Response:
    """The types of the last 30 days, of the token's environment."""
    async with admitted(request, events_read) as (gateway, claims, _, place):
        refuse_parameters(request)
        found = [] if place.key is None else await seen_lately(gateway.hub, place.key, test=claims.test)
    return web.json_response({"data": found}, headers={"Cache-Control": "no-store"})
