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
from streamhub.core.events import StoredEvent, resource_key
from streamhub.core.rendering import Rendered
from streamhub.history import counters, rows
from streamhub.history.head import FencedError
from streamhub.history.notices import payload_of
from streamhub.organizations import Organization
from streamhub.postgres.channels import CHANNELS

_COPY_FROM: Final = 48  # events; fewer are appended by one statement, which is quicker than a COPY with what it needs

_APPEND_FEW: Final = "SELECT * FROM streamhub_hub.append_few($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)"
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
        if 0 < len(pending) < _COPY_FROM:
            done = await _append_few(connection, epoch, pending, journal)
        else:
            done = await _append_many(connection, epoch, pending, journal)
        if counted:
            await counters.count(connection, source, counted)
        await within(connection)
    return done


async def _append_few(
    connection: "asyncpg.Connection[Any]", epoch: int, pending: Sequence[Pending], journal: bool
) -> Appended:
    """By one statement: where few come at a time, round trips are what an append costs."""
    names = _names(pending)
    organizations = [each.organization.key for each in pending]
    rendered = [each.rendered for each in pending]
    keys = [
        resource_key(organization, each.kind.resource_type or "", each.resource_id or "")
        for organization, each in zip(organizations, rendered, strict=True)
    ]
    ends = [
        frames.end_of(each.kind.head, each.resource, names[organization], each.tail)
        for organization, each in zip(organizations, rendered, strict=True)
    ]
    head = await connection.fetchrow(
        _APPEND_FEW,
        epoch,
        organizations,
        [each.test for each in rendered],
        keys,
        [each.kind.type for each in rendered],
        [each.kind.resource_type for each in rendered],
        [each.resource_id for each in rendered],
        [each.kind.frame_start for each in rendered],
        frames.BETWEEN_IDS,
        ends,
        payload_of("%1$s", "%2$s", "%3$s", sorted(names)),
        journal,
    )
    head = _reserved(head, epoch)
    return _appended(head, _stored(pending, head, names))


async def _append_many(
    connection: "asyncpg.Connection[Any]", epoch: int, pending: Sequence[Pending], journal: bool
) -> Appended:
    head = _reserved(await connection.fetchrow(_RESERVE, epoch, len(pending)), epoch)
    if not pending:
        return Appended(None, head["clock"])
    names = _names(pending)
    events = _stored(pending, head, names)
    await connection.copy_to_table(
        "history", schema_name="streamhub_hub", columns=rows.COLUMNS, source=_pieces(events), format="binary"
    )
    done = _appended(head, events)
    assert done.append is not None, "there are events"
    made, organizations = done.append, sorted(names)
    payload = payload_of(made.previous_head, made.first_id, made.last_id, organizations)
    if journal:
        await connection.execute(
            _JOURNAL_AND_NOTIFY, payload, made.last_id, done.previous_event, organizations, len(events)
        )
    else:
        await connection.execute(_NOTIFY, payload)
    return done


def _reserved(head: asyncpg.Record | None, epoch: int) -> asyncpg.Record:
    assert head is not None, "a function that gives one row"
    if head["clock"] is None:
        raise FencedError(f"epoch {epoch} of the log has ended")
    return head


def _appended(head: asyncpg.Record, events: Sequence[StoredEvent]) -> Appended:
    previous = ids.event_id(head["previous_ms"], head["previous_counter"])
    previous_event = ids.event_id(head["previous_event_ms"], head["previous_event_counter"])
    made = Append(previous, events[0].id, events[-1].id, events)
    return Appended(made, head["clock"], sum([len(event.frame) for event in events]), previous_event)


def _names(pending: Sequence[Pending]) -> dict[int, bytes]:
    """What names each organization in a frame, by its key."""
    organizations = {each.organization.key: each.organization for each in pending}
    return {key: frames.organization_of(its.id, its.slug) for key, its in organizations.items()}


def _stored(pending: Sequence[Pending], head: asyncpg.Record, names: Mapping[int, bytes]) -> list[StoredEvent]:
    first_counter = head["counter"] - len(pending) + 1
    events = []
    for each, id_ in zip(pending, ids.event_ids(head["ms"], first_counter, len(pending)), strict=True):
        organization, rendered = each.organization.key, each.rendered
        kind = rendered.kind
        frame = frames.build(
            kind.frame_start, id_.encode(), kind.head, rendered.resource, names[organization], rendered.tail
        )
        events.append(
            StoredEvent(organization, id_, rendered.test, kind.type, kind.resource_type, rendered.resource_id, frame)
        )
    return events


async def _pieces(events: Sequence[StoredEvent]) -> AsyncIterator[bytes]:
    for piece in rows.copied(events):
        yield piece
