"""Ends that are asked for by one request and made by whichever process holds the stream.

    DELETE /{org}                 marks the epoch of the stream's row; its holder ends the stream and releases it
    DELETE /{org}/replays/{job}   makes the job's row `cancelled`; its holder ends the response

Each process looks for such marks on its own streams, so that nothing rests on a connection between gateways. One that
was paused sees the mark when it wakes up, or finds its lease gone.
"""

import asyncio
import logging
from collections.abc import Collection
from typing import Final, NamedTuple, Protocol

from streamhub.core.lease import ENDED_WITHIN
from streamhub.errors import unavailable
from streamhub.gateway.live.leases import Lease
from streamhub.gateway.replay import jobs
from streamhub.postgres.connections import Pool

log = logging.getLogger(__name__)

LOOK_EVERY: Final = 0.5  # seconds
TIMEOUT: Final = 5.0  # seconds
# A holder that is alive looks in time and ends the response in haste; one that is not has expired by then.

_ACTIVE: Final = """
SELECT stream.epoch, stream.node::text
  FROM streamhub_hub.streams AS stream
  JOIN streamhub_hub.nodes AS node ON node.id = stream.node AND streamhub_hub.lease_holds(node.expires_at)
 WHERE stream.organization_id = $1
"""
_ASK: Final = """
UPDATE streamhub_hub.streams SET ending_epoch = epoch WHERE organization_id = $1 AND epoch = $2 AND node = $3
"""
# As in a taking, the node's row is locked before its expiry is judged: a renewal under way is waited for.
_FREE_OF_THE_DEAD: Final = """
UPDATE streamhub_hub.streams AS stream SET node = NULL, released_at = clock_timestamp()
 WHERE organization_id = $1 AND epoch = $2 AND stream.node = $3
   AND NOT coalesce(streamhub_hub.lease_holds((SELECT node.expires_at FROM streamhub_hub.nodes AS node
                                                WHERE node.id = stream.node FOR SHARE)), false)
"""
_ASKED: Final = "SELECT organization_id, epoch FROM streamhub_hub.streams WHERE node = $1 AND ending_epoch = epoch"


class Active(NamedTuple):
    """A stream that is held, and by which node."""

    epoch: int
    node: str


async def active(pool: Pool, organization_id: str) -> Active | None:
    """The stream as it is held by a node that is alive; None where nobody consumes."""
    row = await pool.fetchrow(_ACTIVE, organization_id, timeout=TIMEOUT)
    return None if row is None else Active(*row)


class Holder(Protocol):
    """Whoever has the streams of this process, by their leases, and the replays, by their jobs."""

    def leases(self) -> Collection[Lease]: ...
    def jobs(self) -> Collection[str]: ...
    def end_stream(self, lease: Lease) -> None: ...
    def cancel_replay(self, job: str) -> None: ...


class Endings:
    """Looks for what was asked of this process."""

    def __init__(self, pool: Pool, node: str, holder: Holder) -> None:
        self._pool = pool
        self._node = node
        self._holder = holder
        self._one = asyncio.Lock()  # of these reads: however many ask for an end, they use one connection
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._keep_looking(), name="endings")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def end(self, organization_id: str, stream: Active) -> None:
        """Ask for the end of a stream and wait for it. Raises ApiError (503) where it does not come, and what asyncpg
        raises."""
        async with self._one:
            await self._pool.execute(_ASK, organization_id, *stream, timeout=TIMEOUT)
        await self.look()
        pause = 0.01
        give_up = asyncio.get_running_loop().time() + ENDED_WITHIN
        while await self._active(organization_id) == stream:
            if asyncio.get_running_loop().time() > give_up:
                raise unavailable("The stream was asked to end, and its gateway has not ended it yet; try again.")
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, 0.25)
        async with self._one:
            await self._pool.execute(_FREE_OF_THE_DEAD, organization_id, *stream, timeout=TIMEOUT)

    async def _active(self, organization_id: str) -> Active | None:
        async with self._one:
            return await active(self._pool, organization_id)

    async def look(self) -> None:
        """Make the ends that were asked for. Raises what asyncpg raises."""
        async with self._one:
            await self._look()

    async def _look(self) -> None:
        holder = self._holder
        if holder.leases():
            for row in await self._pool.fetch(_ASKED, self._node, timeout=TIMEOUT):
                holder.end_stream(Lease(*row))
        if running := holder.jobs():
            for job in await jobs.cancelled(self._pool, running):
                holder.cancel_replay(job)

    async def _keep_looking(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY)
            try:
                await self.look()
            except Exception as error:  # noqa: BLE001 - whatever it is, the next look has to be tried
                log.warning("what was asked to end cannot be read just now: %r", error)
