"""No setting of a database or a role changes what the hub's sessions do, and none of their code runs in them."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from streamhub.postgres.connections import connect, create_pool
from tests.support.stage import Stage, until

HOSTILE = {
    "idle_session_timeout": "1s",
    "statement_timeout": "30ms",
    "lock_timeout": "1ms",
    "idle_in_transaction_session_timeout": "1ms",
    "transaction_timeout": "100ms",
    "default_transaction_isolation": "serializable",
    "default_transaction_read_only": "on",
    "default_transaction_deferrable": "on",
    "synchronous_commit": "off",
    "timezone": "Asia/Kathmandu",
    "datestyle": "SQL, DMY",
    "intervalstyle": "sql_standard",
    "bytea_output": "escape",
    "extra_float_digits": "-15",
    "standard_conforming_strings": "off",
    "escape_string_warning": "on",
    "backslash_quote": "on",
    "quote_all_identifiers": "on",
    "xmloption": "document",
    "xmlbinary": "hex",
    "transform_null_equals": "on",
    "array_nulls": "off",
    "row_security": "off",
    "jit": "on",
    "jit_above_cost": "0",
    "plan_cache_mode": "force_generic_plan",
    "constraint_exclusion": "off",
    "enable_indexscan": "off",
    "enable_indexonlyscan": "off",
    "enable_hashjoin": "off",
    "enable_sort": "off",
    "enable_partition_pruning": "off",
    "random_page_cost": "1000",
    "cpu_index_tuple_cost": "1000",
    "effective_cache_size": "8kB",
    "from_collapse_limit": "1",
    "join_collapse_limit": "1",
    "cursor_tuple_fraction": "1",
    "geqo_threshold": "2",
    "force_parallel_mode": "on",
    "debug_parallel_query": "on",
    "exit_on_error": "on",
    "client_min_messages": "debug5",
    "session_replication_role": "replica",
    "plpgsql.extra_errors": "all",
    "default_tablespace": "",
}
OURS = {"synchronous_commit": "on", "timezone": "UTC", "jit": "off", "random_page_cost": "1.1"}
SHADOWED = {
    "now()": "SELECT pg_catalog.now()",
    "clock_timestamp()": "SELECT pg_catalog.clock_timestamp()",
    "pg_backend_pid()": "SELECT pg_catalog.pg_backend_pid()",
    "pg_notify(text, text)": "SELECT pg_catalog.pg_notify($1, $2)",
    "set_config(text, text, boolean)": "SELECT pg_catalog.set_config($1, $2, $3)",
    "current_setting(text)": "SELECT pg_catalog.current_setting($1)",
    "coalesce_bigint(bigint)": "SELECT $1",
    "lower(text)": "SELECT pg_catalog.lower($1)",
    "count(bigint)": "SELECT $1",
}


@pytest.fixture
async def hostile(database_url: str) -> AsyncIterator[Stage]:
    """A database with another role's settings and search_path; the stage's own connection was opened before."""
    stage = Stage(database_url, await asyncpg.connect(database_url))
    await stage.shop()
    await stage.sql("CREATE SCHEMA evil", "CREATE TABLE evil.ran (what text)", "GRANT ALL ON SCHEMA evil TO PUBLIC")
    for signature, body in SHADOWED.items():
        name = signature.partition("(")[0]
        kind = await stage.value("SELECT prorettype::regtype::text FROM pg_proc WHERE proname = $1 LIMIT 1", name)
        await stage.sql(
            f"""CREATE FUNCTION evil.{signature} RETURNS {kind or "bigint"} LANGUAGE sql VOLATILE SECURITY DEFINER AS
                $f$ INSERT INTO evil.ran VALUES ('{name}'); {body} $f$"""
        )
    for left, operator, right in (("bigint", "=", "bigint"), ("text", "=", "text"), ("uuid", ">", "uuid"),
                                  ("bigint", "<", "bigint"), ("integer", "=", "integer")):  # fmt: skip
        suffix = f"{left}_{'eq' if operator == '=' else 'gt' if operator == '>' else 'lt'}"
        await stage.sql(
            f"""CREATE FUNCTION evil.op_{suffix}({left}, {right}) RETURNS boolean LANGUAGE sql VOLATILE AS $f$
                INSERT INTO evil.ran VALUES ('{operator}'); SELECT $1 OPERATOR(pg_catalog.{operator}) $2 $f$""",
            f"CREATE OPERATOR evil.{operator} (FUNCTION = evil.op_{suffix}, LEFTARG = {left}, RIGHTARG = {right})",
        )
    name = await stage.value("SELECT current_database()")
    await stage.sql(f"ALTER DATABASE {name} SET search_path = evil, pg_catalog")
    known = {row[0] for row in await stage.rows("SELECT lower(name) FROM pg_settings")}
    for setting, value in HOSTILE.items():
        if setting in known or "." in setting:
            await stage.sql(f"ALTER DATABASE {name} SET {setting} = '{value}'")
    yield stage
    stage.connection.terminate()


async def test_a_session_has_the_settings_that_ours_rest_on(hostile: Stage) -> None:
    alone = await connect(hostile.url)
    pool = await create_pool(hostile.url, "test", 1, command_timeout=30)
    for _ in range(2):  # the second time on a connection that was in the pool again
        async with pool.acquire() as connection:
            for session in (alone, connection):
                rows = await session.fetch("SELECT lower(name) AS name, setting, boot_val FROM pg_settings")
                seen = {row["name"]: row["setting"] for row in rows if row["name"] in HOSTILE}
                expected = {row["name"]: OURS.get(row["name"], row["boot_val"]) for row in rows if row["name"] in seen}
                assert seen == expected
                assert await session.fetchval("SHOW search_path") == "pg_catalog"
    await alone.close()
    await pool.close()


async def test_what_the_caller_asks_for_wins_and_stays_through_a_pool(hostile: Stage) -> None:
    asked = {"idle_in_transaction_session_timeout": "10s", "enable_seqscan": "off", "no_such_setting": "1"}
    pool = await create_pool(hostile.url, "a name", 1, command_timeout=30, server_settings=asked)
    seen = [[await pool.fetchval(f"SHOW {name}") for name in (*list(asked)[:2], "application_name")] for _ in range(2)]
    await pool.close()
    assert seen == [["10s", "off", "a name"]] * 2


async def test_a_hub_over_a_hostile_database_leads_on_and_runs_none_of_its_code(hostile: Stage) -> None:
    async with hostile.relaying():
        await hostile.sql("INSERT INTO skus VALUES (1, 'org_1', 1.5, 'a')")
        epoch = None
        for version in range(2, 6):
            await asyncio.sleep(0.7)  # idle for longer, all in all, than the database lets sessions be
            await hostile.sql(f"UPDATE skus SET price = {version}")

            async def all_are_out(seen: int = version) -> bool:
                return bool(await hostile.value("SELECT count(*) = $1 FROM streamhub_hub.history", seen))

            await until(all_are_out, "the events of the changes")
            leads = await hostile.value("SELECT epoch FROM streamhub_hub.log_head")
            epoch = epoch or leads
            assert leads == epoch
    assert await hostile.rows("SELECT DISTINCT what FROM evil.ran") == []
