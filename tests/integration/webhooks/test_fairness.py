"""One slow or dead endpoint, or one organization with many, delays no other."""

import asyncio
import time

import pytest
from aiohttp import web

from streamhub.webhooks import attempts, deliveries, dispatcher, store
from tests.integration.conftest import History, eventually
from tests.integration.webhooks.conftest import Owner, Receiver, Start, hanging


@pytest.fixture
async def other(history: History, receiver: Receiver) -> Owner:
    """Another organization's."""
    return Owner(history.pool, await history.register("org_2", "other"), receiver)


async def test_endpoints_of_one_organization_that_hang_leave_attempts_to_others_and_to_its_own(
    history: History, organization: int, receiver: Receiver, owner: Owner, other: Owner, start: Start,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(attempts, "MOST_CONNECTIONS", 20)
    hold = asyncio.Event()
    receiver.answers["/hang"] = hanging(hold)
    for _ in range(4):
        await owner.add("/hang")
    await owner.add("/own", events=["orders.*"])
    await other.add("/other")
    await start()
    await history.append(organization, 20)
    await receiver.has(10, "/hang")
    await history.append(other.scope.organization)
    await receiver.has(1, "/other", within=5)
    await history.append(organization, resource_type="orders")
    await receiver.has(1, "/own", within=5)
    assert len(receiver.on("/hang")) <= 10 + 3  # half, and the first attempt of each other one
    hold.set()


async def test_large_events_to_an_endpoint_that_hangs_leave_memory_to_others(
    history: History, organization: int, receiver: Receiver, owner: Owner, other: Owner, start: Start
) -> None:
    hold = asyncio.Event()
    receiver.answers["/hang"] = hanging(hold)
    await owner.add("/hang", events=["files.*"], max_in_flight=40)
    await owner.add("/own", events=["orders.*"])
    await other.add("/other")
    running = await start()
    running._bodies._most = 3_000_000
    await history.append(organization, 40, size=100_000, resource_type="files")
    await receiver.has(10, "/hang")
    await history.append(other.scope.organization, 3)
    await receiver.has(3, "/other", within=5)
    await history.append(organization, 3, resource_type="orders")
    await receiver.has(3, "/own", within=5)
    assert len(receiver.on("/hang")) < 20  # of 29 that there is memory for
    hold.set()
    await receiver.has(40, "/hang")


async def test_what_is_under_way_to_an_endpoint_ends_where_it_is_deleted(
    history: History, organization: int, receiver: Receiver, owner: Owner, start: Start
) -> None:
    requests: list[web.Request] = []
    hold = asyncio.Event()

    async def hang(request: web.Request) -> web.StreamResponse:
        requests.append(request)
        await hold.wait()
        return web.Response()

    receiver.answers["/a"] = hang
    id_ = (await owner.add())["id"]
    running = await start()
    await history.append(organization, 3)
    await receiver.has(3)
    async with owner.pool.acquire() as connection:
        assert await store.delete(connection, owner.scope, id_)

    async def are_closed() -> bool:
        return all(each.transport is None for each in requests)

    await eventually(are_closed)
    hold.set()

    async def is_dropped() -> bool:
        return not running._queues

    await eventually(is_dropped)


async def add_many(owner: Owner, count: int) -> None:
    await owner.pool.execute(
        "INSERT INTO streamhub_hub.webhook_endpoints (organization, url, events) "
        "SELECT $1, $2, '{*}' FROM generate_series(1, $3::int)",
        owner.scope.organization, owner._receiver.url(), count,
    )  # fmt: skip


async def test_endpoints_are_taken_in_turn_over_organizations(owner: Owner, other: Owner) -> None:
    await add_many(owner, deliveries.MOST_TAKEN + 10)
    late = (await other.add())["id"]
    ids = await owner.pool.fetchval("SELECT array_agg(id::text) FROM streamhub_hub.webhook_endpoints")
    await owner.pool.execute(
        "UPDATE streamhub_hub.webhook_queues "
        "SET due_at = clock_timestamp() - CASE WHEN endpoint = $1 THEN interval '1 s' ELSE '1 min' END", late,
    )  # fmt: skip
    node = "11111111-1111-4111-8111-111111111111"
    taken = await deliveries.take(owner.pool, node, ids)
    assert (len(taken), late in taken) == (deliveries.MOST_TAKEN, True)
    assert len(await deliveries.take(owner.pool, node, [each for each in ids if each not in taken])) == 11


async def test_endpoints_that_are_due_together_are_all_taken_at_once(
    history: History, organization: int, receiver: Receiver, owner: Owner, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = 2 * deliveries.MOST_TAKEN + 10
    await owner.add("/first")
    await start()
    await history.append(organization)
    await receiver.has(1, "/first")  # so it listens
    monkeypatch.setattr(dispatcher, "LOOK_EVERY", 60.0)
    await add_many(owner, count)
    await history.append(organization)
    await receiver.has(count, within=10)


async def test_of_an_organization_that_was_served_nothing_is_counted_any_more(
    history: History, organization: int, receiver: Receiver, owner: Owner, start: Start
) -> None:
    await owner.add()
    running = await start()
    await history.append(organization, 3)
    await receiver.has(3)
    await owner.settled()
    assert (running._attempts._under_way, running._bodies._sizes) == ({}, {})


def arrivals(receiver: Receiver) -> list[float]:
    """When each delivery came to /a, by the monotonic clock; it grows."""
    arrived: list[float] = []

    async def note(_request: web.Request) -> web.StreamResponse:
        arrived.append(time.monotonic())
        return web.Response()

    receiver.answers["/a"] = note
    return arrived


async def test_no_second_at_the_receiver_has_more_than_the_rate(
    history: History, organization: int, receiver: Receiver, owner: Owner, start: Start
) -> None:
    arrived = arrivals(receiver)
    await owner.add(rate=10, max_in_flight=20)
    await start()
    await history.append(organization, 20)
    await receiver.has(20)
    assert min(later - first for first, later in zip(arrived, arrived[10:], strict=False)) >= 1.0


async def test_a_process_that_stops_hands_on_no_endpoint_whose_attempts_still_count_for_its_rate(
    history: History, organization: int, receiver: Receiver, owner: Owner, start: Start
) -> None:
    arrived = arrivals(receiver)
    await owner.add(rate=5, max_in_flight=10)
    first = await start()
    await history.append(organization, 10)
    await receiver.has(5)
    await start()
    await first.__aexit__()
    await receiver.has(10)
    assert min(later - before for before, later in zip(arrived, arrived[5:], strict=False)) >= 1.0
