"""Where a consumer is: the id of the last event that it is done with, kept over restarts."""

import asyncio
import os
from pathlib import Path
from typing import Any, Protocol

from streamhub.core import ids


class Position(Protocol):
    """Write your own with these two methods. A stream asks for the position before it first connects, and stores one
    once the events up to it are handled: after each batch that it read, and at least each second in between. So after
    a crash some events may come again, and none is left out."""

    async def load(self) -> str | None:
        """The id that was stored last, None where none was."""

    async def store(self, id: str) -> None:
        """Keep it. An error here ends the stream."""


class FilePosition:
    """In a file, which holds either the old id or the new one whatever happens: it is written beside, synced, and
    renamed. One file belongs to one consumer."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    async def load(self) -> str | None:
        """Raises ValueError where the file holds something else, OSError where it cannot be read."""
        return await asyncio.to_thread(self._load)

    async def store(self, id: str) -> None:
        """Raises OSError where the file cannot be written."""
        await asyncio.to_thread(self._store, id)

    def _load(self) -> str | None:
        try:
            text = self.path.read_text("utf-8").strip()
        except FileNotFoundError:
            if self.path.parent.is_dir():
                return None
            raise
        try:
            return ids.normalize(text)
        except ValueError:
            raise ValueError(f"{self.path} holds {text[:80]!r}, which is no event's id; remove the file") from None

    def _store(self, id: str) -> None:
        beside = self.path.with_name(self.path.name + ".new")
        with beside.open("w", encoding="utf-8") as file:
            file.write(id + "\n")
            file.flush()
            os.fsync(file.fileno())
        beside.replace(self.path)
        directory = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


class Executor(Protocol):
    """What is needed of asyncpg: a pool and a connection both have it."""

    async def execute(self, query: str, *args: Any) -> Any: ...

    async def fetchval(self, query: str, *args: Any) -> Any: ...


class PostgresPosition:
    """In a table of your database, a row a consumer. `database` is a pool or a connection of asyncpg.

    For exactly-once effects, store it in the transaction of the effect, and nothing is done twice:

        async for event in hub.live(position=position):
            async with pool.acquire() as connection, connection.transaction():
                await apply(connection, event)
                await position.store(event.id, connection)

    A position only moves forward. To go back, change the row yourself.
    """

    TABLE = "streamhub_positions"

    def __init__(self, database: Executor, consumer: str) -> None:
        self.consumer = consumer
        self._database = database

    async def load(self) -> str | None:
        """Makes the table where it is missing."""
        if await self._database.fetchval("SELECT to_regclass($1)", self.TABLE) is None:
            await self._database.execute(
                f"CREATE TABLE IF NOT EXISTS {self.TABLE} (consumer text PRIMARY KEY, id uuid NOT NULL, "
                "stored_at timestamptz NOT NULL)"
            )
        found = await self._database.fetchval(f"SELECT id::text FROM {self.TABLE} WHERE consumer = $1", self.consumer)
        return None if found is None else str(found)

    async def store(self, id: str, connection: Executor | None = None) -> None:
        """With `connection`, in the transaction that is open on it."""
        await (connection or self._database).execute(
            f"INSERT INTO {self.TABLE} AS mine VALUES ($1, $2, clock_timestamp()) ON CONFLICT (consumer) DO UPDATE "
            "SET id = excluded.id, stored_at = excluded.stored_at WHERE mine.id < excluded.id",
            self.consumer,
            id,
        )
