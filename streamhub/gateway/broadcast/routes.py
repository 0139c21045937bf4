"""`GET /{org}/events/stream`, and `GET /events/stream` for the token's own organization."""

from functools import partial
from typing import Any

from aiohttp import web

from streamhub.core import window
from streamhub.gateway.admission import found
from streamhub.gateway.broadcast import request as broadcast_request
from streamhub.gateway.broadcast.shared import BROADCAST
from streamhub.gateway.broadcast.stream import BroadcastStream, stream_of
from streamhub.gateway.streams.gap import missed
from streamhub.web.problems import ApiError, Fault
from streamhub.web.scopes import events_read


async def _broadcast(request: web.Request, envelope: str) -> web.StreamResponse:
    shared = request.app[BROADCAST]
    stream, opening = await _entered(request, envelope)
    try:
        await stream.open(request, *opening)
        del opening  # this frame lasts as long as the stream
        await stream.run()
    finally:
        shared.leave(stream, stream.organization_id)
    return stream.channel.response


async def _entered(
    request: web.Request, envelope: str
) -> tuple[BroadcastStream, tuple[str, dict[str, Any] | None, float]]:
    """The stream, known to the gateway, and what it opens with: position, gap, the token's end."""
    shared = request.app[BROADCAST]
    async with found(request, events_read) as (gateway, claims, slug, place):
        faults: list[Fault] = []
        asked = broadcast_request.read(request, place.now_ms, envelope, faults, test=claims.test)
        if faults:
            raise ApiError(faults)
        stream = stream_of(shared, request, asked, claims, place.key)
        shared.enter(stream, stream.organization_id)
        try:
            start = asked.position or max(window.before(place.now_ms), place.head)
            position, gap = await missed(shared.reader, gateway.settings, slug, place, start)
        except BaseException:
            shared.leave(stream, stream.organization_id)
            raise
        return stream, (position, gap, claims.expires_at)


# Not coroutines that await another one: each stream would hold a frame more.
broadcast = partial(_broadcast, envelope="event")
own_broadcast = partial(_broadcast, envelope="engine")
