"""Debezium and Streamhub in turns, on one PostgreSQL and one broker, with the same rows and statements.

drain    a backlog of 500,000 changes, old and new rows: Debezium to a topic (REPLICA IDENTITY FULL), Streamhub to
         history, Streamhub to history and a topic
latency  500 commits a second: from COMMIT returned to a consumer of the topic, and to a client of the live stream
writers  pgbench, 4 clients, single-row UPDATE: alone, beside Debezium, beside Streamhub

Processor time is that of all processes of a side, in seconds for a million events. A side's rate is taken between the
first tenth and the last fiftieth of its events, so that no start counts.
"""

import asyncio
import re
import signal
import statistics
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from itertools import chain, count
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias
from urllib.parse import unquote, urlsplit

import aiohttp
import asyncpg
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from benchmarks.stage import Result, Stage, percentiles, processor_seconds, spread
from benchmarks.writers import tps
from servers.kafka import CACHE
from streamhub import capture
from streamhub.capture import CaptureSpec
from streamhub.core import ids

SOURCE: Final = Path(__file__).parent / "debezium_to_kafka"
BUILT: Final = CACHE.parent / "debezium-3.6.1"
SKUS: Final = 100_000
EVENTS: Final = 500_000
ROUNDS: Final = 3
PARTITIONS: Final = 4
RATE, SECONDS, WRITERS = 500, 12, 8
WARM_UP: Final = 8  # seconds, of a JVM
ENDS_WITHIN: Final = 240.0
_NO_END: Final = aiohttp.ClientTimeout(total=None)

TABLE: Final = f"""
CREATE TABLE skus (
  id text PRIMARY KEY, code text NOT NULL, name text NOT NULL, price numeric(12,2) NOT NULL, stock int NOT NULL,
  metadata jsonb NOT NULL, updated_at timestamptz NOT NULL);
INSERT INTO skus
SELECT 'sku_' || lpad(n::text, 8, '0'), 'TSHIRT' || n || 'FFFFFFXL', 'Unisex organic T-shirt no. ' || n,
       round((random() * 100)::numeric, 2), (random() * 1000)::int,
       jsonb_build_object('brand', 'acme-' || n % 97, 'color', 'white', 'size', 'XL', 'weight_g', n % 500,
         'supplier', md5(n::text), 'warehouse', md5((n * 7)::text), 'season', 'SS26',
         'tags', jsonb_build_array('organic', 'cotton', md5((n * 13)::text)), 'customs', md5((n * 17)::text)), now()
  FROM generate_series(1, {SKUS}) AS n;
"""
_FULL: Final = "ALTER TABLE skus REPLICA IDENTITY FULL; CREATE PUBLICATION dbz FOR TABLE skus;"
_CHANGE: Final = "stock = stock + 1, price = price + 0.01, updated_at = clock_timestamp()"
# 100 rows a transaction.
_BACKLOG: Final = f"""
DO $$ BEGIN
  FOR round IN 1..{EVENTS // SKUS} LOOP
    FOR n IN 0..{SKUS} - 1 BY 100 LOOP
      UPDATE skus SET {_CHANGE}
       WHERE id > 'sku_' || lpad(n::text, 8, '0') AND id <= 'sku_' || lpad((n + 100)::text, 8, '0');
      COMMIT;
    END LOOP;
  END LOOP;
END $$
"""
_SINGLE: Final = f"""\\set n random(1, {SKUS})
UPDATE skus SET {_CHANGE} WHERE id = 'sku_' || lpad(:n::text, 8, '0');
"""
_COMMIT: Final = "UPDATE skus SET stock = $2, updated_at = clock_timestamp() WHERE id = $1"
_APPENDED: Final = re.compile(r"^streamhub_published_events_total (\S+)", re.MULTILINE)
_PUBLISHED: Final = """
SELECT p.published_id::text AS published, h.event_ms, h.event_counter
  FROM streamhub_hub.publications AS p, streamhub_hub.log_head AS h WHERE p.topic = $1
"""
# An update's stock tells which one it is; those of a run are no other's, as a stream that is opened again repeats.
_stocks = count(10_000_000, 100_000)
_STOCK: Final = re.compile(rb'"stock":(1\d{7})')

Reader: TypeAlias = Callable[[dict[int, float], asyncio.Event], Awaitable[None]]
"""Notes when each stock is seen first, from when it sets the event until it is cancelled."""


class Drained(NamedTuple):
    """Events a second; seconds of processor time for a million: the side's own process, PostgreSQL, the broker."""

    rate: float
    own: float
    postgres: float
    broker: float

    @property
    def seconds(self) -> float:
        return self.own + self.postgres + self.broker


class Sides:
    """Two databases with the same table: `peer` is Debezium's, `hub` the one that is captured."""

    def __init__(self, stage: Stage, peer: str, hub: str) -> None:
        self.stage = stage
        self.peer = peer
        self.hub = hub
        self._topics = 0

    @classmethod
    async def prepared(cls, stage: Stage) -> "Sides":
        await _logical(stage)
        await asyncio.to_thread(_build)
        peer, hub = [await stage.database(sample=False) for _ in range(2)]
        await _execute(peer, TABLE, _FULL, "VACUUM ANALYZE skus")
        await _execute(hub, TABLE, "VACUUM ANALYZE skus")
        connection = await asyncpg.connect(hub)
        await capture.add(connection, CaptureSpec("skus", resource_type="skus", organization_id="org_1"))
        await connection.close()
        return cls(stage, peer, hub)

    async def new_topic(self) -> str:
        self._topics += 1
        name = f"beside-{self._topics}.public.skus"
        admin = AIOKafkaAdminClient(bootstrap_servers=self.stage.broker.bootstrap)
        await admin.start()
        await admin.create_topics([NewTopic(name, PARTITIONS, 1)])
        await admin.close()
        return name

    @asynccontextmanager
    async def debezium(self, topic: str) -> AsyncIterator[int]:
        """Its process, which reads from the slot `beside`. It has to be there, and is dropped at the end."""
        offsets = self.stage.directory / f"{topic}.offsets"
        server = urlsplit(self.peer)
        given = {
            "database.hostname": server.hostname, "database.port": server.port, "database.user": server.username,
            "database.password": unquote(server.password or ""), "database.dbname": server.path[1:],
            "slot.name": "beside", "topic.prefix": topic.partition(".")[0],
            "offset.storage.file.filename": offsets, "producer.bootstrap.servers": self.stage.broker.bootstrap,
        }  # fmt: skip
        with (self.stage.directory / "debezium.log").open("ab") as log:
            process = subprocess.Popen(
                ["java", "-Xmx1g", "-XX:+UseParallelGC", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
                 "-cp", f"{BUILT}/debezium-to-kafka-1.jar:{BUILT}/lib/*", "streamhub.bench.DebeziumToKafka",
                 str(SOURCE / "debezium.properties"), *(f"{name}={value}" for name, value in given.items())],
                stdout=log, stderr=log, stdin=subprocess.DEVNULL,
            )  # fmt: skip
        try:
            yield process.pid
        finally:
            process.send_signal(signal.SIGTERM)
            await asyncio.to_thread(process.wait, 30)
            await self.drop_slot()

    async def new_slot(self) -> None:
        await self.drop_slot()
        await _execute(self.peer, "SELECT pg_create_logical_replication_slot('beside', 'pgoutput')")

    async def drop_slot(self) -> None:
        for _ in range(50):
            try:
                await _execute(
                    self.peer, "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots "
                    "WHERE slot_name = 'beside'",
                )  # fmt: skip
            except asyncpg.ObjectInUseError:
                await asyncio.sleep(0.2)
            else:
                return
        raise SystemExit("the slot of Debezium stays in use")

    async def slug(self) -> str:
        connection = await asyncpg.connect(self.hub)
        slug = await connection.fetchval("SELECT slug FROM streamhub_hub.organizations WHERE id = 'org_1'")
        await connection.close()
        return str(slug)

    def kafka(self, topic: str) -> dict[str, str]:
        return {"kafka_bootstrap_servers": self.stage.broker.bootstrap, "kafka_topic": topic}

    async def drain_debezium(self) -> Drained:
        await self.new_slot()
        topic = await self.new_topic()
        await _execute(self.peer, _BACKLOG, "CHECKPOINT")
        async with self.debezium(topic) as pid:
            return await self._to_topic(topic, pid)

    async def drain_to_history(self) -> Drained:
        await _execute(self.hub, _BACKLOG, "CHECKPOINT")
        async with self.stage.hub(self.hub, "relay") as hub, aiohttp.ClientSession() as session:

            async def appended() -> int:
                async with session.get(f"http://127.0.0.1:{hub.port}/-/metrics") as answer:
                    found = _APPENDED.search(await answer.text())
                return 0 if found is None else int(float(found[1]))

            return await self._measured(appended, hub.process.pid, with_broker=False)

    async def drain_to_topic(self) -> Drained:
        """A topic begins with what comes after its publisher has reached it first, so that is before the backlog."""
        topic = await self.new_topic()
        async with self.stage.hub(self.hub, "relay", **self.kafka(topic)):
            await self.published(topic)
        await _execute(self.hub, _BACKLOG, "CHECKPOINT")
        async with self.stage.hub(self.hub, "relay", **self.kafka(topic)) as hub:
            return await self._to_topic(topic, hub.process.pid)

    async def published(self, topic: str) -> None:
        """The topic has what history has."""
        connection = await asyncpg.connect(self.hub)
        until = time.monotonic() + ENDS_WITHIN
        while time.monotonic() < until:
            row = await connection.fetchrow(_PUBLISHED, topic)
            if row is not None and row["published"] >= ids.event_id(row["event_ms"], row["event_counter"]):
                await connection.close()
                return
            await asyncio.sleep(0.1)
        raise SystemExit(f"{topic} does not have what history has")

    async def _to_topic(self, topic: str, pid: int) -> Drained:
        consumer = AIOKafkaConsumer(bootstrap_servers=self.stage.broker.bootstrap)
        await consumer.start()
        partitions = [TopicPartition(topic, n) for n in range(PARTITIONS)]

        async def sent() -> int:
            return sum((await consumer.end_offsets(partitions)).values())

        try:
            return await self._measured(sent, pid, with_broker=True)
        finally:
            await consumer.stop()

    async def _measured(self, done: Callable[[], Awaitable[int]], pid: int, *, with_broker: bool) -> Drained:
        samples: list[tuple[float, int, float, float, float]] = []
        until = time.monotonic() + ENDS_WITHIN
        while not samples or samples[-1][1] < EVENTS:
            if time.monotonic() > until:
                raise SystemExit(f"{samples[-1][1]:,} of {EVENTS:,} events came within {ENDS_WITHIN:.0f} s")
            await asyncio.sleep(0.1)
            broker = self.stage.broker.pid if with_broker else None
            samples.append(
                (
                    time.perf_counter(), await done(), processor_seconds(pid), self.stage.postgres_seconds(),
                    0.0 if broker is None else processor_seconds(broker),
                )
            )  # fmt: skip
        first = next(each for each in samples if each[1] >= 0.1 * EVENTS)
        last = next(each for each in samples if each[1] >= 0.98 * EVENTS)
        count = last[1] - first[1]
        own, postgres, broker_seconds = ((last[n] - first[n]) / count * 1e6 for n in (2, 3, 4))
        return Drained(count / (last[0] - first[0]), own, postgres, broker_seconds)


async def measure(stage: Stage) -> list[Result]:
    sides = await Sides.prepared(stage)
    return [*await _drain(sides), *await _latency(sides), *await _writers(sides)]


async def _drain(sides: Sides) -> list[Result]:
    contenders = {
        "Debezium to a topic": sides.drain_debezium,
        "Streamhub to history": sides.drain_to_history,
        "Streamhub to history and a topic": sides.drain_to_topic,
    }
    found: dict[str, list[Drained]] = {name: [] for name in contenders}
    for _ in range(ROUNDS):
        for name, run in contenders.items():
            found[name].append(await run())
    peers = found["Debezium to a topic"]
    rate, seconds = (statistics.median(values) for values in zip(*((p.rate, p.seconds) for p in peers), strict=True))
    results = []
    for name, targets in zip(contenders, (("", ""), ("2.5", "0.35"), ("1.6", "0.55")), strict=True):
        its = found[name]
        results += [
            Result(f"{EVENTS:,} changes, {name}, events/s", spread([each.rate for each in its]), ""),
            Result("  processor seconds for a million", spread([each.seconds for each in its], 1), ""),
            Result(
                "  … own process; PostgreSQL; broker",
                "; ".join(f"{statistics.median(part):.1f}" for part in zip(*(each[1:] for each in its), strict=True)),
                "",
            ),
        ]
        if its is not peers:
            results += [
                Result("  rate, times Debezium's", f"{statistics.median(e.rate for e in its) / rate:.2f}", targets[0]),
                Result(
                    "  processor time, times Debezium's",
                    f"{statistics.median(each.seconds for each in its) / seconds:.2f}", targets[1],
                ),
            ]  # fmt: skip
    return results


async def _latency(sides: Sides) -> list[Result]:
    found: dict[str, list[list[float]]] = {"Debezium": [], "Streamhub": [], "Streamhub, live stream": []}
    for _ in range(ROUNDS):
        await sides.new_slot()
        topic = await sides.new_topic()
        async with sides.debezium(topic):
            await _paced(sides.peer, WARM_UP)
            found["Debezium"].append(await _lags(sides.peer, partial(_consume, sides, topic)))
        topic = await sides.new_topic()
        async with sides.stage.hub(sides.hub, **sides.kafka(topic)):
            await _paced(sides.hub, WARM_UP)
            await sides.published(topic)
            found["Streamhub"].append(await _lags(sides.hub, partial(_consume, sides, topic)))
        async with sides.stage.hub(sides.hub) as hub:
            await _paced(sides.hub, WARM_UP)
            url = f"http://127.0.0.1:{hub.port}/{await sides.slug()}"
            found["Streamhub, live stream"].append(await _lags(sides.hub, partial(_follow, sides.stage, url)))
    return [
        Result(f"{RATE} commits/s, COMMIT returned to the reader, {name}, ms", percentiles([*chain(*its)]), "")
        for name, its in found.items()
    ]


async def _writers(sides: Sides) -> list[Result]:
    script = sides.stage.directory / "single.sql"
    script.write_text(_SINGLE, encoding="ascii")

    how = ("-n", "-M", "prepared", "-c", "4", "-j", "1", "-T", str(WARM_UP), "-f", str(script))
    kept: dict[str, list[float]] = {"Debezium": [], "Streamhub": []}
    for _ in range(ROUNDS):
        await sides.drop_slot()
        before = await tps(sides.peer, *how)
        await sides.new_slot()
        async with sides.debezium(await sides.new_topic()):
            await tps(sides.peer, *how)
            beside = await tps(sides.peer, *how)
        async with sides.stage.hub(sides.hub, "relay"):
            await tps(sides.hub, *how)
            ours = await tps(sides.hub, *how)
        alone = (before + await tps(sides.peer, *how)) / 2
        kept["Debezium"].append(beside / alone)
        kept["Streamhub"].append(ours / alone)
    ratio = statistics.median(kept["Streamhub"]) / statistics.median(kept["Debezium"])
    return [
        *(Result(f"pgbench, share of TPS kept beside {name}", spread(its, 2), "") for name, its in kept.items()),
        Result("  Streamhub's, times Debezium's", f"{ratio:.2f}", "1.0"),
    ]


async def _lags(url: str, reader: Reader) -> list[float]:
    """Milliseconds from COMMIT returned to the reader."""
    seen: dict[int, float] = {}
    ready = asyncio.Event()
    task = asyncio.ensure_future(reader(seen, ready))
    await asyncio.wait({task, asyncio.ensure_future(ready.wait())}, return_when=asyncio.FIRST_COMPLETED)
    committed = await _paced(url, SECONDS)
    until = time.monotonic() + 10
    while not committed.keys() <= seen.keys() and time.monotonic() < until and not task.done():
        await asyncio.sleep(0.05)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    if missing := committed.keys() - seen.keys():
        raise SystemExit(f"{len(missing)} of {len(committed)} changes did not come")
    return [(seen[stock] - at) * 1_000 for stock, at in committed.items()]


async def _paced(url: str, seconds: float) -> dict[int, float]:
    """RATE updates a second; when the COMMIT of each returned, by its stock."""
    committed: dict[int, float] = {}
    first_stock = next(_stocks)
    began = time.perf_counter()

    async def write(number: int) -> None:
        connection = await asyncpg.connect(url)
        for n in range(number, int(RATE * seconds), WRITERS):
            await asyncio.sleep(max(0.0, began + n / RATE - time.perf_counter()))
            await connection.execute(_COMMIT, f"sku_{n % SKUS + 1:08d}", first_stock + n)
            committed[first_stock + n] = time.perf_counter()
        await connection.close()

    await asyncio.gather(*map(write, range(WRITERS)))
    return committed


# -- readers


async def _consume(sides: Sides, topic: str, seen: dict[int, float], ready: asyncio.Event) -> None:
    consumer = AIOKafkaConsumer(bootstrap_servers=sides.stage.broker.bootstrap, fetch_max_wait_ms=5)
    await consumer.start()
    try:
        partitions = [TopicPartition(topic, n) for n in range(PARTITIONS)]
        consumer.assign(partitions)
        await consumer.seek_to_end(*partitions)
        for partition in partitions:
            await consumer.position(partition)
        ready.set()
        while True:
            records = await consumer.getmany(timeout_ms=100)
            now = time.perf_counter()
            for each in (record for its in records.values() for record in its):
                for stock in _STOCK.findall(each.value or b""):
                    seen.setdefault(int(stock), now)
    finally:
        await consumer.stop()


async def _follow(stage: Stage, url: str, seen: dict[int, float], ready: asyncio.Event) -> None:
    headers = {"Authorization": f"Bearer {stage.token('org_1', url.rpartition('/')[2])}"}
    async with aiohttp.ClientSession() as session, session.get(url, headers=headers, timeout=_NO_END) as stream:
        stream.raise_for_status()
        ready.set()
        rest = b""
        async for data in stream.content.iter_any():
            now = time.perf_counter()
            rest += data
            for stock in _STOCK.findall(rest):
                seen.setdefault(int(stock), now)
            rest = rest[-40:]


# -- set-up


async def _logical(stage: Stage) -> None:
    await _execute(stage.postgres.url, "ALTER SYSTEM SET wal_level = 'logical'")
    await asyncio.to_thread(stage.postgres.stop)
    await asyncio.to_thread(stage.postgres.start)


def _build() -> None:
    """Debezium and what it needs, once a machine."""
    if not (BUILT / "lib").is_dir():
        subprocess.run(["mvn", "-q", "-B", "package", f"-Dbuild={BUILT}"], cwd=SOURCE, check=True)


async def _execute(url: str, *statements: str) -> None:
    connection = await asyncpg.connect(url)
    for statement in statements:
        await connection.execute(statement)
    await connection.close()
