"""What the broadcast streams of one process share."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, cast

from aiohttp import web

from streamhub.gateway import budget
from streamhub.gateway.broadcast.fan import Fans
from streamhub.gateway.broadcast.pages import Pages
from streamhub.gateway.gateway import Gateway
from streamhub.gateway.streams.following import Supply
from streamhub.gateway.streams.timer_wheel import TimerWheel
from streamhub.history.reader import Reader
from streamhub.tail import Tail
from streamhub.web.problems import ApiError, Fault

RETRY_AFTER: Final = 5  # seconds, after a refusal for too many streams


class BroadcastShared:
    """Where their events come from, their pings, and how many of them each organization has."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.reader = Reader(gateway.hub, budget.BROADCAST_PAGES)
        self.pages = Pages(self.reader)
        self.pings = TimerWheel(gateway.settings.ping_interval)
        self._streams: Counter[str] = Counter()
        # Broadcast streams alone subscribe by this supply, and they are what a fan takes.
        tail = cast("Tail", Fans(gateway.tail))
        self.supply = Supply(gateway.registrations, tail, self.reader, gateway.metrics.broadcast_sent, _not_counted)

    @contextmanager
    def place(self, organization_id: str) -> Iterator[None]:
        """Within the block the organization has one stream more. Raises ApiError (429)."""
        most = self.gateway.settings.max_streams
        if self._streams[organization_id] >= most:
            detail = (
                f"The organization has {most} broadcast streams on this gateway, the most there are: end one, or retry."
            )
            raise ApiError(Fault("TOO_MANY_STREAMS", detail), {"Retry-After": str(RETRY_AFTER)})
        self._streams[organization_id] += 1
        try:
            yield
        finally:
            self._streams[organization_id] -= 1
            if not self._streams[organization_id]:
                del self._streams[organization_id]

    def stop(self) -> None:
        self.pings.stop()
        self.pages.stop()


def _not_counted(_seconds: float) -> None:
    """The time from publication to writing is one of live streams: a thousand subscribers would drown it."""


BROADCAST: Final = web.AppKey("BROADCAST", BroadcastShared)
