"""The processor time of a gateway that follows one organization of a topic with the records of many."""

import asyncio
import itertools
import json
import multiprocessing
import time
from typing import Any

import asyncpg
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from benchmarks.latency import read_live
from benchmarks.stage import Result, Stage
from streamhub.core import ids
from streamhub.core.records import AFTER, ID
from streamhub.kafka.consumer import partition_of

ORGANIZATIONS = 1_000
RATE = 50_000  # records/s
SECONDS = 15
TICK = 0.02  # seconds


async def measure(stage: Stage) -> list[Result]:
    return [await _measure(stage, 1), await _measure(stage, 12)]


async def _measure(stage: Stage, partitions: int) -> Result:
    topic = f"bench.following.{partitions}"
    admin = AIOKafkaAdminClient(bootstrap_servers=stage.broker.bootstrap)
    await admin.start()
    await admin.create_topics([NewTopic(topic, partitions, 1)])
    await admin.close()
    url = await stage.database(sample=False)
    connection = await asyncpg.connect(url)
    await connection.execute(
        "INSERT INTO streamhub_hub.organizations (id, slug, slug_is_made, enterprise) "
        "VALUES ('org_0', 'org-0', true, true)"
    )
    await connection.execute(
        "INSERT INTO streamhub_hub.publications (topic, published_id, partitions) VALUES ($1, $2, $3)",
        topic, ids.MIN_ID, partitions,
    )  # fmt: skip
    await connection.close()
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    sent = spawn.Value("q", 0)
    sender = spawn.Process(target=send, args=(stage.broker.bootstrap, topic, partitions, sent))
    kafka = {"kafka_bootstrap_servers": stage.broker.bootstrap, "kafka_topic": topic}
    async with stage.hub(url, roles="gateway", **kafka) as hub:
        reader = spawn.Process(
            target=read_live, args=(hub.port, "org-0", stage.token("org_0", "org-0"), SECONDS, theirs)
        )
        reader.start()
        await asyncio.to_thread(ours.recv)
        sender.start()
        await asyncio.sleep(3)
        used, before, began = hub.cpu_seconds(), sent.value, time.monotonic()
        await asyncio.sleep(SECONDS)
        seconds = time.monotonic() - began
        cores, rate = (hub.cpu_seconds() - used) / seconds, (sent.value - before) / seconds
        arrived = await asyncio.to_thread(ours.recv)
        sender.terminate()
        reader.join(10)
    return Result(
        f"gateway following 1 of {ORGANIZATIONS:,} organizations, {RATE:,} records/s, partitions: {partitions}; cores",
        f"{cores:.2f} ({rate:,.0f} records/s were sent, {len(arrived) / SECONDS:.0f} events/s arrived)",
        "under 1",
    )


def send(bootstrap: str, topic: str, partitions: int, sent: Any) -> None:
    """Send records of events that are in no history, in order, until cancelled. `sent` counts them."""
    asyncio.run(_send(bootstrap, topic, partitions, sent))


async def _send(bootstrap: str, topic: str, partitions: int, sent: Any) -> None:
    keys = [f"org_{n}".encode() for n in range(ORGANIZATIONS)]
    numbers = [partition_of(key, partitions) for key in keys]
    last = [ids.MIN_ID.encode()] * partitions
    made = int(time.time() * 1000)
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks=1, max_batch_size=2**20)
    await producer.start()
    began = time.monotonic()
    for tick in itertools.count():
        await asyncio.sleep(max(0.0, began + tick * TICK - time.monotonic()))
        batches: dict[int, Any] = {}
        for n in range(tick * int(RATE * TICK), (tick + 1) * int(RATE * TICK)):
            which = n % ORGANIZATIONS
            number = numbers[which]
            batch = batches.get(number)
            if batch is None:
                batch = batches[number] = producer.create_batch()
            id_ = ids.event_id(made, n).encode()
            headers = [
                ("content-type", b"application/json"), ("ce_specversion", b"1.0"), ("ce_source", b"/org"),
                ("ce_type", b"skus.update"), ("ce_organization", keys[which]), ("ce_test", b"false"),
                (ID, id_), (AFTER, last[number]),
            ]  # fmt: skip
            batch.append(timestamp=made, key=keys[which], value=_value(n), headers=headers)
            last[number] = id_
        for number, batch in batches.items():
            batch.close()
            await producer.send_batch(batch, topic, partition=number)
        sent.value += int(RATE * TICK)


_FILLER = json.dumps("x" * 480)


def _value(n: int) -> bytes:
    return (
        f'{{"id":"{n}","type":"skus.update","event":"update","resource_type":"skus","resource_id":"sku_{n}",'
        f'"test":false,"transaction_id":"{n}","filler":{_FILLER}}}'
    ).encode()
