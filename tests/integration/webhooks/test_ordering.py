"""`order: resource`: of one resource one after the other, the oldest first, whatever comes back."""

import asyncio
from typing import Any

from aiohttp import web

from streamhub.webhooks import store
from tests.integration.conftest import History, eventually
from tests.integration.webhooks.conftest import Owner, Receiver, Start

ONCE = (0.01,)  # a second attempt, and a delivery is given up


class Watched:
    """Which events of a resource were under way with another one of it, and in which order all began."""

    def __init__(self, receiver: Receiver) -> None:
        self.order: list[str] = []
        self.beside: list[tuple[str, str]] = []
        self.failing: set[str] = set()
        self.held: dict[str, asyncio.Event] = {}
        self._under_way: dict[str, str] = {}
        receiver.answers["/a"] = self.answer
        self._receiver = receiver

    async def answer(self, _request: web.Request) -> web.StreamResponse:
        got = self._receiver.received[-1]
        resource = got.body["data"]["resource_id"]
        if resource in self._under_way:
            self.beside.append((self._under_way[resource], got.id))
        self._under_way[resource] = got.id
        self.order.append(got.id)
        if got.id in self.held:
            await self.held[got.id].wait()
        else:
            await asyncio.sleep(0.005)
        if self._under_way.get(resource) == got.id:
            del self._under_way[resource]
        return web.Response(status=500 if got.id in self.failing else 200)


async def recover(owner: Owner, id_: str) -> None:
    async with owner.pool.acquire() as connection:
        await store.recover(connection, owner.scope, id_, 1)


async def test_what_came_while_it_was_disabled_goes_before_what_comes_after(
    history: History, organization: int, receiver: Receiver, owner: Owner, start: Start
) -> None:
    watched = Watched(receiver)
    id_ = (await owner.add(order="resource", enabled=False))["id"]
    await start()
    ids = []
    for n in range(20):
        ids += [each.id for each in (await history.append(organization, 2, resource_id="x")).events]
        if n == 9:
            async with owner.pool.acquire() as connection:
                await store.change(connection, owner.scope, id_, {"enabled": True})
    await receiver.has(40, within=20)
    assert watched.order == ids
    assert not watched.beside


async def test_the_first_events_of_a_new_endpoint_are_in_order_though_the_cursor_had_passed_it(
    history: History, organization: int, receiver: Receiver, owner: Owner, start: Start
) -> None:
    watched = Watched(receiver)
    await owner.add(order="resource")
    ids = [each.id for each in (await history.append(organization, 30, resource_id="x")).events]
    await start()  # its cursor begins at the head
    ids += [each.id for each in (await history.append(organization, 3, resource_id="x")).events]
    await receiver.has(33, within=20)
    assert watched.order == ids
    assert not watched.beside


async def given_up(history: History, organization: int, owner: Owner, watched: Watched, id_: str, **more: Any) -> str:
    """An event that failed for good."""
    event = (await history.append(organization, 1, **more)).events[0].id
    watched.failing.add(event)

    async def is_given_up() -> bool:
        return event in {each["id"] for each in await owner.log(id_, "failed")}

    await eventually(is_given_up, 15)
    watched.failing.discard(event)
    return event


async def test_a_recovered_event_goes_before_a_newer_one_of_its_resource_that_waits_for_its_next_attempt(
    history: History, organization: int, receiver: Receiver, owner: Owner, start: Start
) -> None:
    watched = Watched(receiver)
    id_ = (await owner.add(order="resource", auto_disable=False))["id"]
    first = await start(schedule=ONCE)
    older = await given_up(history, organization, owner, watched, id_, resource_id="x")
    await first.__aexit__()
    await start(schedule=(2.0, 2.0))
    newer = (await history.append(organization, 1, resource_id="x")).events[0].id
    watched.failing.add(newer)

    async def has_failed_once() -> bool:
        return [len(each["attempts"]) for each in await owner.log(id_, "pending")] == [1]

    await eventually(has_failed_once, 15)
    watched.failing.discard(newer)
    due = await owner.pool.fetchval("SELECT due_at FROM streamhub_hub.webhook_deliveries")
    await recover(owner, id_)
    await owner.settled()
    assert watched.order == [older, older, newer, older, newer]
    assert not watched.beside
    attempts = {each["id"]: each["attempts"] for each in await owner.log(id_)}
    assert attempts[newer][-1]["at"] >= due.isoformat(timespec="milliseconds").replace("+00:00", "Z")  # its own pause


async def test_a_recovered_event_waits_for_a_newer_one_of_its_resource_that_is_being_attempted(
    history: History, organization: int, receiver: Receiver, owner: Owner, start: Start
) -> None:
    watched = Watched(receiver)
    id_ = (await owner.add(order="resource", auto_disable=False))["id"]
    await start(schedule=ONCE)
    older = await given_up(history, organization, owner, watched, id_, resource_id="x")
    other = await given_up(history, organization, owner, watched, id_, resource_id="y")
    newer = (await history.append(organization, 1, resource_id="x")).events[0].id
    watched.failing.add(newer)
    watched.held[newer] = asyncio.Event()
    await receiver.has(5)
    await recover(owner, id_)
    await receiver.has(6)  # of another resource, which waits for nothing
    assert watched.order[5:] == [other]
    watched.held[newer].set()
    await receiver.has(7)
    assert watched.order[5:] == [other, older]
    watched.failing.discard(newer)
    await owner.settled()
    assert watched.order[5:] == [other, older, newer]
    assert not watched.beside


async def test_a_recovery_leaves_nothing_behind_what_was_delivered(
    history: History, organization: int, receiver: Receiver, owner: Owner, start: Start
) -> None:
    """The first of the resource was delivered, the second failed, the third was delivered."""
    watched = Watched(receiver)
    id_ = (await owner.add(order="resource", auto_disable=False))["id"]
    await start(schedule=ONCE)
    await history.append(organization, 1, resource_id="x")
    await receiver.has(1)
    failed = await given_up(history, organization, owner, watched, id_, resource_id="x")
    await history.append(organization, 1, resource_id="x")
    await receiver.has(4)
    await recover(owner, id_)
    await owner.settled()
    assert watched.order[-1] == failed
    assert len(watched.order) == 5


async def test_a_retry_keeps_the_order_too(
    history: History, organization: int, receiver: Receiver, owner: Owner, start: Start
) -> None:
    watched = Watched(receiver)
    id_ = (await owner.add(order="resource", auto_disable=False))["id"]
    await start(schedule=ONCE)
    older = await given_up(history, organization, owner, watched, id_, resource_id="x")
    newer = (await history.append(organization, 3, resource_id="x")).events
    watched.held[newer[0].id] = asyncio.Event()
    await receiver.has(3)
    async with owner.pool.acquire() as connection:
        await store.retry(connection, owner.scope, id_, older)
        await store.retry(connection, owner.scope, id_, newer[2].id)  # which waits behind the others
    watched.held[newer[0].id].set()
    await owner.settled()
    assert watched.order[2:] == [newer[0].id, older, newer[1].id, newer[2].id]
    assert not watched.beside


async def test_an_endpoint_that_takes_up_the_order_has_what_is_pending_in_order(
    history: History, organization: int, receiver: Receiver, owner: Owner, start: Start
) -> None:
    watched = Watched(receiver)
    id_ = (await owner.add(auto_disable=False, max_in_flight=1))["id"]
    await start()
    events = [each.id for each in (await history.append(organization, 4, resource_id="x")).events]
    watched.held[events[0]] = asyncio.Event()
    watched.failing.add(events[0])
    await receiver.has(1)
    async with owner.pool.acquire() as connection:
        await store.change(connection, owner.scope, id_, {"order": "resource", "max_in_flight": 10})
    watched.failing.discard(events[0])
    watched.held[events[0]].set()
    await owner.settled()
    assert watched.order == events
    assert not watched.beside
