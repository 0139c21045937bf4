"""A role that has exactly the rights that the documentation and our refusals name can do what they are for."""

from collections.abc import AsyncIterator

import asyncpg
import pytest

from streamhub import capture
from streamhub.capture import CaptureSpec, Progress, faults
from streamhub.errors import UserError
from streamhub.postgres import connections
from streamhub.postgres.migrate import CAPTURE_ROLE, PUBLISHER_ROLE, migrate_source
from tests.integration.capture.roles import Role, role, url_of
from tests.support.database import Connection
from tests.support.stage import Stage, kinds

TABLES = {
    "table": "CREATE TABLE app.skus (id int PRIMARY KEY, organization_id text, note text)",
    "partitions": """
        CREATE TABLE app.skus (id int PRIMARY KEY, organization_id text, note text) PARTITION BY RANGE (id);
        CREATE TABLE app.skus_1 PARTITION OF app.skus FOR VALUES FROM (0) TO (100)
    """,
}
EACH_TABLE = pytest.mark.parametrize("table", TABLES)
SPEC = CaptureSpec("app.skus", "skus", organization_column="organization_id")
ROW = "INSERT INTO app.skus VALUES (1, 'org_1', 'a')"


def silent(_: Progress) -> None:
    pass


def grants(table: str, rights: str, to: str) -> str:
    """On the table and, where it has one, on its partition."""
    return "; ".join(
        f"GRANT {rights} ON {name} TO {to}"
        for name in (["app.skus", "app.skus_1"] if table == "partitions" else ["app.skus"])
    )


@pytest.fixture
async def owner(stage: Stage) -> AsyncIterator[Role]:
    """The application's role, which owns its schema and tables."""
    async with role(stage, "owner") as owner:
        await owner.sql("CREATE SCHEMA app")
        yield owner


@pytest.fixture
async def hub(stage: Stage) -> AsyncIterator[Role]:
    """CREATE on the database, and the role of the trigger functions; it made the schema of the source."""
    await stage.sql("DROP SCHEMA streamhub CASCADE")
    async with role(stage, "hub") as hub:
        await stage.sql(f"GRANT {CAPTURE_ROLE} TO {hub.name}")
        connection = await connections.connect(url_of(stage.url, hub.name))
        await migrate_source(connection)
        yield hub._replace(connection=connection)
        await connection.close()


async def documented(owner: Role, hub: Role, table: str) -> None:
    """What docs/operate/deploy.md names for a table that another role owns."""
    await owner.sql(
        TABLES[table],
        f"GRANT USAGE ON SCHEMA app TO {CAPTURE_ROLE}",
        grants(table, "TRIGGER", hub.name),
        grants(table, "SELECT", CAPTURE_ROLE),
    )


@EACH_TABLE
async def test_a_table_of_another_role_is_captured_with_the_documented_rights(
    stage: Stage, owner: Role, hub: Role, table: str
) -> None:
    await documented(owner, hub, table)
    result = await capture.add(hub.connection, SPEC)
    assert result.state == "added"
    assert "does not own app.skus" in result.warnings[0]
    await owner.sql(ROW, "UPDATE app.skus SET note = 'b'", "TRUNCATE app.skus")
    assert kinds(await stage.relayed()) == [("create", "1"), ("update", "1"), ("destroy", "1")]


@EACH_TABLE
async def test_a_capture_is_replaced_with_the_documented_rights(
    stage: Stage, owner: Role, hub: Role, table: str
) -> None:
    await documented(owner, hub, table)
    await capture.add(hub.connection, SPEC)
    assert (await capture.add(hub.connection, SPEC)).state == "unchanged"
    assert (await capture.add(hub.connection, SPEC._replace(exclude=["note"]))).state == "replaced"
    await owner.sql(ROW, "TRUNCATE app.skus")
    events = await stage.relayed()
    assert kinds(events) == [("create", "1"), ("destroy", "1")]
    assert [set(event["resource"]) for event in events] == [{"id", "organization_id"}] * 2


@EACH_TABLE
async def test_a_capture_is_removed_with_the_documented_rights(
    stage: Stage, owner: Role, hub: Role, table: str
) -> None:
    await documented(owner, hub, table)
    await capture.add(hub.connection, SPEC)
    result = await capture.remove(hub.connection, "app.skus")
    assert "!streamhub" in result.warnings[0]
    await owner.sql(ROW, "UPDATE app.skus SET note = 'b'", "TRUNCATE app.skus")
    assert await stage.value("SELECT count(*) FROM streamhub.outbox") == 0
    assert await faults(hub.connection) == []


@EACH_TABLE
async def test_a_capture_that_was_removed_is_added_again_with_the_documented_rights(
    stage: Stage, owner: Role, hub: Role, table: str
) -> None:
    await documented(owner, hub, table)
    await capture.add(hub.connection, SPEC)
    await capture.remove(hub.connection, "app.skus")
    assert (await capture.add(hub.connection, SPEC)).state == "added"
    await owner.sql(ROW, "TRUNCATE app.skus")
    assert kinds(await stage.relayed()) == [("create", "1"), ("destroy", "1")]


@EACH_TABLE
async def test_what_is_left_of_a_removed_capture_its_owner_can_drop(
    stage: Stage, owner: Role, hub: Role, table: str
) -> None:
    await documented(owner, hub, table)
    await capture.add(hub.connection, SPEC)
    await capture.remove(hub.connection, "app.skus")
    for name, of in await stage.rows(
        "SELECT tgname, tgrelid::regclass::text FROM pg_trigger WHERE tgname LIKE '!streamhub%' AND tgparentid = 0"
    ):
        await owner.sql(f'DROP TRIGGER "{name}" ON {of}')
    await owner.sql(ROW)


@EACH_TABLE
async def test_faults_are_found_with_the_documented_rights(stage: Stage, owner: Role, hub: Role, table: str) -> None:
    await documented(owner, hub, table)
    await capture.add(hub.connection, SPEC)
    assert await faults(hub.connection) == []
    await owner.sql("ALTER TABLE app.skus DISABLE TRIGGER ALL")
    assert "disabled" in (await faults(hub.connection))[0].fault


@EACH_TABLE
async def test_a_backfill_needs_select_and_update_and_no_more(stage: Stage, owner: Role, hub: Role, table: str) -> None:
    await documented(owner, hub, table)
    await owner.sql(ROW)
    await capture.add(hub.connection, SPEC)
    with pytest.raises(UserError, match=r"GRANT SELECT, UPDATE ON app\.skus"):
        await capture.backfill(hub.connection, "app.skus", report=silent)
    await owner.sql(f"GRANT USAGE ON SCHEMA app TO {hub.name}", grants(table, "SELECT, UPDATE", hub.name))
    assert (await capture.backfill(hub.connection, "app.skus", report=silent)).rows == 1
    assert kinds(await stage.relayed()) == [("create", "1")]


MISSING = {
    "TRIGGER": "REVOKE TRIGGER ON app.skus FROM {hub}",
    "SELECT for the trigger functions": f"REVOKE SELECT ON app.skus FROM {CAPTURE_ROLE}",
    "USAGE for the trigger functions": f"REVOKE USAGE ON SCHEMA app FROM {CAPTURE_ROLE}",
}


@pytest.mark.parametrize("missing", MISSING.values(), ids=MISSING.keys())
async def test_a_right_that_is_missing_is_named_in_one_sentence_that_grants_it(
    stage: Stage, owner: Role, hub: Role, missing: str
) -> None:
    await documented(owner, hub, "table")
    await owner.sql(missing.format(hub=hub.name))
    with pytest.raises(UserError) as refused:
        await capture.add(hub.connection, SPEC)
    said = str(refused.value)
    assert "\n" not in said
    assert await stage.value("SELECT count(*) FROM streamhub.captures") == 0
    assert "GRANT " in said
    statement = "GRANT " + said.partition("GRANT ")[2].replace(" TO it", f" TO {hub.name}")
    await owner.sql(statement)
    assert (await capture.add(hub.connection, SPEC)).state == "added"


async def test_a_truncate_that_lost_its_right_since_is_told_with_the_grant(
    stage: Stage, owner: Role, hub: Role
) -> None:
    await documented(owner, hub, "table")
    await capture.add(hub.connection, SPEC)
    await owner.sql(f"REVOKE SELECT ON app.skus FROM {CAPTURE_ROLE}", ROW, "TRUNCATE app.skus")
    (fault,) = await faults(hub.connection)
    assert "may not be read" in fault.fault
    await owner.sql(fault.remedy, ROW, "TRUNCATE app.skus")
    assert await faults(hub.connection) == []
    assert kinds(await stage.relayed()) == [("create", "1"), ("create", "1"), ("destroy", "1")]
    assert len(await stage.incidents("poison")) == 1


async def test_the_tables_owner_turns_the_triggers_to_always_by_what_is_said(
    stage: Stage, owner: Role, hub: Role
) -> None:
    await documented(owner, hub, "table")
    await capture.add(hub.connection, SPEC)
    assert await faults(hub.connection) == []  # what it may not do is no fault
    await owner.sql('ALTER TABLE app.skus ENABLE ALWAYS TRIGGER "!streamhub"')
    assert await faults(hub.connection) == []


async def enabled(connection: Connection) -> list[str]:
    rows = await connection.fetch("SELECT tgenabled::text FROM pg_trigger WHERE tgname LIKE '!streamhub%'")
    return [row["tgenabled"] for row in rows]


async def test_a_role_that_is_a_member_of_the_owner_makes_the_triggers_fire_always(
    stage: Stage, owner: Role, hub: Role
) -> None:
    await documented(owner, hub, "table")
    await stage.sql(f"GRANT {owner.name} TO {hub.name}")
    assert (await capture.add(hub.connection, SPEC)).warnings == []
    assert await enabled(stage.connection) == ["A", "A"]
    assert (await capture.remove(hub.connection, "app.skus")).warnings == []
    assert await enabled(stage.connection) == []


async def test_the_hubs_role_publishes_and_gives_an_application_the_right_to(
    stage: Stage, owner: Role, hub: Role
) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await owner.sql("SELECT streamhub.publish('org_1', 'a.b', '1')")
    await stage.sql(f"GRANT {PUBLISHER_ROLE} TO {owner.name}")
    await owner.sql("SELECT streamhub.publish('org_1', 'a.b', '1')")
    await hub.sql("SELECT streamhub.publish('org_1', 'a.c', '2')")
    assert [event["type"] for event in await stage.relayed()] == ["a.b", "a.c"]
