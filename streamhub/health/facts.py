"""What the operators' pages tell of the hub as a whole, read from its databases when somebody asks.

Nothing of this is worth waiting for: each piece has its own short time-out, and is left out where it does not come.
However many ask, each piece is read once a second, over two connections at most.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Final, Generic, NamedTuple, TypeVar

import asyncpg
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from streamhub.core import ids
from streamhub.health import census
from streamhub.health.census import Census
from streamhub.history.counters import COUNTERS
from streamhub.history.head import HEAD, last_event_of
from streamhub.kafka.publication import PROGRESS
from streamhub.leases.leader import LEADER
from streamhub.postgres.connections import DATABASE_AWAY, Connection, Pool, connect

log = logging.getLogger(__name__)

TIMEOUT: Final = 2.0  # seconds
KEPT_FOR: Final = 1.0  # seconds
READY_WITHIN: Final = 1.0  # seconds; what asks whether we are ready has a time-out, too
MOST_COUNTED: Final = 100_000  # rows of an outbox

# Named so that a counter is there, at 0, before its first fault.
COUNTED: Final = (
    "null_organization", "invalid_organization", "not_enterprise", "errors", "too_large", "unattributable",
    "untied_members",
)  # fmt: skip

_STATE: Final = f"""
SELECT h.last_ms > 0 AS any, extract(epoch FROM clock_timestamp())::float8 - h.last_ms / 1000.0::float8 AS since_last,
       l.alive AS led, l.epoch
  FROM ({HEAD}) h, ({LEADER}) l
"""
_OUTBOX: Final = f"""
SELECT (SELECT count(*) FROM (SELECT FROM streamhub.outbox LIMIT {MOST_COUNTED}) AS counted) AS depth,
       coalesce(extract(epoch FROM clock_timestamp() - (SELECT created_at FROM streamhub.outbox ORDER BY seq LIMIT 1)),
                0)::float8 AS age
"""


class HubState(NamedTuple):
    """`since_last` event, in seconds; None where there was none. `led`: a relay leads, in `epoch`."""

    since_last: float | None
    led: bool
    epoch: int


class Backlog(NamedTuple):
    """`depth` is counted up to MOST_COUNTED; `age` of the oldest change in seconds, 0 where there is none."""

    depth: int
    age: float


class TopicProgress(NamedTuple):
    """`lag` is the age in seconds of the oldest event that Kafka has not acknowledged, 0 where there is none; `fault`
    what keeps the publisher from sending."""

    lag: float
    fault: str | None


async def state(pool: Pool, timeout: float = TIMEOUT) -> HubState | None:
    """None where the hub's database does not answer."""
    row = await _row(pool, timeout, _STATE)
    return (
        None if row is None else HubState(max(0.0, row["since_last"]) if row["any"] else None, row["led"], row["epoch"])
    )


async def progress(pool: Pool, topic: str | None, timeout: float = TIMEOUT) -> TopicProgress | None:
    """How far this topic has the events; None where it has none yet, or the hub's database does not answer."""
    return None if topic is None else _publication(await _row(pool, timeout, PROGRESS, topic))


async def progress_over(connection: Connection, topic: str) -> TopicProgress | None:
    """As `progress`; raises what asyncpg raises."""
    return _publication(await connection.fetchrow(PROGRESS, topic, timeout=TIMEOUT))


def _publication(row: asyncpg.Record | None) -> TopicProgress | None:
    if row is None:
        return None
    if last_event_of(row) <= row["published_id"]:
        return TopicProgress(0.0, row["fault"])
    since = ids.milliseconds(row["oldest"] or row["published_id"]) / 1000
    return TopicProgress(max(0.0, row["clock"] - since), row["fault"])


async def outbox(pool: Pool, timeout: float = TIMEOUT) -> Backlog | None:
    """That of the hub's own database; None where it cannot be told in time."""
    row = await _row(pool, timeout, _OUTBOX)
    return None if row is None else Backlog(row["depth"], max(0.0, row["age"]))


async def _row(pool: Pool, timeout: float, query: str, *arguments: object) -> asyncpg.Record | None:
    rows = await _rows(pool, timeout, query, *arguments)
    return rows[0] if rows else None


async def _rows(pool: Pool, timeout: float, query: str, *arguments: object) -> list[asyncpg.Record] | None:
    """None where they do not come in time. What was under way then is given up within as long again."""
    try:
        async with pool.acquire(timeout=timeout) as connection:
            return await connection.fetch(query, *arguments, timeout=timeout)
    except (*DATABASE_AWAY, asyncpg.PostgresError):
        return None


async def _outbox_of(dsn: str) -> Backlog | None:
    try:
        async with asyncio.timeout(TIMEOUT):
            connection = await connect(dsn, timeout=TIMEOUT)
            try:
                row = await connection.fetchrow(_OUTBOX)
            finally:
                connection.terminate()
    except (*DATABASE_AWAY, asyncpg.PostgresError) as error:
        log.debug("a source's outbox cannot be looked at: %r", error)
        return None
    return None if row is None else Backlog(row["depth"], max(0.0, row["age"]))


T = TypeVar("T")


class Kept(Generic[T]):
    """A value that is found for all who ask while it is being found, or within `kept_for` seconds of its finding's
    beginning."""

    def __init__(self, find: Callable[[], Awaitable[T]], kept_for: float = KEPT_FOR) -> None:
        self._find = find
        self._kept_for = kept_for
        self._finding: asyncio.Future[T] | None = None
        self._began = 0.0

    async def get(self) -> T:
        now = asyncio.get_running_loop().time()
        if self._finding is None or (self._finding.done() and now - self._began >= self._kept_for):
            self._began = now
            self._finding = asyncio.ensure_future(self._find())
        return await asyncio.shield(self._finding)

    async def soon(self, within: float) -> T | None:
        """None where it is not found so soon; it is found nevertheless, for who asks later."""
        try:
            async with asyncio.timeout(within):
                return await self.get()
        except TimeoutError:
            return None


class Facts:
    """The hub's facts. `sources` are the databases beside the hub's own, by name, `topic` is Kafka's if any."""

    def __init__(self, pool: Pool, sources: Mapping[str, str], topic: str | None) -> None:
        self._pool = pool
        self._sources = sources
        self._topic = topic
        self._one = asyncio.Lock()  # what may take its time has one connection
        self.state = Kept(lambda: state(pool, READY_WITHIN))
        self.outbox = Kept(self._outbox)
        self.publication = Kept(self._publication)
        self.counters = Kept(self._counters)
        self.census = Kept(self._census, census.KEPT_FOR)

    async def _outbox(self) -> Backlog | None:
        async with self._one:
            return await outbox(self._pool)

    async def _publication(self) -> TopicProgress | None:
        async with self._one:
            return await progress(self._pool, self._topic)

    async def _counters(self) -> list[asyncpg.Record] | None:
        async with self._one:
            return await _rows(self._pool, TIMEOUT, COUNTERS)

    async def _census(self) -> Census | None:
        async with self._one:
            row = await _row(self._pool, TIMEOUT, census.CENSUS)
        return None if row is None else census.census_of(row)

    async def metrics(self) -> Iterator[Metric]:
        """As metrics. The caller keeps it."""
        sources = dict(self._sources)
        (found, hub, counters, published, counted), others = await asyncio.gather(
            asyncio.gather(
                self.state.get(),
                self.outbox.soon(TIMEOUT),
                self.counters.soon(TIMEOUT),
                self.publication.soon(TIMEOUT),
                self.census.soon(TIMEOUT),
            ),
            asyncio.gather(*(_outbox_of(dsn) for dsn in sources.values())),
        )
        outboxes = {"hub": hub, **dict(zip(sources, others, strict=True))}
        return _families(found, outboxes, counters, published, counted)


def _families(
    found: HubState | None,
    outboxes: Mapping[str, Backlog | None],
    counters: list[asyncpg.Record] | None,
    published: TopicProgress | None,
    counted: Census | None,
) -> Iterator[Metric]:
    yield GaugeMetricFamily("streamhub_database_up", "1 where the hub's database answers.", value=found is not None)
    if found is not None:
        yield GaugeMetricFamily("streamhub_relay_led", "1 where a relay leads, in any process.", value=found.led)
        yield GaugeMetricFamily("streamhub_relay_epoch", "How often the leader changed.", value=found.epoch)
        if found.since_last is not None:
            yield GaugeMetricFamily(
                "streamhub_last_event_age_seconds", "Time since the last id was given.", value=found.since_last
            )
    depth = GaugeMetricFamily(
        "streamhub_outbox_depth", f"Changes not yet published; counted up to {MOST_COUNTED}.", labels=["source"]
    )
    age = GaugeMetricFamily(
        "streamhub_outbox_age_seconds", "Age of the oldest change not yet published.", labels=["source"]
    )
    up = GaugeMetricFamily("streamhub_source_up", "1 where the source's outbox can be read.", labels=["source"])
    for source, box in outboxes.items():
        up.add_metric([source], box is not None)
        if box is not None:
            depth.add_metric([source], box.depth)
            age.add_metric([source], box.age)
    yield up
    yield depth
    yield age
    if published is not None:
        yield GaugeMetricFamily(
            "streamhub_kafka_up", "1 where nothing keeps the publisher from sending.", value=published.fault is None
        )
        yield GaugeMetricFamily(
            "streamhub_kafka_lag_seconds",
            "Age of the oldest event that Kafka has not acknowledged.",
            value=published.lag,
        )
    if counters is not None:
        changes = CounterMetricFamily(
            "streamhub_changes", "Changes that gave no whole event, by what was wrong.", labels=["kind", "source"]
        )
        values = {(name, source): 0 for name in COUNTED for source in outboxes}
        values.update({(row["name"], row["source"]): row["value"] for row in counters})
        for labels, value in values.items():
            changes.add_metric(labels, value)
        yield changes
    if counted is not None:
        yield from census.families(counted)
