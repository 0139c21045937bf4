"""The registry that a relay keeps: never what was before a change, and in few look-ups."""

import asyncio
from typing import Any

import pytest

from streamhub import organizations
from streamhub.organizations import Organization
from streamhub.organizations.cache import Registry
from streamhub.postgres.connections import Pool
from tests.support.stage import Stage, running


class Paused:
    """`register_on_first_sight` that stands still before or behind its reading, until it is let go."""

    def __init__(self, where: str) -> None:
        self._where = where
        self.calls: list[list[str]] = []
        self.there = asyncio.Event()
        self.go = asyncio.Event()

    async def __call__(self, connection: Any, ids: Any) -> dict[str, Organization]:
        self.calls.append(list(ids))
        if self._where == "before":
            await self._stop()
        found = await organizations_look(connection, ids)
        if self._where == "behind":
            await self._stop()
        return found

    async def _stop(self) -> None:
        self.there.set()
        await asyncio.wait_for(self.go.wait(), 30)


organizations_look = organizations.register_on_first_sight


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Paused:
    look = Paused("nowhere")
    monkeypatch.setattr("streamhub.organizations.register_on_first_sight", look)
    return look


@pytest.mark.parametrize("where", ["before", "behind"])
@pytest.mark.parametrize("change", ["enterprise = true", "enterprise = false", "slug = 'other'"])
async def test_a_look_that_was_under_way_during_a_change_is_not_kept(
    pool: Pool, monkeypatch: pytest.MonkeyPatch, where: str, change: str
) -> None:
    await pool.execute(
        "INSERT INTO streamhub_hub.organizations (id, slug, slug_is_made, enterprise) VALUES ('o', 'o', false, $1)",
        "false" in change or "slug" in change,
    )
    registry = Registry(pool)
    paused = Paused(where)
    monkeypatch.setattr("streamhub.organizations.register_on_first_sight", paused)
    looking = asyncio.create_task(registry.organizations(["o"]))
    await asyncio.wait_for(paused.there.wait(), 30)
    await pool.execute(f"UPDATE streamhub_hub.organizations SET {change}")
    registry.forget("o")
    paused.go.set()
    await looking
    async with pool.acquire() as connection:
        assert (await registry.organizations(["o"]))["o"] == await organizations.with_id(connection, "o")


async def test_one_that_is_not_enterprise_is_asked_for_each_time_before_anything_is_dropped(
    pool: Pool, counted: Paused
) -> None:
    """No news of the change has come: it is delivered after the commit, and may be late."""
    for id_ in "ab":
        await pool.execute(
            "INSERT INTO streamhub_hub.organizations (id, slug, slug_is_made, enterprise) "
            "VALUES ($1, $1, false, false)",
            id_,
        )
    registry = Registry(pool)
    assert not any(one.enterprise for one in (await registry.organizations("ab")).values())
    await pool.execute("UPDATE streamhub_hub.organizations SET enterprise = true")
    assert all(one.enterprise for one in (await registry.organizations("ab")).values())
    assert [len(ids) for ids in counted.calls] == [2, 2]


async def test_a_change_written_after_its_organization_became_enterprise_is_published_though_no_news_came(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Registry, "forget", lambda _self, _id: None)
    await stage.shop()
    await stage.sql(
        "INSERT INTO streamhub_hub.organizations (id, slug, slug_is_made, enterprise) "
        "SELECT 'o' || i, 'o' || i, false, false FROM generate_series(1, 400) AS i"
    )
    async with running(stage.relay()):
        await stage.sql("INSERT INTO skus SELECT i, 'o' || i, 1, 'a' FROM generate_series(1, 400) AS i")
        await stage.drained()
        await stage.sql(
            "UPDATE streamhub_hub.organizations SET enterprise = true",
            "UPDATE skus SET price = 2",
        )
        await stage.drained()
    events = await stage.new_events()
    assert sorted(event["organization"]["id"] for event in events) == sorted(f"o{i}" for i in range(1, 401))


async def test_a_batch_of_new_organizations_is_looked_up_at_once(stage: Stage, counted: Paused) -> None:
    await stage.shop()
    await stage.sql("INSERT INTO skus SELECT i, repeat('.', i), 1, 'a' FROM generate_series(1, 200) AS i")
    events = await stage.relayed()
    assert {event["organization"]["slug"] for event in events} == {"org", *(f"org-{n}" for n in range(2, 201))}
    assert [len(ids) for ids in counted.calls] == [200]


async def test_more_active_organizations_than_are_kept_cost_one_look_a_batch(
    pool: Pool, counted: Paused, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamhub.organizations.cache.MOST_CACHED", 10)
    registry = Registry(pool)
    for _ in range(3):
        assert len(await registry.organizations([str(n) for n in range(25)])) == 25
    assert len(counted.calls) == 3


async def test_what_was_used_last_is_kept_longest(pool: Pool, counted: Paused, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamhub.organizations.cache.MOST_CACHED", 3)
    registry = Registry(pool)
    for ids in ("abc", "a", "de", "a"):
        await registry.organizations(ids)
    assert counted.calls == [["a", "b", "c"], ["d", "e"]]


@pytest.mark.parametrize("organization", ["", "x" * 256])
async def test_rows_whose_organization_cannot_be_one_are_counted_and_told_of_once(
    stage: Stage, organization: str
) -> None:
    await stage.shop()
    await stage.connection.execute(
        f"INSERT INTO skus SELECT i, '{organization}', 1, 'a' FROM generate_series(1, 5000) AS i"
    )
    await stage.sql("INSERT INTO skus VALUES (0, 'org_1', 1, 'a')")
    assert len(await stage.relayed()) == 1
    assert await stage.counters() == {"invalid_organization": 5000}
    assert len(await stage.incidents("poison")) == 1


@pytest.mark.parametrize("organization", ["''", "NULL"])
async def test_rows_whose_organization_cannot_be_one_take_no_longer_than_others(
    stage: Stage, organization: str
) -> None:
    """An incident for every row took 45 times as long. Each is timed twice, the quicker one counts."""
    await stage.shop()
    took: dict[str, list[float]] = {"'org_1'": [], organization: []}
    loop = asyncio.get_running_loop()
    async with stage.relaying():
        for times in range(2):
            for n, value in enumerate(took):
                first = (times * 2 + n) * 3000
                rows = f"SELECT {first} + i, {value}, 1, 'a' FROM generate_series(1, 3000) AS i"
                began = loop.time()
                await stage.sql(f"INSERT INTO skus {rows}")
                await stage.drained()
                took[value].append(loop.time() - began)
    valid, invalid = (min(each) for each in took.values())
    assert invalid < 5 * valid, took


async def test_a_stream_that_ends_leaves_another_one_of_its_organization_waiting(pool: Pool) -> None:
    from streamhub.gateway.places import Registrations

    registrations = Registrations(pool)
    first, second = (asyncio.create_task(registrations.key_of("o")) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    async with pool.acquire() as connection:
        made = (await organizations.register_on_first_sight(connection, ["o"]))["o"]
    assert await asyncio.wait_for(second, 30) == made.key
    await registrations.stop()
