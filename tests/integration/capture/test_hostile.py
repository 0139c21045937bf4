"""What an owner of a captured table can do to its names, types and settings: none of it runs, leaks or stops."""

import asyncio
import time

import asyncpg
import pytest

from streamhub import capture
from tests.support.stage import Stage, kinds, until

BASE = "id int PRIMARY KEY, organization_id text"
BREAKING = [
    "x$capture$y",
    "\t$capture$SELECT 1--",
    "$format$",
    "' || x || '",
    '"; DROP TABLE streamhub.outbox; --',
    "%I %s %",
    "a\\'b",
]


@pytest.mark.parametrize("name", BREAKING)
async def test_no_name_of_a_column_becomes_part_of_a_trigger_functions_code(stage: Stage, name: str) -> None:
    quoted = '"' + name.replace('"', '""') + '"'
    await stage.sql(f"CREATE TABLE t ({BASE}, {quoted} jsonb)")
    await stage.add("t")
    await stage.sql("""INSERT INTO t VALUES (1, 'org_1', '{"a": 1}')""")
    (event,) = await stage.relayed()
    assert event["resource"] == {"id": 1, "organization_id": "org_1", name: {"a": 1}}


async def test_what_the_hub_calls_itself_is_not_the_trigger_roles_to_replace(stage: Stage) -> None:
    await stage.shop()
    owned = await stage.rows(
        "SELECT proname::text, prosecdef FROM pg_proc WHERE pronamespace = 'streamhub'::regnamespace "
        "AND proowner = 'streamhub_capture'::regrole ORDER BY 1"
    )
    assert all(runs_as_owner for _, runs_as_owner in owned)
    assert {name for name, _ in owned} >= {"capture_1", "capture_slowly", "capture_truncate"}


async def test_a_writer_s_reading_of_backslashes_lets_no_index_run_code_at_a_truncate(stage: Stage) -> None:
    await stage.sql(
        "DROP ROLE IF EXISTS hostile_owner",
        "CREATE ROLE hostile_owner",
        "CREATE SCHEMA h AUTHORIZATION hostile_owner",
        "SET ROLE hostile_owner",
        f"CREATE TABLE h.t ({BASE})",
        "CREATE TABLE h.ran (by text)",
        "GRANT ALL ON h.ran TO PUBLIC",
        "CREATE FUNCTION h.note(int) RETURNS int LANGUAGE plpgsql AS "
        "$$ BEGIN INSERT INTO h.ran VALUES (current_user); RETURN $1; END $$",
        "CREATE FUNCTION h.f(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN RETURN h.note($1); END $$",
        "RESET ROLE",
    )
    try:
        await stage.add("h.t")
        await stage.sql(
            "INSERT INTO h.t VALUES (1, 'org_1')",
            "SET ROLE hostile_owner",
            "CREATE INDEX ON h.t ((h.f(1)))",
            "TRUNCATE h.ran",
            "SET standard_conforming_strings = off",
            "TRUNCATE h.t",
            "RESET ALL",
            "RESET ROLE",
        )
        ran = {by for (by,) in await stage.rows("SELECT by FROM h.ran")}
        assert ran <= {"hostile_owner"}
        await stage.relayed()
        assert any("TRUNCATE" in detail for detail in await stage.incidents("poison"))
    finally:
        await stage.sql("RESET ALL", "RESET ROLE", "DROP OWNED BY hostile_owner CASCADE", "DROP ROLE hostile_owner")


async def test_a_lock_on_one_partition_does_not_keep_a_relay_from_starting(stage: Stage) -> None:
    await stage.sql(
        f"CREATE TABLE t ({BASE}) PARTITION BY RANGE (id)",
        "CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (10)",
    )
    await stage.add("t", resource_type="ts")
    await stage.shop()
    other = await asyncpg.connect(stage.url)
    await other.execute("BEGIN; LOCK TABLE t_1 IN ACCESS EXCLUSIVE MODE")
    await stage.sql("INSERT INTO skus VALUES (1, 'org_1', 1, 'a')")
    async with stage.relaying():
        await until(stage.outbox_is_empty, "the other table's change is relayed", within=15)
    other.terminate()


async def test_types_within_types_cost_an_insert_no_more_than_there_are_types(stage: Stage) -> None:
    await stage.sql("CREATE TYPE c0 AS (a int, b int, c int, d int)")
    for n in range(1, 10):
        await stage.sql(f"CREATE TYPE c{n} AS (a c{n - 1}, b c{n - 1}, c c{n - 1}, d c{n - 1})")
    await stage.sql(f"CREATE TABLE t ({BASE}, deep c9)")
    await stage.add("t")
    began = time.monotonic()
    await stage.sql(
        "INSERT INTO t VALUES (1, 'org_1', NULL)", "INSERT INTO t VALUES (2, 'org_1', ROW(NULL,NULL,NULL,NULL))"
    )
    events = await stage.relayed()
    assert time.monotonic() - began < 10
    assert [event["resource"]["deep"] for event in events] == [None, dict.fromkeys("abcd")]


@pytest.mark.parametrize("how", ["exclude", "redact"])
async def test_a_name_that_an_excluded_column_had_for_a_while_stays_excluded(stage: Stage, how: str) -> None:
    await stage.sql(f"CREATE TABLE t ({BASE}, ssn text)")
    await stage.add("t", **{how: ["ssn"]})
    async with stage.relaying():
        await stage.sql("ALTER TABLE t RENAME ssn TO tax_id", "INSERT INTO t VALUES (1, 'org_1', 'SECRET')")
        await until(stage.outbox_is_empty, "the first change is relayed")
        await stage.sql("ALTER TABLE t DROP tax_id", "ALTER TABLE t ADD tax_id text")
        await stage.sql("INSERT INTO t VALUES (2, 'org_1', 'SECRET')")
        await until(stage.outbox_is_empty, "the second change is relayed")
    assert not [frame for frame in await stage.frames() if b"SECRET" in frame]


@pytest.mark.parametrize("value", ["'true'", "'t'", "'yes'", "'false'"])
async def test_an_environment_that_is_no_boolean_any_more_is_an_error(stage: Stage, value: str) -> None:
    await stage.sql(f"CREATE TABLE t ({BASE}, test boolean)")
    await stage.add("t", test_column="test")
    await stage.sql("ALTER TABLE t ALTER test TYPE text", f"INSERT INTO t VALUES (1, 'org_1', {value})")
    (event,) = await stage.relayed()
    assert "no boolean" in event["error"]
    assert event["resource"] is None
    assert any("is not boolean any more" in fault.fault for fault in await capture.faults(stage.connection))


async def test_a_snapshot_from_before_a_column_was_dropped_still_gives_an_event(stage: Stage) -> None:
    await stage.sql(f"CREATE TYPE pair AS (x int); CREATE TABLE t ({BASE}, old int, p pair)")
    await stage.add("t")
    early = await asyncpg.connect(stage.url)
    await early.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1")
    await early.fetch("SELECT count(*) FROM pg_class")
    await stage.sql("ALTER TABLE t DROP old")
    await early.execute("INSERT INTO t VALUES (1, 'org_1', ROW(1)::pair); COMMIT")
    early.terminate()
    events = await stage.relayed()
    assert kinds(events) == [("create", "1")]


async def test_a_truncate_by_a_snapshot_from_before_the_capture_is_told(stage: Stage) -> None:
    await stage.sql(f"CREATE TABLE t ({BASE})", "INSERT INTO t VALUES (1, 'org_1')")
    early = await asyncpg.connect(stage.url)
    await early.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1")
    await early.fetch("SELECT count(*) FROM pg_class")
    await stage.add("t")
    await early.execute("TRUNCATE t; COMMIT")
    early.terminate()
    await stage.relayed()
    assert any("older than the capture" in detail for detail in await stage.incidents("poison"))


async def test_a_long_text_in_a_table_with_an_enum_delays_no_other_row(stage: Stage) -> None:
    await stage.sql("CREATE TYPE mood AS ENUM ('ok')", f"CREATE TABLE t ({BASE}, m mood, a text)")
    await stage.add("t")
    await stage.sql("INSERT INTO t VALUES (1, 'org_1', 'ok', repeat('a \"', 2000000))")
    longest = 0.0

    async def beat() -> None:
        nonlocal longest
        while True:
            began = time.monotonic()
            await asyncio.sleep(0.01)
            longest = max(longest, time.monotonic() - began)

    beating = asyncio.create_task(beat())
    (event,) = await stage.relayed()
    beating.cancel()
    assert event["resource"]["a"] == 'a "' * 2000000
    assert longest < 3  # the lease of a leader
