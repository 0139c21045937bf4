"""Appends by hand, a publisher whose every record a test decides on, and a reader: for what a tail has to live with."""

import asyncio
import itertools
import json
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import asyncpg
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic
from aiokafka.errors import KafkaError

from streamhub.core import ids
from streamhub.core.events import StoredEvent
from streamhub.core.records import record_of
from streamhub.core.subscription import State, Subscription
from streamhub.history.append import Append
from streamhub.history.reader import Reader, Selection
from streamhub.kafka.consumer import partition_of
from streamhub.tail import Tail
from tests.support.history import insert
from tests.support.tasks import ended

_numbers = itertools.count(1)


async def append_by_hand(
    pool: "asyncpg.Pool[asyncpg.Record]", organizations: Sequence[int], *, size: int = 10, notify: bool = True
) -> Append:
    """One append with an event for each of these organizations (`org_<key>`), in this order."""
    async with pool.acquire() as connection, connection.transaction():
        row = await connection.fetchrow(
            "WITH head AS (SELECT greatest(head_ms, 1) AS ms, head_counter + $1 AS counter "
            "FROM streamhub_hub.lock_log(NULL)) "
            "INSERT INTO streamhub_hub.log_heads SELECT ms, counter, ms, counter FROM head "
            "RETURNING last_ms, last_counter",
            len(organizations),
        )
        assert row is not None
        ms, counter = row
        new = ids.event_ids(ms, counter - len(organizations) + 1, len(organizations))
        events = [
            StoredEvent(key, id_, False, "a.update", "a", "1", _frame(key, id_, size))
            for key, id_ in zip(organizations, new, strict=True)
        ]
        await insert(connection, events)
        previous = ids.event_id(ms, counter - len(organizations))
        if notify:
            keys = ",".join(map(str, sorted(set(organizations))))
            await connection.execute(
                "SELECT pg_notify(appends, $1) FROM streamhub_hub.channels", f"{previous} {new[0]} {new[-1]} {keys}"
            )
    return Append(previous, new[0], new[-1], events)


def _frame(organization: int, id_: str, size: int) -> bytes:
    data = {
        "id": id_, "type": "a.update", "event": "update", "resource_type": "a", "resource_id": "1", "test": False,
        "organization": {"id": f"org_{organization}", "slug": f"org-{organization}"}, "filler": "x" * size,
    }  # fmt: skip
    return f"event: update\nid: {id_}\ndata: {json.dumps(data)}\n\n".encode()


@asynccontextmanager
async def administering(bootstrap: str) -> AsyncIterator[Any]:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()


class Publisher:
    """Sends what it is given to a topic of its own, after the rules unless a test wants them broken.

    `last` is the last event sent, by partition; `start` is used where nothing was sent.
    """

    def __init__(self, bootstrap: str, pool: "asyncpg.Pool[asyncpg.Record]", partitions: int = 3) -> None:
        self.topic = f"streamhub.test.{os.getpid()}.{next(_numbers)}"
        self.bootstrap = bootstrap
        self.partitions = partitions
        self.start = ids.MIN_ID
        self.last: dict[int, str] = {}
        self._pool = pool
        self._producer: AIOKafkaProducer | None = None
        self._sending = asyncio.Lock()

    async def open(self) -> None:
        """Make the topic, and tell the hub that nothing was published to it."""
        await self.create_topic()
        await self._pool.execute(
            "INSERT INTO streamhub_hub.publications (topic, published_id, partitions) VALUES ($1, $2, $3)",
            self.topic, self.start, self.partitions,
        )  # fmt: skip
        await self.connect()

    async def connect(self) -> None:
        self._producer = AIOKafkaProducer(
            bootstrap_servers=self.bootstrap, max_request_size=2**25, request_timeout_ms=2_000
        )
        await self._producer.start()

    async def disconnect(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            with suppress(TimeoutError):
                await asyncio.wait_for(producer.stop(), 1)

    async def create_topic(self) -> None:
        async with administering(self.bootstrap) as admin:
            settings = {"max.message.bytes": str(2**25)}
            await admin.create_topics([NewTopic(self.topic, self.partitions, 1, topic_configs=settings)])

    async def delete_topic(self) -> None:
        async with administering(self.bootstrap) as admin:
            await admin.delete_topics([self.topic])

    async def divide(self, partitions: int) -> None:
        """As an operator raises the number, and the publisher takes it up."""
        async with self._sending, administering(self.bootstrap) as admin:
            await admin.create_partitions({self.topic: NewPartitions(partitions)})
            self.partitions = partitions
            self.last = {}
            await self._pool.execute(
                "UPDATE streamhub_hub.publications SET partitions = $2 WHERE topic = $1", self.topic, partitions
            )
            await self.disconnect()
            await self.connect()
            assert self._producer is not None
            async with asyncio.timeout(20):
                while len(await self._producer.partitions_for(self.topic)) < partitions:
                    await self._producer.client.force_metadata_update()  # the broker itself hears of it later

    async def send(self, events: Sequence[StoredEvent], *, move: bool = True, value: bytes | None = None) -> None:
        """As a publisher does: records with their predecessors, then how far it is. `value` in place of theirs."""
        assert self._producer is not None
        acknowledged = []
        for event in events:
            number = self.pass_over(event)
            key, its_value, headers = record_of(event, self.before)
            acknowledged.append(
                await self._producer.send(self.topic, value or its_value, key=key, headers=headers, partition=number)
            )
        for each in acknowledged:
            await each
        if move and events:
            await self._pool.execute(
                "UPDATE streamhub_hub.publications SET published_id = $2 WHERE topic = $1", self.topic, events[-1].id
            )
            self.start = events[-1].id

    async def send_foreign(self, key: bytes, value: bytes) -> None:
        """A record of another publisher."""
        assert self._producer is not None
        await self._producer.send_and_wait(self.topic, value, key=key, partition=partition_of(key, self.partitions))

    async def keep_up(self, appended: "asyncio.Queue[Append]") -> None:
        """Send what is appended, for ever; after a fault, again from the last acknowledged event."""
        unsent: list[StoredEvent] = []
        while True:
            if not unsent:
                unsent += (await appended.get()).events
            while not appended.empty():
                unsent += appended.get_nowait().events
            try:
                if self._producer is None:
                    async with asyncio.timeout(5):
                        await self.connect()
                sending = unsent[:500]
                async with self._sending, asyncio.timeout(5):
                    await self.send(sending)
                del unsent[: len(sending)]
            except (KafkaError, OSError, asyncpg.PostgresError):
                await self.disconnect()
                self.last = {}
                await asyncio.sleep(0.2)

    def pass_over(self, event: StoredEvent) -> int:
        """Go on as if the event had been sent. Returns its partition; `before` is its predecessor there."""
        number = partition_of(record_of(event, "").key, self.partitions)
        self.before = self.last.get(number, self.start)
        self.last[number] = event.id
        return number


@asynccontextmanager
async def publishing(
    bootstrap: str, pool: "asyncpg.Pool[asyncpg.Record]", partitions: int = 3
) -> AsyncIterator[Publisher]:
    publisher = Publisher(bootstrap, pool, partitions)
    await publisher.open()
    try:
        yield publisher
    finally:
        await publisher.disconnect()
        with suppress(KafkaError):  # the test may have deleted it
            await publisher.delete_topic()


class Following:
    """A reader as a live stream is one: history up to its handover id, then the tail. `ids` is what it was given, in
    turn."""

    def __init__(
        self, pool: "asyncpg.Pool[asyncpg.Record]", tail: Tail, organization: int, id: str, position: str
    ) -> None:
        self.ids: list[str] = []
        self.organization = organization
        self.position = position
        self._pages = Reader(pool)
        self._tail = tail
        self._turned = asyncio.Event()
        handover_id = tail.subscribe(organization, id, self)
        self._subscription = Subscription(position, handover_id, 512 * 1024)

    def receive(self, events: Sequence[StoredEvent]) -> None:
        self._subscription.announce(events)
        self._turned.set()

    def fell_behind(self, to: str) -> None:
        self._subscription.fell_behind(to)
        self._turned.set()

    async def run(self) -> None:
        subscription = self._subscription
        while True:
            while subscription.state is State.CATCHING_UP:
                page = await self._pages.page(
                    Selection(self.organization), subscription.position, subscription.handover_id, max_rows=50
                )
                self._note(page.frames)
                subscription.page(page.read_to)
            if (run := subscription.take()) is not None:
                self._note(run.frames)
            self._turned.clear()
            if subscription.state is State.LIVE:
                await self._turned.wait()

    def _note(self, frames: bytes) -> None:
        self.ids += [block.split(b"\nid: ", 1)[1][:36].decode() for block in frames.split(b"\n\n")[:-1]]

    async def has(self, *wanted: str, within: float = 10) -> None:
        """Exactly these so far."""
        async with asyncio.timeout(within):
            while self.ids[-1:] != list(wanted[-1:]):  # noqa: ASYNC110 - it is told in more than one place
                await asyncio.sleep(0.01)
        assert self.ids == list(wanted)


@asynccontextmanager
async def following(
    pool: "asyncpg.Pool[asyncpg.Record]",
    tail: Tail,
    organization: int,
    position: str = ids.MIN_ID,
    id: str | None = None,
) -> AsyncIterator[Following]:
    """A reader that reads while the block lasts; of `org_<key>` unless told otherwise."""
    reader = Following(pool, tail, organization, id or f"org_{organization}", position)
    running = asyncio.create_task(reader.run())
    try:
        yield reader
        assert not running.done(), running
    finally:
        tail.unsubscribe(organization, reader)
        await ended(running)
