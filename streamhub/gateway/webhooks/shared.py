"""What the requests of one process about webhooks share."""

from typing import Final

from aiohttp import web

from streamhub.web.bodies import Bodies
from streamhub.webhooks.addresses import Addresses

MOST_BODIES: Final = 4 * 1024 * 1024  # bytes


class WebhooksShared:
    def __init__(self, addresses: Addresses) -> None:
        self.addresses = addresses
        self.bodies = Bodies(MOST_BODIES)


WEBHOOKS: Final = web.AppKey("WEBHOOKS", WebhooksShared)
