"""A live stream: a stream that follows, under a lease, and whose consumer's cursor is kept."""

import time
from collections.abc import Awaitable
from typing import Any, ClassVar, Final

from aiohttp import web

from streamhub.core import control, sse
from streamhub.gateway.live.shared import LiveShared
from streamhub.gateway.streams.following import FollowingStream
from streamhub.gateway.streams.stream import Cause, Kind, stream_error
from streamhub.leases.held import Lease
from streamhub.leases.node import boottime

PROXY_HEADERS: Final = ("Via", "Forwarded", "X-Forwarded-For")


class LiveStream(FollowingStream):
    """One consumer's stream, from its lease to its release."""

    __slots__ = ("_behind_proxy", "_noted", "_shared", "lease")

    kind: ClassVar[Kind] = "live"

    def __init__(self, shared: LiveShared, request: web.Request, lease: Lease, key: int | None) -> None:
        super().__init__(request, shared.supply, lease.organization_id, key)
        self.channel.follows_acknowledgements = True
        self.lease = lease
        self._shared = shared
        self._behind_proxy = any(name in request.headers for name in PROXY_HEADERS)
        self._noted: str | None = None

    async def open(self, request: web.Request, position: str, gap: dict[str, Any] | None, expires_at: float) -> None:
        """Send the 200 and what comes before the events after `position`."""
        self.begin(position)
        first = sse.RETRY + sse.heartbeat(time.time_ns() // 1_000_000)
        if gap is not None:
            first += sse.control(control.GAP, gap)
        await self.channel.open(request, first, expires_at)

    async def run(self) -> None:
        """Stream until the end, and give the lease back."""
        gateway = self._shared.gateway
        gateway.heartbeats.join(self, self.channel.beat)
        cause = Cause.DRAINING
        try:
            cause = await self.fed()
        finally:
            seen_at = boottime()
            gateway.metrics.live_ended(cause.value.lower())
            gateway.heartbeats.leave(self)
            self.unfollow()
            draining = cause is Cause.DRAINING
            # The request that asked for the end waits for it, as does the process that is to stop.
            try:
                await self.channel.end(stream_error(cause), in_haste=draining or cause is Cause.DELETED)
            finally:
                if cause is not Cause.LEASE_LOST:
                    read = cause is Cause.LEFT and self.channel.got_fin and not self._behind_proxy
                    await self._shared.leases.release(
                        self.lease, self.channel.acknowledged, seen_at, read=read, free_at_once=draining
                    )

    def may_send(self) -> bool:
        """While the lease is trusted: later another gateway may have the stream."""
        return self._shared.gateway.node.trusted

    def until_it_may_send(self) -> Awaitable[None]:
        return self._shared.gateway.node.wait_trusted()

    def moved_cursor(self) -> str | None:
        """The last acknowledged event, where it is another one than the last time."""
        self.channel.sample()
        if self.channel.acknowledged == self._noted:
            return None
        self._noted = self.channel.acknowledged
        return self._noted
