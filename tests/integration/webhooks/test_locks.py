"""Whatever another transaction has locked of one endpoint, the others' deliveries go on, and its own follow."""

import asyncio

import pytest

from tests.integration.conftest import History, eventually
from tests.integration.webhooks.conftest import Owner, Receiver, Start, hanging

LOCKS = {
    **{
        f"{table}, {mode}": f"SELECT FROM streamhub_hub.webhook_{table} WHERE {name} = $1 FOR {mode}"
        for table, name in (("endpoints", "id"), ("queues", "endpoint"), ("deliveries", "endpoint"))
        for mode in ("UPDATE", "KEY SHARE")
    },
    "queue changed": "UPDATE streamhub_hub.webhook_queues SET failures = 1 WHERE endpoint = $1",
    "endpoint deleted": "DELETE FROM streamhub_hub.webhook_endpoints WHERE id = $1",
    "deliveries deleted": "DELETE FROM streamhub_hub.webhook_deliveries WHERE endpoint = $1",
}


@pytest.mark.parametrize("lock", LOCKS)
async def test_a_lock_on_one_endpoint_delays_no_other(
    history: History, organization: int, receiver: Receiver, owner: Owner, start: Start, lock: str
) -> None:
    """An attempt of it ends meanwhile, and events come for it: neither is lost."""
    hold = asyncio.Event()
    receiver.answers["/a"] = hanging(hold)
    id_ = (await owner.add())["id"]
    other = (await owner.add("/b"))["id"]
    await start()
    events = [*(await history.append(organization)).events]
    await receiver.has(1)
    await receiver.has(1, "/b")
    async with owner.pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute(LOCKS[lock], id_)
        hold.set()
        for n in range(4):
            events += (await history.append(organization, 2)).events
            await receiver.has(3 + 2 * n, "/b", within=3)

        async def is_written() -> bool:
            return len(await owner.log(other, "delivered")) == len(events)

        await eventually(is_written, 3)
        await transaction.rollback()
    await owner.settled()
    assert {each.id for each in receiver.on("/a")} == {each.id for each in events}
