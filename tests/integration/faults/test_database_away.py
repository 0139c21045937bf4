"""PostgreSQL away for 20 s in mid-stream: killed, and started again, under two gateways with traffic.

One run; the tests look at what came of it.
"""

import asyncio
import itertools
import shutil
import time
from typing import NamedTuple

import asyncpg
import pytest

from servers.clusters import cluster_directory
from servers.ports import free_port
from streamhub.embedded import EmbeddedPostgres
from tests.integration.conftest import Answer, Client
from tests.support.consumer import Consumer, consuming
from tests.support.hub import Hub, hub_over, traffic, until

AWAY = 20  # seconds
PATHS = ("/org-0", "/org-0/status", "/org-0/replays", "/org-0/replay?resource_type_eq=skus&resource_id_in=1")


class Outage(NamedTuple):
    """Times of time.monotonic(). `committed` are the keys of the application's rows after all."""

    away: float
    back: float
    consumer: Consumer
    answers: list[Answer]
    committed: list[str]
    published: list[str]
    recovered_within: float


async def asked(hub: Hub, path: str) -> list[Answer]:
    headers = [("Authorization", f"Bearer {hub.token()}")]
    found = []
    for process in hub.processes:
        client = await Client.open(process.port, path, headers)
        found.append(await client.answer() if client.status != 200 else Answer(200, client.headers, b""))
        client.close()
    return found


@pytest.fixture(scope="module")
async def outage(tmp_path_factory: pytest.TempPathFactory) -> Outage:
    """The server is this run's own, since other tests must not lose theirs."""
    directory = cluster_directory()
    try:
        async with EmbeddedPostgres(directory) as postgres:
            # On a port where no other server would look for a free one while this one is away.
            await asyncio.to_thread(postgres.stop)
            await asyncio.to_thread((postgres.base / "port").write_text, f"{free_port()}\n")
            await postgres.start_async()
            async with hub_over(postgres.url, tmp_path_factory.mktemp("away"), heartbeat_interval="1s") as hub:
                await hub.start()
                await hub.prepare()
                await hub.start()
                return await _through(postgres, hub)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


async def _through(postgres: EmbeddedPostgres, hub: Hub) -> Outage:
    consumer = Consumer(hub, hub.processes)
    async with consuming(consumer):
        async with traffic(hub.url, ["org-0"]):
            await until(lambda: len(consumer.log) > 50, "the stream is under way")
            away = time.monotonic()
            await asyncio.to_thread(postgres.kill)
            answers = []
            for at, path in zip((0.5, 3, 6, 15), PATHS, strict=True):  # with the lease trusted still, and after
                await asyncio.sleep(away + at - time.monotonic())
                for each in PATHS if at > 1 else [path]:
                    answers += await asked(hub, each)
            await asyncio.sleep(away + AWAY - time.monotonic())
            await postgres.start_async()
            back = time.monotonic()
            before = len(consumer.log)
            await until(lambda: len(consumer.log) > before, "the stream goes on")
            recovered_within = time.monotonic() - back
            await asyncio.sleep(1)
        await until(hub.is_all_published, "everything is published")
        published = await hub.published()
        await until(lambda: consumer.has(published[-1]), "the last event is there")
    return Outage(away, back, consumer, answers, await hub.rows(), published, recovered_within)


async def test_heartbeats_go_on_while_the_database_is_away(outage: Outage) -> None:
    times = [at for at in outage.consumer.connections[0].heartbeats if outage.away - 1 < at < outage.back]
    pauses = [later - earlier for earlier, later in itertools.pairwise([*times, outage.back])]
    assert max(pauses) < 3, pauses


async def test_a_new_request_is_told_503_and_when_to_come_again(outage: Outage) -> None:
    for answer in outage.answers:
        assert (answer.status, answer.codes) == (503, ["UNAVAILABLE"])  # which looks at Retry-After too


async def test_nothing_committed_is_lost_and_all_comes_in_order_once(outage: Outage) -> None:
    assert outage.consumer.log == outage.published
    assert len(outage.published) == len(outage.committed)


async def test_the_stream_goes_on_or_ends_so_that_it_can_be_resumed(outage: Outage) -> None:
    ends = [connected.error for connected in outage.consumer.connections[:-1]]
    assert [(end["code"], end["resumable"]) for end in ends if end is not None] == [("LEASE_LOST", True)] * len(ends)


async def test_events_flow_again_within_ten_seconds_of_its_return(outage: Outage) -> None:
    assert outage.recovered_within < 10


async def test_a_server_whose_database_goes_while_it_starts_tries_again(hub: Hub) -> None:
    holder, watcher = await asyncpg.connect(hub.url), await asyncpg.connect(hub.url)
    # What a migration waits for: the table's lock, or where there is none yet, another one that makes the schema.
    await holder.execute("BEGIN")
    if await holder.fetchval("SELECT to_regclass('streamhub_hub.migrations') IS NOT NULL"):
        await holder.execute("LOCK TABLE streamhub_hub.migrations IN SHARE MODE")
    else:
        await holder.execute("CREATE SCHEMA streamhub_hub")
    starting = asyncio.create_task(hub.start())
    waiting = "FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    await until(lambda: watcher.fetchval(f"SELECT EXISTS (SELECT {waiting})"), "it waits to migrate")
    await watcher.fetchval(f"SELECT pg_terminate_backend(pid) {waiting}")
    await watcher.close()
    await holder.close()
    process = await starting  # once it listens
    assert "went away during the start" in process.logged()
