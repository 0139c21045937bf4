"""What several organizations have in history beyond a position each, read at once: what a tail fills its holes with."""

from collections.abc import Mapping
from typing import Final

from streamhub.core.events import StoredEvent
from streamhub.postgres.connections import Pool

PIECE_ROWS: Final = 2_000
PIECE_BYTES: Final = 4_000_000
TIMEOUT: Final = 10.0  # seconds

# The limit stands before the order: where there is more than a piece, nothing of it is of use.
_PIECE: Final = f"""
SELECT scanned, organization, id::text, test, type, resource_type, resource_id, frame
  FROM (SELECT *, count(*) OVER () AS scanned,
               sum(octet_length(frame)) OVER (ORDER BY id ROWS UNBOUNDED PRECEDING) AS bytes_so_far
          FROM (SELECT h.* FROM unnest($1::int[], $2::uuid[]) AS wanted(organization, after)
                  CROSS JOIN LATERAL (
                    SELECT * FROM streamhub_hub.history
                     WHERE organization = wanted.organization AND id > wanted.after AND id <= $3
                     ORDER BY id LIMIT {PIECE_ROWS + 1}) AS h
                 LIMIT {PIECE_ROWS + 1}) AS first) AS measured
 WHERE bytes_so_far <= {PIECE_BYTES} OR bytes_so_far = octet_length(frame)
"""


async def read_piece(pool: Pool, after: Mapping[int, str], to: str) -> list[StoredEvent] | None:
    """The events up to `to` of each organization in `after` (the registry's key) beyond the id given there, in id
    order; None where they are more than a piece. Raises what asyncpg raises, TimeoutError too."""
    if not after:
        return []
    async with pool.acquire(timeout=TIMEOUT) as connection:
        rows = await connection.fetch(_PIECE, list(after), list(after.values()), to, timeout=TIMEOUT)
    if rows and (rows[0]["scanned"] > PIECE_ROWS or rows[0]["scanned"] > len(rows)):
        return None
    return [StoredEvent(*tuple(row)[1:]) for row in rows]
