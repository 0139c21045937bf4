"""Runs the named benchmarks, or all, and prints one table."""

import argparse
import importlib.metadata
import os
import platform
import sys
from pathlib import Path

import uvloop

from benchmarks import (
    backfill,
    backlog,
    beside,
    broadcast,
    brokers,
    compressed,
    cost,
    crowd,
    dashboard,
    demo,
    filters,
    following,
    idle,
    idle_streams,
    killed_gateway,
    latency,
    publishing,
    replay,
    sdk,
    stopped_reader,
    webhooks,
    writers,
)
from benchmarks.peers import debezium
from benchmarks.stage import Result, Stage, stage

ALL = {
    "writers": writers.measure,
    "backlog": backlog.measure,
    "cost": cost.measure,
    "backfill": backfill.measure,
    "latency": latency.measure,
    "replay": replay.measure,
    "compressed": compressed.measure,
    "beside": beside.measure,
    "idle_streams": idle_streams.measure,
    "killed_gateway": killed_gateway.measure,
    "stopped_reader": stopped_reader.measure,
    "crowd": crowd.measure,
    "idle": idle.measure,
    "demo": demo.measure,
    "dashboard": dashboard.measure,
    "filters": filters.measure,
    "broadcast": broadcast.measure,
    "sdk": sdk.measure,
    "webhooks": webhooks.measure,
}
# With Kafka between history and the gateways.
KAFKA = {
    "publishing": publishing.measure,
    "kafka-cost": cost.measure_kafka,
    "kafka-latency": latency.measure_kafka,
    "following": following.measure,
    "brokers": brokers.measure,
}
# Another system beside Streamhub, in turns.
PEERS = {
    "debezium": debezium.measure,
}


async def measure(names: list[str], on: Stage) -> list[Result]:
    results = []
    for name in names:
        print(f"measuring {name} …", file=sys.stderr, flush=True)
        results += await (ALL | KAFKA | PEERS)[name](on)
    return results


def machine() -> str:
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines()
            if "model name" in line
        ),
        platform.machine(),
    )
    versions = ", ".join(
        f"{name} {importlib.metadata.version(name)}" for name in ("asyncpg", "aiohttp", "aiokafka", "msgspec", "uvloop")
    )
    return (
        f"{os.cpu_count()} cores of {model}, Linux {platform.release()}, Python {platform.python_version()}, {versions}"
    )


def main() -> None:
    arguments = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    arguments.add_argument("names", nargs="*", choices=[[], *ALL, *KAFKA, *PEERS], help="default: all of the engine")
    arguments.add_argument("--engine", choices=["postgres", "kafka"], default="postgres")
    given = arguments.parse_args()
    with stage() as on:
        results = uvloop.run(measure(given.names or list(KAFKA if given.engine == "kafka" else ALL), on))
    print(machine())
    widths = [
        max(len(column) for column in columns) for columns in zip(*results, ("what", "measured", "target"), strict=True)
    ]
    for row in (("what", "measured", "target"), tuple("-" * width for width in widths), *results):
        print(" | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


if __name__ == "__main__":
    main()
