"""`POST /{org}/events`: events that an application publishes, all of a request or none."""

import asyncio
from typing import Final

from aiohttp import web

from streamhub.gateway.admission import found
from streamhub.gateway.publishing.request import Body, NotJsonError
from streamhub.gateway.publishing.store import PUBLISHING, not_enterprise
from streamhub.web import parameters
from streamhub.web.problems import ApiError, Fault
from streamhub.web.scopes import events_write

MOST_BYTES: Final = 16 * 1024 * 1024
READ_IN_A_THREAD: Final = 256 * 1024  # bytes, from which on it would hold up the streams


async def publish(request: web.Request) -> web.Response:
    """202 once the events are stored durably."""
    publishing = request.app[PUBLISHING]
    async with found(request, events_write) as (_, claims, _, place):
        if not (claims.enterprise if place.enterprise is None else place.enterprise):
            raise not_enterprise(claims)
    # Outside the block: a client that sends slowly keeps no other waiting.
    async with publishing.bodies.json(request, claims.organization_id, MOST_BYTES) as sent:
        faults: list[Fault] = []
        parameters.read(request, (), faults)
        try:
            body = await asyncio.to_thread(Body.of, sent) if len(sent) > READ_IN_A_THREAD else Body.of(sent)
        except NotJsonError as error:
            raise ApiError([*faults, Fault("INVALID_JSON", str(error))]) from None
        if faults:
            raise ApiError(faults)
        events = body.read()
        await publishing.store(claims, place.key is not None, events)
    return web.json_response({"data": [{"publish_id": event.publish_id} for event in events]}, status=202)
