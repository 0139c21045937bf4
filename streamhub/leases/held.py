"""The live streams that this process holds: taking one, releasing it, and its consumer's cursor."""

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple

import asyncpg

from streamhub.backoff import rest
from streamhub.cancellation import ended
from streamhub.core import ids
from streamhub.core.lease import Refusal, refusal
from streamhub.leases import streams
from streamhub.leases.node import Node, boottime
from streamhub.postgres.connections import DATABASE_AWAY, Pool
from streamhub.postgres.together import Together

log = logging.getLogger(__name__)

TIMEOUT: Final = 5.0  # seconds
CURSORS_EVERY: Final = 1.0  # seconds
DOUBTED_FOR: Final = 3 * TIMEOUT  # seconds; a statement that timed out here may commit there until then


class Lease(NamedTuple):
    """A live stream that is ours as long as its row says this epoch and the node is trusted."""

    organization_id: str
    epoch: int


class Asked(NamedTuple):
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


class Leases:
    """The live streams that this process's node holds."""

    def __init__(self, pool: Pool, node: Node, stale_after: timedelta) -> None:
        self.node = node
        self._pool = pool
        self._stale_after = stale_after
        self._cursors: Callable[[], Mapping[Lease, str]] = dict
        self._on_lost: Callable[[set[Lease]], None] = lambda _kept: None
        self._held: set[Lease] = set()  # what was handed out and is not released
        self._taking: Counter[str] = Counter()
        self._doubtful: dict[str, float] = {}  # organizations whose taking failed, until when (of `boottime`)
        self._unwritten: dict[Lease, Release] = {}
        self._writing = asyncio.Lock()  # of rows of streams: several in one transaction, in no certain order
        self._keeping: asyncio.Task[None] | None = None
        self._together: Together[Asked, Taken | None] = Together(self._take_free, "leases: take")
        node.add(self)

    def start(self, cursors: Callable[[], Mapping[Lease, str]], on_lost: Callable[[set[Lease]], None]) -> None:
        """`cursors` is asked each second for the cursors that moved. After an expiry of the node `on_lost` is told
        which leases are still ours. The node's `stop` writes what is left; before that `await stop()`."""
        self._cursors, self._on_lost = cursors, on_lost
        self._keeping = asyncio.create_task(self._keep_cursors(), name="leases: cursors")

    async def stop(self) -> None:
        await self._together.stop()
        await ended(self._keeping)

    async def take_if_free(self, asked: Asked) -> Taken | None:
        """Take a stream that has no holder, together with others. None: `take` has to tell whether it can be had.
        Raises TimeoutError after TIMEOUT in all."""
        with self._handing_out(asked.organization_id):
            async with asyncio.timeout(TIMEOUT):
                taken = await self._together.answer(asked)
            if taken is not None:
                self._held.add(taken.lease)
            return taken

    async def _take_free(self, asked: Sequence[Asked]) -> list[Taken | None]:
        first = {each.organization_id: each for each in reversed(asked)}
        names, positions, overrides = zip(*first.values(), strict=True)
        rows = await self._pool.fetch(
            streams.TAKE_FREE, names, self.node.id, positions, overrides, self._stale_after, timeout=TIMEOUT
        )
        taken = {name: Taken(Lease(name, epoch), cursor, exact) for name, epoch, cursor, exact in rows}
        return [taken.pop(each.organization_id, None) for each in asked]

    async def take(self, organization_id: str, position: str, *, override: bool) -> Taken | Refusal:
        """Take a stream, as `Asked` says, and wait where it may be about to become free."""
        with self._handing_out(organization_id):
            taken = await self._take(organization_id, position, override)
            if isinstance(taken, Taken):
                self._held.add(taken.lease)
            return taken

    @contextlib.contextmanager
    def _handing_out(self, organization_id: str) -> Iterator[None]:
        """A taking that fails here may have happened there: it is looked for, so that the stream of no request keeps
        every consumer out."""
        self._taking[organization_id] += 1
        try:
            yield
        except BaseException:
            self._doubtful[organization_id] = boottime() + DOUBTED_FOR
            raise
        finally:
            self._taking[organization_id] -= 1
            if not self._taking[organization_id]:
                del self._taking[organization_id]

    async def _take(self, organization_id: str, position: str, override: bool) -> Taken | Refusal:
        for _ in range(3):
            taken = await self._pool.fetchrow(
                streams.TAKE, organization_id, self.node.id, position, override, self._stale_after, timeout=TIMEOUT
            )
            if taken is not None:
                epoch, cursor, exact = taken
                return Taken(Lease(organization_id, epoch), cursor, exact)
            row = await self._pool.fetchrow(streams.WHY_REFUSED, organization_id, timeout=TIMEOUT)
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
        self._held.discard(lease)
        self._unwritten[lease] = Release(cursor, read, free_at_once, seen_at)
        try:
            async with asyncio.timeout(TIMEOUT):
                await self._write_releases(lease)
        except DATABASE_AWAY as error:
            log.warning("the end of a live stream cannot be written, retrying in %g s: %r", CURSORS_EVERY, error)

    async def note_gap(self, lease: Lease, gap: str) -> None:
        """Keep what a consumer was told to replay, for `status`; a JSON object."""
        await self._pool.execute(streams.NOTE_GAP, *lease, gap, timeout=TIMEOUT)

    async def show(self, organization_id: str) -> asyncpg.Record | None:
        """The stream as `status` tells it: held, connected_at, host, pid, cursor, last_gap, stale_until."""
        return await self._pool.fetchrow(streams.STATUS, organization_id, self._stale_after, timeout=TIMEOUT)

    # -- what the node asks for

    async def check(self) -> None:
        rows = await self._pool.fetch(streams.STILL_OURS, self.node.id)
        kept = {Lease(*row) for row in rows}
        for lost in self._held - kept:  # or taken while they were read
            self._doubtful[lost.organization_id] = boottime() + DOUBTED_FOR
        self._held &= kept
        self._on_lost(kept)

    async def flush(self) -> None:
        await self._write_releases()

    async def _write_releases(self, asked: Lease | None = None) -> None:
        """Write all ends at once, unless the one `asked` for was written by another caller meanwhile: of the streams
        that end together the first one writes its own, the second one all the others."""
        async with self._writing:
            if not self._unwritten or (asked is not None and asked not in self._unwritten):
                return
            now = boottime()
            ended = [
                (*lease, self.node.id, timedelta(seconds=now - end.seen_at), end.free_at_once, end.cursor, end.read)
                for lease, end in self._unwritten.items()
            ]
            await self._pool.executemany(streams.RELEASE, ended, timeout=TIMEOUT)
            for organization_id, epoch, *_ in ended:
                del self._unwritten[Lease(organization_id, epoch)]

    async def _give_back_doubtful(self) -> None:
        """What was taken for requests that know nothing of it is free again at once."""
        looked_at = boottime()
        names = [name for name in self._doubtful if name not in self._taking]
        if not names:
            return
        rows = await self._pool.fetch(streams.OURS_OF, self.node.id, names, timeout=TIMEOUT)
        for lease in (Lease(*row) for row in rows):
            if lease not in self._held and lease.organization_id not in self._taking:
                log.warning("a live stream that was taken for a request that failed is given back: %s", lease)
                self._unwritten.setdefault(lease, Release(None, False, True, looked_at))
        for name in names:
            if self._doubtful[name] < looked_at:
                del self._doubtful[name]

    async def _keep_cursors(self) -> None:
        moved: dict[Lease, str] = {}
        while True:
            await rest(CURSORS_EVERY)
            try:
                await self._give_back_doubtful()
                await self._write_releases()
                moved.update(self._cursors())
                if moved and self.node.trusted:
                    names = [lease.organization_id for lease in moved]
                    epochs = [lease.epoch for lease in moved]
                    async with self._writing:
                        await self._pool.execute(
                            streams.CURSORS, self.node.id, names, epochs, list(moved.values()), timeout=TIMEOUT
                        )
                    moved.clear()
            except Exception as error:  # noqa: BLE001 - the next ones have to be tried
                log.warning("cursors cannot be written, retrying in %g s: %r", CURSORS_EVERY, error)


def _ms(when: datetime | None) -> int | None:
    return None if when is None else ids.ms_of(when)
