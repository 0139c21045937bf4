"""Single events of history by their ids."""

from collections.abc import Sequence
from typing import Final

from streamhub.postgres.connections import Pool

TIMEOUT: Final = 30.0  # seconds

_FRAMES: Final = """
SELECT h.id::text, h.frame FROM unnest($1::integer[], $2::uuid[]) AS wanted (organization, id)
 CROSS JOIN LATERAL (SELECT id, frame FROM streamhub_hub.history
                      WHERE organization = wanted.organization AND id = wanted.id) AS h
"""


async def frames_of(pool: Pool, wanted: Sequence[tuple[int, str]]) -> dict[str, bytes]:
    """The frames of events (the registry's key of the organization, id) by id; those past retention are left out.
    Raises what asyncpg raises."""
    rows = await pool.fetch(_FRAMES, [each[0] for each in wanted], [each[1] for each in wanted], timeout=TIMEOUT)
    return {row["id"]: row["frame"] for row in rows}
