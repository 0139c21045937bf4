"""This process among the gateways: a row of `nodes`, renewed each second. Leases and replay jobs rest on it."""

import asyncio
import itertools
import logging
import os
import socket
import time
import uuid
from datetime import timedelta
from typing import Final, Protocol

from streamhub.backoff import rest
from streamhub.cancellation import ended
from streamhub.core.lease import NODE_TTL, RENEW_EVERY, Trust
from streamhub.leases import nodes
from streamhub.postgres.connections import DATABASE_AWAY, Pool

log = logging.getLogger(__name__)

TIMEOUT: Final = 5.0  # seconds
SWEEP_EVERY: Final = 60  # renewals


class Dependant(Protocol):
    """What rests on the node's row."""

    async def check(self) -> None:
        """The row had expired and is alive again: end what other nodes took meanwhile. Raises what asyncpg raises."""

    async def flush(self) -> None:
        """The row is about to go: write what is not written yet. Raises what asyncpg raises."""


class Node:
    """`await start()`, then `trusted` tells whether this process may act on what it holds."""

    def __init__(self, pool: Pool, ttl: float = NODE_TTL) -> None:
        self.id = str(uuid.uuid4())
        self._pool = pool
        self._ttl = timedelta(seconds=ttl)
        self._trust = Trust(ttl)
        self._trusted_again = asyncio.Event()
        self._dependants: list[Dependant] = []
        self._renewing: asyncio.Task[None] | None = None

    @property
    def trusted(self) -> bool:
        return self._trust.holds(boottime())

    def renewed_since(self, moment: float) -> bool:
        """Whether the database has answered a renewal that was made after that moment of `boottime`."""
        return self._trust.renewed_since(moment)

    async def wait_trusted(self) -> None:
        while not self.trusted:
            self._trusted_again.clear()
            await self._trusted_again.wait()

    def add(self, dependant: Dependant) -> None:
        self._dependants.append(dependant)

    async def start(self) -> None:
        """Raises what asyncpg raises."""
        await self._register()
        self._renewing = asyncio.create_task(self._keep_renewed(), name="node: renew")

    async def stop(self) -> None:
        """Release everything and remove the row. Where the database is away, the row is left to expire."""
        await ended(self._renewing)
        try:
            for dependant in self._dependants:
                await dependant.flush()
            await self._pool.execute(nodes.FORGET, self.id, timeout=TIMEOUT)
        except DATABASE_AWAY as error:
            log.warning("this node's row cannot be removed, so it is left to expire: %r", error)
        self._trust.lost()

    async def _register(self) -> None:
        started = await self._insert()
        self._trust.renewed(started)
        self._trusted_again.set()

    async def _insert(self) -> float:
        """When it began, of `boottime`."""
        started = boottime()
        await self._pool.execute(nodes.REGISTER, self.id, socket.gethostname(), os.getpid(), self._ttl, timeout=TIMEOUT)
        return started

    async def _keep_renewed(self) -> None:
        every = RENEW_EVERY * self._ttl.total_seconds() / NODE_TTL
        for count in itertools.count(1):
            await rest(every)
            started = boottime()
            try:
                # A renewal that takes longer than this is of no use any more.
                async with asyncio.timeout(self._ttl.total_seconds()):
                    if await self._pool.fetchval(nodes.RENEW, self.id, self._ttl):
                        self._trust.renewed(started)
                        self._trusted_again.set()
                    else:
                        await self._come_back()
                    if count % SWEEP_EVERY == 0:
                        await self._pool.execute(nodes.SWEEP)
            except Exception as error:  # noqa: BLE001 - whatever it is, the next renewal has to be tried
                log.warning("renewal of this node's row failed, retrying in %g s: %r", every, error)

    async def _come_back(self) -> None:
        """The row expired. What no other node took meanwhile is ours again once the row is alive; the rest is lost."""
        self._trust.lost()
        log.warning("this node's row had expired; taking back the streams that no other gateway took")
        started = await self._insert()
        for dependant in self._dependants:
            await dependant.check()
        self._trust.renewed(started)
        self._trusted_again.set()


def boottime() -> float:
    """Seconds of a clock that goes on while the process or the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
