"""One replay of many events: a gateway process, a PostgreSQL, and a client that reads its socket and counts.

    python benchmarks/replay.py [--events 1000000] [--runs 3] [--database-url postgresql://…]

History is filled by COPY with events of about 600 bytes. Each run prints the replay's rate and, right after it, that
of a COPY of the same frames out of PostgreSQL into the same kind of client; the ratio is what the hub costs.
"""

import argparse
import asyncio
import multiprocessing
import shutil
import socket
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import asyncpg
import uvloop

from streamhub.config import Settings
from streamhub.core import ids
from streamhub.core.events import resource_key
from streamhub.core.window import timestamp
from streamhub.embedded import EmbeddedPostgres
from streamhub.gateway.auth import Authenticator, Issuer, PemKeys
from streamhub.gateway.server import serve
from streamhub.history.partitions import Partitions
from streamhub.migrate import migrate_hub
from streamhub.tail.postgres import PostgresTail
from streamhub.tokens import ISSUER, DevelopmentKey

PER_MILLISECOND = 20
FILLER = "A T-shirt of combed cotton, pre-shrunk, in twelve colours; wash at 30 degrees, do not tumble dry. "


def rows(count: int, start_ms: int) -> Iterator[tuple[Any, ...]]:
    """Rows of history, `PER_MILLISECOND` events a millisecond."""
    for n in range(count):
        id_ = ids.event_id(start_ms + n // PER_MILLISECOND, n % PER_MILLISECOND)
        sku = f"sku_{n % 5000}"
        data = (
            f'{{"id":"{id_}","type":"skus.update","event":"update","resource_type":"skus","resource_id":"{sku}",'
            f'"organization":{{"id":"org_1","slug":"my-org"}},"test":false,"created_at":"2026-11-22T10:00:00.123456Z",'
            f'"transaction_id":"{n}","resource":{{"id":"{sku}","code":"TSHIRT-{n}","price":"12.50","currency":"EUR",'
            f'"description":"{FILLER}"}},"delta":{{"price":{{"from":"10.00","to":"12.50"}}}},'
            f'"who":{{"application":"importer"}}}}'
        )
        frame = f"event: update\nid: {id_}\ndata: {data}\n\n".encode()
        yield 1, id_, False, resource_key(1, "skus", sku), "skus.update", "skus", sku, frame


async def fill(url: str, count: int) -> tuple[int, int]:
    """A hub with `count` events; the window in milliseconds that holds them all."""
    connection = await asyncpg.connect(url)
    await connection.execute("DROP SCHEMA IF EXISTS streamhub_hub CASCADE")
    await migrate_hub(connection)
    end_ms = int(time.time() * 1000) - 1_000
    start_ms = end_ms - count // PER_MILLISECOND
    partitions = Partitions(connection)
    for ms in (start_ms, end_ms):
        await partitions.ensure(ms)
    await connection.execute(
        "INSERT INTO streamhub_hub.organizations (id, slug, slug_is_made, enterprise) "
        "VALUES ('org_1', 'my-org', false, true)"
    )
    await connection.copy_records_to_table("history", schema_name="streamhub_hub", records=rows(count, start_ms))
    await connection.execute("VACUUM ANALYZE streamhub_hub.history")
    await connection.close()
    return start_ms, end_ms


async def gateway(url: str, key_file: Path, ready: Connection) -> None:
    key = DevelopmentKey.load_or_create(key_file)
    authenticator = Authenticator([Issuer(frozenset({ISSUER}), PemKeys(key.public_pem, "the key"))])
    async with AsyncExitStack() as stack:
        pool = await stack.enter_async_context(asyncpg.create_pool(url, min_size=2, max_size=10))
        tail = PostgresTail(url, pool)
        await tail.start()
        stack.push_async_callback(tail.stop)
        settings = Settings(database_url=url, drain_time=timedelta(0))
        server = await stack.enter_async_context(serve(settings, pool, tail, authenticator, port=0))
        ready.send(server.port)
        await asyncio.to_thread(ready.recv)


def run_gateway(url: str, key_file: Path, ready: Connection) -> None:
    uvloop.run(gateway(url, key_file, ready))


def read_replay(port: int, path: str, token: str) -> tuple[float, int, bytes]:
    """Seconds, bytes, and the last bytes of one replay."""
    began = time.perf_counter()
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
        buffer = bytearray(1 << 20)
        view, total, last = memoryview(buffer), 0, b""
        while not last.endswith(b"\r\n0\r\n\r\n"):
            size = sock.recv_into(buffer)
            if not size:
                raise SystemExit(f"the gateway closed the connection: {last!r}")
            total += size
            last = (last + bytes(view[max(0, size - 2000) : size]))[-2000:]
    return time.perf_counter() - began, total, last


async def read_copy(url: str) -> float:
    """Seconds of a raw COPY of all frames, in id order."""
    connection = await asyncpg.connect(url)
    total = 0

    async def count(data: bytes) -> None:
        nonlocal total
        total += len(data)

    began = time.perf_counter()
    await connection.copy_from_query(
        "SELECT frame FROM streamhub_hub.history WHERE organization = 1 ORDER BY id", output=count, format="binary"
    )
    seconds = time.perf_counter() - began
    await connection.close()
    return seconds


def measure(url: str, directory: Path, count: int, runs: int) -> None:
    start_ms, end_ms = asyncio.run(fill(url, count))
    key_file = directory / "key.pem"
    claims = {
        "iat": int(time.time()), "exp": int(time.time()) + 7200, "test": False, "scope": "",
        "organization": {"id": "org_1", "slug": "my-org", "enterprise": True},
        "application": {"id": "bench", "kind": "integration", "client_id": "bench"},
    }  # fmt: skip
    token = DevelopmentKey.load_or_create(key_file).sign(claims)
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    process = multiprocessing.get_context("spawn").Process(target=run_gateway, args=(url, key_file, theirs))
    process.start()
    port = ours.recv()
    path = f"/my-org/replay?date_from={timestamp(start_ms)}&date_to={timestamp(end_ms)}"
    rates, ratios = [], []
    for run in range(runs + 1):
        seconds, size, last = read_replay(port, path, token)
        if f'"events":{count}'.encode() not in last:
            raise SystemExit(f"not every event came: {last!r}")
        copied = uvloop.run(read_copy(url))
        if run:  # the first one warms up
            rates.append(count / seconds)
            ratios.append(copied / seconds)
            print(
                f"replay of {count:,} events: {seconds:.2f} s, {count / seconds:,.0f} events/s, "
                f"{size / seconds / 1e6:.0f} MB/s; COPY of the same: {copied:.2f} s; ratio {copied / seconds:.2f}"
            )
    ours.send(None)
    process.join(20)
    print(
        f"replay median {statistics.median(rates):,.0f} events/s ({min(rates):,.0f} to {max(rates):,.0f}), "
        f"ratio to COPY {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
    )


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--events", type=int, default=1_000_000)
    arguments.add_argument("--runs", type=int, default=3)
    arguments.add_argument("--database-url", help="a database whose streamhub_hub schema may be dropped")
    given = arguments.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="streamhub-bench-"))
    directory.chmod(0o755)
    try:
        if given.database_url:
            measure(given.database_url, directory, given.events, given.runs)
            return
        postgres = EmbeddedPostgres(directory)
        postgres.start()
        try:
            measure(postgres.url, directory, given.events, given.runs)
        finally:
            postgres.stop("immediate")
    finally:
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
