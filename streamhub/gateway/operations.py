"""`/-/…`: pages for operators and their machines. They need no token."""

import asyncio
import time
from typing import Final

from aiohttp import web

from streamhub import __version__
from streamhub.gateway.gateway import GATEWAY
from streamhub.health import facts
from streamhub.metrics import CONTENT_TYPE
from streamhub.web.route import COUNT, Answer, Route, json_of, object_of, text_of

LAG_WITHIN: Final = 0.5  # seconds; readiness does not wait for what else is told


async def healthy(request: web.Request) -> web.Response:
    """The process runs, and its event loop answers."""
    uptime = round(time.time() - request.app[GATEWAY].started_at, 1)
    return web.json_response({"status": "ok", "version": __version__, "uptime_seconds": uptime})


async def ready(request: web.Request) -> web.Response:
    """200 where the database answers and this process can serve; what else there is to know stands in the body."""
    gateway = request.app[GATEWAY]
    topic = gateway.settings.publication_topic
    state, outbox, publication = await asyncio.gather(
        gateway.facts.state.get(), gateway.facts.outbox.soon(LAG_WITHIN), gateway.facts.publication.soon(LAG_WITHIN)
    )
    serves = not gateway.draining and (gateway.node.trusted or "gateway" not in gateway.settings.roles)
    body = {
        "status": "ready" if state is not None and serves else "not ready",
        "database": "ok" if state is not None else "unreachable",
        "draining": gateway.draining,
        "leader": None if state is None else state.led,
        "lag_seconds": None if outbox is None else round(outbox.age, 3),
        "seconds_since_last_event": None if state is None or state.since_last is None else round(state.since_last, 3),
        "broker": None if topic is None else _broker(publication, gateway.tail.fault),
        "broker_lag_seconds": None if publication is None else round(publication.lag, 3),
        "tail": "degraded" if gateway.tail.degraded else "ok",
        "live_streams": len(gateway.of_kind("live")),
        "broadcast_streams": len(gateway.of_kind("broadcast")),
        "replays": len(gateway.of_kind("replay")),
    }
    return web.json_response(body, status=200 if body["status"] == "ready" else 503)


def _broker(publication: facts.TopicProgress | None, fault: str | None) -> str:
    """What keeps the relay from sending, else what keeps this process from reading."""
    if publication is not None and publication.fault is not None:
        return publication.fault
    return fault or ("unknown" if publication is None else "ok")


async def metrics(request: web.Request) -> web.Response:
    """What this process has counted, and what the databases tell of the hub, as Prometheus reads it."""
    body = await request.app[GATEWAY].exposition.get()
    return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE})


_SECONDS: Final = {"type": ["number", "null"]}
_READY: Final = json_of(
    object_of(
        {
            "status": {"enum": ["ready", "not ready"]},
            "database": {"enum": ["ok", "unreachable"]},
            "draining": {"type": "boolean"},
            "leader": {"type": ["boolean", "null"]},
            "lag_seconds": _SECONDS,
            "seconds_since_last_event": _SECONDS,
            "broker": {"type": ["string", "null"]},
            "broker_lag_seconds": _SECONDS,
            "tail": {"enum": ["ok", "degraded"]},
            "live_streams": COUNT,
            "broadcast_streams": COUNT,
            "replays": COUNT,
        }
    ),
    {
        "status": "ready",
        "database": "ok",
        "draining": False,
        "leader": True,
        "lag_seconds": 0.012,
        "seconds_since_last_event": 0.4,
        "broker": None,
        "broker_lag_seconds": None,
        "tail": "ok",
        "live_streams": 3,
        "broadcast_streams": 40,
        "replays": 0,
    },
)
_HEALTHY: Final = json_of(
    object_of({"status": {"const": "ok"}, "version": {"type": "string"}, "uptime_seconds": {"type": "number"}}),
    {"status": "ok", "version": __version__, "uptime_seconds": 12.5},
)

# Health checks of load balancers ask with HEAD.
ROUTES: Final = (
    Route(
        "GET", "/-/healthy", healthy, is_open=True, with_head=True,
        name="getHealth", group="Operation", summary="Whether the process runs",
        answers=[Answer(200, "The process runs.", [_HEALTHY])],
    ),
    Route(
        "GET", "/-/ready", ready, is_open=True, with_head=True,
        name="getReadiness", group="Operation", summary="Whether the process can serve",
        answers=[
            Answer(200, "The database answers, and the process can serve.", [_READY]),
            Answer(503, "It cannot serve; the body says why.", [_READY]),
        ],
    ),
    Route(
        "GET", "/-/metrics", metrics, is_open=True,
        name="getMetrics", group="Operation", summary="Metrics",
        answers=[
            Answer(200, "In Prometheus' text format.", [
                text_of(CONTENT_TYPE.partition(";")[0], "streamhub_live_streams 3.0\n"),
            ])
        ],
    ),
)  # fmt: skip
