"""`GET /{org}/status`: an organization's live stream, seen from outside."""

import json
from typing import Any

from aiohttp import web

from streamhub.core import ids
from streamhub.core.window import timestamp
from streamhub.gateway.admission import Admitted, admitted
from streamhub.gateway.live.shared import LIVE
from streamhub.history.newest import behind, newest_id
from streamhub.leases.held import Leases
from streamhub.web.parameters import refuse_parameters
from streamhub.web.scopes import integration


async def status(request: web.Request) -> web.Response:
    async with admitted(request, integration) as asked:
        refuse_parameters(request)
        return await _status(asked, request.app[LIVE].leases)


async def _status(asked: Admitted, leases: Leases) -> web.Response:
    stream = await leases.show(asked.claims.organization_id)
    cursor = None if stream is None else stream["cursor"]
    held = stream is not None and stream["held"]
    data: dict[str, Any] = {
        "connected_since": timestamp(ids.ms_of(stream["connected_at"])) if stream and held else None,
        "gateway": f"{stream['host']}/{stream['pid']}" if stream and held else None,
        "cursor": cursor,
        **await _behind(asked, cursor),
        "last_gap": json.loads(stream["last_gap"]) if stream and stream["last_gap"] else None,
        "stale_until": timestamp(ids.ceil_ms(stream["stale_until"])) if stream and stream["stale_until"] else None,
    }
    return web.json_response({"data": data}, headers={"Cache-Control": "no-store"})


async def _behind(asked: Admitted, cursor: str | None) -> dict[str, Any]:
    """The organization's last event, and how much and how long the cursor is behind it."""
    head, count, first = None, 0, None
    if asked.place.key is not None:
        head = await newest_id(asked.gateway.hub, asked.place.key)
        if cursor is not None:
            count, first = await behind(asked.gateway.hub, asked.place.key, cursor)
    waited_ms = 0 if first is None else max(0, asked.place.now_ms - ids.milliseconds(first))
    return {
        "head": head,
        "lag_events": None if cursor is None else count,
        "lag_seconds": None if cursor is None else waited_ms / 1_000,
    }
