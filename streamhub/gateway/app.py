"""The gateway as an aiohttp application: which path is served by what."""

from aiohttp import web

from streamhub.gateway import operations
from streamhub.gateway.gateway import GATEWAY, Gateway
from streamhub.gateway.live.status import end_stream, status
from streamhub.gateway.live.stream import live
from streamhub.gateway.replay.routes import cancel_replay, list_replays, show_replay
from streamhub.gateway.replay.stream import replay
from streamhub.web.cors import add_cors
from streamhub.web.problems import SERVER

# The contract's slug. `-` is none, so the operators' pages collide with nobody's.
ORGANIZATION = "/{organization:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?}"
JOB = ORGANIZATION + "/replays/{job:[^/]+}"


def create_app(gateway: Gateway, *, with_operations: bool = True) -> web.Application:
    """The public application. Without the role `gateway` it serves the operators' pages alone."""
    app = _application(gateway)
    add_cors(app, gateway.settings.cors_origins)
    if "gateway" in gateway.settings.roles:
        # No HEAD anywhere: on a stream it would take the lease.
        app.router.add_get(ORGANIZATION, live, allow_head=False)
        app.router.add_delete(ORGANIZATION, end_stream)
        app.router.add_get(f"{ORGANIZATION}/status", status, allow_head=False)
        app.router.add_get(f"{ORGANIZATION}/replay", replay, allow_head=False)
        app.router.add_get(f"{ORGANIZATION}/replays", list_replays, allow_head=False)
        app.router.add_get(JOB, show_replay, allow_head=False)
        app.router.add_delete(JOB, cancel_replay)
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
