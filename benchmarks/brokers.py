"""Three brokers under 2,000 changes a second, one killed and restarted at a time; then compares history and topic."""

import asyncio
import itertools
import json
import random
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import asyncpg

from benchmarks.stage import Result, Stage, spread
from crash import audit
from crash.audit import Event, Mark, Row
from crash.consumers import digest
from crash.topic import records
from servers.access import Access
from servers.kafka import Cluster
from streamhub.core import ids

KILLS = 20
WRITERS = 4
ROWS = 20  # in a transaction; each writer has its own rows
EACH = WRITERS * ROWS / 2_000  # seconds between two transactions of a writer
AWAY = (1.0, 5.0)  # seconds that a killed broker is away
BETWEEN = (3.0, 5.0)  # seconds until the next one is killed
TOPIC = "bench.brokers"
UPDATE = "UPDATE skus SET quantity = quantity + 1 WHERE id = ANY ($1)"


async def measure(stage: Stage) -> list[Result]:
    url = await stage.database()
    directory = Path(tempfile.mkdtemp(dir=stage.directory))
    access = Access(directory, {"hub": "its-password"}, may_all=["hub"])
    with Cluster(3, access=access) as cluster:
        settings = {
            "kafka_bootstrap_servers": ",".join(cluster.listeners("SASL_SSL")),
            "kafka_topic": TOPIC,
            "kafka_security_protocol": "SASL_SSL",
            "kafka_sasl_mechanism": "SCRAM-SHA-512",
            "kafka_sasl_username": "hub",
            "kafka_sasl_password": "its-password",
            "kafka_ssl_ca_file": str(access.authority.certificate),
        }
        async with stage.hub(url, **settings):
            return await _measure(url, cluster)


async def _measure(url: str, cluster: Cluster) -> list[Result]:
    connection = await asyncpg.connect(url)
    while not await connection.fetchval("SELECT EXISTS (SELECT FROM streamhub_hub.publications)"):
        await asyncio.sleep(0.05)
    began, stop = time.monotonic(), asyncio.Event()
    writers = [asyncio.create_task(_write(url, number, stop)) for number in range(WRITERS)]
    lags: list[float] = []
    looking = asyncio.create_task(_look(url, lags))
    for kill in range(KILLS):
        await asyncio.sleep(random.uniform(*BETWEEN))
        broker = random.choice(cluster.brokers)
        await asyncio.to_thread(broker.kill)
        await asyncio.sleep(random.uniform(*AWAY))
        broker.spawn()  # in this thread: the broker is killed when its thread ends
        await asyncio.to_thread(broker.wait_until_ready)
        print(f"killed {kill + 1} of {KILLS}", file=sys.stderr, flush=True)
    stop.set()
    written = sum(await asyncio.gather(*writers))
    rate = written / (time.monotonic() - began)
    settling = time.monotonic()
    await _published(connection)
    settling = time.monotonic() - settling
    looking.cancel()
    findings = await _audited(connection, written, ",".join(cluster.bootstrap))
    await connection.close()
    for finding in findings:
        print(finding)
    return [
        Result(
            f"three brokers, one killed and brought back, {KILLS} times; changes/s meanwhile", f"{rate:,.0f}", "2,000"
        ),
        Result(
            "  changes; events lost, twice or out of order in history or topic", f"{written:,}; {len(findings)}", "0"
        ),
        Result("  how far the topic was behind history, s", spread(lags, 2), ""),
        Result("  after the last change, until the topic had all, s", f"{settling:.1f}", ""),
    ]


async def _write(url: str, number: int, stop: asyncio.Event) -> int:
    """Returns the number of changes. Each raises its row's quantity by one."""
    connection = await asyncpg.connect(url)
    own = [f"sku_{n}" for n in range(1, 10_001) if n % WRITERS == number]
    made = 0
    began = time.monotonic()
    for turn in itertools.count():
        # By a schedule: a commit that was slow is caught up with, so that the rate is what was offered.
        await asyncio.sleep(max(0.0, began + turn * EACH - time.monotonic()))
        if stop.is_set():
            break
        first = turn * ROWS % len(own)
        made += int((await connection.execute(UPDATE, own[first : first + ROWS])).split()[1])
    await connection.close()
    return made


async def _look(url: str, lags: list[float]) -> None:
    connection = await asyncpg.connect(url)
    while True:
        await asyncio.sleep(0.25)
        head = await connection.fetchrow(
            "SELECT event_ms, event_counter, published_id::text FROM streamhub_hub.log_head, streamhub_hub.publications"
        )
        published = ids.milliseconds(head["published_id"])
        if published:  # it is 0 until the first event
            lags.append(max(0, head["event_ms"] - published) / 1000)


async def _published(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    async with asyncio.timeout(120):
        while await connection.fetchval("SELECT EXISTS (SELECT FROM streamhub.outbox)"):
            await asyncio.sleep(0.02)
        last = ids.event_id(*await connection.fetchrow("SELECT event_ms, event_counter FROM streamhub_hub.log_head"))
        while await connection.fetchval("SELECT published_id::text FROM streamhub_hub.publications") < last:
            await asyncio.sleep(0.02)


async def _audited(connection: "asyncpg.Connection[asyncpg.Record]", written: int, bootstrap: str) -> list[str]:
    """A finding for each change that is lost, repeated or out of order."""
    found = await connection.fetch(
        "SELECT h.id::text, o.id AS organization, h.resource_id, h.frame FROM streamhub_hub.history h "
        "JOIN streamhub_hub.organizations o ON o.key = h.organization ORDER BY h.id"
    )
    findings = [] if len(found) == written else [f"{written} changes were made, and history has {len(found)}"]
    quantities: dict[str, int] = defaultdict(lambda: 100)
    events = []
    for row in found:
        data = json.loads(row["frame"].split(b"\ndata: ", 1)[1])
        quantity = data["delta"]["quantity"]
        if (quantity["from"], quantity["to"]) != (quantities[row["resource_id"]], quantities[row["resource_id"]] + 1):
            findings.append(f"history has {row['id']} of {row['resource_id']} in the wrong place: {quantity}")
        quantities[row["resource_id"]] = quantity["to"]
        whose = Row(row["organization"], False, "skus", row["resource_id"])
        mark = Mark("update", "", quantity["to"], "")
        events.append(Event(row["id"], whose, mark, digest(row["frame"]), ""))
    return findings + audit.topic_against(await records(bootstrap, TOPIC), events)
