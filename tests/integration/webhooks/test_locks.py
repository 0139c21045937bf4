"""Whatever another transaction has locked of one endpoint, the others' deliveries go on, and its own follow."""

import asyncio
from typing import NamedTuple

import pytest

from tests.integration.conftest import History, eventually
from tests.integration.webhooks.conftest import Owner, Receiver, Start, hanging

_ENDPOINT = "UPDATE streamhub_hub.webhook_endpoints SET {} WHERE id = $1"
_SELECTED = {
    f"{table}, {mode}": f"SELECT FROM streamhub_hub.webhook_{table} WHERE {name} = $1 FOR {mode}"
    for table, name in (("endpoints", "id"), ("queues", "endpoint"), ("deliveries", "endpoint"))
    for mode in ("UPDATE", "KEY SHARE")
}


class Case(NamedTuple):
    """What another transaction does and, committed `before` it, what the endpoint's owner does."""

    locks: str
    before: str = "rate = NULL"
    commits: bool = False


CASES = {
    **{name: Case(statement) for name, statement in _SELECTED.items()},
    "queue changed": Case("UPDATE streamhub_hub.webhook_queues SET failures = 1 WHERE endpoint = $1"),
    "enabled": Case(_ENDPOINT.format("enabled = true"), before="enabled = false", commits=True),
    "order": Case(_ENDPOINT.format("\"order\" = 'resource'"), commits=True),
    "endpoint deleted": Case("DELETE FROM streamhub_hub.webhook_endpoints WHERE id = $1"),
    "deliveries deleted": Case("DELETE FROM streamhub_hub.webhook_deliveries WHERE endpoint = $1"),
}


@pytest.mark.parametrize("case", CASES)
async def test_what_is_locked_of_one_endpoint_delays_no_other(
    history: History, organization: int, receiver: Receiver, owner: Owner, start: Start, case: str
) -> None:
    """An attempt of it ends meanwhile, and events come for it: neither is lost."""
    locks, before, commits = CASES[case]
    hold = asyncio.Event()
    receiver.answers["/a"] = hanging(hold)
    id_ = (await owner.add())["id"]
    other = (await owner.add("/b"))["id"]
    await start()
    events = [*(await history.append(organization)).events]
    await receiver.has(1)
    await receiver.has(1, "/b")
    await owner.pool.execute(_ENDPOINT.format(before), id_)
    events += (await history.append(organization)).events
    await receiver.has(2, "/b")
    async with owner.pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute(locks, id_)
        hold.set()
        for n in range(4):
            events += (await history.append(organization, 2)).events
            await receiver.has(4 + 2 * n, "/b", within=3)

        async def is_written() -> bool:
            return len(await owner.log(other, "delivered")) == len(events)

        await eventually(is_written, 3)
        await (transaction.commit() if commits else transaction.rollback())
    await owner.settled()
    assert {each.id for each in receiver.on("/a")} == {each.id for each in events}


async def test_a_locked_endpoint_that_is_deleted_then_is_forgotten(
    history: History, organization: int, receiver: Receiver, owner: Owner, start: Start
) -> None:
    id_ = (await owner.add())["id"]
    await owner.add("/b")
    await start()
    await history.append(organization)
    await receiver.has(1)
    await receiver.has(1, "/b")

    async def behind() -> bool:
        return bool(await owner.pool.fetchval("SELECT behind ? $1 FROM streamhub_hub.webhook_cursor", id_))

    async def is_forgotten() -> bool:
        return not await behind()

    async with owner.pool.acquire() as connection, connection.transaction():
        await connection.execute("DELETE FROM streamhub_hub.webhook_endpoints WHERE id = $1", id_)
        await history.append(organization)
        await receiver.has(2, "/b")
        assert await behind()
    await eventually(is_forgotten)
