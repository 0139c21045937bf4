"""API keys as the gateways of a process find them."""

import asyncio
from collections.abc import Collection
from datetime import timedelta
from typing import Any

import pytest

from streamhub import organizations
from streamhub.errors import UserError
from streamhub.keys import key, lookup, store
from streamhub.keys.lookup import KEPT, USE_NOTED_EVERY, Lookup
from tests.support.database import Pool


@pytest.fixture
async def made(pool: Pool) -> str:
    async with pool.acquire() as connection:
        organization = await organizations.add(connection, "my-org", "org_1")
        return await store.create(connection, organization, ["events:read"], test=True, lifetime=timedelta(days=1))


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> list[Collection[str]]:
    """The ids that each statement asked for."""
    asked: list[Collection[str]] = []
    find = store.find

    async def noted(pool: Any, ids: Collection[str], timeout: float) -> Any:
        asked.append(list(ids))
        return await find(pool, ids, timeout)

    monkeypatch.setattr(store, "find", noted)
    return asked


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def of(pool: Pool, clock: Clock | None = None) -> Lookup:
    return Lookup(pool, asyncio.Semaphore(1), clock or Clock())


async def test_a_key_is_found_with_its_organization_its_scopes_and_its_end(pool: Pool, made: str) -> None:
    found = await of(pool).one(made[6:18])
    assert found is not None
    assert (found.organization_id, found.slug, found.enterprise) == ("org_1", "my-org", True)
    assert (found.scopes, found.test, found.revoked) == (frozenset({"events:read"}), True, False)
    presented = key.read(made)
    assert presented is not None
    assert presented.is_key_of(found.hash)


async def test_a_key_in_use_is_read_again_after_a_second_and_not_before(
    pool: Pool, made: str, statements: list[Collection[str]]
) -> None:
    clock = Clock()
    keys = of(pool, clock)
    for clock.now in (0, KEPT / 2, KEPT, KEPT * 1.5):
        await keys.one(made[6:18])
    assert len(statements) == 2


async def test_that_there_is_no_such_key_is_kept_as_long(pool: Pool, statements: list[Collection[str]]) -> None:
    keys = of(pool)
    assert [await keys.one("x" * 12) for _ in range(3)] == [None] * 3
    assert len(statements) == 1


async def test_guesses_that_come_together_share_statements(pool: Pool, statements: list[Collection[str]]) -> None:
    keys = of(pool)
    await asyncio.gather(*(keys.one(f"{n:012}") for n in range(500)))
    assert len(statements) <= 2


async def test_what_is_kept_has_a_bound(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookup, "MOST_KEPT", 3)
    keys = of(pool)
    await keys.all([f"{n:012}" for n in range(10)])
    assert list(keys._kept) == [f"{n:012}" for n in (7, 8, 9)]


async def test_many_are_asked_for_by_one_statement_without_those_that_were_read_just_now(
    pool: Pool, made: str, statements: list[Collection[str]]
) -> None:
    keys = of(pool)
    await keys.one(made[6:18])
    found = await keys.all([made[6:18], "x" * 12, "x" * 12])
    assert (found["x" * 12], found[made[6:18]] is None) == (None, False)
    assert statements[1:] == [["x" * 12]]


async def test_a_key_ends_with_its_organization(pool: Pool, made: str) -> None:
    await pool.execute("DELETE FROM streamhub_hub.organizations")
    assert await of(pool).one(made[6:18]) is None


async def test_a_key_in_use_is_noted_once_an_hour_however_often_it_is_used(pool: Pool, made: str) -> None:
    clock = Clock()
    keys = of(pool, clock)
    noted = []
    for clock.now in (0, USE_NOTED_EVERY, USE_NOTED_EVERY * 2):
        keys.used(made[6:18])
        keys.note_use()
        await keys.noted()
        noted.append(await pool.fetchval("SELECT last_used_at FROM streamhub_hub.api_keys"))
    assert noted[0] is None
    assert noted[1] is not None
    assert noted[2] == noted[1]


@pytest.mark.parametrize(
    ("scopes", "lifetime", "named"),
    [
        (["events:read", "admin"], None, "'admin'"),
        ([], None, "a scope"),
        (["events:read"], timedelta(days=36_501), "36500 days"),
    ],
)
async def test_what_no_key_can_be_is_refused(
    pool: Pool, scopes: list[str], lifetime: timedelta | None, named: str
) -> None:
    async with pool.acquire() as connection:
        organization = await organizations.add(connection, "my-org")
        with pytest.raises(UserError, match=named):
            await store.create(connection, organization, scopes, test=False, lifetime=lifetime)
        assert await store.list_(connection) == []
