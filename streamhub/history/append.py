"""Appending to history: one transaction gives a batch its ids, stores its bytes, and does what must happen with it.

The order of events is made here and nowhere else. Every append locks the row of `log_epoch`, WHERE the epoch is its
own: it waits for the append before it, and a leader that was replaced finds no row and learns it by FencedError. Then
it reads the newest row of `log_heads` and adds one. Nothing is updated, so an old snapshot makes no append slower.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any, Final, NamedTuple

import asyncpg

from streamhub.core import frames, ids
from streamhub.core.drafts import COLUMNS, Drafts
from streamhub.core.events import StoredEvent
from streamhub.history import counters
from streamhub.history.consumption import Consumption, NotConsumedError, consume
from streamhub.history.head import FencedError
from streamhub.history.notices import payload_of

_COPY_FROM: Final = 48  # events; fewer are appended by one statement, which is quicker than a COPY with what it needs

_APPEND_FEW: Final = """
SELECT * FROM streamhub_hub.append_few($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, {consumed})
"""
_APART: Final = _APPEND_FEW.format(consumed="NULL")
_NOT_CONSUMED: Final = "SH001"
_FENCED: Final = "SH002"
_RESERVE: Final = "SELECT * FROM streamhub_hub.reserve_and_tell($1, $2, $3, $4, $5)"


class Append(NamedTuple):
    """One committed append: its events in id order, and the head of the order before it."""

    previous_head: str
    first_id: str
    last_id: str
    events: Sequence[StoredEvent]


class Appended(NamedTuple):
    """`append` is None where the batch held no event. `clock_ms` is the hub's clock at the append, `bytes` the size of
    all frames, `types` has (organization, test, type) once for each, `previous_event` is the id of the event before the
    first, which the closing of a window does not move."""

    append: Append | None
    clock_ms: int
    bytes: int = 0
    types: Collection[tuple[int, bool, str]] = ()
    previous_event: str = ids.MIN_ID


class Turn:
    """How far an append is, for one that is begun behind it on another connection. Either future is cancelled where the
    append fails."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.ordered: asyncio.Future[None] = loop.create_future()  # it holds the row of log_epoch, or held it
        self.committed: asyncio.Future[None] = loop.create_future()


async def append(
    connection: "asyncpg.Connection[Any]",
    epoch: int,
    drafts: Drafts,
    *,
    source: str,
    counted: Mapping[str, int],
    within: Callable[["asyncpg.Connection[Any]"], Awaitable[None]] | Consumption,
    journal: bool = False,
    turn: Turn | None = None,
    after: Turn | None = None,
) -> Appended:
    """Append a batch, and do `within` in the same transaction (consume the outbox, or note what was consumed).

    `journal` notes the append for a publisher. `turn` is told how far this append is. `after` is the one before, which
    may be under way on another connection: this one waits in the database for its end, and fails with it. Raises
    FencedError, NotConsumedError where `within` is a Consumption, and whatever `within` raises; then nothing has
    happened. The row of `log_epoch` is locked from the first statement on. Where one statement does it all, that
    consumes first.
    """
    turn = turn or Turn()
    few = 0 < len(drafts) < _COPY_FROM
    try:
        if few and after is None and not counted and isinstance(within, Consumption):
            done = await _append_at_once(connection, epoch, drafts, journal, within)
            turn.ordered.set_result(None)
        else:
            async with connection.transaction():
                if after is not None:  # else each could wait for the other: one in the database, one here
                    await asyncio.shield(after.ordered)
                append_them = _append_few if few else _append_many
                done = await append_them(connection, epoch, drafts, journal, turn)
                if counted:
                    await counters.count(connection, source, counted)
                if after is not None:
                    await asyncio.shield(after.committed)
                if isinstance(within, Consumption):
                    await consume(connection, within)
                else:
                    await within(connection)
        turn.committed.set_result(None)
    finally:
        turn.ordered.cancel()  # nothing where it is done
        turn.committed.cancel()
    return done


async def _append_at_once(
    connection: "asyncpg.Connection[Any]", epoch: int, drafts: Drafts, journal: bool, what: Consumption
) -> Appended:
    """In a transaction of one statement: where few come at a time, round trips are what an append costs."""
    arguments = (*_arguments(epoch, drafts, journal), *what.arguments, what.rows)
    call = _APPEND_FEW.format(consumed=f"(SELECT count(*) FROM consumed) = ${len(arguments)}")
    sql = f"WITH consumed AS ({what.sql_from(len(arguments) - len(what.arguments))} RETURNING 1) {call}"
    try:
        head = await connection.fetchrow(sql, *arguments)
    except asyncpg.PostgresError as error:
        if error.sqlstate == _NOT_CONSUMED:
            raise NotConsumedError(str(error)) from error
        if error.sqlstate == _FENCED:
            raise FencedError(str(error)) from error
        raise
    return _appended(_reserved(head, epoch), drafts)


async def _append_few(
    connection: "asyncpg.Connection[Any]", epoch: int, drafts: Drafts, journal: bool, turn: Turn
) -> Appended:
    head = await connection.fetchrow(_APART, *_arguments(epoch, drafts, journal))
    turn.ordered.set_result(None)
    return _appended(_reserved(head, epoch), drafts)


def _arguments(epoch: int, drafts: Drafts, journal: bool) -> tuple[object, ...]:
    few = drafts.drafts
    return (
        epoch,
        [draft.common.organization for draft in few],
        [draft.common.test for draft in few],
        [draft.resource_key for draft in few],
        [draft.common.kind.type for draft in few],
        [draft.common.kind.resource_type for draft in few],
        [draft.resource_id for draft in few],
        [draft.common.kind.frame_start for draft in few],
        frames.BETWEEN_IDS,
        [draft.end + frames.END for draft in few],
        *_told(drafts),
        journal,
    )


async def _append_many(
    connection: "asyncpg.Connection[Any]", epoch: int, drafts: Drafts, journal: bool, turn: Turn
) -> Appended:
    head = _reserved(await connection.fetchrow(_RESERVE, epoch, len(drafts), *_told(drafts), journal), epoch)
    turn.ordered.set_result(None)
    if drafts:
        await connection.copy_to_table(
            "history", schema_name="streamhub_hub", columns=COLUMNS, source=_pieces(drafts, head), format="binary"
        )
    return _appended(head, drafts)


def _told(drafts: Drafts) -> tuple[list[int], str]:
    """The organizations of an append, and the notice of it, in which the ids are still to come."""
    organizations = drafts.organizations
    return organizations, payload_of("%1$s", "%2$s", "%3$s", organizations)


def _reserved(head: asyncpg.Record | None, epoch: int) -> asyncpg.Record:
    assert head is not None, "a function that gives one row"
    if head["clock"] is None:
        raise FencedError(f"epoch {epoch} of the log has ended")
    return head


def _appended(head: asyncpg.Record, drafts: Drafts) -> Appended:
    if not drafts:
        return Appended(None, head["clock"])
    ms, last, first = head["ms"], head["counter"], _first(head, drafts)
    made = Append(
        ids.event_id(head["previous_ms"], head["previous_counter"]),
        ids.event_id(ms, first),
        ids.event_id(ms, last),
        drafts.numbered(ms, first),
    )
    previous_event = ids.event_id(head["previous_event_ms"], head["previous_event_counter"])
    return Appended(made, head["clock"], drafts.size, drafts.types, previous_event)


def _first(head: asyncpg.Record, drafts: Drafts) -> int:
    """The counter of the first id. `counter` is the last one's."""
    counter: int = head["counter"]
    return counter - len(drafts) + 1


async def _pieces(drafts: Drafts, head: asyncpg.Record) -> AsyncIterator[bytes]:
    for piece in drafts.copied(head["ms"], _first(head, drafts)):
        yield piece
