"""Migrations: each once, in order, safely from several processes; never over another role's schema."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import asyncpg
import pytest

from streamhub import capture
from streamhub.errors import UserError
from streamhub.postgres import migrate
from tests.migration.conftest import NewDatabase

MIGRATE: dict[str, Callable[[Any], Awaitable[list[str]]]] = {
    "hub": migrate.migrate_hub, "source": migrate.migrate_source,
}  # fmt: skip


@pytest.fixture
async def bare(new_database: NewDatabase) -> "AsyncIterator[asyncpg.Connection[asyncpg.Record]]":
    connection = await asyncpg.connect(await new_database())
    yield connection
    connection.terminate()


async def schema_of(connection: Any) -> list[tuple[Any, ...]]:
    """Every object of the schemas with its definition."""
    rows = await connection.fetch(
        """SELECT 'column', format('%s.%s %s %s %s', attrelid::regclass, attname, format_type(atttypid, atttypmod),
                  attnotnull, pg_get_expr(d.adbin, d.adrelid)) AS text
           FROM pg_attribute LEFT JOIN pg_attrdef d ON d.adrelid = attrelid AND d.adnum = attnum
           JOIN pg_class c ON c.oid = attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
           WHERE n.nspname LIKE 'streamhub%' AND attnum > 0
           UNION ALL SELECT 'function', pg_get_functiondef(p.oid) FROM pg_proc p
           JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname LIKE 'streamhub%'
           UNION ALL SELECT 'index', pg_get_indexdef(i.indexrelid) FROM pg_index i
           JOIN pg_class c ON c.oid = i.indrelid JOIN pg_namespace n ON n.oid = c.relnamespace
           WHERE n.nspname LIKE 'streamhub%' ORDER BY 1, 2"""
    )
    return [tuple(row) for row in rows]


@pytest.mark.parametrize("kind", MIGRATE)
async def test_a_bare_database_gets_every_file_in_order(bare: Any, kind: str) -> None:
    pending = await migrate.pending(bare, kind)
    assert pending == sorted(pending)
    assert await MIGRATE[kind](bare) == pending
    assert await migrate.pending(bare, kind) == []


@pytest.mark.parametrize("kind", MIGRATE)
async def test_migrating_a_second_time_does_nothing(bare: Any, kind: str) -> None:
    await MIGRATE[kind](bare)
    before = await schema_of(bare)
    assert await MIGRATE[kind](bare) == []
    assert await schema_of(bare) == before


@pytest.mark.parametrize("kind", MIGRATE)
async def test_of_several_that_migrate_at_once_one_does_it_and_the_others_find_it_done(
    new_database: NewDatabase, kind: str
) -> None:
    url = await new_database()
    connections = [await asyncpg.connect(url) for _ in range(4)]
    done = await asyncio.gather(*(MIGRATE[kind](connection) for connection in connections))
    assert sorted(map(len, done))[:3] == [0, 0, 0]
    assert len(max(done, key=len)) > 0
    for connection in connections:
        await connection.close()


@pytest.mark.parametrize("kind", MIGRATE)
async def test_of_several_that_migrate_at_once_into_a_schema_that_was_made_for_them_one_does_it(
    new_database: NewDatabase, kind: str
) -> None:
    url = await new_database()
    connections = [await asyncpg.connect(url) for _ in range(4)]
    await connections[0].execute(f"CREATE SCHEMA {migrate.SCHEMAS[kind]}")
    done = await asyncio.gather(*(MIGRATE[kind](connection) for connection in connections))
    assert sorted(map(len, done))[:3] == [0, 0, 0]
    for connection in connections:
        await connection.close()


async def test_no_lock_that_another_role_holds_keeps_a_hub_from_starting_or_capturing(
    new_database: NewDatabase,
) -> None:
    url = await new_database()
    bare, holder = await asyncpg.connect(url), await asyncpg.connect(url)
    await bare.execute("CREATE TABLE skus (id int PRIMARY KEY, organization_id text); SET lock_timeout = '4s'")
    for lock in (7_370_101, 7_370_102, 7_370_103):
        await holder.execute("SELECT pg_advisory_lock($1)", lock)
    for run in MIGRATE.values():
        await run(bare)
    async with asyncio.timeout(4):  # less than any of them would wait for a lock
        for run in MIGRATE.values():
            assert await run(bare) == []
        spec = capture.CaptureSpec("skus", resource_type="skus", organization_column="organization_id")
        assert (await capture.add(bare, spec)).state == "added"
    bare.terminate()
    holder.terminate()


async def test_a_hub_and_its_source_share_a_database(bare: Any) -> None:
    assert await migrate.migrate_hub(bare)
    assert await migrate.migrate_source(bare)


@pytest.mark.parametrize("kind", MIGRATE)
async def test_a_schema_that_a_newer_version_made_is_refused_by_the_name_of_the_file(bare: Any, kind: str) -> None:
    await MIGRATE[kind](bare)
    await bare.execute(f"INSERT INTO {migrate.SCHEMAS[kind]}.migrations (name, digest) VALUES ('9999_later.sql', 'x')")
    with pytest.raises(UserError, match=r"9999_later\.sql.*newer"):
        await MIGRATE[kind](bare)


@pytest.mark.parametrize("kind", MIGRATE)
async def test_a_file_that_was_edited_after_it_ran_is_refused(bare: Any, kind: str) -> None:
    await MIGRATE[kind](bare)
    await bare.execute(f"UPDATE {migrate.SCHEMAS[kind]}.migrations SET digest = 'x'")
    with pytest.raises(UserError, match=r"was changed after it ran here.*--data-dir"):
        await MIGRATE[kind](bare)


async def test_a_migration_that_fails_leaves_nothing_behind(bare: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    files = list(migrate._files("source"))
    monkeypatch.setattr(
        migrate, "_files", lambda _: iter([*files, ("0002_broken.sql", "CREATE TABLE streamhub.x (); SELECT 1/0")])
    )
    with pytest.raises(asyncpg.DivisionByZeroError):
        await migrate.migrate_source(bare)
    assert await schema_of(bare) == []


async def test_a_migration_that_comes_later_runs_alone(bare: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    await migrate.migrate_source(bare)
    files = list(migrate._files("source"))
    monkeypatch.setattr(
        migrate, "_files", lambda _: iter([*files, ("0002_later.sql", "CREATE TABLE streamhub.later ()")])
    )
    assert await migrate.pending(bare, "source") == ["0002_later.sql"]
    assert await migrate.migrate_source(bare) == ["0002_later.sql"]


@pytest.mark.parametrize("kind", MIGRATE)
async def test_a_migration_leaves_public_without_any_right(bare: Any, kind: str) -> None:
    await MIGRATE[kind](bare)
    granted = await bare.fetch(
        """SELECT p.oid::regprocedure::text FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
           WHERE n.nspname = $1
             AND EXISTS (SELECT FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) WHERE grantee = 0)
           UNION ALL SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
           WHERE n.nspname = $1 AND EXISTS (SELECT FROM aclexplode(c.relacl) WHERE grantee = 0)
           UNION ALL SELECT nspname FROM pg_namespace
           WHERE nspname = $1 AND EXISTS (SELECT FROM aclexplode(nspacl) WHERE grantee = 0)""",
        migrate.SCHEMAS[kind],
    )
    assert granted == []


@pytest.mark.parametrize("setting", ["search_path = pg_catalog", "standard_conforming_strings = on", "role = none"])
async def test_the_schema_does_not_depend_on_the_session_that_makes_it(
    new_database: NewDatabase, bare: Any, setting: str
) -> None:
    await migrate.migrate_source(bare)
    other = await asyncpg.connect(await new_database())
    await other.execute(f"SET {setting}")
    await migrate.migrate_source(other)
    await other.execute("RESET ALL")
    assert await schema_of(other) == await schema_of(bare)
    await other.close()
