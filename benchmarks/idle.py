"""The cost of an idle hub, and of an empty poll while an old snapshot keeps consumed rows from vacuum."""

import asyncio
import time

import asyncpg

from benchmarks.stage import Result, Stage, spread
from streamhub.relay.outbox import Outbox

SECONDS = 30
SILENT = 12  # seconds before
CONSUMED = 500_000


async def measure(stage: Stage) -> list[Result]:
    url = await stage.database()
    async with stage.hub(url) as hub:
        await asyncio.sleep(SILENT)
        before = hub.cpu_seconds(), stage.postgres_seconds()
        await asyncio.sleep(SECONDS)
        of_hub = (hub.cpu_seconds() - before[0]) / SECONDS * 100
        of_postgres = (stage.postgres_seconds() - before[1]) / SECONDS * 100
        connection = await asyncpg.connect(url)
        old = await asyncpg.connect(url)
        await old.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM streamhub.outbox")
        for _ in range(CONSUMED // 10_000):
            await connection.execute("UPDATE skus SET quantity = quantity + 1")
        while await connection.fetchval("SELECT EXISTS (SELECT FROM streamhub.outbox)"):
            await asyncio.sleep(0.1)
    outbox = Outbox(connection, 2000)
    began = time.perf_counter()
    await outbox.read()
    without_floor = (time.perf_counter() - began) * 1000
    for _ in range(3):  # the floor needs the sequence, a later snapshot, and the end of that snapshot's writers
        await outbox.observe()
        await connection.execute("SELECT pg_current_xact_id()")
    await outbox.read()
    outbox.drained()
    polls = []
    for _ in range(200):
        began = time.perf_counter()
        await outbox.read()
        polls.append((time.perf_counter() - began) * 1000)
    await old.close()
    await connection.close()
    return [
        Result("an idle hub with its PostgreSQL: % of a core", f"{of_hub + of_postgres:.1f}", "under 1.5"),
        Result("  of which the hub's process", f"{of_hub:.1f}", ""),
        Result(f"empty poll after {CONSUMED:,} consumed rows under an open snapshot, ms", spread(polls, 2), "under 3"),
        Result("  the first one, which has no floor", f"{without_floor:.0f}", ""),
    ]
