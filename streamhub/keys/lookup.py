"""API keys by their id, as the gateways of a process ask for them.

What was read is kept for a second, that there is no such key too. So a revocation counts within about a second, a key
in use costs a statement a second however many requests carry it, and guesses that come together share a statement.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final, NamedTuple

from streamhub.cancellation import ended
from streamhub.keys import store
from streamhub.keys.store import Stored
from streamhub.postgres.connections import DATABASE_ERRORS, Pool
from streamhub.postgres.together import Together

log = logging.getLogger(__name__)

KEPT: Final = 1.0  # seconds
USE_NOTED_EVERY: Final = 60.0  # seconds
MOST_KEPT: Final = 10_000
TIMEOUT: Final = 5.0  # seconds


class Read(NamedTuple):
    """`key` is None where there is no such key."""

    key: Stored | None
    at: float


class Lookup:
    """How many ask `one` at once is the caller's to bound."""

    def __init__(
        self, pool: Pool, own_statements: asyncio.Semaphore, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`own_statements` bounds the connections of requests."""
        self._pool = pool
        self._own_statements = own_statements
        self._clock = clock
        self._kept: dict[str, Read] = {}  # the oldest first
        self._used: set[str] = set()
        self._noted_at = clock()
        self._noting: asyncio.Task[None] | None = None
        self._together: Together[str, Stored | None] = Together(self._asked_together, "API keys of requests")

    async def one(self, id: str) -> Stored | None:
        """None where there is no such key. Raises TimeoutError after TIMEOUT in all, and what asyncpg raises."""
        kept = self.kept(id)
        if kept is not None:
            return kept.key
        async with asyncio.timeout(TIMEOUT):
            return await self._together.answer(id)

    def kept(self, id: str) -> Read | None:
        """What was read of it within a second, if anything; it costs nothing to ask."""
        kept = self._kept.get(id)
        return kept if kept is not None and self._clock() < kept.at + KEPT else None

    async def all(self, ids: Collection[str]) -> Mapping[str, Stored | None]:
        """Each of them, by one statement where any was read over a second ago. Raises what asyncpg raises."""
        fresh = {id: kept.key for id in ids if (kept := self.kept(id)) is not None}
        unread = [id for id in dict.fromkeys(ids) if id not in fresh]
        if unread:
            at = self._clock()
            found = await store.find(self._pool, unread, TIMEOUT)
            for id in unread:
                fresh[id] = self._keep(id, found.get(id), at)
        return fresh

    def used(self, id: str) -> None:
        """A key that there is was used; `note_use` writes it down some time."""
        self._used.add(id)

    def note_use(self) -> None:
        """Begin to write down which keys were used, if that was not done lately. Nothing waits for it."""
        now = self._clock()
        if self._used and now >= self._noted_at + USE_NOTED_EVERY and (self._noting is None or self._noting.done()):
            used, self._used, self._noted_at = self._used, set(), now
            self._noting = asyncio.create_task(self._note_use(used), name="API keys: last use")

    async def noted(self) -> None:
        """Return once what `note_use` began has ended."""
        if self._noting is not None:
            await asyncio.wait({self._noting})

    async def _note_use(self, used: Collection[str]) -> None:
        try:
            async with self._own_statements:
                await store.note_use(self._pool, used, TIMEOUT)
        except DATABASE_ERRORS as error:
            log.warning("the last use of API keys cannot be written, they show an older one: %r", error)

    def _keep(self, id: str, key: Stored | None, at: float) -> Stored | None:
        self._kept.pop(id, None)
        self._kept[id] = Read(key, at)
        while len(self._kept) > MOST_KEPT:
            del self._kept[next(iter(self._kept))]
        return key

    async def _asked_together(self, ids: Sequence[str]) -> list[Stored | None]:
        async with self._own_statements:
            found = await self.all(ids)
        return [found[id] for id in ids]

    async def stop(self) -> None:
        await self._together.stop()
        await ended(self._noting)
