"""The client in synchronous code, which has a loop in a thread of its own. The tests are functions: no loop runs."""

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from streamhub.client import BlockingStreamHub, Event, IncompleteReplay, Refused, StreamHub
from streamhub.testing import FakeHub
from tests.support.consuming import Memory, ids, lately


@pytest.fixture
def hub(fake_hub: FakeHub) -> Iterator[BlockingStreamHub]:
    with fake_hub.client().blocking() as hub:
        yield hub


def until(condition: Callable[[], bool], within: float = 10) -> None:
    ends = time.monotonic() + within
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.01)


def test_a_replay_is_a_loop(fake_hub: FakeHub, hub: BlockingStreamHub) -> None:
    published = [fake_hub.publish("skus.update") for _ in range(3)]
    fake_hub.break_after(900)
    replay = hub.replay(**lately())
    assert ids(replay) == published
    assert replay.stream.is_complete


def test_an_incomplete_replay_raises(fake_hub: FakeHub, hub: BlockingStreamHub) -> None:
    fake_hub.end_falsely(events=1)
    with pytest.raises(IncompleteReplay):
        list(hub.replay(**lately()))


def test_live_is_a_loop_whose_position_is_stored_behind_its_body(fake_hub: FakeHub, hub: BlockingStreamHub) -> None:
    position = Memory()
    live = hub.live(position=position)

    def publish() -> None:
        fake_hub.wait_for()
        for _ in range(3):
            fake_hub.publish("skus.update")

    publisher = threading.Thread(target=publish)
    publisher.start()
    came = []
    for event in live:
        assert event.id not in position.stored
        came.append(event.id)
        if len(came) == 3:
            break
    publisher.join()
    until(lambda: fake_hub.streams() == 0)
    assert position.stored[-1] == came[1], "the loop was left at the last"


def test_broadcast_is_a_loop_and_publishing_a_call(fake_hub: FakeHub, hub: BlockingStreamHub) -> None:
    events = hub.events(types="query.*", position=Memory(fake_hub.publish("skus.update")))
    assert hub.publish("query.received", {"query": 7}, publish_id="query-7") == "query-7"
    assert next(iter(events)).data == {"query": 7}
    assert hub.types() == ["query.received", "skus.update"]


def test_a_refusal_is_raised(fake_hub: FakeHub) -> None:
    with fake_hub.client(token="wrong").blocking() as hub, pytest.raises(Refused, match="INVALID_TOKEN"):
        next(iter(hub.live()))


def test_handlers_are_called_and_may_take_themselves_off(fake_hub: FakeHub, hub: BlockingStreamHub) -> None:
    seen: list[Event] = []

    def once(event: Event) -> None:
        seen.append(event)
        off()

    every: list[Event] = []
    realtime = hub.realtime()
    off = realtime.on("skus.*", once)
    realtime.on_any(every.append)
    fake_hub.wait_for()
    published = [fake_hub.publish("skus.update") for _ in range(3)]
    until(lambda: len(every) == 3)
    assert ids(seen) == published[:1]
    assert realtime.connected
    realtime.destroy()
    assert not realtime.connected


def test_a_handler_may_destroy_what_the_main_thread_waits_for(fake_hub: FakeHub, hub: BlockingStreamHub) -> None:
    subscription = hub.realtime(types="skus.*")
    subscription.on_any(lambda _: subscription.destroy())
    fake_hub.wait_for()
    fake_hub.publish("skus.update")
    subscription.wait()


def test_closing_ends_the_thread_and_every_stream(fake_hub: FakeHub) -> None:
    threads = threading.active_count()
    hub = fake_hub.client().blocking()
    hub.realtime().on_any(print)
    fake_hub.wait_for()
    hub.close()
    hub.close()
    until(lambda: fake_hub.streams() == 0)
    assert threading.active_count() == threads


async def test_a_session_of_ones_own_is_refused() -> None:
    import aiohttp

    async with aiohttp.ClientSession() as session:
        hub = StreamHub("http://127.0.0.1:1", org="my-org", token="x", session=session)
        with pytest.raises(ValueError, match="belongs to your loop"):
            hub.blocking()
