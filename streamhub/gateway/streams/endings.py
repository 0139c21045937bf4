"""Ends that are asked for elsewhere and made by the process that holds the stream.

    DELETE /{org}                 marks the epoch of the stream's row; its holder ends the stream and releases it
    DELETE /{org}/replays/{job}   makes the job's row `cancelled`; its holder ends the response
    streamhub key revoke          marks the key's row; the holders of streams that it opened end them

Each process looks for such marks on its own streams, so that nothing rests on a connection between gateways. A process
that was paused sees the mark when it wakes up, or finds its lease gone.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from streamhub.backoff import rest
from streamhub.cancellation import ended

log = logging.getLogger(__name__)

LOOK_EVERY: Final = 0.5  # seconds


class Endings:
    """Each kind of stream that can be ended from outside adds its own look; `start` begins to look at intervals."""

    def __init__(self) -> None:
        self.one = asyncio.Lock()  # of these reads: however many ask for an end, they use one connection
        self._looks: list[Callable[[], Awaitable[None]]] = []
        self._task: asyncio.Task[None] | None = None

    def add(self, look: Callable[[], Awaitable[None]]) -> None:
        """`look` ends the streams of its kind that are marked. It raises what asyncpg raises."""
        self._looks.append(look)

    def start(self) -> None:
        self._task = asyncio.create_task(self._keep_looking(), name="endings")

    async def stop(self) -> None:
        await ended(self._task)

    async def look(self) -> None:
        """Make the ends that were asked for. Raises what asyncpg raises."""
        async with self.one:
            for look in self._looks:
                await look()

    async def _keep_looking(self) -> None:
        while True:
            await rest(LOOK_EVERY)
            try:
                await self.look()
            except Exception as error:  # noqa: BLE001 - whatever it is, the next look has to be tried
                log.warning("requests to end streams cannot be read, retrying in %g s: %r", LOOK_EVERY, error)
