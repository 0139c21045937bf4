"""`/-/…`: pages for operators and their machines. No token is wanted here."""

import time
from typing import TYPE_CHECKING, Final

import asyncpg
from aiohttp import web

from streamhub import __version__
from streamhub.database import DATABASE_AWAY
from streamhub.gateway.gateway import GATEWAY

if TYPE_CHECKING:
    Pool = asyncpg.Pool[asyncpg.Record]
else:
    Pool = asyncpg.Pool

TIMEOUT: Final = 2.0  # seconds

_STATE: Final = """
SELECT extract(epoch FROM clock_timestamp())::float8 * 1000 - h.last_ms AS ms_since_last, h.last_ms > 0 AS any,
       l.expires_at > clock_timestamp() AS led
  FROM streamhub_hub.log_head h, streamhub_hub.relay_lease l
"""


def routes() -> list[web.RouteDef]:
    return [web.get("/-/healthy", healthy, allow_head=False), web.get("/-/ready", ready, allow_head=False)]


async def healthy(request: web.Request) -> web.Response:
    """The process runs, and its event loop answers."""
    uptime = round(time.time() - request.app[GATEWAY].started_at, 1)
    return web.json_response({"status": "ok", "version": __version__, "uptime_seconds": uptime})


async def ready(request: web.Request) -> web.Response:
    """200 where the database answers and this process can serve; what else there is to know stands in the body."""
    gateway = request.app[GATEWAY]
    try:
        state = await gateway.hub.fetchrow(_STATE, timeout=TIMEOUT)
    except (*DATABASE_AWAY, asyncpg.PostgresError):
        state = None
    serves = not gateway.draining and (gateway.node.trusted or "gateway" not in gateway.settings.roles)
    body = {
        "status": "ready" if state is not None and serves else "not ready",
        "database": "ok" if state is not None else "unreachable",
        "draining": gateway.draining,
        "relay_leader": None if state is None else bool(state["led"]),
        "seconds_since_last_event": None
        if state is None or not state["any"]
        else round(max(0.0, state["ms_since_last"]) / 1_000, 3),
        "live_streams": len(gateway.live_streams),
        "replays": len(gateway.replays),
    }
    return web.json_response(body, status=200 if body["status"] == "ready" else 503)
