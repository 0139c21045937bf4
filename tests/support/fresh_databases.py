"""A fresh database for each test: made while the test before runs, and dropped while the next ones do."""

import asyncio
import itertools
import os
from typing import Final

import asyncpg

DROPS: Final = 4
"""How many databases may wait to be dropped; then a test waits for one."""
TASK: Final = "fresh database"
"""The name of its tasks, which outlive tests."""

_numbers = itertools.count(1)


class FreshDatabases:
    """Copies of one template on one server. Use it as `async with`; all copies are gone after."""

    def __init__(self, server_url: str, template: str) -> None:
        self._url = server_url
        self._template = template
        self._next: asyncio.Task[str] | None = None
        self._drops: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> "FreshDatabases":
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._next is not None:
            await self.drop(await self._next)
        await asyncio.gather(*self._drops)

    async def take(self) -> str:
        """The name of a copy that is the caller's until it drops it."""
        made = self._next or asyncio.create_task(self._make(), name=TASK)
        name = await made
        self._next = asyncio.create_task(self._make(), name=TASK)
        return name

    async def drop(self, name: str) -> None:
        """It is gone soon."""
        while len(self._drops) >= DROPS:
            await asyncio.wait(self._drops, return_when=asyncio.FIRST_COMPLETED)
        drop = asyncio.create_task(self._drop(name), name=TASK)
        self._drops.add(drop)
        drop.add_done_callback(self._drops.discard)

    async def _make(self) -> str:
        name = f"streamhub_test_{os.getpid()}_{next(_numbers)}"
        await self._execute(f"CREATE DATABASE {name} TEMPLATE {self._template}")
        return name

    async def _drop(self, name: str) -> None:
        await self._execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    async def _execute(self, statement: str) -> None:
        connection = await asyncpg.connect(self._url)
        try:
            await connection.execute(statement)
        finally:
            connection.terminate()
