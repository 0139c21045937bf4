"""Replay jobs as rows: queued within the limits, claimed, kept up to date, finished.

A job belongs to the node whose process holds the client's connection; the jobs of a node that has expired have
failed, and count no more.
"""

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import asyncpg

from streamhub.database import DATABASE_AWAY
from streamhub.errors import ApiError, Fault, unavailable

if TYPE_CHECKING:
    Pool = asyncpg.Pool[asyncpg.Record]
else:
    Pool = asyncpg.Pool

TIMEOUT: Final = 10.0  # seconds
RETRY_AFTER: Final = 6  # seconds: by then the jobs of a process that died count no more

_ALIVE: Final = "SELECT id FROM streamhub_hub.nodes WHERE expires_at > clock_timestamp()"
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
_FINISH: Final = """
UPDATE streamhub_hub.replays SET state = $2, events = $3, bytes = $4, progress = $5, finished_at = clock_timestamp()
 WHERE id = $1 AND state IN ('queued', 'running')
"""


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


async def finish(pool: Pool, job: str, state: str, events: int, size: int, done: float) -> None:
    await pool.execute(_FINISH, job, state, events, size, done, timeout=TIMEOUT)
