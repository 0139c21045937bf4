"""Appending to history: one transaction gives a batch its ids, stores its bytes, and does what must happen with it.

The order of events is made here and nowhere else. Every append locks the row of `log_epoch`, WHERE the epoch is its
own: it waits for the append before it, and a leader that was replaced finds no row and learns it by FencedError. Then
it reads the newest row of `log_heads` and adds one. Nothing is updated, so an old snapshot makes no append slower.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import asyncpg
import msgspec

from streamhub.core import frames, ids
from streamhub.core.events import StoredEvent
from streamhub.core.rendering import Rendered
from streamhub.history import counters, rows
from streamhub.history.head import FencedError
from streamhub.history.notices import payload_of
from streamhub.organizations import Organization
from streamhub.postgres.channels import CHANNELS

_COPY_FROM: Final = 48  # below it, one INSERT for each row in one round trip is quicker than a COPY
_INSERT: Final = (
    f"INSERT INTO streamhub_hub.history ({', '.join(rows.COLUMNS)}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)"
)

_RESERVE: Final = "SELECT * FROM streamhub_hub.reserve($1, $2)"
_NOTIFY: Final = f"SELECT pg_notify(c.appends, $1) FROM ({CHANNELS}) AS c"
# In the same round trip: what a publisher reads history by.
_JOURNAL_AND_NOTIFY: Final = f"""
WITH noted AS (
  INSERT INTO streamhub_hub.appends (last_id, previous_id, organizations, events) VALUES ($2, $3, $4, $5)
)
SELECT pg_notify(c.appends, $1) FROM ({CHANNELS}) AS c
"""


class Append(NamedTuple):
    """One committed append: its events in id order, and the head of the order before it."""

    previous_head: str
    first_id: str
    last_id: str
    events: Sequence[StoredEvent]


class Pending(msgspec.Struct, frozen=True, gc=False):
    """A rendered event and the organization that it goes to."""

    organization: Organization
    rendered: Rendered


class Appended(NamedTuple):
    """`append` is None where the batch held no event. `clock_ms` is the hub's clock at the append, `bytes` the size of
    all frames, `previous_event` the id of the event before the first, which the closing of a window does not move."""

    append: Append | None
    clock_ms: int
    bytes: int = 0
    previous_event: str = ids.MIN_ID


async def append(
    connection: "asyncpg.Connection[Any]",
    epoch: int,
    pending: Sequence[Pending],
    *,
    source: str,
    counted: Mapping[str, int],
    within: Callable[["asyncpg.Connection[Any]"], Awaitable[None]],
    journal: bool = False,
) -> Appended:
    """Append a batch, and do `within` in the same transaction (consume the outbox, or note what was consumed).

    `journal` notes the append for a publisher. Raises FencedError, and whatever `within` raises; then nothing has
    happened. The row of `log_epoch` is locked from the first statement on.
    """
    async with connection.transaction():
        head = await connection.fetchrow(_RESERVE, epoch, len(pending))
        assert head is not None, "a function that gives one row"
        if head["clock"] is None:
            raise FencedError(f"epoch {epoch} of the log has ended")
        done = Appended(None, head["clock"])
        if pending:
            events = _stored(pending, head["ms"], head["counter"] - len(pending) + 1)
            await _write(connection, events)
            previous = ids.event_id(head["previous_ms"], head["previous_counter"])
            previous_event = ids.event_id(head["previous_event_ms"], head["previous_event_counter"])
            made = Append(previous, events[0].id, events[-1].id, events)
            done = Appended(made, head["clock"], sum(len(event.frame) for event in events), previous_event)
            organizations = sorted({event.organization for event in events})
            payload = payload_of(previous, made.first_id, made.last_id, organizations)
            if journal:
                await connection.execute(
                    _JOURNAL_AND_NOTIFY, payload, made.last_id, previous_event, organizations, len(events)
                )
            else:
                await connection.execute(_NOTIFY, payload)
        if counted:
            await counters.count(connection, source, counted)
        await within(connection)
    return done


def _stored(pending: Sequence[Pending], ms: int, first_counter: int) -> list[StoredEvent]:
    names: dict[int, bytes] = {}
    events = []
    for each, id_ in zip(pending, ids.event_ids(ms, first_counter, len(pending)), strict=True):
        organization, rendered = each.organization, each.rendered
        key, kind = organization.key, rendered.kind
        name = names.get(key)
        if name is None:
            name = names[key] = frames.organization_of(organization.id, organization.slug)
        frame = frames.build(kind.frame_start, id_.encode(), kind.head, rendered.resource, name, rendered.tail)
        events.append(StoredEvent(key, id_, rendered.test, kind.type, kind.resource_type, rendered.resource_id, frame))
    return events


async def _write(connection: "asyncpg.Connection[Any]", events: Sequence[StoredEvent]) -> None:
    if len(events) < _COPY_FROM:
        await connection.executemany(_INSERT, map(rows.values, events))
        return
    await connection.copy_to_table(
        "history", schema_name="streamhub_hub", columns=rows.COLUMNS, source=_pieces(events), format="binary"
    )


async def _pieces(events: Sequence[StoredEvent]) -> AsyncIterator[bytes]:
    for piece in rows.copied(events):
        yield piece
