"""How far a topic has the events: the row of `publications`, moved forward as brokers acknowledge."""

from typing import Final

from streamhub.core import ids
from streamhub.postgres.connections import Pool

TIMEOUT: Final = 10.0  # seconds
MOST_DELETED: Final = 10_000  # rows of the journal at once

_BEGIN: Final = """
INSERT INTO streamhub_hub.publications (topic, published_id, partitions)
SELECT $1, $2, $3 WHERE NOT EXISTS (SELECT FROM streamhub_hub.publications WHERE topic = $1)
ON CONFLICT DO NOTHING
"""
_READ: Final = "SELECT published_id::text, partitions FROM streamhub_hub.publications WHERE topic = $1"
_HEAD: Final = "SELECT last_ms, last_counter FROM streamhub_hub.log_head"
_MOVE: Final = """
UPDATE streamhub_hub.publications SET published_id = $2, published_at = clock_timestamp(), fault = NULL
 WHERE topic = $1 AND published_id < $2
"""
_DIVIDE: Final = "UPDATE streamhub_hub.publications SET partitions = $2 WHERE topic = $1"
_FAULT: Final = "UPDATE streamhub_hub.publications SET fault = $2 WHERE topic = $1 AND fault IS DISTINCT FROM $2"
# From a lower bound on: consumed rows stay in the index until they are vacuumed.
_DELETE: Final = f"""
DELETE FROM streamhub_hub.appends WHERE last_id = ANY (ARRAY(
  SELECT last_id FROM streamhub_hub.appends WHERE last_id > $1 AND last_id <= $2 ORDER BY last_id LIMIT {MOST_DELETED}))
"""


class Publication:
    """Of one topic."""

    def __init__(self, pool: Pool, topic: str) -> None:
        self._pool = pool
        self._topic = topic
        self._deleted_to = ids.MIN_ID
        self.partitions = 0

    async def begin(self, partitions: int) -> str:
        """The id up to which the topic has all events. One that has none yet begins at the head of this moment."""
        head = await self._pool.fetchrow(_HEAD, timeout=TIMEOUT)
        assert head is not None, "log_head has a row from the migration on"
        now = ids.event_id(head["last_ms"], head["last_counter"])
        await self._pool.execute(_BEGIN, self._topic, now, partitions, timeout=TIMEOUT)
        row = await self._pool.fetchrow(_READ, self._topic, timeout=TIMEOUT)
        assert row is not None, "nobody deletes it"
        self.partitions = row["partitions"]
        published: str = row["published_id"]
        return published

    async def move(self, published: str) -> None:
        """Every event up to here was acknowledged."""
        await self._pool.execute(_MOVE, self._topic, published, timeout=TIMEOUT)
        tag = await self._pool.execute(_DELETE, self._deleted_to, published, timeout=TIMEOUT)
        if tag != f"DELETE {MOST_DELETED}":
            self._deleted_to = published

    async def divide(self, partitions: int) -> None:
        """From here on, keys go to so many partitions."""
        await self._pool.execute(_DIVIDE, self._topic, partitions, timeout=TIMEOUT)
        self.partitions = partitions

    async def tell(self, fault: str | None) -> None:
        """What keeps the publisher from sending, for whoever looks at the hub; None: nothing does."""
        await self._pool.execute(_FAULT, self._topic, fault, timeout=TIMEOUT)
