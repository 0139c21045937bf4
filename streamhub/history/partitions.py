"""The weekly partitions of history: made ahead of time, and dropped once all of their events are past retention.

A week begins on Monday 00:00 UTC; `history_2026w47` holds the events published in ISO week 47 of 2026.
"""

import re
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

import asyncpg

from streamhub.core import ids

AHEAD: Final = 4  # weeks made ahead of the current one
WEEK: Final = timedelta(days=7)
_NAME: Final = re.compile(r"history_(\d{4})w(\d{2})")
_LOCK_TIMEOUT: Final = "2s"


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


class Partitions:
    """Knows which weeks there are, so that an append can ask for its own at no cost."""

    def __init__(self, connection: "asyncpg.Connection[Any]") -> None:
        self._connection = connection
        self._known: set[str] = set()
        self._until_ms = 0
        self._from_ms = 0

    async def ensure(self, ms: int) -> None:
        """Make the week of this time, if it is missing, and those ahead of it."""
        if self._from_ms <= ms < self._until_ms:
            return
        weeks = [Week.of(ids.datetime_of(ms) + n * WEEK) for n in range(AHEAD + 1)]
        self._known = {week.name for week in await existing(self._connection)}
        for week in weeks:
            if week.name not in self._known:
                await _make(self._connection, week)
        self._from_ms, self._until_ms = ids.ms_of(weeks[0].start), ids.ms_of(weeks[1].end)

    async def drop_before(self, when: datetime) -> list[str]:
        """Drop the weeks that ended before `when`; the names of those dropped."""
        dropped = []
        for week in await existing(self._connection):
            if week.end <= when:
                async with self._connection.transaction():
                    await self._connection.execute(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}'")
                    await self._connection.execute(f"DROP TABLE streamhub_hub.{week.name}")
                dropped.append(week.name)
        return dropped


async def existing(connection: "asyncpg.Connection[Any]") -> list[Week]:
    """The weekly partitions that there are, oldest first."""
    rows = await connection.fetch(
        """SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
           WHERE i.inhparent = 'streamhub_hub.history'::regclass"""
    )
    weeks = [week for row in rows if (week := Week.named(row["relname"])) is not None]
    return sorted(weeks, key=lambda week: week.start)


async def _make(connection: "asyncpg.Connection[Any]", week: Week) -> None:
    """Made aside and attached, which locks out no reader or writer of the other weeks.

    What fell into the DEFAULT partition while the week was missing (the clock had jumped) moves over.
    """
    table = f"streamhub_hub.{week.name}"
    low, high = _bound(week.start), _bound(week.end)
    async with connection.transaction():
        await connection.execute(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}'")
        await connection.execute(f"CREATE TABLE {table} (LIKE streamhub_hub.history INCLUDING STORAGE)")
        await connection.execute(
            "WITH moved AS (DELETE FROM streamhub_hub.history_default "
            f"WHERE id >= '{low}' AND id < '{high}' RETURNING *) INSERT INTO {table} SELECT * FROM moved"
        )
        await connection.execute(
            f"ALTER TABLE streamhub_hub.history ATTACH PARTITION {table} FOR VALUES FROM ('{low}') TO ('{high}')"
        )


def _bound(when: datetime) -> str:
    """The lowest UUID of a time: below any UUIDv7 of it, whose version and variant bits are not zero."""
    return ids.first_id_of(ids.ms_of(when))[:14] + "0000-0000-000000000000"
