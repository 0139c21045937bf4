"""The head of the one order, and the epoch by which a former leader is fenced off.

`streamhub_hub.log_head` shows the last id given, and the last one that an event was given: closing a window moves the
head alone. Other statements embed HEAD, so that no request needs a statement more:

    f"SELECT … FROM ({HEAD}) h LEFT JOIN … "
"""

import asyncio
from typing import Any, Final

import asyncpg

from streamhub.core import ids
from streamhub.postgres.connections import AnyConnection, Pool

TIMEOUT: Final = 10.0  # seconds
STEP: Final = 5_000  # rows deleted at once
STEP_PAUSE: Final = 0.05  # seconds

HEAD: Final = "SELECT last_ms, last_counter, event_ms, event_counter FROM streamhub_hub.log_head"
"""One row. `last_…`: the last id given; `event_…`: the last event's."""

_NOW_MS: Final = f"SELECT greatest((extract(epoch FROM clock_timestamp()) * 1000)::bigint, h.last_ms) FROM ({HEAD}) h"
_RAISE_EPOCH: Final = "UPDATE streamhub_hub.log_epoch SET epoch = $1 WHERE epoch < $1"
_LAST_APPEND_ENDED: Final = "SELECT FROM streamhub_hub.log_epoch WHERE epoch = $1 FOR UPDATE"
# By ctid, which no statistics can turn into a scan of the whole table. From where the last step ended: dead rows stay
# in an index until no snapshot needs them any more.
_TRIM: Final = f"""
WITH old AS (
  DELETE FROM streamhub_hub.log_heads WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM streamhub_hub.log_heads
     WHERE last_ms >= $1 AND last_ms < (SELECT last_ms FROM streamhub_hub.log_head) ORDER BY last_ms LIMIT {STEP}))
  RETURNING last_ms
)
SELECT max(last_ms), count(*) FROM old
"""
# Locks the order until the transaction ends: no append goes on beside it.
LOCK: Final = "SELECT FROM streamhub_hub.log_epoch WHERE only_row FOR NO KEY UPDATE"


class FencedError(Exception):
    """Another leader has taken over: nothing was appended, and nothing will be."""


def head_of(row: asyncpg.Record) -> str:
    """The last id given, of a row that has the columns of HEAD."""
    return ids.event_id(row["last_ms"], row["last_counter"])


def last_event_of(row: asyncpg.Record) -> str:
    """The id of the last event, of a row that has the columns of HEAD."""
    return ids.event_id(row["event_ms"], row["event_counter"])


async def read(connection: Pool | AnyConnection, timeout: float = TIMEOUT) -> str:
    """The last id given. Raises what asyncpg raises."""
    row = await connection.fetchrow(HEAD, timeout=timeout)
    assert row is not None, "log_head has a row from the migration on"
    return head_of(row)


async def now_ms(connection: Pool | AnyConnection) -> int:
    """The later of the hub's clock and the last id's time, in milliseconds."""
    return int(await connection.fetchval(_NOW_MS))


async def raise_epoch(connection: "asyncpg.Connection[Any]", epoch: int) -> None:
    """From now on no leader of an earlier epoch appends. Waits for an append that is under way."""
    await connection.execute(_RAISE_EPOCH, epoch, timeout=5)


async def wait_for_appends(connection: "asyncpg.Connection[Any]", epoch: int) -> None:
    """Returns once every append that was under way has ended. Raises FencedError where another leader took over."""
    if not await connection.fetch(_LAST_APPEND_ENDED, epoch):
        raise FencedError(f"epoch {epoch} of the log has ended")


async def trim(connection: "asyncpg.Connection[Any]", from_ms: int) -> int:
    """Delete the old heads from `from_ms` on; where the next call may begin."""
    while True:
        row = await connection.fetchrow(_TRIM, from_ms)
        assert row is not None, "an aggregate gives one row"
        newest, deleted = row
        if deleted:
            from_ms = newest
        if deleted < STEP:
            return from_ms
        await asyncio.sleep(STEP_PAUSE)
