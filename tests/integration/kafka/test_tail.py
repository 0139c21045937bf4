"""The tail over a real Kafka: what may happen to a topic, to its records and to a broker, with readers that must not
notice. What every tail keeps, whatever its engine, is in tests/contract."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import asyncpg
import pytest

from servers.kafka import Broker
from streamhub.core import ids
from streamhub.history.append import Append
from streamhub.kafka.brokers import Brokers
from streamhub.kafka.tail import KafkaTail
from tests.support.publishing import Following, Publisher, append_by_hand, following, publishing
from tests.support.tasks import ended


class Stage:
    """A topic with its publisher, and tails over it."""

    def __init__(self, pool: "asyncpg.Pool[asyncpg.Record]", publisher: Publisher, stack: AsyncExitStack) -> None:
        self.pool = pool
        self.publisher = publisher
        self.stack = stack
        self.appended: asyncio.Queue[Append] = asyncio.Queue()
        self.ids: dict[int, list[str]] = {}

    async def tail(self, look_every: float = 1.0) -> KafkaTail:
        tail = KafkaTail(self.pool, Brokers([self.publisher.bootstrap]), self.publisher.topic, look_every=look_every)
        await tail.start()
        self.stack.push_async_callback(tail.stop)
        return tail

    async def follows(self, tail: KafkaTail, organization: int) -> Following:
        """A reader that has had an event of its organization through the topic."""
        reader = await self.stack.enter_async_context(following(self.pool, tail, organization))
        await asyncio.sleep(0.6)
        first = await self.append([organization])
        await self.publisher.send(first.events)
        await reader.has(*self.ids[organization])
        return reader

    async def append(self, organizations: Sequence[int], **more: int) -> Append:
        append = await append_by_hand(self.pool, organizations, notify=False, **more)
        for event in append.events:
            self.ids.setdefault(event.organization, []).append(event.id)
        return append

    async def append_and_send(self, organizations: Sequence[int]) -> Append:
        append = await self.append(organizations)
        await self.publisher.send(append.events)
        return append

    @asynccontextmanager
    async def load(self, organizations: Sequence[int]) -> AsyncIterator[None]:
        """An append each few milliseconds, which the publisher sends as it can; all is sent after the block."""

        async def write() -> None:
            while True:
                self.appended.put_nowait(await self.append(organizations))
                await asyncio.sleep(0.005)

        sending = asyncio.create_task(self.publisher.keep_up(self.appended))
        writing = asyncio.create_task(write())
        try:
            yield
            await ended(writing)
            last = max(each[-1] for each in self.ids.values())
            async with asyncio.timeout(20):
                while self.publisher.start < last:  # noqa: ASYNC110 - what it is has no event
                    await asyncio.sleep(0.02)
        finally:
            await ended(writing, sending)


@pytest.fixture(autouse=True)
def _quiet() -> None:
    """As in a process of ours."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)


@pytest.fixture
async def stage(pool: "asyncpg.Pool[asyncpg.Record]", broker: Broker) -> AsyncIterator[Stage]:
    async with AsyncExitStack() as stack:
        publisher = await stack.enter_async_context(publishing(broker.bootstrap, pool))
        yield Stage(pool, publisher, stack)


async def until(condition: Callable[[], bool], within: float = 10) -> float:
    """The seconds until it holds."""
    began = time.monotonic()
    async with asyncio.timeout(within):
        while not condition():  # noqa: ASYNC110 - there is nothing but the outside to look at
            await asyncio.sleep(0.005)
    return time.monotonic() - began


async def quick(stage: Stage, reader: Following) -> bool:
    """Whether an event comes sooner than history would bring it."""
    append = await stage.append_and_send([reader.organization])
    return await until(lambda: append.last_id in reader.ids) < 0.4


# -- records


async def test_a_run_that_is_sent_again_is_not_heard_again(stage: Stage) -> None:
    tail = await stage.tail()
    reader = await stage.follows(tail, 1)
    run = [event for _ in range(20) for event in (await stage.append([1, 2])).events]
    before = dict(stage.publisher.last), stage.publisher.start
    await stage.publisher.send(run)
    stage.publisher.last, stage.publisher.start = before
    await stage.publisher.send(run)
    await stage.append_and_send([1])
    await reader.has(*stage.ids[1])


async def test_what_an_old_leader_sends_late_is_not_heard_again(stage: Stage) -> None:
    tail = await stage.tail()
    reader = await stage.follows(tail, 1)
    old_leader = dict(stage.publisher.last), stage.publisher.start
    late = await stage.append_and_send([1, 1, 2, 1])
    await stage.append_and_send([1, 1])
    new_leader = dict(stage.publisher.last), stage.publisher.start
    stage.publisher.last, stage.publisher.start = old_leader
    await stage.publisher.send(late.events, move=False)
    stage.publisher.last, stage.publisher.start = new_leader
    await stage.append_and_send([1])
    await reader.has(*stage.ids[1])
    assert not tail.degraded


async def test_records_that_were_left_out_are_heard_before_those_that_follow(stage: Stage) -> None:
    tail = await stage.tail(look_every=60)
    reader = await stage.follows(tail, 1)
    for event in (await stage.append([1, 1, 1])).events:
        stage.publisher.pass_over(event)
    await stage.append_and_send([1])
    await reader.has(*stage.ids[1])


async def test_a_record_left_out_at_the_end_is_heard_although_nothing_follows(stage: Stage) -> None:
    tail = await stage.tail()
    reader = await stage.follows(tail, 1)
    lost = await stage.append([1])
    await stage.pool.execute("UPDATE streamhub_hub.publications SET published_id = $1", lost.last_id)
    await reader.has(*stage.ids[1], within=3.5)


async def test_a_record_that_is_no_event_does_not_stop_the_stream(stage: Stage) -> None:
    tail = await stage.tail()
    reader = await stage.follows(tail, 1)
    broken = (await stage.append([1])).events[0]
    await stage.publisher.send([broken], value=b"{")
    await stage.append_and_send([1])
    await reader.has(*stage.ids[1])


async def test_a_record_of_somebody_else_is_passed_over(stage: Stage) -> None:
    tail = await stage.tail()
    reader = await stage.follows(tail, 1)
    await stage.publisher.send_foreign(b"org_1", b"what is this")
    await stage.append_and_send([1])
    await reader.has(*stage.ids[1])
    assert not tail.degraded


async def test_an_event_of_great_size_comes_through_the_topic(stage: Stage) -> None:
    tail = await stage.tail(look_every=60)
    reader = await stage.follows(tail, 1)
    append = await stage.append([1], size=16_000_000)
    await stage.publisher.send(append.events)
    await stage.append_and_send([1])
    await reader.has(*stage.ids[1])


# -- partitions


async def test_readers_that_come_and_go_under_load_miss_nothing(stage: Stage) -> None:
    tail = await stage.tail(look_every=0.3)
    readers: list[Following] = []
    async with stage.load([1, 2, 3, 4]):
        for n in range(40):
            organization = 1 + n % 4
            position = stage.ids.get(organization, [ids.MIN_ID])[-1]
            reader = following(stage.pool, tail, organization, position)
            readers.append(await stage.stack.enter_async_context(reader))
            await asyncio.sleep(0.03)
    for each_reader in readers:
        beyond = (each for each in stage.ids[each_reader.organization] if each > each_reader.position)
        await each_reader.has(*beyond)


async def test_an_organization_subscribed_while_its_partition_is_joining_hears_of_everything(stage: Stage) -> None:
    await stage.publisher.divide(4)
    tail = await stage.tail(look_every=60)
    async with following(stage.pool, tail, 1) as first:
        for n in range(20):
            await stage.append_and_send([1, 1 + n, 1])
            await asyncio.sleep(0.01)
            if n == 3:
                others = [
                    await stage.stack.enter_async_context(following(stage.pool, tail, key)) for key in range(2, 20)
                ]
        await stage.append_and_send(range(1, 20))
        for reader in (first, *others):
            await reader.has(*stage.ids[reader.organization])


async def test_more_partitions_under_load_lose_and_repeat_nothing(stage: Stage) -> None:
    tail = await stage.tail()
    readers = [await stage.follows(tail, key) for key in (1, 2, 3)]
    async with stage.load([1, 2, 3]):
        await asyncio.sleep(0.5)
        await stage.publisher.divide(8)
        await asyncio.sleep(2.5)
    for reader in readers:
        await reader.has(*stage.ids[reader.organization])
    assert await quick(stage, readers[0])


async def test_a_topic_made_anew_under_load_loses_and_repeats_nothing(stage: Stage) -> None:
    tail = await stage.tail()
    readers = [await stage.follows(tail, key) for key in (1, 2, 3)]
    async with stage.load([1, 2, 3]):
        await asyncio.sleep(0.5)
        await stage.publisher.delete_topic()
        await asyncio.sleep(1)
        await stage.publisher.create_topic()
        await asyncio.sleep(2)
    for reader in readers:
        await reader.has(*stage.ids[reader.organization])
    await until(lambda: not tail.degraded)
    assert await quick(stage, readers[0])


async def test_a_partition_nobody_listens_to_is_left_after_a_while(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamhub.kafka.tail.LINGER", 0.1)
    tail = await stage.tail(look_every=0.1)
    async with following(stage.pool, tail, 1):
        await until(lambda: bool(tail.followed))
    await until(lambda: not tail.followed)
    reader = await stage.follows(tail, 1)
    assert await quick(stage, reader)


# -- the broker away


@pytest.mark.parametrize("fault", ["stopped", "suspended"])
async def test_while_the_broker_is_away_events_come_from_history_and_then_from_the_topic_again(
    stage: Stage, broker: Broker, fault: str
) -> None:
    tail = await stage.tail()
    readers = [await stage.follows(tail, key) for key in (1, 2)]
    async with stage.load([1, 2]):
        await asyncio.sleep(0.3)
        if fault == "stopped":
            await asyncio.to_thread(broker.kill)
        else:
            broker.suspend()
        away = time.monotonic()
        worst = 0.0
        while time.monotonic() - away < 5:
            await asyncio.sleep(0.05)
            newest = stage.ids[1][-1]
            worst = max(worst, await until(lambda: readers[0].ids[-1] >= newest))  # noqa: B023
        assert worst < 3
        assert tail.degraded
        if fault == "stopped":
            await asyncio.to_thread(broker.start)
        else:
            broker.resume()
        await until(lambda: not tail.degraded, within=20)
    for reader in readers:
        await reader.has(*stage.ids[reader.organization])
    assert await quick(stage, readers[0])


async def test_a_tail_starts_without_a_broker_and_serves_from_history_until_it_is_there(
    stage: Stage, broker: Broker
) -> None:
    await stage.publisher.disconnect()
    await asyncio.to_thread(broker.stop)
    tail = await stage.tail()
    async with following(stage.pool, tail, 1) as reader:
        await stage.append([1])
        await reader.has(*stage.ids[1], within=4)
        await asyncio.to_thread(broker.start)
        await stage.publisher.connect()
        await until(lambda: not tail.degraded, within=20)
        await stage.append_and_send([1])
        await reader.has(*stage.ids[1])


async def test_it_stops_in_time_although_the_broker_hangs(stage: Stage, broker: Broker) -> None:
    tail = await stage.tail()
    await stage.follows(tail, 1)
    broker.suspend()
    began = time.monotonic()
    await tail.stop()
    broker.resume()
    assert time.monotonic() - began < 4


async def test_a_broker_that_stays_away_is_said_once(
    stage: Stage, broker: Broker, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamhub.kafka.consumer.BROKER_WITHIN", 0.5)
    tail = await stage.tail(look_every=0.2)
    await stage.follows(tail, 1)
    await stage.publisher.disconnect()
    caplog.clear()
    caplog.set_level(logging.WARNING, "streamhub")
    await asyncio.to_thread(broker.stop)
    await until(lambda: len(caplog.records) >= 2)
    await asyncio.sleep(2)
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 2, said  # what it means for the streams, and what ails the broker
