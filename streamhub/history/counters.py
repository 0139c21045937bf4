"""Running totals that outlive a process: what each append counted, added up now and then."""

import asyncio
from collections.abc import Mapping
from typing import Any, Final

import asyncpg

STEP: Final = 5_000  # rows added up at once
STEP_PAUSE: Final = 0.05  # seconds
WORTH_ADDING: Final = 1_000  # rows

COUNTERS: Final = "SELECT name, source, value FROM streamhub_hub.counters"
_COUNT: Final = """
INSERT INTO streamhub_hub.counted (name, source, value)
SELECT name, $1, value FROM unnest($2::text[], $3::bigint[]) AS its (name, value)
"""
_WAITING: Final = f"SELECT count(*) FROM (SELECT FROM streamhub_hub.counted LIMIT {WORTH_ADDING}) AS few"
_ADD_UP: Final = f"""
WITH few AS (
  DELETE FROM streamhub_hub.counted WHERE ctid = ANY (ARRAY(SELECT ctid FROM streamhub_hub.counted LIMIT {STEP}))
  RETURNING *
), added AS (
  INSERT INTO streamhub_hub.counted (name, source, value) SELECT name, source, sum(value) FROM few GROUP BY 1, 2
)
SELECT count(*) FROM few
"""


async def count(connection: "asyncpg.Connection[Any]", source: str, counted: Mapping[str, int]) -> None:
    """Add these numbers, by name, to a source's."""
    await connection.execute(_COUNT, source, list(counted), list(counted.values()))


async def add_up(connection: "asyncpg.Connection[Any]") -> None:
    """Make few rows of many."""
    if await connection.fetchval(_WAITING) < WORTH_ADDING:
        return
    added = STEP
    while added == STEP:
        added = await connection.fetchval(_ADD_UP)
        await asyncio.sleep(STEP_PAUSE)
