"""A `webhook.test` event: what its owner asks for is answered at once, whatever waits for the endpoint."""

import asyncio

from aiohttp import web

from streamhub.webhooks import store
from tests.integration.conftest import History, eventually
from tests.integration.webhooks.conftest import Owner, Receiver, Start, hanging


async def send_test(owner: Owner, id_: str) -> str:
    async with owner.pool.acquire() as connection:
        sent = await store.send_test(connection, owner.scope, id_)
    assert sent is not None
    return str(sent["id"])


async def test_a_test_comes_before_all_that_waits_for_an_endpoint_in_back_off_and_its_success_ends_that(
    history: History, organization: int, receiver: Receiver, owner: Owner, start: Start
) -> None:
    receiver.answers["/a"] = 500
    id_ = (await owner.add(order="resource"))["id"]
    await owner.pool.execute("UPDATE streamhub_hub.webhook_queues SET failures = 30")  # so a probe comes each minute
    await start(schedule=(60,))
    await history.append(organization, 300)
    await receiver.has(1)
    receiver.answers["/a"] = 200
    event = await send_test(owner, id_)
    await receiver.has(2, within=5)
    assert (receiver.received[1].id, receiver.received[1].body["type"]) == (event, "webhook.test")
    await receiver.has(301)

    async def is_ok() -> bool:
        return (await owner.get(id_))["state"] == "ok"

    await eventually(is_ok)


async def test_a_test_waits_for_no_place_among_what_is_in_flight(
    history: History, organization: int, receiver: Receiver, owner: Owner, start: Start
) -> None:
    hold = asyncio.Event()

    async def answer(_request: web.Request) -> web.StreamResponse:
        if receiver.received[-1].body["type"] != "webhook.test":
            await hold.wait()
        return web.Response()

    receiver.answers["/a"] = answer
    id_ = (await owner.add(max_in_flight=2))["id"]
    await start()
    await history.append(organization, 200)
    await receiver.has(2)
    tests = [await send_test(owner, id_) for _ in range(2)]
    assert [each.id for each in await receiver.has(4, within=5)][2:] == tests
    hold.set()


async def test_a_test_that_fails_is_not_repeated_and_disables_nothing(
    receiver: Receiver, owner: Owner, start: Start
) -> None:
    receiver.answers["/a"] = 500
    id_ = (await owner.add())["id"]
    await start(schedule=(0.01,))
    event = await send_test(owner, id_)

    async def has_ended() -> bool:
        return [each["id"] for each in await owner.log(id_, "failed")] == [event]

    await eventually(has_ended)
    assert [each["status"] for each in (await owner.log(id_))[0]["attempts"]] == [500]
    assert (await owner.get(id_))["state"] == "ok"


async def test_a_test_that_is_retried_goes_first_too(
    history: History, organization: int, receiver: Receiver, owner: Owner, start: Start
) -> None:
    id_ = (await owner.add(max_in_flight=1))["id"]
    await start()
    event = await send_test(owner, id_)
    await receiver.has(1)
    await owner.settled_but(0)
    hold = asyncio.Event()
    receiver.answers["/a"] = hanging(hold)
    await history.append(organization, 200)
    await receiver.has(2)
    async with owner.pool.acquire() as connection:
        assert await store.retry(connection, owner.scope, id_, event)
    assert [each.id for each in await receiver.has(3)][2] == event
    hold.set()
