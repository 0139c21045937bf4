"""What a dispatcher asks for when it looks for work costs what it gives, whatever is pending and statistics say."""

import json
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from streamhub.history.plans import INDEX_ORDER
from streamhub.postgres.connections import create_pool
from streamhub.webhooks import deliveries, ordering
from tests.integration.history.test_plans import delete_statistics, nodes
from tests.integration.webhooks.conftest import Owner
from tests.support.database import Pool

PENDING = 10_000
LATER = "n % 5 = 0 OR n % 3 = 0"
LARGE = ("webhook_deliveries", "webhook_finished")


@pytest.fixture(params=["deleted", "of when it was empty"])
async def busy(
    request: pytest.FixtureRequest, owner: Owner, database_url: str, connection: "asyncpg.Connection[asyncpg.Record]"
) -> AsyncIterator[tuple[Pool, list[str]]]:
    """Five endpoints: of one everything is due in an hour, of the others two thirds are due now."""
    await connection.execute("ALTER TABLE streamhub_hub.webhook_deliveries SET (autovacuum_enabled = off)")
    await connection.execute("ANALYZE")
    ids = [(await owner.add(f"/{n}"))["id"] for n in range(5)]
    for table, more, values in (
        (
            "webhook_deliveries", "attempts, due_at",
            f"n % 7, clock_timestamp() + CASE WHEN {LATER} THEN interval '1 hour' ELSE '0' END",
        ),
        ("webhook_finished", "state, log, created_at", "'failed', '[]', now()"),
    ):  # fmt: skip
        await connection.execute(
            f"INSERT INTO streamhub_hub.{table} (endpoint, event, type, resource_key, {more}) "
            f"SELECT ($1::uuid[])[1 + n % 5], gen_random_uuid(), 'skus.update', n / 10, {values} "
            "FROM generate_series(1, $2::int) AS n", ids, PENDING,
        )  # fmt: skip
    await connection.execute("UPDATE streamhub_hub.webhook_queues SET due_at = clock_timestamp()")
    if request.param == "deleted":
        await delete_statistics(connection)
    pool = await create_pool(database_url, "test", 2, command_timeout=30, server_settings=INDEX_ORDER)
    yield pool, ids
    pool.terminate()


async def rows_read(pool: Pool, query: str, *arguments: object) -> int:
    """Of large tables, those that a filter removed included; by the worse of the plans that a statement may get."""
    return max([await _rows_read(pool, mode, query, *arguments) for mode in ("generic", "custom")])


async def _rows_read(pool: Pool, mode: str, query: str, *arguments: object) -> int:
    async with pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute(f"SET LOCAL plan_cache_mode = force_{mode}_plan")
        explained = await connection.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) {query}", *arguments)
        await transaction.rollback()
    return sum(_read(node) for node in nodes(json.loads(explained)[0]["Plan"]))


def _read(node: dict[str, Any]) -> int:
    if "Scan" not in node["Node Type"] or not node.get("Relation Name", "").startswith(LARGE):
        return 0
    return int((node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"])


async def test_a_look_for_work_reads_no_more_than_it_gives(busy: tuple[Pool, list[str]]) -> None:
    pool, ids = busy
    assert await rows_read(pool, deliveries.READ, ids, [100] * 5) <= 4 * 101
    assert await rows_read(pool, deliveries.READ_TESTS, ids) <= 5
    assert await rows_read(pool, deliveries.READ_MOST_TRIED, ids) <= 5 * deliveries.MOST_PAUSES
    assert await rows_read(pool, deliveries.GIVE_UP, ids, [0] * 5) <= 5


async def test_what_came_of_attempts_is_written_by_the_rows_concerned(busy: tuple[Pool, list[str]]) -> None:
    pool, _ = busy
    rows = await pool.fetch(
        "SELECT endpoint::text, event::text, resource_key FROM streamhub_hub.webhook_deliveries LIMIT 20"
    )
    endpoints, events = [row["endpoint"] for row in rows], [row["event"] for row in rows]
    keys = [row["resource_key"] for row in rows]
    states = ["delivered", "pending"] * 10
    settle = (endpoints, events, states, [60.0] * 20, [True] * 20, json.dumps([{}] * 20))
    assert await rows_read(pool, deliveries.SETTLE, *settle) <= 5 * 20
    assert await rows_read(pool, ordering.FREE_OLDEST, endpoints, keys) <= 3 * 20
    assert await rows_read(pool, ordering.HOLD_NEWER, endpoints, keys, events) <= 4 * 20
