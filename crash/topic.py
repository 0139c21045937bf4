"""Reads the topic from its beginning with a plain consumer without a group, and none of the hub's code."""

import time
from collections.abc import Mapping, Sequence
from typing import Final

import orjson
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from crash.audit import Record
from crash.consumers import digest

READ_WITHIN: Final = 120.0  # seconds
LARGEST: Final = 2**25  # bytes of one record


async def records(bootstrap: str, topic: str) -> Mapping[int, Sequence[Record]]:
    """All records now in the topic, by partition, in the order of offsets. Raises TimeoutError."""
    found: dict[int, list[Record]] = {}
    give_up = time.monotonic() + READ_WITHIN
    async with AIOKafkaConsumer(
        topic, bootstrap_servers=bootstrap, auto_offset_reset="earliest", max_partition_fetch_bytes=LARGEST
    ) as consumer:
        partitions = [TopicPartition(topic, each) for each in consumer.partitions_for_topic(topic) or ()]
        ends = await consumer.end_offsets(partitions)
        while any([await consumer.position(each) < ends[each] for each in partitions]):
            if time.monotonic() > give_up:
                raise TimeoutError(f"the topic was not read within {READ_WITHIN:.0f} s")
            for partition, batch in (await consumer.getmany(timeout_ms=500)).items():
                found.setdefault(partition.partition, []).extend(map(_record, batch))
    return found


def _record(record: "ConsumerRecord[bytes, bytes]") -> Record:
    """The value is the frame's data. `event` and the id give the whole frame."""
    headers = dict(record.headers)
    id_ = headers["ce_id"].decode()
    event = orjson.loads(record.value)["event"].encode()
    frame = b"event: " + event + b"\nid: " + id_.encode() + b"\ndata: " + record.value + b"\n\n"
    return Record(record.offset, id_, record.key.decode(), digest(frame))
