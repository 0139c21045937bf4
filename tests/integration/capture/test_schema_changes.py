"""ALTER TABLE at any moment: no writer fails, no excluded value leaks, and values keep the type that they had."""

import asyncio
import random

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamhub import capture
from streamhub.capture import CaptureSpec
from tests.support.stage import Stage, kinds, one, running

TABLE = "CREATE TABLE t (id int PRIMARY KEY, organization_id text, a text, secret text, b text)"


async def captured(stage: Stage) -> None:
    await stage.sql(TABLE)
    await stage.add("t", exclude=["secret"])


async def leaked(stage: Stage) -> list[bytes]:
    return [frame for frame in await stage.frames() if b"SECRET" in frame]


async def test_an_excluded_column_stays_excluded_through_a_rename(stage: Stage) -> None:
    await captured(stage)
    async with stage.relaying():
        await stage.sql("ALTER TABLE t RENAME secret TO code", "INSERT INTO t VALUES (1, 'org_1', 'a', 'SECRET', 'b')")
        await stage.drained()
    event = one(await stage.new_events())
    assert event["resource"] == {"id": 1, "organization_id": "org_1", "a": "a", "b": "b"}


async def test_a_redacted_column_stays_redacted_through_a_rename(stage: Stage) -> None:
    await stage.sql(TABLE)
    await stage.add("t", redact=["secret"])
    await stage.sql("ALTER TABLE t RENAME secret TO code", "INSERT INTO t VALUES (1, 'org_1', 'a', 'SECRET', 'b')")
    assert one(await stage.relayed())["resource"]["code"] == "[REDACTED]"


async def test_a_rename_in_a_backlog_costs_neither_side_its_other_columns(stage: Stage) -> None:
    await captured(stage)
    await stage.sql(
        "INSERT INTO t VALUES (1, 'org_1', 'a', 'SECRET', 'b')",
        "ALTER TABLE t RENAME secret TO code",
        "INSERT INTO t VALUES (2, 'org_1', 'a', 'SECRET', 'b')",
    )
    events = await stage.relayed()
    assert [list(event["resource"]) for event in events] == [["id", "organization_id", "a", "b"]] * 2


async def test_two_columns_that_swapped_their_names_in_a_backlog_leak_nothing(stage: Stage) -> None:
    await captured(stage)
    swap = "ALTER TABLE t RENAME {0} TO x; ALTER TABLE t RENAME {1} TO {0}; ALTER TABLE t RENAME x TO {1}"
    for number in range(3):
        # What stands in the fourth place is the secret, however it is called.
        await stage.sql(f"INSERT INTO t VALUES ({number}, 'org_1', 'a', 'SECRET', 'b')", swap.format("a", "secret"))
    await stage.relayed()
    assert await leaked(stage) == []


async def test_a_name_that_passed_to_a_new_column_in_a_backlog_leaks_nothing(stage: Stage) -> None:
    await stage.sql("CREATE TABLE t (id int PRIMARY KEY, organization_id text, a text, secret text)")
    await stage.add("t", exclude=["secret"])
    await stage.sql(
        "INSERT INTO t VALUES (1, 'org_1', 'old', 'SECRET')",
        # From here on the excluded column is called a, and a new one has the excluded one's former name.
        "ALTER TABLE t DROP a",
        "ALTER TABLE t RENAME secret TO a",
        "ALTER TABLE t ADD secret text",
        "INSERT INTO t VALUES (2, 'org_1', 'SECRET', 'new')",
    )
    await stage.relayed()
    assert await leaked(stage) == []


async def test_a_name_that_passed_to_a_new_column_and_back_in_a_backlog_leaks_nothing(stage: Stage) -> None:
    await stage.sql("CREATE TABLE t (id int PRIMARY KEY, organization_id text, a text, secret text)")
    await stage.add("t", exclude=["secret"])
    await stage.sql(
        "INSERT INTO t VALUES (1, 'org_1', 'old', 'SECRET')",
        "ALTER TABLE t DROP a",
        "ALTER TABLE t RENAME secret TO a",
        "ALTER TABLE t ADD secret text",
        "INSERT INTO t VALUES (2, 'org_1', 'SECRET', 'new')",
        "ALTER TABLE t DROP secret",
        "ALTER TABLE t RENAME a TO b",
    )
    await stage.relayed()
    assert await leaked(stage) == []


async def test_a_backlog_from_before_a_column_was_replaced_keeps_its_values(stage: Stage) -> None:
    await captured(stage)
    await stage.sql(
        "INSERT INTO t VALUES (1, 'org_1', 'a', 'SECRET', 'b')",
        "ALTER TABLE t DROP a, ADD c text",
        "INSERT INTO t VALUES (2, 'org_1', 'SECRET', 'b', 'c')",
    )
    events = await stage.relayed()
    assert [event["resource"] for event in events] == [
        {"id": 1, "organization_id": "org_1", "a": "a", "b": "b"},
        {"id": 2, "organization_id": "org_1", "b": "b", "c": "c"},
    ]


async def test_a_column_that_was_added_and_dropped_long_ago_does_not_hide_what_came_later(stage: Stage) -> None:
    await stage.sql("CREATE TABLE t (id int PRIMARY KEY, organization_id text, a text, secret text)")
    await stage.add("t", exclude=["secret"])
    async with stage.relaying():
        await stage.sql("ALTER TABLE t ADD x text", "ALTER TABLE t DROP x", "ALTER TABLE t DROP a, ADD c text")
        await stage.sql("INSERT INTO t VALUES (1, 'org_1', 'SECRET', 'c')")
        await stage.drained()
    assert await leaked(stage) == []
    assert one(await stage.new_events())["resource"] == {"id": 1, "organization_id": "org_1", "c": "c"}


@pytest.mark.parametrize("alter", ["DROP a, ADD c text", "ADD x text", "RENAME a TO z", "DROP b"])
async def test_a_writer_whose_snapshot_is_older_than_an_alter_leaks_nothing(stage: Stage, alter: str) -> None:
    """Under REPEATABLE READ it sees the catalog as it was, and the table as it is."""
    await captured(stage)
    await stage.sql("CREATE TABLE other ()")
    writer = await asyncpg.connect(stage.url)
    await writer.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT FROM other")
    await stage.sql(f"ALTER TABLE t {alter}", "ALTER TABLE t ADD y text", "ALTER TABLE t DROP y")
    columns = {"a": "'a'", "secret": "'SECRET'", "b": "'b'", "c": "'c'", "z": "'z'", "x": "'x'"}
    names = [name for (name,) in await stage.rows(
        "SELECT attname FROM pg_attribute WHERE attrelid = 't'::regclass AND attnum > 0 AND attname = ANY($1)",
        list(columns),
    )]  # fmt: skip
    await writer.execute(
        f"INSERT INTO t (id, organization_id, {', '.join(names)}) "
        f"VALUES (1, 'org_1', {', '.join(columns[name] for name in names)}); COMMIT"
    )
    await writer.close()
    assert kinds(await stage.relayed()) == [("create", "1")]
    assert await leaked(stage) == []


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.just(0), st.just(0)),
        st.tuples(st.just("relay"), st.just(0), st.just(0)),
        st.tuples(st.just("rename"), st.integers(0, 5), st.integers(0, 5)),
        st.tuples(st.just("drop"), st.integers(0, 5), st.just(0)),
        st.tuples(st.just("add"), st.integers(0, 5), st.just(0)),
        st.tuples(st.just("rewrite"), st.just(0), st.just(0)),
    ),
    min_size=3,
    max_size=14,
)
NAMES = ["a", "b", "c", "d", "e", "f"]


@pytest.mark.runs_once
@settings(max_examples=25, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
async def test_no_excluded_value_leaks_when_columns_are_renamed_dropped_and_added(
    stage: Stage, steps: list[tuple[str, int, int]]
) -> None:
    connection = stage.connection
    await stage.sql(
        "DROP TABLE IF EXISTS t; TRUNCATE streamhub.outbox, streamhub_hub.history, streamhub.shapes",
        "CREATE TABLE t (id serial PRIMARY KEY, organization_id text DEFAULT 'org_1', a text, b text, c text)",
    )
    await capture.add(connection, CaptureSpec("t", "t", organization_column="organization_id", exclude=["b"]))
    names = {"a": False, "b": True, "c": False}  # in the order of positions: whether it holds the secret
    writes = 0
    for step, first, second in steps:
        name, other = NAMES[first], NAMES[second]
        if step == "write":
            values = [f"'SECRET{writes}'" if secret else f"'public{writes}'" for secret in names.values()]
            await connection.execute(
                f"INSERT INTO t ({', '.join(['id', *names])}) VALUES ({', '.join([str(writes), *values])})"
            )
            writes += 1
        elif step == "rename" and name in names and other not in names:
            await connection.execute(f"ALTER TABLE t RENAME {name} TO {other}")
            names = {(other if each == name else each): secret for each, secret in names.items()}
        elif step == "drop" and name in names:
            await connection.execute(f"ALTER TABLE t DROP {name}")
            del names[name]
        elif step == "add" and name not in names:
            await connection.execute(f"ALTER TABLE t ADD {name} text")
            names[name] = False
        elif step == "rewrite":
            await connection.execute("VACUUM FULL t")
        elif step == "relay":
            async with running(stage.relay()):
                await stage.drained()
    async with running(stage.relay()):
        await stage.drained()
    assert await leaked(stage) == []
    assert len(await stage.frames()) == writes


@pytest.mark.parametrize("relayed_between", [True, False])
async def test_values_keep_the_type_that_their_column_had_when_they_were_written(
    stage: Stage, relayed_between: bool
) -> None:
    await stage.sql("CREATE TABLE t (id int PRIMARY KEY, organization_id text, n int, secret text)")
    await stage.add("t", exclude=["secret"])
    shown = []
    for number, type_ in enumerate(("int", "bigint", "numeric(10,1)", "text", "int")):
        await stage.sql(
            f"ALTER TABLE t ALTER n TYPE {type_} USING n::numeric::{type_}",
            f"INSERT INTO t VALUES ({number}, 'org_1', 7, 'SECRET')",
        )
        if relayed_between:
            shown += await stage.relayed()
    shown += await stage.relayed()
    if relayed_between:
        assert [event["resource"]["n"] for event in shown] == [7, "7", "7.0", "7", 7]
    else:  # a type that was gone when the row was read: as a string, or left out, but never as a number to be rounded
        assert shown[0]["resource"]["n"] == 7
        assert shown[4]["resource"]["n"] == 7
    assert await leaked(stage) == []


async def test_a_column_that_is_added_appears_and_one_that_is_dropped_goes(stage: Stage) -> None:
    await captured(stage)
    async with stage.relaying():
        await stage.sql(
            "INSERT INTO t VALUES (1, 'org_1', 'a', 'SECRET', 'b')",
            "ALTER TABLE t ADD c bigint DEFAULT 5",
            "UPDATE t SET a = 'x'",
            "ALTER TABLE t DROP b",
            "UPDATE t SET a = 'y'",
        )
        await stage.drained()
    events = await stage.new_events()
    assert [list(event["resource"]) for event in events] == [
        ["id", "organization_id", "a", "b"],
        ["id", "organization_id", "a", "b", "c"],
        ["id", "organization_id", "a", "c"],
    ]
    assert events[1]["delta"] == {"a": {"from": "a", "to": "x"}}


async def test_altering_a_table_under_writers_fails_none_of_them_and_leaks_nothing(stage: Stage) -> None:
    await stage.sql(
        "CREATE TABLE t (id int PRIMARY KEY, organization_id text, n int, secret text, a text)",
        "INSERT INTO t SELECT i, 'org_1', 0, 'SECRET', 'a' FROM generate_series(1, 20) AS i",
    )
    await stage.add("t", exclude=["secret"])
    done = asyncio.Event()
    writes = 0

    async def write(seed: int) -> None:
        nonlocal writes
        chance = random.Random(seed)
        writer = await asyncpg.connect(stage.url, statement_cache_size=0)
        while not done.is_set():
            await writer.execute(f"UPDATE t SET n = n + 1 WHERE id = {chance.randint(1, 20)}")
            writes += 1
        await writer.close()

    alters = [
        "ALTER TABLE t ADD extra text DEFAULT 'e'", "ALTER TABLE t ALTER n TYPE bigint", "ALTER TABLE t RENAME a TO z",
        "ALTER TABLE t RENAME secret TO a", "ALTER TABLE t ALTER n TYPE numeric", "ALTER TABLE t DROP extra",
        "ALTER TABLE t RENAME a TO secret", "ALTER TABLE t RENAME z TO a",
        "ALTER TABLE t ALTER n TYPE int USING n::int",
    ]  # fmt: skip
    async with stage.relaying():
        writers = [asyncio.create_task(write(seed)) for seed in range(3)]
        try:
            for _ in range(4):
                for alter in alters:
                    await stage.sql(alter)
                    assert not any(writer.done() for writer in writers), writers
        finally:
            done.set()
            await asyncio.gather(*writers)
        await stage.drained()
    assert len(await stage.new_events()) == writes
    assert await leaked(stage) == []


async def test_an_alter_in_the_transaction_that_wrote_keeps_its_changes(stage: Stage) -> None:
    await captured(stage)
    await stage.sql(
        "BEGIN; INSERT INTO t VALUES (1, 'org_1', 'a', 'SECRET', 'b'); ALTER TABLE t ADD c int; "
        "UPDATE t SET c = 1; ALTER TABLE t RENAME b TO bb; UPDATE t SET c = 2; COMMIT"
    )
    assert kinds(await stage.relayed()) == [("create", "1"), ("update", "1"), ("update", "1")]


async def test_a_captured_table_that_is_dropped_in_a_backlog_leaves_its_changes(stage: Stage) -> None:
    await captured(stage)
    await stage.sql("INSERT INTO t VALUES (1, 'org_1', 'a', 'SECRET', 'b')", "DROP TABLE t")
    assert kinds(await stage.relayed()) == [("create", "1")]


async def test_a_field_that_is_added_to_a_composite_type_does_not_stop_the_line(stage: Stage) -> None:
    await stage.sql(
        "CREATE TYPE size AS (width bigint)", "CREATE TABLE t (id int PRIMARY KEY, organization_id text, s size)"
    )
    await stage.add("t")
    async with stage.relaying():
        await stage.sql("INSERT INTO t VALUES (1, 'org_1', ROW(1))")
        await stage.drained()
        await stage.sql("ALTER TYPE size ADD ATTRIBUTE height bigint", "INSERT INTO t VALUES (2, 'org_1', ROW(1, 2))")
        await stage.drained()
    events = await stage.new_events()
    assert [event["resource"]["s"] for event in events] == [{"width": "1"}, {"width": "1", "height": "2"}]


async def test_a_key_column_that_is_dropped_makes_rows_unattributable_and_is_told(stage: Stage) -> None:
    await captured(stage)
    await stage.sql("ALTER TABLE t DROP id", "INSERT INTO t VALUES ('org_1', 'a', 'SECRET', 'b')")
    assert await stage.relayed() == []
    assert (await stage.counters())["unattributable"] == 1
    assert len(await stage.incidents("poison")) == 1
