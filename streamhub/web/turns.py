"""Requests before the database: a few ask at once, the others wait in the order in which they came.

A busy pool is not a missing database. Without this the requests of a herd would stand in the pool's own line, with the
renewal of leases behind them, and a request that waited longer than the pool's time-out would be told that the database
cannot be reached.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from streamhub.web.problems import ApiError, unavailable

WAITS: Final = 50.0  # seconds in which a turn has to come; proxies wait a minute
MOST_WAITING: Final = 10_000
RETRY_AFTER: Final = 5  # seconds


class Turns:
    """`at_once` have a turn, the others wait: at most `most_waiting`, none longer than `waits` seconds."""

    def __init__(self, at_once: int, most_waiting: int = MOST_WAITING, waits: float = WAITS) -> None:
        self._free = asyncio.Semaphore(at_once)  # serves in order
        self._most_waiting = most_waiting
        self._waits = waits
        self.waiting = 0

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """The block runs when it is this caller's turn. Raises ApiError (503) where that does not come in time."""
        if self._free.locked():
            await self._wait()
        else:
            await self._free.acquire()
        try:
            yield
        finally:
            self._free.release()

    async def _wait(self) -> None:
        if self.waiting >= self._most_waiting:
            raise self._busy()
        self.waiting += 1
        try:
            async with asyncio.timeout(self._waits):
                await self._free.acquire()
        except TimeoutError:
            raise self._busy() from None
        finally:
            self.waiting -= 1

    def _busy(self) -> ApiError:
        detail = f"This gateway is busy: {self.waiting} requests wait for its database; try again in {RETRY_AFTER} s."
        return unavailable(detail, retry_after=RETRY_AFTER)
