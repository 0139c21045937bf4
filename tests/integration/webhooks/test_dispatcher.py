"""From an event to a 2xx: what is delivered, how often, in which order, and what a crash leaves."""

import asyncio
import time
from typing import Any

import pytest
from aiohttp import web

from streamhub.core import signing
from streamhub.leases.node import Node
from streamhub.webhooks import store
from streamhub.webhooks.fan_out import FanOut, Pass
from tests.integration.conftest import History, eventually
from tests.integration.webhooks.conftest import Owner, Receiver, Start, hanging


async def test_an_event_is_delivered_signed_with_the_body_of_the_contract(
    history: History, organization: int, receiver: Receiver, owner: Owner, start: Start
) -> None:
    endpoint = await owner.add(headers={"X-Shop": "42"})
    await start()
    append = await history.append(organization)
    (got,) = await receiver.has(1)
    event = append.events[0]
    assert (got.id, got.headers["x-shop"], got.headers["content-type"]) == (event.id, "42", "application/json")
    assert list(got.body) == ["id", "type", "created_at", "data"]
    assert (got.body["id"], got.body["type"], got.body["data"]["resource_id"]) == (event.id, "skus.update", "sku_0")
    signing.verify(got.raw, got.headers, [endpoint["secret"]], time.time())
    signing.verify(
        got.raw, {"x-acp-signature": got.headers["x-acp-signature"]}, [endpoint["secret"]], 0, requires_time=False
    )


async def test_what_became_of_a_delivery_stands_in_its_log(
    history: History, organization: int, receiver: Receiver, owner: Owner, start: Start
) -> None:
    async def once_wrong(request: web.Request) -> web.StreamResponse:
        return web.Response(status=503 if len(receiver.received) == 1 else 200, text="x" * 5_000 + "\0")

    receiver.answers["/a"] = once_wrong
    id_ = (await owner.add())["id"]
    await start()
    append = await history.append(organization)
    await receiver.has(2)

    async def is_delivered() -> bool:
        return bool(await owner.log(id_, "delivered"))

    await eventually(is_delivered)
    (found,) = await owner.log(id_)
    assert (found["id"], [each["status"] for each in found["attempts"]]) == (append.events[0].id, [503, 200])
    assert found["attempts"][0]["error"] == "it answered 503"
    assert found["attempts"][1]["response"] == "x" * 4096
    assert {each.id for each in receiver.received} == {append.events[0].id}


async def test_an_endpoint_gets_what_it_asked_for(
    history: History, organization: int, receiver: Receiver, owner: Owner, start: Start
) -> None:
    other = await history.register("org_2", "other")
    await owner.add("/types", events=["orders.*"])
    await owner.add("/filters", filters={"resource.n_gteq": "2"})
    await owner.add("/resource", filters={"resource_type_eq": "skus", "resource_id_in": "sku_1,sku_9"})
    await owner.add("/prefix", filters={"path_prefix": "/docs/"})
    await start()
    await history.append(other, 3)
    await history.append(organization, 1, test=True)
    await history.append(organization, 3)
    await history.append(organization, 1, resource_type="orders", first=0)
    await history.append(organization, 1, event_type="file.moved", own={"path": "/docs/a"}, resource_type=None)
    (moved,) = await receiver.has(1, "/prefix")
    (typed,) = await receiver.has(1, "/types")
    (filtered,) = await receiver.has(1, "/filters")
    (resource,) = await receiver.has(1, "/resource")
    assert moved.body["data"] == {"path": "/docs/a"}
    assert typed.body["type"] == "orders.update"
    assert filtered.body["data"]["resource"] == {"n": 2}
    assert resource.body["data"]["resource_id"] == "sku_1"
    await asyncio.sleep(0.2)
    assert len(receiver.received) == 4


async def test_after_six_failed_attempts_the_endpoint_is_disabled(
    history: History, organization: int, receiver: Receiver, owner: Owner, start: Start
) -> None:
    receiver.answers["/a"] = 500
    id_ = (await owner.add())["id"]
    await start()
    await history.append(organization)

    async def is_disabled() -> bool:
        return (await owner.get(id_))["state"] == "disabled" and bool(await owner.log(id_, "failed"))

    await eventually(is_disabled, 30)
    assert (await owner.get(id_))["disabled_reason"] == "a delivery has failed 6 times (it answered 500)"
    (failed,) = await owner.log(id_, "failed")
    assert len(failed["attempts"]) == len(receiver.received) == 6


async def test_without_auto_disable_a_delivery_is_given_up_and_the_endpoint_goes_on(
    history: History, organization: int, receiver: Receiver, owner: Owner, start: Start
) -> None:
    receiver.answers["/a"] = 500
    id_ = (await owner.add(auto_disable=False))["id"]
    await start()
    await history.append(organization)
    await receiver.has(6, within=30)
    receiver.answers["/a"] = 200
    append = await history.append(organization)
    assert (await receiver.has(7))[-1].id == append.events[0].id
    assert (await owner.get(id_))["state"] == "ok"


async def test_a_410_disables_at_once(
    history: History, organization: int, receiver: Receiver, owner: Owner, start: Start
) -> None:
    receiver.answers["/a"] = 410
    id_ = (await owner.add(auto_disable=False))["id"]
    await start()
    await history.append(organization)

    async def is_disabled() -> bool:
        return (await owner.get(id_))["state"] == "disabled"

    await eventually(is_disabled)
    assert len(receiver.received) == 1


async def test_a_redirect_is_a_failure_and_not_followed(
    history: History, organization: int, receiver: Receiver, owner: Owner, start: Start
) -> None:
    async def redirect(request: web.Request) -> web.StreamResponse:
        raise web.HTTPTemporaryRedirect("/elsewhere")

    receiver.answers["/a"] = redirect
    id_ = (await owner.add())["id"]
    await start(schedule=(60,))
    await history.append(organization)

    async def is_tried() -> bool:
        return any(each["attempts"] for each in await owner.log(id_, "pending"))

    await eventually(is_tried)
    assert "redirects are not followed" in (await owner.log(id_))[0]["attempts"][0]["error"]
    assert not receiver.on("/elsewhere")


async def test_what_came_while_an_endpoint_was_disabled_is_sent_once_it_is_enabled(
    history: History, organization: int, receiver: Receiver, owner: Owner, start: Start
) -> None:
    id_ = (await owner.add(enabled=False))["id"]
    await owner.add("/b")
    await start()
    append = await history.append(organization, 5)
    await receiver.has(5, "/b")
    async with owner.pool.acquire() as connection:
        await store.change(connection, owner.scope, id_, {"enabled": True})
    got = await receiver.has(5)
    assert sorted(each.id for each in got) == [event.id for event in append.events]
    await history.append(organization)
    assert len(await receiver.has(6)) == 6


async def test_what_is_delivered_before_its_fan_out_has_returned_is_not_delivered_again(
    history: History, organization: int, receiver: Receiver, owner: Owner, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = FanOut.step

    async def late(self: FanOut) -> Pass:
        found = await step(self)
        if found.deliveries:
            await owner.settled_but(0)
        return found

    monkeypatch.setattr(FanOut, "step", late)
    await owner.add(max_in_flight=1)
    await start()
    events = []
    for n in range(3):
        events.append((await history.append(organization)).events[0].id)
        await receiver.has(n + 1)
        await owner.settled()
    assert [each.id for each in receiver.received] == events


async def test_recover_sends_what_failed_and_nothing_that_was_delivered(
    history: History, organization: int, receiver: Receiver, owner: Owner, start: Start
) -> None:
    id_ = (await owner.add())["id"]
    await start(schedule=(0.05,))
    first = await history.append(organization)
    await receiver.has(1)
    receiver.answers["/a"] = 500
    second = await history.append(organization)
    await receiver.has(3)

    async def is_disabled() -> bool:
        return (await owner.get(id_))["state"] == "disabled"

    await eventually(is_disabled)
    receiver.answers["/a"] = 200
    async with owner.pool.acquire() as connection:
        await store.recover(connection, owner.scope, id_, await history.now_ms() - 60_000)
    await receiver.has(4)

    async def are_delivered() -> bool:
        return len(await owner.log(id_, "delivered")) == 2

    await eventually(are_delivered)
    assert [each.id for each in receiver.received[2:]] == [second.events[0].id] * 2
    assert receiver.received[0].id == first.events[0].id
    newest = (await owner.log(id_))[0]
    assert [each["status"] for each in newest["attempts"]] == [500, 500, 200]


async def test_with_order_resource_the_next_event_waits_for_the_one_before_and_others_do_not(
    history: History, organization: int, receiver: Receiver, owner: Owner, start: Start
) -> None:
    hold = asyncio.Event()

    async def held(request: web.Request) -> web.StreamResponse:
        if receiver.received[-1].body["data"]["resource_id"] == "x":
            await hold.wait()
        return web.Response()

    receiver.answers["/a"] = held
    await owner.add(order="resource")
    await start()
    mine = [(await history.append(organization, 2, resource_id="x")).events for _ in range(2)]
    await history.append(organization, 2, resource_id="y")
    got = await receiver.has(3)
    assert sorted(each.body["data"]["resource_id"] for each in got) == [
        "x",
        "y",
        "y",
    ]  # each on a connection of its own
    hold.set()
    got = await receiver.has(6)
    assert [each.id for each in got if each.body["data"]["resource_id"] == "x"] == [
        event.id for events in mine for event in events
    ]


async def test_in_flight_and_rate_are_bounded(
    history: History, organization: int, receiver: Receiver, owner: Owner, start: Start
) -> None:
    now = most = 0

    async def slow(request: web.Request) -> web.StreamResponse:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.05)
        now -= 1
        return web.Response()

    receiver.answers["/a"] = slow
    await owner.add(max_in_flight=3)
    await owner.add("/rate", rate=2)
    await start()
    await history.append(organization, 20)
    await receiver.has(20)
    assert most == 3
    began = time.monotonic()
    await receiver.has(5, "/rate")
    assert len(receiver.on("/rate")) <= 2 * (time.monotonic() - began + 2) + 2


async def test_an_endpoint_that_hangs_delays_no_other(
    history: History, organization: int, receiver: Receiver, owner: Owner, start: Start
) -> None:
    hold = asyncio.Event()
    receiver.answers["/hang"] = hanging(hold)
    await owner.add("/hang")
    await owner.add()
    await start()
    await history.append(organization, 100)
    await receiver.has(100)
    await receiver.has(10, "/hang")
    await owner.settled_but(100)
    assert len(receiver.on("/hang")) == 10
    hold.set()


async def test_an_endpoint_that_keeps_failing_is_probed_with_one_at_a_time(
    history: History, organization: int, receiver: Receiver, owner: Owner, start: Start
) -> None:
    begun: list[tuple[float, int]] = []  # when, and how many were under way
    under_way = 0

    async def fail(_request: web.Request) -> web.StreamResponse:
        nonlocal under_way
        under_way += 1
        begun.append((time.monotonic(), under_way))
        await asyncio.sleep(0.01)
        under_way -= 1
        return web.Response(status=500)

    def probes() -> list[int]:
        """Which requests came after a pause, once ten had failed."""
        return [n for n in range(10, len(begun)) if begun[n][0] - begun[n - 1][0] > 0.9]

    async def is_probed_twice() -> bool:
        return len(probes()) == 2

    receiver.answers["/a"] = fail
    id_ = (await owner.add(max_in_flight=5))["id"]
    await start(schedule=(60, 60, 60, 60, 60))
    append = await history.append(organization, 40)
    await eventually(is_probed_twice, 30)
    first, second = probes()
    assert (first <= 14, second) == (True, first + 1)  # four at most were under way with the tenth
    assert begun[second][0] - begun[first][0] >= 2.0
    assert [begun[n][1] for n in (first, second)] == [1, 1]
    # The oldest that are due, which those that have failed just now are not.
    ids = [each.id for each in append.events]
    assert {each.id for each in receiver.received[: second + 1]} == set(ids[: second + 1])
    assert (await owner.get(id_))["state"] == "failing"


async def test_a_probe_is_of_the_delivery_with_most_attempts_though_others_are_due_before_it(
    history: History, organization: int, receiver: Receiver, owner: Owner, start: Start
) -> None:
    receiver.answers["/a"] = 500
    id_ = (await owner.add(max_in_flight=1))["id"]
    await start(schedule=(60, 60, 60, 60, 60))
    append = await history.append(organization, 200)

    async def is_(state: str) -> bool:
        return bool((await owner.get(id_))["state"] == state)

    await eventually(lambda: is_("failing"))
    last = append.events[-1].id
    await owner.pool.execute("UPDATE streamhub_hub.webhook_deliveries SET attempts = 5 WHERE event = $1", last)
    await eventually(lambda: is_("disabled"))
    assert receiver.received[-1].id == last


async def test_one_success_of_a_probe_ends_the_pauses(
    history: History, organization: int, receiver: Receiver, owner: Owner, start: Start
) -> None:
    receiver.answers["/a"] = 500
    id_ = (await owner.add(max_in_flight=5))["id"]
    await start(schedule=(60, 60, 60, 60, 60))
    await history.append(organization, 40)

    async def is_(state: str) -> bool:
        return bool((await owner.get(id_))["state"] == state)

    await eventually(lambda: is_("failing"))
    receiver.answers["/a"] = 200
    got = await receiver.has(40)
    assert len({each.id for each in got}) == 40
    await eventually(lambda: is_("ok"))


async def test_several_dispatchers_share_the_work_and_deliver_once(
    history: History, organization: int, receiver: Receiver, owner: Owner, start: Start
) -> None:
    for n in range(10):
        await owner.add(f"/{n}")
    for _ in range(3):
        await start()
    for _ in range(10):
        await history.append(organization, 10)
    for n in range(10):
        got = await receiver.has(100, f"/{n}")
        assert len({each.id for each in got}) == 100
    await asyncio.sleep(0.2)
    assert len(receiver.received) == 1_000


async def test_what_a_process_had_that_died_is_delivered_by_another(
    history: History, organization: int, receiver: Receiver, owner: Owner, start: Start, pool: Any
) -> None:
    """It took the endpoint, sent the first deliveries, and wrote nothing of them."""
    dead = Node(pool, ttl=1.0)
    await dead.start()
    hold = asyncio.Event()
    receiver.answers["/a"] = hanging(hold)
    await owner.add(max_in_flight=2)
    first = await start(dead)
    append = await history.append(organization, 4)
    await receiver.has(2)
    assert dead._renewing is not None
    dead._renewing.cancel()
    for task in first._tasks:
        task.cancel()
    del receiver.answers["/a"]
    await start()
    got = await receiver.has(6, within=30)
    hold.set()
    assert sorted(each.id for each in got[2:]) == [event.id for event in append.events]


class Doubted(Node):
    """It is not trusted while `doubted`."""

    doubted = False

    @property
    def trusted(self) -> bool:
        return not self.doubted and super().trusted


async def test_a_process_that_was_away_begins_nothing_of_what_another_has_taken(
    history: History, organization: int, receiver: Receiver, owner: Owner, start: Start, pool: Any
) -> None:
    node = Doubted(pool, ttl=1.0)
    await node.start()
    hold = asyncio.Event()
    receiver.answers["/a"] = hanging(hold)
    await owner.add(max_in_flight=2)
    await start(node)
    append = await history.append(organization, 6)
    await receiver.has(2)
    assert node._renewing is not None
    node._renewing.cancel()  # not before: its row has to hold until the first attempts have begun
    node.doubted = True
    await start()
    await receiver.has(4, within=30)
    node._renewing = asyncio.create_task(node._keep_renewed())
    node.doubted = False
    await asyncio.sleep(1.5)  # it looks each second
    assert len(receiver.received) == 4
    hold.set()
    await owner.settled()
    assert len(receiver.received) == 8
    assert sorted(each.id for each in receiver.received[2:]) == [each.id for each in append.events]
    await node.stop()


async def test_a_retry_that_is_asked_for_twice_at_once_makes_one_attempt_at_a_time(
    history: History, organization: int, receiver: Receiver, owner: Owner, start: Start
) -> None:
    under_way = most = 0
    hold = asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        if len(receiver.received) == 2:
            await hold.wait()
        under_way -= 1
        return web.Response()

    receiver.answers["/a"] = answer
    id_ = (await owner.add())["id"]
    for _ in range(2):
        await start()
    event = (await history.append(organization)).events[0].id
    await receiver.has(1)
    await owner.settled()

    async def retry() -> None:
        async with owner.pool.acquire() as connection:
            assert await store.retry(connection, owner.scope, id_, event) is not None

    await asyncio.gather(*(retry() for _ in range(4)))
    await receiver.has(2)
    await asyncio.gather(*(retry() for _ in range(4)))
    await asyncio.sleep(0.3)  # several reads of what is due
    assert len(receiver.received) == 2
    hold.set()
    await owner.settled()
    assert most == 1
    assert {each.id for each in receiver.received} == {event}


async def test_connections_are_used_again(
    history: History, organization: int, receiver: Receiver, owner: Owner, start: Start
) -> None:
    peers = set()

    async def note(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        peers.add(request.transport.get_extra_info("peername"))
        return web.Response()

    receiver.answers["/a"] = note
    await owner.add(max_in_flight=1)
    await start()
    await history.append(organization, 20)
    await receiver.has(20)
    assert len(peers) == 1


async def test_a_row_of_sql_that_makes_no_sense_harms_no_other(
    history: History, organization: int, receiver: Receiver, owner: Owner, start: Start
) -> None:
    await owner.pool.execute(
        "INSERT INTO streamhub_hub.webhook_endpoints (organization, url, filters) VALUES ($1, 'x', '{\"a\": 1}')",
        organization,
    )
    await owner.add()
    await start()
    await history.append(organization)
    await receiver.has(1)


async def test_during_a_rotation_both_secrets_verify(
    history: History, organization: int, receiver: Receiver, owner: Owner, start: Start
) -> None:
    endpoint = await owner.add()
    async with owner.pool.acquire() as connection:
        rotated = await store.rotate_secret(connection, owner.scope, endpoint["id"])
    assert rotated is not None
    await start()
    await history.append(organization)
    (got,) = await receiver.has(1)
    for secret in (endpoint["secret"], rotated["secret"]):
        signing.verify(got.raw, got.headers, [secret], time.time())
    acp = {"X-ACP-Signature": got.headers["x-acp-signature"]}
    signing.verify(got.raw, acp, [endpoint["secret"]], 0, requires_time=False)
