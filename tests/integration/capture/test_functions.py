"""The function that a captured table's trigger has of its own: what it leaves out, and that it goes with its table."""

import pytest

from streamhub import capture
from tests.support.stage import Stage, one

PLAIN = "CREATE TABLE t (id int PRIMARY KEY, organization_id text, a int)"
SOURCE = "SELECT prosrc FROM pg_proc WHERE pronamespace = 'streamhub'::regnamespace AND proname ~ '^capture_[0-9]+$'"


async def function(stage: Stage) -> str:
    source = await stage.value(SOURCE)
    assert isinstance(source, str)
    return source


async def captured(stage: Stage, table: str = PLAIN) -> None:
    await stage.sql(table)
    await stage.add("t")


@pytest.mark.parametrize(
    ("type_", "setting"),
    [
        ("timestamptz", "TimeZone"),
        ("timestamp", "TimeZone"),
        ("timestamptz[]", "TimeZone"),
        ("bytea", "bytea_output"),
        ("float8", "extra_float_digits"),
        ("interval", "IntervalStyle"),
        ("money", "lc_monetary"),
        ("tstzrange", "DateStyle"),
        ("regclass", "quote_all_identifiers"),
    ],
)
async def test_a_setting_is_looked_at_where_a_columns_text_depends_on_it(
    stage: Stage, type_: str, setting: str
) -> None:
    await captured(stage, f"CREATE TABLE t (id int PRIMARY KEY, organization_id text, a {type_})")
    assert f"current_setting('{setting}')" in await function(stage)


async def test_a_domain_is_looked_through(stage: Stage) -> None:
    await stage.sql("CREATE DOMAIN moment AS timestamptz")
    await captured(stage, "CREATE TABLE t (id int PRIMARY KEY, organization_id text, a moment[])")
    assert "current_setting('TimeZone')" in await function(stage)


async def test_no_setting_is_looked_at_where_none_matters(stage: Stage) -> None:
    await stage.sql("CREATE TYPE size AS ENUM ('s', 'm')")
    await captured(
        stage,
        "CREATE TABLE t (id bigint PRIMARY KEY, organization_id varchar(20), a numeric(9, 2), b uuid, c jsonb, d date, "
        "e boolean, f size, g text[])",
    )
    assert (await function(stage)).count("current_setting") == 1  # streamhub.who


async def test_a_column_that_was_added_since_is_written_with_any_settings_of_the_writer(stage: Stage) -> None:
    await captured(stage)
    await stage.sql(
        "ALTER TABLE t ADD b timestamptz",
        "SET timezone = 'Asia/Tokyo'",
        "INSERT INTO t VALUES (1, 'org_1', 1, '2026-11-22T10:00:00Z')",
    )
    assert one(await stage.relayed())["resource"]["b"] == "2026-11-22T10:00:00+00:00"


async def test_a_column_of_another_type_since_is_written_with_any_settings_of_the_writer(stage: Stage) -> None:
    await captured(stage)
    await stage.sql(
        "ALTER TABLE t ALTER a TYPE bytea USING '\\x01ff'",
        "SET bytea_output = 'escape'",
        "INSERT INTO t VALUES (1, 'org_1', '\\x01ff')",
    )
    assert one(await stage.relayed())["resource"]["a"] == "Af8="


@pytest.mark.parametrize("change", ["ALTER TABLE t ADD b timestamptz", "TRUNCATE t", "VACUUM FULL t"])
async def test_the_relay_makes_the_function_anew_for_a_table_that_was_changed(stage: Stage, change: str) -> None:
    await captured(stage)
    async with stage.relaying():
        await stage.sql(change, "INSERT INTO t VALUES (1, 'org_1', 1)")
        await stage.drained()
    natts, filenode = (await stage.rows("SELECT relnatts, relfilenode FROM pg_class WHERE relname = 't'"))[0]
    source = await function(stage)
    assert f"pg_relation_filenode(TG_RELID) = {filenode} AND pg_describe_object(1259, TG_RELID, {natts + 1})" in source


async def test_a_capture_that_replaces_another_leaves_one_function(stage: Stage) -> None:
    await captured(stage)
    await stage.add("t", exclude=["a"])
    assert len(await stage.rows(SOURCE)) == 1


async def test_a_capture_that_is_removed_leaves_no_function(stage: Stage) -> None:
    await captured(stage)
    await capture.remove(stage.connection, "t")
    assert await stage.rows(SOURCE) == []


async def test_no_other_role_may_call_the_function(stage: Stage) -> None:
    await captured(stage)
    acl = await stage.value(SOURCE.replace("prosrc", "proacl::text"))
    assert not acl.startswith("{=")
    assert ",=" not in acl


async def test_an_update_that_changes_nothing_is_no_change(stage: Stage) -> None:
    await captured(stage)
    await stage.sql("INSERT INTO t VALUES (1, 'org_1', 1)", "TRUNCATE streamhub.outbox", "UPDATE t SET a = 1")
    assert await stage.value("SELECT count(*) FROM streamhub.outbox") == 0
