"""`GET /{org}/types`: which types there are to ask for."""

from typing import Final

from aiohttp import web

from streamhub.gateway.admission import admitted
from streamhub.history.types import seen_lately
from streamhub.web.parameters import refuse_parameters
from streamhub.web.route import Answer, data_of
from streamhub.web.scopes import events_read


async def types(request: web.Request) -> web.Response:
    """The types of the last 30 days, of the token's environment."""
    async with admitted(request, events_read) as (gateway, claims, _, place):
        refuse_parameters(request)
        found = [] if place.key is None else await seen_lately(gateway.hub, place.key, test=claims.test)
    return web.json_response({"data": found}, headers={"Cache-Control": "no-store"})


LISTED: Final = Answer(
    200,
    "The types that the token's environment had, in order, at most 1,000.",
    [data_of({"type": "array", "items": {"type": "string"}, "maxItems": 1_000}, ["skus.create", "skus.update"])],
)
