"""What the operators' pages tell of the hub as a whole, read from its databases when somebody asks.

Nothing of this is worth waiting for: each piece has its own short time-out, and is left out where it does not come.
"""

import asyncio
import logging
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

import asyncpg
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from streamhub.database import DATABASE_AWAY, Pool, connect

log = logging.getLogger(__name__)

TIMEOUT: Final = 2.0  # seconds
MOST_COUNTED: Final = 100_000  # rows of an outbox

# Named so that a counter is there, at 0, before its first fault.
COUNTERS: Final = (
    "null_organization", "invalid_organization", "not_enterprise", "errors", "too_large", "unattributable",
    "untied_members",
)  # fmt: skip

_STATE: Final = """
SELECT h.last_ms > 0 AS any, extract(epoch FROM clock_timestamp())::float8 - h.last_ms / 1000.0::float8 AS since_last,
       l.expires_at > clock_timestamp() AS led, l.epoch
  FROM streamhub_hub.log_head h, streamhub_hub.relay_lease l
"""
_OUTBOX: Final = f"""
SELECT (SELECT count(*) FROM (SELECT FROM streamhub.outbox LIMIT {MOST_COUNTED}) AS counted) AS depth,
       coalesce(extract(epoch FROM clock_timestamp() - (SELECT created_at FROM streamhub.outbox ORDER BY seq LIMIT 1)),
                0)::float8 AS age
"""
_COUNTERS: Final = "SELECT name, source, value FROM streamhub_hub.counters"


class State(NamedTuple):
    """`since_last` event, in seconds; None where there was none. `led`: somebody leads the relay, in `epoch`."""

    since_last: float | None
    led: bool
    epoch: int


class Outbox(NamedTuple):
    """`depth` is counted up to MOST_COUNTED; `age` of the oldest change in seconds, 0 where there is none."""

    depth: int
    age: float


async def state(pool: Pool, timeout: float = TIMEOUT) -> State | None:
    """None where the hub's database does not answer."""
    row = await _row(pool, _STATE, timeout)
    return None if row is None else State(max(0.0, row["since_last"]) if row["any"] else None, row["led"], row["epoch"])


async def outbox(pool: Pool, timeout: float = TIMEOUT) -> Outbox | None:
    """That of the hub's own database; None where it cannot be told in time."""
    row = await _row(pool, _OUTBOX, timeout)
    return None if row is None else Outbox(row["depth"], max(0.0, row["age"]))


async def _row(pool: Pool, query: str, timeout: float) -> asyncpg.Record | None:
    rows = await _rows(pool, query, timeout)
    return rows[0] if rows else None


async def _rows(pool: Pool, query: str, timeout: float) -> list[asyncpg.Record] | None:
    """None where they do not come in time. What was under way then is given up within as long again."""
    try:
        async with pool.acquire(timeout=timeout) as connection:
            return await connection.fetch(query, timeout=timeout)
    except (*DATABASE_AWAY, asyncpg.PostgresError):
        return None


async def _outbox_of(dsn: str) -> Outbox | None:
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
    return None if row is None else Outbox(row["depth"], max(0.0, row["age"]))


async def metrics(pool: Pool, sources: Mapping[str, str]) -> Iterator[Metric]:
    """The hub's facts as metrics; `sources` are the databases beside the hub's own, by name."""
    (found, hub, counters), others = await asyncio.gather(
        asyncio.gather(state(pool), outbox(pool), _rows(pool, _COUNTERS, TIMEOUT)),
        asyncio.gather(*(_outbox_of(dsn) for dsn in sources.values())),
    )
    outboxes = {"hub": hub, **dict(zip(sources, others, strict=True))}
    return _families(found, outboxes, counters)


def _families(
    found: State | None, outboxes: Mapping[str, Outbox | None], counters: list[asyncpg.Record] | None
) -> Iterator[Metric]:
    yield GaugeMetricFamily("streamhub_database_up", "1 where the hub's database answers.", value=found is not None)
    if found is not None:
        yield GaugeMetricFamily("streamhub_relay_led", "1 where a relay leads, in any process.", value=found.led)
        yield GaugeMetricFamily("streamhub_relay_epoch", "Grows with each change of the leader.", value=found.epoch)
        if found.since_last is not None:
            yield GaugeMetricFamily(
                "streamhub_last_event_age_seconds", "Since the last id was given.", value=found.since_last
            )
    depth = GaugeMetricFamily(
        "streamhub_outbox_depth", f"Changes not yet published; counted up to {MOST_COUNTED}.", labels=["source"]
    )
    age = GaugeMetricFamily("streamhub_outbox_age_seconds", "Age of the oldest of them.", labels=["source"])
    for source, box in outboxes.items():
        if box is not None:
            depth.add_metric([source], box.depth)
            age.add_metric([source], box.age)
    yield depth
    yield age
    if counters is not None:
        changes = CounterMetricFamily(
            "streamhub_changes", "Changes that gave no whole event, by what was the matter.", labels=["kind", "source"]
        )
        counted = {(name, source): 0 for name in COUNTERS for source in outboxes}
        counted.update({(row["name"], row["source"]): row["value"] for row in counters})
        for labels, value in counted.items():
            changes.add_metric(labels, value)
        yield changes
