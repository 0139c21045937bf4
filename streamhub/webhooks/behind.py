"""Endpoints that another transaction has locked while the cursor moves on: from where on they are behind stands in the
cursor's row. Once the lock is gone, that stretch of history is as one that they have skipped while disabled."""

from collections.abc import Collection, Iterable
from typing import Final

import orjson

from streamhub.postgres.connections import AnyConnection

MOST: Final = 1_000  # endpoints; where more are locked, all wait
TIMEOUT: Final = 10.0  # seconds

_WRITE: Final = "UPDATE streamhub_hub.webhook_cursor SET behind = $1::text::jsonb"
# Those that are locked no more, or are gone.
_CATCH_UP: Final = """
WITH given AS (SELECT * FROM unnest($1::uuid[], $2::uuid[]) AS given (endpoint, after)), free AS (
  SELECT q.endpoint, given.after
    FROM given JOIN streamhub_hub.webhook_queues AS q ON q.endpoint = given.endpoint
    JOIN streamhub_hub.webhook_endpoints AS e ON e.id = q.endpoint
   ORDER BY q.endpoint FOR NO KEY UPDATE OF q SKIP LOCKED FOR KEY SHARE OF e SKIP LOCKED
), noted AS (
  UPDATE streamhub_hub.webhook_queues AS q SET skipped_from = least(skipped_from, greatest(starts_after, free.after))
    FROM free WHERE q.endpoint = free.endpoint
  RETURNING q.endpoint
)
SELECT endpoint::text FROM noted UNION ALL
SELECT endpoint::text FROM given
 WHERE NOT EXISTS (SELECT FROM streamhub_hub.webhook_queues AS q WHERE q.endpoint = given.endpoint)
"""
FREE: Final = """
WITH free AS (
  SELECT q.endpoint
    FROM streamhub_hub.webhook_queues AS q JOIN streamhub_hub.webhook_endpoints AS e ON e.id = q.endpoint
   WHERE q.endpoint = ANY ($1::uuid[])
   ORDER BY q.endpoint FOR NO KEY UPDATE OF q SKIP LOCKED FOR KEY SHARE OF e SKIP LOCKED)
"""
"""Of these endpoints, those that no other transaction has locked. The endpoint's own row counts: a queue that is
updated a second time in one transaction locks it, as the foreign key is checked once more."""

_SKIP: Final = f"""{FREE}
UPDATE streamhub_hub.webhook_queues AS q SET skipped_from = greatest(starts_after, $2)
  FROM free WHERE q.endpoint = free.endpoint AND q.skipped_from IS NULL
"""
# What moves the cursor alone sets it, so it is as it is read.
_NOT_SKIPPED: Final = """
SELECT endpoint::text FROM streamhub_hub.webhook_queues WHERE endpoint = ANY ($1::uuid[]) AND skipped_from IS NULL
"""


class Behind:
    """Of a transaction that has the cursor, at `position`. `endpoints`: from which id on each is behind."""

    def __init__(self, connection: AnyConnection, position: str, endpoints: dict[str, str]) -> None:
        self.endpoints = endpoints
        self._connection = connection
        self._position = position
        self._written = dict(endpoints)

    async def catch_up(self) -> bool:
        """Those that are locked no more have skipped their stretch; whether there were some."""
        given = (list(self.endpoints), list(self.endpoints.values()))
        for row in await self._connection.fetch(_CATCH_UP, *given, timeout=TIMEOUT):
            del self.endpoints[row[0]]
        return self.endpoints != self._written

    async def skip(self, endpoints: Iterable[str]) -> None:
        """Of these nothing is made from here on, until they are enabled or can be used."""
        asked = [each for each in endpoints if each not in self.endpoints]
        if asked:
            await self._connection.execute(_SKIP, asked, self._position, timeout=TIMEOUT)
            await self.leave(asked)

    async def leave(self, endpoints: Collection[str]) -> None:
        """Those of them that have skipped nothing are locked."""
        if endpoints:
            for row in await self._connection.fetch(_NOT_SKIPPED, list(endpoints), timeout=TIMEOUT):
                self.endpoints[row[0]] = self._position

    async def write(self) -> None:
        if len(self.endpoints) > MOST:
            raise RuntimeError(f"over {MOST:,} endpoints are locked by other transactions")
        if self.endpoints != self._written:
            await self._connection.execute(_WRITE, orjson.dumps(self.endpoints).decode(), timeout=TIMEOUT)
