"""A new endpoint gets what was appended after it was made, and nothing of before."""

from typing import Any

import asyncpg

from streamhub.webhooks import store
from tests.integration.conftest import History
from tests.integration.webhooks.conftest import Owner, Receiver, Start


async def cursor_at_the_head(pool: Any) -> None:
    await pool.execute(
        "UPDATE streamhub_hub.webhook_cursor SET position = (SELECT max(id::text)::uuid FROM streamhub_hub.history)"
    )


async def test_events_of_before_are_not_sent_though_the_cursor_was_behind_them(
    history: History, organization: int, receiver: Receiver, owner: Owner, start: Start
) -> None:
    await history.append(organization)
    await cursor_at_the_head(history.pool)
    await history.append(organization, 3)
    await owner.add()
    after = await history.append(organization, 2)
    await start()
    last = await history.append(organization)
    got = await receiver.has(3)
    await owner.settled()
    assert {each.id for each in got} == {each.id for each in (*after.events, *last.events)}
    assert len(receiver.received) == 3


async def test_events_of_the_same_millisecond_are_told_apart(
    history: History, organization: int, receiver: Receiver, owner: Owner, start: Start
) -> None:
    """The order has a head in the future, as after a clock that was set back: ids differ in their counter alone."""
    await history.pool.execute(
        "INSERT INTO streamhub_hub.log_heads SELECT last_ms + 5000, 0, last_ms + 5000, 0 FROM ("
        "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint AS last_ms) AS now"
    )
    before = await history.append(organization, 2)
    await owner.add()
    after = await history.append(organization, 2)
    assert before.events[0].id[:13] == after.events[-1].id[:13]
    await start()
    got = await receiver.has(2)
    await owner.settled()
    assert sorted(each.id for each in got) == [each.id for each in after.events]
    assert len(receiver.received) == 2


async def test_an_endpoint_inserted_in_sql_gets_what_came_after_the_insert(
    history: History, organization: int, receiver: Receiver, owner: Owner, start: Start, database_url: str
) -> None:
    """What is appended while the transaction is open is after it."""
    await start()
    await history.append(organization)
    application = await asyncpg.connect(database_url)
    async with application.transaction():
        await application.execute(
            "INSERT INTO streamhub_hub.webhook_endpoints (organization, url) VALUES ($1, $2)",
            organization, receiver.url(),
        )  # fmt: skip
        beside = await history.append(organization)
    await application.close()
    after = await history.append(organization)
    got = await receiver.has(2)
    await owner.settled()
    assert sorted(each.id for each in got) == [beside.events[0].id, after.events[0].id]
    assert len(receiver.received) == 2


async def test_recover_goes_back_no_further_than_the_endpoint_was_made(
    history: History, organization: int, receiver: Receiver, owner: Owner, start: Start
) -> None:
    before = await history.append(organization, 2)
    id_ = (await owner.add(enabled=False))["id"]
    after = await history.append(organization, 2)
    await start()
    async with owner.pool.acquire() as connection:
        await store.recover(connection, owner.scope, id_, 1)
    got = await receiver.has(2)
    await owner.settled()
    assert sorted(each.id for each in got) == [each.id for each in after.events]
    assert not {each.id for each in receiver.received} & {each.id for each in before.events}


async def test_many_endpoints_made_while_events_come_get_each_what_came_after_it(
    history: History, organization: int, receiver: Receiver, owner: Owner, start: Start
) -> None:
    await start()
    for n in range(10):
        await history.append(organization)
        await owner.add(f"/{n}")
    await history.append(organization)
    events = await history.pool.fetch("SELECT id::text FROM streamhub_hub.history ORDER BY id")
    right = [row["id"] for row in events]
    for n in range(10):
        got = await receiver.has(len(right) - n - 1, f"/{n}")
        assert sorted(each.id for each in got) == right[n + 1 :]
    await owner.settled()
    assert len(receiver.received) == sum(range(1, 11))
