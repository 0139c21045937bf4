"""Leader election among the relays: a lease in the hub, and the epoch that it gives.

The lease only keeps two relays from working against each other; what makes it safe is the epoch, which every append
compares within its own transaction. So a leader that was paused for any length of time can do no harm when it wakes
up: its next append finds another epoch and changes nothing.

A relay that stops in the middle of an append would hold the row of `log_epoch` for as long as its connection lives.
Its connections carry the holder's name, and a new leader ends them before it raises the epoch.
"""

import logging
from typing import Any, Final

import asyncpg

from streamhub.history import head

log = logging.getLogger(__name__)

LEASE: Final = 3.0  # seconds; renewed each RENEW_EVERY
RENEW_EVERY: Final = 0.75
CANDIDATE_EVERY: Final = 0.5

_ACQUIRE: Final = """
WITH free AS (
  SELECT holder, epoch FROM streamhub_hub.relay_lease WHERE NOT streamhub_hub.lease_holds(expires_at)
  FOR UPDATE SKIP LOCKED
)
UPDATE streamhub_hub.relay_lease AS lease
SET holder = $1, epoch = free.epoch + 1, expires_at = clock_timestamp() + make_interval(secs => $2)
FROM free RETURNING lease.epoch, free.holder AS former
"""
_RENEW: Final = """
UPDATE streamhub_hub.relay_lease SET expires_at = clock_timestamp() + make_interval(secs => $3)
WHERE holder = $1 AND epoch = $2
"""
_RELEASE: Final = """
UPDATE streamhub_hub.relay_lease SET expires_at = '-infinity' WHERE holder = $1 AND epoch = $2
"""
LEADER: Final = """
SELECT holder, epoch, streamhub_hub.lease_holds(expires_at) AS alive,
       extract(epoch FROM clock_timestamp())::float8 - extract(epoch FROM expires_at)::float8 AS gone
  FROM streamhub_hub.relay_lease
"""
"""One row, which other statements may embed. `gone`: seconds since the lease ended; infinite where its holder gave it
up."""
_END_CONNECTIONS: Final = """
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
WHERE application_name = $1 AND pid <> pg_backend_pid() AND usename = current_user
"""


def application_name(holder: str) -> str:
    """How PostgreSQL shows the connections of a relay; `holder` is its UUID."""
    return f"streamhub relay {holder}"


class Leadership:
    """One candidate, over one connection to the hub that must not carry the holder's application name."""

    def __init__(self, connection: "asyncpg.Connection[Any]", holder: str) -> None:
        self._connection = connection
        self._holder = holder

    async def acquire(self) -> int | None:
        """The epoch of a new leadership, or None while somebody else leads."""
        row = await self._connection.fetchrow(_ACQUIRE, self._holder, LEASE, timeout=5)
        if row is None:
            return None
        epoch: int = row["epoch"]
        former = row["former"]
        if former is not None and former != self._holder:
            ended = await self._connection.fetchval(_END_CONNECTIONS, application_name(former), timeout=5)
            if ended:
                log.warning("ended %d connections of the former leader %s", ended, former)
        await head.raise_epoch(self._connection, epoch)
        log.info("leading with epoch %d", epoch)
        return epoch

    async def renew(self, epoch: int) -> bool:
        """False where the lease is somebody else's by now."""
        tag = await self._connection.execute(_RENEW, self._holder, epoch, LEASE, timeout=LEASE)
        return bool(tag == "UPDATE 1")

    async def release(self, epoch: int) -> None:
        """Let another one lead at once."""
        await self._connection.execute(_RELEASE, self._holder, epoch, timeout=LEASE)
