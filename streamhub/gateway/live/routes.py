"""`GET /{org}`, an organization's live stream, for one consumer at a time; `DELETE /{org}`, its end."""

import json
from typing import Any

from aiohttp import web

from streamhub.core import window
from streamhub.core.lease import Refusal
from streamhub.gateway.admission import admitted, found
from streamhub.gateway.live.shared import LIVE, LiveShared
from streamhub.gateway.live.stream import LiveStream
from streamhub.gateway.streams.gap import earlier, missed
from streamhub.leases import endings
from streamhub.leases.held import Asked, Lease, Taken
from streamhub.leases.node import boottime
from streamhub.web import parameters
from streamhub.web.problems import ApiError, Fault, unavailable
from streamhub.web.scopes import integration


async def live(request: web.Request) -> web.StreamResponse:
    stream, opening = await _taken(request)
    shared = request.app[LIVE]
    try:
        try:
            await stream.open(request, *opening)
        except BaseException:
            await _give_back(shared, stream.lease)
            raise
        del opening  # this frame lasts as long as the stream
        await stream.run()
    finally:
        shared.gateway.leave(stream)
    return stream.channel.response


async def _taken(request: web.Request) -> tuple[LiveStream, tuple[str, dict[str, Any] | None, float]]:
    """The stream with its lease, known to the gateway, and what it opens with: position, gap, the token's end."""
    shared = request.app[LIVE]
    async with found(request, integration) as (gateway, claims, slug, place):
        faults: list[Fault] = []
        parameters.read(request, (), faults)
        asked = parameters.last_event_id(request, place.now_ms, faults)
        if faults:
            raise ApiError(faults)

        start = asked or max(window.before(place.now_ms), place.head)
        lease_asked = Asked(claims.organization_id, start, override=asked is not None)
        taken: Taken | Refusal | None = await shared.leases.take_if_free(lease_asked)
        if taken is None:
            async with gateway.own_statements:
                taken = await shared.leases.take(claims.organization_id, start, override=lease_asked.override)
        if isinstance(taken, Refusal):
            fault = Fault("ACTIVE_CONSUMER_EXISTS", taken.detail, meta=taken.meta)
            raise ApiError(fault, {"Retry-After": str(taken.retry_after)})
        position = taken.cursor
        exact = taken.exact and not gateway.settings.resume_overlap_always
        if asked is None and taken.cursor != start and not exact:
            position = earlier(taken.cursor, gateway.settings.resume_overlap)
        stream = LiveStream(shared, request, taken.lease, place.key)
        gateway.enter(stream)
        try:
            position, gap = await missed(shared.reader, gateway.settings, slug, place, position)
            if gap is not None:
                told = {"at": window.timestamp(place.now_ms), **gap}
                async with gateway.own_statements:
                    await shared.leases.note_gap(taken.lease, json.dumps(told))
        except BaseException:
            gateway.leave(stream)
            await _give_back(shared, taken.lease)
            raise
        return stream, (position, gap, claims.expires_at)


async def _give_back(shared: LiveShared, lease: Lease) -> None:
    """Nothing has been streamed, so the next consumer does not have to wait."""
    await shared.leases.release(lease, None, boottime(), read=False, free_at_once=True)


async def end_stream(request: web.Request) -> web.Response:
    """204 once the stream has ended; its consumer is told DELETED."""
    async with admitted(request, integration) as (gateway, claims, slug, _):
        stream = await endings.active(gateway.hub, claims.organization_id)
        if stream is None:
            raise ApiError(Fault("NOT_FOUND", f"The organization {slug!r} has no active live stream to end."))
        parameters.refuse_parameters(request)
    async with gateway.endings.one:
        await endings.ask(gateway.hub, claims.organization_id, stream)
    await gateway.endings.look()
    if not await endings.ended(gateway.hub, claims.organization_id, stream, gateway.endings.one):
        raise unavailable("The stream was asked to end, and its gateway has not ended it yet; try again.")
    return web.Response(status=204)
