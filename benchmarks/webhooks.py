"""Webhooks: deliveries a second, how long they take, an endpoint that hangs, and 1,000,000 that are pending.

One process receives, on a raw socket: it answers 204, notes which event came when, and on `/hang` never answers.
"""

import asyncio
import multiprocessing
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from multiprocessing.connection import Connection
from typing import Final, cast

import asyncpg
import uvloop

from benchmarks.stage import Result, Stage, percentiles, spread
from streamhub.history.plans import INDEX_ORDER
from streamhub.webhooks import deliveries

ENDPOINTS: Final = 20
RATE: Final = 100  # commits a second: 2,000 deliveries
SECONDS: Final = 10
BACKLOG: Final = 2_000  # events: 40,000 deliveries
QUIET: Final = 100  # commits, one after the other
PENDING: Final = 1_000_000
CLAIMS: Final = 50
ROLES: Final = "relay,webhooks"

_TRANSACTION: Final = re.compile(rb'"transaction_id":"(\d+)"')
_LENGTH: Final = re.compile(rb"\r\ncontent-length: (\d+)\r\n", re.IGNORECASE)
_ANSWER: Final = b"HTTP/1.1 204 No Content\r\n\r\n"

_COMMIT: Final = "UPDATE skus SET quantity = quantity + 1 WHERE id = $1 RETURNING pg_current_xact_id()::text::bigint"


class _Receiving(asyncio.Protocol):
    def __init__(self, arrived: dict[str, dict[int, float]]) -> None:
        self._arrived = arrived
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._rest += data
        while (end := self._rest.find(b"\r\n\r\n")) >= 0:
            length = _LENGTH.search(self._rest, 0, end + 2)
            until = end + 4 + (int(length[1]) if length else 0)
            if len(self._rest) < until:
                return
            request, self._rest = self._rest[:until], self._rest[until:]
            path = request.split(b" ", 2)[1].decode()
            found = _TRANSACTION.search(request, end)
            if found is not None:
                self._arrived.setdefault(path, {}).setdefault(int(found[1]), time.monotonic())
            if path != "/hang":
                self._transport.write(_ANSWER)


def receive(to: Connection) -> None:
    """Sends the port; then, each time it gets something, what arrived since (path → transaction → when); None ends."""

    async def serve() -> None:
        arrived: dict[str, dict[int, float]] = {}
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: _Receiving(arrived), "127.0.0.1", 0, backlog=1_000)
        to.send(server.sockets[0].getsockname()[1])
        while await loop.run_in_executor(None, to.recv) is not None:
            to.send(dict(arrived))
            arrived.clear()

    uvloop.run(serve())


class Receiver:
    def __init__(self, pipe: Connection, port: int) -> None:
        self._pipe = pipe
        self.port = port

    async def arrived(self) -> dict[str, dict[int, float]]:
        """What came since the last look."""
        await asyncio.to_thread(self._pipe.send, True)
        found: dict[str, dict[int, float]] = await asyncio.to_thread(self._pipe.recv)
        return found


@asynccontextmanager
async def receiver() -> AsyncIterator[Receiver]:
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=receive, args=(theirs,), daemon=True)
    process.start()
    try:
        yield Receiver(ours, await asyncio.to_thread(ours.recv))
    finally:
        ours.send(None)
        process.join(10)


async def measure(stage: Stage) -> list[Result]:
    async with receiver() as to:
        return [
            *await _throughput(stage, to),
            *await _beside_one_that_hangs(stage, to),
            *await _quiet(stage, to),
            *await _pending(stage),
        ]


async def _throughput(stage: Stage, to: Receiver) -> list[Result]:
    """At 100 commits a second, and from a backlog."""
    url = await stage.database()
    async with stage.hub(url, ROLES) as hub:
        connection = await asyncpg.connect(url)
        await _endpoints(connection, to, [f"/{n}" for n in range(ENDPOINTS)])
        await to.arrived()
        before, postgres_before = hub.cpu_seconds(), stage.postgres_seconds()
        took = sorted(await _steadily(connection, to))
        used, postgres = hub.cpu_seconds() - before, stage.postgres_seconds() - postgres_before
        before, began = hub.cpu_seconds(), time.monotonic()
        await connection.execute(
            "UPDATE skus SET quantity = quantity + 1 WHERE id IN "
            "(SELECT 'sku_' || 2 * i FROM generate_series(1, $1::int) AS i)", BACKLOG,
        )  # fmt: skip
        while await connection.fetchval("SELECT count(*) FROM streamhub_hub.webhook_finished") < ENDPOINTS * (
            BACKLOG + RATE * SECONDS + 1
        ):
            await asyncio.sleep(0.05)
        rate = ENDPOINTS * BACKLOG / (time.monotonic() - began)
        backlog_used = (hub.cpu_seconds() - before) / (ENDPOINTS * BACKLOG) * 1e6
        await connection.close()
    what = f"{ENDPOINTS} endpoints, {RATE * ENDPOINTS:,} deliveries/s"
    return [
        Result(f"webhooks, {what}: COMMIT sent to the receiver, ms", percentiles(took), ""),
        Result("  the hub's processor time, cores", f"{used / SECONDS:.2f}", ""),
        Result("  PostgreSQL's processor time, cores", f"{postgres / SECONDS:.2f}", ""),
        Result(f"  a backlog of {ENDPOINTS * BACKLOG:,} deliveries, deliveries/s", f"{rate:,.0f}", "2,000"),
        Result("  the hub's processor time, µs a delivery", f"{backlog_used:.0f}", ""),
    ]


async def _beside_one_that_hangs(stage: Stage, to: Receiver) -> list[Result]:
    url = await stage.database()
    async with stage.hub(url, ROLES):
        connection = await asyncpg.connect(url)
        await _endpoints(connection, to, [*(f"/{n}" for n in range(ENDPOINTS - 1)), "/hang"])
        await to.arrived()
        took = await _steadily(connection, to, "/hang")
        await connection.close()
    return [
        Result(
            f"  one of {ENDPOINTS} endpoints never answers: COMMIT sent to the others, ms", percentiles(took), "p99 500"
        )
    ]


async def _quiet(stage: Stage, to: Receiver) -> list[Result]:
    url = await stage.database()
    async with stage.hub(url, ROLES):
        connection = await asyncpg.connect(url)
        await _endpoints(connection, to, ["/0"])
        await to.arrived()
        took = []
        for n in range(QUIET):
            await asyncio.sleep(0.05 if n % 10 else 3.5)  # now and then the endpoint has been given up meanwhile
            at = time.monotonic()
            xid = await connection.fetchval(_COMMIT, "sku_2")
            while True:
                found = await to.arrived()
                if xid in found.get("/0", ()):
                    took.append((found["/0"][xid] - at) * 1_000)
                    break
                await asyncio.sleep(0.002)
        await connection.close()
    return [Result("  a quiet hub, one endpoint: COMMIT sent to the receiver, ms", percentiles(took), "p50 15")]


async def _pending(stage: Stage) -> list[Result]:
    """What a dispatcher asks for when it looks for work."""
    url = await stage.database(sample=False)
    connection = await asyncpg.connect(url, server_settings=INDEX_ORDER)
    await connection.execute("ANALYZE")
    ids = await pending(connection, PENDING)
    results = []
    for statistics in ("stale", "deleted"):
        if statistics == "deleted":
            await connection.execute(
                "DELETE FROM pg_statistic; UPDATE pg_class SET reltuples = -1, relpages = 0 FROM pg_namespace n "
                "WHERE n.oid = relnamespace AND nspname LIKE 'streamhub%' AND relkind IN ('r', 'p')"
            )
        for what, some, target in (
            ("an endpoint and its oldest 100", ids[:1], "10"),
            (f"{ENDPOINTS} endpoints and the oldest 100 of each", ids, ""),
        ):
            took = []
            for _ in range(CLAIMS):
                node = await connection.fetchval("SELECT gen_random_uuid()::text")
                began = time.perf_counter()
                await connection.fetch(deliveries.TAKE, node, some)
                await connection.fetch(deliveries.READ, some, [100] * len(some))
                took.append((time.perf_counter() - began) * 1_000)
            results.append(
                Result(f"  {PENDING:,} pending, statistics {statistics}: {what} claimed, ms", spread(took, 1), target)
            )
    await connection.close()
    return results


async def pending(connection: "asyncpg.Connection[asyncpg.Record]", count: int) -> list[str]:
    """So many deliveries of ENDPOINTS endpoints: half due now, half in an hour. Autovacuum gathers no statistics."""
    key = await connection.fetchval(
        "INSERT INTO streamhub_hub.organizations (id, slug, slug_is_made, enterprise) "
        "VALUES ('org_0', 'org-0', true, true) RETURNING key"
    )
    await connection.execute(
        "ALTER TABLE streamhub_hub.webhook_deliveries SET (autovacuum_enabled = off);"
        "ALTER TABLE streamhub_hub.webhook_queues SET (autovacuum_enabled = off)"
    )
    ids = [
        row["id"]
        for row in await connection.fetch(
            "INSERT INTO streamhub_hub.webhook_endpoints (organization, url) "
            "SELECT $1, 'https://x.example' FROM generate_series(1, $2::int) RETURNING id::text", key, ENDPOINTS,
        )
    ]  # fmt: skip
    await connection.execute(
        "INSERT INTO streamhub_hub.webhook_deliveries (endpoint, event, type, resource_key, due_at) "
        "SELECT ($1::uuid[])[1 + n % $2::int], gen_random_uuid(), 'skus.update', n / 10, "
        "clock_timestamp() + CASE WHEN n % 3 = 0 THEN interval '1 hour' ELSE interval '0' END "
        "FROM generate_series(1, $3::int) AS n", ids, ENDPOINTS, count,
    )  # fmt: skip
    await connection.execute("UPDATE streamhub_hub.webhook_queues SET due_at = clock_timestamp()")
    return ids


async def _endpoints(connection: "asyncpg.Connection[asyncpg.Record]", to: Receiver, paths: list[str]) -> None:
    """Returns once each has had an event."""
    await connection.execute("UPDATE skus SET quantity = quantity + 1 WHERE id = 'sku_2'")
    while (key := await connection.fetchval("SELECT key FROM streamhub_hub.organizations WHERE id = 'org_0'")) is None:
        await asyncio.sleep(0.05)
    await connection.executemany(
        "INSERT INTO streamhub_hub.webhook_endpoints (organization, url) VALUES ($1, $2)",
        [(key, f"http://127.0.0.1:{to.port}{path}") for path in paths],
    )
    last = await connection.fetchval(_COMMIT, "sku_2")
    seen: set[str] = set()
    while len(seen) < len(paths):
        seen.update(path for path, found in (await to.arrived()).items() if last in found)
        await asyncio.sleep(0.05)
    await asyncio.sleep(1)


async def _steadily(connection: "asyncpg.Connection[asyncpg.Record]", to: Receiver, but: str = "") -> list[float]:
    """RATE commits a second for SECONDS. The latencies in ms, of all endpoints but one."""
    sent: dict[int, float] = {}
    began = time.monotonic()
    for n in range(RATE * SECONDS):
        await asyncio.sleep(began + n / RATE - time.monotonic())
        at = time.monotonic()
        sent[await connection.fetchval(_COMMIT, f"sku_{2 + n % 1_000 * 2}")] = at
    arrived: dict[str, dict[int, float]] = {}
    expected = await connection.fetchval("SELECT count(*) FROM streamhub_hub.webhook_endpoints") - (1 if but else 0)
    async with asyncio.timeout(60):
        while sum(len(each) for path, each in arrived.items() if path != but) < expected * len(sent):
            await asyncio.sleep(0.1)
            for path, each in (await to.arrived()).items():
                arrived.setdefault(path, {}).update(each)
    return [(found[xid] - at) * 1_000 for path, found in arrived.items() if path != but for xid, at in sent.items()]
