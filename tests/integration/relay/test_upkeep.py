"""What the leader does beside relaying holds up no append, goes in small steps, and comes back after every error."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest

from streamhub.core import ids
from streamhub.history import partitions
from streamhub.history.partitions import Partitions, Week
from streamhub.postgres.connections import connect
from streamhub.relay import upkeep
from streamhub.relay.upkeep import Upkeep, keep_lean
from tests.integration.relay.test_append import appended, drafts
from tests.support.history import move_head
from tests.support.stage import Stage, until

PROMPT = 3.0  # seconds; a lock that is held below is held for good
DAY = 86_400_000


@asynccontextmanager
async def locked(stage: Stage, table: str, mode: str) -> AsyncIterator[None]:
    """Somebody else's session holds this lock."""
    other = await asyncpg.connect(stage.url)
    async with other.transaction():
        await other.execute(f"LOCK TABLE {table} IN {mode} MODE")
        yield
    await other.close()


@pytest.mark.parametrize("table", ["replays", "consumed", "incidents", "counted"])
async def test_a_lock_on_what_is_tidied_up_holds_up_no_event(stage: Stage, table: str) -> None:
    """SHARE, which a CREATE INDEX takes."""
    await stage.shop()
    async with locked(stage, f"streamhub_hub.{table}", "SHARE"), stage.relaying():
        began = time.monotonic()
        for n in range(5):
            await stage.sql(f"INSERT INTO skus VALUES ({n}, 'org_1', 1, 'a')")
            await stage.drained()
        assert time.monotonic() - began < PROMPT


async def test_one_step_that_fails_keeps_no_other_from_its_work(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "TICK", 0.01)
    await stage.sql(
        "INSERT INTO streamhub_hub.consumed (source, first_seq, last_seq, rows, identities, consumed_at) "
        "SELECT 'shop', n, n, 1, '', now() - interval '2 days' FROM generate_series(1, 12000) AS n"
    )
    async with locked(stage, "streamhub_hub.replays", "SHARE"), locked(stage, "streamhub_hub.log_heads", "SHARE"):
        keeping = await kept(stage)
        await until(
            lambda: stage.value("SELECT NOT EXISTS (SELECT FROM streamhub_hub.consumed)"), "the notes are deleted"
        )
        await ended(keeping)


async def kept(stage: Stage, **settings: Any) -> "asyncio.Task[None]":
    return asyncio.create_task(
        Upkeep(lambda: connect(stage.url, server_settings=upkeep.SETTINGS, **settings), None).run()
    )


async def ended(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_housekeeping_comes_back_after_its_connection_was_lost(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"TICK": 0.01, "TRIM_EVERY": 0.01, "RETRY_FIRST": 0.01}.items():
        monkeypatch.setattr(upkeep, name, value)
    keeping = await kept(stage)
    for _ in range(3):
        await stage.sql("SELECT streamhub_hub.reserve(0, 1) FROM generate_series(1, 100)")
        await until(
            lambda: stage.value("SELECT count(DISTINCT last_ms) = 1 FROM streamhub_hub.log_heads"), "heads are trimmed"
        )
        await stage.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    await ended(keeping)


async def test_counters_are_the_same_after_they_were_added_up(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    await stage.sql(
        "INSERT INTO streamhub_hub.counted SELECT 'errors', 's' || n % 3, n FROM generate_series(1, 6000) AS n"
    )
    before = await stage.rows("SELECT * FROM streamhub_hub.counters ORDER BY 1, 2")
    keeping = await kept(stage)
    await until(lambda: stage.value("SELECT count(*) < 1000 FROM streamhub_hub.counted"), "they are added up")
    await ended(keeping)
    assert await stage.rows("SELECT * FROM streamhub_hub.counters ORDER BY 1, 2") == before


async def test_while_events_move_out_of_default_readers_see_each_and_appends_go_on(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partitions, "STEP", 200)
    monkeypatch.setattr(partitions, "PAUSE", 0.002)
    ahead = int(time.time() * 1000) + 100 * DAY
    await move_head(stage.connection, ahead)
    for _ in range(6):
        await appended(stage, drafts(500))
    mover, reader = await connect(stage.url), await connect(stage.url)
    moving = asyncio.create_task(Partitions(mover).ensure(ahead))
    published, longest = 3_000, 0.0
    while not moving.done():
        assert await reader.fetchval("SELECT count(*) FROM streamhub_hub.history") == published
        began = time.monotonic()
        await appended(stage, drafts(5))
        longest = max(longest, time.monotonic() - began)
        published += 5
    await moving
    week = Week.of(ids.datetime_of(ahead)).name
    assert await stage.rows("SELECT tableoid::regclass::text, count(*) FROM streamhub_hub.history GROUP BY 1") == [
        (f"streamhub_hub.{week}", published)
    ]
    assert published > 3_000
    assert longest < PROMPT
    for connection in (mover, reader):
        await connection.close()


async def test_a_move_that_was_cut_short_leaves_every_event_in_its_place_and_is_made_up_for(stage: Stage) -> None:
    ahead = int(time.time() * 1000) + 100 * DAY
    await move_head(stage.connection, ahead)
    await appended(stage, drafts(300))
    before = await stage.frames()
    other = await connect(stage.url, server_settings={"lock_timeout": "100ms"})
    async with locked(stage, "streamhub_hub.history_default", "ROW EXCLUSIVE"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(partitions, "LOCKED_WITHIN", "100ms")
            with pytest.raises(asyncpg.LockNotAvailableError):
                await Partitions(other).ensure(ahead)
        assert await stage.frames() == before
    await Partitions(other).ensure(ahead)
    assert await stage.frames() == before
    assert not await stage.value("SELECT EXISTS (SELECT FROM streamhub_hub.history_default)")
    await other.close()


@pytest.mark.usefixtures("without_weeks")
async def test_no_lock_that_another_role_holds_keeps_weeks_from_being_made(stage: Stage) -> None:
    holder = await connect(stage.url)
    await holder.execute("SELECT pg_advisory_lock(7370102)")
    maker = await connect(stage.url, server_settings={"lock_timeout": "100ms"})
    await Partitions(maker).ensure(int(time.time() * 1000))
    assert await partitions.existing(stage.connection)
    for connection in (holder, maker):
        await connection.close()


async def test_two_that_move_events_out_of_default_at_once_lose_none(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A former leader that has not ended yet, between two of its steps."""
    monkeypatch.setattr(partitions, "STEP", 100)
    ahead = int(time.time() * 1000) + 100 * DAY
    await move_head(stage.connection, ahead)
    await appended(stage, drafts(300))
    before = await stage.frames()
    former, leader = await connect(stage.url), await connect(stage.url)
    copied, go_on = asyncio.Event(), asyncio.Event()

    class Paused(Partitions):
        async def _copy(self, *arguments: Any, **options: Any) -> int:
            count = await super()._copy(*arguments, **options)
            copied.set()
            await go_on.wait()
            return count

    moving = asyncio.create_task(Paused(former).ensure(ahead))
    await copied.wait()
    await Partitions(leader).ensure(ahead)
    go_on.set()
    with pytest.raises((partitions.MovedError, asyncpg.PostgresError)):
        await moving
    assert await stage.frames() == before
    for connection in (former, leader):
        await connection.close()


async def test_a_table_aside_that_another_has_made_again_is_not_attached(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    ahead = int(time.time() * 1000) + 100 * DAY
    await move_head(stage.connection, ahead)
    await appended(stage, drafts(300))
    before = await stage.frames()

    class MadeAgain(Partitions):
        async def _copy(self, week: Week, after: str, *arguments: Any, **options: Any) -> int:
            if after == ids.MIN_ID:
                await Partitions(other)._make(week)
            return await super()._copy(week, after, *arguments, **options)

    former, other = await connect(stage.url), await connect(stage.url)
    with pytest.raises(partitions.MovedError, match="another relay"):
        await MadeAgain(former).ensure(ahead)
    assert await stage.frames() == before
    for connection in (former, other):
        await connection.close()


class Consumed:
    consumed = 0


async def test_the_outbox_is_vacuumed_again_after_an_error(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"VACUUM_EVERY": 0.01, "VACUUM_FROM": 1, "RETRY_FIRST": 0.01}.items():
        monkeypatch.setattr(upkeep, name, value)
    opened: list[Any] = []

    async def open_one() -> Any:
        opened.append(await connect(stage.url))
        return opened[-1]

    consumer = Consumed()
    keeping = asyncio.create_task(keep_lean(open_one, consumer))
    await until(lambda: asyncio.sleep(0, bool(opened)), "it is connected")
    await stage.value("SELECT pg_terminate_backend($1)", opened[0].get_server_pid())
    await until(lambda: asyncio.sleep(0, len(opened) > 1), "it is connected again")
    consumer.consumed += 10
    await until(vacuumed(stage), "it is vacuumed")
    await ended(keeping)


def vacuumed(stage: Stage) -> Any:
    async def condition() -> bool:
        await stage.sql("SELECT pg_stat_clear_snapshot()")
        return bool(
            await stage.value(
                "SELECT vacuum_count > 0 FROM pg_stat_user_tables WHERE relid = 'streamhub.outbox'::regclass"
            )
        )

    return condition


async def test_an_outbox_that_cannot_be_shortened_is_left_alone_for_longer_each_time(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "SHRINK_FROM", 100_000)
    monkeypatch.setattr(upkeep, "VACUUM_EVERY", 1.0)
    old = await asyncpg.connect(stage.url)
    lean = upkeep._Lean(Consumed())
    async with old.transaction(isolation="repeatable_read"):
        await old.fetchval("SELECT 1")
        await stage.sql(
            "INSERT INTO streamhub.outbox (origin, new_row) SELECT '1:1:1:1', repeat('x', 500) "
            "FROM generate_series(1, 2000)",
            "DELETE FROM streamhub.outbox",
        )
        pauses = []
        for _ in range(3):
            await lean.vacuum(stage.connection)
            pauses.append(lean.pause)
    assert pauses[2] >= 2 * pauses[1] >= 4 * pauses[0]
    await lean.vacuum(stage.connection)
    assert await stage.value(upkeep._SIZE) < 100_000
    await old.close()


async def test_forgetting_many_publish_ids_leaves_vacuuming_its_turns(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "DELETING_LONGEST", 0.0)
    await stage.sql(
        "INSERT INTO streamhub.publish_ids SELECT 'org_1', false, n, now() - interval '24 hours' "
        "FROM generate_series(1, 12000) AS n"
    )
    lean, left = upkeep._Lean(Consumed()), []
    for _ in range(4):
        await lean.forget(stage.connection)
        left.append(await stage.value("SELECT count(*) FROM streamhub.publish_ids"))
    assert left == [7_000, 2_000, 0, 0]


async def test_publish_ids_are_forgotten_after_24_hours(stage: Stage) -> None:
    """All that are old, at once; not one that a transaction is publishing again just now."""
    await stage.sql(
        "INSERT INTO streamhub.publish_ids SELECT 'org_1', false, n, now() - interval '24 hours' "
        "FROM generate_series(1, 12000) AS n",
        "INSERT INTO streamhub.publish_ids SELECT 'org_1', false, 'young', now() - interval '23 hours'",
    )
    other = await asyncpg.connect(stage.url)
    async with asyncio.timeout(PROMPT), other.transaction():
        await other.execute("SELECT streamhub.publish('org_1', 'a.b', '1', publish_id => '7')")
        await upkeep._Lean(Consumed()).forget(stage.connection)
    await other.close()
    assert await stage.rows("SELECT publish_id FROM streamhub.publish_ids ORDER BY 1") == [("7",), ("young",)]
