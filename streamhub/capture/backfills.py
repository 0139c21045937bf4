"""Sends the rows that a table had before it was captured, each as it is when read.

A row may come twice and is never stale. One transaction, which takes its transaction id first, does for each row:

1. lock it FOR SHARE: under READ COMMITTED that locks and reads its newest committed version;
2. take its sequence number; 3. commit, which releases the lock.

Any other change of the row holds the row's exclusive lock from before its trigger takes a number until its commit. So
the change is over before 1: its number is lower, and the backfill reads its result. Or it begins after 3: its number is
higher. A reader that sees the backfill's row in the outbox also sees that of the earlier change, which committed first.
A row that is inserted behind the position, or comes there by a change of its key or partition, is captured by that
change.

The backfill cannot deadlock with the application, where PostgreSQL might abort the application's transaction. A batch
takes only rows that are free (SKIP LOCKED). Each locked row is sent later, in a transaction that holds no other row.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from functools import partial
from typing import Any, Final, NamedTuple, TypeVar

import asyncpg

from streamhub.capture import reading
from streamhub.capture.catalog import SHOWN
from streamhub.capture.reading import Leaf
from streamhub.errors import UserError
from streamhub.postgres.session_marks import HOLDS, Mark, is_there, mark, unmark

Outcome = TypeVar("Outcome")

MAX_OUTBOX_ROWS: Final = 10_000  # the backfill waits while the outbox has more
LOCK_TIMEOUT: Final = "1s"
RATE: Final = 21_000  # most rows a second: the application shares the processors and the WAL
MAX_ATTEMPTS: Final = 120  # for one batch or row: two minutes and more of another session's locks
_PAUSE: Final = (0.05, 0.5)  # seconds between two attempts, random
_POLL: Final = 0.05  # seconds between two checks of a full outbox
_MAX_RENAMES: Final = 10  # of tables and columns, in one run
_CATCH_UP: Final = 0.05  # seconds of unused rate that may be used later
_BEGUN_WITHIN: Final = "10s"  # a batch of another run, which holds the same lock, takes less

_RETRIED: Final = (
    asyncpg.LockNotAvailableError,
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,  # the row moved to another partition during the wait
)

# Settings on which a key's text and its parsing depend; streamhub.row_text makes the text of rows independent of them.
# row_security = off: an error where a policy would hide rows, instead of fewer rows. The planner must use the index,
# even with bad statistics. The transaction id is assigned before the first sequence number. No commit waits for the
# disk: a batch that a crash loses loses its position with it, and the relay makes durable what it reads.
_BEGIN: Final = f"""
SELECT pg_current_xact_id(), set_config('lock_timeout', '{LOCK_TIMEOUT}', true),
       set_config('statement_timeout', '0', true), set_config('row_security', 'off', true),
       set_config('datestyle', 'ISO, MDY', true), set_config('intervalstyle', 'postgres', true),
       set_config('extra_float_digits', '1', true), set_config('timezone', 'UTC', true),
       set_config('bytea_output', 'hex', true), set_config('search_path', 'pg_catalog', true),
       set_config('constraint_exclusion', 'off', true), set_config('lc_monetary', streamhub.money_format(), true),
       set_config('synchronous_commit', 'off', true),
       set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', 'off', true)
"""
_CAPTURE: Final = f"""
SELECT c.id, c.relation_oid, {SHOWN.format("k", "n")} AS name,
       (SELECT coalesce(sum(greatest(leaf.reltuples, 0)), 0)::bigint FROM pg_class leaf
        WHERE leaf.oid = c.relation_oid OR leaf.oid IN (SELECT p.oid FROM streamhub.partitions(c.relation_oid)
          AS p)) AS expected
FROM streamhub.captures c JOIN pg_class k ON k.oid = c.relation_oid JOIN pg_namespace n ON n.oid = k.relnamespace
WHERE c.removed_at IS NULL AND c.relation = c.relation_oid
  AND c.relation = coalesce(to_regclass($1), CASE WHEN $1 !~ '[.]' THEN to_regclass('public.' || $1) END)
"""
# Locked until the batch commits, so that the capture is not replaced or removed meanwhile. Locked after the table, as
# `capture remove` does.
_STILL: Final = """
SELECT removed_at IS NULL AS captured, to_regclass($2)::oid = $3 AND pg_relation_filenode($3) = $4 AS same_table,
       streamhub.reading_runs_code($3) AS runs_code FROM streamhub.captures
WHERE id = $1 FOR SHARE
"""
_STATE: Final = """
INSERT INTO streamhub.backfills AS b (capture) VALUES ($1)
ON CONFLICT (capture) DO UPDATE SET updated_at = clock_timestamp()
RETURNING leaf, key_columns, position, done, rows
"""
_ADD: Final = "INSERT INTO streamhub.backfills (capture) VALUES ($1) ON CONFLICT DO NOTHING"
_LOCK: Final = "SELECT runner, runner_key FROM streamhub.backfills WHERE capture = $1 FOR UPDATE"
_FORGET: Final = """
UPDATE streamhub.backfills
SET leaf = NULL, key_columns = NULL, position = NULL, done = '{}', rows = 0, started_at = clock_timestamp(),
    finished_at = NULL
WHERE capture = $1 AND (finished_at IS NOT NULL OR $2)
"""
_RUN: Final = "UPDATE streamhub.backfills SET runner = $2, runner_key = $3 WHERE capture = $1"
_SENT: Final = "UPDATE streamhub.backfills SET rows = rows + $2, updated_at = clock_timestamp() WHERE capture = $1"
_MOVED: Final = """
UPDATE streamhub.backfills
SET rows = rows + $2, leaf = $3, key_columns = $4, position = $5, updated_at = clock_timestamp() WHERE capture = $1
"""
_LEAF_DONE: Final = """
UPDATE streamhub.backfills SET leaf = NULL, key_columns = NULL, position = NULL, done = done || $2::oid
WHERE capture = $1
"""
_FINISHED: Final = "UPDATE streamhub.backfills SET finished_at = clock_timestamp() WHERE capture = $1"
_WAITING: Final = f"SELECT count(*) FROM (SELECT FROM streamhub.outbox LIMIT {MAX_OUTBOX_ROWS + 1}) AS waiting"


_UNFINISHED: Final = f"""
SELECT {SHOWN.format("k", "n")} AS table, b.rows, clock_timestamp() - b.updated_at AS idle,
       {HOLDS.format(pid="b.runner", key="b.runner_key")} AS running
FROM streamhub.backfills b JOIN streamhub.captures c ON c.id = b.capture
JOIN pg_class k ON k.oid = c.relation_oid JOIN pg_namespace n ON n.oid = k.relnamespace
WHERE b.finished_at IS NULL AND c.removed_at IS NULL
ORDER BY 1
"""


class Progress(NamedTuple):
    """`rows` were sent, of about `expected` (0: PostgreSQL has no estimate). `waiting`: the outbox is full.

    As text: a line for people.
    """

    table: str
    rows: int
    expected: int
    waiting: bool

    def __str__(self) -> str:
        line = f"{self.table}: {self.rows:,}"
        line += f" of about {self.expected:,} rows" if self.expected else " rows"
        return f"{line}, waiting for the relay to empty the outbox" if self.waiting else line


class BackfillResult(NamedTuple):
    """`rows`: sent by this run. `resumed`: sent by earlier runs."""

    table: str
    rows: int
    resumed: int
    seconds: float
    rows_per_second: int


class UnfinishedBackfill(NamedTuple):
    """A backfill that has not finished. `idle`: time since its last batch."""

    table: str
    rows: int
    idle: timedelta
    running: bool


async def unfinished_backfills(connection: "asyncpg.Connection[Any]") -> list[UnfinishedBackfill]:
    """The unfinished backfills of tables that are captured now, by table."""
    return [UnfinishedBackfill(*row) for row in await connection.fetch(_UNFINISHED)]


async def backfill(
    connection: "asyncpg.Connection[Any]",
    table: str,
    *,
    restart: bool = False,
    rate: int = RATE,
    report: Callable[[Progress], None],
) -> BackfillResult:
    """Send every row of a captured table. Resumes an earlier run that was stopped, unless `restart`.

    `rate`: the most rows a second. Raises UserError where it cannot run. A later run resumes after the last batch.
    """
    try:
        found = await connection.fetchrow(_CAPTURE, table)
    except (asyncpg.PostgresSyntaxError, asyncpg.InvalidNameError, asyncpg.DataError):
        raise UserError(
            f"{table!r} is not the name of a table: give schema and table, for example public.skus"
        ) from None
    if found is None:
        raise UserError(f"{table!r} is not captured: streamhub capture list shows what is")
    marked = await mark(connection)
    try:
        await _begin(connection, found, restart, marked)
        return await _Backfill(connection, found, rate, report).run()
    except asyncpg.InsufficientPrivilegeError as error:
        raise UserError(f"this role may not send the rows of {found['name']}: {error.args[0]}") from None
    finally:
        if not connection.is_closed():
            await unmark(connection, marked)


async def _begin(connection: "asyncpg.Connection[Any]", found: "asyncpg.Record", restart: bool, marked: Mark) -> None:
    """Note that this session runs the backfill. Raises UserError where another one does."""
    running = UserError(f"another backfill of {found['name']} is running")
    async with connection.transaction(isolation="read_committed"):
        await connection.execute(f"SET LOCAL lock_timeout = '{_BEGUN_WITHIN}'")
        try:
            await connection.execute(_ADD, found["id"])
            other = await connection.fetchrow(_LOCK, found["id"])
        except asyncpg.LockNotAvailableError:
            raise running from None
        except asyncpg.ForeignKeyViolationError:
            other = None
        if other is None:
            raise UserError(
                f"the capture of {found['name']} was removed or replaced: run the backfill again if it is needed"
            )
        if other["runner"] is not None and await is_there(connection, Mark(*other)):
            raise running
        await connection.execute(_FORGET, found["id"], restart)
        await connection.execute(_RUN, found["id"], *marked)


class _Backfill:
    def __init__(
        self,
        connection: "asyncpg.Connection[Any]",
        found: "asyncpg.Record",
        rate: int,
        report: Callable[[Progress], None],
    ) -> None:
        self._connection = connection
        self._capture: int = found["id"]
        self._relation: int = found["relation_oid"]
        self._name: str = found["name"]
        self._expected: int = found["expected"]
        self._rate = rate
        self._report = report
        self._free_at = 0.0
        self._resumed = 0
        self._rows = 0

    async def run(self) -> BackfillResult:
        began = time.monotonic()
        renamed = 0
        state = await self._state()
        self._resumed = state["rows"]
        # Read again after each leaf: a partition may have been attached.
        while (oid := await self._next_leaf(set(state["done"]), state["leaf"])) is not None:
            found = await reading.leaf(self._connection, oid, self._capture)
            if found is not None:
                resumes = oid == state["leaf"] and list(found.columns) == state["key_columns"]
                try:
                    await self._read(found, state["position"] if resumes else None)
                    await self._connection.execute(_LEAF_DONE, self._capture, oid)
                except (asyncpg.UndefinedTableError, asyncpg.UndefinedColumnError):
                    # It was dropped, and then it is no leaf any more, or it or a column was renamed.
                    renamed += 1
                    if renamed > _MAX_RENAMES:
                        raise
            state = await self._state()
        await self._connection.execute(_FINISHED, self._capture)
        seconds = time.monotonic() - began
        return BackfillResult(
            self._name, self._rows, self._resumed, round(seconds, 3), round(self._rows / max(seconds, 0.001))
        )

    async def _state(self) -> "asyncpg.Record":
        state: asyncpg.Record | None = await self._connection.fetchrow(_STATE, self._capture)
        assert state is not None
        return state

    async def _next_leaf(self, done: set[int], begun: int | None) -> int | None:
        leaves = [row["oid"] for row in await self._connection.fetch(reading.LEAVES, self._relation)]
        left = [oid for oid in leaves if oid not in done]
        return begun if begun in left else next(iter(left), None)

    async def _read(self, leaf: Leaf, position: Sequence[str] | None) -> None:
        while True:
            await self._wait_for_room()
            end, left_out = await self._with_retries(leaf, partial(self._send_batch, leaf, position))
            if end is None:
                return
            for key in left_out:
                await self._with_retries(leaf, partial(self._send_one, leaf, key))
            if left_out:
                await self._connection.execute(_MOVED, self._capture, 0, leaf.oid, leaf.columns, end)
            position = end

    async def _send_batch(
        self, leaf: Leaf, position: Sequence[str] | None
    ) -> tuple[Sequence[str] | None, Sequence[Sequence[str]]]:
        """(where the batch ends, keys of rows that others had locked); (None, …) where there are no more rows."""
        after = () if position is None else (position,)
        async with self._connection.transaction(isolation="read_committed"):
            await self._connection.execute(_BEGIN)
            await self._check(leaf)
            end = await self._connection.fetchval(leaf.end if after else leaf.first_end, *after)
            if end is None:
                return None, ()
            sent = await self._connection.fetchrow(leaf.send if after else leaf.first_send, *after, end)
            assert sent is not None
            left_out = sent["left_out"] or ()
            if left_out:
                await self._connection.execute(_SENT, self._capture, sent["rows"])
            else:
                await self._connection.execute(_MOVED, self._capture, sent["rows"], leaf.oid, leaf.columns, end)
        self._sent(sent["rows"])
        return end, left_out

    async def _send_one(self, leaf: Leaf, key: Sequence[str]) -> None:
        """Wait for a locked row and send it. Sends nothing where it was deleted or has another key now."""
        async with self._connection.transaction(isolation="read_committed"):
            await self._connection.execute(_BEGIN)
            await self._check(leaf)
            sent = await self._connection.fetchrow(leaf.send_one, key)
            assert sent is not None
            await self._connection.execute(_SENT, self._capture, sent["rows"])
        self._sent(sent["rows"])

    async def _check(self, leaf: Leaf) -> None:
        await self._connection.execute(leaf.lock)
        still = await self._connection.fetchrow(_STILL, self._capture, leaf.name, leaf.oid, leaf.filenode)
        if still is None or not still["captured"]:
            raise UserError(
                f"the capture of {self._name} was removed or replaced: run the backfill again if it is needed"
            )
        if not still["same_table"]:
            raise asyncpg.UndefinedTableError(f"{leaf.shown} is another table now")
        if still["runs_code"]:
            raise reading.runs_code(leaf.shown)

    async def _with_retries(self, leaf: Leaf, step: Callable[[], Awaitable[Outcome]]) -> Outcome:
        """Retry the step while rows or the table are locked, MAX_ATTEMPTS times. Raises UserError after that."""
        for _ in range(MAX_ATTEMPTS):
            try:
                return await step()
            except _RETRIED:
                await asyncio.sleep(random.uniform(*_PAUSE))
        raise UserError(
            f"rows of {leaf.shown} were locked by others in {MAX_ATTEMPTS} attempts: run the command again when that "
            "transaction has ended, and it resumes here"
        )

    async def _wait_for_room(self) -> None:
        """Wait until the outbox has at most MAX_OUTBOX_ROWS rows and the rate allows more."""
        await asyncio.sleep(self._free_at - time.monotonic())
        while await self._connection.fetchval(_WAITING) > MAX_OUTBOX_ROWS:
            self._report(Progress(self._name, self._resumed + self._rows, self._expected, waiting=True))
            await asyncio.sleep(_POLL)

    def _sent(self, rows: int) -> None:
        # Unused rate expires: using it later would be a burst.
        self._free_at = max(self._free_at, time.monotonic() - _CATCH_UP) + rows / self._rate
        self._rows += rows
        self._report(Progress(self._name, self._resumed + self._rows, self._expected, waiting=False))
