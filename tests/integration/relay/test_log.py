"""The one order under attack: appends at once, leaders that are replaced, windows that close, transactions that end."""

import asyncio
import random
from typing import Any

import asyncpg
import pytest

from streamhub.core import ids
from streamhub.history.append import append
from streamhub.history.closing import close_window
from streamhub.history.head import FencedError
from streamhub.postgres.connections import connect
from tests.integration.relay.test_append import appended, drafts, nothing
from tests.support.stage import Stage, until

WAITING = """
SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock')
"""


async def test_appends_at_once_give_ids_in_the_order_in_which_they_commit(stage: Stage) -> None:
    connections = [await connect(stage.url) for _ in range(4)]
    seen: list[str] = []

    async def write(connection: Any) -> None:
        for _ in range(25):
            size = random.choice([1, 2, 60])
            done = await append(connection, 0, drafts(size), source="", counted={}, within=nothing)
            assert done.append is not None
            seen.append(done.append.first_id)
            newest = await stage_head(connection)
            assert newest >= done.append.last_id

    await asyncio.gather(*map(write, connections))
    stored = await stage.rows("SELECT id::text FROM streamhub_hub.history ORDER BY xmin::text::bigint, id")
    assert [row[0] for row in stored] == sorted(row[0] for row in stored)
    assert len(seen) == len(set(seen)) == 100
    for connection in connections:
        await connection.close()


async def stage_head(connection: Any) -> str:
    row = await connection.fetchrow("SELECT last_ms, last_counter FROM streamhub_hub.log_head")
    return ids.event_id(row["last_ms"], row["last_counter"])


async def test_a_leader_that_is_replaced_while_its_append_waits_appends_nothing(stage: Stage) -> None:
    successor = await connect(stage.url)
    change = successor.transaction()
    await change.start()
    await successor.execute("UPDATE streamhub_hub.log_epoch SET epoch = 1")
    waits = asyncio.create_task(appended(stage, drafts(1)))
    await until(lambda: successor.fetchval(WAITING), "the append waits")
    await change.commit()
    with pytest.raises(FencedError):
        await waits
    assert await stage.frames() == []
    await successor.close()


@pytest.mark.parametrize("ending", ["commit", "rollback"])
async def test_an_append_that_waited_goes_on_from_what_the_one_before_it_left(stage: Stage, ending: str) -> None:
    other = await connect(stage.url)
    first = other.transaction()
    await first.start()
    reserved = await other.fetchrow("SELECT * FROM streamhub_hub.reserve(0, 3)")
    assert reserved is not None
    ahead = reserved["ms"] + 60_000
    await other.execute(f"INSERT INTO streamhub_hub.log_heads VALUES ({ahead}, 5, {ahead}, 5)")
    waits = asyncio.create_task(appended(stage, drafts(1)))
    await until(lambda: other.fetchval(WAITING), "the append waits")
    await (first.commit() if ending == "commit" else first.rollback())
    done = await waits
    assert (done.first_id == ids.event_id(ahead, 6)) == (ending == "commit")
    assert done.previous_head == (ids.event_id(ahead, 5) if ending == "commit" else ids.event_id(0, 0))
    await other.close()


async def test_a_session_that_is_not_read_committed_is_refused(stage: Stage) -> None:
    async with stage.connection.transaction(isolation="repeatable_read"):
        with pytest.raises(asyncpg.RaiseError, match="READ COMMITTED"):
            await stage.connection.execute("SELECT streamhub_hub.reserve(0, 1)")


async def test_a_window_that_was_closed_beside_appends_is_complete(stage: Stage) -> None:
    pool = await asyncpg.create_pool(stage.url, min_size=2, max_size=4)
    assert pool is not None
    going = True

    async def write() -> None:
        while going:
            await appended(stage, drafts(random.choice([1, 60])))

    writing = asyncio.create_task(write())
    counts = []
    for _ in range(10):
        end = int(await pool.fetchval("SELECT ceil(extract(epoch FROM clock_timestamp()) * 1000)::bigint"))
        await close_window(pool, end)
        query = "SELECT count(*) FROM streamhub_hub.history WHERE id < $1"
        counts.append((end, await pool.fetchval(query, ids.first_id_of(end))))
    going = False
    await writing
    for end, count in counts:
        assert await pool.fetchval(query, ids.first_id_of(end)) == count
    await pool.close()


async def test_a_closing_waits_for_the_append_in_flight(stage: Stage) -> None:
    pool = await asyncpg.create_pool(stage.url, min_size=2, max_size=4)
    assert pool is not None
    async with pool.acquire() as other:
        flight = other.transaction()
        await flight.start()
        reserved = await other.fetchrow("SELECT * FROM streamhub_hub.reserve(0, 1)")
        assert reserved is not None
        closing = asyncio.create_task(close_window(pool, reserved["ms"] + 1))
        await until(lambda: stage.value(WAITING), "the closing waits")
        assert not closing.done()
        await flight.commit()
    await closing
    assert await stage.value("SELECT (last_ms, event_ms) FROM streamhub_hub.log_head") == (
        reserved["ms"] + 1, reserved["ms"],
    )  # fmt: skip
    await pool.close()


async def test_a_leader_killed_in_its_append_leaves_the_head_where_it_was(stage: Stage) -> None:
    await appended(stage, drafts(2))
    before = await stage_head(stage.connection)
    victim = await connect(stage.url)
    await victim.execute("BEGIN")
    await victim.execute("SELECT streamhub_hub.reserve(0, 5)")
    await stage.value("SELECT pg_terminate_backend($1)", victim.get_server_pid())
    done = await appended(stage, drafts(1))
    assert done.previous_head == before
    victim.terminate()
