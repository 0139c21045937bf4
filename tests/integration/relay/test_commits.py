"""Every committed change is published once, whenever it commits; what cannot be published stops nothing."""

import asyncio
import json

import asyncpg
import pytest
from msgspec.structs import astuple

from streamhub import capture
from streamhub.core.frames import data_of
from streamhub.relay.outbox import Outbox, Ranges, delete
from tests.support.stage import Stage, kinds, rebuilt, until

INSERT = "INSERT INTO skus VALUES ({}, 'org_1', 1, 'a')"


async def published(stage: Stage, *ids: int) -> None:
    async def condition() -> bool:
        rows = await stage.rows("SELECT resource_id FROM streamhub_hub.history")
        return {str(id_) for id_ in ids} <= {row[0] for row in rows}

    await until(condition, f"{ids} are published")


async def test_a_transaction_that_commits_after_others_with_higher_numbers_is_published(stage: Stage) -> None:
    await stage.shop()
    late = await asyncpg.connect(stage.url)
    async with stage.relaying():
        await late.execute("BEGIN; " + INSERT.format(1))
        await stage.sql(INSERT.format(2))
        await published(stage, 2)
        await late.execute("COMMIT")
        await published(stage, 1)
    assert kinds(await stage.new_events()) == [("create", "2"), ("create", "1")]
    await late.close()


async def test_a_writer_that_took_its_number_long_before_it_writes_is_published(stage: Stage) -> None:
    await stage.shop()
    early = await asyncpg.connect(stage.url)
    await early.execute("BEGIN; SELECT pg_current_xact_id()")
    number = await early.fetchval("SELECT nextval('streamhub.outbox_seq_seq')")
    async with stage.relaying():
        for id_ in range(2, 60):
            await stage.sql(INSERT.format(id_))
            await asyncio.sleep(0.005)  # the floor moves, if it can, every 50 ms
        await published(stage, 59)
        await early.execute(INSERT.format(1))
        await early.execute("UPDATE streamhub.outbox SET seq = $1 WHERE new_row LIKE '%\"id\":1,%'", number)
        await early.execute("COMMIT")
        await published(stage, 1)
        await stage.drained()
    assert len(await stage.new_events()) == 59
    await early.close()


async def test_the_floor_waits_for_the_newest_writer_too(stage: Stage) -> None:
    """A snapshot's xmax is the last id that ended, plus one, so that a writer may hold it or a higher one."""
    await stage.shop()
    newest, reader = [await asyncpg.connect(stage.url) for _ in range(2)]
    outbox = Outbox(reader, 2_000)
    await newest.execute("BEGIN; " + INSERT.format(1))
    for _ in range(6):
        await outbox.observe()
        assert await outbox.read() == ([], False)
        outbox.drained()
    await newest.execute("COMMIT")
    changes, _ = await outbox.read()
    assert len(changes) == 1
    await newest.close()
    await reader.close()


async def test_a_prepared_transaction_is_published_however_late_it_commits(own_stage: Stage) -> None:
    stage = own_stage
    await stage.shop()
    async with stage.relaying():
        await stage.sql("BEGIN; " + INSERT.format(1), "PREPARE TRANSACTION 'p'")
        for id_ in range(2, 60):
            await stage.sql(INSERT.format(id_))
            await asyncio.sleep(0.005)
        await published(stage, 59)
        await stage.sql("COMMIT PREPARED 'p'")
        await published(stage, 1)


@pytest.mark.parametrize("batch", [1, 2, 5])
async def test_ids_grow_in_the_order_of_publication_and_every_append_follows_the_one_before(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    monkeypatch.setattr("streamhub.relay.source.BATCH", batch)
    await stage.shop()
    for id_ in range(12):
        await stage.sql(INSERT.format(id_))
    await stage.relayed()
    heads = [append.previous_head for append in stage.announced[1:]]
    assert heads == [append.last_id for append in stage.announced[:-1]]
    ids = [event.id for append in stage.announced for event in append.events]
    assert ids == sorted(set(ids))
    assert all(
        (append.first_id, append.last_id) == (append.events[0].id, append.events[-1].id) for append in stage.announced
    )


async def test_what_is_announced_is_what_history_holds_byte_for_byte(stage: Stage) -> None:
    await stage.shop()
    await stage.sql("INSERT INTO skus SELECT i, 'org_' || i % 3, i, 'é' FROM generate_series(1, 100) AS i")
    await stage.sql(INSERT.format(1000))
    await stage.relayed()
    announced = [astuple(event) for append in stage.announced for event in append.events]
    stored = await stage.rows(
        "SELECT organization, id::text, test, type, resource_type, resource_id, frame "
        "FROM streamhub_hub.history ORDER BY id"
    )
    assert announced == stored


async def test_the_notice_of_an_append_names_head_ids_and_organizations(stage: Stage) -> None:
    await stage.shop()
    heard: list[str] = []
    listener = await asyncpg.connect(stage.url)
    channel = await stage.value("SELECT appends FROM streamhub_hub.channels")
    await listener.add_listener(channel, lambda *arguments: heard.append(arguments[3]))
    await stage.sql("INSERT INTO skus SELECT i, 'org_' || i % 2, i, 'a' FROM generate_series(1, 4) AS i")
    await stage.relayed()
    await until(lambda: _true(bool(heard)), "a notice came")
    append = stage.announced[0]
    organizations = await stage.value("SELECT string_agg(key::text, ',' ORDER BY key) FROM streamhub_hub.organizations")
    assert heard == [f"{append.previous_head} {append.first_id} {append.last_id} {organizations}"]
    await listener.close()


async def _true(value: bool) -> bool:
    return value


async def test_a_notice_of_too_many_organizations_is_for_all_of_them(stage: Stage) -> None:
    await stage.shop()
    heard: list[str] = []
    listener = await asyncpg.connect(stage.url)
    channel = await stage.value("SELECT appends FROM streamhub_hub.channels")
    await listener.add_listener(channel, lambda *arguments: heard.append(arguments[3]))
    await stage.sql("INSERT INTO skus SELECT i, 'org_' || i, i, 'a' FROM generate_series(1, 2000) AS i")
    await stage.relayed()
    await until(lambda: _true(bool(heard)), "a notice came")
    assert heard[0].endswith(" *")
    await listener.close()


async def test_an_organization_that_is_not_enterprise_is_neither_stored_nor_announced(stage: Stage) -> None:
    await stage.shop()
    await stage.sql(
        "INSERT INTO streamhub_hub.organizations (id, slug, slug_is_made, enterprise) "
        "VALUES ('org_1', 'one', false, false)",
        INSERT.format(1),
        "INSERT INTO skus VALUES (2, 'org_2', 1, 'a')",
    )
    assert [event["organization"]["id"] for event in await stage.relayed()] == ["org_2"]
    assert [event.resource_id for append in stage.announced for event in append.events] == ["2"]
    assert await stage.counters() == {"not_enterprise": 1}


async def test_an_organization_that_stops_being_enterprise_is_not_stored_within_two_seconds(stage: Stage) -> None:
    await stage.shop()
    async with stage.relaying():
        await stage.sql(INSERT.format(1))
        await published(stage, 1)
        await stage.sql("UPDATE streamhub_hub.organizations SET enterprise = false")
        price = 0

        async def counted() -> bool:
            nonlocal price
            price += 1
            await stage.sql(f"UPDATE skus SET price = {price}")
            return (await stage.counters()).get("not_enterprise", 0) > 0

        await until(counted, "a change is not stored", 2)
        stored = len(await stage.frames())
        await stage.sql("UPDATE skus SET price = -1", "UPDATE skus SET price = -2")
        await stage.drained()
    assert len(await stage.frames()) == stored


async def test_a_slug_that_is_set_while_the_relay_runs_is_in_the_events_from_then_on(stage: Stage) -> None:
    await stage.shop()
    async with stage.relaying():
        await stage.sql(INSERT.format(1))
        await published(stage, 1)
        await stage.sql("UPDATE streamhub_hub.organizations SET slug = 'renamed'")
        price = 0

        async def renamed() -> bool:
            nonlocal price
            price += 1
            await stage.sql(f"UPDATE skus SET price = {price}")
            await stage.drained()
            return bool((await stage.history())[-1]["organization"]["slug"] == "renamed")

        await until(renamed, "the new slug is used", 2)


POISON = {
    "an origin that is none": ("origin = 'x'", "unattributable"),
    "a capture that there is not": ("origin = '999' || ltrim(origin, '0123456789')", "unattributable"),
    "text that is no JSON": ("new_row = '{\"id\":1,'", "unattributable"),
    "text that is no object": ("new_row = '[1]'", "unattributable"),
    "no text at all": ("new_row = NULL", "unattributable"),
    "an organization that cannot be one": (
        "new_row = replace(new_row, 'org_1', repeat('x', 300))",
        "invalid_organization",
    ),
    "a number that is none": ("new_row = replace(new_row, '\"price\":1', '\"price\":Infinity')", "errors"),
}


@pytest.mark.parametrize("poison", POISON)
async def test_a_row_that_cannot_be_rendered_stops_nothing_and_is_counted_and_told(stage: Stage, poison: str) -> None:
    await stage.shop()
    await stage.sql(INSERT.format(1), INSERT.format(2), INSERT.format(3))
    change, counter = POISON[poison]
    await stage.sql(f"UPDATE streamhub.outbox SET {change} WHERE new_row LIKE '%\"id\":1,%'")
    events = await stage.relayed()
    assert kinds([event for event in events if "error" not in event]) == [("create", "2"), ("create", "3")]
    assert (await stage.counters()).get(counter) == 1
    if counter != "errors":
        assert len(await stage.incidents("poison")) == 1


@pytest.mark.parametrize(
    "row", [('"a\\u0000b"', '"k"'), ('"o"', '"a\\u0000b"'), ('"\\ud800"', '"k"'), ('"o"', '"\\udc00"')]
)
async def test_a_key_or_an_organization_that_no_text_can_hold_stops_nothing(stage: Stage, row: tuple[str, str]) -> None:
    await stage.sql("CREATE TABLE t (id int PRIMARY KEY, organization_id json, k json)")
    await stage.add("t", id_columns=["k"])
    await stage.connection.execute("INSERT INTO t VALUES (1, $1, $2)", *row)
    await stage.sql("""INSERT INTO t VALUES (2, '"o"', '"z"')""")
    assert kinds(await stage.relayed())[-1] == ("create", "z")


@pytest.mark.parametrize("noted", [True, False])
async def test_polling_starts_where_nothing_can_appear_any_more(stage: Stage, noted: bool) -> None:
    """So an old snapshot that keeps consumed rows from being vacuumed does not make empty polls slow."""
    await stage.shop()
    old = await asyncpg.connect(stage.url)
    await old.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM streamhub.outbox")
    await stage.sql("INSERT INTO skus SELECT i, 'org_1', i, 'a' FROM generate_series(1, 30000) AS i")
    hub = await stage.claimed()
    outbox = Outbox(stage.connection, 20_000)
    while True:
        if noted:
            await outbox.observe()
        changes, more = await outbox.read()
        if changes:
            await delete(stage.connection, Ranges.of(change.seq for change in changes), len(changes), hub)
        if not more:
            outbox.drained()
        if not changes and (outbox.floor >= 30_000 or not noted):
            break
    walked = await stage.value("SELECT count(*) FROM (SELECT pg_stat_force_next_flush()) AS f") and await _buffers(
        stage, outbox.floor
    )
    assert (walked < 30) == noted
    await old.close()


async def _buffers(stage: Stage, floor: int) -> int:
    plan = json.loads(
        await stage.value(
            "EXPLAIN (ANALYZE, BUFFERS, FORMAT json) SELECT * FROM streamhub.outbox "
            f"WHERE seq > {floor} ORDER BY seq LIMIT 2000"
        )
    )[0]["Plan"]
    return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])


async def test_a_backlog_of_many_transactions_follows(stage: Stage) -> None:
    await stage.shop()
    await stage.sql("INSERT INTO skus SELECT i, 'org_' || i % 7, i, 'a' FROM generate_series(1, 3000) AS i")
    await stage.sql("UPDATE skus SET price = price + 1", "DELETE FROM skus WHERE id % 2 = 0")
    events = await stage.relayed()
    assert len(events) == 7500
    assert len(rebuilt(events)) == 1500


async def test_events_of_a_removed_capture_and_of_its_successor_keep_their_own_options(stage: Stage) -> None:
    await stage.shop(exclude=["note"])
    await stage.sql(INSERT.format(1))
    await capture.remove(stage.connection, "skus")
    await stage.add(exclude=["price"])
    await stage.sql(INSERT.format(2))
    first, second = await stage.relayed()
    assert ("note" in first["resource"], "price" in first["resource"]) == (False, True)
    assert ("note" in second["resource"], "price" in second["resource"]) == (True, False)


async def test_a_capture_that_is_replaced_while_the_relay_runs_counts_at_once(stage: Stage) -> None:
    await stage.shop(exclude=["note"])
    async with stage.relaying():
        await stage.sql(INSERT.format(1))
        await published(stage, 1)
        await stage.add(exclude=["price"])
        await stage.sql(INSERT.format(2))
        await published(stage, 2)
    events = await stage.new_events()
    assert ("note" in events[1]["resource"], "price" in events[1]["resource"]) == (True, False)


async def test_a_table_that_is_captured_while_the_relay_runs_is_published(stage: Stage) -> None:
    async with stage.relaying():
        await stage.shop()
        await stage.sql(INSERT.format(1))
        await published(stage, 1)
    assert json.loads(data_of((await stage.frames())[0]))["resource"]["note"] == "a"
