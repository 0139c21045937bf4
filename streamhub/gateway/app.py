"""The gateway as an aiohttp application: which path is served by what, and which parameters it knows."""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final, NamedTuple

from aiohttp import web

from streamhub.gateway import operations
from streamhub.gateway.broadcast.request import PARAMETERS as BROADCAST_PARAMETERS
from streamhub.gateway.broadcast.routes import broadcast, own_broadcast
from streamhub.gateway.broadcast.shared import BROADCAST, BroadcastShared
from streamhub.gateway.broadcast.types import types
from streamhub.gateway.gateway import GATEWAY, Gateway
from streamhub.gateway.live.routes import end_stream, live
from streamhub.gateway.live.shared import LIVE, LiveShared
from streamhub.gateway.live.status import status
from streamhub.gateway.live.upkeep import LiveUpkeep
from streamhub.gateway.pages import files
from streamhub.gateway.publishing.routes import publish
from streamhub.gateway.publishing.store import PUBLISHING, Publishing
from streamhub.gateway.replay.request import PARAMETERS as REPLAY_PARAMETERS
from streamhub.gateway.replay.routes import cancel_replay, list_replays, replay, show_replay
from streamhub.gateway.replay.shared import REPLAY, ReplayShared
from streamhub.gateway.replay.upkeep import end_cancelled
from streamhub.gateway.webhooks import routes as webhooks
from streamhub.gateway.webhooks.shared import WEBHOOKS, WebhooksShared
from streamhub.web.cors import add_cors
from streamhub.web.parameters import Parameter
from streamhub.web.refusals import SERVER

# The contract's slug. `-` is none, so the operators' pages collide with no organization's.
ORGANIZATION: Final = "/{organization:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?}"
JOB: Final = ORGANIZATION + "/replays/{job:[^/]+}"
ENDPOINT: Final = ORGANIZATION + "/webhooks/{endpoint:[^/]+}"


class Route(NamedTuple):
    """`handler` begins with `admitted(request, <rule of web/scopes.py>)`, and reads its `parameters` with
    `parameters.read`. One that `is_open` asks for no token, and is there whatever the process's roles."""

    method: str
    path: str
    handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    parameters: Sequence[Parameter] = ()
    is_open: bool = False


# No HEAD anywhere: on a stream it would take the lease.
ROUTES: Final = (
    Route("GET", ORGANIZATION, live),
    Route("DELETE", ORGANIZATION, end_stream),
    Route("GET", f"{ORGANIZATION}/status", status),
    Route("POST", f"{ORGANIZATION}/events", publish),
    Route("GET", "/events/stream", own_broadcast, BROADCAST_PARAMETERS),
    Route("GET", f"{ORGANIZATION}/events/stream", broadcast, BROADCAST_PARAMETERS),
    Route("GET", f"{ORGANIZATION}/types", types),
    Route("GET", f"{ORGANIZATION}/replay", replay, REPLAY_PARAMETERS),
    Route("GET", f"{ORGANIZATION}/replays", list_replays),
    Route("GET", JOB, show_replay),
    Route("DELETE", JOB, cancel_replay),
    Route("GET", f"{ORGANIZATION}/webhooks", webhooks.list_endpoints),
    Route("POST", f"{ORGANIZATION}/webhooks", webhooks.create),
    Route("GET", ENDPOINT, webhooks.show),
    Route("PATCH", ENDPOINT, webhooks.change),
    Route("DELETE", ENDPOINT, webhooks.delete),
    Route("POST", f"{ENDPOINT}/enable", webhooks.enable),
    Route("POST", f"{ENDPOINT}/disable", webhooks.disable),
    Route("POST", f"{ENDPOINT}/test", webhooks.test),
    Route("POST", f"{ENDPOINT}/rotate-secret", webhooks.rotate_secret),
    Route("POST", f"{ENDPOINT}/recover", webhooks.recover, webhooks.RECOVER_PARAMETERS),
    Route("GET", f"{ENDPOINT}/deliveries", webhooks.deliveries, webhooks.DELIVERIES_PARAMETERS),
    Route("POST", ENDPOINT + "/deliveries/{delivery:[^/]+}/retry", webhooks.retry),
    Route("GET", "/-/client.js", files.client, is_open=True),
    Route("GET", "/-/client.d.ts", files.declarations, is_open=True),
)


class Kinds:
    """What each kind of stream, and publishing, owns beside the gateway that they share. Between the gateway's start
    and stop."""

    def __init__(self, gateway: Gateway) -> None:
        self.live = LiveShared(gateway)
        self.broadcast = BroadcastShared(gateway)
        self.replay = ReplayShared(gateway)
        self.publishing = Publishing(gateway)
        self.webhooks = WebhooksShared(development=gateway.settings.development_key_file is not None)
        self._live_upkeep = LiveUpkeep(self.live)
        gateway.endings.add(partial(end_cancelled, gateway))

    def start(self) -> None:
        self._live_upkeep.start()

    async def stop(self) -> None:
        await self._live_upkeep.stop()
        self.broadcast.stop()


def create_app(gateway: Gateway, kinds: Kinds, *, with_operations: bool = True) -> web.Application:
    """The public application. Without the role `gateway` it serves what is open to all alone."""
    app = _application(gateway)
    app[LIVE], app[BROADCAST] = kinds.live, kinds.broadcast
    app[REPLAY], app[PUBLISHING] = kinds.replay, kinds.publishing
    app[WEBHOOKS] = kinds.webhooks
    add_cors(app, gateway.settings.cors_origins)
    for route in ROUTES:
        if route.is_open or "gateway" in gateway.settings.roles:
            app.router.add_route(route.method, route.path, route.handler)
    if with_operations:
        app.add_routes(operations.routes())
    return app


def create_operations_app(gateway: Gateway) -> web.Application:
    """The operators' pages, for a port of their own."""
    app = _application(gateway)
    app.add_routes(operations.routes())
    return app


def _application(gateway: Gateway) -> web.Application:
    app = web.Application()
    app[GATEWAY] = gateway

    async def complete(_request: web.Request, response: web.StreamResponse) -> None:
        response.headers["Server"] = SERVER
        if gateway.draining:
            # A proxy that kept the connection could send a request on it in the moment in which it goes.
            response.headers["Connection"] = "close"
            response.force_close()

    app.on_response_prepare.append(complete)
    return app
