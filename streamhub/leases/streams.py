"""Live streams: who holds each, its consumer's cursor, and how it is taken, released and ended."""

from typing import Final

from streamhub.leases.nodes import ALIVE, HOLDS, NODES

MOST_NAMED: Final = 3  # organizations

# The owner's node row is locked *before* its expiry is judged, so a renewal that is under way is waited for.
_HOLDER_LOCKED: Final = """streamhub_hub.lease_holds((
         SELECT node.expires_at FROM streamhub_hub.nodes AS node WHERE node.id = stream.node FOR SHARE))"""


def _stale_until(stale_after: str) -> str:
    """Until when a stream that ended is kept for its consumer, null where it is not; core/lease.py has the rule. An end
    that is dated later than any can be was dated by a clock that was ahead."""
    return f"""CASE WHEN stream.node IS NULL AND stream.released_at + {stale_after} > clock_timestamp()
                 AND stream.released_at - {stale_after} <= clock_timestamp()
            THEN least(stream.released_at, clock_timestamp()) + {stale_after} END"""


def _taken(by: str, override: str) -> str:
    """What becomes of a stream's row that is taken, beside its node. `by` is the row that asks."""
    return f"""epoch = stream.epoch + 1, connected_at = clock_timestamp(), released_at = NULL,
       cursor = CASE WHEN {override} THEN {by}.cursor ELSE coalesce(stream.cursor, {by}.cursor) END,
       cursor_at = clock_timestamp()"""


# Of a row that was just taken: whether its consumer before read all up to the cursor.
_EXACT: Final = "coalesce(read_epoch = epoch - 1, false)"

HELD: Final = f"SELECT count(*) FROM streamhub_hub.streams WHERE node IN ({ALIVE})"
STILL_OURS: Final = "SELECT organization_id, epoch FROM streamhub_hub.streams WHERE node = $1"
OURS_OF: Final = f"{STILL_OURS} AND organization_id = ANY ($2)"
# One statement, on one clock. ON CONFLICT waits for another taking and sees its newest version. An owner whose row this
# statement's snapshot does not show yet is alive where it connected after this statement began.
TAKE: Final = f"""
INSERT INTO streamhub_hub.streams AS stream (organization_id, node, epoch, connected_at, cursor, cursor_at)
VALUES ($1, $2, 1, clock_timestamp(), $3, clock_timestamp())
ON CONFLICT (organization_id) DO UPDATE
   SET node = excluded.node, {_taken("excluded", "$4")}
 WHERE CASE WHEN stream.node IS NULL THEN {_stale_until("$5")} IS NULL
            ELSE NOT coalesce({_HOLDER_LOCKED},
                              stream.connected_at BETWEEN statement_timestamp() AND clock_timestamp()) END
RETURNING epoch, cursor::text, {_EXACT}
"""
# Of many streams those without a holder, whether new or given back: all that needs no waiting. A row that is locked is
# left out, so one organization never holds up the others. New rows come in one order, so two gateways that insert the
# same ones wait for one another in turn, and never in a circle.
TAKE_FREE: Final = f"""
WITH asked AS (
  SELECT * FROM unnest($1::text[], $3::uuid[], $4::boolean[]) AS asked (organization_id, cursor, override)
), free AS (
  SELECT stream.organization_id FROM streamhub_hub.streams AS stream
   WHERE stream.organization_id = ANY ($1) AND stream.node IS NULL AND {_stale_until("$5")} IS NULL
     FOR UPDATE SKIP LOCKED
), again AS (
  UPDATE streamhub_hub.streams AS stream
     SET node = $2, {_taken("asked", "asked.override")}
    FROM free JOIN asked USING (organization_id)
   WHERE stream.organization_id = free.organization_id
  RETURNING stream.organization_id, epoch, stream.cursor::text, {_EXACT}
), new AS (
  INSERT INTO streamhub_hub.streams (organization_id, node, epoch, connected_at, cursor, cursor_at)
  SELECT organization_id, $2, 1, clock_timestamp(), cursor, clock_timestamp() FROM asked ORDER BY organization_id
  ON CONFLICT DO NOTHING
  RETURNING organization_id, epoch, cursor::text, false
)
SELECT * FROM again UNION ALL SELECT * FROM new
"""
WHY_REFUSED: Final = """
SELECT connected_at, released_at, clock_timestamp() AS now FROM streamhub_hub.streams WHERE organization_id = $1
"""
RELEASE: Final = """
UPDATE streamhub_hub.streams
   SET node = NULL, released_at = CASE WHEN $5 THEN NULL ELSE clock_timestamp() - $4::interval END,
       cursor = greatest(cursor, $6), cursor_at = clock_timestamp(),
       read_epoch = CASE WHEN $7 THEN epoch ELSE read_epoch END
 WHERE organization_id = $1 AND epoch = $2 AND node = $3
"""
CURSORS: Final = """
UPDATE streamhub_hub.streams AS stream SET cursor = greatest(stream.cursor, new.cursor), cursor_at = clock_timestamp()
  FROM unnest($2::text[], $3::bigint[], $4::uuid[]) AS new (organization_id, epoch, cursor)
 WHERE stream.organization_id = new.organization_id AND stream.epoch = new.epoch AND stream.node = $1
"""
STATUS: Final = f"""
SELECT node.id IS NOT NULL AS held, stream.connected_at, node.host, node.pid, stream.cursor::text, stream.last_gap,
       {_stale_until("$2")} AS stale_until
  FROM streamhub_hub.streams AS stream
  LEFT JOIN ({NODES}) AS node ON node.id = stream.node AND {HOLDS}
 WHERE stream.organization_id = $1
"""
NOTE_GAP: Final = """
UPDATE streamhub_hub.streams SET last_gap = $3::text::jsonb WHERE organization_id = $1 AND epoch = $2
"""
ACTIVE: Final = f"""
SELECT stream.epoch, stream.node::text
  FROM streamhub_hub.streams AS stream
  JOIN ({NODES}) AS node ON node.id = stream.node AND {HOLDS}
 WHERE stream.organization_id = $1
"""
ASK_TO_END: Final = """
UPDATE streamhub_hub.streams SET ending_epoch = epoch WHERE organization_id = $1 AND epoch = $2 AND node = $3
"""
FREE_OF_THE_DEAD: Final = f"""
UPDATE streamhub_hub.streams AS stream SET node = NULL, released_at = clock_timestamp()
 WHERE organization_id = $1 AND epoch = $2 AND stream.node = $3
   AND NOT coalesce({_HOLDER_LOCKED}, false)
"""
ASKED_TO_END: Final = (
    "SELECT organization_id, epoch FROM streamhub_hub.streams WHERE node = $1 AND ending_epoch = epoch"
)
_HELD: Final = f"""
SELECT stream.organization_id, coalesce({HOLDS}, false) AS alive,
       extract(epoch FROM clock_timestamp())::float8
       - extract(epoch FROM coalesce(node.expires_at, stream.cursor_at))::float8 AS gone
  FROM streamhub_hub.streams AS stream LEFT JOIN ({NODES}) AS node ON node.id = stream.node
 WHERE stream.node IS NOT NULL
"""
COUNT: Final = f"""
SELECT count(*) FILTER (WHERE alive) AS held, count(*) FILTER (WHERE gone > $1) AS left_behind,
       max(gone) FILTER (WHERE NOT alive) AS longest,
       (array_agg(organization_id ORDER BY gone DESC) FILTER (WHERE gone > $1))[:{MOST_NAMED}] AS organizations
  FROM ({_HELD}) AS streams
"""
NOT_ENDED: Final = f"""
SELECT stream.organization_id, stream.epoch, node.host, node.pid
  FROM streamhub_hub.streams AS stream
  JOIN ({NODES}) AS node ON node.id = stream.node AND {HOLDS}
 WHERE stream.ending_epoch = stream.epoch ORDER BY 1
"""
