"""The types of events are noted beside the appends: each once an hour, bounded, and none is lost with a leader."""

import pytest

from streamhub.core import ids
from streamhub.core.events import StoredEvent
from streamhub.history import types
from streamhub.history.types import SeenTypes
from tests.integration.relay.test_append import appended, drafts
from tests.support.history import insert
from tests.support.stage import Stage, until

HOUR = 3_600_000


def event(type_: str, ms: int, *, test: bool = False, organization: int = 1) -> StoredEvent:
    return StoredEvent(organization, ids.event_id(ms, 0), test, type_, "skus", "1", b"")


async def written(stage: Stage) -> list[tuple[int, bool, str, int]]:
    rows = await stage.rows(
        "SELECT organization, test, type, (extract(epoch FROM seen_at) * 1000)::bigint "
        "FROM streamhub_hub.event_types ORDER BY 1, 2, 3"
    )
    return [tuple(row) for row in rows]


async def begun(stage: Stage) -> SeenTypes:
    """As of a leader that has looked at the end of history."""
    seen = SeenTypes()
    await seen.write(stage.connection)
    return seen


async def test_each_type_of_each_organization_and_environment_is_written(stage: Stage) -> None:
    seen = await begun(stage)
    seen.note([(1, False, "a.x"), (1, True, "a.x"), (2, False, "a.x"), (1, False, "b.x")], 8)
    await seen.write(stage.connection)
    assert await written(stage) == [
        (1, False, "a.x", 8), (1, False, "b.x", 8), (1, True, "a.x", 8), (2, False, "a.x", 8)
    ]  # fmt: skip


async def test_a_type_is_written_again_after_an_hour(stage: Stage) -> None:
    seen = await begun(stage)
    for ms in (1, HOUR, HOUR + 1, HOUR + 2):
        seen.note([(1, False, "a.x")], ms)
        await seen.write(stage.connection)
        assert await written(stage) == [(1, False, "a.x", 1 if ms <= HOUR else HOUR + 1)]


async def test_what_is_remembered_is_of_the_organizations_that_had_events_last(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(types, "MOST_NOTED", 2)
    seen = await begun(stage)
    for organization in (1, 2, 1, 3):
        seen.note([(organization, False, "a.x")], 1)
    assert list(seen._noted) == [(1, False), (3, False)]
    await seen.write(stage.connection)
    assert [row[0] for row in await written(stage)] == [1, 2, 3]


async def test_of_a_publisher_that_invents_types_so_many_are_written_in_an_hour(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(types, "MOST_WRITTEN", 3)
    seen = await begun(stage)
    seen.note([(2, False, "x")], 1)
    for n in range(10):
        seen.note([(1, False, f"a{n}.x")], n)
    await seen.write(stage.connection)
    assert [row[2] for row in await written(stage)] == ["a0.x", "a1.x", "a2.x", "x"]
    seen.note([(1, False, "later.x")], HOUR + 5)
    await seen.write(stage.connection)
    assert "later.x" in {row[2] for row in await written(stage)}


async def test_what_a_leader_that_died_had_not_written_the_next_one_writes(stage: Stage) -> None:
    await stage.sql("INSERT INTO streamhub_hub.organizations (id, slug, slug_is_made, enterprise) "
                    "VALUES ('org_1', 'slug-1', false, true)")  # fmt: skip
    done = await appended(stage, drafts(3))
    now = ids.milliseconds(done.last_id)
    await insert(stage.connection, [event("long.ago", now - 10 * HOUR)])
    await begun(stage)
    assert await written(stage) == [(1, False, "skus.create", now)]


async def test_what_could_not_be_written_is_written_later(stage: Stage) -> None:
    seen = await begun(stage)
    seen.note([(1, False, "a.x")], 1)
    transaction = stage.connection.transaction()
    await transaction.start()
    with pytest.raises(Exception, match="division by zero"):
        await stage.sql("SELECT 1 / 0")
    with pytest.raises(Exception, match="current transaction is aborted"):
        await seen.write(stage.connection)
    await transaction.rollback()
    await seen.write(stage.connection)
    assert await written(stage) == [(1, False, "a.x", 1)]


async def test_a_running_relay_writes_the_types_of_what_it_appends(stage: Stage) -> None:
    await stage.shop()
    async with stage.relaying():
        await stage.sql("INSERT INTO skus VALUES (1, 'org_1', 1, 'a')")

        async def is_written() -> bool:
            return [row[2] for row in await written(stage)] == ["skus.create"]

        await until(is_written, "the type is written")
