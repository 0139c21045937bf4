"""Connections work with any settings of the server; the pool over a server that does not answer."""

import asyncio
import os
import signal
import time

import asyncpg
import pytest

from streamhub.postgres import connections
from streamhub.postgres.connections import ACQUIRED_WITHIN, connect, create_pool


async def test_a_server_that_does_not_answer_blocks_no_caller(database_url: str) -> None:
    pool = await create_pool(database_url, "test", 1, command_timeout=30)
    backend = await pool.fetchval("SELECT pg_backend_pid()")
    os.kill(backend, signal.SIGSTOP)
    try:
        began = time.monotonic()
        # The first one has the only connection until its statement was given up, the second one waits for it.
        answers = await asyncio.gather(
            *(pool.fetchval("SELECT 1", timeout=0.5) for _ in range(2)), return_exceptions=True
        )
        assert time.monotonic() - began < 0.5 + ACQUIRED_WITHIN + 1
    finally:
        os.kill(backend, signal.SIGCONT)
        pool.terminate()
    assert [type(answer) for answer in answers] == [TimeoutError, TimeoutError]


@pytest.mark.parametrize(
    ("name", "set_to", "expected"),
    [("synchronous_commit", "off", "on"), ("default_transaction_isolation", "serializable", "read committed")],
)
async def test_a_setting_of_the_database_that_would_break_a_promise_does_not_hold_for_us(
    database_url: str, name: str, set_to: str, expected: str
) -> None:
    owner = await asyncpg.connect(database_url)
    await owner.execute(f"ALTER DATABASE {await owner.fetchval('SELECT current_database()')} SET {name} = '{set_to}'")
    await owner.close()
    alone = await connect(database_url)
    pool = await create_pool(database_url, "test", 1, command_timeout=30)
    seen = [await alone.fetchval(f"SHOW {name}"), *[await pool.fetchval(f"SHOW {name}") for _ in range(2)]]
    await alone.close()
    await pool.close()
    assert seen == [expected] * 3


@pytest.mark.parametrize("reads_pages", [True, False])
async def test_only_a_session_that_reads_pages_takes_a_large_block(
    database_url: str, monkeypatch: pytest.MonkeyPatch, reads_pages: bool
) -> None:
    monkeypatch.setattr(connections, "_LARGE_BLOCK", "SET a.block = 'taken'")
    pool = await create_pool(database_url, "test", 1, command_timeout=30, reads_pages=reads_pages)
    block = await pool.fetchval("SELECT current_setting('a.block', true)")
    await pool.close()
    assert (block == "taken") is reads_pages
