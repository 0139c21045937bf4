"""The weekly partitions of history: made ahead of time, and dropped once all of their events are past retention.

A week begins on Monday 00:00 UTC; `history_2026w47` holds the events published in ISO week 47 of 2026. The DEFAULT
partition takes events whose week is not there, so no append waits for a week to be made. They move into weeks later:

    copied     beside appends and readers, a few thousand rows at a time, into tables that are not attached yet
    switched   in one transaction that locks the order and DEFAULT: what came meanwhile is copied, DEFAULT emptied, the
               tables are attached. Readers see each event before and after. Appends wait for DEFAULT_LOCKED_WITHIN and
               SWITCHED_WITHIN at most; where they are over, all stays as it was until the next round.
"""

import asyncio
import re
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

import asyncpg

from streamhub.backoff import jittered
from streamhub.core import ids
from streamhub.core.drafts import COLUMNS
from streamhub.history import head

AHEAD: Final = 4  # weeks made ahead of the current one
WEEK: Final = timedelta(days=7)
_NAME: Final = re.compile(r"history_(\d{4})w(\d{2})")

LOCKED_WITHIN: Final = "1s"
DEFAULT_LOCKED_WITHIN: Final = "200ms"  # while the order is locked
DROP_LOCKED_WITHIN: Final = "100ms"  # to drop a week locks out all appends
DROP_TRIES: Final = 20
DROP_PAUSE: Final = 1.0  # seconds between them
SWITCHED_WITHIN: Final = 5.0  # seconds: about a million rows
STEP: Final = 5_000  # rows
PAUSE: Final = 0.02  # seconds between two steps
MOST_PASSES: Final = 20  # of copying what came during the pass before

_COLUMNS: Final = ", ".join(COLUMNS)
_STARTS_IN_DEFAULT: Final = """
SELECT DISTINCT date_trunc('week', to_timestamp(ms / 1000.0), 'UTC')
  FROM (SELECT ('x' || translate(left(id::text, 13), '-', ''))::bit(48)::bigint AS ms
          FROM streamhub_hub.history_default) AS times
 ORDER BY 1
"""
# Committed events never change and no more come at or below the head, so (from, to] is the same in every step.
_COPY: Final = f"""
WITH step AS (
  SELECT {_COLUMNS} FROM streamhub_hub.history_default
   WHERE (organization, id) > ($1, $2) AND id > $3 AND id <= $4 AND id >= $5 AND id < $6
   ORDER BY organization, id LIMIT {{limit}}
), copied AS (
  INSERT INTO {{table}} ({_COLUMNS}) SELECT {_COLUMNS} FROM step
)
SELECT organization, id::text, count(*) OVER () AS rows FROM step ORDER BY organization DESC, id DESC LIMIT 1
"""
SIZE: Final = """
SELECT coalesce(sum(pg_total_relation_size(inhrelid)), 0)::bigint FROM pg_inherits
 WHERE inhparent = 'streamhub_hub.history'::regclass
"""
"""The bytes that history takes on disk, its indexes included."""


class MovedError(Exception):
    """What is in DEFAULT was not moved this time: it is still there."""


class Week(NamedTuple):
    """A partition; its events' times are in [start, start + 7 days)."""

    name: str
    start: datetime

    @property
    def end(self) -> datetime:
        return self.start + WEEK

    @classmethod
    def of(cls, when: datetime) -> "Week":
        monday = (when - timedelta(days=when.weekday())).replace(hour=0, minute=0, second=0, microsecond=0)
        year, week, _ = monday.isocalendar()
        return cls(f"history_{year:04d}w{week:02d}", monday)

    @classmethod
    def named(cls, name: str) -> "Week | None":
        """The week of a partition's name; None for a name that is not of this form."""
        match = _NAME.fullmatch(name)
        if match is None:
            return None
        return cls.of(datetime.fromisocalendar(int(match[1]), int(match[2]), 1).replace(tzinfo=UTC))

    @property
    def aside(self) -> str:
        """The table's name until it is attached: whatever bears it may be dropped."""
        return f"streamhub_hub.{self.name.replace('history', 'moving')}"

    @property
    def bounds(self) -> tuple[str, str]:
        """The ids of its events are from the first one on and below the second one."""
        return _bound(self.start), _bound(self.end)


class Partitions:
    """Over one connection, which may be used for nothing else meanwhile and has a lock_timeout."""

    def __init__(self, connection: "asyncpg.Connection[Any]") -> None:
        self._connection = connection

    async def ensure(self, ms: int) -> None:
        """Make the week of this time, if it is missing, and those ahead of it; move what is in DEFAULT into weeks.

        Raises what asyncpg raises and MovedError; then some may be missing still, and may be asked for again.
        """
        if await default_holds_events(self._connection):
            await self._empty_default()
        known = {week.name for week in await existing(self._connection)}
        for week in (Week.of(ids.datetime_of(ms) + n * WEEK) for n in range(AHEAD + 1)):
            if week.name not in known:
                async with self._connection.transaction():
                    await self._limit()
                    await self._make(week)
                    if week.start <= ids.datetime_of(ms):
                        await self._lock_log()
                    await self._attach(week)

    async def drop_before(self, when: datetime) -> list[str]:
        """Drop the weeks that ended before `when`; the names of those dropped."""
        dropped = []
        for week in await existing(self._connection):
            if week.end <= when:
                await self._drop(week)
                dropped.append(week.name)
        return dropped

    async def _drop(self, week: Week) -> None:
        """PostgreSQL cannot detach a partition CONCURRENTLY beside a DEFAULT one, so the lock is asked for in short."""
        for tries_left in reversed(range(DROP_TRIES)):
            try:
                async with self._connection.transaction():
                    await self._limit(DROP_LOCKED_WITHIN)
                    await self._connection.execute(f"DROP TABLE streamhub_hub.{week.name}")
                return
            except asyncpg.LockNotAvailableError:
                if not tries_left:
                    raise
            await asyncio.sleep(jittered(DROP_PAUSE))

    async def _limit(self, locked_within: str = LOCKED_WITHIN) -> None:
        """Whatever this transaction locks, it waits and works no longer than that."""
        await self._connection.execute(
            f"SET LOCAL lock_timeout = '{locked_within}'; SET LOCAL statement_timeout = '{SWITCHED_WITHIN}s'"
        )

    async def _make(self, week: Week) -> int:
        """Made aside and attached later, which locks out no reader or writer of the other weeks. The CHECK spares the
        attaching a look at every row. The oid tells whether another process has made it again meanwhile."""
        low, high = week.bounds
        await self._connection.execute(
            f"DROP TABLE IF EXISTS {week.aside}; "  # what a move that was cut short has left
            f"CREATE TABLE {week.aside} (LIKE streamhub_hub.history INCLUDING STORAGE INCLUDING INDEXES, "
            f"CONSTRAINT in_week CHECK (id >= '{low}' AND id < '{high}'))"
        )
        return int(await self._connection.fetchval("SELECT to_regclass($1)::oid", week.aside) or 0)

    async def _locked(self, week: Week) -> int:
        await self._connection.execute(f"LOCK TABLE {week.aside} IN ACCESS EXCLUSIVE MODE")
        return int(await self._connection.fetchval("SELECT to_regclass($1)::oid", week.aside) or 0)

    async def _lock_log(self) -> None:
        """An append that had found its way to DEFAULT, and waited there, would fail once its week is attached."""
        await self._connection.execute(
            f"{head.LOCK}; SET LOCAL lock_timeout = '{DEFAULT_LOCKED_WITHIN}'; "
            "LOCK TABLE streamhub_hub.history_default IN ACCESS EXCLUSIVE MODE"
        )

    async def _attach(self, week: Week) -> None:
        low, high = week.bounds
        await self._connection.execute(
            f"ALTER TABLE {week.aside} RENAME TO {week.name}; ALTER TABLE streamhub_hub.history "
            f"ATTACH PARTITION streamhub_hub.{week.name} FOR VALUES FROM ('{low}') TO ('{high}'); "
            f"ALTER TABLE streamhub_hub.{week.name} DROP CONSTRAINT in_week"
        )

    async def _empty_default(self) -> None:
        weeks = await self._weeks_in_default()
        made = [await self._make(week) for week in weeks]
        copied, copied_to = 0, ids.MIN_ID
        for _ in range(MOST_PASSES):
            newest = await head.read(self._connection)
            step = sum([await self._copy(week, copied_to, newest) for week in weeks])
            copied, copied_to = copied + step, newest
            if step < STEP:
                break
        else:
            raise MovedError("events come to history's default partition faster than they are moved out of it")
        async with asyncio.timeout(SWITCHED_WITHIN), self._connection.transaction():
            await self._limit()
            await self._lock_log()
            if made != [await self._locked(week) for week in weeks]:
                raise MovedError("another relay moves history's default partition at the same time")
            copied += sum([await self._copy(week, copied_to, ids.MAX_ID, pause=0) for week in weeks])
            # Not by TRUNCATE: those who have an older snapshot are to see the rows.
            tag = await self._connection.execute("DELETE FROM streamhub_hub.history_default")
            if tag != f"DELETE {copied}":
                raise MovedError(f"{copied} events were copied out of history's default partition, which had: {tag}")
            for week in weeks:
                await self._attach(week)

    async def _weeks_in_default(self) -> list[Week]:
        return [Week.of(row[0]) for row in await self._connection.fetch(_STARTS_IN_DEFAULT, timeout=600)]

    async def _copy(self, week: Week, after: str, until: str, pause: float = PAUSE) -> int:
        """Copy the week's events with `after` < id <= `until`; how many they were."""
        query = _COPY.format(table=week.aside, limit=STEP)
        organization, id_, copied = -(2**31), ids.MIN_ID, 0
        while True:
            row = await self._connection.fetchrow(query, organization, id_, after, until, *week.bounds)
            if row is None:
                return copied
            organization, id_, count = row
            copied += int(count)
            if count < STEP:
                return copied
            await asyncio.sleep(pause)


async def existing(connection: "asyncpg.Connection[Any]") -> list[Week]:
    """The weekly partitions that there are, oldest first."""
    rows = await connection.fetch(
        """SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
           WHERE i.inhparent = 'streamhub_hub.history'::regclass"""
    )
    weeks = [week for row in rows if (week := Week.named(row["relname"])) is not None]
    return sorted(weeks, key=lambda week: week.start)


async def default_holds_events(connection: "asyncpg.Connection[Any]") -> bool:
    """Whether there are events whose week is not there."""
    return bool(await connection.fetchval("SELECT EXISTS (SELECT FROM streamhub_hub.history_default)"))


def _bound(when: datetime) -> str:
    """The lowest UUID of a time: below any UUIDv7 of it, whose version and variant bits are not zero."""
    return ids.first_id_of(ids.ms_of(when))[:14] + "0000-0000-000000000000"
