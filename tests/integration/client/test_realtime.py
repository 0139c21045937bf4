"""Handlers over the broadcast stream."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from streamhub.client import Event, Gap, Realtime, Refused
from tests.integration.client.conftest import FakePlace, Place
from tests.support.consuming import Memory, ids, until


async def connected(place: Place) -> None:
    await place.connected(1, "broadcast")


class Seen:
    """A handler that keeps what it was called with."""

    def __init__(self) -> None:
        self.events: list[Any] = []

    def __call__(self, event: Any) -> None:
        self.events.append(event)

    async def until(self, count: int) -> list[Any]:
        await until(lambda: len(self.events) >= count)
        return self.events


async def test_each_handler_gets_the_events_of_its_types_in_order(place: Place) -> None:
    realtime = place.client().realtime()
    all_, skus, orders = Seen(), Seen(), Seen()
    realtime.on_any(all_)
    realtime.on("skus.update", skus)
    realtime.on(["orders.*", "nothing.create"], orders)
    await connected(place)
    published = [
        *await place.publish(2),
        *await place.publish(2, "orders"),
        *await place.publish(1),
    ]
    assert ids(await all_.until(5)) == published
    assert ids(skus.events) == [*published[:2], published[4]]
    assert ids(orders.events) == published[2:4]


async def test_only_what_a_subscription_asks_for_comes(place: Place) -> None:
    realtime = place.client().realtime(types="orders.*", filters={"resource.n_in": [1, 2], "resource.n_null": False})
    seen = Seen()
    realtime.on_any(seen)
    await connected(place)
    await place.publish(3)
    orders = await place.publish(3, "orders")
    assert ids(await seen.until(2)) == orders[1:]
    await realtime.destroy()


async def test_a_coroutine_function_is_awaited_before_the_next_event(place: Place) -> None:
    steps: list[tuple[str, int]] = []

    async def handler(event: Event) -> None:
        assert event.resource is not None
        steps.append(("begins", event.resource["n"]))
        await asyncio.sleep(0)
        steps.append(("ends", event.resource["n"]))

    place.client().realtime().on("*", handler)
    await connected(place)
    await place.publish(2)
    await until(lambda: len(steps) == 4)
    assert steps == [("begins", 0), ("ends", 0), ("begins", 1), ("ends", 1)]


async def test_what_a_handler_raises_reaches_on_error_and_stops_no_other(place: Place) -> None:
    realtime = place.client().realtime()
    errors, after = Seen(), Seen()

    def fails(event: Event) -> None:
        raise ZeroDivisionError(event.id)

    realtime.on_error(errors)
    realtime.on_any(fails)
    realtime.on_any(after)
    await connected(place)
    published = await place.publish(2)
    assert ids(await after.until(2)) == published
    assert [str(error) for error in errors.events] == published
    assert "raised by" in errors.events[0].__notes__[0]


async def test_without_on_error_an_error_is_logged(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    def fails(event: Event) -> None:
        raise ZeroDivisionError("by a handler")

    place.client().realtime().on_any(fails)
    await connected(place)
    await place.publish()
    await until(lambda: "by a handler" in caplog.text)


async def test_a_handler_that_is_off_is_not_called_again(place: Place) -> None:
    realtime = place.client().realtime()
    one, other = Seen(), Seen()
    off = realtime.on_any(one)
    realtime.on_any(other)
    await connected(place)
    published = await place.publish()
    await other.until(1)
    off()
    off()
    await place.publish()
    await other.until(2)
    assert ids(one.events) == published


async def test_a_lost_connection_is_told_and_resumed_behind_the_last_event(place: Place) -> None:
    realtime = place.client().realtime()
    seen, changes = Seen(), Seen()
    realtime.on_connection_change(changes)
    realtime.on_any(seen)
    place.proxy.after.append(3_000)
    assert not realtime.connected
    await connected(place)
    published = await place.publish(20)
    assert ids(await seen.until(20)) == published
    assert changes.events[:3] == [True, False, True]
    assert realtime.connected


async def test_after_destroy_nothing_is_called(place: Place) -> None:
    realtime = place.client().realtime()
    seen, changes = Seen(), Seen()
    realtime.on_any(seen)
    realtime.on_connection_change(changes)
    await connected(place)
    waiting = asyncio.create_task(realtime.wait())
    await realtime.destroy()
    await waiting
    await place.connected(0, "broadcast")
    await place.publish()
    assert seen.events == []
    assert changes.events == [True, False]


async def test_what_has_ended_takes_no_handler(fake_place: FakePlace) -> None:
    realtime = fake_place.client().realtime()
    realtime.on_any(print)
    await realtime.destroy()
    await realtime.wait()
    with pytest.raises(RuntimeError, match="has ended"):
        realtime.on_any(print)


async def test_a_handler_may_destroy(place: Place) -> None:
    realtime = place.client().realtime()
    seen, after = Seen(), Seen()

    async def destroys(event: Event) -> None:
        seen(event)
        await realtime.destroy()

    realtime.on_any(destroys)
    realtime.on_any(after)
    await connected(place)
    await place.publish(3)
    await asyncio.wait_for(realtime.wait(), 10)
    assert len(seen.events) == 1
    assert after.events == []


async def test_a_refusal_for_good_reaches_on_error_and_who_waits(place: Place) -> None:
    realtime = place.client(token="wrong").realtime()
    errors = Seen()
    realtime.on_error(errors)
    with pytest.raises(Refused, match="INVALID_TOKEN"):
        await realtime.wait()
    assert [error.code for error in errors.events] == ["INVALID_TOKEN"]


async def test_what_is_no_type_is_refused_at_once(fake_place: FakePlace) -> None:
    with pytest.raises(ValueError, match=r"give types such as skus\.update"):
        fake_place.client().realtime().on("skus.*,", print)


async def test_a_position_is_stored_once_all_handlers_are_done_and_resumed(place: Place) -> None:
    position, seen, during = Memory(), Seen(), Seen()
    realtime = place.client().realtime(position=position)
    realtime.on_any(lambda _: during(list(position.stored)))
    realtime.on_any(seen)
    await connected(place)
    published = await place.publish()
    await until(lambda: position.stored == published)
    assert during.events == [[]]
    await realtime.destroy()
    published += await place.publish(2)
    again = place.client().realtime(position=position)
    again.on_any(seen)
    assert ids(await seen.until(3)) == published
    await again.destroy()


async def test_a_position_that_cannot_be_stored_is_told_and_stored_later(fake_place: FakePlace) -> None:
    class Broken(Memory):
        tries = 0

        async def store(self, id: str) -> None:
            self.tries += 1
            if self.tries < 3:
                raise OSError("the disk is full")
            await super().store(id)

    position, errors = Broken(), Seen()
    realtime = fake_place.client().realtime(position=position)
    realtime.on_error(errors)
    realtime.on_any(Seen())
    await connected(fake_place)
    published = await fake_place.publish()
    await until(lambda: position.stored == published)
    assert [str(error) for error in errors.events] == ["the disk is full"] * 2
    await realtime.destroy()


async def test_a_gap_is_told_before_what_follows(fake_place: FakePlace) -> None:
    then = datetime.now(UTC) - timedelta(hours=2)
    old = fake_place.fake.publish("skus.update", published_at=then)
    new = await fake_place.publish()
    fake_place.fake.gap(old, then, then + timedelta(hours=1))
    seen = Seen()
    realtime = fake_place.client().realtime(position=Memory(old))
    realtime.on_gap(seen)
    realtime.on_any(seen)
    gap, event = await seen.until(2)
    assert isinstance(gap, Gap)
    assert (gap.after_id, gap.end - gap.start) == (old, timedelta(hours=1))
    assert event.id == new[0]
    await realtime.destroy()


async def test_a_slow_handler_holds_back_the_hub_and_loses_nothing(fake_place: FakePlace) -> None:
    """The hub has more than sockets and the client take; the client keeps one read of it."""
    may_go_on = asyncio.Event()
    seen = Seen()

    async def slow(event: Event) -> None:
        await may_go_on.wait()
        seen(event.id)

    realtime: Realtime = fake_place.client().realtime()
    realtime.on_any(slow)
    await connected(fake_place)
    published = [
        await asyncio.to_thread(fake_place.fake.publish, "skus.update", resource={"filler": "x" * 100_000})
        for _ in range(150)
    ]
    await fake_place.proxy.stuck()
    may_go_on.set()
    assert await seen.until(150) == published
