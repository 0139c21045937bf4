"""Backfilling a million rows while the hub relays them, and what that costs the application's own writes meanwhile."""

import asyncio
import random
import time

import asyncpg

from benchmarks.stage import Result, Stage
from streamhub import capture
from streamhub.capture import BackfillResult, CaptureSpec

ROWS = 1_000_000
RATE = 200  # the application's single-row updates a second, on rows of the same table
WRITERS = 4
SECONDS = 15  # of writing without a backfill
TABLE = """
CREATE TABLE items (
  id bigint PRIMARY KEY, organization_id text, code text, name text, price numeric(12,2), weight float8, quantity int,
  created_at timestamptz, updated_at timestamptz, metadata jsonb
) WITH (fillfactor = 80)
"""
FILL = """
INSERT INTO items
SELECT i, 'org_' || i % 2, 'TSHIRT-' || i, 'T-shirt red extra large of fine cotton', 12.5, 1.25, 100,
       now(), now(), '{"fabric": "cotton", "sizes": [36, 38, 40, 42]}'
FROM generate_series(1, $1::integer) AS i
"""


async def measure(stage: Stage) -> list[Result]:
    url = await stage.database(sample=False)
    connection = await asyncpg.connect(url)
    await connection.execute(TABLE)
    await connection.execute(FILL, ROWS)
    await connection.execute("VACUUM ANALYZE items")
    await capture.add(connection, CaptureSpec("items", resource_type="items", organization_column="organization_id"))
    await connection.execute("CHECKPOINT")
    async with stage.hub(url, roles="relay"):
        await asyncio.sleep(1)
        without = await _written(url, asyncio.create_task(asyncio.sleep(SECONDS)))
        began = time.perf_counter()
        running = asyncio.create_task(_backfill(url))
        beside = await _written(url, running)
        while await connection.fetchval("SELECT EXISTS (SELECT FROM streamhub.outbox)"):
            await asyncio.sleep(0.05)
        published = ROWS / (time.perf_counter() - began)
    events = await connection.fetchval("SELECT count(*) FROM streamhub_hub.history")
    await connection.close()
    assert events == ROWS + len(without) + len(beside), events
    return [
        Result(f"backfill of {ROWS:,} rows beside {RATE} updates/s, rows/s", f"{running.result():,}", "20,000"),
        Result("  to the last event in history, rows/s", f"{published:,.0f}", ""),
        Result("  the updates without a backfill, ms", _percentiles(without), ""),
        Result("  the updates beside it, ms", _percentiles(beside), "p99 at most doubled"),
    ]


async def _backfill(url: str) -> int:
    connection = await asyncpg.connect(url)
    result: BackfillResult = await capture.backfill(connection, "items", report=lambda _: None)
    assert result.rows == ROWS, result
    await connection.close()
    return result.rows_per_second


async def _written(url: str, until: "asyncio.Task[object]") -> list[float]:
    """How long each update took, in milliseconds."""
    took: list[float] = []

    async def write(number: int) -> None:
        connection = await asyncpg.connect(url)
        began, n = time.perf_counter(), 0
        while not until.done():
            due = began + (n + number / WRITERS) * WRITERS / RATE
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            at = time.perf_counter()
            await connection.execute("UPDATE items SET quantity = quantity + 1 WHERE id = $1", random.randint(1, ROWS))
            took.append((time.perf_counter() - at) * 1000)
            n += 1
        await connection.close()

    await asyncio.gather(*(write(number) for number in range(WRITERS)))
    await until
    return took


def _percentiles(took: list[float]) -> str:
    ordered = sorted(took)
    p50, p99 = (ordered[int(len(ordered) * share)] for share in (0.5, 0.99))
    return f"p50 {p50:.2f}, p99 {p99:.2f}, worst {ordered[-1]:.1f}"
