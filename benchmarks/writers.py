"""The cost of capture for writers: pgbench with capture and the hub, and without, in turns on one table."""

import asyncio
import re
import subprocess

import asyncpg

from benchmarks.stage import Result, Stage, spread
from streamhub import capture
from streamhub.capture import CaptureSpec
from streamhub.embedded import installed_binaries

CLIENTS = 4
SECONDS = 4
ROUNDS = 9
# (pgbench's scale, its -M): a table of 13 MB that any cache holds, and a more realistic one of 750 MB.
CASES = ((1, "simple"), (1, "prepared"), (50, "simple"), (50, "prepared"))
UPDATE = """\\set aid random(1, 100000 * :scale)
\\set delta random(-5000, 5000)
UPDATE pgbench_accounts SET abalance = abalance + :delta WHERE aid = :aid;
"""


async def measure(stage: Stage) -> list[Result]:
    script = stage.directory / "update.sql"
    script.write_text(UPDATE, encoding="ascii")
    results = []
    for scale, mode in CASES:
        results += await _compare(stage, scale, ("-n", "-M", mode, "-f", str(script), "-D", f"scale={scale}"), mode)
    return results


async def _compare(stage: Stage, scale: int, how: tuple[str, ...], mode: str) -> list[Result]:
    url = await stage.database(sample=False)
    await pgbench(url, "-i", "-q", "-s", str(scale), "-F", "80")
    connection = await asyncpg.connect(url)
    run = (*how, "-c", str(CLIENTS), "-j", "2", "-T", str(SECONDS))
    await tps(url, *run)  # warms up the caches
    plain, captured, ratios, lags = [], [], [], []
    for _ in range(ROUNDS):
        await connection.execute("CHECKPOINT")
        without = await tps(url, *run)
        await capture.add(
            connection, CaptureSpec("pgbench_accounts", resource_type="accounts", organization_id="org_1")
        )
        async with stage.hub(url):
            await asyncio.sleep(1)
            with_capture = await tps(url, *run)
            lag = await connection.fetchval(
                "SELECT coalesce(extract(epoch FROM clock_timestamp() - min(created_at)), 0)::float8 "
                "FROM streamhub.outbox"
            )
            while await connection.fetchval("SELECT EXISTS (SELECT FROM streamhub.outbox)"):
                await asyncio.sleep(0.1)
        await capture.remove(connection, "pgbench_accounts")
        plain.append(without)
        captured.append(with_capture)
        ratios.append(with_capture / without)
        lags.append(lag * 1000)
    await connection.close()
    what = f"pgbench -M {mode}, {CLIENTS} clients, single-row UPDATE of {scale * 100_000:,} rows, TPS without capture"
    return [
        Result(what, spread(plain), ""),
        Result("  with capture and the hub running", spread(captured), ""),
        Result("  ratio", spread(ratios, 2), "0.65"),
        Result("  lag when pgbench ends, ms", spread(lags), "under 1,000"),
    ]


async def pgbench(url: str, *arguments: str) -> str:
    """Its stdout."""
    process = await asyncio.create_subprocess_exec(
        str(installed_binaries() / "pgbench"), *arguments, url, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    output, errors = await process.communicate()
    if process.returncode:
        raise SystemExit(errors.decode())
    return output.decode()


async def tps(url: str, *arguments: str) -> float:
    """What pgbench counts."""
    match = re.search(r"tps = ([\d.]+)", await pgbench(url, *arguments))
    assert match is not None
    return float(match[1])
