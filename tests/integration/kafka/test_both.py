"""Relay, publisher, topic and tail together, as in production: what was committed is what a reader of each organization
hears of, through whatever comes between."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import asyncpg
import pytest

from streamhub.kafka import run
from streamhub.kafka.tail import KafkaTail
from tests.support.publishing import Following, following
from tests.support.stage import until
from tests.support.topics import Broadcasting, delete, raise_partitions

ORGANIZATIONS = 3


class Audience:
    """A reader of each organization, by a tail of its own."""

    def __init__(self, stage: Broadcasting, readers: list[Following]) -> None:
        self.stage = stage
        self.readers = readers

    async def heard_everything(self) -> None:
        for reader in self.readers:
            wanted = [
                row[0]
                for row in await self.stage.rows(
                    "SELECT id::text FROM streamhub_hub.history WHERE organization = $1 ORDER BY id",
                    reader.organization,
                )
            ]
            await reader.has(*wanted)


@pytest.fixture
async def audience(stage: Broadcasting, pool: "asyncpg.Pool[asyncpg.Record]") -> AsyncIterator[Audience]:
    await stage.shop()
    async with stage.relaying():
        await stage.started()
        await stage.write(1, ORGANIZATIONS)
        await stage.published()
    async with AsyncExitStack() as stack:
        tail = KafkaTail(pool, stage.brokers, stage.topic)
        await tail.start()
        stack.push_async_callback(tail.stop)
        readers = [
            await stack.enter_async_context(following(pool, tail, key, id=id_))
            for key, id_ in await stage.rows("SELECT key, id FROM streamhub_hub.organizations ORDER BY key")
        ]
        assert len(readers) == ORGANIZATIONS
        yield Audience(stage, readers)


async def write_for(stage: Broadcasting, seconds: float, first: int) -> int:
    """Commits some rows each few milliseconds. Returns the number after the last."""
    ends = asyncio.get_running_loop().time() + seconds
    while asyncio.get_running_loop().time() < ends:
        await stage.write(first, 10)
        first += 10
        await asyncio.sleep(0.005)
    return first


async def test_readers_hear_of_everything_through_relays_that_come_and_go(
    stage: Broadcasting, audience: Audience
) -> None:
    first = 100
    for _ in range(4):
        async with stage.relaying():
            first = await write_for(stage, 0.7, first)
    async with stage.relaying():
        await stage.published()
    await audience.heard_everything()


async def test_readers_hear_of_what_was_published_to_the_byte(stage: Broadcasting, audience: Audience) -> None:
    async with stage.relaying():
        for n in range(ORGANIZATIONS * 10):
            await stage.sql(
                f"SELECT streamhub.publish('org_{n % ORGANIZATIONS}', 'query.received', '{{\"n\": {n}.00}}')"
            )
        await stage.published()
    await audience.heard_everything()
    records = await stage.audited()
    assert sum(record.value.endswith(b".00}}") for record in records) == ORGANIZATIONS * 10


async def test_readers_hear_of_everything_while_the_topic_gets_more_partitions(
    stage: Broadcasting, audience: Audience, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "METADATA_EVERY", 300)
    async with stage.relaying():
        first = await write_for(stage, 0.5, 100)
        await raise_partitions(stage.bootstrap, stage.topic, 24)
        first = await write_for(stage, 1.5, first)
        await until(lambda: _has_partitions(stage, 24), "the publisher has taken them up")
        await write_for(stage, 1.5, first)
        await stage.published()
    await audience.heard_everything()


async def test_readers_hear_of_everything_although_the_topic_is_deleted(
    stage: Broadcasting, audience: Audience
) -> None:
    async with stage.relaying():
        first = await write_for(stage, 0.5, 100)
        await delete(stage.bootstrap, stage.topic)
        await write_for(stage, 1.5, first)
        await stage.published(within=40)
        await audience.heard_everything()


async def _has_partitions(stage: Broadcasting, partitions: int) -> bool:
    return bool(await stage.value("SELECT partitions = $1 FROM streamhub_hub.publications", partitions))
