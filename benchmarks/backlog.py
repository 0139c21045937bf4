"""How fast the relay drains a backlog of 500,000 changes, and the size of the outbox after that."""

import asyncio
import time

import asyncpg

from benchmarks.stage import Result, Stage, spread

CHANGES = 500_000
RUNS = 3
UPDATE_ALL = "UPDATE skus SET price = price + 1, quantity = quantity + 1, updated_at = clock_timestamp()"


async def measure(stage: Stage) -> list[Result]:
    rates, sizes = [], []
    url = await stage.database()
    connection = await asyncpg.connect(url)
    empty = await connection.fetchval("SELECT pg_total_relation_size('streamhub.outbox') / 1e6")
    for _ in range(RUNS):
        for _ in range(CHANGES // 10_000):
            await connection.execute(UPDATE_ALL)
        await connection.execute("VACUUM skus")
        await connection.execute("CHECKPOINT")
        full = await connection.fetchval("SELECT pg_total_relation_size('streamhub.outbox') / 1e6")
        async with stage.hub(url, roles="relay"):
            while await connection.fetchval("SELECT count(*) FROM streamhub.outbox") == CHANGES:
                await asyncio.sleep(0.01)
            left, began = await connection.fetchval("SELECT count(*) FROM streamhub.outbox"), time.perf_counter()
            while await connection.fetchval("SELECT EXISTS (SELECT FROM streamhub.outbox)"):
                await asyncio.sleep(0.05)
            rates.append(left / (time.perf_counter() - began))
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline:
                size = await connection.fetchval("SELECT pg_total_relation_size('streamhub.outbox') / 1e6")
                if size < full / 4:
                    break
                await asyncio.sleep(1)
            sizes.append(size)
    events = await connection.fetchval("SELECT count(*) FROM streamhub_hub.history")
    await connection.close()
    assert events == RUNS * CHANGES, events
    return [
        Result(f"backlog of {CHANGES:,} changes, outbox to history, events/s", spread(rates), "40,000; aim 60,000"),
        Result(
            "  outbox empty / with the backlog / a minute after it, MB",
            f"{empty:.1f} / {full:.0f} / {sizes[-1]:.1f}",
            "",
        ),
    ]
