"""Partitioned tables: every leaf is captured as part of the root, with its columns in any order."""

import pytest

from streamhub.capture import faults
from tests.support.stage import Stage, kinds, one, rebuilt

ROOT = """
CREATE TABLE orders (id bigint, organization_id text, secret text, note text, total numeric, PRIMARY KEY (id))
PARTITION BY RANGE (id);
CREATE TABLE orders_1 PARTITION OF orders FOR VALUES FROM (0) TO (100);
CREATE TABLE orders_2 PARTITION OF orders FOR VALUES FROM (100) TO (200);
"""
# As a table that grew on its own looks: other numbers for the same names, and a dropped column in between.
OTHER_ORDER = """
CREATE TABLE orders_3 (total numeric, gone int, note text, id bigint NOT NULL, secret text, organization_id text);
ALTER TABLE orders_3 DROP COLUMN gone;
ALTER TABLE orders ATTACH PARTITION orders_3 FOR VALUES FROM (200) TO (300);
"""


async def orders(stage: Stage) -> None:
    await stage.sql(ROOT)
    await stage.add("orders", resource_type="orders", exclude=["secret"])


def insert(id_: int) -> str:
    return (
        "INSERT INTO orders (id, organization_id, secret, note, total) "
        f"VALUES ({id_}, 'org_1', 'SECRET', 'public', 1.50)"
    )


async def no_secret(stage: Stage) -> bool:
    return not [frame for frame in await stage.frames() if b"SECRET" in frame]


async def test_changes_of_every_partition_are_changes_of_the_root(stage: Stage) -> None:
    await orders(stage)
    await stage.sql(insert(1), insert(101), "UPDATE orders SET total = 2", "DELETE FROM orders_1")
    events = await stage.relayed()
    assert sorted(kinds(events)) == [
        ("create", "1"), ("create", "101"), ("destroy", "1"), ("update", "1"), ("update", "101"),
    ]  # fmt: skip
    assert {event["resource_type"] for event in events} == {"orders"}


async def test_a_move_between_partitions_is_a_destroy_and_a_create(stage: Stage) -> None:
    await orders(stage)
    await stage.sql(insert(1), "UPDATE orders SET id = 101")
    events = await stage.relayed()
    assert kinds(events) == [("create", "1"), ("destroy", "1"), ("create", "101")]
    rebuilt(events)


async def test_a_partition_made_later_is_captured(stage: Stage) -> None:
    await orders(stage)
    await stage.sql("CREATE TABLE orders_3 PARTITION OF orders FOR VALUES FROM (200) TO (300)", insert(201))
    assert kinds(await stage.relayed()) == [("create", "201")]
    assert await no_secret(stage)


async def test_a_partition_with_another_order_of_columns_keeps_names_numbers_and_exclusion(stage: Stage) -> None:
    await orders(stage)
    await stage.sql(OTHER_ORDER, insert(201))
    resource = one(await stage.relayed())["resource"]
    assert resource == {"total": "1.50", "note": "public", "id": "201", "organization_id": "org_1"}


async def test_a_detached_partition_gives_no_more_events_and_detaching_none(stage: Stage) -> None:
    await orders(stage)
    await stage.sql(insert(101), "ALTER TABLE orders DETACH PARTITION orders_2")
    await stage.sql("UPDATE orders_2 SET total = 3", "TRUNCATE orders_2", "DROP TABLE orders_2")
    assert kinds(await stage.relayed()) == [("create", "101")]


# The leaf's numbers of secret and note are the root's of note and secret.
SWAPPED = """
CREATE TABLE orders_3 (id bigint NOT NULL, organization_id text, note text, secret text, total numeric);
ALTER TABLE orders ATTACH PARTITION orders_3 FOR VALUES FROM (200) TO (300);
"""


@pytest.mark.parametrize("leaf", [OTHER_ORDER, SWAPPED])
async def test_what_a_partition_had_written_before_it_was_detached_hides_what_is_excluded(
    stage: Stage, leaf: str
) -> None:
    await orders(stage)
    await stage.sql(leaf, insert(201), "ALTER TABLE orders DETACH PARTITION orders_3")
    await stage.relayed()
    assert await no_secret(stage)


@pytest.mark.parametrize("leaf", [OTHER_ORDER, SWAPPED])
async def test_what_a_partition_had_written_before_it_was_detached_is_not_lost(stage: Stage, leaf: str) -> None:
    await orders(stage)
    await stage.sql(leaf, insert(201), "ALTER TABLE orders DETACH PARTITION orders_3")
    assert kinds(await stage.relayed()) == [("create", "201")]


async def test_a_partition_that_the_relay_knew_keeps_its_values_when_it_is_detached(stage: Stage) -> None:
    await orders(stage)
    await stage.sql(SWAPPED, insert(201))
    await stage.relayed()
    await stage.sql(insert(202), "ALTER TABLE orders DETACH PARTITION orders_3")
    assert one(await stage.relayed())["resource"]["note"] == "public"


async def test_what_a_partition_had_written_before_it_was_dropped_is_not_lost(stage: Stage) -> None:
    await orders(stage)
    await stage.sql(insert(101), "DROP TABLE orders_2")
    assert kinds(await stage.relayed()) == [("create", "101")]
    assert await no_secret(stage)


@pytest.mark.parametrize("table", ["orders", "orders_2"])
async def test_a_truncate_of_the_root_or_a_leaf_destroys_the_rows_that_lay_there(stage: Stage, table: str) -> None:
    await orders(stage)
    await stage.sql(insert(1), insert(101), f"TRUNCATE {table}")
    destroyed = [id_ for event, id_ in kinds(await stage.relayed()) if event == "destroy"]
    assert destroyed == (["101"] if table == "orders_2" else ["1", "101"])


async def test_sub_partitions_are_captured_and_truncated(stage: Stage) -> None:
    await stage.sql(
        "CREATE TABLE t (id int, organization_id text, PRIMARY KEY (id)) PARTITION BY RANGE (id)",
        "CREATE TABLE t_low PARTITION OF t FOR VALUES FROM (0) TO (100) PARTITION BY RANGE (id)",
        "CREATE TABLE t_low_1 PARTITION OF t_low FOR VALUES FROM (0) TO (50)",
    )
    await stage.add("t")
    await stage.sql(
        "CREATE TABLE t_low_2 PARTITION OF t_low FOR VALUES FROM (50) TO (100)",
        "INSERT INTO t VALUES (1, 'org_1'), (60, 'org_1')",
        "TRUNCATE t_low_1",
    )
    assert kinds(await stage.relayed()) == [("create", "1"), ("create", "60"), ("destroy", "1")]


async def test_a_partition_without_the_truncate_trigger_is_told_until_the_capture_is_added_again(stage: Stage) -> None:
    await orders(stage)
    await stage.sql("CREATE TABLE orders_3 PARTITION OF orders FOR VALUES FROM (200) TO (300)")
    assert [fault.table for fault in await faults(stage.connection)] == ["orders_3"]
    result = await stage.add("orders", resource_type="orders", exclude=["secret"])
    assert result.state == "unchanged"
    assert await faults(stage.connection) == []


async def test_a_partitioned_table_that_replicates_is_captured_on_every_leaf(stage: Stage) -> None:
    await orders(stage)
    await stage.sql("CREATE TABLE orders_3 PARTITION OF orders FOR VALUES FROM (200) TO (300)")
    await stage.sql("SET session_replication_role = replica", insert(101), insert(201))
    assert kinds(await stage.relayed()) == [("create", "101"), ("create", "201")]


async def test_a_key_column_with_another_number_in_the_leaf_is_still_the_key_of_a_row_that_is_too_large(
    stage: Stage,
) -> None:
    await orders(stage)
    await stage.sql(OTHER_ORDER, insert(201), "ALTER TABLE orders ALTER note SET STORAGE EXTERNAL")
    await stage.sql("UPDATE orders SET note = repeat('x', 70000000)")
    _, event = await stage.relayed()
    assert (event["event"], event["resource_id"], event["too_large"]) == ("update", "201", True)
