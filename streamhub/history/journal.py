"""History in id order over all organizations: by the journal that a publishing relay keeps of its appends.

History is keyed by organization. A row of `appends` tells whose events an append held, and from which event to which,
so that a stretch of successive appends can be read by a handful of keys. Where a row is missing, because a relay that
does not publish has led, the rows' `previous_id` shows it; `fill` then makes rows from history itself.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

from streamhub.core.events import StoredEvent
from streamhub.history.head import HEAD, head_of, last_event_of
from streamhub.postgres.connections import AnyConnection, Pool

PAGE_ROWS: Final = 2_000
PAGE_BYTES: Final = 2_000_000
TIMEOUT: Final = 60.0  # seconds
MOST_APPENDS: Final = 200  # rows of the journal in one look
MOST_DELETED: Final = 10_000  # rows of the journal at once
FORGET_TIMEOUT: Final = 10.0
FILLED_EVENTS: Final = 1_000  # of history in one row made for a hole
FILL_TIMEOUT: Final = 6 * 3600.0

# One statement, so that head and rows are of one moment.
_LOOK: Final = f"""
SELECT h.last_ms, h.last_counter, h.event_ms, h.event_counter,
       j.previous_id::text, j.last_id::text, j.organizations, j.events
  FROM ({HEAD}) AS h
  LEFT JOIN LATERAL (SELECT * FROM streamhub_hub.appends WHERE last_id > $1 ORDER BY last_id LIMIT {MOST_APPENDS}) AS j
         ON true
 ORDER BY j.last_id
"""
# Each organization by its own stretch of the key: by `= ANY`, a plan may sort the rest of all their history.
_PAGE: Final = f"""
SELECT organization, id::text, test, type, resource_type, resource_id, frame, scanned
  FROM (SELECT *, count(*) OVER () AS scanned,
               sum(octet_length(frame)) OVER (ORDER BY id ROWS UNBOUNDED PRECEDING)
               - octet_length(frame) AS bytes_before
          FROM (SELECT h.* FROM unnest($1::int[]) AS wanted (organization)
                 CROSS JOIN LATERAL (SELECT * FROM streamhub_hub.history
                                      WHERE organization = wanted.organization AND id > $2 AND id <= $3
                                      ORDER BY id LIMIT {PAGE_ROWS}) AS h
                 ORDER BY h.id LIMIT {PAGE_ROWS}) AS first) AS measured
 WHERE bytes_before < {PAGE_BYTES}
 ORDER BY measured.id
"""
# The last row stands for a stretch without events: with it there is no hole.
_FILL: Final = f"""
WITH events AS (
  SELECT organization, id, (row_number() OVER (ORDER BY id) - 1) / {FILLED_EVENTS} AS piece
    FROM streamhub_hub.history WHERE id > $1 AND id <= $2
), pieces AS (
  SELECT max(id::text COLLATE "C")::uuid AS last_id, array_agg(DISTINCT organization) AS organizations,
         count(*) AS events
    FROM events GROUP BY piece
  UNION ALL
  SELECT $2::uuid, '{{}}', 0 WHERE NOT EXISTS (SELECT FROM events WHERE id = $2)
)
INSERT INTO streamhub_hub.appends (last_id, previous_id, organizations, events)
SELECT last_id, lag(last_id, 1, $1::uuid) OVER (ORDER BY last_id), organizations, events FROM pieces
ON CONFLICT (last_id) DO NOTHING
"""
# From a lower bound on: deleted rows stay in the index until they are vacuumed.
_FORGET: Final = f"""
DELETE FROM streamhub_hub.appends WHERE last_id = ANY (ARRAY(
  SELECT last_id FROM streamhub_hub.appends WHERE last_id > $1 AND last_id <= $2 ORDER BY last_id LIMIT {MOST_DELETED}))
"""


class Stretch(NamedTuple):
    """Successive appends up to `until`, whose events are of these organizations."""

    until: str
    organizations: Sequence[int]


class Hole(NamedTuple):
    """Events up to `until` that the journal knows nothing of."""

    until: str


class End(NamedTuple):
    """Nothing more: no event is beyond the position, nor will one be at or below `head`."""

    head: str


async def look(pool: Pool, after: str) -> Stretch | Hole | End:
    """What follows the event `after`."""
    rows = await pool.fetch(_LOOK, after, timeout=TIMEOUT)
    first = rows[0]
    if first["last_id"] is None:
        last_event = last_event_of(first)
        return Hole(last_event) if last_event > after else End(head_of(first))
    if first["previous_id"] > after:
        return Hole(first["previous_id"])
    organizations: set[int] = set()
    events, until = 0, after
    for row in rows:
        if row["previous_id"] > until or (events and events + row["events"] > PAGE_ROWS):
            break
        organizations.update(row["organizations"])
        events += row["events"]
        until = row["last_id"]
    return Stretch(until, sorted(organizations))


async def page(
    pool: Pool | AnyConnection, organizations: Sequence[int], after: str, until: str
) -> tuple[list[StoredEvent], str]:
    """The next events with `after` < id <= `until` in id order, and the id up to which nothing is left to read."""
    if not organizations:
        return [], until
    rows = await pool.fetch(_PAGE, organizations, after, until, timeout=TIMEOUT)
    events = [StoredEvent(*row[:7]) for row in rows]
    complete = not rows or rows[0]["scanned"] == len(rows) < PAGE_ROWS
    return events, until if complete else events[-1].id


async def fill(pool: Pool, after: str, until: str) -> None:
    """Make rows for (after, until]. Reads the index of the weeks concerned from end to end."""
    await pool.execute(_FILL, after, until, timeout=FILL_TIMEOUT)


async def forget(pool: Pool, after: str, until: str) -> bool:
    """Delete the rows in (after, until]; False where more are left than are deleted at once."""
    tag = await pool.execute(_FORGET, after, until, timeout=FORGET_TIMEOUT)
    return tag != f"DELETE {MOST_DELETED}"


def oldest_beyond(position: str) -> str:
    """A subquery for the last id of the first append beyond `position`, an SQL expression."""
    return (
        f"SELECT a.last_id::text FROM streamhub_hub.appends a WHERE a.last_id > {position} ORDER BY a.last_id LIMIT 1"
    )
