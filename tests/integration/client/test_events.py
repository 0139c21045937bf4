"""Broadcast as a loop, and what a client asks and publishes, on a fake hub and on a real one."""

import asyncio

import pytest

from streamhub.client import Refused, StreamHub, Unreachable
from streamhub.testing import FakeHub
from tests.integration.client.conftest import FakePlace, Place
from tests.support.consuming import Memory, first, ids, until


async def test_a_loop_gets_the_events_that_it_asks_for_in_order(place: Place) -> None:
    async with place.client().events(types="orders.*", filters={"resource.n_in": [1, 2]}) as events:
        coming = asyncio.create_task(first(2, events))
        await place.connected(1, "broadcast")
        await place.publish(3)
        orders = await place.publish(3, "orders")
        assert ids(await coming) == orders[1:]


async def test_a_loop_goes_on_behind_a_position_and_tells_of_a_cut(place: Place) -> None:
    told: list[bool] = []
    published = await place.publish(3)
    events = place.client().events(position=Memory(published[0]), on_connection_change=told.append)
    async with events:
        coming = asyncio.create_task(first(3, events))
        await until(lambda: told == [True])
        await until(lambda: events.last_event_id == published[2])
        place.proxy.cut()
        await until(lambda: told == [True, False, True])
        published += await place.publish()
        assert ids(await coming) == published[1:]


async def test_live_tells_of_its_connection_too(place: Place) -> None:
    told: list[bool] = []
    async with place.client().live(on_connection_change=told.append) as live:
        coming = asyncio.create_task(first(1, live))
        await until(lambda: told == [True])
        await place.publish()
        await coming
    assert told == [True, False]


async def test_a_token_that_expires_ends_a_stream_where_no_other_can_follow(fake_place: FakePlace) -> None:
    events = fake_place.client().events()
    coming = asyncio.create_task(first(1, events))
    await fake_place.connected(1, "broadcast")
    fake_place.fake.expire_token(new="another")
    with pytest.raises(Refused, match="EXPIRED_TOKEN"):
        await coming
    assert len(fake_place.fake.seen) == 1


async def test_the_types_that_there_are_can_be_asked_for(fake_place: FakePlace) -> None:
    await fake_place.publish()
    await fake_place.publish(1, "orders")
    assert await fake_place.client().types() == ["orders.update", "skus.update"]


async def test_what_is_published_again_with_its_id_is_published_once(place: Place) -> None:
    hub = place.client()
    for _ in range(2):
        assert await hub.publish("query.received", {"query": 7}, resource_id="a", publish_id="query-7") == "query-7"
    assert await hub.publish("query.received", None) != "query-7"


async def test_a_published_event_reaches_subscribers_as_it_was_given(fake_place: FakePlace) -> None:
    hub = fake_place.client()
    async with hub.events(types="query.*") as events:
        coming = asyncio.create_task(first(1, events))
        await fake_place.connected(1, "broadcast")
        await hub.publish(
            "query.received", {"query": 7}, resource_type="queries", resource_id="a", publish_id="query-7"
        )
        (event,) = await coming
    assert (event.data, event.resource_type, event.resource_id) == ({"query": 7}, "queries", "a")
    assert event.json["publish_id"] == "query-7"


async def test_publishing_is_tried_again_until_the_hub_refuses_it_for_good(fake_place: FakePlace) -> None:
    hub, fake = fake_place.client(), fake_place.fake
    fake.refuse(503, "UNAVAILABLE", kind="publish")
    assert await hub.publish("query.received", 1, publish_id="a") == "a"
    fake.refuse(422, "INVALID_EVENT", kind="publish")
    with pytest.raises(Refused, match="INVALID_EVENT"):
        await hub.publish("query.received", 1)
    assert [seen.kind for seen in fake.seen] == ["publish"] * 3


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "https://{host}"])
async def test_a_client_that_fails_fast_says_that_there_is_no_hub(fake_hub: FakeHub, url: str) -> None:
    url = url.format(host=fake_hub.url.removeprefix("http://"))
    async with StreamHub(url, org="my-org", token=fake_hub.token, fails_fast=True) as hub:
        with pytest.raises(Unreachable, match=r"^127\.0\.0\.1:\d+ cannot be reached: (Connection refused|TLS fails, )"):
            await first(1, hub.events())


async def test_a_connection_that_is_lost_later_is_tried_again_although_the_client_fails_fast(
    fake_place: FakePlace,
) -> None:
    url = f"http://127.0.0.1:{fake_place.proxy.port}"
    async with StreamHub(url, org="my-org", token=fake_place.token(), first_pause=0.01, fails_fast=True) as hub:
        events = hub.events()
        coming = asyncio.create_task(first(2, events))
        await fake_place.connected(1, "broadcast")
        published = await fake_place.publish()
        await until(lambda: events.last_event_id == published[0])
        fake_place.proxy.cut()
        published += await fake_place.publish()
        assert ids(await coming) == published
