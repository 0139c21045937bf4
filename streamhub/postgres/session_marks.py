"""Telling, from another session, that a session is still there: until it ends it holds an advisory lock of its own.

Any role may hold any advisory lock of its database, and see in pg_locks which are held. So no process waits for this
one, its key is random, and it counts only where the process that it was noted with holds it.
"""

import secrets
from typing import Final, NamedTuple

from streamhub.postgres.connections import Connection

# Whether the session that was noted as (pid, key) in this database is there.
HOLDS: Final = """EXISTS (
  SELECT FROM pg_catalog.pg_locks AS l
   WHERE l.locktype = 'advisory' AND l.objsubid = 1 AND l.granted AND l.pid = {pid}
     AND (l.classid::bigint << 32) + l.objid::bigint = {key}
     AND l.database = (SELECT d.oid FROM pg_catalog.pg_database AS d WHERE d.datname = current_database()))"""
_HOLDS: Final = f"SELECT {HOLDS.format(pid='$1::integer', key='$2::bigint')}"


class Mark(NamedTuple):
    """`pid` is the server process of the session."""

    pid: int
    key: int


async def mark(connection: Connection) -> Mark:
    """Mark this session until it ends, or until `unmark`."""
    while True:
        key = secrets.randbits(62)
        row = await connection.fetchrow("SELECT pg_try_advisory_lock($1) AS free, pg_backend_pid() AS pid", key)
        assert row is not None
        if row["free"]:
            return Mark(row["pid"], key)


async def unmark(connection: Connection, marked: Mark) -> None:
    await connection.execute("SELECT pg_advisory_unlock($1)", marked.key)


async def is_there(connection: Connection, marked: Mark) -> bool:
    """Whether the session of this mark is connected to the same database as this connection."""
    return bool(await connection.fetchval(_HOLDS, *marked))
