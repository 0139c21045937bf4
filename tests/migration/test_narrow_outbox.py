"""0004: the outbox is made anew, with what waits in it, under applications that go on writing."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import asyncpg
import pytest

from streamhub import migrate
from tests.integration.stage import SHOP, Stage, kinds
from tests.migration.conftest import NewDatabase


def files_before(kind: str) -> Iterator[tuple[str, str]]:
    return iter([(name, sql) for name, sql in all_files(kind) if kind == "hub" or name < "0004"])


all_files = migrate._files


@pytest.fixture
async def before(new_database: NewDatabase, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stage]:
    """A database as the version before made it."""
    url = await new_database()
    stage = Stage(url, await asyncpg.connect(url))
    with monkeypatch.context() as patch:
        patch.setattr(migrate, "_files", files_before)
        await migrate.migrate_hub(stage.connection)
        await migrate.migrate_source(stage.connection)
    yield stage
    await stage.connection.close()


async def migrated(stage: Stage) -> list[str]:
    other = await asyncpg.connect(stage.url)
    try:
        return await migrate.migrate_source(other)
    finally:
        await other.close()


async def test_what_waits_in_the_outbox_is_relayed_and_numbers_go_on(before: Stage) -> None:
    await before.shop()
    await before.sql(
        "INSERT INTO skus VALUES (1, 'org_1', 1, 'a'), (2, 'org_1', 1, 'b')",
        "UPDATE skus SET price = 2 WHERE id = 1",
        "DELETE FROM skus WHERE id = 2",
    )
    last = await before.value("SELECT max(seq) FROM streamhub.outbox")
    assert await migrated(before) == ["0004_narrow_outbox.sql"]
    await before.sql("INSERT INTO skus VALUES (3, 'org_1', 1, 'c')")
    assert await before.value("SELECT max(seq) FROM streamhub.outbox") == last + 1
    assert kinds(await before.relayed()) == [
        ("create", "1"), ("create", "2"), ("update", "1"), ("destroy", "2"), ("create", "3"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("column", "told"), [("too_large", {"too_large": True, "resource": None}), ("backfill", {"backfill": True})]
)
async def test_a_row_that_was_marked_stays_marked(before: Stage, column: str, told: dict[str, Any]) -> None:
    await before.shop()
    await before.sql("INSERT INTO skus VALUES (1, 'org_1', 1, 'a')")
    await before.sql(f"UPDATE streamhub.outbox SET {column} = true")
    if column == "too_large":  # such a row has what tells whose it is, and no more
        await before.sql("""UPDATE streamhub.outbox SET new_row = '{"id":1,"organization_id":"org_1"}'""")
    await migrated(before)
    (event,) = await before.relayed()
    assert {name: event[name] for name in told} == told


async def test_an_outbox_that_was_empty_goes_on_with_its_numbers(before: Stage) -> None:
    await before.shop()
    await before.sql("INSERT INTO skus VALUES (1, 'org_1', 1, 'a')", "DELETE FROM streamhub.outbox")
    await migrated(before)
    await before.sql("DELETE FROM skus")
    assert await before.rows("SELECT seq FROM streamhub.outbox") == [(2,)]


async def test_applications_that_write_meanwhile_see_no_error_and_lose_nothing(before: Stage) -> None:
    await before.shop()
    await before.sql(SHOP.replace("skus", "prices"))
    await before.add("prices")
    wrote = [0, 0, 0, 0]
    over = asyncio.Event()

    async def write(n: int) -> None:
        connection = await asyncpg.connect(before.url)
        while not over.is_set():
            wrote[n] += 1
            table = ("skus", "prices")[n % 2]
            await connection.execute(f"INSERT INTO {table} VALUES ({n} * 1000000 + {wrote[n]}, 'org_1', 1, 'a')")
        await connection.close()

    writers = [asyncio.create_task(write(n)) for n in range(len(wrote))]
    await asyncio.sleep(0.3)
    await migrated(before)
    await asyncio.sleep(0.3)
    over.set()
    await asyncio.gather(*writers)
    assert len(await before.relayed()) == sum(wrote)


async def test_a_transaction_that_is_under_way_is_waited_for_and_both_its_halves_arrive(before: Stage) -> None:
    await before.shop()
    await before.sql("BEGIN", "INSERT INTO skus VALUES (1, 'org_1', 1, 'a')")
    migrating = asyncio.create_task(migrated(before))
    await asyncio.sleep(0.3)
    assert not migrating.done()
    await before.sql("UPDATE skus SET price = 2", "COMMIT")
    await migrating
    assert kinds(await before.relayed()) == [("create", "1"), ("update", "1")]


async def test_a_partitioned_table_is_captured_on(before: Stage) -> None:
    await before.sql(
        "CREATE TABLE skus (id int, organization_id text, PRIMARY KEY (id)) PARTITION BY RANGE (id)",
        "CREATE TABLE skus_low PARTITION OF skus FOR VALUES FROM (0) TO (10)",
    )
    await before.add()
    await before.sql("INSERT INTO skus VALUES (1, 'org_1')")
    await migrated(before)
    await before.sql("INSERT INTO skus VALUES (2, 'org_1')", "TRUNCATE skus")
    assert kinds(await before.relayed()) == [("create", "1"), ("create", "2"), ("destroy", "1"), ("destroy", "2")]


async def test_a_role_that_may_not_lock_a_captured_table_can_migrate(before: Stage) -> None:
    await before.shop()
    role = f"migrator_{await before.value('SELECT pg_backend_pid()')}"
    await before.sql(f"CREATE ROLE {role}")
    try:
        await before.sql(
            f"GRANT USAGE, CREATE ON SCHEMA streamhub TO {role}", f"GRANT SELECT, TRIGGER ON skus TO {role}",
        )  # fmt: skip
        for kind, name in await before.rows(
            """SELECT CASE relkind WHEN 'r' THEN 'TABLE' ELSE 'SEQUENCE' END, oid::regclass::text FROM pg_class c
               WHERE relnamespace = 'streamhub'::regnamespace AND relkind IN ('r', 'S')
                 AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.deptype IN ('a', 'i')
                                 AND d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass)
               UNION ALL SELECT 'FUNCTION', oid::regprocedure::text FROM pg_proc
               WHERE pronamespace = 'streamhub'::regnamespace"""
        ):
            await before.sql(f"ALTER {kind} {name} OWNER TO {role}")
        await before.sql(f"SET ROLE {role}")
        assert await migrate.migrate_source(before.connection) == ["0004_narrow_outbox.sql"]
        await before.sql("RESET ROLE", "INSERT INTO skus VALUES (1, 'org_1', 1, 'a')")
        assert kinds(await before.relayed()) == [("create", "1")]
    finally:
        await before.sql("RESET ROLE", f"DROP OWNED BY {role} CASCADE", f"DROP ROLE {role}")
