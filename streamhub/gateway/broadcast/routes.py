"""`GET /{org}/events/stream`, and `GET /events/stream` for the token's own organization."""

from typing import Final

from aiohttp import web

from streamhub.core import window
from streamhub.gateway.admission import found
from streamhub.gateway.broadcast import request as broadcast_request
from streamhub.gateway.broadcast.shared import BROADCAST
from streamhub.gateway.broadcast.stream import stream_of
from streamhub.gateway.streams.gap import missed
from streamhub.web.problems import ApiError, Fault
from streamhub.web.scopes import events_read

ENVELOPE: Final = "event"
OWN_ENVELOPE: Final = "engine"


async def broadcast(request: web.Request) -> web.StreamResponse:
    return await _broadcast(request, ENVELOPE)


async def own_broadcast(request: web.Request) -> web.StreamResponse:
    return await _broadcast(request, OWN_ENVELOPE)


async def _broadcast(request: web.Request, envelope: str) -> web.StreamResponse:
    shared = request.app[BROADCAST]
    async with found(request, events_read) as (gateway, claims, slug, place):
        faults: list[Fault] = []
        asked = broadcast_request.read(request, place.now_ms, envelope, faults, test=claims.test)
        if faults:
            raise ApiError(faults)
    with shared.place(claims.organization_id):
        stream = stream_of(shared, request, asked, claims, place.key)
        with gateway.entered(stream):
            start = asked.position or max(window.before(place.now_ms), place.head)
            position, gap = await missed(shared.reader, gateway.settings, slug, place, start)
            await stream.open(request, position, gap, claims.expires_at)
            del asked, gap, claims, place, start, position  # this frame lasts as long as the stream
            await stream.run()
    return stream.channel.response
