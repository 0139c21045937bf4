"""What the broadcast streams of one process share."""

from collections import Counter
from typing import Final

from aiohttp import web

from streamhub.gateway import budget
from streamhub.gateway.broadcast.fan import Fans
from streamhub.gateway.broadcast.pages import Pages
from streamhub.gateway.gateway import Gateway
from streamhub.gateway.streams.following import Supply
from streamhub.gateway.streams.stream import Stream
from streamhub.gateway.streams.timer_wheel import TimerWheel
from streamhub.history.reader import Reader
from streamhub.web.problems import ApiError, Fault

RETRY_AFTER: Final = 5  # seconds, after a refusal for too many streams


class BroadcastShared:
    """Where their events come from, their pings, and how many of them each organization has."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        sent = gateway.metrics.broadcast_sent
        self.reader = Reader(gateway.hub, budget.BROADCAST_PAGES)
        self.supply = Supply(gateway.registrations, gateway.tail, self.reader, sent, _not_observed)
        self.fans = Fans(gateway.tail, sent)
        self.pages = Pages(self.reader)
        self.pings = TimerWheel(gateway.settings.ping_interval)
        self._streams: Counter[str] = Counter()

    def enter(self, stream: Stream, organization_id: str) -> None:
        """Until it leaves the stream counts as one of its organization's. Raises ApiError (429)."""
        most = self.gateway.settings.max_streams
        if self._streams[organization_id] >= most:
            detail = (
                f"The organization has {most} broadcast streams on this gateway, the most there are: end one, or retry."
            )
            raise ApiError(Fault("TOO_MANY_STREAMS", detail), {"Retry-After": str(RETRY_AFTER)})
        self._streams[organization_id] += 1
        self.gateway.enter(stream)

    def leave(self, stream: Stream, organization_id: str) -> None:
        self.gateway.leave(stream)
        self._streams[organization_id] -= 1
        if not self._streams[organization_id]:
            del self._streams[organization_id]

    def stop(self) -> None:
        self.pings.stop()
        self.pages.stop()


def _not_observed(_seconds: float) -> None:
    """The histogram is one of live streams: a thousand subscribers of one event would drown them."""


BROADCAST: Final = web.AppKey("BROADCAST", BroadcastShared)
