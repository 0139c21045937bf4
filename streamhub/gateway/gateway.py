"""The state that all requests of one gateway process share, how it starts, and how it drains.

It knows streams by their kind and state alone. What the kinds own (leases, cursors, jobs) is put on top, in app.py.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from typing import Final

from aiohttp import web

from streamhub.backoff import rest
from streamhub.cancellation import ended
from streamhub.config import Settings
from streamhub.gateway import budget
from streamhub.gateway.api_keys import ApiKeys
from streamhub.gateway.places import Finder, Registrations
from streamhub.gateway.streams import channel
from streamhub.gateway.streams.endings import Endings
from streamhub.gateway.streams.stream import STATES, Cause, Kind, Stream
from streamhub.gateway.streams.timer_wheel import TimerWheel
from streamhub.health.facts import Facts, Kept
from streamhub.keys.lookup import Lookup
from streamhub.leases.node import Node
from streamhub.metrics import Metrics
from streamhub.postgres.connections import Pool
from streamhub.tail import Tail
from streamhub.web.auth import Authenticator
from streamhub.web.connections import MOST_FILES, Connections
from streamhub.web.problems import database_unavailable, unavailable
from streamhub.web.turns import Turns

log = logging.getLogger(__name__)

COUNT_EVERY: Final = 1.0  # seconds; another worker may be asked for the metrics of all at any time


class Gateway:
    """`await start()` before the first request, `await drain()` and `await stop()` at the end."""

    def __init__(
        self,
        settings: Settings,
        hub: Pool,
        tail: Tail,
        authenticator: Authenticator,
        metrics: Metrics | None = None,
        sources: Mapping[str, str] | None = None,
    ) -> None:
        """`metrics` are the process's, `sources` the databases beside the hub's own whose outboxes metrics tell of."""
        self.settings = settings
        self.hub = hub
        self.tail = tail
        self.authenticator = authenticator
        self.metrics = metrics or Metrics()
        self.sources = dict(sources or {})
        self.node = Node(hub)
        self.streams: set[Stream] = set()
        self.heartbeats = TimerWheel(settings.heartbeat_interval)
        self.peers = TimerWheel(timedelta(seconds=channel.LOOK_EVERY))
        self.endings = Endings()
        self.registrations = Registrations(hub)
        self.turns = Turns(budget.TURNS)
        self.own_statements = asyncio.Semaphore(budget.REQUESTS)
        self.finder = Finder(hub, self.own_statements)
        self.api_keys = ApiKeys(Lookup(hub, self.own_statements))
        self.endings.add(lambda: self.api_keys.look(self.streams))
        self.facts = Facts(hub, self.sources, settings.publication_topic)
        self.exposition = Kept(self._exposition)
        self.connections = Connections(MOST_FILES)
        self.draining = False
        self.started_at = time.time()
        self._counting: asyncio.Task[None] | None = None
        self._loop_lag = 0.0  # seconds
        self.metrics.watch_pool("gateway", hub)

    async def start(self) -> None:
        """Raises what asyncpg raises while the database is away."""
        await self.node.start()
        self.endings.start()
        self._counting = asyncio.create_task(self._keep_counting(), name="metrics")

    async def stop(self) -> None:
        await ended(self._counting)
        self.heartbeats.stop()
        self.peers.stop()
        await self.endings.stop()
        await self.registrations.stop()
        await self.finder.stop()
        await self.api_keys.stop()
        await self.node.stop()

    # -- requests

    def admit(self) -> None:
        """Refuse a request that could not be served (503)."""
        if self.draining:
            raise unavailable("This gateway is shutting down; another one takes the request.", "DRAINING", 1)
        if not self.node.trusted:
            raise database_unavailable()
        if self.connections.full:
            raise self.connections.refusal()

    @asynccontextmanager
    async def turn(self, request: web.Request) -> AsyncIterator[None]:
        """Within the block it is the request's turn to ask the database: together with others, or by statements of its
        own within `own_statements`. Raises ApiError (503)."""
        async with self.turns.turn():
            self.admit()  # things change while one waits
            if request.transport is None:
                raise unavailable("The client has left.")  # no client reads it, and it costs the database nothing
            yield

    # -- streams

    def enter(self, stream: Stream) -> None:
        """Until it leaves the stream is counted, drained, and its peer watched."""
        self.streams.add(stream)
        self.peers.join(stream, stream.channel.look)
        if self.draining:
            stream.finish(Cause.DRAINING)  # admitted before the drain began

    def leave(self, stream: Stream) -> None:
        self.peers.leave(stream)
        self.streams.discard(stream)

    @contextmanager
    def entered(self, stream: Stream) -> Iterator[None]:
        self.enter(stream)
        try:
            yield
        finally:
            self.leave(stream)

    def of_kind(self, kind: Kind) -> list[Stream]:
        return [stream for stream in self.streams if stream.kind == kind]

    async def drain(self) -> None:
        """End all streams, spread over DRAIN_TIME, so that their clients do not all come back at once."""
        self.draining = True
        streams = [stream for kind in STATES for stream in self.of_kind(kind)]
        if not streams:
            return
        log.info("draining %d streams", len(streams))
        pause = self.settings.drain_time.total_seconds() / len(streams)
        for n, stream in enumerate(streams):
            if n:
                await asyncio.sleep(pause)
            stream.finish(Cause.DRAINING)

    # -- metrics

    def refresh_metrics(self) -> None:
        """Tell the metrics how many streams there are now, of each kind in each state, and how the process is."""
        now = Counter((stream.kind, stream.state) for stream in self.streams)
        for kind, states in STATES.items():
            self.metrics.count_streams(kind, {state: now[kind, state] for state in states})
        self.metrics.count_state(
            connections=self.connections.open,
            most_connections=self.connections.most,
            trusted=self.node.trusted,
            degraded=self.tail.degraded,
            loop_lag=self._loop_lag,
        )
        self.metrics.count_process()

    async def _keep_counting(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            await rest(COUNT_EVERY)
            self._loop_lag = max(0.0, loop.time() - began - COUNT_EVERY)
            try:
                self.refresh_metrics()
            except Exception:
                log.exception("metrics were not refreshed, retrying in %g s", COUNT_EVERY)

    async def _exposition(self) -> bytes:
        """The metrics as Prometheus reads them. Of many workers that takes a while, so not on the loop."""
        self.refresh_metrics()
        return await asyncio.to_thread(self.metrics.exposition, await self.facts.metrics())


GATEWAY: Final = web.AppKey("GATEWAY", Gateway)
