"""Backfill: every row as it stands, together with other changes of the table."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest

from streamhub.capture import BackfillResult, Progress, backfill, backfills, reading
from streamhub.errors import UserError
from streamhub.relay.source import PIECE
from tests.support.stage import SHOP, Event, Stage, kinds, one, until

FILL = "INSERT INTO skus SELECT i, 'org_1', 1.50, 'note ' || i FROM generate_series(1, {}) AS i"


def silent(progress: Progress) -> None:
    pass


async def send(stage: Stage, table: str = "skus", **options: Any) -> BackfillResult:
    """A backfill over a connection of its own, as the command has it."""
    connection = await asyncpg.connect(stage.url)
    try:
        return await backfill(connection, table, report=options.pop("report", silent), **options)
    finally:
        await connection.close()


async def filled(stage: Stage, rows: int, **options: Any) -> None:
    """The table of most tests with rows from before it was captured."""
    await stage.sql(SHOP, FILL.format(rows))
    await stage.add(**options)


def small_batches(monkeypatch: pytest.MonkeyPatch, rows: int = 10) -> None:
    monkeypatch.setattr(reading, "BATCH", rows)


async def test_every_row_is_sent_as_a_create_that_says_so(stage: Stage) -> None:
    await filled(stage, 2_500)
    result = await send(stage)
    assert (result.table, result.rows, result.resumed) == ("skus", 2_500, 0)
    events = await stage.relayed()
    assert [event["resource_id"] for event in events] == [str(i) for i in range(1, 2_501)]
    assert {(event["type"], event["event"], event["backfill"]) for event in events} == {("skus.create", "create", True)}
    assert list(events[0])[-1] == "backfill"
    assert events[0]["resource"] == {"id": "1", "organization_id": "org_1", "price": "1.50", "note": "note 1"}
    assert events[0]["delta"]["price"] == {"from": None, "to": "1.50"}
    assert events[0]["who"] is None


async def test_a_change_that_is_no_backfill_does_not_say_so(stage: Stage) -> None:
    await stage.shop()
    await stage.sql(FILL.format(1))
    assert "backfill" not in one(await stage.relayed())


async def test_a_batch_is_one_transaction(stage: Stage) -> None:
    await filled(stage, 2 * reading.BATCH + 50)
    await send(stage)
    sizes = await stage.rows("SELECT count(*) FROM streamhub.outbox GROUP BY xid ORDER BY xid")
    assert sizes == [(reading.BATCH,), (reading.BATCH,), (50,)]


async def test_an_empty_table_has_nothing_to_send(stage: Stage) -> None:
    await stage.shop()
    assert (await send(stage)).rows == 0


@pytest.mark.parametrize(
    ("columns", "values", "expected"),
    [
        ("a text, b int", "('x', 2), ('x', 1), ('a', 9)", ["a:9", "x:1", "x:2"]),
        ("a timestamptz, b float8", "('2026-01-01Z', 0.1), ('2025-01-01Z', '-Infinity')", None),
        ("a uuid, b bytea", "('00000000-0000-0000-0000-000000000001', '\\x00ff'), (gen_random_uuid(), '')", None),
        ("a varchar(9), b numeric", "('Zoë, \"ß\"', 1e30), ('NULL', 'NaN'), ('{}', 0)", None),
        ("a date, b interval", "('infinity', '1 mon'), ('2026-02-03', '30 days 00:00:01')", None),
    ],
)
async def test_composite_keys_are_read_in_their_indexes_order(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, columns: str, values: str, expected: list[str] | None
) -> None:
    small_batches(monkeypatch, 1)
    await stage.sql(f"CREATE TABLE skus ({columns}, PRIMARY KEY (a, b))", f"INSERT INTO skus VALUES {values}")
    await stage.add(organization_id="org_1", id_columns=["a", "b"])
    # What the session of a role that was told otherwise would have.
    name = stage.url.rpartition("/")[2]
    await stage.sql(
        f"ALTER DATABASE {name} SET datestyle = 'German'", f"ALTER DATABASE {name} SET timezone = 'Asia/Tokyo'"
    )
    await send(stage)
    events = await stage.relayed()
    assert len(events) == await stage.value("SELECT count(*) FROM skus")
    assert len({event["resource_id"] for event in events}) == len(events)
    if expected is not None:
        assert [event["resource_id"] for event in events] == expected
    if "timestamptz" in columns:
        assert {event["resource"]["a"][-6:] for event in events} == {"+00:00"}


async def test_a_capture_by_other_columns_is_read_in_the_order_of_the_primary_key(stage: Stage) -> None:
    await stage.sql("CREATE TABLE skus (id int PRIMARY KEY, code text)", "INSERT INTO skus VALUES (1, 'b'), (2, NULL)")
    await stage.add(organization_id="org_1", id_columns=["code"])
    assert (await send(stage)).rows == 2


async def test_a_table_without_a_unique_index_is_refused(stage: Stage) -> None:
    await stage.sql("CREATE TABLE skus (code text)")
    await stage.add(organization_id="org_1", id_columns=["code"])
    with pytest.raises(UserError, match="skus has no unique index on NOT NULL columns"):
        await send(stage)


async def test_large_rows_go_in_smaller_batches_and_too_large_ones_without_their_values(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "BATCH_BYTES", 200_000)
    await stage.sql(SHOP, "ALTER TABLE skus ALTER COLUMN note SET STORAGE EXTERNAL", FILL.format(5))
    await stage.sql(
        "UPDATE skus SET note = repeat('x', 150000) WHERE id <= 4", "UPDATE skus SET price = 2 WHERE id = 5"
    )
    await stage.add()
    await send(stage)
    sizes = await stage.rows("SELECT count(*) FROM streamhub.outbox GROUP BY xid ORDER BY xid")
    assert [size for (size,) in sizes] == [2, 2, 1]
    stage.max_event_bytes = 100_000
    events = await stage.relayed()
    assert [event.get("too_large", False) for event in events] == [True, True, True, True, False]
    assert all(event["backfill"] for event in events)
    assert events[0]["resource"] is None


async def test_a_row_too_long_for_the_outbox_is_told_by_its_key(stage: Stage) -> None:
    await stage.sql(SHOP, "INSERT INTO skus VALUES (1, 'org_1', 1, repeat('x', 70000000))")
    await stage.add()
    await send(stage)
    event = one(await stage.relayed())
    assert (event["resource_id"], event["resource"], event["organization"]["id"]) == ("1", None, "org_1")
    assert list(event)[-2:] == ["too_large", "backfill"]


async def test_excluded_redacted_and_null_organizations_are_as_for_any_change(stage: Stage) -> None:
    await stage.sql(SHOP, FILL.format(3), "UPDATE skus SET organization_id = NULL WHERE id = 2")
    await stage.add(exclude=["price"], redact=["note"])
    await send(stage)
    events = await stage.relayed()
    assert [event["resource_id"] for event in events] == ["1", "3"]
    assert events[0]["resource"] == {"id": "1", "organization_id": "org_1", "note": "[REDACTED]"}
    assert (await stage.counters())["null_organization"] == 1


async def test_each_leaf_of_a_partitioned_table_is_read_in_its_own_shape(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_batches(monkeypatch, 2)
    await stage.sql(
        """CREATE TABLE orders (id bigint, organization_id text, secret text, total numeric, PRIMARY KEY (id))
           PARTITION BY RANGE (id)""",
        "CREATE TABLE orders_1 PARTITION OF orders FOR VALUES FROM (0) TO (100)",
        "CREATE TABLE orders_2 (total numeric, gone int, id bigint NOT NULL, organization_id text, secret text)",
        "ALTER TABLE orders_2 DROP COLUMN gone",
        "ALTER TABLE orders ATTACH PARTITION orders_2 FOR VALUES FROM (100) TO (200)",
        """INSERT INTO orders SELECT i, 'org_1', 'SECRET', i FROM generate_series(98, 103) AS i""",
    )
    await stage.add("orders", resource_type="orders", exclude=["secret"])
    await stage.sql("ALTER TABLE orders ALTER COLUMN total TYPE bigint")
    assert (await send(stage, "orders")).rows == 6
    events = await stage.relayed()
    assert [event["resource_id"] for event in events] == [str(i) for i in range(98, 104)]
    for event in events:
        assert event["resource"] == {
            "id": event["resource_id"], "organization_id": "org_1", "total": event["resource_id"],
        }  # fmt: skip


async def test_partitions_may_come_and_go_meanwhile(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    small_batches(monkeypatch)
    monkeypatch.setattr(backfills, "MAX_OUTBOX_ROWS", 20)
    columns = "(id bigint, organization_id text, PRIMARY KEY (id))"
    await stage.sql(
        f"CREATE TABLE attached {columns}",
        f"CREATE TABLE orders {columns} PARTITION BY RANGE (id)",
        "CREATE TABLE orders_1 PARTITION OF orders FOR VALUES FROM (0) TO (100)",
        "CREATE TABLE orders_2 PARTITION OF orders FOR VALUES FROM (100) TO (200)",
        "INSERT INTO orders SELECT i, 'org_1' FROM generate_series(0, 199) AS i",
        "INSERT INTO attached SELECT i, 'org_1' FROM generate_series(200, 204) AS i",
    )
    await stage.add("orders", resource_type="orders")
    waiting = asyncio.Event()
    task = asyncio.create_task(
        send(stage, "orders", report=lambda progress: waiting.set() if progress.waiting else None)
    )
    await asyncio.wait_for(waiting.wait(), 10)
    await stage.sql(
        "DROP TABLE orders_1", "ALTER TABLE orders ATTACH PARTITION attached FOR VALUES FROM (200) TO (300)"
    )
    async with stage.relaying():
        result = await asyncio.wait_for(task, 30)
        await stage.drained()
    assert result.rows == 30 + 100 + 5
    assert {event["resource_id"] for event in await stage.new_events()} >= {str(i) for i in range(100, 205)}


async def test_renames_meanwhile_do_not_matter(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    small_batches(monkeypatch)
    monkeypatch.setattr(backfills, "MAX_OUTBOX_ROWS", 20)
    await filled(stage, 100, exclude=["note"])
    waiting = asyncio.Event()
    task = asyncio.create_task(send(stage, report=lambda progress: waiting.set() if progress.waiting else None))
    await asyncio.wait_for(waiting.wait(), 10)
    await stage.sql("ALTER TABLE skus RENAME TO items", "ALTER TABLE items RENAME note TO remark")
    await stage.sql("CREATE TABLE skus AS SELECT id + 1000 AS id, note AS secret FROM items AS x (id, o, p, note)")
    async with stage.relaying():
        assert (await asyncio.wait_for(task, 30)).rows == 100
        await stage.drained()
    events = await stage.new_events()
    assert kinds(events) == [("create", str(i)) for i in range(1, 101)]
    assert not [event for event in events if {"note", "remark"} & set(event["resource"])]


async def test_a_stopped_one_goes_on_where_it_was(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    small_batches(monkeypatch)
    await filled(stage, 95)

    def stop(progress: Progress) -> None:
        if progress.rows >= 40:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await send(stage, report=stop)
    result = await send(stage)
    assert (result.rows, result.resumed) == (55, 40)
    assert kinds(await stage.relayed()) == [("create", str(i)) for i in range(1, 96)]


async def test_a_finished_one_and_a_restarted_one_begin_at_the_first_row(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_batches(monkeypatch)
    await filled(stage, 25)
    await send(stage)
    assert (await send(stage)).rows == 25
    await stage.sql("UPDATE streamhub.backfills SET finished_at = NULL, done = '{}'")
    result = await send(stage, restart=True)
    assert (result.rows, result.resumed) == (25, 0)


async def test_it_waits_while_the_outbox_is_full(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    small_batches(monkeypatch)
    monkeypatch.setattr(backfills, "MAX_OUTBOX_ROWS", 20)
    await filled(stage, 60)
    full = asyncio.Event()
    task = asyncio.create_task(send(stage, report=lambda progress: full.set() if progress.waiting else None))
    await asyncio.wait_for(full.wait(), 10)
    assert await stage.value("SELECT count(*) FROM streamhub.outbox") == 30
    async with stage.relaying():
        assert (await asyncio.wait_for(task, 30)).rows == 60


async def test_the_rate_is_kept(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    small_batches(monkeypatch)
    await filled(stage, 100)
    result = await send(stage, rate=100)
    assert 0.8 < result.seconds < 3


@pytest.mark.runs_once
async def test_at_a_low_rate_a_batch_holds_its_rows_no_longer(stage: Stage) -> None:
    await filled(stage, 1_000)
    task = asyncio.create_task(send(stage, rate=250))  # four seconds' worth
    while not task.done():
        await asyncio.wait_for(stage.sql("UPDATE skus SET note = note || '.' WHERE id = 1"), 2)
        await asyncio.sleep(0.01)
        await asyncio.sleep(0.02)
    assert (await task).rows == 1_000


async def test_what_was_sent_is_appended_in_pieces(stage: Stage) -> None:
    await filled(stage, 1_000)
    await send(stage)
    await stage.relayed()
    appends = "SELECT count(DISTINCT left(id::text, 13)) FROM streamhub_hub.history"  # one millisecond each
    assert await stage.value(appends) == 1_000 / PIECE


async def test_a_locked_row_holds_up_no_other_and_is_sent_as_it_is_then(stage: Stage) -> None:
    await filled(stage, 100)
    writer = await asyncpg.connect(stage.url)
    transaction = writer.transaction()
    await transaction.start()
    await writer.execute("UPDATE skus SET note = 'newer' WHERE id IN (7, 8)")
    await writer.execute("DELETE FROM skus WHERE id = 9")
    task = asyncio.create_task(send(stage))

    async def the_rest_is_sent() -> bool:
        return bool(await stage.value("SELECT count(*) = 97 FROM streamhub.outbox"))

    await until(the_rest_is_sent, "all rows are sent but the three")
    # The batch's rows are free again, though the backfill still waits: the writer may take any of them.
    await asyncio.wait_for(writer.execute("UPDATE skus SET note = 'newer' WHERE id = 1"), 0.5)
    await asyncio.sleep(1.5)  # longer than lock_timeout
    assert not task.done()
    await transaction.commit()
    await asyncio.wait_for(task, 10)
    await writer.close()
    events = await stage.relayed()
    of = {id_: [event for event in events if event["resource_id"] == id_] for id_ in ("7", "8", "9")}
    assert [[event["event"] for event in of[id_]] for id_ in of] == [["update", "create"]] * 2 + [["destroy"]]
    assert of["7"][1]["resource"]["note"] == "newer"


async def test_locks_without_end_are_one_sentence(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backfills, "MAX_ATTEMPTS", 1)
    await filled(stage, 3)
    writer = await asyncpg.connect(stage.url)
    async with writer.transaction():
        await writer.execute("UPDATE skus SET note = 'newer' WHERE id = 2")
        with pytest.raises(UserError, match="rows of skus were locked by others"):
            await send(stage)
    await writer.close()
    assert (await send(stage)).rows == 3


@pytest.mark.runs_once
async def test_rows_are_never_stale_beside_traffic_on_the_same_rows(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A consumer that applies the events in order has, at each backfilled row, nothing yet or exactly that row."""
    small_batches(monkeypatch, 25)
    await filled(stage, 400)
    over = asyncio.Event()

    async def write(seed: int) -> None:
        chance = random.Random(seed)
        connection = await asyncpg.connect(stage.url)
        while not over.is_set():
            id_ = chance.randint(1, 400)
            try:
                async with connection.transaction():
                    for _ in range(chance.randint(1, 3)):
                        await connection.execute(
                            chance.choice(
                                (
                                    "UPDATE skus SET price = price + 1 WHERE id = $1",
                                    "UPDATE skus SET note = note || '.' WHERE id = $1",
                                    "DELETE FROM skus WHERE id = $1",
                                    "INSERT INTO skus VALUES ($1, 'org_1', 0) ON CONFLICT (id) DO UPDATE SET price = 7",
                                    "UPDATE skus SET id = id + 1000 WHERE id = $1",
                                    "UPDATE skus SET id = id - 1000 WHERE id = $1 + 1000",
                                )
                            ),
                            id_,
                        )
                        id_ = min(id_ + 1, 400)  # in key order, so that the writers do not end each other
                        await asyncio.sleep(chance.choice((0, 0, 0.005)))
                    if chance.random() < 0.1:
                        await asyncio.sleep(0.02)
                        raise RuntimeError
            except (RuntimeError, asyncpg.UniqueViolationError, asyncpg.DeadlockDetectedError):
                pass
        await connection.close()

    async with stage.relaying():
        writers = [asyncio.create_task(write(seed)) for seed in range(4)]
        for _ in range(6):
            await asyncio.wait_for(send(stage), 60)
        over.set()
        await asyncio.gather(*writers)
        await stage.drained()
    events = await stage.new_events()
    assert sum("backfill" in event for event in events) > 400
    held = applied(events)
    assert held == {
        str(row["id"]): (row["price"], row["note"])
        for row in await stage.connection.fetch("SELECT id, price::text, note FROM skus")
    }


def applied(events: Sequence[Event]) -> dict[str, tuple[str | None, str | None]]:
    held: dict[str, Event | None] = {}
    for event in events:
        id_, resource = event["resource_id"], event["resource"]
        if event.get("backfill"):
            assert held.get(id_, resource) == resource, (event, held.get(id_))  # None: it was destroyed
        elif event["event"] == "update":
            before = {name: change["from"] for name, change in event["delta"].items()}
            known = held.get(id_, {**resource, **before})
            assert known == {**resource, **before}, (event, known)
        elif event["event"] == "create":
            assert held.get(id_) is None, event
        else:
            assert held.get(id_, resource) == resource, event
            resource = None
        held[id_] = resource
    return {id_: (row["price"], row["note"]) for id_, row in held.items() if row is not None}


async def test_two_at_once_are_refused(stage: Stage) -> None:
    await filled(stage, 3)
    async with running(stage):
        with pytest.raises(UserError, match="another backfill of skus is running"):
            await send(stage)


@asynccontextmanager
async def running(stage: Stage) -> AsyncIterator[None]:
    """A backfill is under way within: it waits for a lock of the table."""
    holder = await asyncpg.connect(stage.url)
    transaction = holder.transaction()
    await transaction.start()
    await holder.execute("LOCK TABLE skus IN ACCESS EXCLUSIVE MODE")
    task = asyncio.create_task(send(stage))
    begun = "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND relation = 'skus'::regclass)"
    await until(lambda: stage.value(begun), "it waits for the table")
    yield
    await transaction.rollback()
    await holder.close()
    await task


async def test_locks_that_another_role_took_from_a_backfill_keep_the_next_one_from_nothing(stage: Stage) -> None:
    await filled(stage, 3)
    async with running(stage):
        held = "SELECT classid::bigint, objid::bigint, objsubid FROM pg_locks WHERE locktype = 'advisory' AND granted"
        locks = await stage.rows(
            f"{held} AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        )
    assert locks
    taker = await asyncpg.connect(stage.url)
    for first, second, halves in locks:
        call = f"{first}, {second}" if halves == 2 else str((first << 32) + second)
        await taker.execute(f"SELECT pg_advisory_lock({call})")
    await send(stage)
    await taker.close()


async def test_a_capture_that_is_replaced_meanwhile_ends_it(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    small_batches(monkeypatch)
    await filled(stage, 30)
    ids = await stage.value("SELECT max(id) FROM streamhub.captures")
    await stage.sql("INSERT INTO streamhub.backfills (capture) SELECT max(id) FROM streamhub.captures")
    hold = await asyncpg.connect(stage.url)
    transaction = hold.transaction()
    await transaction.start()
    await hold.execute("UPDATE streamhub.captures SET removed_at = now() WHERE id = $1", ids)
    task = asyncio.create_task(send(stage))
    waits = "FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    await until(lambda: stage.value(f"SELECT EXISTS (SELECT {waits})"), "it waits for the capture")
    await transaction.commit()
    await hold.close()
    with pytest.raises(UserError, match="was removed or replaced"):
        await task
    assert await stage.outbox_is_empty()


async def test_a_table_that_is_not_captured_is_refused(stage: Stage) -> None:
    await stage.sql(SHOP)
    with pytest.raises(UserError, match="'skus' is not captured"):
        await send(stage)


@pytest.mark.parametrize(
    ("grants", "words"),
    [
        ("GRANT SELECT ON skus TO {role}", "GRANT SELECT, UPDATE ON skus TO"),
        (
            "GRANT ALL ON skus TO {role}; ALTER TABLE skus ENABLE ROW LEVEL SECURITY",
            "row-level security that .* does not bypass",
        ),
    ],
)
async def test_a_role_that_cannot_read_and_lock_every_row_is_told_so(stage: Stage, grants: str, words: str) -> None:
    await filled(stage, 3)
    role = f"reader_{stage.url.rpartition('_')[2]}_{len(words)}"
    await stage.sql(
        f"CREATE ROLE {role}; GRANT USAGE ON SCHEMA streamhub TO {role}; "
        f"GRANT ALL ON ALL TABLES IN SCHEMA streamhub TO {role}; "
        f"GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA streamhub TO {role}; {grants.format(role=role)}"
    )
    try:
        await stage.sql(f"SET ROLE {role}")
        with pytest.raises(UserError, match=words):
            await backfill(stage.connection, "skus", report=silent)
    finally:
        await stage.sql("RESET ROLE", f"DROP OWNED BY {role}", f"DROP ROLE {role}")


async def test_a_batch_reads_no_more_than_its_rows(stage: Stage) -> None:
    """Though the planner knows nothing of the table."""
    await filled(stage, 5_000)
    capture_id = await stage.value("SELECT max(id) FROM streamhub.captures")
    oid = await stage.value("SELECT 'skus'::regclass::oid")
    leaf = await reading.leaf(stage.connection, oid, capture_id)
    assert leaf is not None
    async with stage.connection.transaction():
        await stage.connection.execute(backfills._BEGIN)
        for statement, arguments in ((leaf.end, (["100"],)), (leaf.send, (["100"], ["200"]))):
            plan = "\n".join([row[0] for row in await stage.rows(f"EXPLAIN {statement}", *arguments)])
            assert "Seq Scan on skus" not in plan, plan
            assert "Index Cond" in plan, plan
