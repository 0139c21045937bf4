"""Replay jobs as rows: queued within the limits, claimed, kept up to date, finished.

A job belongs to the node whose process holds the client's connection; the jobs of a node that has expired have
failed, and count no more.
"""

import json
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

import asyncpg

from streamhub.errors import ApiError, Fault, unavailable
from streamhub.postgres.connections import DATABASE_AWAY, Pool

TIMEOUT: Final = 10.0  # seconds
MOST_LISTED: Final = 100
RETRY_AFTER: Final = 6  # seconds: by then the jobs of a process that died count no more

_ALIVE: Final = "SELECT id FROM streamhub_hub.nodes WHERE streamhub_hub.lease_holds(expires_at)"
_LOCK: Final = "SELECT pg_advisory_xact_lock(hashtextextended('streamhub replays of ' || $1, 0))"
_FAIL_ORPHANS: Final = f"""
UPDATE streamhub_hub.replays SET state = 'failed', finished_at = clock_timestamp()
 WHERE organization_id = $1 AND state IN ('queued', 'running') AND node NOT IN ({_ALIVE})
"""
_COUNT: Final = f"""
SELECT (SELECT count(*) FROM streamhub_hub.replays WHERE state = 'queued' AND node IN ({_ALIVE})) AS queued,
       (SELECT count(*) FROM streamhub_hub.replays
         WHERE organization_id = $1 AND state IN ('queued', 'running') AND node IN ({_ALIVE})) AS of_organization
"""
_INSERT: Final = """
INSERT INTO streamhub_hub.replays (organization_id, test, node, state, request)
VALUES ($1, $2, $3, 'queued', $4::text::jsonb) RETURNING id::text, created_at
"""
_CLAIM: Final = """
UPDATE streamhub_hub.replays SET state = 'running', started_at = coalesce(started_at, clock_timestamp())
 WHERE id = $1 AND state IN ('queued', 'running') RETURNING state
"""
_PROGRESS: Final = """
UPDATE streamhub_hub.replays SET events = $2, bytes = $3, progress = $4 WHERE id = $1 RETURNING state
"""
# A job that was cancelled from outside stays so, with the counts of what was sent until its stream ended.
_FINISH: Final = """
UPDATE streamhub_hub.replays
   SET state = CASE WHEN state IN ('queued', 'running') THEN $2 ELSE state END,
       events = $3, bytes = $4, progress = $5, finished_at = coalesce(finished_at, clock_timestamp())
 WHERE id = $1 RETURNING state
"""
_CANCEL: Final = f"""
UPDATE streamhub_hub.replays SET state = 'cancelled', finished_at = clock_timestamp()
 WHERE id = $1 AND state IN ('queued', 'running') AND node IN ({_ALIVE}) RETURNING true
"""
_CANCELLED: Final = "SELECT id::text FROM streamhub_hub.replays WHERE id = ANY ($1::uuid[]) AND state = 'cancelled'"
# The jobs of a node that has expired have failed, whether or not anybody has written so yet.
_SHOW: Final = f"""
SELECT id::text AS job_id, test, events, bytes, progress::float8 AS progress, created_at, started_at, finished_at,
       request::text AS request,
       CASE WHEN state IN ('queued', 'running') AND node NOT IN ({_ALIVE}) THEN 'failed' ELSE state END AS state
  FROM streamhub_hub.replays WHERE organization_id = $1 AND test = $2
"""
_NEWEST: Final = f"{_SHOW} ORDER BY created_at DESC, id LIMIT {MOST_LISTED}"
_FIND: Final = f"{_SHOW} AND id = $3"


class Job(NamedTuple):
    id: str
    created_at: datetime


async def queue(
    pool: Pool, organization_id: str, test: bool, node: str, request: dict[str, Any], *, most: int, queue_limit: int
) -> Job:
    """Write a job's row, under the organization's lock. Raises ApiError: 429, 503, 500 where it cannot be written."""
    try:
        async with pool.acquire(timeout=TIMEOUT) as connection, connection.transaction():
            await connection.execute(_LOCK, organization_id, timeout=TIMEOUT)
            await connection.execute(_FAIL_ORPHANS, organization_id, timeout=TIMEOUT)
            counts = await connection.fetchrow(_COUNT, organization_id, timeout=TIMEOUT)
            assert counts is not None
            if counts["queued"] >= queue_limit:
                raise unavailable(f"{counts['queued']} replays are waiting already; try again in a moment.")
            if counts["of_organization"] >= most:
                detail = (
                    f"The organization has {counts['of_organization']} replays that are queued or running, "
                    f"and at most {most} at once are allowed: let one end, or cancel one."
                )
                raise ApiError(Fault(429, "TOO_MANY_REPLAYS", detail), {"Retry-After": str(RETRY_AFTER)})
            arguments = (organization_id, test, node, json.dumps(request))
            row = await connection.fetchrow(_INSERT, *arguments, timeout=TIMEOUT)
            assert row is not None
            return Job(*row)
    except DATABASE_AWAY:
        raise
    except asyncpg.PostgresError as error:
        detail = f"The replay could not be queued: the database refused its row ({error.sqlstate}); try again."
        raise ApiError(Fault(500, "REPLAY_QUEUE_FAILED", detail)) from error


async def claim(pool: Pool, job: str) -> bool:
    """Make a queued job a running one, or find it so; False where it was cancelled meanwhile."""
    return await pool.fetchval(_CLAIM, job, timeout=TIMEOUT) is not None


async def progress(pool: Pool, job: str, events: int, size: int, done: float) -> str:
    """Write how far a job is (`done` from 0 to 1), and return its state, which others may have changed."""
    return str(await pool.fetchval(_PROGRESS, job, events, size, done, timeout=TIMEOUT))


async def finish(pool: Pool, job: str, state: str, events: int, size: int, done: float) -> str:
    """Write how a job ended, and return its state: somebody may have cancelled it before."""
    return str(await pool.fetchval(_FINISH, job, state, events, size, done, timeout=TIMEOUT))


async def newest(pool: Pool, organization_id: str, test: bool) -> Sequence[asyncpg.Record]:
    """The last MOST_LISTED jobs of an environment, newest first."""
    return await pool.fetch(_NEWEST, organization_id, test, timeout=TIMEOUT)


async def find(pool: Pool, organization_id: str, test: bool, job: str) -> asyncpg.Record | None:
    return await pool.fetchrow(_FIND, organization_id, test, job, timeout=TIMEOUT)


async def cancel(pool: Pool, job: str) -> bool:
    """False where it had ended before."""
    return await pool.fetchval(_CANCEL, job, timeout=TIMEOUT) is not None


async def cancelled(pool: Pool, jobs: Collection[str]) -> Sequence[str]:
    """Which of these jobs somebody has cancelled."""
    return [row["id"] for row in await pool.fetch(_CANCELLED, list(jobs), timeout=TIMEOUT)]
