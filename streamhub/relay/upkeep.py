"""What the leader does beside relaying: partitions ahead of time, retention, old notes, incidents, a lean outbox."""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, Final, Protocol

import asyncpg

from streamhub.database import DATABASE_ERRORS
from streamhub.history.partitions import Partitions

log = logging.getLogger(__name__)

TICK: Final = 1.0
HOUSE_EVERY: Final = 600.0
NOTES_KEPT: Final = timedelta(hours=24)  # a standby that is further behind than this must not be promoted
INCIDENTS_KEPT: Final = 1_000
REPLAYS_KEPT: Final = timedelta(days=30)

VACUUM_EVERY: Final = 5.0
VACUUM_FROM: Final = 20_000  # consumed changes
SHRINK_FROM: Final = 64 * 1024 * 1024  # bytes of an outbox that holds next to nothing

_VACUUM: Final = "VACUUM (SKIP_LOCKED, TRUNCATE {truncate}) streamhub.outbox"
_SIZE: Final = "SELECT pg_table_size('streamhub.outbox')"


class Upkeep:
    """Over one connection to the hub, which `lock` shares with whoever makes partitions."""

    def __init__(
        self,
        connection: "asyncpg.Connection[Any]",
        lock: asyncio.Lock,
        partition_for: Callable[[int], Awaitable[None]],
        partitions: Partitions,
        retention: timedelta | None,
    ) -> None:
        self._connection = connection
        self._lock = lock
        self._partition_for = partition_for
        self._partitions = partitions
        self._retention = retention
        self._incidents: deque[tuple[str, str | None, str]] = deque(maxlen=100)

    def report(self, kind: str, source: str | None, detail: str) -> None:
        """An incident for `doctor`; written at the next tick."""
        self._incidents.append((kind, source, detail))

    async def run(self) -> None:
        """For as long as this process leads; a failure is logged and tried again at the next round."""
        loop = asyncio.get_running_loop()
        due = 0.0
        while True:
            try:
                while self._incidents:
                    kind, source, detail = self._incidents[0]
                    async with self._lock:
                        await self._connection.execute(
                            "INSERT INTO streamhub_hub.incidents (kind, source, detail) VALUES ($1, $2, $3)",
                            kind, source, detail,
                        )  # fmt: skip
                    self._incidents.popleft()
                if loop.time() >= due:
                    due = loop.time() + HOUSE_EVERY
                    await self._keep_house()
            except asyncpg.PostgresError as error:
                log.warning("upkeep: %s", error)
            await asyncio.sleep(TICK)

    async def _keep_house(self) -> None:
        now_ms = await self._now_ms()
        await self._partition_for(now_ms)
        async with self._lock:
            if self._retention is not None:
                now = await self._connection.fetchval("SELECT clock_timestamp()")
                for name in await self._partitions.drop_before(now - self._retention):
                    log.info("dropped %s: all of its events are past retention", name)
            await self._connection.execute(
                "DELETE FROM streamhub_hub.consumed WHERE consumed_at < clock_timestamp() - $1::interval", NOTES_KEPT
            )
            await self._connection.execute(
                "DELETE FROM streamhub_hub.incidents WHERE id <= (SELECT max(id) FROM streamhub_hub.incidents) - $1",
                INCIDENTS_KEPT,
            )
            await self._connection.execute(
                "DELETE FROM streamhub_hub.replays WHERE created_at < clock_timestamp() - $1::interval "
                "AND state NOT IN ('queued', 'running')",
                REPLAYS_KEPT,
            )

    async def _now_ms(self) -> int:
        async with self._lock:
            now: int = await self._connection.fetchval("SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint")
        return now


class Consumer(Protocol):
    """Whoever empties an outbox; `consumed` counts the changes."""

    consumed: int


async def keep_lean(connection: "asyncpg.Connection[Any]", consumer: Consumer) -> None:
    """Vacuum an outbox as it is consumed: autovacuum looks once a minute, which is a long time at thousands a second.

    Its file is only shortened while it holds next to nothing, since that locks writers out for a moment.
    """
    try:
        vacuumed = consumer.consumed
        while True:
            await asyncio.sleep(VACUUM_EVERY)
            if consumer.consumed - vacuumed < VACUUM_FROM:
                await _shrink(connection)
                continue
            vacuumed = consumer.consumed
            await connection.execute(_VACUUM.format(truncate=False), timeout=600)
    except DATABASE_ERRORS as error:
        log.warning("the outbox is not vacuumed: %s", error)


async def _shrink(connection: "asyncpg.Connection[Any]") -> None:
    if await connection.fetchval(_SIZE) < SHRINK_FROM:
        return
    if await connection.fetchval("SELECT count(*) FROM (SELECT FROM streamhub.outbox LIMIT 1000) AS few") < 1000:
        await connection.execute(_VACUUM.format(truncate=True), timeout=600)
