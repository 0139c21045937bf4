"""What the live streams of one process share."""

from typing import Final

from aiohttp import web

from streamhub.gateway import budget
from streamhub.gateway.gateway import Gateway
from streamhub.gateway.streams.following import Supply
from streamhub.history.reader import Reader
from streamhub.leases.held import Leases


class LiveShared:
    """Their leases, and where their events come from."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.leases = Leases(gateway.hub, gateway.node, gateway.settings.stale_after)
        self.reader = Reader(gateway.hub, budget.LIVE_PAGES)
        metrics = gateway.metrics
        self.supply = Supply(gateway.registrations, gateway.tail, self.reader, metrics.live_sent, metrics.delivered)


LIVE: Final = web.AppKey("LIVE", LiveShared)
