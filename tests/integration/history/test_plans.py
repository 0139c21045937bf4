"""Hot queries keep their plan, whatever statistics and prices say: what they read is bounded by what they give."""

import json
import os
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from typing import Any, NamedTuple

import asyncpg
import pytest

from streamhub.core import ids
from streamhub.core.events import StoredEvent
from streamhub.gateway import places
from streamhub.history import journal, newest, pieces
from streamhub.history.partitions import Partitions
from streamhub.history.plans import INDEX_ORDER
from streamhub.history.reader import LEAST_OF_EACH, PAGE_BYTES, PAGE_ROWS, Selection, _page_query, _small_query
from streamhub.leases import jobs, streams
from streamhub.postgres.connections import create_pool
from streamhub.postgres.ownership import claim, hub_id
from streamhub.relay import outbox
from tests.conftest import database_of
from tests.support.database import Pool
from tests.support.history import insert

DAY = 86_400_000
EVENTS = 12_000
RESOURCES = 40
LARGE = ("history", "changes", "outbox", "log_heads", "appends")  # what may hold millions of rows


def event(organization: int, id_: str, resource: int) -> StoredEvent:
    frame = b"event: update\nid: %s\ndata: %s\n\n" % (id_.encode(), b"x" * 50)
    return StoredEvent(organization, id_, False, "skus.update", "skus", f"r{resource}", frame)


async def fill(connection: Any, monday: int) -> None:
    step = 6 * DAY // EVENTS
    await insert(
        connection, [event(1 + n % 2, ids.event_id(monday + n * step, 0), n % RESOURCES) for n in range(EVENTS)]
    )
    await connection.execute(
        "INSERT INTO streamhub_hub.log_heads SELECT n, 0, n, 0 FROM generate_series(1, 5000) AS n;"
        "INSERT INTO streamhub_hub.appends SELECT gen_random_uuid(), gen_random_uuid(), '{1}', 1 "
        "FROM generate_series(1, 5000);"
        "INSERT INTO streamhub.outbox (seq, origin, chained) SELECT n, '1:1:1:1', false "
        "FROM generate_series(1, 5000) AS n"
    )


async def delete_statistics(connection: Any) -> None:
    await connection.execute(
        "DELETE FROM pg_statistic; UPDATE pg_class SET reltuples = -1, relpages = 0 "
        "FROM pg_namespace n WHERE n.oid = relnamespace AND nspname LIKE 'streamhub%' AND relkind IN ('r', 'p')"
    )


class Week(NamedTuple):
    url: str
    monday: int


@pytest.fixture(scope="module", params=["never analyzed", "analyzed when empty", "analyzed with others", "analyzed"])
async def week(request: pytest.FixtureRequest, postgres_url: str, template: str) -> AsyncIterator[Week]:
    """A week with two organizations, and statistics that tell of something else."""
    name = f"streamhub_plans_{os.getpid()}"
    server = await asyncpg.connect(postgres_url)
    await server.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
    url = database_of(postgres_url, name)
    connection = await asyncpg.connect(url)
    monday = int(await connection.fetchval("SELECT extract(epoch FROM date_trunc('week', now(), 'UTC')) * 1000"))
    await Partitions(connection).ensure(monday)
    if request.param == "analyzed when empty":
        await connection.execute("ANALYZE")
    elif request.param == "analyzed with others":
        await insert(connection, [event(3, ids.event_id(monday + n, 0), 0) for n in range(200)])
        await connection.execute("ANALYZE")
    await fill(connection, monday)
    if request.param == "never analyzed":
        await delete_statistics(connection)
    elif request.param == "analyzed":
        await connection.execute("ANALYZE")
    await connection.close()
    await server.close()
    yield Week(url, monday)
    server = await asyncpg.connect(postgres_url)
    await server.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await server.close()


@pytest.fixture
def monday(week: Week) -> int:
    return week.monday


@pytest.fixture(params=["1.1", "4"])
async def reading(request: pytest.FixtureRequest, week: Week) -> AsyncIterator[Pool]:
    """As those that read history: `random_page_cost` as the embedded server has it, and as servers have it at first."""
    settings = {**INDEX_ORDER, "random_page_cost": request.param}
    pool = await create_pool(week.url, "test", 2, command_timeout=30, server_settings=settings)
    yield pool
    pool.terminate()


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", []):
        yield from nodes(child)


async def read_by(pool: Pool, query: str, *arguments: object, generic: bool = True) -> list[dict[str, Any]]:
    """The nodes of a query's plan, as it was run."""
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(f"SET LOCAL plan_cache_mode = force_{'generic' if generic else 'custom'}_plan")
        rows = await connection.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) {query}", *arguments)
    return list(nodes(json.loads(rows)[0]["Plan"]))


def check(plan: list[dict[str, Any]], most_sorted: int, most_read: int) -> None:
    """No scan of all of a large table, and no more rows read or sorted than the result takes."""
    for node in plan:
        rows = node["Actual Rows"] * node["Actual Loops"]
        if node["Node Type"] in ("Seq Scan", "Bitmap Heap Scan", "Bitmap Index Scan"):
            assert not node.get("Relation Name", node.get("Index Name", "")).startswith(LARGE), node
        if "Scan" in node["Node Type"] and node.get("Relation Name", "").startswith(LARGE):
            assert rows + node.get("Rows Removed by Filter", 0) * node["Actual Loops"] <= most_read, node
        if "Sort" in node["Node Type"]:
            assert sum(child["Actual Rows"] * child["Actual Loops"] for child in node["Plans"]) <= most_sorted, node


@pytest.mark.parametrize("generic", [True, False])
@pytest.mark.parametrize("resources", [None, 1, 30])
async def test_a_page_reads_and_sorts_no_more_than_it_gives(
    monday: int, reading: Pool, generic: bool, resources: int | None
) -> None:
    chosen = None if resources is None else [f"r{2 * n}" for n in range(resources // 2 + 1)]
    query, arguments = _page_query(
        Selection(1, False, "skus", chosen), ids.MIN_ID, ids.event_id(monday + 7 * DAY, 0), PAGE_BYTES, 100
    )
    most = 100 if chosen is None else len(chosen) * max(LEAST_OF_EACH, 4 * 100 // len(chosen))
    plan = await read_by(reading, query, *arguments, generic=generic)
    check(plan, 0 if chosen is None else most, most)


@pytest.mark.parametrize("generic", [True, False])
async def test_a_page_of_small_frames_reads_no_more_than_it_gives(monday: int, reading: Pool, generic: bool) -> None:
    query, arguments = _small_query(
        Selection(1, False, "skus"), ids.MIN_ID, ids.event_id(monday + 7 * DAY, 0), PAGE_ROWS // 8
    )
    check(await read_by(reading, query, *arguments, generic=generic), 0, PAGE_ROWS // 8)


async def test_a_page_of_the_journal_reads_no_more_than_it_gives(monday: int, reading: Pool) -> None:
    until = ids.event_id(monday + DAY, 0)
    plan = await read_by(reading, journal._PAGE, [1, 2, 3], ids.MIN_ID, until)
    check(plan, journal.PAGE_ROWS * 2, journal.PAGE_ROWS * 2)
    look = await read_by(reading, journal._LOOK, ids.MIN_ID)
    check(look, journal.MOST_APPENDS, journal.MOST_APPENDS)


async def test_a_piece_reads_no_more_than_it_gives(monday: int, reading: Pool) -> None:
    plan = await read_by(reading, pieces._PIECE, [1, 2], [ids.MIN_ID] * 2, ids.MAX_ID)
    check(plan, pieces.PIECE_ROWS + 1, pieces.PIECE_ROWS + 1)


@pytest.mark.parametrize(
    "query",
    [outbox._READ_SMALL, outbox._LARGE.format(read=outbox._READ, condition="{condition}", versions="{versions}")],
)
async def test_a_read_of_the_outbox_takes_its_rows_in_order(monday: int, reading: Pool, query: str) -> None:
    plan = await read_by(reading, query.format(condition="", versions=""), 100, 50)
    check(plan, 0, 51)


async def test_a_deletion_from_the_outbox_reads_what_it_deletes(monday: int, reading: Pool) -> None:
    async with reading.acquire() as connection:
        hub = await hub_id(connection)
        await claim(connection, hub)
    deletion = outbox.consumption(outbox.Ranges([10, 100], [20, 110]), 22, hub)
    plan = await read_by(reading, deletion.sql_from(1), *deletion.arguments)
    check(plan, 0, 22)


@pytest.mark.parametrize(
    ("query", "arguments"),
    [
        ("SELECT * FROM streamhub_hub.log_head", ()),
        (places._FIND, (["org_1"],)),
        (streams.STATUS, ("org_1", timedelta(seconds=5))),
        (newest._NEWEST, (1,)),
        (newest._BEHIND, (1, ids.MAX_ID)),
        (jobs.CLAIM, ("00000000-0000-4000-8000-000000000001",)),
        (streams.WHY_REFUSED, ("org_1",)),
    ],
)
async def test_a_look_at_one_thing_reads_a_row_or_two(
    monday: int, reading: Pool, query: str, arguments: tuple[object, ...]
) -> None:
    check(await read_by(reading, query, *arguments), 0, 2)


async def test_a_page_near_the_end_of_a_week_costs_no_more_than_a_small_multiple_of_one_at_its_start(
    monday: int, reading: Pool
) -> None:
    """Counted in pages of PostgreSQL, which other work on this machine does not change."""

    async def touched(after: str) -> int:
        query, arguments = _page_query(
            Selection(1), after, ids.event_id(monday + 7 * DAY, 0), PAGE_BYTES, PAGE_ROWS // 3
        )
        async with reading.acquire() as connection:
            explained = await connection.fetchval(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {query}", *arguments)
        plan = json.loads(explained)[0]["Plan"]
        return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])

    await touched(ids.MIN_ID)  # the planner's own look at each index
    first, last = await touched(ids.MIN_ID), await touched(ids.event_id(monday + 6 * DAY * 9 // 10, 0))
    assert max(first, last) < 2 * min(first, last)


async def test_what_old_versions_an_old_snapshot_keeps_is_in_the_way_of_no_append(
    database_url: str, connection: "asyncpg.Connection[Any]"
) -> None:
    """Counted in pages, not in time."""
    old = await asyncpg.connect(database_url)
    pages = """EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) SELECT streamhub_hub.reserve(0, 1)"""

    async def touched() -> int:
        plan = json.loads(await connection.fetchval(pages))[0]["Plan"]
        return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])

    async with old.transaction(isolation="repeatable_read"):
        await old.fetch("SELECT * FROM streamhub_hub.log_head")
        await connection.execute("SET synchronous_commit = off")
        await touched()
        before = await touched()
        for _ in range(3_000):
            await connection.execute("SELECT streamhub_hub.reserve(0, 1)")
        await connection.execute(
            "DELETE FROM streamhub_hub.log_heads WHERE last_ms < (SELECT last_ms - 1 FROM streamhub_hub.log_head)"
        )
        assert await touched() <= before + 10
    await old.close()
