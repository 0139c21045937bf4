"""Backfills a million rows while the hub relays them, and measures the latency of the application's writes meanwhile.

Phases with and without a backfill alternate. The updates come at a steady rate: writers without a pause would keep both
processors busy by themselves. The server has WAL segments to reuse, as one that has run for a while has
(docs/guides/capture.md, on WAL).
"""

import asyncio
import json
import os
import subprocess
import sys
import time

import asyncpg

from benchmarks.stage import Result, Stage, spread
from benchmarks.writers import pgbench
from streamhub import capture
from streamhub.capture import CaptureSpec

ROWS = 1_000_000
ROUNDS = 3
RATE = 1_000  # single-row updates a second, on rows of the same table
WRITERS = 4
SECONDS = 40  # of updates in a phase; a backfill takes longer
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
FILL_LOG = "SELECT pg_logical_emit_message(false, '', repeat(' ', 16000000)) FROM generate_series(1, 80)"
UPDATE = f"""\\set id random(1, {ROWS})
UPDATE items SET quantity = quantity + 1 WHERE id = :id;
"""
BEGUN = "SELECT EXISTS (SELECT FROM streamhub.backfills WHERE rows > 0 AND finished_at IS NULL)"


async def measure(stage: Stage) -> list[Result]:
    url = await stage.database(sample=False)
    connection = await asyncpg.connect(url)
    await connection.execute(TABLE)
    await connection.execute(FILL, ROWS)
    await connection.execute("VACUUM ANALYZE items")
    await capture.add(connection, CaptureSpec("items", resource_type="items", organization_column="organization_id"))
    await connection.execute(FILL_LOG)
    rates, published, without, beside = [], [], [], []
    async with stage.hub(url, roles="relay"):
        await asyncio.sleep(1)
        for _ in range(ROUNDS):
            await connection.execute("CHECKPOINT")
            without.append(await _updates(stage, url))
            sending = asyncio.create_task(_backfill(url))
            while not await connection.fetchval(BEGUN):
                await asyncio.sleep(0.01)
            began = time.perf_counter()
            beside.append(await _updates(stage, url))
            if sending.done():
                raise SystemExit(f"the backfill ended before {SECONDS} s of updates did")
            rates.append(await sending)
            while await connection.fetchval("SELECT EXISTS (SELECT FROM streamhub.outbox)"):
                await asyncio.sleep(0.01)
            published.append(ROWS / (time.perf_counter() - began))
    events = await connection.fetchval("SELECT count(*) FROM streamhub_hub.history")
    await connection.close()
    updates = sum(len(phase) for phase in without + beside)
    assert events == ROUNDS * ROWS + updates, (events, updates)
    return [
        Result(
            f"backfill of {ROWS:,} rows beside {RATE:,} updates/s, at the default rate, rows/s",
            spread(rates),
            "20,000",
        ),
        Result("  to the last event in history, rows/s", spread(published), ""),
        Result(f"  the updates without a backfill, {ROUNDS} phases of {SECONDS} s: p50, ms", _middle(without, 0.5), ""),
        Result("  … p99, ms", _middle(without, 0.99), ""),
        Result("  the updates beside it: p50, ms", _middle(beside, 0.5), ""),
        Result("  … p99, ms", _middle(beside, 0.99), "at most doubled"),
    ]


async def _backfill(url: str) -> int:
    """Rows a second."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "streamhub", "capture", "backfill", "items", "--restart", "--json",
        env=os.environ | {"STREAMHUB_DATABASE_URL": url}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    output, errors = await process.communicate()
    if process.returncode:
        raise SystemExit(errors.decode())
    (result,) = json.loads(output)
    assert result["rows"] == ROWS, result
    return int(result["rows_per_second"])


async def _updates(stage: Stage, url: str) -> list[float]:
    """The latency of each update, in milliseconds from when it was due, over SECONDS seconds."""
    script, logs = stage.directory / "update.sql", stage.directory / "update_log"
    script.write_text(UPDATE, encoding="ascii")
    await pgbench(
        url, "-n", "-M", "prepared", "-c", str(WRITERS), "-j", "1", "-R", str(RATE), "-T", str(SECONDS),
        "-f", str(script), "-l", f"--log-prefix={logs}",
    )  # fmt: skip
    took = []
    for log in stage.directory.glob(f"{logs.name}.*"):
        for line in log.read_text(encoding="ascii").splitlines():
            fields = line.split()
            took.append((int(fields[2]) - int(fields[6])) / 1000)  # microseconds: the latency, and how late it was sent
        log.unlink()
    return took


def _middle(phases: list[list[float]], share: float) -> str:
    return spread([sorted(phase)[int(len(phase) * share)] for phase in phases], 2)
