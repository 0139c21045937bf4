"""Who may publish, and that nothing else can be done by it."""

from collections.abc import AsyncIterator
from typing import Final

import asyncpg
import pytest

from streamhub.postgres.migrate import CAPTURE_ROLE
from tests.integration.capture.roles import Attacker, Role, attacker, role
from tests.support.stage import SHOP, Stage, kinds, one

PUBLISH: Final = "SELECT streamhub.publish('org_1', 'query.received', '{\"a\": 1.50}', publish_id => 'p1')"


@pytest.fixture
async def publisher(stage: Stage) -> AsyncIterator[Role]:
    async with role(stage, "publisher") as publisher:
        await stage.sql(f"GRANT streamhub_publisher TO {publisher.name}")
        yield publisher


async def test_a_publisher_publishes(stage: Stage, publisher: Role) -> None:
    await publisher.sql(PUBLISH)
    one(await stage.relayed())


FORBIDDEN: Final = (
    "SELECT FROM streamhub.outbox",
    "SELECT FROM streamhub.publish_ids",
    "SELECT FROM streamhub.captures",
    "SELECT FROM streamhub_hub.history",
    "INSERT INTO streamhub.outbox (origin) VALUES ('published')",
    "INSERT INTO streamhub.publish_ids VALUES ('org_1', false, 'p')",
    "DELETE FROM streamhub.publish_ids",
    "SELECT nextval('streamhub.outbox_seq_seq')",
    "CREATE TABLE streamhub.theirs ()",
    "CREATE FUNCTION streamhub.publish(text) RETURNS text LANGUAGE sql AS 'SELECT NULL::text'",
    "SELECT streamhub.write_published('org_1', false, '{gap}', '{1}', '{NULL}', '{NULL}', '{p}')",
    "SELECT streamhub.columns_ever(0)",
    "SET ROLE streamhub_capture",
)


async def test_a_publisher_may_do_nothing_else(publisher: Role) -> None:
    for statement in FORBIDDEN:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await publisher.sql(statement)


async def test_a_publisher_has_a_right_on_no_object_of_the_schema_but_one_function(stage: Stage) -> None:
    assert await stage.rows(
        """SELECT 'function ' || proname FROM pg_proc WHERE pronamespace = 'streamhub'::regnamespace
             AND has_function_privilege('streamhub_publisher', oid, 'EXECUTE')
           UNION ALL SELECT 'relation ' || relname FROM pg_class WHERE relnamespace = 'streamhub'::regnamespace
             AND relacl::text LIKE '%streamhub_publisher%'"""
    ) == [("function publish",)]


async def test_a_publisher_that_owns_a_captured_table_writes_no_changes_of_another(
    stage: Stage, publisher: Role
) -> None:
    """It may use the schema, and run the trigger function of its own table, to make partitions of it."""
    await stage.sql(f"{SHOP} PARTITION BY RANGE (id)")
    await stage.add()
    await publisher.sql(
        "CREATE SCHEMA app",
        "CREATE TABLE app.mine (id int PRIMARY KEY, organization_id text) PARTITION BY RANGE (id)",
        f"GRANT USAGE ON SCHEMA app TO {CAPTURE_ROLE}",
    )
    await stage.add("app.mine", resource_type="mine")
    await publisher.sql("CREATE TABLE app.mine_1 PARTITION OF app.mine FOR VALUES FROM (0) TO (10)")
    for function in ("capture_1", "capture_truncate", "capture_nothing"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await publisher.sql(f"CREATE TRIGGER t AFTER INSERT ON app.mine EXECUTE FUNCTION streamhub.{function}()")
    await publisher.sql(
        "CREATE TABLE app.other (id int, organization_id text)",
        "CREATE TRIGGER t AFTER INSERT ON app.other FOR EACH ROW EXECUTE FUNCTION streamhub.capture_2()",
        "INSERT INTO app.other VALUES (7, 'org_1')",
    )
    (event,) = await stage.relayed()
    assert (event["type"], event["resource"], event["delta"]) == ("mine.create", None, None)
    assert (await stage.add("app.mine", resource_type="mine", exclude=["organization_id"])).state == "replaced"


@pytest.mark.parametrize("other", ["streamhub_capture", None])
async def test_a_role_that_is_no_publisher_cannot_publish(stage: Stage, other: str | None) -> None:
    async with role(stage, "other") as its:
        await stage.sql(f"GRANT USAGE ON SCHEMA streamhub TO {its.name}")
        if other is not None:
            await stage.sql(f"GRANT {other} TO {its.name}")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await its.sql(PUBLISH)


async def test_what_publishes_belongs_to_the_owner_of_the_outbox(stage: Stage) -> None:
    assert await stage.rows(
        """SELECT proname::text, proowner = relowner, prosecdef
           FROM pg_proc JOIN pg_class c ON c.oid = 'streamhub.outbox'::regclass
           WHERE pronamespace = relnamespace AND proname LIKE '%publish%' ORDER BY 1"""
    ) == [("publish", True, True), ("write_published", True, False)]


SHADOWS: Final = (
    ("format", "text, VARIADIC text[]", "text"),
    ("length", "text", "int"),
    ("left", "text, int", "text"),
    ("octet_length", "text", "int"),
    ("current_setting", "text, boolean", "text"),
    ("clock_timestamp", "", "timestamptz"),
    ("json_build_object", "VARIADIC text[]", "json"),
    ("gen_random_uuid", "", "uuid"),
    ("getdatabaseencoding", "", "name"),
    ("unnest", "text[]", "text"),
    ("write_published", "text, boolean, text[], text[], text[], text[], text[]", "void"),
)


@pytest.fixture
async def app(stage: Stage) -> AsyncIterator[Attacker]:
    async with attacker(stage) as app:
        await stage.sql(f"GRANT streamhub_publisher TO {app.name}")
        yield app


async def test_no_code_of_the_publisher_runs_with_other_rights(stage: Stage, app: Attacker) -> None:
    """Functions, operators, casts and tables under the names that the function uses, first in the search_path."""
    await app.sql("ALTER FUNCTION app.attack SET search_path = pg_catalog")  # or it would run the others
    for function, arguments, result in SHADOWS:
        await app.sql(
            f"CREATE FUNCTION app.{function}({arguments}) RETURNS {result} LANGUAGE plpgsql AS "
            f"$$ BEGIN PERFORM app.attack('{function}'); RETURN{'' if result == 'void' else ' NULL'}; END $$"
        )
    await app.sql(
        "CREATE FUNCTION app.op(text, text) RETURNS boolean LANGUAGE plpgsql AS "
        "$$ BEGIN PERFORM app.attack('operator'); RETURN false; END $$",
        "CREATE OPERATOR app.= (LEFTARG = text, RIGHTARG = text, FUNCTION = app.op)",
        "CREATE OPERATOR app.!~ (LEFTARG = text, RIGHTARG = text, FUNCTION = app.op)",
        "CREATE DOMAIN app.id AS text CHECK (app.op(VALUE, VALUE) IS NOT NULL)",
        "CREATE TABLE app.outbox (origin text, who text, old_row text, new_row text)",
        "SET search_path = app, pg_temp, pg_catalog",
        "SELECT streamhub.publish('org_1'::app.id, 'a.b'::app.id, '1'::json, NULL, 'r', 'p')",
    )
    event = one(await stage.relayed())
    assert (event["type"], event["resource_id"], event["publish_id"], event["data"]) == ("a.b", "r", "p", 1)
    assert kinds([event]) == [("b", "r")]
    assert await app.got_nothing()
