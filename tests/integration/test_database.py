"""The pool over a server that is there and does not answer."""

import asyncio
import os
import signal
import time

from streamhub.database import ACQUIRED_WITHIN, create_pool


async def test_a_server_that_does_not_answer_holds_nobody_up(database_url: str) -> None:
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
