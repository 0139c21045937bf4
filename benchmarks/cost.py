"""Where an event's processor time goes from the outbox to the topic: microseconds by step, here and in PostgreSQL.

The relay's own parts run in this process one after the other, on updates of three columns of seven, with old and new
rows. Other work on the machine changes processor time by a fifth or so, where it makes rates meaningless.
"""

import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import asyncpg

from benchmarks.stage import Result, Stage
from streamhub import capture, organizations
from streamhub.capture import CaptureSpec
from streamhub.core import ids
from streamhub.core.events import StoredEvent
from streamhub.history.append import append
from streamhub.kafka.brokers import Brokers
from streamhub.kafka.run import Run
from streamhub.kafka.topic import open_topic
from streamhub.organizations.cache import Registry
from streamhub.postgres.ownership import claim, hub_id
from streamhub.relay.batches import Preparer
from streamhub.relay.outbox import Outbox, Ranges, delete, read_times_as_integers
from streamhub.relay.source import BATCH
from streamhub.runtime import memory

ROWS = 20_000
ROUNDS = 5
CHANGES = ROWS * ROUNDS
EPOCH = 0
TABLE = f"""
CREATE TABLE parts (
  id text PRIMARY KEY, code text NOT NULL, name text NOT NULL, price numeric(12,2) NOT NULL, stock int NOT NULL,
  metadata jsonb NOT NULL, updated_at timestamptz NOT NULL
) WITH (fillfactor = 50);
INSERT INTO parts
SELECT 'sku_' || lpad(n::text, 8, '0'), 'TSHIRT' || n || 'FFFFFFXL', 'Unisex organic T-shirt no. ' || n,
       round((n % 10000)::numeric / 100, 2), n % 1000,
       jsonb_build_object('brand', 'acme-' || n % 97, 'color', 'white', 'size', 'XL', 'weight_g', n % 500,
         'supplier', md5(n::text), 'warehouse', md5((n * 7)::text), 'season', 'SS26',
         'tags', jsonb_build_array('organic', 'cotton', md5((n * 13)::text)), 'customs', md5((n * 17)::text)),
       now()
FROM generate_series(1, {ROWS}) AS n;
"""
UPDATE_ALL = "UPDATE parts SET stock = stock + 1, price = price + 0.01, updated_at = clock_timestamp()"


class Ledger:
    """Nanoseconds by step: of this process, and of the one session that the step uses."""

    def __init__(self) -> None:
        self.own: dict[str, int] = defaultdict(int)
        self.server: dict[str, int] = defaultdict(int)

    @contextmanager
    def step(self, name: str, session: int | None = None) -> Iterator[None]:
        ran = 0 if session is None else _ran(session)
        began = time.process_time_ns()
        try:
            yield
        finally:
            self.own[name] += time.process_time_ns() - began
            if session is not None:
                self.server[name] += _ran(session) - ran

    def move(self, nanoseconds: int, from_: str, to: str) -> None:
        """Time of this process that was counted within another step."""
        self.own[from_] -= nanoseconds
        self.own[to] += nanoseconds

    def results(self, events: int) -> list[Result]:
        def line(name: str, own: int, server: int) -> Result:
            return Result(f"  {name}", f"{own / events / 1e3:.2f} + {server / events / 1e3:.2f}", "")

        return [
            Result("processor time of an event by step, µs: own process + PostgreSQL's session", "", ""),
            *(line(name, self.own[name], self.server[name]) for name in self.own),
            line("together", sum(self.own.values()), sum(self.server.values())),
        ]


def _ran(pid: int) -> int:
    """Nanoseconds that a process was on a processor."""
    return int(Path(f"/proc/{pid}/schedstat").read_text(encoding="ascii").split()[0])


class Watched:
    """A connection whose statements are steps of the ledger, told apart by what they do."""

    def __init__(self, connection: "asyncpg.Connection[Any]", ledger: Ledger) -> None:
        self._connection = connection
        self._ledger = ledger
        self._pid = connection.get_server_pid()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        transaction = self._connection.transaction()
        with self._ledger.step("begin, commit", self._pid):
            await transaction.start()
        yield
        with self._ledger.step("begin, commit", self._pid):
            await transaction.commit()

    async def fetchrow(self, query: str, *arguments: Any) -> Any:
        with self._ledger.step("lock the order, take ids, NOTIFY", self._pid):
            return await self._connection.fetchrow(query, *arguments)

    async def execute(self, query: str, *arguments: Any) -> str:
        with self._ledger.step("delete", self._pid):
            return await self._connection.execute(query, *arguments)

    async def copy_to_table(self, *arguments: Any, source: AsyncIterator[bytes], **options: Any) -> str:
        spent = 0

        async def watched() -> AsyncIterator[bytes]:
            nonlocal spent
            while True:
                began = time.process_time_ns()
                piece = await anext(source, None)
                spent += time.process_time_ns() - began
                if piece is None:
                    return
                yield piece

        with self._ledger.step("COPY", self._pid):
            copied = await self._connection.copy_to_table(*arguments, source=watched(), **options)
        self._ledger.move(spent, "COPY", "rows of the COPY")
        return copied


async def measure(stage: Stage) -> list[Result]:
    """Outbox to history."""
    ledger = Ledger()
    await _relayed(stage, ledger, _nowhere)
    return ledger.results(CHANGES)


async def measure_kafka(stage: Stage) -> list[Result]:
    """Outbox to history and to Kafka."""
    ledger = Ledger()
    brokers = Brokers([stage.broker.bootstrap])
    run = Run(brokers, await open_topic(brokers, "bench.cost", 16 * 1024 * 1024), ids.MIN_ID)
    await run.open()

    async def publish(events: Sequence[StoredEvent]) -> None:
        with ledger.step("publish to Kafka"):
            await run.send(events, events[-1].id)
            await run.settled()

    try:
        await _relayed(stage, ledger, publish)
    finally:
        await run.close()
    return ledger.results(CHANGES)


async def _nowhere(_: Sequence[StoredEvent]) -> None:
    pass


async def _relayed(stage: Stage, ledger: Ledger, publish: Callable[[Sequence[StoredEvent]], Awaitable[None]]) -> None:
    memory.tune()
    url = await stage.database(sample=False)
    connection = await asyncpg.connect(url)
    await connection.execute(TABLE)
    organization = await organizations.add(connection, "acme", "org_acme")
    await capture.add(connection, CaptureSpec("parts", resource_type="parts", organization_id=organization.id))
    reader, appender, hub = await asyncpg.connect(url), await asyncpg.connect(url), await asyncpg.create_pool(url)
    identity = await hub_id(connection)
    await claim(reader, identity)
    await read_times_as_integers(reader)
    preparer = Preparer("bench", reader, hub, Registry(hub), 16 * 1024 * 1024)
    await preparer.learn()
    outbox, watched = Outbox(reader, BATCH), Watched(appender, ledger)
    for _ in range(ROUNDS):
        await connection.execute(UPDATE_ALL)
        await connection.execute("VACUUM parts")
        await connection.execute("CHECKPOINT")
        more = True
        while more:
            with ledger.step("read", reader.get_server_pid()):
                changes, more = await outbox.read()
            if not changes:
                break
            with ledger.step("render"):
                batch = await preparer.prepare(changes, Ranges.of(change.seq for change in changes))

            async def within(_: Any, batch: Any = batch) -> None:
                await delete(watched, batch.ranges, len(batch.changes), identity)  # type: ignore[arg-type]

            with ledger.step("append"):
                before = sum(ledger.own.values())
                done = await append(watched, EPOCH, batch.drafts, source="bench", counted=batch.counted, within=within)  # type: ignore[arg-type]
                counted_already = sum(ledger.own.values()) - before
            ledger.own["append"] -= counted_already
            assert done.append is not None
            await publish(done.append.events)
        outbox.drained()
        await connection.execute("VACUUM streamhub.outbox")
    events = await connection.fetchval("SELECT count(*) FROM streamhub_hub.history")
    assert events == CHANGES, events
    for each in (reader, appender, connection, hub):
        await each.close()
