"""Topics, and a publisher whose every record a test decides on: for what a tail has to live with."""

import itertools
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
from streamhub.tail.kafka import partition_of

_numbers = itertools.count(1)


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

    `last` is the last event sent, by partition; `start` stands for it where nothing was sent.
    """

    def __init__(self, bootstrap: str, pool: "asyncpg.Pool[asyncpg.Record]", partitions: int = 3) -> None:
        self.topic = f"streamhub.test.{os.getpid()}.{next(_numbers)}"
        self.bootstrap = bootstrap
        self.partitions = partitions
        self.start = ids.MIN_ID
        self.last: dict[int, str] = {}
        self._pool = pool
        self._producer: AIOKafkaProducer | None = None

    async def open(self) -> None:
        """Make the topic, and tell the hub that nothing was published to it."""
        await self.create_topic()
        await self._pool.execute(
            "INSERT INTO streamhub_hub.publications (topic, published_id, partitions) VALUES ($1, $2, $3)",
            self.topic, self.start, self.partitions,
        )  # fmt: skip
        await self.connect()

    async def connect(self) -> None:
        self._producer = AIOKafkaProducer(bootstrap_servers=self.bootstrap, max_request_size=2**25)
        await self._producer.start()

    async def disconnect(self) -> None:
        if self._producer is not None:
            await self._producer.stop()
        self._producer = None

    async def create_topic(self) -> None:
        async with administering(self.bootstrap) as admin:
            settings = {"max.message.bytes": str(2**25)}
            await admin.create_topics([NewTopic(self.topic, self.partitions, 1, topic_configs=settings)])

    async def delete_topic(self) -> None:
        async with administering(self.bootstrap) as admin:
            await admin.delete_topics([self.topic])

    async def divide(self, partitions: int) -> None:
        """As an operator raises the number, and the publisher takes it up."""
        async with administering(self.bootstrap) as admin:
            await admin.create_partitions({self.topic: NewPartitions(partitions)})
        self.partitions = partitions
        self.last = {}
        await self._pool.execute(
            "UPDATE streamhub_hub.publications SET partitions = $2 WHERE topic = $1", self.topic, partitions
        )

    async def send(self, events: Sequence[StoredEvent], *, move: bool = True) -> None:
        """As a publisher does: records with their predecessors, then how far it is."""
        assert self._producer is not None
        acknowledged = []
        for event in events:
            number = self.pass_over(event)
            key, value, headers = record_of(event, self.before)
            acknowledged.append(
                await self._producer.send(self.topic, value, key=key, headers=headers, partition=number)
            )
        for each in acknowledged:
            await each
        if move and events:
            await self._pool.execute(
                "UPDATE streamhub_hub.publications SET published_id = $2 WHERE topic = $1", self.topic, events[-1].id
            )
            self.start = events[-1].id

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
