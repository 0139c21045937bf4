"""An outbox belongs to one hub: another one's relay takes nothing from it, and says so."""

import asyncio

import asyncpg
import pytest

from streamhub.postgres import ownership
from streamhub.relay import Relay, Source
from tests.integration.relay.conftest import NewDatabase
from tests.support.stage import Stage, kinds, running, until

INSERT = "INSERT INTO skus VALUES ({}, 'org_1', 1, 'a')"


@pytest.fixture
async def other_hub(new_database: NewDatabase) -> Stage:
    """A hub of another id: databases made from one template have one."""
    url = await new_database()
    connection = await asyncpg.connect(url)
    await connection.execute("UPDATE streamhub_hub.identity SET id = gen_random_uuid()")
    return Stage(url, connection)


def relay(hub: Stage, source: Stage, *more: Source) -> Relay:
    return Relay(hub.url, [Source("shop", source.url, in_hub=False), *more], announce=hub.announced.append)


def told_of(relay: Relay) -> str:
    return relay.lost.get("shop", "")


async def refused(relay: Relay) -> None:
    async def condition() -> bool:
        return "belongs to the hub" in told_of(relay)

    await until(condition, "the relay tells that the source is another hub's")


async def test_every_change_of_a_source_that_two_hubs_name_goes_to_one_of_them(
    stage: Stage, other_hub: Stage, source: Stage
) -> None:
    await source.shop()
    async with running(relay(stage, source)), running(relay(other_hub, source)):
        for id_ in range(40):
            await source.sql(INSERT.format(id_))
            await source.drained()
    counts = [len(await hub.frames()) for hub in (stage, other_hub)]
    assert sorted(counts) == [0, 40]


async def test_of_relays_that_claim_at_once_one_gets_it(source: Stage) -> None:
    hubs = [f"00000000-0000-0000-0000-00000000000{n}" for n in range(5)]
    connections = [await asyncpg.connect(source.url) for _ in hubs]
    claims = zip(connections, hubs, strict=True)
    results = await asyncio.gather(*(ownership.claim(*each) for each in claims), return_exceptions=True)
    for connection in connections:
        await connection.close()
    winner = await ownership.owner(source.connection)
    assert [hub for hub, result in zip(hubs, results, strict=True) if result is None] == [winner]


async def test_a_source_of_another_hub_is_an_incident_that_names_what_to_do(
    stage: Stage, other_hub: Stage, source: Stage
) -> None:
    await ownership.claim(source.connection, await ownership.hub_id(other_hub.connection))
    async with running(relay(stage, source)) as relaying:
        await refused(relaying)

        async def written() -> bool:
            return bool(await stage.incidents("source"))

        await until(written, "an incident")
    (incident,) = await stage.incidents("source")
    assert "streamhub migrate --source shop --take-over" in incident


async def test_a_source_of_another_hub_does_not_stop_the_others(stage: Stage, other_hub: Stage, source: Stage) -> None:
    await stage.shop()
    await ownership.claim(source.connection, await ownership.hub_id(other_hub.connection))
    async with running(relay(stage, source, Source("hub", stage.url, in_hub=True))) as relaying:
        await refused(relaying)
        await stage.sql(INSERT.format(1))
        await stage.drained()
    assert kinds(await stage.history()) == [("create", "1")]


async def test_the_hubs_own_database_belongs_to_one_hub_as_well(stage: Stage, other_hub: Stage) -> None:
    await stage.shop()
    await ownership.claim(stage.connection, await ownership.hub_id(other_hub.connection))
    await stage.sql(INSERT.format(1))
    async with stage.relaying() as relaying:
        await refused(relaying)
    assert not await stage.outbox_is_empty()


async def test_a_relay_whose_source_is_taken_over_takes_nothing_more(
    stage: Stage, other_hub: Stage, source: Stage
) -> None:
    await source.shop()
    async with running(relay(stage, source)) as former:
        await source.sql(INSERT.format(1))
        await source.drained()
        await ownership.take_over(source.connection, await ownership.hub_id(other_hub.connection))
        await source.sql(INSERT.format(2))
        await refused(former)
        async with running(relay(other_hub, source)):
            await source.drained()
    assert [kinds(await hub.history()) for hub in (stage, other_hub)] == [[("create", "1")], [("create", "2")]]


async def test_the_hubs_own_outbox_that_is_taken_over_keeps_what_was_not_appended(
    stage: Stage, other_hub: Stage
) -> None:
    await stage.shop()
    async with stage.relaying() as former:
        await stage.sql(INSERT.format(1))
        await stage.drained()
        await ownership.take_over(stage.connection, await ownership.hub_id(other_hub.connection))
        await stage.sql(INSERT.format(2))
        await refused(former)
    assert (await stage.value("SELECT count(*) FROM streamhub.outbox"), len(await stage.frames())) == (1, 1)


async def test_a_source_that_was_taken_over_is_relayed_without_a_restart(
    stage: Stage, other_hub: Stage, source: Stage
) -> None:
    await source.shop()
    await ownership.claim(source.connection, await ownership.hub_id(other_hub.connection))
    async with running(relay(stage, source)) as relaying:
        await refused(relaying)
        await source.sql(INSERT.format(1))
        await ownership.take_over(source.connection, await ownership.hub_id(stage.connection))
        await source.drained()
    assert kinds(await stage.history()) == [("create", "1")]
