"""Ending a live stream from outside: a mark on its row, which the process that holds it looks for."""

import asyncio
from collections.abc import Sequence
from typing import Final, NamedTuple

from streamhub.core.lease import ENDED_WITHIN
from streamhub.leases import streams
from streamhub.leases.held import Lease
from streamhub.postgres.connections import Pool

TIMEOUT: Final = 5.0  # seconds


class Active(NamedTuple):
    """A stream that is held, and by which node."""

    epoch: int
    node: str


async def active(pool: Pool, organization_id: str) -> Active | None:
    """The stream as it is held by a node that is alive; None where it has no consumer."""
    row = await pool.fetchrow(streams.ACTIVE, organization_id, timeout=TIMEOUT)
    return None if row is None else Active(*row)


async def ask(pool: Pool, organization_id: str, stream: Active) -> None:
    """Mark the stream: its holder is to end it."""
    await pool.execute(streams.ASK_TO_END, organization_id, *stream, timeout=TIMEOUT)


async def asked(pool: Pool, node: str) -> Sequence[Lease]:
    """Which streams of this node are marked."""
    return [Lease(*row) for row in await pool.fetch(streams.ASKED_TO_END, node, timeout=TIMEOUT)]


async def ended(pool: Pool, organization_id: str, stream: Active, one: asyncio.Lock) -> bool:
    """Wait until a marked stream has ended, or its node has expired. False where neither comes within ENDED_WITHIN: a
    holder that is alive looks in time and ends the response quickly; one that is not has expired by then.

    However many wait, they use one connection: each reads under `one`.
    """
    pause = 0.01
    loop = asyncio.get_running_loop()
    give_up = loop.time() + ENDED_WITHIN
    while True:
        async with one:
            now = await active(pool, organization_id)
        if now != stream:
            break
        if loop.time() > give_up:
            return False
        await asyncio.sleep(pause)
        pause = min(pause * 1.5, 0.25)
    async with one:
        await pool.execute(streams.FREE_OF_THE_DEAD, organization_id, *stream, timeout=TIMEOUT)
    return True
