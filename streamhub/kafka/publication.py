"""How far a topic has the events: the row of `publications`, moved forward as brokers acknowledge."""

from typing import Final

from streamhub.core import ids
from streamhub.history import head, journal
from streamhub.history.head import HEAD
from streamhub.postgres.connections import Pool

TIMEOUT: Final = 10.0  # seconds

_BEGIN: Final = """
INSERT INTO streamhub_hub.publications (topic, published_id, partitions)
SELECT $1, $2, $3 WHERE NOT EXISTS (SELECT FROM streamhub_hub.publications WHERE topic = $1)
ON CONFLICT DO NOTHING
"""
_READ: Final = "SELECT published_id::text, partitions FROM streamhub_hub.publications WHERE topic = $1"
_MOVE: Final = """
UPDATE streamhub_hub.publications SET published_id = $2, published_at = clock_timestamp(), fault = NULL
 WHERE topic = $1 AND published_id < $2
"""
_DIVIDE: Final = "UPDATE streamhub_hub.publications SET partitions = $2 WHERE topic = $1"
_FAULT: Final = "UPDATE streamhub_hub.publications SET fault = $2 WHERE topic = $1 AND fault IS DISTINCT FROM $2"
# What a reader of the topic goes by: the hub's head, and how far and by how many partitions the topic is published.
PUBLISHED: Final = f"""
SELECT h.last_ms, h.last_counter, p.published_id::text AS published, p.partitions
  FROM ({HEAD}) h LEFT JOIN streamhub_hub.publications p ON p.topic = $1
"""
# How far behind a topic is; no row where it was never published to.
PROGRESS: Final = f"""
SELECT p.published_id::text, p.fault, h.event_ms, h.event_counter,
       ({journal.oldest_beyond("p.published_id")}) AS oldest,
       extract(epoch FROM clock_timestamp())::float8 AS clock
  FROM streamhub_hub.publications p, ({HEAD}) h WHERE p.topic = $1
"""
TOPICS: Final = "SELECT topic FROM streamhub_hub.publications ORDER BY topic"


class Publication:
    """Of one topic."""

    def __init__(self, pool: Pool, topic: str) -> None:
        self._pool = pool
        self._topic = topic
        self._deleted_to = ids.MIN_ID
        self.partitions = 0

    async def begin(self, partitions: int) -> str:
        """The id up to which the topic has all events. One that has none yet begins at the head of this moment."""
        now = await head.read(self._pool, TIMEOUT)
        await self._pool.execute(_BEGIN, self._topic, now, partitions, timeout=TIMEOUT)
        row = await self._pool.fetchrow(_READ, self._topic, timeout=TIMEOUT)
        assert row is not None, "it is never deleted"
        self.partitions = row["partitions"]
        published: str = row["published_id"]
        return published

    async def move(self, published: str) -> None:
        """Every event up to here was acknowledged."""
        await self._pool.execute(_MOVE, self._topic, published, timeout=TIMEOUT)
        if await journal.forget(self._pool, self._deleted_to, published):
            self._deleted_to = published

    async def divide(self, partitions: int) -> None:
        """From here on, keys go to so many partitions."""
        await self._pool.execute(_DIVIDE, self._topic, partitions, timeout=TIMEOUT)
        self.partitions = partitions

    async def tell(self, fault: str | None) -> None:
        """What keeps the publisher from sending, for those who look at the hub; None: nothing does."""
        await self._pool.execute(_FAULT, self._topic, fault, timeout=TIMEOUT)
