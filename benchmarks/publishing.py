"""How fast a backlog of 500,000 changes reaches history and Kafka, and how fast the publisher catches up."""

import asyncio
import time

import asyncpg

from benchmarks.backlog import CHANGES, RUNS, UPDATE_ALL
from benchmarks.stage import Result, Stage, spread
from streamhub.core import ids

WAITING = "SELECT coalesce(sum(events), 0) FROM streamhub_hub.appends"


async def measure(stage: Stage) -> list[Result]:
    return [*await _backlog(stage), *await _catching_up(stage)]


async def _backlog(stage: Stage) -> list[Result]:
    url = await stage.database()
    connection = await asyncpg.connect(url)
    kafka = {"kafka_bootstrap_servers": stage.broker.bootstrap, "kafka_topic": "bench.backlog"}
    async with stage.hub(url, roles="relay", **kafka):
        await _begun(connection)
    rates = []
    for _ in range(RUNS):
        await _write(connection)
        async with stage.hub(url, roles="relay", **kafka):
            while await connection.fetchval("SELECT count(*) FROM streamhub.outbox") == CHANGES:
                await asyncio.sleep(0.01)
            left, began = await connection.fetchval("SELECT count(*) FROM streamhub.outbox"), time.perf_counter()
            await _published(connection)
            rates.append(left / (time.perf_counter() - began))
    await connection.close()
    return [
        Result(
            f"backlog of {CHANGES:,} changes, outbox to history and Kafka, events/s",
            spread(rates),
            "30,000; aim 50,000",
        )
    ]


async def _catching_up(stage: Stage) -> list[Result]:
    url = await stage.database()
    connection = await asyncpg.connect(url)
    kafka = {"kafka_bootstrap_servers": stage.broker.bootstrap, "kafka_topic": "bench.outage"}
    rates, cpu = [], []
    async with stage.hub(url, roles="relay", **kafka) as hub:
        await _begun(connection)
        for _ in range(RUNS):
            await asyncio.to_thread(stage.broker.stop)
            await _write(connection)
            while await connection.fetchval("SELECT EXISTS (SELECT FROM streamhub.outbox)"):
                await asyncio.sleep(0.2)
            before = published = await connection.fetchval("SELECT published_id FROM streamhub_hub.publications")
            stage.broker.spawn()
            await asyncio.to_thread(stage.broker.wait_until_ready)
            while published == before:
                await asyncio.sleep(0.01)
                published = await connection.fetchval("SELECT published_id FROM streamhub_hub.publications")
            left, began, used = await connection.fetchval(WAITING), time.perf_counter(), hub.cpu_seconds()
            await _published(connection)
            rates.append(left / (time.perf_counter() - began))
            cpu.append((hub.cpu_seconds() - used) / left * 1e6)
    await connection.close()
    return [
        Result(f"publisher catching up with {CHANGES:,} events after an outage, events/s", spread(rates), "80,000"),
        Result("  its processor time, µs an event", spread(cpu, 1), ""),
    ]


async def _begun(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    while not await connection.fetchval("SELECT EXISTS (SELECT FROM streamhub_hub.publications)"):
        await asyncio.sleep(0.05)


async def _write(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    for _ in range(CHANGES // 10_000):
        await connection.execute(UPDATE_ALL)
    await connection.execute("VACUUM skus")
    await connection.execute("CHECKPOINT")


async def _published(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    """Returns when Kafka has acknowledged all committed changes."""
    while await connection.fetchval("SELECT EXISTS (SELECT FROM streamhub.outbox)"):
        await asyncio.sleep(0.02)
    head = await connection.fetchrow("SELECT event_ms, event_counter FROM streamhub_hub.log_head")
    last = ids.event_id(*head)
    while await connection.fetchval("SELECT published_id::text FROM streamhub_hub.publications") < last:
        await asyncio.sleep(0.02)
