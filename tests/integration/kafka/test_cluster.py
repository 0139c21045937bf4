"""Three brokers with replicas, TLS and passwords, as production has them: one of them is killed and comes back."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import asyncpg
import pytest

from servers.access import Access
from servers.kafka import Cluster, NoBrokerError
from streamhub.config import Settings
from streamhub.kafka.brokers import Brokers
from streamhub.kafka.tail import KafkaTail
from tests.conftest import no_kafka
from tests.support.publishing import following
from tests.support.stage import until
from tests.support.tasks import ended
from tests.support.topics import Broadcasting, settings_of

LED_AGAIN = 60.0  # seconds in which the brokers that are left have to publish; they need two or three


@pytest.fixture(scope="module")
def cluster_access(tmp_path_factory: pytest.TempPathFactory) -> Access:
    return Access(tmp_path_factory.mktemp("access"), {"hub": "its-password"}, may_all=["hub"])


@pytest.fixture(scope="module")
def cluster(cluster_access: Access) -> Iterator[Cluster]:
    try:
        cluster = Cluster(3, access=cluster_access)
        cluster.start()
    except NoBrokerError as error:
        no_kafka(error)
    yield cluster
    cluster.close()


@pytest.fixture
async def stage(database_url: str, cluster: Cluster, cluster_access: Access, topic: str) -> AsyncIterator[Broadcasting]:
    connection = await asyncpg.connect(database_url)
    stage = Broadcasting(database_url, connection, ",".join(cluster.bootstrap), topic)
    stage.brokers = Brokers.of(
        Settings(
            kafka_bootstrap_servers=tuple(cluster.listeners("SASL_SSL")),
            kafka_security_protocol="SASL_SSL",
            kafka_sasl_mechanism="SCRAM-SHA-512",
            kafka_sasl_username="hub",
            kafka_sasl_password="its-password",
            kafka_ssl_ca_file=cluster_access.authority.certificate,
        )
    )
    yield stage
    connection.terminate()


@pytest.mark.timeout(300)  # three brokers start within it
async def test_a_broker_of_three_that_is_killed_and_comes_back_costs_no_event(
    stage: Broadcasting, cluster: Cluster, pool: Any
) -> None:
    await stage.shop()
    written = 0
    writing_connection = await asyncpg.connect(stage.url)
    application = Broadcasting(stage.url, writing_connection, stage.bootstrap, stage.topic)

    async def write() -> None:
        nonlocal written
        while True:
            await application.write(written + 1, 10)
            written += 10
            await asyncio.sleep(0.02)

    async with stage.relaying():
        await stage.started()
        assert (await settings_of(stage.bootstrap, stage.topic))["min.insync.replicas"] == "2"
        await stage.write(-3, 3)
        await stage.published()
        tail = KafkaTail(pool, stage.brokers, stage.topic)
        await tail.start()
        key = await stage.value("SELECT key FROM streamhub_hub.organizations WHERE id = 'org_1'")
        async with following(pool, tail, key, id="org_1") as reader:
            writing = asyncio.create_task(write())
            killed = cluster.brokers[0]
            await asyncio.to_thread(killed.kill)
            await _publishes(stage)
            killed.spawn()
            await asyncio.to_thread(killed.wait_until_ready)
            await _publishes(stage)
            await ended(writing)
            await stage.published(LED_AGAIN)
            await reader.has(
                *[row[0] for row in await stage.rows(
                    "SELECT id::text FROM streamhub_hub.history WHERE organization = $1 ORDER BY id", key
                )]
            )  # fmt: skip
        await tail.stop()
    numbers = [int(row[0]) for row in await stage.rows("SELECT resource_id FROM streamhub_hub.history ORDER BY id")]
    committed = [row[0] for row in await stage.rows("SELECT id FROM skus ORDER BY id")]
    assert numbers == committed
    await stage.audited()
    writing_connection.terminate()


async def _publishes(stage: Broadcasting) -> None:
    """What is in history at this moment comes to be acknowledged."""
    head = await stage.value("SELECT max(id::text) FROM streamhub_hub.history")

    async def published() -> bool:
        return bool(await stage.value("SELECT published_id::text >= $1 FROM streamhub_hub.publications", head))

    await until(published, "the brokers that are left take it", LED_AGAIN)
