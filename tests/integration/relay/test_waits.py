"""While nothing comes, the source's server looks for rows itself: at once seen, in nobody's way, and not logged."""

import asyncio
import time

import asyncpg
import pytest

from streamhub.relay.outbox import LONGEST_WAIT, Outbox
from tests.support.stage import Stage, kinds, until

INSERT = "INSERT INTO skus VALUES ({}, 'org_1', 1, 'a')"
PAUSE = 0.02


async def seconds_of_wait(outbox: Outbox) -> float:
    began = time.monotonic()
    assert await outbox.wait(PAUSE)
    return time.monotonic() - began


async def relay_waits(stage: Stage) -> None:
    async def condition() -> bool:
        return bool(
            await stage.value(
                "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database()"
                " AND application_name LIKE 'streamhub relay %' AND wait_event = 'PgSleep')"
            )
        )

    await until(condition, "the relay waits")


async def test_a_wait_ends_with_a_commit(stage: Stage) -> None:
    await stage.shop()
    reader, late = [await asyncpg.connect(stage.url) for _ in range(2)]
    outbox = Outbox(reader, 2_000)
    await late.execute("BEGIN; " + INSERT.format(1))
    waiting = asyncio.create_task(outbox.wait(PAUSE))
    await asyncio.sleep(0.2)
    assert not waiting.done()
    await late.execute("COMMIT")
    committed = time.monotonic()
    assert await waiting
    assert time.monotonic() - committed < LONGEST_WAIT / 2
    assert len((await outbox.read())[0]) == 1
    for connection in (reader, late):
        await connection.close()


async def test_a_wait_without_a_commit_has_an_end(stage: Stage) -> None:
    assert await seconds_of_wait(Outbox(stage.connection, 2_000)) > LONGEST_WAIT * 0.9


async def test_a_wait_whose_looks_are_slow_ends_as_soon(stage: Stage) -> None:
    reader = await asyncpg.connect(stage.url)
    waiting = asyncio.create_task(seconds_of_wait(Outbox(reader, 2_000)))
    await asyncio.sleep(0.1)
    async with stage.connection.transaction():
        await stage.sql("LOCK TABLE streamhub.outbox IN ACCESS EXCLUSIVE MODE")
        await asyncio.sleep(LONGEST_WAIT * 1.5)
    assert await waiting < LONGEST_WAIT * 2
    await reader.close()


async def test_a_wait_holds_no_lock_and_no_old_snapshot(stage: Stage) -> None:
    reader = await asyncpg.connect(stage.url)
    waiting = asyncio.create_task(Outbox(reader, 2_000).wait(PAUSE))
    await asyncio.sleep(LONGEST_WAIT / 2)
    age = await stage.value(
        "SELECT extract(epoch FROM clock_timestamp() - xact_start)::float8 FROM pg_stat_activity"
        f" WHERE pid = {reader.get_server_pid()}"
    )
    await stage.sql("BEGIN; SET LOCAL lock_timeout = '200ms'; LOCK TABLE streamhub.outbox; COMMIT")
    assert not waiting.done()
    assert age < LONGEST_WAIT / 4
    assert await waiting
    await reader.close()


@pytest.mark.parametrize(("logged", "longest"), [("-1", LONGEST_WAIT), ("0", LONGEST_WAIT), ("600ms", 0.3)])
async def test_a_wait_is_shorter_than_what_the_server_logs_as_slow(stage: Stage, logged: str, longest: float) -> None:
    await stage.sql(f"SET log_min_duration_statement = '{logged}'")
    waited = await seconds_of_wait(Outbox(stage.connection, 2_000))
    assert longest * 0.9 < waited < longest * 2


async def test_there_is_no_wait_where_the_server_would_log_a_short_one_as_slow(stage: Stage) -> None:
    await stage.sql("SET log_min_duration_statement = '100ms'")
    assert not await Outbox(stage.connection, 2_000).wait(PAUSE)


async def test_there_is_no_wait_where_plpgsql_is_not_ours_to_use(stage: Stage) -> None:
    await stage.sql("REVOKE USAGE ON LANGUAGE plpgsql FROM PUBLIC", "SET SESSION AUTHORIZATION pg_monitor")
    outbox = Outbox(stage.connection, 2_000)
    assert not await outbox.wait(PAUSE)
    assert not await outbox.wait(PAUSE)


async def test_what_commits_while_a_relay_waits_is_published(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamhub.relay.source.IDLE_AFTER", 0.0)
    await stage.shop()
    late = await asyncpg.connect(stage.url)
    async with stage.relaying():
        await late.execute("BEGIN; " + INSERT.format(1))
        await stage.sql(INSERT.format(2))
        await stage.drained()
        await relay_waits(stage)
        await late.execute("COMMIT")
        await stage.drained()
    await late.close()
    assert kinds(await stage.new_events()) == [("create", "2"), ("create", "1")]


async def test_a_relay_that_waits_ends_at_once(stage: Stage) -> None:
    async with stage.relaying():
        await relay_waits(stage)
        ending = time.monotonic()
    assert time.monotonic() - ending < LONGEST_WAIT / 2
