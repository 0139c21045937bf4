"""One replay of 1,000,000 events of about 600 bytes, beside a raw COPY of the same frames, in turns.

A gateway process of its own, and a client that reads its socket and counts. History is filled by COPY. The client of
the COPY is asyncpg, which hands over what it receives in pieces; the ratio is what the hub costs.
"""

import asyncio
import multiprocessing
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import asyncpg
import uvloop

from benchmarks.stage import Result, Stage, spread
from streamhub.config import Settings
from streamhub.core import ids
from streamhub.core.drafts import COLUMNS
from streamhub.core.events import StoredEvent
from streamhub.core.window import timestamp
from streamhub.gateway.server import serve
from streamhub.history.partitions import Partitions
from streamhub.history.rows import values
from streamhub.runtime import memory
from streamhub.runtime.process import connections
from streamhub.tail.postgres import PostgresTail
from streamhub.tokens import ISSUER, DevelopmentKey
from streamhub.web.auth import Authenticator, Issuer, PemKeys

EVENTS = 1_000_000
RUNS = 3
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
        yield values(StoredEvent(1, id_, False, "skus.update", "skus", sku, frame))


async def fill(url: str, count: int, make: Callable[[int, int], Iterator[tuple[Any, ...]]] = rows) -> tuple[int, int]:
    """Write `count` events to history. Returns their window in milliseconds."""
    connection = await asyncpg.connect(url)
    end_ms = int(time.time() * 1000) - 1_000
    start_ms = end_ms - count // PER_MILLISECOND
    partitions = Partitions(connection)
    for ms in (start_ms, end_ms):
        await partitions.ensure(ms)
    await connection.execute(
        "INSERT INTO streamhub_hub.organizations (id, slug, slug_is_made, enterprise) "
        "VALUES ('org_1', 'my-org', false, true)"
    )
    await connection.copy_records_to_table(
        "history", schema_name="streamhub_hub", columns=COLUMNS, records=make(count, start_ms)
    )
    await connection.execute("VACUUM ANALYZE streamhub_hub.history")
    await connection.close()
    return start_ms, end_ms


async def gateway(url: str, key_file: Path, ready: Connection) -> None:
    key = DevelopmentKey.load_or_create(key_file)
    authenticator = Authenticator([Issuer(frozenset({ISSUER}), PemKeys(key.public_pem, "the key"))])
    async with AsyncExitStack() as stack:
        pool = await stack.enter_async_context(connections(url, "streamhub", 10, reads_pages=True))
        tail = PostgresTail(url, pool)
        await tail.start()
        stack.push_async_callback(tail.stop)
        settings = Settings(database_url=url, drain_time=timedelta(0))
        server = await stack.enter_async_context(serve(settings, pool, tail, authenticator, port=0))
        ready.send(server.port)
        await asyncio.to_thread(ready.recv)


def run_gateway(url: str, key_file: Path, ready: Connection) -> None:
    memory.tune()
    uvloop.run(gateway(url, key_file, ready))


class Serving(NamedTuple):
    """A gateway process."""

    port: int
    pid: int


@asynccontextmanager
async def serving(stage: Stage, url: str) -> AsyncIterator[Serving]:
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=run_gateway, args=(url, stage.directory / "key.pem", theirs))
    process.start()
    port = await asyncio.to_thread(ours.recv)
    assert process.pid is not None
    yield Serving(port, process.pid)
    ours.send(None)
    process.join(20)


def read_replay(port: int, path: str, token: str, coding: str = "identity") -> tuple[float, int, bytes]:
    """(seconds, bytes, the last bytes) of one replay, not decoded."""
    began = time.perf_counter()
    with socket.create_connection(("127.0.0.1", port)) as sock:
        asked = f"Authorization: Bearer {token}\r\nAccept-Encoding: {coding}"
        sock.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n{asked}\r\n\r\n".encode())
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
    """The seconds of a raw COPY of all frames, in the order of ids."""
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


async def measure(stage: Stage) -> list[Result]:
    url = await stage.database(sample=False)
    start_ms, end_ms = await fill(url, EVENTS)
    path = f"/my-org/replay?date_from={timestamp(start_ms)}&date_to={timestamp(end_ms)}"
    rates, megabytes, ratios = [], [], []
    async with serving(stage, url) as gateway:
        for run in range(RUNS + 1):
            token = stage.token("org_1", "my-org")
            seconds, size, last = await asyncio.to_thread(read_replay, gateway.port, path, token)
            if f'"events":{EVENTS}'.encode() not in last:
                raise SystemExit(f"not every event came: {last!r}")
            copied = await read_copy(url)
            if run:  # the first run warms up
                rates.append(EVENTS / seconds)
                megabytes.append(size / seconds / 1e6)
                ratios.append(copied / seconds)
    return [
        Result(f"one replay of {EVENTS:,} events of about 600 bytes, sha256 on, events/s", spread(rates), "300,000"),
        Result("  MB/s", spread(megabytes), ""),
        Result("  ratio to a raw COPY of the same frames", spread(ratios, 2), ""),
    ]
