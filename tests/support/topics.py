"""A captured table, a relay that publishes to a topic of its own, and an audit of what stands in that topic."""

import json
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from streamhub.core import ids
from streamhub.core.frames import data_of
from streamhub.core.records import AFTER, ID, header
from streamhub.kafka.brokers import Brokers
from streamhub.kafka.publisher import KafkaPublisher
from streamhub.relay import Publisher, Relay
from tests.support.database import Connection
from tests.support.stage import Stage, running, until


class Broadcasting(Stage):
    """A stage whose relay publishes."""

    def __init__(self, url: str, connection: Connection, bootstrap: str, topic: str) -> None:
        super().__init__(url, connection)
        self.bootstrap = bootstrap
        self.topic = topic
        self.publisher = self.new_publisher()

    @property
    def bootstrap(self) -> str:
        """Where the test itself reads and makes topics; the relay's way, `brokers`, may be another."""
        return self._bootstrap

    @bootstrap.setter
    def bootstrap(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap
        self.brokers = Brokers(bootstrap.split(","))

    def new_publisher(self) -> KafkaPublisher:
        self.publisher = KafkaPublisher(self.brokers, self.topic, max_event_bytes=self.max_event_bytes)
        return self.publisher

    def relay(self, publisher: Publisher | None = None) -> Relay:
        return super().relay(publisher or self.new_publisher())

    @asynccontextmanager
    async def relaying_with(self, publisher: KafkaPublisher) -> AsyncIterator[Relay]:
        async with running(self.relay(publisher)) as relay:
            yield relay

    def relay_without_kafka(self) -> Relay:
        return super().relay()

    async def started(self) -> None:
        """The topic exists, and everything written from here on goes to it."""
        await until(self._has_begun, "the publication has begun")

    async def _has_begun(self) -> bool:
        return bool(await self.value("SELECT EXISTS (SELECT FROM streamhub_hub.publications)"))

    async def write(self, first: int, count: int, *, organizations: int = 3) -> None:
        await self.connection.execute(
            "INSERT INTO skus SELECT i, 'org_' || i % $3, i, 'note' FROM generate_series($1::int, $2::int) AS i",
            first, first + count - 1, organizations,
        )  # fmt: skip

    async def published(self, within: float = 30) -> None:
        """All that was committed is in history, and acknowledged by Kafka."""
        await self.drained()
        await until(self._all_is_published, "everything is published", within)

    async def _all_is_published(self) -> bool:
        return bool(
            await self.value(
                "SELECT (SELECT max(id::text) FROM streamhub_hub.history) <= max(published_id::text) "
                "FROM streamhub_hub.publications"
            )
        )

    async def fault(self) -> str | None:
        return await self.value("SELECT fault FROM streamhub_hub.publications")

    async def records(self) -> dict[int, list[Any]]:
        """All records of the topic, by partition."""
        consumer = AIOKafkaConsumer(bootstrap_servers=self.bootstrap, max_partition_fetch_bytes=2**25)
        await consumer.start()
        found: dict[int, list[Any]] = defaultdict(list)
        try:
            partitions = [TopicPartition(self.topic, each) for each in await partitions_of(self.bootstrap, self.topic)]
            consumer.assign(partitions)
            await consumer.seek_to_beginning(*partitions)
            ends = await consumer.end_offsets(partitions)
            while any([await consumer.position(each) < ends[each] for each in partitions]):
                for partition, records in (await consumer.getmany(timeout_ms=1000)).items():
                    found[partition.partition] += records
        finally:
            await consumer.stop()
        return found

    async def audited(self, start: str = ids.MIN_ID, *, redivided: bool = False) -> list[Any]:
        """Read the topic as a reader does, who remembers the greatest id of each partition: it finds all of history
        beyond `start` once, in order and to the byte, and what a record says of its predecessor is true. `redivided`:
        organizations were in other partitions before. Returns every record, repeats too."""
        records = await self.records()
        frames = {frame_id(frame): data_of(frame) for frame in await self.frames()}
        ids_of = defaultdict(list)
        for known_id, data in frames.items():
            ids_of[json.loads(data)["organization"]["id"].encode()].append(known_id)
        found: list[str] = []
        for its in records.values():
            greatest: str = ids.MIN_ID
            known = sorted(each for key in {record.key for record in its} for each in ids_of[key])
            for record in its:
                id_, after = header(record.headers, ID), header(record.headers, AFTER)
                assert id_ is not None
                assert after is not None
                assert record.value == frames[id_]
                between = known[bisect_right(known, after) : bisect_left(known, id_)]
                assert redivided or not between, f"{id_} is said to come after {after}: {len(between)} are between them"
                if id_ > greatest:
                    found.append(id_)
                    greatest = id_
        assert len(set(found)) == len(found), "an event is in two partitions"
        assert sorted(found) == sorted(id_ for id_ in frames if id_ > start)
        return [record for its in records.values() for record in its]


def frame_id(frame: bytes) -> str:
    return frame.split(b"\nid: ", 1)[1][:36].decode()


async def partitions_of(bootstrap: str, topic: str) -> Sequence[int]:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        (described,) = await admin.describe_topics([topic])
        return sorted(each["partition"] for each in described["partitions"])
    finally:
        await admin.close()


async def settings_of(bootstrap: str, topic: str) -> dict[str, str]:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        (answer,) = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
        return {entry[0]: entry[1] for entry in answer.resources[0][4]}
    finally:
        await admin.close()


async def create(bootstrap: str, topic: str, partitions: int, **settings: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        configs = {name.replace("_", "."): value for name, value in settings.items()}
        answer = await admin.create_topics([NewTopic(topic, partitions, 1, topic_configs=configs)])
        assert not answer.topic_errors[0][1], answer
    finally:
        await admin.close()


async def delete(bootstrap: str, topic: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.delete_topics([topic])
    finally:
        await admin.close()


async def raise_partitions(bootstrap: str, topic: str, to: int) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.create_partitions({topic: NewPartitions(to)})
    finally:
        await admin.close()


async def reconnected(stage: Stage) -> None:
    stage.connection = await asyncpg.connect(stage.url)
