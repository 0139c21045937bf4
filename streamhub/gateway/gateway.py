"""The state that all requests of one gateway process share, how it starts, and how it drains."""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Collection, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Final, TypeVar

from aiohttp import web

from streamhub.config import Settings
from streamhub.errors import unavailable
from streamhub.gateway.endings import Endings
from streamhub.gateway.live.leases import Lease, Node
from streamhub.gateway.places import Finder, Registrations
from streamhub.gateway.replay.slots import Slots
from streamhub.gateway.streams import channel
from streamhub.gateway.streams.stream import Cause, Stream
from streamhub.gateway.streams.timer_wheel import Heartbeats
from streamhub.health.facts import Facts, Kept
from streamhub.history.reader import Reader
from streamhub.metrics import Metrics
from streamhub.postgres.connections import Pool
from streamhub.tail import Tail
from streamhub.web.auth import Authenticator
from streamhub.web.connections import MOST_FILES, Connections
from streamhub.web.problems import database_unavailable
from streamhub.web.turns import Turns

if TYPE_CHECKING:
    from streamhub.gateway.live.stream import LiveStream
    from streamhub.gateway.replay.stream import Replay


log = logging.getLogger(__name__)

S = TypeVar("S", bound=Stream)

# Who uses the pool's connections, each of them no more at once than this. The sum is no more than the pool has, so
# nothing waits for a connection behind something else: above all not the renewal of the node's row, on which all
# leases rest. Replays have pages of their own, so that they never stand before live streams.
REQUESTS: Final = 3  # whose statements are their own
TOGETHER: Final = 2  # requests whose statements are put together: one connection finds, one takes
LIVE_PAGES: Final = 2
REPLAY_PAGES: Final = 2
JOBS: Final = 2  # rows of replays that are running
OTHERS: Final = 9  # renewal, cursors and ends, looks for ends, closing of windows, registrations, facts 2, tail 2
TURNS: Final = 64  # requests that are before the database at once, and so the most in one statement
LIVE_STATES: Final = ("opening", "catching_up", "live", "ending")
REPLAY_STATES: Final = ("queued", "running")


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
        self.node = Node(hub, settings.stale_after)
        self.endings = Endings(hub, self.node.id, self)
        self.heartbeats = Heartbeats(settings.heartbeat_interval)
        self.peers = Heartbeats(timedelta(seconds=channel.LOOK_EVERY))
        self.registrations = Registrations(hub)
        self.live_reader = Reader(hub, LIVE_PAGES)
        self.replay_reader = Reader(hub, REPLAY_PAGES)
        self.replays_at_once = Slots()
        self.turns = Turns(TURNS)
        self.own_statements = asyncio.Semaphore(REQUESTS)
        self.finder = Finder(hub, self.own_statements)
        self.jobs_turns = asyncio.Semaphore(JOBS)
        self.facts = Facts(hub, self.sources, settings.publication_topic)
        self.exposition = Kept(self._exposition)
        self.connections = Connections(MOST_FILES)
        self.closing_windows = asyncio.Lock()
        self.live_streams: set[LiveStream] = set()
        self.replays: set[Replay] = set()
        self.draining = False
        self.started_at = time.time()

    async def start(self) -> None:
        """Raises what asyncpg raises while the database is away."""
        await self.node.start(self._moved_cursors, self._leases_lost)
        self.endings.start()

    async def stop(self) -> None:
        self.heartbeats.stop()
        self.peers.stop()
        await self.endings.stop()
        await self.registrations.stop()
        await self.finder.stop()
        await self.node.stop()

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
                raise unavailable("The client has left.")  # which reaches nobody, and costs the database nothing
            yield

    async def drain(self) -> None:
        """End all streams, spread over DRAIN_TIME, so that their clients do not all come back at once."""
        self.draining = True
        streams: list[Stream] = [*self.live_streams, *self.replays]
        if not streams:
            return
        log.info("draining %d streams", len(streams))
        pause = self.settings.drain_time.total_seconds() / len(streams)
        for n, stream in enumerate(streams):
            if n:
                await asyncio.sleep(pause)
            stream.finish(Cause.DRAINING)

    def enter(self, stream: S, streams: set[S]) -> None:
        """Until it leaves the stream is one of those that are drained, told of a lost lease, and looked after."""
        streams.add(stream)
        self.peers.join(stream, stream.channel.look)
        if self.draining:
            stream.finish(Cause.DRAINING)  # admitted before the drain began

    def leave(self, stream: S, streams: set[S]) -> None:
        self.peers.leave(stream)
        streams.discard(stream)

    @contextmanager
    def entered(self, stream: S, streams: set[S]) -> Iterator[None]:
        self.enter(stream, streams)
        try:
            yield
        finally:
            self.leave(stream, streams)

    def refresh_metrics(self) -> None:
        """Tell the metrics what is so at this moment."""
        live = Counter(stream.state for stream in self.live_streams)
        replays = Counter(replay.state for replay in self.replays)
        self.metrics.count_streams(
            {state: live[state] for state in LIVE_STATES}, {state: replays[state] for state in REPLAY_STATES}
        )
        self.metrics.count_process()

    async def _exposition(self) -> bytes:
        """The metrics as Prometheus reads them. Of many workers that takes a while, so not on the loop."""
        self.refresh_metrics()
        return await asyncio.to_thread(self.metrics.exposition, await self.facts.metrics())

    # -- what Endings looks after

    def leases(self) -> Collection[Lease]:
        return [stream.lease for stream in self.live_streams]

    def jobs(self) -> Collection[str]:
        return [replay.job for replay in self.replays]

    def end_stream(self, lease: Lease) -> None:
        for stream in list(self.live_streams):
            if stream.lease == lease:
                stream.finish(Cause.DELETED)

    def cancel_replay(self, job: str) -> None:
        for replay in list(self.replays):
            if replay.job == job:
                replay.finish(Cause.REPLAY_CANCELLED)

    # -- what the node looks after

    def _moved_cursors(self) -> Mapping[Lease, str]:
        self.refresh_metrics()  # each second, for whichever worker is asked for the metrics of all
        moved = ((stream.lease, stream.moved_cursor()) for stream in self.live_streams)
        return {lease: cursor for lease, cursor in moved if cursor is not None}

    def _leases_lost(self, kept: set[Lease]) -> None:
        for stream in list(self.live_streams):
            if stream.lease not in kept:
                stream.finish(Cause.LEASE_LOST)


GATEWAY: Final = web.AppKey("GATEWAY", Gateway)
