"""A broadcast stream: a stream that follows, with a filter and no lease.

With `latest` events wait in a Latest, and a timer writes what is left of them. While the reader's socket is full they
wait on, and newer ones take their places; a Latest that is full makes the stream stop, and go on from history.
"""

import asyncio
from collections.abc import Sequence
from typing import Any, ClassVar

from aiohttp import web

from streamhub.core import control, frames, sse
from streamhub.core.formats import PINGED
from streamhub.core.subscription import Framed
from streamhub.gateway.broadcast.latest import Latest
from streamhub.gateway.broadcast.request import Asked, Wanted, in_envelope
from streamhub.gateway.broadcast.shared import BroadcastShared
from streamhub.gateway.streams.channel import BUFFER_LOW
from streamhub.gateway.streams.following import BOUND, FollowingStream
from streamhub.gateway.streams.stream import Cause, Kind, stream_error
from streamhub.history.reader import Page


class BroadcastStream(FollowingStream):
    """One subscriber's."""

    __slots__ = ("_envelope", "_has_room", "_latest", "_shared", "_timer", "_written_at", "wanted")

    kind: ClassVar[Kind] = "broadcast"

    def __init__(
        self, shared: BroadcastShared, request: web.Request, asked: Asked, organization_id: str, key: int | None
    ) -> None:
        super().__init__(request, shared.supply, organization_id, key, PINGED)
        self.wanted: Wanted = asked.wanted
        self._shared = shared
        self._envelope = asked.envelope
        self._latest = None if asked.latest is None else Latest(asked.latest)
        self._has_room = asyncio.Event()
        self._has_room.set()
        self._timer: asyncio.TimerHandle | None = None
        self._written_at = float("-inf")

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
            if self._timer is not None:
                self._timer.cancel()
            await self.channel.end(stream_error(cause), in_haste=cause is Cause.DRAINING)

    # -- from the fan

    def offer(self, before: str, events: Sequence[Framed]) -> None:
        if self._subscription is not None:
            self._subscription.passed(before)
            self.receive(events)

    def overtaken(self, before: str, to: str) -> None:
        if self._subscription is not None:
            self._subscription.passed(before)
            self.fell_behind(to)

    # -- from history

    async def read_page(self, key: int, after: str, until: str) -> Page:
        return await self._shared.pages.page(key, self.wanted, after, until)

    # -- to the socket

    def may_send(self) -> bool:
        return self._has_room.is_set()

    async def until_it_may_send(self) -> None:
        await self._has_room.wait()

    def send(self, run: bytes, last_id: str | None, events: int) -> None:
        if self._latest is None:
            super().send(run, last_id, events)
            return
        self._latest.add(run)
        if self._latest.size > BOUND:
            self._has_room.clear()
        if self._latest and self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_at(max(loop.time(), self._written_at + self._latest.interval), self._write_latest)

    def _write_latest(self) -> None:
        assert self._latest is not None
        self._timer = None
        if self.cause is not None:
            return
        loop = asyncio.get_running_loop()
        if self.channel.unsent > BUFFER_LOW:
            self._timer = loop.call_later(self._latest.interval, self._write_latest)
            return
        taken = self._latest.take()
        test = self.wanted.test
        run = b"".join(in_envelope(frame, 0, self._envelope, test=test) for frame in taken)
        super().send(run, frames.first_id(taken[-1]), len(taken))
        self._written_at = loop.time()
        self._has_room.set()
