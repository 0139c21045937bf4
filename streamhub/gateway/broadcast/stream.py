"""A broadcast stream: a stream that follows, with a filter and no lease.

A reader that falls further behind than the resume window is told of it by a gap, and goes on within the window.

With `latest` events wait in a Latest, and a timer writes what is left of them. While the reader's socket is full they
wait on, and newer ones take their places; where too much waits the stream stops, and goes on from history.
"""

import asyncio
import sys
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, ClassVar, Final, Protocol, cast

from aiohttp import web

from streamhub.core import control, ids, sse
from streamhub.core.formats import PINGED
from streamhub.core.subscription import Subscription
from streamhub.gateway.broadcast.latest import Enveloped, Latest
from streamhub.gateway.broadcast.pages import Chosen
from streamhub.gateway.broadcast.request import Asked
from streamhub.gateway.broadcast.shared import BroadcastShared
from streamhub.gateway.streams.channel import BUFFER_LOW, Run
from streamhub.gateway.streams.following import Batch, FollowingStream
from streamhub.gateway.streams.gap import missed
from streamhub.gateway.streams.stream import Cause, Kind, stream_error
from streamhub.web.auth import Claims

# A reader that began at the edge of the window needs a moment to get away from it.
GRACE: Final = timedelta(seconds=10)
MOST_WAITING: Final = 4 * 1024 * 1024  # bytes of one Latest; streams that wait for the same share them
LOOK_AGAIN: Final = 0.5  # seconds; whether a full socket has taken something


def stream_of(
    shared: BroadcastShared, request: web.Request, asked: Asked, claims: Claims, key: int | None
) -> "BroadcastStream":
    """`key` is the organization's in the registry, None where it is not registered."""
    if asked.latest is None:
        return BroadcastStream(shared, request, asked, claims, key)
    return LatestStream(shared, request, asked, claims, key, asked.latest)


class BroadcastStream(FollowingStream):
    """One subscriber's."""

    __slots__ = ("_shared", "_slug", "interest")

    kind: ClassVar[Kind] = "broadcast"

    def __init__(
        self, shared: BroadcastShared, request: web.Request, asked: Asked, claims: Claims, key: int | None
    ) -> None:
        # Many streams of one organization: its names are kept once.
        super().__init__(request, shared.supply, sys.intern(claims.organization_id), key, PINGED)
        self.interest = asked.interest
        self._shared = shared
        self._slug = sys.intern(claims.slug)

    @property
    def organization_id(self) -> str:
        return self._organization_id

    async def open(self, request: web.Request, position: str, gap: dict[str, Any] | None, expires_at: float) -> None:
        """Send the 200 and what comes before the events after `position`."""
        self.begin(position)
        first = sse.RETRY
        if gap is not None:
            first += sse.control(control.GAP, gap)
        await self.channel.open(request, first, expires_at)

    async def run(self) -> None:
        """Stream until the end."""
        shared = self._shared
        shared.pings.join(self, self.channel.beat)
        cause = Cause.DRAINING
        try:
            cause = await self.fed()
        finally:
            shared.gateway.metrics.broadcast_ended(cause.value.lower())
            shared.pings.leave(self)
            self.unfollow()
            await self.channel.end(stream_error(cause), in_haste=cause is Cause.DRAINING)

    def may_send(self) -> bool:
        return True

    async def until_it_may_send(self) -> None:
        return None

    # -- from the fan

    def subscribe(self, key: int) -> str:
        return self._shared.fans.subscribe(key, self._organization_id, self)

    def unsubscribe(self, key: int) -> None:
        self._shared.fans.unsubscribe(key, self)

    def offer(self, before: str, events: Sequence[Enveloped], run: Run) -> bool:
        """See fan.py."""
        subscription = self._subscription
        if subscription is None or self.cause is not None:
            return False
        channel = self.channel
        if subscription.hand_over(run.first_id, run.last_id, run.size, channel.unsent):
            channel.write_shared(run)
            return True
        subscription.passed(before)
        self.receive(events)
        return False

    def overtaken(self, before: str, to: str) -> None:
        """See fan.py."""
        if self._subscription is not None:
            self._subscription.passed(before)
            self.fell_behind(to)

    def failed(self) -> None:
        """See fan.py."""
        self.finish(Cause.INTERNAL)

    # -- from history

    async def before_page(self, subscription: Subscription) -> None:
        window = self._shared.gateway.settings.resume_window
        behind = timedelta(milliseconds=time.time_ns() // 1_000_000 - ids.milliseconds(subscription.position))
        if behind <= window + min(window, GRACE):
            return
        gateway = self._shared.gateway
        place = (await gateway.finder.find(self._organization_id)).place
        position, gap = await missed(self._shared.reader, gateway.settings, self._slug, place, subscription.position)
        if gap is not None:
            self.tell(gap)
        if position > subscription.position:
            subscription.fell_behind(position)
            subscription.page(position)

    def tell(self, gap: dict[str, Any]) -> None:
        self.channel.write(sse.control(control.GAP, gap))

    async def read_page(self, key: int, after: str, until: str) -> Chosen:
        return await self._shared.pages.page(key, self.interest, after, until)


class _Kept(Protocol):
    """What comes to a broadcast stream, by the fan as in pages: its events are in their envelope."""

    @property
    def kept(self) -> Sequence[Enveloped]: ...


class LatestStream(BroadcastStream):
    """Of each resource only the newest event, at most once in `interval` seconds."""

    __slots__ = ("_has_room", "_interval", "_latest", "_timer", "_written_at")

    def __init__(
        self,
        shared: BroadcastShared,
        request: web.Request,
        asked: Asked,
        claims: Claims,
        key: int | None,
        interval: float,
    ) -> None:
        super().__init__(shared, request, asked, claims, key)
        self._interval = interval
        self._latest = Latest()
        self._has_room = asyncio.Event()
        self._has_room.set()
        self._timer: asyncio.TimerHandle | None = None
        self._written_at = float("-inf")

    async def run(self) -> None:
        try:
            await super().run()
        finally:
            self._cancel_timer()

    def may_send(self) -> bool:
        return self._has_room.is_set()

    async def until_it_may_send(self) -> None:
        await self._has_room.wait()

    def offer(self, before: str, events: Sequence[Enveloped], run: Run) -> bool:
        subscription = self._subscription
        if subscription is None or self.cause is not None:
            return False
        if self._latest.size + run.size > MOST_WAITING:
            self.overtaken(before, run.last_id)
        elif subscription.hand_over(run.first_id, run.last_id, 0, 0):
            self._keep(events)
        else:
            subscription.passed(before)
            self.receive(events)
        return False

    def tell(self, gap: dict[str, Any]) -> None:
        if self._latest:
            self._write()
        super().tell(gap)

    def hand_over(self, batch: Batch) -> None:
        self._keep(cast("_Kept", batch).kept)

    def _keep(self, events: Sequence[Enveloped]) -> None:
        self._latest.add(events)
        loop = asyncio.get_running_loop()
        if self._latest.size > MOST_WAITING:
            # More than may wait, from so many resources: the reader gets it now, if it takes it.
            self._has_room.clear()
            self._cancel_timer()
            self._due()
        elif self._latest and self._timer is None:
            self._timer = loop.call_at(max(loop.time(), self._written_at + self._interval), self._due)

    def _due(self) -> None:
        self._timer = None
        if self.cause is not None:
            return
        if self.channel.unsent > BUFFER_LOW:
            pause = min(self._interval, LOOK_AGAIN)
            self._timer = asyncio.get_running_loop().call_later(pause, self._due)
        else:
            self._write()

    def _write(self) -> None:
        self._cancel_timer()
        taken = self._latest.take()
        self.send(b"".join(event.frame for event in taken), taken[-1].id, len(taken))
        self._written_at = asyncio.get_running_loop().time()
        self._has_room.set()

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
