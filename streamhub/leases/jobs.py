"""Replays as jobs: a row each, run by the node that has the client's connection. A job of a node that has expired has
failed, whether or not it is written yet."""

from typing import Final

from streamhub.leases.nodes import ALIVE, HOLDS

MOST_LISTED: Final = 100
STEP: Final = 5_000  # rows deleted at once

FAIL_ORPHANS: Final = f"""
UPDATE streamhub_hub.replays SET state = 'failed', finished_at = clock_timestamp()
 WHERE organization_id = $1 AND state IN ('queued', 'running') AND node NOT IN ({ALIVE})
"""
COUNT: Final = f"""
SELECT (SELECT count(*) FROM streamhub_hub.replays WHERE state = 'queued' AND node IN ({ALIVE})) AS queued,
       (SELECT count(*) FROM streamhub_hub.replays
         WHERE organization_id = $1 AND state IN ('queued', 'running') AND node IN ({ALIVE})) AS of_organization
"""
INSERT: Final = """
INSERT INTO streamhub_hub.replays (organization_id, test, node, state, request)
VALUES ($1, $2, $3, 'queued', $4::text::jsonb) RETURNING id::text, created_at
"""
CLAIM: Final = """
UPDATE streamhub_hub.replays SET state = 'running', started_at = coalesce(started_at, clock_timestamp())
 WHERE id = $1 AND state IN ('queued', 'running') RETURNING state
"""
PROGRESS: Final = """
UPDATE streamhub_hub.replays SET events = $2, bytes = $3, progress = $4 WHERE id = $1 RETURNING state
"""
# A job that was cancelled from outside stays so, with the counts of what was sent until its stream ended.
FINISH: Final = """
UPDATE streamhub_hub.replays
   SET state = CASE WHEN state IN ('queued', 'running') THEN $2 ELSE state END,
       events = $3, bytes = $4, progress = $5, finished_at = coalesce(finished_at, clock_timestamp())
 WHERE id = $1 RETURNING state
"""
CANCEL: Final = f"""
UPDATE streamhub_hub.replays SET state = 'cancelled', finished_at = clock_timestamp()
 WHERE id = $1 AND state IN ('queued', 'running') AND node IN ({ALIVE}) RETURNING true
"""
CANCELLED: Final = "SELECT id::text FROM streamhub_hub.replays WHERE id = ANY ($1::uuid[]) AND state = 'cancelled'"
SHOW: Final = f"""
SELECT id::text AS job_id, test, events, bytes, progress::float8 AS progress, created_at, started_at, finished_at,
       request::text AS request,
       CASE WHEN state IN ('queued', 'running') AND node NOT IN ({ALIVE}) THEN 'failed' ELSE state END AS state
  FROM streamhub_hub.replays WHERE organization_id = $1 AND test = $2
"""
NEWEST: Final = f"{SHOW} ORDER BY created_at DESC, id LIMIT {MOST_LISTED}"
FIND: Final = f"{SHOW} AND id = $3"
BY_NODE: Final = f"""
SELECT node.host, node.pid, coalesce({HOLDS}, false) AS alive,
       count(*) FILTER (WHERE state = 'running') AS running, count(*) FILTER (WHERE state = 'queued') AS queued,
       count(*) FILTER (WHERE age < $1) AS recent,
       coalesce(max(age) FILTER (WHERE state = 'queued'), 0) AS longest
  FROM (SELECT *, extract(epoch FROM clock_timestamp())::float8 - extract(epoch FROM created_at)::float8 AS age
          FROM streamhub_hub.replays WHERE state IN ('queued', 'running')) AS replay
  LEFT JOIN streamhub_hub.nodes AS node ON node.id = replay.node
 GROUP BY node.id ORDER BY node.host, node.pid
"""
FORGET: Final = f"""
DELETE FROM streamhub_hub.replays WHERE ctid = ANY (ARRAY(
  SELECT ctid FROM streamhub_hub.replays WHERE created_at < clock_timestamp() - $1::interval
     AND state NOT IN ('queued', 'running') LIMIT {STEP}))
"""
"""Deletes some of those that ended and are older than an interval."""
