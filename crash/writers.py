"""Writers: connections that commit one random transaction after another, and connect again after every error.

The outcome of a transaction whose COMMIT got no answer is unknown until the audit table is read.
"""

import asyncio
import random
from contextlib import suppress
from typing import Final

import asyncpg

from crash.workload import Connection, Transaction

STATEMENT_WITHIN: Final = 15.0  # seconds; longer than any stop
CONNECTED_WITHIN: Final = 5.0
LOST: Final = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)


class Writer:
    """`hasty`: with synchronous_commit = off, so an acknowledged commit may be lost."""

    def __init__(self, name: str, seed: int, url: str, prefix: str, *, hasty: bool, pause: float) -> None:
        self.name = name
        self.hasty = hasty
        self.acknowledged: list[str] = []
        self.undone: list[str] = []
        self.unknown: list[str] = []
        self._chance = random.Random(f"{name} {seed}")
        self._url = url
        self._prefix = prefix
        self._pause = pause
        self._count = 0

    async def run(self, stop: asyncio.Event) -> None:
        """Run until `stop` is set; ends between two transactions."""
        connection: Connection | None = None
        while not stop.is_set():
            try:
                if connection is None or connection.is_closed():
                    connection = await self._connect()
                await self._transaction(connection)
            except LOST:
                if connection is not None:
                    connection.terminate()
                connection = None
            await asyncio.sleep(self._chance.expovariate(1 / self._pause))
        if connection is not None:
            connection.terminate()

    async def _connect(self) -> Connection:
        settings = {"synchronous_commit": "off" if self.hasty else "on", "application_name": f"writer {self.name}"}
        return await asyncpg.connect(
            self._url, timeout=CONNECTED_WITHIN, command_timeout=STATEMENT_WITHIN, server_settings=settings
        )

    async def _transaction(self, connection: Connection) -> None:
        self._count += 1
        work = Transaction(f"{self.name}-{self._count}", self._prefix, connection, self._chance)
        # Undone by every error before COMMIT is sent.
        self.undone.append(work.name)
        transaction = connection.transaction(
            isolation=self._chance.choice(("read_committed", "read_committed", "repeatable_read"))
        )
        await transaction.start()
        try:
            await work.work()
            if self._chance.random() < 0.1:
                await transaction.rollback()
                return
            await work.note()
        except asyncpg.PostgresError:  # a deadlock, a serialization failure, or the end of the connection
            with suppress(*LOST):
                await transaction.rollback()
            return
        self.undone.pop()
        if not work.changes:
            await transaction.commit()
            return
        self.unknown.append(work.name)
        await transaction.commit()
        self.unknown.pop()
        self.acknowledged.append(work.name)
