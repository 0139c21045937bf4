"""`GET /{org}`: an organization's live stream, for one consumer at a time.

What is sent when is core/subscription.py's business, who may consume core/lease.py's. This joins them: events come
from the tail by `receive` and leave with the same turn of the event loop; whatever the reader's socket does not take
in time is read from history by `feed`, page by page, once it takes it.
"""

import asyncio
import logging
import random
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final

from aiohttp import web

from streamhub.core import ids, sse, window
from streamhub.core.events import StoredEvent
from streamhub.core.lease import Refusal
from streamhub.core.subscription import State, Subscription
from streamhub.errors import ApiError, Fault
from streamhub.gateway import places
from streamhub.gateway.admission import found
from streamhub.gateway.gateway import GATEWAY, Gateway
from streamhub.gateway.live.leases import Lease, Taken, Wanted, boottime
from streamhub.gateway.live.status import note_gap
from streamhub.gateway.streams.stream import Cause, Stream, stream_error
from streamhub.history.reader import Selection
from streamhub.postgres.connections import DATABASE_AWAY
from streamhub.web import parameters

log = logging.getLogger(__name__)

# Bytes that may wait for one reader, in the subscription and in its socket's buffer together.
BOUND: Final = 512 * 1024
PAGE_BYTES: Final = 256 * 1024
PROXY_HEADERS: Final = ("Via", "Forwarded", "X-Forwarded-For")


async def live(request: web.Request) -> web.StreamResponse:
    stream, opening = await _taken(request)
    gateway = request.app[GATEWAY]
    try:
        try:
            await stream.open(request, *opening)
        except BaseException:
            await _give_back(gateway, stream.lease)
            raise
        del opening  # this frame lasts as long as the stream
        await stream.run()
    finally:
        gateway.leave(stream, gateway.live_streams)
    return stream.channel.response


async def _taken(request: web.Request) -> tuple["LiveStream", tuple[str, dict[str, Any] | None, float]]:
    """The stream with its lease, known to the gateway, and what it opens with: position, gap, the token's end."""
    async with found(request) as (gateway, claims, slug, place):
        faults: list[Fault] = []
        for _ in parameters.known_parameters(request, (), faults):
            pass
        asked = parameters.last_event_id(request, place.now_ms, faults)
        if faults:
            raise ApiError(faults)

        start = asked or max(window.before(place.now_ms), place.head)
        wanted = Wanted(claims.organization_id, start, override=asked is not None)
        taken: Taken | Refusal | None = await gateway.node.take_if_free(wanted)
        if taken is None:
            async with gateway.own_statements:
                taken = await gateway.node.take(claims.organization_id, start, override=wanted.override)
        if isinstance(taken, Refusal):
            fault = Fault(409, "ACTIVE_CONSUMER_EXISTS", taken.detail, meta=taken.meta)
            raise ApiError(fault, {"Retry-After": str(taken.retry_after)})
        position = taken.cursor
        exact = taken.exact and not gateway.settings.resume_overlap_always
        if asked is None and taken.cursor != start and not exact:
            position = earlier(taken.cursor, gateway.settings.resume_overlap)
        stream = LiveStream(gateway, request, taken.lease, place.key)
        gateway.enter(stream, gateway.live_streams)
        try:
            position, gap = await missed(gateway, slug, place, position)
            if gap is not None:
                async with gateway.own_statements:
                    await note_gap(gateway.hub, taken.lease, gap, place.now_ms)
        except BaseException:
            gateway.leave(stream, gateway.live_streams)
            await _give_back(gateway, taken.lease)
            raise
        return stream, (position, gap, claims.expires_at)


async def _give_back(gateway: Gateway, lease: Lease) -> None:
    """Nothing has been streamed, so nobody has to be waited for."""
    await gateway.node.release(lease, None, boottime(), read=False, free_at_once=True)


def earlier(position: str, by: timedelta) -> str:
    """A position so much before another one: what was acknowledged lately may never have been read."""
    return min(position, window.before(ids.milliseconds(position) - by // timedelta(milliseconds=1)))


async def missed(gateway: Gateway, slug: str, place: places.Place, position: str) -> tuple[str, dict[str, Any] | None]:
    """Where to begin, and the gap's data where something after `position` is older than what is pushed again."""
    millisecond = timedelta(milliseconds=1)
    floor_ms = place.now_ms - gateway.settings.resume_window // millisecond
    floor = window.before(floor_ms)
    if place.key is None or position >= floor:
        return position, None
    page = await gateway.live_reader.page(Selection(place.key), position, floor, max_rows=1)
    if page.first_id is None:
        return floor, None
    longest = gateway.settings.replay_max_window // millisecond
    from_ms, first_ms = ids.milliseconds(position), ids.milliseconds(page.first_id)
    if first_ms - from_ms > longest:
        from_ms = first_ms  # nothing was missed in between, and a position may lie years back
    replay = [
        f"/{slug}/replay?date_from={window.timestamp(start)}&date_to={window.timestamp(end)}"
        for start, end in window.cut(from_ms, floor_ms, longest)
    ]
    gap = {
        "after_id": position,
        "from": window.timestamp(from_ms),
        "to": window.timestamp(floor_ms),
        "replay": replay,
    }
    return floor, gap


class LiveStream(Stream):
    """One consumer's stream, from its lease to its release."""

    __slots__ = ("_behind_proxy", "_gateway", "_key", "_noted", "_position", "_subscription", "_turned", "lease")

    def __init__(self, gateway: Gateway, request: web.Request, lease: Lease, key: int | None) -> None:
        super().__init__(request, gateway.metrics.live_sent)
        self.lease = lease
        self._gateway = gateway
        self._key = key
        self._behind_proxy = any(name in request.headers for name in PROXY_HEADERS)
        self._noted: str | None = None
        self._position = ""
        self._subscription: Subscription | None = None
        self._turned: asyncio.Future[None] | None = None

    async def open(self, request: web.Request, position: str, gap: dict[str, Any] | None, expires_at: float) -> None:
        """Send the 200 and what comes before the events after `position`."""
        self._position = self.channel.last_id = position
        first = sse.RETRY + sse.heartbeat(time.time_ns() // 1_000_000)
        if gap is not None:
            first += sse.control("gap", gap)
        await self.channel.open(request, first, expires_at)

    async def run(self) -> None:
        """Stream until the end, and give the lease back."""
        gateway = self._gateway
        gateway.heartbeats.join(self, self.channel.beat)
        cause = Cause.DRAINING
        try:
            cause = await self.fed()
        finally:
            seen_at = boottime()
            gateway.metrics.live_ended(cause.value.lower())
            gateway.heartbeats.leave(self)
            if self._key is not None:
                gateway.tail.unsubscribe(self._key, self)
            if self._subscription is not None:
                self._subscription.end()
            draining = cause is Cause.DRAINING
            # Whoever asked for the end waits for it, as does the process that is to stop.
            try:
                await self.channel.end(stream_error(cause), in_haste=draining or cause is Cause.DELETED)
            finally:
                if cause is not Cause.LEASE_LOST:
                    read = cause is Cause.LEFT and self.channel.got_fin and not self._behind_proxy
                    await gateway.node.release(
                        self.lease, self.channel.acknowledged, seen_at, read=read, free_at_once=draining
                    )

    @property
    def state(self) -> str:
        """As metrics tell it; `opening` until it knows what it is subscribed to."""
        return "opening" if self._subscription is None else self._subscription.state.value

    def moved_cursor(self) -> str | None:
        """The last acknowledged event, where it is another one than the last time."""
        self.channel.sample()
        if self.channel.acknowledged == self._noted:
            return None
        self._noted = self.channel.acknowledged
        return self._noted

    # -- from the tail

    def receive(self, events: Sequence[StoredEvent]) -> None:
        subscription = self._subscription
        if subscription is None:
            return
        if subscription.announce(events, self.channel.unsent):
            asyncio.get_running_loop().call_soon(self._flush)
        elif subscription.state is State.CATCHING_UP:
            self._turn()

    def fell_behind(self, to: str) -> None:
        if self._subscription is not None:
            self._subscription.fell_behind(to)
            self._turn()

    def _flush(self) -> None:
        subscription = self._subscription
        if subscription is None or self.cause is not None:
            return
        if not self._gateway.node.trusted:
            subscription.fell_behind(subscription.position)
            self._turn()
            return
        run = subscription.take()
        if run is not None:
            self.send(run.frames, run.last_id, run.events)
            self._gateway.metrics.delivered(time.time() - ids.milliseconds(run.last_id) / 1_000)

    # -- from history

    async def feed(self) -> None:
        gateway = self._gateway
        if self._key is None:
            self._key = await gateway.registrations.key_of(self.lease.organization_id)
        joint = gateway.tail.subscribe(self._key, self.lease.organization_id, self)
        subscription = self._subscription = Subscription(self._position, joint, BOUND)
        while True:
            while subscription.state is State.CATCHING_UP:
                await self.channel.drained()
                await gateway.node.wait_trusted()
                await self._feed_page(subscription, self._key)
            self._flush()
            if subscription.state is State.LIVE:
                self._turned = asyncio.get_running_loop().create_future()
                await self._turned

    def _turn(self) -> None:
        """The subscription is catching up: go on in `feed`."""
        if self._turned is not None and not self._turned.done():
            self._turned.set_result(None)

    async def _feed_page(self, subscription: Subscription, key: int) -> None:
        """A method of its own, so that no page is kept while the stream is live."""
        gateway = self._gateway
        try:
            page = await gateway.live_reader.page(Selection(key), subscription.position, subscription.joint, PAGE_BYTES)
        except DATABASE_AWAY as error:
            log.warning("a stream waits for the database: %r", error)
            await asyncio.sleep(random.uniform(0.5, 1.0))
            return
        if gateway.node.trusted:
            self.send(page.frames, page.last_id, page.events)
            subscription.page(page.read_to)
