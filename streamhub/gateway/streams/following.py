"""A stream that follows an organization's events without end: history until the handover_id, then the tail.

What is sent when is core/subscription.py's business. Here events come from the tail by `receive` and leave with the
same turn of the event loop; what the reader's socket does not take in time is read from history by `feed`, page by
page, once it takes it. There is no queue for a reader beside its subscription, which has a bound.

A kind of following stream has hooks: `may_send` and `until_it_may_send` (may events be sent now?), `subscribe` and
`unsubscribe`, `before_page` and `read_page` (what this reader gets of history), and `hand_over` (on to the socket).
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NamedTuple, Protocol

from aiohttp import web

from streamhub.backoff import jittered, rest
from streamhub.core import ids
from streamhub.core.formats import SSE, Format
from streamhub.core.subscription import Framed, State, Subscription
from streamhub.gateway.places import Registrations
from streamhub.gateway.streams.stream import Stream
from streamhub.history.reader import Reader, Selection
from streamhub.metrics import Sent
from streamhub.postgres.connections import DATABASE_AWAY
from streamhub.tail import Tail

log = logging.getLogger(__name__)

# Bytes that may wait for one reader, in the subscription and in its socket's buffer together.
BOUND: Final = 512 * 1024
PAGE_BYTES: Final = 256 * 1024


class Supply(NamedTuple):
    """Where the streams of one kind get their events. `delivered` is told how many seconds after its publication the
    last event of a run was written."""

    registrations: Registrations
    tail: Tail
    reader: Reader
    sent: Sent
    delivered: Callable[[float], None]


class Batch(Protocol):
    """Events for one reader, in id order, as bytes; `last_id` is None where there are none."""

    @property
    def frames(self) -> bytes: ...
    @property
    def last_id(self) -> str | None: ...
    @property
    def events(self) -> int: ...


class PageOfBatch(Batch, Protocol):
    """Events of history; up to `read_to` nothing else is this reader's."""

    @property
    def read_to(self) -> str: ...


class FollowingStream(Stream):
    """`begin` says where, `feed` follows, `unfollow` ends it."""

    __slots__ = ("_key", "_organization_id", "_position", "_subscription", "_supply", "_turned")

    def __init__(
        self, request: web.Request, supply: Supply, organization_id: str, key: int | None, written: Format = SSE
    ) -> None:
        """`key` is the registry's, None while the organization is not registered: then the stream waits for it."""
        super().__init__(request, supply.sent, written)
        self._supply = supply
        self._organization_id = organization_id
        self._key = key
        self._position = ""
        self._subscription: Subscription | None = None
        self._turned: asyncio.Future[None] | None = None

    def begin(self, position: str) -> None:
        """Events after `position` are to be sent."""
        self._position = self.channel.last_id = position

    def unfollow(self) -> None:
        """Nothing more comes from the tail."""
        if self._key is not None:
            self.unsubscribe(self._key)
        if self._subscription is not None:
            self._subscription.end()

    @property
    def state(self) -> str:
        """`opening` until it knows what it is subscribed to."""
        return "opening" if self._subscription is None else self._subscription.state.value

    # -- hooks

    def may_send(self) -> bool:
        """Whether events may be sent at this moment. Where not, they come from history later."""
        raise NotImplementedError

    def until_it_may_send(self) -> Awaitable[None]:
        raise NotImplementedError

    def subscribe(self, key: int) -> str:
        """As Tail.subscribe."""
        return self._supply.tail.subscribe(key, self._organization_id, self)

    def unsubscribe(self, key: int) -> None:
        """As Tail.unsubscribe."""
        self._supply.tail.unsubscribe(key, self)

    async def before_page(self, subscription: Subscription) -> None:
        """Before each page of history. It may write to the channel and move the subscription. Raises what asyncpg
        raises."""

    async def read_page(self, key: int, after: str, until: str) -> PageOfBatch:
        """What this reader gets of history: all events, as they are stored. Raises what asyncpg raises."""
        return await self._supply.reader.page(Selection(key), after, until, PAGE_BYTES)

    def hand_over(self, batch: Batch) -> None:
        """Send these events, or keep them to send them soon."""
        self.send(batch.frames, batch.last_id, batch.events)

    # -- from the tail

    def receive(self, events: Sequence[Framed]) -> None:
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
        if not self.may_send():
            subscription.fell_behind(subscription.position)
            self._turn()
            return
        due = subscription.take()
        if due is not None:
            self.hand_over(due)
            self._supply.delivered(time.time() - ids.milliseconds(due.last_id) / 1_000)

    # -- from history

    async def feed(self) -> None:
        supply = self._supply
        if self._key is None:
            self._key = await supply.registrations.key_of(self._organization_id)
        handover_id = self.subscribe(self._key)
        subscription = self._subscription = Subscription(self._position, handover_id, BOUND)
        while True:
            while subscription.state is State.CATCHING_UP:
                await self.channel.drained()
                await self.until_it_may_send()
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
        """A method of its own, so that no page is kept while the stream follows the tail."""
        try:
            await self.before_page(subscription)
            page = await self.read_page(key, subscription.position, subscription.handover_id)
        except DATABASE_AWAY as error:
            pause = jittered(0.75)
            log.warning("a stream's next page cannot be read from history, retrying in %.1f s: %r", pause, error)
            await rest(pause)
            return
        if self.may_send():
            self.hand_over(page)
            subscription.page(page.read_to)
