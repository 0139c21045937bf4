"""source/0004: triggers write to another table, under applications that go on writing, and the relay reads both."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import asyncpg
import pytest

from streamhub import migrate
from streamhub.capture import backfills
from streamhub.errors import UserError
from tests.integration.stage import SHOP, Stage, kinds, until
from tests.migration.conftest import NewDatabase

INSERT = "INSERT INTO skus VALUES ({}, 'org_1', 1, 'a')"
LARGE = "(SELECT string_agg(md5(i::text), '') FROM generate_series(1, 3000) AS i)"
WAITS = "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = $1 AND NOT granted)"
all_files = migrate._files


def files_before(kind: str) -> Iterator[tuple[str, str]]:
    return iter([(name, sql) for name, sql in all_files(kind) if kind == "hub" or name < "0004"])


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


async def test_what_waits_where_triggers_wrote_before_comes_before_what_they_write_now(before: Stage) -> None:
    await before.shop()
    await before.sql(
        INSERT.format(1), INSERT.format(2), "UPDATE skus SET price = 2 WHERE id = 1", "DELETE FROM skus WHERE id = 2"
    )
    assert await migrated(before) == ["0004_changes.sql"]
    await before.sql(INSERT.format(3), "DELETE FROM skus WHERE id = 1")
    assert await before.value("SELECT count(*) FROM streamhub.changes") == 2
    assert kinds(await before.relayed()) == [
        ("create", "1"), ("create", "2"), ("update", "1"), ("destroy", "2"), ("create", "3"), ("destroy", "1"),
    ]  # fmt: skip
    assert await before.value("SELECT count(*) FROM streamhub.waiting") == 0


async def test_a_statement_that_goes_on_with_its_former_function_keeps_its_place(before: Stage) -> None:
    await before.shop()
    await before.sql(INSERT.format(1), "CREATE TABLE written AS TABLE streamhub.outbox", "DELETE FROM streamhub.outbox")
    await migrated(before)
    await before.sql(INSERT.format(2))
    # What such a statement does: a row in the former table, with a number of the sequence that both share.
    await before.sql(
        "UPDATE written SET seq = nextval('streamhub.outbox_seq_seq')",
        "INSERT INTO streamhub.outbox OVERRIDING SYSTEM VALUE SELECT * FROM written",
        INSERT.format(3),
    )
    assert kinds(await before.relayed()) == [("create", "2"), ("create", "1"), ("create", "3")]


@pytest.mark.parametrize(
    ("column", "told"), [("too_large", {"too_large": True, "resource": None}), ("backfill", {"backfill": True})]
)
async def test_a_row_that_was_marked_stays_marked(before: Stage, column: str, told: dict[str, Any]) -> None:
    await before.shop()
    await before.sql(INSERT.format(1), f"UPDATE streamhub.outbox SET {column} = true")
    if column == "too_large":  # such a row has what tells whose it is, and no more
        await before.sql("""UPDATE streamhub.outbox SET new_row = '{"id":1,"organization_id":"org_1"}'""")
    await migrated(before)
    (event,) = await before.relayed()
    assert {name: event[name] for name in told} == told


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


async def test_a_transaction_that_is_under_way_is_not_waited_for_and_both_its_halves_arrive(before: Stage) -> None:
    await before.shop()
    await before.sql("BEGIN", INSERT.format(1))
    await migrated(before)
    await before.sql("UPDATE skus SET price = 2", "UPDATE skus SET price = 3", "COMMIT")
    assert await before.value("SELECT count(*) FROM streamhub.outbox") == 1
    assert await before.value("SELECT count(*) FROM streamhub.changes") == 2
    assert kinds(await before.relayed()) == [("create", "1"), ("update", "1"), ("update", "1")]


@pytest.mark.parametrize("batch", [1, 2, 2000])
async def test_versions_of_a_row_that_one_transaction_left_in_both_tables_come_in_their_order(
    before: Stage, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    """An application's trigger has a change of its own captured before the one that made it run."""
    monkeypatch.setattr("streamhub.relay.source.BATCH", batch)
    await before.shop()
    await before.sql(
        """CREATE FUNCTION again() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             UPDATE skus SET price = NEW.price + 1 WHERE id = NEW.id; RETURN NULL; END $$""",
        'CREATE TRIGGER "!again" AFTER UPDATE ON skus FOR EACH ROW WHEN (NEW.price < 9) EXECUTE FUNCTION again()',
        INSERT.format(1), "BEGIN", "UPDATE skus SET price = 5",
    )  # fmt: skip
    await migrated(before)
    await before.sql("UPDATE skus SET price = 7", "COMMIT")
    prices = [event["delta"]["price"] for event in await before.relayed()][1:]
    assert [(price["from"], price["to"]) for price in prices] == [
        ("1", "5"), ("5", "6"), ("6", "7"), ("7", "8"), ("8", "9"), ("9", "7"), ("7", "8"), ("8", "9"),
    ]  # fmt: skip


async def test_a_backfill_waits_for_what_is_left_where_triggers_wrote_before(
    before: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backfills, "MOST_WAITING", 0)
    await before.shop()
    await before.sql(INSERT.format(1))
    await migrated(before)
    waiting = asyncio.Event()
    sending = asyncio.create_task(
        backfills.backfill(
            before.connection, "skus", report=lambda progress: waiting.set() if progress.waiting else None
        )
    )
    await asyncio.wait_for(waiting.wait(), 10)
    async with before.relaying():
        assert (await sending).rows == 1


async def test_a_capture_that_is_added_meanwhile_waits_and_holds_up_no_writer(before: Stage) -> None:
    await before.shop()
    other = await asyncpg.connect(before.url)
    await other.execute("BEGIN; SELECT pg_advisory_xact_lock(7370101)")
    adding = asyncio.create_task(before.add(resource_type="goods"))
    await until(lambda: other.fetchval(WAITS, "advisory"), "the capture waits")
    await other.execute(INSERT.format(1), timeout=1)
    await other.execute("COMMIT")
    assert (await adding).state == "replaced"
    await other.close()


async def test_a_migration_that_meets_the_functions_in_other_hands_says_so(before: Stage) -> None:
    await before.shop()
    await before.sql("BEGIN", "SELECT streamhub.make_capture_function(1, 'skus'::regclass)")
    migrating = asyncio.create_task(migrated(before))
    await until(lambda: before.value(WAITS, "transactionid"), "the migration waits for the function")
    await before.sql("COMMIT")
    with pytest.raises(UserError, match=r"0004_changes\.sql of the source schema met another change of it"):
        await migrating
    assert await migrated(before) == ["0004_changes.sql"]


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


@pytest.fixture
async def role(before: Stage) -> AsyncIterator[str]:
    """One without rights of its own, which owns all of ours."""
    await before.shop()
    name = f"owner_{await before.value('SELECT pg_backend_pid()')}"
    await before.sql(
        f"CREATE ROLE {name}", f"GRANT USAGE, CREATE ON SCHEMA streamhub TO {name}",
        f"GRANT SELECT, TRIGGER ON skus TO {name}",
    )  # fmt: skip
    for kind, owned in await before.rows(
        """SELECT CASE relkind WHEN 'r' THEN 'TABLE' ELSE 'SEQUENCE' END, oid::regclass::text FROM pg_class c
           WHERE relnamespace = 'streamhub'::regnamespace AND relkind IN ('r', 'S')
             AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.deptype IN ('a', 'i')
                             AND d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass)
           UNION ALL SELECT 'FUNCTION', oid::regprocedure::text FROM pg_proc
           WHERE pronamespace = 'streamhub'::regnamespace"""
    ):
        await before.sql(f"ALTER {kind} {owned} OWNER TO {name}")
    yield name
    await before.sql("RESET ROLE", f"DROP OWNED BY {name} CASCADE", f"DROP ROLE {name}")


async def test_the_role_that_owns_ours_may_migrate(before: Stage, role: str) -> None:
    await before.sql(f"SET ROLE {role}")
    assert await migrate.migrate_source(before.connection) == ["0004_changes.sql"]
    await before.sql("RESET ROLE", INSERT.format(1))
    assert kinds(await before.relayed()) == [("create", "1")]


@pytest.mark.parametrize("note", ["'a'", LARGE])
async def test_what_another_role_migrated_is_written_by_the_former_owner(before: Stage, role: str, note: str) -> None:
    """The functions run as that role; a large row goes the slow way."""
    await migrated(before)
    await before.sql(f"INSERT INTO skus VALUES (1, 'org_1', 1, {note})")
    assert kinds(await before.relayed()) == [("create", "1")]
