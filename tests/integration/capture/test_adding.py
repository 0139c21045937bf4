"""`capture add`, `remove` and `list`: what is refused, in one sentence each, and that it is all or nothing."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from streamhub import capture
from streamhub.capture import CaptureSpec, faults
from streamhub.errors import UserError
from tests.support.stage import SHOP, Stage, kinds, one, until


async def nothing_was_done(stage: Stage) -> bool:
    return not await stage.value(
        "SELECT (SELECT count(*) FROM streamhub.captures) + (SELECT count(*) FROM streamhub.shapes) "
        "+ (SELECT count(*) FROM pg_trigger WHERE tgname LIKE '!streamhub%')"
    )


SETTING = """
CREATE TABLE skus (id bigint PRIMARY KEY, organization_id text, price numeric, note text);
CREATE TABLE keyless (organization_id text);
CREATE VIEW a_view AS SELECT * FROM skus;
CREATE MATERIALIZED VIEW a_matview AS SELECT * FROM skus;
CREATE SEQUENCE a_sequence;
CREATE TEMP TABLE a_temp (id int PRIMARY KEY, organization_id text);
CREATE TABLE parted (id int PRIMARY KEY, organization_id text) PARTITION BY RANGE (id);
CREATE TABLE a_part PARTITION OF parted FOR VALUES FROM (1) TO (2);
CREATE FOREIGN DATA WRAPPER nothing; CREATE SERVER nowhere FOREIGN DATA WRAPPER nothing;
CREATE FOREIGN TABLE a_foreign (id int, organization_id text) SERVER nowhere;
CREATE INDEX an_index ON skus (price);
"""


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"table": "nowhere"}, "no table 'nowhere'"),
        ({"table": "nowhere.skus"}, "no table 'nowhere.skus'"),
        ({"table": ""}, "''"),
        ({"table": "a b c"}, "'a b c'"),
        ({"table": "skus;"}, "'skus;'"),
        ({"table": "a.b.c.d"}, "'a.b.c.d'"),
        ({"table": "other.public.skus"}, "'other.public.skus'"),
        ({"table": '"unclosed'}, "unclosed"),
        ({"table": "sk\0us"}, "is not the name of a table"),
        ({"table": "a_view"}, "a_view is a view"),
        ({"table": "a_matview"}, "a materialized view"),
        ({"table": "a_sequence"}, "a sequence"),
        ({"table": "a_temp"}, "a temporary table"),
        ({"table": "a_part"}, "capture parted"),
        ({"table": "a_foreign"}, "a foreign table"),
        ({"table": "an_index"}, "an index"),
        ({"table": "pg_catalog.pg_class"}, "pg_catalog"),
        ({"table": "streamhub.outbox"}, "belongs to streamhub"),
        ({"table": "streamhub_hub.history"}, "belongs to streamhub_hub"),
        ({"table": "keyless"}, "keyless has no primary key"),
        ({"organization_column": "organisation_id"}, "did you mean 'organization_id'?"),
        ({"organization_column": "xyz"}, "it has id, organization_id, price, note"),
        ({"exclude": ["pirce"]}, "--exclude: skus has no column 'pirce'; did you mean 'price'?"),
        ({"redact": ["ctid"]}, "--redact: skus has no column 'ctid'"),
        ({"id_columns": ["idd"]}, "--id-column: skus has no column 'idd'; did you mean 'id'?"),
        ({"test_column": "nope"}, "--test-column: skus has no column 'nope'"),
        ({"test_column": "note"}, "is not a boolean"),
        ({"anonymization_column": "noted"}, "did you mean 'note'?"),
        ({"organization_column": None}, "--org-column"),
        ({"organization_id": "org_1", "organization_column": "organization_id"}, "--org"),
        ({"test": True, "test_column": "note"}, "--test"),
        ({"resource_type": ""}, "'' is not a type"),
        ({"resource_type": "sk us"}, "'sk us' is not a type"),
        ({"resource_type": "skus."}, "'skus.' is not a type"),
        ({"resource_type": "skus\n"}, "is not a type"),
        ({"resource_type": "x" * 256}, "at most 255"),
        ({"type_names": {"update": "product.heartbeat"}}, "'heartbeat' is the name of a control frame"),
        ({"type_names": {"update": "stream_complete"}}, "control frame"),
        ({"type_names": {"updated": "product.updated"}}, "'updated' is not an event of a row"),
        ({"type_names": {"update": "product..updated"}}, "'product..updated' is not a type"),
    ],
)
async def test_what_cannot_be_captured_is_refused_in_one_sentence_and_nothing_is_done(
    stage: Stage, options: dict[str, Any], said: str
) -> None:
    await stage.sql(SETTING)
    spec = {"table": "skus", "resource_type": "skus", "organization_column": "organization_id", **options}
    with pytest.raises(UserError) as refused:
        await capture.add(stage.connection, CaptureSpec(**spec))
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)
    assert await nothing_was_done(stage)


@pytest.fixture
async def role(stage: Stage) -> AsyncIterator[str]:
    """A role that may do nothing at first; roles belong to the whole server."""
    name = f"role_of_{await stage.value('SELECT current_database()')}"
    await stage.sql(f"CREATE ROLE {name} LOGIN PASSWORD 'x'", f"GRANT CREATE, USAGE ON SCHEMA public TO {name}")
    yield name
    await stage.sql("RESET ROLE", f"DROP OWNED BY {name}", f"DROP ROLE {name}")


async def test_a_role_without_a_right_on_the_table_is_told_which_one_it_lacks(stage: Stage, role: str) -> None:
    await stage.sql(SHOP, f"GRANT USAGE ON SCHEMA streamhub TO {role}", f"SET ROLE {role}")
    with pytest.raises(UserError, match="GRANT TRIGGER ON skus"):
        await stage.add()
    await stage.sql("RESET ROLE")
    assert await nothing_was_done(stage)


async def test_a_role_that_knows_nothing_of_streamhub_cannot_add_a_capture(stage: Stage, role: str) -> None:
    await stage.sql(f"SET ROLE {role}", SHOP)
    with pytest.raises(UserError) as refused:
        await stage.add()
    assert "\n" not in str(refused.value)
    await stage.sql("RESET ROLE")
    assert await nothing_was_done(stage)


async def test_a_table_whose_row_level_security_hides_rows_from_the_functions_is_refused(stage: Stage) -> None:
    await stage.sql(SHOP, "ALTER TABLE skus ENABLE ROW LEVEL SECURITY", "ALTER ROLE streamhub_capture NOBYPASSRLS")
    try:
        with pytest.raises(UserError, match=r"row-level security.*ALTER ROLE streamhub_capture BYPASSRLS"):
            await stage.add()
        assert await nothing_was_done(stage)
    finally:
        await stage.sql("ALTER ROLE streamhub_capture BYPASSRLS")


async def test_a_table_whose_row_level_security_we_bypass_is_captured(stage: Stage) -> None:
    await stage.shop()
    await stage.sql("ALTER TABLE skus ENABLE ROW LEVEL SECURITY", "ALTER TABLE skus FORCE ROW LEVEL SECURITY")
    assert (await stage.add(redact=["note"])).state == "replaced"
    await stage.sql("INSERT INTO skus VALUES (1, 'org_1', 1, 'a')", "TRUNCATE skus")
    assert kinds(await stage.relayed()) == [("create", "1"), ("destroy", "1")]


async def test_a_role_without_any_right_on_our_schema_goes_on_writing(stage: Stage, role: str) -> None:
    await stage.shop()
    await stage.sql(f"GRANT ALL ON skus TO {role}", f"SET ROLE {role}")
    await stage.sql(
        "INSERT INTO skus VALUES (1, 'org_1', 1, 'a')", "UPDATE skus SET price = 2", "SET TimeZone = 'Asia/Tokyo'",
        "UPDATE skus SET note = repeat(md5(random()::text), 5000)", "UPDATE skus SET price = 3", "DELETE FROM skus",
        "INSERT INTO skus VALUES (2, 'org_1', 1, 'a')", "TRUNCATE skus",
    )  # fmt: skip
    await stage.sql("RESET ROLE")
    assert len(await stage.relayed()) == 7


READS = [
    "SELECT * FROM streamhub.outbox",
    "SELECT * FROM streamhub.captures",
    "SELECT * FROM streamhub.shapes",
    "INSERT INTO streamhub.outbox (origin) VALUES ('1:1:1:1:')",
    "SELECT last_value FROM streamhub.outbox_seq_seq",
    "SELECT streamhub.row_text(ROW(1))",
    "SELECT streamhub.identity_query(1, 1, 'x')",
    "SELECT streamhub.capture_nothing()",
    "SELECT * FROM streamhub_hub.history",
    "SELECT * FROM streamhub_hub.organizations",
    "SELECT * FROM streamhub_hub.log_head",
    "SELECT * FROM streamhub.migrations",
]


@pytest.mark.parametrize("statement", READS)
async def test_a_role_without_rights_on_the_schema_can_read_nothing_in_it(
    stage: Stage, role: str, statement: str
) -> None:
    await stage.shop()
    await stage.sql(f"SET ROLE {role}")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await stage.sql(statement)
    await stage.sql("RESET ROLE")


async def test_a_role_cannot_reach_our_functions_through_a_trigger_of_its_own(stage: Stage, role: str) -> None:
    await stage.shop()
    await stage.sql(f"SET ROLE {role}", "CREATE TABLE mine (id int PRIMARY KEY)")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await stage.sql("CREATE TRIGGER t AFTER INSERT ON mine FOR EACH ROW EXECUTE FUNCTION streamhub.capture_1()")
    await stage.sql("RESET ROLE")


async def test_no_function_or_table_of_ours_gives_public_a_right(stage: Stage) -> None:
    granted = await stage.rows(
        """SELECT p.oid::regprocedure::text FROM pg_proc p
           WHERE p.pronamespace IN ('streamhub'::regnamespace, 'streamhub_hub'::regnamespace)
             AND EXISTS (SELECT FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) WHERE grantee = 0)
           UNION ALL
           SELECT c.oid::regclass::text FROM pg_class c
           WHERE c.relnamespace IN ('streamhub'::regnamespace, 'streamhub_hub'::regnamespace)
             AND EXISTS (SELECT FROM aclexplode(c.relacl) WHERE grantee = 0)
           UNION ALL
           SELECT nspname FROM pg_namespace WHERE nspname LIKE 'streamhub%'
             AND EXISTS (SELECT FROM aclexplode(nspacl) WHERE grantee = 0)"""
    )
    assert granted == []


async def test_every_function_that_runs_as_its_owner_has_a_fixed_search_path(stage: Stage) -> None:
    loose = await stage.rows(
        """SELECT oid::regprocedure::text FROM pg_proc WHERE prosecdef AND pronamespace = 'streamhub'::regnamespace
           AND NOT coalesce('search_path=pg_catalog, pg_temp' = ANY (proconfig), false)"""
    )
    assert loose == []


async def test_objects_in_a_writers_own_schemas_do_not_reach_into_the_trigger(stage: Stage, role: str) -> None:
    await stage.shop()
    await stage.sql(
        f"GRANT ALL ON skus TO {role}", f"SET ROLE {role}",
        "CREATE FUNCTION public.row_to_json(skus) RETURNS json LANGUAGE sql AS $$ SELECT '{}'::json $$",
        "CREATE FUNCTION public.current_setting(text) RETURNS text LANGUAGE sql AS $$ SELECT 1/0 || 'x' $$",
        "CREATE TEMP TABLE pg_class (oid oid, relnatts smallint)",
        "SET search_path = pg_temp, public, pg_catalog",
        "INSERT INTO public.skus VALUES (1, 'org_1', 1, 'a')",
        "RESET ROLE", "SET search_path = public",
    )  # fmt: skip
    assert one(await stage.relayed())["resource"]["note"] == "a"


async def test_adding_a_capture_again_with_the_same_options_changes_nothing(stage: Stage) -> None:
    await stage.shop(exclude=["note", "price"], type_names={"update": "a.b", "create": "c.d"})
    before = await stage.rows("SELECT * FROM streamhub.captures")
    result = await stage.add(exclude=["price", "note"], type_names={"create": "c.d", "update": "a.b"})
    assert result.state == "unchanged"
    assert await stage.rows("SELECT * FROM streamhub.captures") == before


async def test_adding_a_capture_again_with_other_options_replaces_it_from_then_on(stage: Stage) -> None:
    await stage.shop(exclude=["note"])
    await stage.sql("INSERT INTO skus VALUES (1, 'org_1', 1, 'a')")
    assert (await stage.add(exclude=["price"], resource_type="products")).state == "replaced"
    await stage.sql("INSERT INTO skus VALUES (2, 'org_1', 1, 'a')")
    before, after = await stage.relayed()
    assert (before["resource_type"], "note" in before["resource"]) == ("skus", False)
    assert (after["resource_type"], "price" in after["resource"]) == ("products", False)


async def test_adding_a_capture_to_a_full_table_gives_no_event(stage: Stage) -> None:
    await stage.sql(SHOP, "INSERT INTO skus VALUES (1, 'org_1', 1, 'a')")
    await stage.add()
    assert await stage.relayed() == []


async def test_a_capture_that_is_removed_gives_what_was_written_before_and_nothing_after(stage: Stage) -> None:
    await stage.shop()
    await stage.sql("INSERT INTO skus VALUES (1, 'org_1', 1, 'a')")
    assert (await capture.remove(stage.connection, "public.skus")).table == "skus"
    await stage.sql("INSERT INTO skus VALUES (2, 'org_1', 1, 'a')", "TRUNCATE skus")
    assert kinds(await stage.relayed()) == [("create", "1")]


async def test_a_capture_that_was_removed_can_be_added_again(stage: Stage) -> None:
    await stage.shop()
    await capture.remove(stage.connection, "skus")
    assert (await stage.add()).state == "added"
    await stage.sql("INSERT INTO skus VALUES (2, 'org_1', 1, 'a')")
    assert kinds(await stage.relayed()) == [("create", "2")]


@pytest.mark.parametrize("table", ["skus", "nowhere", "a b", '"unclosed'])
async def test_removing_what_is_not_captured_is_refused(stage: Stage, table: str) -> None:
    await stage.sql(SHOP)
    with pytest.raises(UserError, match="capture"):
        await capture.remove(stage.connection, table)


async def test_captures_are_listed_by_the_present_names_of_their_columns(stage: Stage) -> None:
    await stage.shop(exclude=["note"], redact=["price"])
    await stage.sql("ALTER TABLE skus RENAME note TO remark", "ALTER TABLE skus RENAME TO products")
    listed = one(await capture.list_captures(stage.connection))  # type: ignore[arg-type]
    assert (listed.table, listed.excluded, listed.redacted) == ("products", ["remark"], ["price"])  # type: ignore[attr-defined]


async def test_a_table_that_others_hold_is_left_alone(stage: Stage) -> None:
    await stage.sql(SHOP)
    other = await asyncpg.connect(stage.url)
    await other.execute("BEGIN; INSERT INTO skus VALUES (1, 'org_1', 1, 'a')")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("streamhub.capture.captures._LOCK_TIMEOUT", "50ms")
        with pytest.raises(UserError, match="nothing was changed"):
            await stage.add()
    await other.close()
    assert await nothing_was_done(stage)


async def test_a_deferrable_key_is_warned_of(stage: Stage) -> None:
    await stage.sql("CREATE TABLE t (id int PRIMARY KEY DEFERRABLE, organization_id text)")
    assert "DEFERRABLE" in (await stage.add("t")).warnings[0]


@pytest.mark.parametrize(
    ("done", "said"),
    [
        ('ALTER TABLE skus DISABLE TRIGGER "!streamhub"', "disabled"),
        ('DROP TRIGGER "!streamhub" ON skus', "no capture trigger"),
        ('DROP TRIGGER "!streamhub_truncate" ON skus', "no TRUNCATE trigger"),
        ('ALTER TABLE skus ENABLE REPLICA TRIGGER "!streamhub_truncate"', "disabled"),
        (
            'CREATE TRIGGER " first" AFTER UPDATE ON skus FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()',  # noqa: E501
            "runs before",
        ),
    ],
)
async def test_a_fault_of_the_triggers_is_found(stage: Stage, done: str, said: str) -> None:
    await stage.shop()
    assert await faults(stage.connection) == []
    await stage.sql(done)
    assert said in one(await faults(stage.connection)).fault  # type: ignore[arg-type,attr-defined]


async def test_a_table_like_another_does_not_inherit_its_capture(stage: Stage) -> None:
    await stage.shop()
    await stage.sql("CREATE TABLE copy (LIKE skus INCLUDING ALL)", "INSERT INTO copy VALUES (1, 'org_1', 1, 'a')")
    assert await stage.relayed() == []


async def test_a_table_made_anew_under_the_name_of_a_captured_one_is_not_captured(stage: Stage) -> None:
    await stage.shop()
    await stage.sql("DROP TABLE skus", SHOP, "INSERT INTO skus VALUES (1, 'org_1', 1, 'a')")
    assert await stage.relayed() == []
    assert (await stage.add()).state == "added"
    await stage.sql("INSERT INTO skus VALUES (2, 'org_1', 1, 'a')")
    assert kinds(await stage.relayed()) == [("create", "2")]


@pytest.mark.parametrize("how", ["exclude", "redact"])
async def test_a_migration_that_is_waited_for_decides_which_column_a_name_means(stage: Stage, how: str) -> None:
    await stage.sql("CREATE TABLE t (id int PRIMARY KEY, organization_id text, secret text)")
    migration = await asyncpg.connect(stage.url)
    await migration.execute("BEGIN; ALTER TABLE t RENAME secret TO former; ALTER TABLE t ADD secret text")
    adding = asyncio.create_task(stage.add("t", **{how: ["secret"]}))

    async def waits() -> bool:
        return bool(
            await migration.fetchval(
                "SELECT EXISTS (SELECT FROM pg_locks WHERE relation = 't'::regclass AND NOT granted)"
            )
        )

    await until(waits, "the command waits for the migration")
    await migration.execute("ALTER TABLE t DROP former; COMMIT")
    await adding
    await migration.execute("INSERT INTO t VALUES (1, 'org_1', 'SECRET')")
    await migration.close()
    await stage.relayed()
    (frame,) = await stage.frames()
    assert b"SECRET" not in frame
