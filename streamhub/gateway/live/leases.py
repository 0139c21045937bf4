"""Leases in the database: this process's node row, the taking and ending of live streams, and their cursors.

core/lease.py has the rules. All times here are the database's; trust alone is counted on CLOCK_BOOTTIME, which goes
on while the process is stopped or the machine sleeps, so that whoever wakes up late knows that it is late.
"""

import asyncio
import itertools
import logging
import os
import socket
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from streamhub.core import ids
from streamhub.core.lease import NODE_TTL, RENEW_EVERY, Refusal, Trust, refusal
from streamhub.gateway.together import Together
from streamhub.postgres.connections import DATABASE_AWAY, Pool

log = logging.getLogger(__name__)

TIMEOUT: Final = 5.0  # seconds
SWEEP_EVERY: Final = 60  # renewals
CURSORS_EVERY: Final = 1.0  # seconds

_REGISTER: Final = """
INSERT INTO streamhub_hub.nodes (id, host, pid, expires_at) VALUES ($1, $2, $3, clock_timestamp() + $4)
ON CONFLICT (id) DO UPDATE SET expires_at = excluded.expires_at
"""
_RENEW: Final = """
UPDATE streamhub_hub.nodes SET expires_at = clock_timestamp() + $2
 WHERE id = $1 AND streamhub_hub.lease_holds(expires_at) RETURNING true
"""
_STILL_OURS: Final = "SELECT organization_id, epoch FROM streamhub_hub.streams WHERE node = $1"
_FORGET_NODE: Final = "DELETE FROM streamhub_hub.nodes WHERE id = $1"
_SWEEP: Final = """
DELETE FROM streamhub_hub.nodes
 WHERE expires_at NOT BETWEEN clock_timestamp() - interval '1 hour' AND clock_timestamp() + interval '1 hour'
"""

# That a stream which nobody holds is not kept for its last consumer any more.
_NOT_STALE: Final = """(stream.released_at IS NULL OR stream.released_at + $5 <= clock_timestamp()
                 OR stream.released_at > clock_timestamp() + $5)"""

# One statement, on one clock. ON CONFLICT waits for whoever has the stream's row and sees its newest version; the
# owner's node row is locked *before* its expiry is judged, so a renewal that is under way is waited for, not missed.
# An owner whose row this statement's snapshot does not show yet is alive where it connected after we began.
_TAKE: Final = f"""
INSERT INTO streamhub_hub.streams AS stream (organization_id, node, epoch, connected_at, cursor, cursor_at)
VALUES ($1, $2, 1, clock_timestamp(), $3, clock_timestamp())
ON CONFLICT (organization_id) DO UPDATE
   SET node = excluded.node, epoch = stream.epoch + 1, connected_at = clock_timestamp(), released_at = NULL,
       cursor = CASE WHEN $4 THEN excluded.cursor ELSE coalesce(stream.cursor, excluded.cursor) END,
       cursor_at = clock_timestamp()
 WHERE CASE WHEN stream.node IS NULL
            THEN {_NOT_STALE}
            ELSE NOT coalesce(streamhub_hub.lease_holds((SELECT node.expires_at FROM streamhub_hub.nodes AS node
                                                          WHERE node.id = stream.node FOR SHARE)),
                              stream.connected_at BETWEEN statement_timestamp() AND clock_timestamp()) END
RETURNING epoch, cursor::text, coalesce(read_epoch = epoch - 1, false)
"""
# Of many streams those that nobody has, whether new or given back: all that needs no waiting. A row that somebody has
# locked is left out, so one organization never holds up the others. New rows come in one order, so two gateways that
# insert the same ones wait for one another in turn, and never in a circle.
_TAKE_FREE: Final = f"""
WITH wanted AS (
  SELECT * FROM unnest($1::text[], $3::uuid[], $4::boolean[]) AS wanted (organization_id, cursor, override)
), free AS (
  SELECT stream.organization_id FROM streamhub_hub.streams AS stream
   WHERE stream.organization_id = ANY ($1) AND stream.node IS NULL AND {_NOT_STALE} FOR UPDATE SKIP LOCKED
), again AS (
  UPDATE streamhub_hub.streams AS stream
     SET node = $2, epoch = stream.epoch + 1, connected_at = clock_timestamp(), released_at = NULL,
         cursor = CASE WHEN wanted.override THEN wanted.cursor ELSE coalesce(stream.cursor, wanted.cursor) END,
         cursor_at = clock_timestamp()
    FROM free JOIN wanted USING (organization_id)
   WHERE stream.organization_id = free.organization_id
  RETURNING stream.organization_id, epoch, stream.cursor::text, coalesce(read_epoch = epoch - 1, false)
), new AS (
  INSERT INTO streamhub_hub.streams (organization_id, node, epoch, connected_at, cursor, cursor_at)
  SELECT organization_id, $2, 1, clock_timestamp(), cursor, clock_timestamp() FROM wanted ORDER BY organization_id
  ON CONFLICT DO NOTHING
  RETURNING organization_id, epoch, cursor::text, false
)
SELECT * FROM again UNION ALL SELECT * FROM new
"""
_WHY_REFUSED: Final = """
SELECT connected_at, released_at, clock_timestamp() AS now FROM streamhub_hub.streams WHERE organization_id = $1
"""
_RELEASE: Final = """
UPDATE streamhub_hub.streams
   SET node = NULL, released_at = CASE WHEN $5 THEN NULL ELSE clock_timestamp() - $4::interval END,
       cursor = greatest(cursor, $6), cursor_at = clock_timestamp(),
       read_epoch = CASE WHEN $7 THEN epoch ELSE read_epoch END
 WHERE organization_id = $1 AND epoch = $2 AND node = $3
"""
_CURSORS: Final = """
UPDATE streamhub_hub.streams AS stream SET cursor = greatest(stream.cursor, new.cursor), cursor_at = clock_timestamp()
  FROM unnest($2::text[], $3::bigint[], $4::uuid[]) AS new (organization_id, epoch, cursor)
 WHERE stream.organization_id = new.organization_id AND stream.epoch = new.epoch AND stream.node = $1
"""


class Lease(NamedTuple):
    """A live stream that is ours as long as its row says this epoch and the node is trusted."""

    organization_id: str
    epoch: int


class Wanted(NamedTuple):
    """A stream to take. Its cursor becomes `position` where it had none, or where `override` (Last-Event-ID)."""

    organization_id: str
    position: str
    override: bool


class Taken(NamedTuple):
    """A lease with the consumer's cursor; `exact`: it is known that everything up to the cursor was read."""

    lease: Lease
    cursor: str
    exact: bool


class Release(NamedTuple):
    """What is still to be written of a lease that ended. `seen_at` on CLOCK_BOOTTIME."""

    cursor: str | None
    read: bool
    free_at_once: bool
    seen_at: float


class Node:
    """This process among the gateways: `await start()`, then `trusted` tells whether its leases may be acted upon."""

    def __init__(self, pool: Pool, stale_after: timedelta, ttl: float = NODE_TTL) -> None:
        self.id = str(uuid.uuid4())
        self._pool = pool
        self._ttl = timedelta(seconds=ttl)
        self._stale_after = stale_after
        self._trust = Trust(ttl)
        self._cursors: Callable[[], Mapping[Lease, str]] = dict
        self._on_lost: Callable[[set[Lease]], None] = lambda _kept: None
        self._unwritten: dict[Lease, Release] = {}
        self._writing = asyncio.Lock()  # of rows of streams: several in one transaction, in no certain order
        self._trusted_again = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._together: Together[Wanted, Taken | None] = Together(self._take_free, "node: take")

    @property
    def trusted(self) -> bool:
        return self._trust.holds(boottime())

    async def wait_trusted(self) -> None:
        while not self.trusted:
            self._trusted_again.clear()
            await self._trusted_again.wait()

    async def start(self, cursors: Callable[[], Mapping[Lease, str]], on_lost: Callable[[set[Lease]], None]) -> None:
        """`cursors` is asked each second for the cursors that moved. After an expiry `on_lost` is told which leases
        are still ours. Raises what asyncpg raises."""
        self._cursors, self._on_lost = cursors, on_lost
        await self._register()
        self._tasks = [
            asyncio.create_task(self._keep_renewed(), name="node: renew"),
            asyncio.create_task(self._keep_cursors(), name="node: cursors"),
        ]

    async def stop(self) -> None:
        await self._together.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        try:
            await self._write_releases()
            await self._pool.execute(_FORGET_NODE, self.id, timeout=TIMEOUT)
        except DATABASE_AWAY as error:
            log.warning("the node's row is left to expire: %r", error)
        self._trust.lost()

    # -- leases

    async def take_if_free(self, wanted: Wanted) -> Taken | None:
        """Take a stream that nobody has, together with others. None: `take` has to tell whether it can be had."""
        return await self._together.answer(wanted)

    async def _take_free(self, wanted: Sequence[Wanted]) -> list[Taken | None]:
        first = {each.organization_id: each for each in reversed(wanted)}
        names, positions, overrides = zip(*first.values(), strict=True)
        rows = await self._pool.fetch(
            _TAKE_FREE, names, self.id, positions, overrides, self._stale_after, timeout=TIMEOUT
        )
        taken = {name: Taken(Lease(name, epoch), cursor, exact) for name, epoch, cursor, exact in rows}
        return [taken.pop(each.organization_id, None) for each in wanted]

    async def take(self, organization_id: str, position: str, *, override: bool) -> Taken | Refusal:
        """Take a stream, as `Wanted` says, and wait where it may be about to become free."""
        for _ in range(3):
            taken = await self._pool.fetchrow(
                _TAKE, organization_id, self.id, position, override, self._stale_after, timeout=TIMEOUT
            )
            if taken is not None:
                epoch, cursor, exact = taken
                return Taken(Lease(organization_id, epoch), cursor, exact)
            row = await self._pool.fetchrow(_WHY_REFUSED, organization_id, timeout=TIMEOUT)
            refused = (
                None
                if row is None
                else refusal(
                    connected_ms=_ms(row["connected_at"]),
                    released_ms=_ms(row["released_at"]),
                    now_ms=ids.ms_of(row["now"]),
                    stale_after_ms=self._stale_after // timedelta(milliseconds=1),
                )
            )
            if refused is not None:
                return refused
        raise TimeoutError("the stream changed hands each time it was asked for")

    async def release(
        self, lease: Lease, cursor: str | None, seen_at: float, *, read: bool, free_at_once: bool
    ) -> None:
        """End a lease, whose stream is stale from `seen_at` (of `boottime`) on, unless it is to be `free_at_once`.
        `read`: all that was acknowledged was read for certain.

        While the database is away it is tried again each second. Raises nothing.
        """
        self._unwritten[lease] = Release(cursor, read, free_at_once, seen_at)
        try:
            async with asyncio.timeout(TIMEOUT):
                await self._write_releases(lease)
        except DATABASE_AWAY as error:
            log.warning("the end of a stream cannot be written just now: %r", error)

    async def _write_releases(self, wanted: Lease | None = None) -> None:
        """Write all ends at once, unless the `wanted` one was written by another caller meanwhile: of the streams that
        end together the first one writes its own, the second one all the others."""
        async with self._writing:
            if not self._unwritten or (wanted is not None and wanted not in self._unwritten):
                return
            now = boottime()
            ended = [
                (*lease, self.id, timedelta(seconds=now - end.seen_at), end.free_at_once, end.cursor, end.read)
                for lease, end in self._unwritten.items()
            ]
            await self._pool.executemany(_RELEASE, ended, timeout=TIMEOUT)
            for organization_id, epoch, *_ in ended:
                del self._unwritten[Lease(organization_id, epoch)]

    # -- renewing

    async def _register(self) -> None:
        started = boottime()
        await self._pool.execute(_REGISTER, self.id, socket.gethostname(), os.getpid(), self._ttl, timeout=TIMEOUT)
        self._trust.renewed(started)
        self._trusted_again.set()

    async def _keep_renewed(self) -> None:
        every = RENEW_EVERY * self._ttl.total_seconds() / NODE_TTL
        for count in itertools.count(1):
            await asyncio.sleep(every)
            started = boottime()
            try:
                # A renewal that takes longer than this is of no use any more.
                async with asyncio.timeout(self._ttl.total_seconds()):
                    if await self._pool.fetchval(_RENEW, self.id, self._ttl):
                        self._trust.renewed(started)
                        self._trusted_again.set()
                    else:
                        await self._come_back()
                    if count % SWEEP_EVERY == 0:
                        await self._pool.execute(_SWEEP)
            except Exception as error:  # noqa: BLE001 - whatever it is, the next renewal has to be tried
                log.warning("the node's row cannot be renewed just now: %r", error)

    async def _come_back(self) -> None:
        """The row expired. What nobody took meanwhile is ours again once the row is alive; the rest is lost."""
        self._trust.lost()
        log.warning("the node's row had expired; taking back what is still ours")
        started = boottime()
        await self._pool.execute(_REGISTER, self.id, socket.gethostname(), os.getpid(), self._ttl)
        rows = await self._pool.fetch(_STILL_OURS, self.id)
        self._on_lost({Lease(*row) for row in rows})
        self._trust.renewed(started)
        self._trusted_again.set()

    async def _keep_cursors(self) -> None:
        moved: dict[Lease, str] = {}
        while True:
            await asyncio.sleep(CURSORS_EVERY)
            try:
                await self._write_releases()
                moved.update(self._cursors())
                if moved and self.trusted:
                    names = [lease.organization_id for lease in moved]
                    epochs = [lease.epoch for lease in moved]
                    async with self._writing:
                        await self._pool.execute(
                            _CURSORS, self.id, names, epochs, list(moved.values()), timeout=TIMEOUT
                        )
                    moved.clear()
            except Exception as error:  # noqa: BLE001 - the next ones have to be tried
                log.warning("cursors cannot be written just now: %r", error)


def boottime() -> float:
    """Seconds of a clock that goes on while the process or the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _ms(when: datetime | None) -> int | None:
    return None if when is None else ids.ms_of(when)
