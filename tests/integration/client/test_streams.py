"""Live streams and replays of the client, on a fake hub and on a real one."""

import asyncio

import pytest

from streamhub.client import Refused
from tests.integration.client.conftest import Place
from tests.support.consuming import Memory, first, ids, lately, until
from tests.support.tasks import ended


async def test_live_delivers_what_is_published_in_order(place: Place) -> None:
    async with place.client().live() as live:
        coming = asyncio.create_task(first(5, live))
        await place.connected(1, "live")
        published = await place.publish(2) + await place.publish(3)
        events = await coming
    assert ids(events) == published
    assert [event.resource for event in events] == [{"n": n} for n in (0, 1, 0, 1, 2)]
    assert {(event.type, event.event, event.test) for event in events} == {("skus.update", "update", False)}


async def test_live_goes_on_behind_the_last_event_after_a_cut(place: Place) -> None:
    place.proxy.after.extend([1_500, 2_000])
    async with place.client().live() as live:
        coming = asyncio.create_task(first(20, live))
        await place.connected(1, "live")
        published = await place.publish(20)
        assert ids(await coming) == published
    assert place.proxy.connections > 2


async def test_live_goes_on_behind_a_position(place: Place) -> None:
    published = await place.publish(5)
    live = place.client().live(position=Memory(published[1]))
    async with live:
        assert ids(await first(3, live)) == published[2:]


async def test_a_second_consumer_gets_the_stream_once_the_first_has_gone(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    one, two = place.client().live(), place.client().live()
    waiting = asyncio.create_task(first(1, one))
    await place.connected(1, "live")
    async with two:
        second = asyncio.create_task(first(1, two))
        await until(lambda: "ACTIVE_CONSUMER_EXISTS" in caplog.text)
        assert not two.connected
        await ended(waiting)
        await one.close()
        await until(lambda: two.connected)
        published = await place.publish()
        assert ids(await second) == published


async def test_a_wrong_token_is_refused_for_good(place: Place) -> None:
    with pytest.raises(Refused, match="INVALID_TOKEN") as refused:
        await first(1, place.client(token="wrong").live())
    assert (refused.value.status, refused.value.code, refused.value.is_final) == (401, "INVALID_TOKEN", True)


async def test_another_organization_is_refused_for_good(place: Place) -> None:
    with pytest.raises(Refused) as refused:
        await first(1, place.client(org="another").live())
    assert (refused.value.status, refused.value.code) == (403, "ORGANIZATION_MISMATCH")


async def test_a_replay_returns_the_window_and_ends(place: Place) -> None:
    published = await place.publish(30)
    replay = place.client().replay(**lately())
    assert ids([event async for event in replay]) == published
    assert replay.is_complete
    assert replay.events == 30


async def test_a_replay_of_nothing_is_complete(place: Place) -> None:
    replay = place.client().replay(**lately())
    assert [event async for event in replay] == []
    assert replay.is_complete


async def test_a_replay_returns_only_what_was_asked_for(place: Place) -> None:
    await place.publish(3)
    orders = await place.publish(3, "orders")
    replay = place.client().replay(**lately(), types=["orders.*"], filters={"resource.n_gteq": "1"})
    assert ids([event async for event in replay]) == orders[1:]


async def test_a_replay_resumes_behind_the_last_event_after_each_cut(place: Place) -> None:
    published = await place.publish(40)
    place.proxy.after.extend([100, 2_000, 3_000, 4_001])
    replay = place.client().replay(**lately())
    assert ids([event async for event in replay]) == published
    assert replay.is_complete
    assert place.proxy.connections == 5


async def test_a_replay_goes_on_behind_a_position(place: Place) -> None:
    published = await place.publish(10)
    position = Memory(published[6])
    assert ids([event async for event in place.client().replay(**lately(), position=position)]) == published[7:]
    assert position.stored[-1] == published[-1]


async def test_a_replay_without_a_window_is_refused_for_good(place: Place) -> None:
    with pytest.raises(Refused) as refused:
        await first(1, place.client().replay(types="skus.*"))
    assert refused.value.code == "MISSING_DATE_RANGE"
    assert [error["code"] for error in refused.value.errors] == ["MISSING_DATE_RANGE"]
