"""The latency from COMMIT sent to the frame at the client, at 500 commits a second. One raw socket reads the stream."""

import asyncio
import multiprocessing
import re
import socket
import time
from multiprocessing.connection import Connection

import asyncpg

from benchmarks.stage import HubProcess, Result, Stage, percentiles

RATE = 500
SECONDS = 20
WRITERS = 4


def read_live(port: int, slug: str, token: str, seconds: float, to: Connection) -> None:
    """Sends True when the stream is open, and after `seconds` the arrival time of each transaction's event."""
    arrived: dict[int, float] = {}
    transaction = re.compile(rb'"transaction_id":"(\d+)"')
    with socket.create_connection(("127.0.0.1", port)) as stream:
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        stream.settimeout(1)
        stream.sendall(f"GET /{slug} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
        rest = stream.recv(1 << 16)
        to.send(True)
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            try:
                rest += stream.recv(1 << 16)
            except TimeoutError:
                continue
            now = time.monotonic()
            for match in transaction.finditer(rest):
                arrived.setdefault(int(match[1]), now)
            rest = rest[-40:]
    to.send(arrived)


async def commit_to_frame(
    stage: Stage, url: str, hub: HubProcess, seconds: float, patience: float = 2, rate: int = RATE
) -> list[float]:
    """The latencies of `rate` commits a second, from COMMIT sent to the event at a reader of org_0, in ms, sorted."""
    connection = await asyncpg.connect(url)
    await connection.execute("UPDATE skus SET quantity = quantity + 1 WHERE id = 'sku_2'")
    await asyncio.sleep(1)
    slug = await connection.fetchval("SELECT slug FROM streamhub_hub.organizations WHERE id = 'org_0'")
    await connection.close()
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    reader = spawn.Process(
        target=read_live, args=(hub.port, slug, stage.token("org_0", slug), seconds + patience, theirs)
    )
    reader.start()
    await asyncio.to_thread(ours.recv)
    sent: dict[int, float] = {}
    await asyncio.gather(*(_write(url, n, seconds, sent, rate) for n in range(WRITERS)))
    arrived = await asyncio.to_thread(ours.recv)
    reader.join(10)
    return sorted((arrived[xid] - at) * 1000 for xid, at in sent.items())


async def measure(stage: Stage) -> list[Result]:
    url = await stage.database()
    async with stage.hub(url) as hub:
        return [_result("", await commit_to_frame(stage, url, hub, SECONDS), "p50 3, p99 15")]


async def measure_kafka(stage: Stage) -> list[Result]:
    """With relay and gateway in two processes and a topic between them."""
    url = await stage.database()
    kafka = {"kafka_bootstrap_servers": stage.broker.bootstrap, "kafka_topic": "bench.latency"}
    async with stage.hub(url, "relay", **kafka), stage.hub(url, "gateway", **kafka) as hub:
        return [_result(" through Kafka", await commit_to_frame(stage, url, hub, SECONDS), "p50 8, p99 40")]


def _result(way: str, latencies: list[float], target: str) -> Result:
    what = f"COMMIT sent to frame at the client{way}, {len(latencies) / SECONDS:.0f} commits/s, ms"
    return Result(what, percentiles(latencies), target)


async def _write(url: str, number: int, seconds: float, sent: dict[int, float], rate: int) -> None:
    connection = await asyncpg.connect(url)
    began = time.monotonic()
    for n in range(int(rate * seconds) // WRITERS):
        await asyncio.sleep(max(0.0, began + (n + number / WRITERS) * WRITERS / rate - time.monotonic()))
        await connection.execute("BEGIN")
        xid = await connection.fetchval(
            "UPDATE skus SET price = price + 1 WHERE id = $1 RETURNING pg_current_xact_id()::text::bigint",
            f"sku_{2 * (1 + (n * WRITERS + number) % 4999)}",
        )
        sent[xid] = time.monotonic()
        await connection.execute("COMMIT")
    await connection.close()
