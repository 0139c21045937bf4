"""Every way in which rows are written is captured, and work that was rolled back never is."""

import asyncpg
import pytest

from tests.support.stage import Stage, kinds, one, rebuilt


async def test_an_insert_on_conflict_is_a_create_or_an_update(stage: Stage) -> None:
    await stage.shop()
    for price in (1, 2, 2):
        await stage.sql(
            f"INSERT INTO skus VALUES (1, 'org_1', {price}, 'a') ON CONFLICT (id) DO UPDATE SET price = EXCLUDED.price"
        )
    await stage.sql("INSERT INTO skus VALUES (1, 'org_1', 3, 'a') ON CONFLICT DO NOTHING")
    assert kinds(await stage.relayed()) == [("create", "1"), ("update", "1")]


async def test_a_copy_is_a_create_for_each_row(stage: Stage) -> None:
    await stage.shop()
    await stage.connection.copy_records_to_table("skus", records=[(n, "org_1", n, None) for n in range(5)])
    assert kinds(await stage.relayed()) == [("create", str(n)) for n in range(5)]


async def test_a_merge_is_what_it_did_to_each_row(stage: Stage) -> None:
    await stage.shop()
    await stage.sql("INSERT INTO skus SELECT i, 'org_1', 1, NULL FROM generate_series(1, 2) AS i")
    await stage.sql(
        "MERGE INTO skus USING (VALUES (1), (2), (3)) AS v (id) ON skus.id = v.id "
        "WHEN MATCHED AND v.id = 1 THEN DELETE WHEN MATCHED THEN UPDATE SET price = 2 "
        "WHEN NOT MATCHED THEN INSERT VALUES (v.id, 'org_1', 3, NULL)"
    )
    assert sorted(kinds(await stage.relayed())[2:]) == [("create", "3"), ("destroy", "1"), ("update", "2")]


async def test_rows_that_a_foreign_key_changes_are_captured(stage: Stage) -> None:
    await stage.sql(
        "CREATE TABLE parents (id int PRIMARY KEY, organization_id text)",
        "CREATE TABLE children (id int PRIMARY KEY, organization_id text, "
        "parent int REFERENCES parents ON UPDATE CASCADE ON DELETE CASCADE)",
    )
    await stage.add("parents", resource_type="parents")
    await stage.add("children", resource_type="children")
    await stage.sql(
        "INSERT INTO parents VALUES (1, 'org_1')",
        "INSERT INTO children VALUES (5, 'org_1', 1)",
        "UPDATE parents SET id = 2",
        "DELETE FROM parents",
    )
    events = await stage.relayed()
    assert [(e["resource_type"], e["event"]) for e in events if e["resource_type"] == "children"] == [
        ("children", "create"), ("children", "update"), ("children", "destroy"),
    ]  # fmt: skip
    rebuilt(events)


async def test_writable_ctes_are_captured(stage: Stage) -> None:
    await stage.shop()
    await stage.sql(
        "WITH added AS (INSERT INTO skus VALUES (1, 'org_1', 1, 'a') RETURNING id), "
        "more AS (INSERT INTO skus SELECT id + 1, 'org_1', 1, 'b' FROM added RETURNING id) SELECT count(*) FROM more"
    )
    assert sorted(kinds(await stage.relayed())) == [("create", "1"), ("create", "2")]


async def test_rows_of_a_savepoint_that_was_rolled_back_are_no_events(stage: Stage) -> None:
    await stage.shop()
    await stage.sql(
        "BEGIN; INSERT INTO skus VALUES (1, 'org_1', 1, 'a'); SAVEPOINT s; "
        "INSERT INTO skus VALUES (2, 'org_1', 1, 'b'); "
        "UPDATE skus SET price = 9; ROLLBACK TO s; INSERT INTO skus VALUES (3, 'org_1', 1, 'c'); COMMIT"
    )
    events = await stage.relayed()
    assert kinds(events) == [("create", "1"), ("create", "3")]
    assert events[0]["resource"]["price"] == "1"


async def test_a_transaction_that_was_rolled_back_is_no_event(stage: Stage) -> None:
    await stage.shop()
    await stage.sql("BEGIN; INSERT INTO skus VALUES (1, 'org_1', 1, 'a'); ROLLBACK")
    await stage.sql("INSERT INTO skus VALUES (2, 'org_1', 1, 'a')")
    assert kinds(await stage.relayed()) == [("create", "2")]


async def test_a_statement_that_fails_half_way_is_no_event(stage: Stage) -> None:
    await stage.shop()
    with pytest.raises(asyncpg.UniqueViolationError):
        await stage.sql("INSERT INTO skus VALUES (1, 'org_1', 1, 'a'), (1, 'org_1', 1, 'a')")
    assert await stage.relayed() == []


async def test_a_session_that_replicates_is_captured(stage: Stage) -> None:
    await stage.shop()
    await stage.sql(
        "SET session_replication_role = replica", "INSERT INTO skus VALUES (1, 'org_1', 1, 'a')", "TRUNCATE skus"
    )
    assert kinds(await stage.relayed()) == [("create", "1"), ("destroy", "1")]


async def test_a_prepared_transaction_is_published_once_it_is_committed(own_stage: Stage) -> None:
    stage = own_stage
    await stage.shop()
    await stage.sql("BEGIN; INSERT INTO skus VALUES (1, 'org_1', 1, 'a'); PREPARE TRANSACTION 'one'")
    await stage.sql("BEGIN; INSERT INTO skus VALUES (2, 'org_1', 1, 'a'); PREPARE TRANSACTION 'two'")
    await stage.sql("INSERT INTO skus VALUES (3, 'org_1', 1, 'a')")
    assert kinds(await stage.relayed()) == [("create", "3")]
    await stage.sql("COMMIT PREPARED 'one'", "ROLLBACK PREPARED 'two'")
    assert kinds(await stage.relayed()) == [("create", "1")]


async def test_a_truncate_is_the_destroy_of_every_row(stage: Stage) -> None:
    await stage.shop(exclude=["note"])
    await stage.sql(
        "INSERT INTO skus SELECT i, 'org_' || i, i, 'secret' FROM generate_series(1, 3) AS i", "TRUNCATE skus"
    )
    events = await stage.relayed()
    assert sorted(kinds(events)[3:]) == [("destroy", "1"), ("destroy", "2"), ("destroy", "3")]
    assert rebuilt(events) == {}


async def test_a_truncate_that_was_rolled_back_is_no_event(stage: Stage) -> None:
    await stage.shop()
    await stage.sql("INSERT INTO skus VALUES (1, 'org_1', 1, 'a')", "BEGIN; TRUNCATE skus; ROLLBACK")
    assert kinds(await stage.relayed()) == [("create", "1")]


async def test_a_truncate_leaves_the_rows_of_inheriting_tables_out_where_it_did(stage: Stage) -> None:
    await stage.shop()
    await stage.sql(
        "CREATE TABLE more_skus () INHERITS (skus)",
        "INSERT INTO more_skus VALUES (2, 'org_1', 1, 'child')",
        "INSERT INTO skus VALUES (1, 'org_1', 1, 'a')",
        "TRUNCATE ONLY skus",
    )
    assert kinds(await stage.relayed()) == [("create", "1"), ("destroy", "1")]


async def test_a_truncate_cascade_reaches_the_tables_that_refer_to_it(stage: Stage) -> None:
    await stage.shop()
    await stage.sql("CREATE TABLE prices (id int PRIMARY KEY, organization_id text, sku bigint REFERENCES skus)")
    await stage.add("prices", resource_type="prices")
    await stage.sql("INSERT INTO skus VALUES (1, 'org_1', 1, 'a')", "INSERT INTO prices VALUES (7, 'org_1', 1)")
    await stage.sql("TRUNCATE skus CASCADE")
    assert sorted(kinds(await stage.relayed())[2:]) == [("destroy", "1"), ("destroy", "7")]


async def test_an_update_of_a_table_with_rules_or_views_is_captured_where_the_rows_lie(stage: Stage) -> None:
    await stage.shop()
    await stage.sql(
        "CREATE VIEW cheap AS SELECT * FROM skus WHERE price < 10",
        "INSERT INTO cheap VALUES (1, 'org_1', 1, 'a')",
        "UPDATE cheap SET price = 20",
    )
    assert kinds(await stage.relayed()) == [("create", "1"), ("update", "1")]


async def test_a_serializable_writer_is_captured(stage: Stage) -> None:
    await stage.shop()
    async with stage.connection.transaction(isolation="serializable"):
        await stage.sql("INSERT INTO skus VALUES (1, 'org_1', 1, 'a')")
    assert one(await stage.relayed())["event"] == "create"
