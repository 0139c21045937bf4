"""What the leader does beside relaying: partitions ahead of time, retention, what is old, incidents, a lean outbox.

No append waits for any of it. It has connections of its own, waits for no lock longer than LOCKED_WITHIN, works in
small steps, and comes back after every error, with a new connection; a step that fails keeps no other from running.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, Final, Protocol

import asyncpg

from streamhub.backoff import Backoff, rest
from streamhub.health import incidents
from streamhub.history import counters, head, types
from streamhub.history.partitions import MovedError, Partitions
from streamhub.history.types import SeenTypes
from streamhub.leases import jobs
from streamhub.postgres.connections import DATABASE_ERRORS
from streamhub.relay import notes

log = logging.getLogger(__name__)

TICK: Final = 1.0
WEEKS_EVERY: Final = 10.0
TRIM_EVERY: Final = 10.0
RARELY_EVERY: Final = 600.0
RETRY_FIRST: Final = 2.0  # seconds after a step failed; doubled each time
RETRY_LONGEST: Final = 60.0
NOTES_KEPT: Final = timedelta(hours=24)  # a standby that is further behind than this must not be promoted
INCIDENTS_KEPT: Final = 1_000
REPLAYS_KEPT: Final = timedelta(days=30)
STEP_PAUSE: Final = 0.05  # seconds
DELETING_LONGEST: Final = 10.0  # seconds; what is left then is for the next turn, so that other steps have theirs
SETTINGS: Final = {"lock_timeout": "1s"}  # of the connection

VACUUM_EVERY: Final = 5.0
VACUUM_LONGEST: Final = 600.0  # seconds between two vacuums, where the one before brought nothing or took long
VACUUM_FROM: Final = 20_000  # consumed changes
SHRINK_FROM: Final = 64 * 1024 * 1024  # bytes of an outbox that holds next to nothing

_VACUUM: Final = "VACUUM (SKIP_LOCKED, TRUNCATE {truncate}) streamhub.outbox"
PUBLISH_IDS_EVERY: Final = 600.0
_FORGET_PUBLISH_IDS: Final = """
DELETE FROM streamhub.publish_ids WHERE ctid = ANY (ARRAY(
  SELECT ctid FROM streamhub.publish_ids WHERE published_at <= clock_timestamp() - interval '24 hours'
  ORDER BY published_at LIMIT 5000 FOR UPDATE SKIP LOCKED))
"""
_SIZE: Final = "SELECT pg_table_size('streamhub.outbox')"


Connect = Callable[[], Awaitable["asyncpg.Connection[Any]"]]
Work = Callable[["asyncpg.Connection[Any]"], Awaitable[bool | None]]
"""A step; False where it left something undone."""


class Upkeep:
    """`connect` opens a connection to the hub with SETTINGS, for this alone. `looked` is set once it was seen to that
    there is a week for what is appended now; where that failed it is set as well, as the DEFAULT partition takes it.
    `types` is told of each append."""

    def __init__(self, connect: Connect, retention: timedelta | None) -> None:
        self.looked = asyncio.Event()
        self.types = SeenTypes()
        self._connect = connect
        self._connection: asyncpg.Connection[Any] | None = None
        self._retention = retention
        self._incidents: deque[tuple[str, str | None, str]] = deque(maxlen=100)
        self._trimmed_to = 0
        self._steps = (
            _Step("weeks of history", self._make_weeks, WEEKS_EVERY),
            _Step("incidents", self._report_incidents, 0),
            _Step("types of events", self.types.write, 0),
            _Step("old heads of the log", self._trim, TRIM_EVERY),
            _Step("counters", counters.add_up, TRIM_EVERY),
            _Step("retention", self._drop_weeks, RARELY_EVERY),
            _Step("old notes", self._delete(notes.FORGET, NOTES_KEPT), RARELY_EVERY),
            _Step("old incidents", self._delete(incidents.FORGET, INCIDENTS_KEPT), RARELY_EVERY),
            _Step("old types of events", self._delete(types.FORGET, types.LISTED), RARELY_EVERY),
            _Step("old replays", self._delete(jobs.FORGET, REPLAYS_KEPT), RARELY_EVERY),
        )

    def report(self, kind: str, source: str | None, detail: str) -> None:
        """An incident for `doctor`; written at the next tick."""
        self._incidents.append((kind, source, detail))

    async def run(self) -> None:
        """For as long as this process leads. Raises nothing but a programming error."""
        try:
            while True:
                for step in self._steps:
                    if time.monotonic() >= step.due:
                        await self._take(step)
                    self.looked.set()
                await rest(TICK)
        finally:
            self._disconnect()

    async def _take(self, step: "_Step") -> None:
        try:
            if self._connection is None or self._connection.is_closed():
                self._connection = await self._connect()
            is_done = await step.work(self._connection)
        except (*DATABASE_ERRORS, MovedError) as error:
            self._disconnect()
            pause = step.failed()
            log.warning(
                "upkeep of %s failed, retrying in %.0f s: %s: %s", step.name, pause, type(error).__name__, error
            )
        else:
            step.done(0 if is_done is False else None)

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    async def _make_weeks(self, connection: "asyncpg.Connection[Any]") -> None:
        await Partitions(connection).ensure(await head.now_ms(connection))

    async def _report_incidents(self, connection: "asyncpg.Connection[Any]") -> None:
        while self._incidents:
            await incidents.report(connection, *self._incidents[0])
            self._incidents.popleft()

    async def _trim(self, connection: "asyncpg.Connection[Any]") -> None:
        self._trimmed_to = await head.trim(connection, self._trimmed_to)

    async def _drop_weeks(self, connection: "asyncpg.Connection[Any]") -> None:
        if self._retention is not None:
            now = await connection.fetchval("SELECT clock_timestamp()")
            for name in await Partitions(connection).drop_before(now - self._retention):
                log.info("dropped %s: all of its events are past retention", name)

    @staticmethod
    def _delete(query: str, kept: object) -> "Work":
        return lambda connection: deleted(connection, query, kept)


async def deleted(connection: "asyncpg.Connection[Any]", query: str, *arguments: object) -> bool:
    """Repeat a DELETE that has a LIMIT, until nothing is left; False where that took longer than DELETING_LONGEST."""
    give_up = time.monotonic() + DELETING_LONGEST
    while await connection.execute(query, *arguments, timeout=60) != "DELETE 0":
        if time.monotonic() > give_up:
            return False
        await asyncio.sleep(STEP_PAUSE)
    return True


class _Step:
    """Something to be done now and then, and sooner again where it failed."""

    def __init__(self, name: str, work: "Work", every: float) -> None:
        self.name = name
        self.work = work
        self.due = 0.0
        self._every = every
        self._pause = Backoff(RETRY_FIRST, RETRY_LONGEST)

    def done(self, again_in: float | None = None) -> None:
        """`again_in` seconds; None: when it is due as ever."""
        self._pause.reset()
        self.due = time.monotonic() + (self._every if again_in is None else again_in)

    def failed(self) -> float:
        """How long it waits now."""
        pause = self._pause.next()
        self.due = time.monotonic() + pause
        return pause


class Consumer(Protocol):
    """What empties an outbox; `consumed` counts the changes."""

    consumed: int


async def keep_lean(connect: Connect, consumer: Consumer) -> None:
    """Vacuum an outbox as it is consumed: autovacuum looks once a minute, which is a long time at thousands a second.

    Its file is only shortened while it holds next to nothing, since that locks writers out for a moment. A vacuum that
    took long, or brought nothing because an old snapshot needs the rows, makes the next one wait longer. After an
    error it goes on with a new connection.
    """
    lean = _Lean(consumer)
    pauses = Backoff(RETRY_FIRST, RETRY_LONGEST)
    while True:
        connection: asyncpg.Connection[Any] | None = None
        try:
            while True:
                await rest(lean.pause)
                if connection is None:
                    connection = await connect()
                await lean.vacuum(connection)
                await lean.forget(connection)
                pauses.reset()
        except DATABASE_ERRORS as error:
            pause = pauses.next()
            log.warning("the outbox was not vacuumed, retrying in %.0f s: %s: %s", pause, type(error).__name__, error)
        finally:
            if connection is not None:
                connection.terminate()
        await rest(pause)


class _Lean:
    def __init__(self, consumer: Consumer) -> None:
        self.pause = VACUUM_EVERY
        self._consumer = consumer
        self._vacuumed = consumer.consumed
        self._forget_at = 0.0

    async def forget(self, connection: "asyncpg.Connection[Any]") -> None:
        """Delete publish_ids that are older than 24 hours, in steps, and no longer than vacuuming can wait."""
        if time.monotonic() < self._forget_at:
            return
        if await deleted(connection, _FORGET_PUBLISH_IDS):
            self._forget_at = time.monotonic() + PUBLISH_IDS_EVERY

    async def vacuum(self, connection: "asyncpg.Connection[Any]") -> None:
        started = time.monotonic()
        brought = True
        consumed = self._consumer.consumed
        if consumed - self._vacuumed >= VACUUM_FROM:
            await connection.execute(_VACUUM.format(truncate=False), timeout=600)
            self._vacuumed = consumed
        else:
            brought = await _shrink(connection)
        least = VACUUM_EVERY if brought else self.pause * 2
        self.pause = min(max(least, 10 * (time.monotonic() - started)), VACUUM_LONGEST)


async def _shrink(connection: "asyncpg.Connection[Any]") -> bool:
    """False where it had to be shortened and could not be."""
    before = await connection.fetchval(_SIZE)
    if before < SHRINK_FROM:
        return True
    if await connection.fetchval("SELECT count(*) FROM (SELECT FROM streamhub.outbox LIMIT 1000) AS few") >= 1000:
        return True
    await connection.execute(_VACUUM.format(truncate=True), timeout=600)
    after = await connection.fetchval(_SIZE)
    return bool(after < before / 2)
