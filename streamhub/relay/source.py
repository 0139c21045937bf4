"""Relaying one source: read its outbox, render, append, consume. Of a backlog three batches are under way: one is
appended while the next is prepared and the one behind that is read.

Two arrangements, told apart by where the outbox lives:

hub's database      one transaction appends and deletes, so a change is in the outbox or in history, never in both. Of a
                    backlog the next append already waits for the row that orders appends while the one before ends.
another database    read; make what was read durable there, since its writers may commit asynchronously; append, and in
                    that transaction note who the rows are; delete them. A crash between the last two leaves rows that
                    are noted already: the relay that reads them next deletes them without appending. So it does after
                    a fail-over to a standby that had not heard of the deletion (notes.py).
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from operator import attrgetter
from typing import Any, Final, NamedTuple, TypeAlias

import asyncpg

from streamhub.cancellation import ended
from streamhub.core.changes import Change, Origin
from streamhub.core.identities import Identity
from streamhub.history.append import Append, Appended, Turn, append
from streamhub.history.consumption import NotConsumedError
from streamhub.postgres.ownership import ForeignSourceError, owner
from streamhub.relay.batches import Batch, Preparer
from streamhub.relay.notes import Notes, note
from streamhub.relay.outbox import MOST_RANGES, LostRowsError, Outbox, Ranges, consumption, delete, not_deleted

log = logging.getLogger(__name__)

BATCH: Final = 2_000  # changes; keeps the row of log_epoch for less than 50 ms
IDLE_AFTER: Final = 3.0  # seconds since something came
IDLE_PAUSE: Final = 0.018  # seconds between polls from then on, which the server of the source makes itself
# (seconds since something came, seconds between polls until then): each poll costs some 0.6 ms of a processor.
PAUSES: Final = ((0.1, 0.001), (IDLE_AFTER, 0.005))
OBSERVE_EVERY: Final = 0.05  # seconds between two looks at the sequence, while there is anything to move the floor for
# (changes in a read, pause after them): the more come, the less a few milliseconds matter and the more it matters how
# little each one costs, since their writers want the processors too.
CROWDED: Final = ((200, 0.040), (25, 0.015))
# No reader waits for what a backfill sends, hundreds of rows with each commit: it is appended in pieces with pauses, so
# that those who write meanwhile find a processor free. Where a backlog grows it goes at full speed again.
PIECE: Final = 250  # changes
PIECE_PAUSE: Final = 0.002
PIECES_PAUSE: Final = 0.005  # after the last one
APPEND_TIMEOUT: Final = 60.0


class _InHand(NamedTuple):
    """The batch that is being appended."""

    task: asyncio.Task[None]
    batch: Batch
    turn: Turn


_Read: TypeAlias = tuple[list[Change], bool]  # the next changes in order, whether there may be more of them

# A row lock assigns a transaction id and is logged, so its commit flushes the log, and it leaves no version behind.
_MAKE_DURABLE: Final = "SELECT FROM streamhub.relay_mark WHERE hub = $1 FOR UPDATE"


class SourceRelay:
    """The relay of one source while this process leads with `epoch`.

    `appended` is called after each append, with the time (of the Unix epoch) at which its first change was written.

    `reader` and `consumer` are connections to the source that nothing else uses, `hub` the one that appends; where
    `in_hub`, the outbox is consumed by the append itself, and `consumer` is a second one that appends. `journal`:
    appends are noted for a publisher. `keep_pace` is awaited between those of a backlog.
    """

    def __init__(
        self,
        name: str,
        *,
        in_hub: bool,
        epoch: int,
        hub_id: str,
        reader: "asyncpg.Connection[Any]",
        consumer: "asyncpg.Connection[Any]",
        hub: "asyncpg.Connection[Any]",
        preparer: Preparer,
        announce: Callable[[Append], None],
        appended: Callable[[Appended, float], None],
        journal: bool = False,
        keep_pace: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._name = name
        self._in_hub = in_hub
        self._epoch = epoch
        self._hub_id = hub_id
        self._reader = reader
        self._consumer = consumer
        self._hub = hub
        self._preparer = preparer
        self._announce = announce
        self._appended = appended
        self._journal = journal
        self._keep_pace = keep_pace
        self._outbox = Outbox(reader, BATCH)
        self._notes = Notes(hub, name, epoch)
        self._undeleted: Batch | None = None
        self._highest = 0  # number that was read
        self._observed_at = 0.0
        self._last_change = float("-inf")  # by the monotonic clock
        self.consumed = 0

    async def run(self) -> None:
        """Until cancelled, or until a connection, the leadership or the outbox is lost (which raises)."""
        await self._preparer.learn()
        if not self._in_hub:
            await self._notes.begin()
        appends: list[_InHand] = []  # under way
        ahead: asyncio.Task[_Read] | None = None
        try:
            while True:
                in_hand = appends[0] if appends else None
                read = await (self._read(in_hand) if ahead is None else ahead)
                ahead = None
                changes, more = await self._unknown(read, in_hand)
                ranges = Ranges.of(map(_number, changes))
                if changes:
                    self._highest = max(self._highest, ranges.high[-1])
                if in_hand is None and not more and _backfilled(changes):
                    await self._append_in_pieces(changes)
                    self._last_change = time.monotonic()
                    self._outbox.drained()
                    continue
                goes_on = more and len(ranges.low) <= MOST_RANGES
                if goes_on and not self._outbox.large:
                    ahead = asyncio.create_task(self._read(in_hand, ranges))
                batch = await self._preparer.prepare(changes, ranges) if changes else None
                if in_hand is not None:
                    if self._in_hub and goes_on and batch is not None:
                        appends.append(self._begin(batch, in_hand.turn))
                    await in_hand.task
                    del appends[0]
                if batch is None:
                    if not more:
                        self._outbox.drained()
                    await self._settle()
                    await asyncio.sleep(_pause(time.monotonic() - self._last_change))
                    continue
                self._last_change = time.monotonic()
                if goes_on:
                    if not appends:
                        appends.append(self._begin(batch))
                    if self._keep_pace is not None:
                        await self._keep_pace()
                    continue
                await self._append(batch, self._hub)
                if not more:
                    self._outbox.drained()
                    # Where few came, at once: what came during the append is there already.
                    pause = next((pause for least, pause in CROWDED if len(changes) >= least), None)
                    if pause is not None:
                        await asyncio.sleep(pause)
        finally:
            await ended(ahead, *(append.task for append in appends))

    async def _read(self, in_hand: _InHand | None, coming: Ranges | None = None) -> _Read:
        """What there is besides the batches in hand, those appended but not yet deleted, and `coming`."""
        out = [batch.ranges for batch in (in_hand and in_hand.batch, self._undeleted) if batch is not None]
        if coming is not None:
            out.append(coming)
        now = time.monotonic()
        if not out and now - self._last_change >= IDLE_AFTER and not await self._outbox.wait(IDLE_PAUSE):
            await asyncio.sleep(IDLE_PAUSE)
        if self._highest > self._outbox.floor and now - self._observed_at >= OBSERVE_EVERY:
            await self._outbox.observe()
            self._observed_at = now
        return await self._outbox.read(Ranges.joined(out) if out else None)

    async def _unknown(self, read: _Read, in_hand: _InHand | None) -> _Read:
        """A read without what was appended before, by a leader that could not delete it."""
        while True:
            changes, more = read
            if self._in_hub or not self._notes.may_have(map(_number, changes)):
                return changes, more
            if in_hand is not None:
                await in_hand.task  # notes are read over the connection that appends
            noted = await self._notes.among(map(_identity, changes))
            if not noted:
                return changes, more
            known = [change.seq for change in changes if _identity(change) in noted]
            log.info("%s: %d changes were appended before; deleting them", self._name, len(known))
            try:
                await delete(self._consumer, Ranges.of(known), len(known), self._hub_id)
            except LostRowsError:  # a leader that was stopped may be deleting them too
                self._outbox.start_over()
            if len(known) < len(changes):
                return [change for change in changes if _identity(change) not in noted], more
            read = await self._read(in_hand)

    def _begin(self, batch: Batch, after: Turn | None = None) -> _InHand:
        """Start an append. `after` is one under way: this one takes the other connection, and fails with it."""
        if after is not None:
            self._hub, self._consumer = self._consumer, self._hub
        turn = Turn()
        return _InHand(asyncio.create_task(self._append(batch, self._hub, turn, after)), batch, turn)

    async def _append(
        self, batch: Batch, hub: "asyncpg.Connection[Any]", turn: Turn | None = None, after: Turn | None = None
    ) -> None:
        async def note_it(connection: "asyncpg.Connection[Any]") -> None:
            await note(connection, self._name, sorted(map(_identity, batch.changes)))

        if not self._in_hub:
            await self._settle(durable=True)
        consumed = consumption(batch.ranges, len(batch.changes), self._hub_id)
        async with asyncio.timeout(APPEND_TIMEOUT):  # wait_for loses a cancellation that comes with the result
            try:
                done = await append(
                    hub,
                    self._epoch,
                    batch.drafts,
                    source=self._name,
                    counted=batch.counted,
                    within=consumed if self._in_hub else note_it,
                    journal=self._journal,
                    turn=turn,
                    after=after,
                )
            except NotConsumedError as error:
                raise await not_deleted(hub, self._hub_id, error) from error
        if not self._in_hub:
            self._undeleted = batch
        self.consumed += len(batch.changes)
        if done.append is not None:
            self._announce(done.append)
        self._appended(done, batch.changes[0].created_at / 1_000_000)

    async def _append_in_pieces(self, changes: Sequence[Change]) -> None:
        for start in range(0, len(changes), PIECE):
            if start:
                await asyncio.sleep(PIECE_PAUSE)
            piece = changes[start : start + PIECE]
            await self._append(await self._preparer.prepare(piece, Ranges.of(map(_number, piece))), self._hub)
        await asyncio.sleep(PIECES_PAUSE)

    async def _settle(self, durable: bool = False) -> None:
        """Delete in the source what was appended last. `durable`: flush the source's log in any case.

        Either statement commits synchronously, so whatever was read before it is durable after it.
        """
        if self._in_hub or (self._undeleted is None and not durable):
            return
        async with self._consumer.transaction():
            await self._consumer.execute("SET LOCAL synchronous_commit = on")
            if self._undeleted is not None:
                await delete(self._consumer, self._undeleted.ranges, len(self._undeleted.changes), self._hub_id)
            elif not await self._consumer.fetch(_MAKE_DURABLE, self._hub_id):
                raise ForeignSourceError(await owner(self._consumer))
        self._undeleted = None


_number = attrgetter("seq")


def _pause(since_last_change: float) -> float:
    """0 once it is idle: then `_read` waits."""
    return next((pause for until, pause in PAUSES if since_last_change < until), 0.0)


def _backfilled(changes: Sequence[Change]) -> bool:
    return any(Origin.of(origin).backfill for origin in {change.origin for change in changes})


def _identity(change: Change) -> Identity:
    return Identity(change.seq, change.xid, change.created_at)
