"""Replay jobs as rows: queued within the limits, claimed, kept up to date, finished.

A job belongs to the node whose process holds the client's connection; the jobs of a node that has expired have
failed, and count no more.
"""

import json
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

import asyncpg

from streamhub.leases import jobs as statements
from streamhub.postgres.connections import DATABASE_AWAY, Pool
from streamhub.web.problems import ApiError, Fault, unavailable

TIMEOUT: Final = 10.0  # seconds
RETRY_AFTER: Final = 6  # seconds: by then the jobs of a process that died count no more

# Rows of ours, as any role may hold any advisory lock. Organizations that share a row wait for each other for a moment.
_LOCK: Final = "SELECT FROM streamhub_hub.replay_locks WHERE slot = hashtext($1) & 255 FOR NO KEY UPDATE"


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
            await connection.execute(statements.FAIL_ORPHANS, organization_id, timeout=TIMEOUT)
            counts = await connection.fetchrow(statements.COUNT, organization_id, timeout=TIMEOUT)
            assert counts is not None
            if counts["queued"] >= queue_limit:
                raise unavailable(f"{counts['queued']} replays are waiting already; try again in a moment.")
            if counts["of_organization"] >= most:
                detail = (
                    f"The organization has {counts['of_organization']} replays that are queued or running, "
                    f"and at most {most} at once are allowed: let one end, or cancel one."
                )
                raise ApiError(Fault("TOO_MANY_REPLAYS", detail), {"Retry-After": str(RETRY_AFTER)})
            arguments = (organization_id, test, node, json.dumps(request))
            row = await connection.fetchrow(statements.INSERT, *arguments, timeout=TIMEOUT)
            assert row is not None
            return Job(*row)
    except DATABASE_AWAY:
        raise
    except asyncpg.PostgresError as error:
        detail = f"The replay could not be queued: the database refused its row ({error.sqlstate}); try again."
        raise ApiError(Fault("REPLAY_QUEUE_FAILED", detail)) from error


async def claim(pool: Pool, job: str) -> bool:
    """Make a queued job a running one, or find it so; False where it was cancelled meanwhile."""
    return await pool.fetchval(statements.CLAIM, job, timeout=TIMEOUT) is not None


async def progress(pool: Pool, job: str, events: int, size: int, done: float) -> str:
    """Write how far a job is (`done` from 0 to 1), and return its state, which others may have changed."""
    return str(await pool.fetchval(statements.PROGRESS, job, events, size, done, timeout=TIMEOUT))


async def finish(pool: Pool, job: str, state: str, events: int, size: int, done: float) -> str:
    """Write how a job ended, and return its state: it may have been cancelled before."""
    return str(await pool.fetchval(statements.FINISH, job, state, events, size, done, timeout=TIMEOUT))


async def newest(pool: Pool, organization_id: str, test: bool) -> Sequence[asyncpg.Record]:
    """The last 100 jobs of an environment, newest first."""
    return await pool.fetch(statements.NEWEST, organization_id, test, timeout=TIMEOUT)


async def find(pool: Pool, organization_id: str, test: bool, job: str) -> asyncpg.Record | None:
    return await pool.fetchrow(statements.FIND, organization_id, test, job, timeout=TIMEOUT)


async def cancel(pool: Pool, job: str) -> bool:
    """False where it had ended before."""
    return await pool.fetchval(statements.CANCEL, job, timeout=TIMEOUT) is not None


async def cancelled(pool: Pool, jobs: Collection[str]) -> Sequence[str]:
    """Which of these jobs were cancelled."""
    return [row["id"] for row in await pool.fetch(statements.CANCELLED, list(jobs), timeout=TIMEOUT)]
