"""The newest of history: an organization's last event, how far a position is behind it, and what all have had since."""

from typing import Final, NamedTuple

import asyncpg

from streamhub.organizations import ORGANIZATIONS
from streamhub.postgres.connections import Pool

TIMEOUT: Final = 5.0  # seconds
MOST_COUNTED: Final = 10_000  # events; the rest of a long way behind is not worth the reading

# ORDER BY h.id: a plain id would be the text that is selected, which no index has.
_NEWEST: Final = "SELECT h.id::text FROM streamhub_hub.history AS h WHERE organization = $1 ORDER BY h.id DESC LIMIT 1"
_BEHIND: Final = f"""
SELECT (SELECT count(*) FROM (SELECT FROM streamhub_hub.history WHERE organization = $1 AND id > $2
                               LIMIT {MOST_COUNTED}) AS counted),
       (SELECT h.id::text FROM streamhub_hub.history AS h WHERE organization = $1 AND id > $2 ORDER BY h.id LIMIT 1)
"""
_NEWEST_LIVE: Final = f"""
SELECT h.id::text FROM streamhub_hub.history h JOIN ({ORGANIZATIONS}) o ON o.key = h.organization
 WHERE o.id = $1 AND NOT h.test ORDER BY h.id DESC LIMIT 1
"""
_OF_ALL: Final = f"""
SELECT o.slug, e.id::text AS id, e.test, e.type, e.resource_id, e.frame
  FROM ({ORGANIZATIONS}) o
 CROSS JOIN LATERAL (SELECT id, test, type, resource_id, frame FROM streamhub_hub.history h
                      WHERE h.organization = o.key AND h.id > $1 ORDER BY h.id LIMIT $2) AS e
 ORDER BY e.id LIMIT $2
"""


class Behind(NamedTuple):
    """`events` beyond a position, counted up to MOST_COUNTED, and the first one's id; None where there is none."""

    events: int
    first_id: str | None


async def newest_id(pool: Pool, organization: int) -> str | None:
    """The id of the organization's last event; `organization` is the registry's key."""
    found: str | None = await pool.fetchval(_NEWEST, organization, timeout=TIMEOUT)
    return found


async def behind(pool: Pool, organization: int, position: str) -> Behind:
    row = await pool.fetchrow(_BEHIND, organization, position, timeout=TIMEOUT)
    assert row is not None, "a statement that gives one row"
    return Behind(*row)


async def newest_live_id(pool: Pool, organization_id: str) -> str | None:
    """The id of the last event of the live environment of the organization with this id."""
    found: str | None = await pool.fetchval(_NEWEST_LIVE, organization_id, timeout=TIMEOUT)
    return found


async def of_all(pool: Pool, after: str, limit: int) -> list[asyncpg.Record]:
    """The next events of all organizations: slug, id, test, type, resource_id, frame."""
    return await pool.fetch(_OF_ALL, after, limit, timeout=TIMEOUT)
