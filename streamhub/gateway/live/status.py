"""`GET /{org}/status` and `DELETE /{org}`: an organization's live stream, seen and ended from outside."""

import json
from typing import Any, Final

from aiohttp import web

from streamhub.core import ids
from streamhub.core.window import timestamp
from streamhub.errors import ApiError, Fault
from streamhub.gateway import endings
from streamhub.gateway.admission import Admitted, admitted, refuse_parameters
from streamhub.gateway.live.leases import Lease
from streamhub.postgres.connections import Pool

TIMEOUT: Final = 5.0  # seconds
MOST_COUNTED: Final = 10_000  # events; the rest of a long way behind is not worth the reading

_STREAM: Final = """
SELECT node.id IS NOT NULL AS held, stream.connected_at, node.host, node.pid, stream.cursor::text, stream.last_gap,
       CASE WHEN stream.node IS NULL AND stream.released_at + $2 > clock_timestamp()
                 AND stream.released_at - $2 <= clock_timestamp()  -- else the clock was ahead then
            THEN least(stream.released_at, clock_timestamp()) + $2 END AS stale_until
  FROM streamhub_hub.streams AS stream
  LEFT JOIN streamhub_hub.nodes AS node ON node.id = stream.node AND streamhub_hub.lease_holds(node.expires_at)
 WHERE stream.organization_id = $1
"""
# ORDER BY h.id: a plain id would be the text that is selected, which no index has.
_HEAD: Final = "SELECT h.id::text FROM streamhub_hub.history AS h WHERE organization = $1 ORDER BY h.id DESC LIMIT 1"
_LAG: Final = f"""
SELECT (SELECT count(*) FROM (SELECT FROM streamhub_hub.history WHERE organization = $1 AND id > $2
                               LIMIT {MOST_COUNTED}) AS counted),
       (SELECT h.id::text FROM streamhub_hub.history AS h WHERE organization = $1 AND id > $2 ORDER BY h.id LIMIT 1)
"""
_NOTE_GAP: Final = """
UPDATE streamhub_hub.streams SET last_gap = $3::text::jsonb WHERE organization_id = $1 AND epoch = $2
"""


async def status(request: web.Request) -> web.Response:
    async with admitted(request) as asked:
        refuse_parameters(request)
        return await _status(asked)


async def _status(asked: Admitted) -> web.Response:
    stale_after = asked.gateway.settings.stale_after
    stream = await asked.gateway.hub.fetchrow(_STREAM, asked.claims.organization_id, stale_after, timeout=TIMEOUT)
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
        head = await asked.gateway.hub.fetchval(_HEAD, asked.place.key, timeout=TIMEOUT)
        if cursor is not None:
            row = await asked.gateway.hub.fetchrow(_LAG, asked.place.key, cursor, timeout=TIMEOUT)
            assert row is not None
            count, first = row
    waited_ms = 0 if first is None else max(0, asked.place.now_ms - ids.milliseconds(first))
    return {
        "head": head,
        "lag_events": None if cursor is None else count,
        "lag_seconds": None if cursor is None else waited_ms / 1_000,
    }


async def note_gap(pool: Pool, lease: Lease, gap: dict[str, Any], now_ms: int) -> None:
    """Keep what a consumer was told to replay, for `status`."""
    await pool.execute(_NOTE_GAP, *lease, json.dumps({"at": timestamp(now_ms), **gap}), timeout=TIMEOUT)


async def end_stream(request: web.Request) -> web.Response:
    """204 once the stream has ended; whoever consumed it is told DELETED."""
    async with admitted(request) as asked:
        organization_id = asked.claims.organization_id
        stream = await endings.active(asked.gateway.hub, organization_id)
        if stream is None:
            detail = f"The organization {asked.slug!r} has no active live stream to end."
            raise ApiError(Fault(404, "NOT_FOUND", detail))
        refuse_parameters(request)
    await asked.gateway.endings.end(organization_id, stream)
    return web.Response(status=204)
