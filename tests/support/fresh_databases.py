"""A fresh database for each test: made while the test before runs, and dropped while the next ones do."""

import asyncio
import itertools
import os
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

import asyncpg

DROPS: Final = 4
"""How many databases may wait to be dropped; then a test waits for one."""
_numbers = itertools.count(1)


class FreshDatabases:
    """Copies of one template on one server. Use it as `async with`; all copies are gone after.

    The work is done in threads: the tests' own loop stands still while a test has none.
    """

    def __init__(self, server_url: str, template: str) -> None:
        self._url = server_url
        self._template = template
        self._threads = ThreadPoolExecutor(2, "fresh-databases")
        self._next: Future[str] | None = None
        self._drops: list[Future[None]] = []

    async def __aenter__(self) -> "FreshDatabases":
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._next is not None:
            await self.drop(await asyncio.wrap_future(self._next))
        for drop in self._drops:
            await asyncio.wrap_future(drop)
        self._threads.shutdown()

    async def take(self) -> str:
        """The name of a copy that is the caller's until it drops it."""
        made, self._next = self._next or self._threads.submit(self._make), None
        name = await asyncio.wrap_future(made)
        self._next = self._threads.submit(self._make)
        return name

    async def drop(self, name: str) -> None:
        """It is gone soon."""
        if len(self._drops) >= DROPS:
            await asyncio.wrap_future(self._drops.pop(0))
        self._drops.append(self._threads.submit(self._execute, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))

    def _make(self) -> str:
        name = f"streamhub_test_{os.getpid()}_{next(_numbers)}"
        self._execute(f"CREATE DATABASE {name} TEMPLATE {self._template}")
        return name

    def _execute(self, statement: str) -> None:
        async def run() -> None:
            connection = await asyncpg.connect(self._url)
            try:
                await connection.execute(statement)
            finally:
                connection.terminate()

        asyncio.run(run())
