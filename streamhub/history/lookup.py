"""Single events of history by their ids."""

from collections.abc import Sequence
from typing import Final

from streamhub.postgres.connections import Pool

TIMEOUT: Final = 30.0  # seconds

# `before`: the bytes of those before it.
_FRAMES: Final = """
SELECT found.organization, found.id, CASE WHEN found.before < $3 THEN found.frame END, found.before < $3
  FROM (SELECT wanted.organization, wanted.id::text, h.frame,
               sum(octet_length(h.frame)) OVER (ORDER BY wanted.n ROWS UNBOUNDED PRECEDING)
               - octet_length(h.frame) AS before
          FROM unnest($1::integer[], $2::uuid[]) WITH ORDINALITY AS wanted (organization, id, n)
         CROSS JOIN LATERAL (SELECT frame FROM streamhub_hub.history
                              WHERE organization = wanted.organization AND id = wanted.id) AS h) AS found
"""


async def frames_within(
    pool: Pool, wanted: Sequence[tuple[int, str]], size: int
) -> dict[tuple[int, str], bytes | None]:
    """The frames of events (the registry's key of the organization, id): None of one past retention. The first of them
    up to `size` bytes, at least one; the others are left out. Raises what asyncpg raises."""
    rows = await pool.fetch(_FRAMES, [each[0] for each in wanted], [each[1] for each in wanted], size, timeout=TIMEOUT)
    left_out = {(row[0], row[1]) for row in rows if not row[3]}
    found: dict[tuple[int, str], bytes | None] = {each: None for each in wanted if each not in left_out}
    found.update({(row[0], row[1]): row[2] for row in rows if row[3]})
    return found
