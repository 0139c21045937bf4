"""The gateway as an aiohttp application: which path is served by what, and which parameters it knows."""

from collections.abc import Sequence
from functools import partial
from typing import Final

from aiohttp import web

from streamhub.gateway import checks, operations
from streamhub.gateway.broadcast.request import PARAMETERS as BROADCAST_PARAMETERS
from streamhub.gateway.broadcast.routes import broadcast, own_broadcast
from streamhub.gateway.broadcast.shared import BROADCAST, BroadcastShared
from streamhub.gateway.broadcast.types import LISTED, types
from streamhub.gateway.gateway import GATEWAY, Gateway
from streamhub.gateway.live import answers as live_answers
from streamhub.gateway.live.routes import end_stream, live
from streamhub.gateway.live.shared import LIVE, LiveShared
from streamhub.gateway.live.status import status
from streamhub.gateway.live.upkeep import LiveUpkeep
from streamhub.gateway.pages import dashboard_files, files, reference
from streamhub.gateway.publishing import answers as publishing_answers
from streamhub.gateway.publishing.routes import publish
from streamhub.gateway.publishing.store import PUBLISHING, Publishing
from streamhub.gateway.replay import answers as replay_answers
from streamhub.gateway.replay.request import PARAMETERS as REPLAY_PARAMETERS
from streamhub.gateway.replay.routes import cancel_replay, list_replays, replay, show_replay
from streamhub.gateway.replay.shared import REPLAY, ReplayShared
from streamhub.gateway.replay.upkeep import end_cancelled
from streamhub.gateway.streams import answers as stream_answers
from streamhub.gateway.webhooks import table as webhooks
from streamhub.gateway.webhooks.shared import WEBHOOKS, WebhooksShared
from streamhub.web.bodies import expectation
from streamhub.web.cors import add_cors
from streamhub.web.parameters import LAST_EVENT_ID
from streamhub.web.refusals import SERVER
from streamhub.web.route import ORGANIZATION, Route
from streamhub.web.scopes import events_read, events_write, integration
from streamhub.webhooks.addresses import Addresses

JOB: Final = ORGANIZATION + "/replays/{job:[^/]+}"

# No HEAD but where `with_head` says so: on a stream it would take the lease.
ROUTES: Final[tuple[Route, ...]] = (
    Route(
        "GET", ORGANIZATION, live,
        name="followLiveStream", group="Live stream", summary="Follow the live stream", rule=integration,
        description="One consumer an organization, over every gateway. Without `Last-Event-ID` the stream goes on "
        "where the former consumer stopped; the first time, it starts now.",
        headers=[LAST_EVENT_ID], answers=[stream_answers.LIVE], codes=["ACTIVE_CONSUMER_EXISTS"], is_endless=True,
    ),
    Route(
        "DELETE", ORGANIZATION, end_stream,
        name="endLiveStream", group="Live stream", summary="End the active live stream", rule=integration,
        answers=[live_answers.ENDED],
    ),
    Route(
        "GET", f"{ORGANIZATION}/status", status,
        name="getLiveStatus", group="Live stream", summary="Status of the live stream", rule=integration,
        answers=[live_answers.STATUS],
    ),
    Route(
        "POST", f"{ORGANIZATION}/events", publish,
        name="publishEvents", group="Publishing", summary="Publish events", rule=events_write,
        description="One event, or an array of at most 1,000: all of them are stored, or none.",
        body=publishing_answers.EVENTS, answers=[publishing_answers.STORED], codes=["NOT_ENTERPRISE"],
    ),
    Route(
        "GET", "/events/stream", own_broadcast, BROADCAST_PARAMETERS,
        name="followOwnBroadcast", group="Broadcast", summary="Follow events of the token's organization",
        description="As `/{org}/events/stream`, in the envelope `engine` unless another is asked for.",
        rule=events_read, headers=[LAST_EVENT_ID], answers=[stream_answers.BROADCAST], codes=["TOO_MANY_STREAMS"],
        is_endless=True,
    ),
    Route(
        "GET", f"{ORGANIZATION}/events/stream", broadcast, BROADCAST_PARAMETERS,
        name="followBroadcast", group="Broadcast", summary="Follow events of the token's environment",
        description="For many subscribers, each with its choice of one organization's events.",
        rule=events_read, headers=[LAST_EVENT_ID], answers=[stream_answers.BROADCAST], codes=["TOO_MANY_STREAMS"],
        is_endless=True,
    ),
    Route(
        "GET", f"{ORGANIZATION}/types", types,
        name="listTypes", group="Broadcast", summary="Event types of the last 30 days", rule=events_read,
        answers=[LISTED],
    ),
    Route(
        "GET", f"{ORGANIZATION}/replay", replay, REPLAY_PARAMETERS,
        name="replay", group="Replay", summary="Replay a piece of history", rule=integration,
        description="Give `date_from` and `date_to`, or `resource_type_eq` with `resource_id_in`. The request queues a "
        "job; a client that leaves cancels it.",
        headers=[LAST_EVENT_ID], answers=[stream_answers.REPLAY, replay_answers.NOTHING_LEFT],
        codes=["TOO_MANY_REPLAYS", "REPLAY_QUEUE_FAILED"],
    ),
    Route(
        "GET", f"{ORGANIZATION}/replays", list_replays,
        name="listReplays", group="Replay", summary="List replays", rule=integration, answers=[replay_answers.LISTED],
    ),
    Route(
        "GET", JOB, show_replay,
        name="getReplay", group="Replay", summary="Show a replay", rule=integration, answers=[replay_answers.SHOWN],
    ),
    Route(
        "DELETE", JOB, cancel_replay,
        name="cancelReplay", group="Replay", summary="Cancel a replay", rule=integration,
        answers=[replay_answers.CANCELLED], codes=["REPLAY_FINISHED"],
    ),
    *webhooks.ROUTES,
    *checks.ROUTES,
    *dashboard_files.ROUTES,
    *files.ROUTES,
    *reference.ROUTES,
)  # fmt: skip


class Kinds:
    """What each kind of stream, and publishing, owns beside the gateway that they share. Between the gateway's start
    and stop."""

    def __init__(self, gateway: Gateway) -> None:
        self.live = LiveShared(gateway)
        self.broadcast = BroadcastShared(gateway)
        self.replay = ReplayShared(gateway)
        self.publishing = Publishing(gateway)
        self.webhooks = WebhooksShared(Addresses.of(gateway.settings))
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
    app[checks.CHECKS] = checks.Checks(gateway.settings)
    add_cors(app, gateway.settings.cors_origins)
    app.middlewares.append(dashboard_files.lead_browsers)
    serves = "gateway" in gateway.settings.roles
    routes = [each for each in ROUTES if each.is_open or serves]
    routes += operations.ROUTES if with_operations else ()
    app[reference.REFERENCE] = reference.Reference(routes)
    _add(app, routes)
    return app


def create_operations_app(gateway: Gateway) -> web.Application:
    """The operators' pages, for a port of their own."""
    app = _application(gateway)
    _add(app, operations.ROUTES)
    return app


def _add(app: web.Application, routes: Sequence[Route]) -> None:
    for route in routes:
        app.router.add_route(route.method, route.path, route.handler, expect_handler=expectation)
        if route.with_head:
            app.router.add_route("HEAD", route.path, route.handler, expect_handler=expectation)


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
