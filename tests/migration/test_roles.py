"""Whose the schemas and the role of the trigger functions may be."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest

from streamhub import capture
from streamhub.capture import CaptureSpec
from streamhub.errors import UserError
from streamhub.postgres.migrate import CAPTURE_ROLE, PUBLISHER_ROLE, SCHEMAS, migrate_source
from tests.integration.capture.roles import Role, role
from tests.migration.conftest import NewDatabase
from tests.migration.test_migrate import MIGRATE
from tests.support.stage import Stage

FAKES = {
    "empty": "SELECT",
    "a table of migrations": "CREATE TABLE {schema}.migrations (name text PRIMARY KEY, digest text NOT NULL)",
    "a function that ours call": (
        "CREATE FUNCTION {schema}.columns_ever(relation oid) RETURNS smallint LANGUAGE sql AS 'SELECT 1::smallint'"
    ),
    "a view of captures": "CREATE VIEW {schema}.captures AS SELECT 1 AS id",
    "given to every role": "GRANT ALL ON SCHEMA {schema} TO PUBLIC",
    "a table of migrations and all rights": (
        "CREATE TABLE {schema}.migrations (name text PRIMARY KEY, digest text NOT NULL); "
        "GRANT ALL ON ALL TABLES IN SCHEMA {schema} TO PUBLIC; GRANT ALL ON SCHEMA {schema} TO PUBLIC"
    ),
}


@pytest.fixture
async def bare(new_database: NewDatabase) -> AsyncIterator[Stage]:
    url = await new_database()
    connection = await asyncpg.connect(url)
    yield Stage(url, connection)
    connection.terminate()


async def objects(stage: Stage, schema: str) -> list[tuple[Any, ...]]:
    return await stage.rows(
        "SELECT relname::text FROM pg_class WHERE relnamespace = to_regnamespace($1) "
        "UNION ALL SELECT proname FROM pg_proc WHERE pronamespace = to_regnamespace($1) ORDER BY 1", schema,
    )  # fmt: skip


@pytest.mark.parametrize("fake", FAKES.values(), ids=FAKES.keys())
@pytest.mark.parametrize("kind", MIGRATE)
async def test_a_schema_that_another_role_made_first_is_refused_and_left_as_it_is(
    bare: Stage, kind: str, fake: str
) -> None:
    async with role(bare, "squatter") as squatter:
        await squatter.sql(f"CREATE SCHEMA {SCHEMAS[kind]}", fake.format(schema=SCHEMAS[kind]))
        before = await objects(bare, SCHEMAS[kind])
        with pytest.raises(UserError) as refused:
            await MIGRATE[kind](bare.connection)
        assert squatter.name in str(refused.value)
        assert "\n" not in str(refused.value)
        assert await objects(bare, SCHEMAS[kind]) == before


@pytest.mark.parametrize("kind", MIGRATE)
async def test_a_schema_is_refused_though_the_squatter_gave_it_away_to_a_role_that_is_no_superuser(
    bare: Stage, kind: str
) -> None:
    async with role(bare, "squatter") as squatter, role(bare, "hub") as hub:
        await squatter.sql(f"CREATE SCHEMA {SCHEMAS[kind]}")
        await bare.sql(f"GRANT {squatter.name} TO {hub.name}")
        with pytest.raises(UserError, match="belongs to"):
            await MIGRATE[kind](hub.connection)


@pytest.mark.parametrize("kind", MIGRATE)
async def test_a_schema_with_another_roles_objects_and_no_migrations_is_refused(bare: Stage, kind: str) -> None:
    await bare.sql(f"CREATE SCHEMA {SCHEMAS[kind]}", f"CREATE TABLE {SCHEMAS[kind]}.theirs ()")
    with pytest.raises(UserError, match="holds objects that are not streamhub's"):
        await MIGRATE[kind](bare.connection)


@pytest.mark.parametrize("kind", MIGRATE)
async def test_an_empty_schema_that_the_same_role_made_is_used(bare: Stage, kind: str) -> None:
    await bare.sql(f"CREATE SCHEMA {SCHEMAS[kind]}")
    assert await MIGRATE[kind](bare.connection)


@asynccontextmanager
async def altered(stage: Stage, *statements: str, back: str) -> AsyncIterator[None]:
    """Other databases of the server have the same role."""
    await stage.sql(*statements)
    try:
        yield
    finally:
        await stage.sql(back)


RIGHTS = {
    "LOGIN": (f"ALTER ROLE {CAPTURE_ROLE} LOGIN", f"ALTER ROLE {CAPTURE_ROLE} NOLOGIN"),
    "SUPERUSER": (f"ALTER ROLE {CAPTURE_ROLE} SUPERUSER", f"ALTER ROLE {CAPTURE_ROLE} NOSUPERUSER"),
    "CREATEROLE": (f"ALTER ROLE {CAPTURE_ROLE} CREATEROLE", f"ALTER ROLE {CAPTURE_ROLE} NOCREATEROLE"),
    "CREATEDB": (f"ALTER ROLE {CAPTURE_ROLE} CREATEDB", f"ALTER ROLE {CAPTURE_ROLE} NOCREATEDB"),
    "REPLICATION": (f"ALTER ROLE {CAPTURE_ROLE} REPLICATION", f"ALTER ROLE {CAPTURE_ROLE} NOREPLICATION"),
    "a member": (f"GRANT pg_read_all_data TO {CAPTURE_ROLE}", f"REVOKE pg_read_all_data FROM {CAPTURE_ROLE}"),
}


@pytest.mark.parametrize(("alter", "back"), RIGHTS.values(), ids=RIGHTS.keys())
async def test_a_role_of_that_name_with_rights_is_refused_in_a_sentence_that_takes_them(
    bare: Stage, template: str, alter: str, back: str
) -> None:
    async with altered(bare, alter, back=back):
        with pytest.raises(UserError, match=f"ALTER ROLE {CAPTURE_ROLE} ") as refused:
            await migrate_source(bare.connection)
        assert "\n" not in str(refused.value)
        assert await objects(bare, "streamhub") == []
    assert await migrate_source(bare.connection)


async def test_a_role_that_may_not_make_roles_is_told_what_a_superuser_does_and_then_migrates(
    bare: Stage, template: str
) -> None:
    async with (
        altered(
            bare, f"ALTER ROLE {CAPTURE_ROLE} RENAME TO others_{CAPTURE_ROLE}",
            back=f"ALTER ROLE others_{CAPTURE_ROLE} RENAME TO {CAPTURE_ROLE}",
        ),
        role(bare, "hub") as hub,
    ):  # fmt: skip
        try:
            with pytest.raises(UserError, match="As a superuser: ") as refused:
                await migrate_source(hub.connection)
            assert "\n" not in str(refused.value)
            await bare.sql(str(refused.value).partition("As a superuser: ")[2])
            await works(bare, hub)
        finally:
            await bare.sql(f"DROP OWNED BY {hub.name}, {CAPTURE_ROLE} CASCADE", f"DROP ROLE {CAPTURE_ROLE}")


async def test_a_role_that_is_not_in_the_role_of_the_functions_is_told_so_and_then_migrates(
    bare: Stage, template: str
) -> None:
    async with role(bare, "hub") as hub:
        with pytest.raises(UserError, match=f"GRANT {CAPTURE_ROLE} TO {hub.name}"):
            await migrate_source(hub.connection)
        await bare.sql(f"GRANT {CAPTURE_ROLE} TO {hub.name}")
        await works(bare, hub)


async def test_a_role_that_may_make_roles_and_is_no_superuser_migrates_by_itself(bare: Stage, template: str) -> None:
    async with (
        altered(
            bare, f"ALTER ROLE {CAPTURE_ROLE} RENAME TO others_{CAPTURE_ROLE}",
            back=f"ALTER ROLE others_{CAPTURE_ROLE} RENAME TO {CAPTURE_ROLE}",
        ),
        role(bare, "hub", "CREATEROLE") as hub,
    ):  # fmt: skip
        try:
            await works(bare, hub)
        finally:
            await bare.sql(f"DROP OWNED BY {hub.name}, {CAPTURE_ROLE} CASCADE", f"DROP ROLE {CAPTURE_ROLE}")


async def works(stage: Stage, hub: Role) -> None:
    """It migrates, finds nothing to do after, and captures a table of its own."""
    assert await migrate_source(hub.connection)
    assert await migrate_source(hub.connection) == []
    await hub.sql("CREATE SCHEMA app", "CREATE TABLE app.t (id int PRIMARY KEY, organization_id text)")
    await capture.add(hub.connection, CaptureSpec("app.t", "t", organization_column="organization_id"))
    await hub.sql("INSERT INTO app.t VALUES (1, 'org_1')", "TRUNCATE app.t")
    assert await stage.value("SELECT count(*) FROM streamhub.outbox") == 2
    await capture.remove(hub.connection, "app.t")


async def test_a_dump_that_was_restored_without_owners_gets_its_functions_owner_back(
    bare: Stage, template: str
) -> None:
    await migrate_source(bare.connection)
    await bare.sql("CREATE TABLE t (id int PRIMARY KEY, organization_id text)")
    spec = CaptureSpec("t", "t", organization_column="organization_id")
    await capture.add(bare.connection, spec)
    await bare.sql("ALTER FUNCTION streamhub.capture_truncate() OWNER TO CURRENT_USER")
    assert await migrate_source(bare.connection) == ["functions"]
    owners = await bare.rows(
        "SELECT DISTINCT proowner::regrole::text FROM pg_proc WHERE pronamespace = 'streamhub'::regnamespace "
        "AND prosecdef AND proname <> 'publish'"
    )
    assert owners == [(CAPTURE_ROLE,)]


async def test_what_publishes_goes_to_the_owner_of_the_outbox_whoever_migrates(bare: Stage, template: str) -> None:
    owners = "SELECT DISTINCT proowner::regrole::text FROM pg_proc WHERE proname IN ('publish', 'write_published')"
    signature = "streamhub.publish(text, text, json, text, text, text, boolean)"
    async with role(bare, "hub") as hub:
        await bare.sql(f"GRANT {CAPTURE_ROLE} TO {hub.name}")
        await migrate_source(hub.connection)
        assert await bare.rows(owners) == [(hub.name,)]
        await bare.sql(f"ALTER FUNCTION {signature} OWNER TO CURRENT_USER")
        assert await migrate_source(bare.connection) == ["functions"]
        assert await bare.rows(owners) == [(hub.name,)]


async def test_a_role_that_may_not_make_the_publishers_role_is_told_what_a_superuser_does(
    bare: Stage, template: str
) -> None:
    others = f"others_{PUBLISHER_ROLE}"
    async with role(bare, "hub") as hub:
        await bare.sql(f"GRANT {CAPTURE_ROLE} TO {hub.name}")
        async with altered(
            bare,
            f"ALTER ROLE {PUBLISHER_ROLE} RENAME TO {others}",
            back=f"ALTER ROLE {others} RENAME TO {PUBLISHER_ROLE}",
        ):
            with pytest.raises(UserError, match=f"As a superuser: CREATE ROLE {PUBLISHER_ROLE} ") as refused:
                await migrate_source(hub.connection)
            assert "\n" not in str(refused.value)
            assert await objects(bare, "streamhub") == []
