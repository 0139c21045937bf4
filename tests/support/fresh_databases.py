"""A fresh database for each test: made while the test before runs, and dropped while the next ones do."""

import asyncio
import itertools
import os
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Final, TypeVar

import asyncpg

from servers.directories import MEMORY
from tests.support.database import Connection

DROPS: Final = 4
"""How many databases may wait to be dropped; then a test waits for one."""
_numbers = itertools.count(1)
_Result = TypeVar("_Result")


class FreshDatabases:
    """Copies of one template on one server. Use it as `async with`; all copies are gone after.

    The work is done in a thread with a loop of its own: the tests' loop stands still while a test has none.

    In memory the template's files are copied, which is half the work of copying its pages by way of the log; on a disk
    each of its hundreds of files would be synced.
    """

    def __init__(self, server_url: str, template: str) -> None:
        self._url = server_url
        self._template = template
        self._strategy = "WAL_LOG"
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fresh databases", daemon=True)
        self._next: Future[str] | None = None
        self._drops: list[Future[None]] = []
        self._making, self._dropping = _Session(server_url), _Session(server_url)

    async def __aenter__(self) -> "FreshDatabases":
        self._thread.start()
        directory = await asyncio.wrap_future(self._begin(self._making.value("SHOW data_directory")))
        if MEMORY in Path(directory).parents:
            self._strategy = "FILE_COPY"
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._next is not None:
            await self.drop(await asyncio.wrap_future(self._next))
        for waiting in (*self._drops, *(self._begin(each.close()) for each in (self._making, self._dropping))):
            await asyncio.wrap_future(waiting)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def take(self) -> str:
        """The name of a copy that is the caller's until it drops it."""
        made, self._next = self._next or self._begin(self._make()), None
        name = await asyncio.wrap_future(made)
        self._next = self._begin(self._make())
        return name

    async def drop(self, name: str) -> None:
        """It is gone soon."""
        if len(self._drops) >= DROPS:
            await asyncio.wrap_future(self._drops.pop(0))
        self._drops.append(self._begin(self._dropping.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")))

    async def _make(self) -> str:
        name = f"streamhub_test_{os.getpid()}_{next(_numbers)}"
        await self._making.execute(f"CREATE DATABASE {name} TEMPLATE {self._template} STRATEGY {self._strategy}")
        return name

    def _begin(self, work: Coroutine[Any, Any, _Result]) -> Future[_Result]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)


class _Session:
    """One connection, made when it is used first and after it was lost; statements wait for each other."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._turn = asyncio.Lock()
        self._connection: Connection | None = None

    async def execute(self, statement: str) -> None:
        async with self._turn:
            await (await self._connected()).execute(statement)

    async def value(self, query: str) -> Any:
        async with self._turn:
            return await (await self._connected()).fetchval(query)

    async def close(self) -> None:
        async with self._turn:
            if self._connection is not None:
                await self._connection.close()

    async def _connected(self) -> Connection:
        if self._connection is None or self._connection.is_closed():
            self._connection = await asyncpg.connect(self._url)
        return self._connection
