"""From history into deliveries: one cursor over all organizations, moved by one process at a time.

    lock the cursor ─▶ read a page of history ─▶ one look an event into its organization's index ─▶ rows, cursor: commit

The endpoints are those of the newest version at the moment of the lock, so that none is passed over by a process that
has not heard of it. Events of a disabled endpoint are not made deliveries of: where that began stands in its queue, and
once it is enabled that stretch of history is looked through for it alone (`again`), as it is for a recovery. With order
`resource`, newer events wait until that look has come to them.
"""

import logging
from collections.abc import Collection, Sequence
from typing import Any, Final, NamedTuple

from streamhub.core import frames, ids
from streamhub.core.events import StoredEvent, resource_key
from streamhub.core.filter_index import Index
from streamhub.core.paths import paths_in
from streamhub.core.view import View
from streamhub.history import head, journal
from streamhub.postgres.channels import CHANNELS
from streamhub.postgres.connections import AnyConnection, Pool
from streamhub.webhooks import ordering
from streamhub.webhooks.bodies import Bodies
from streamhub.webhooks.deliveries import TIMEOUT, Endpoint, Endpoints
from streamhub.webhooks.ordering import HAS_OLDER

log = logging.getLogger(__name__)

MOST_ROWS: Final = 20_000  # deliveries in one transaction
MOST_NAMED: Final = 150  # endpoints in a notification, which has less than 8,000 bytes

_LOCK: Final = f"""
SELECT c.position::text, v.version, h.*
  FROM streamhub_hub.webhook_cursor AS c, streamhub_hub.webhook_version AS v, ({head.HEAD}) AS h
 WHERE c.only_row FOR UPDATE OF c SKIP LOCKED
"""
_MOVE: Final = "UPDATE streamhub_hub.webhook_cursor SET position = $1"
_FLAGGED: Final = """
SELECT endpoint::text, skipped_from::text, again_from::text, again_to::text FROM streamhub_hub.webhook_queues
 WHERE again_from IS NOT NULL OR skipped_from IS NOT NULL
"""
_AGAIN: Final = """
UPDATE streamhub_hub.webhook_queues
   SET again_from = least(again_from, skipped_from), again_to = greatest(again_to, $2), skipped_from = NULL
 WHERE endpoint = ANY ($1::uuid[])
"""
# FOR SHARE: what gives up a queue waits until the deliveries are there to be seen.
_SHARE: Final = """
SELECT endpoint::text, skipped_from IS NOT NULL AS skipped, again_from IS NOT NULL AS again
  FROM streamhub_hub.webhook_queues
 WHERE endpoint = ANY ($1::uuid[]) ORDER BY endpoint FOR SHARE
"""
_LATER: Final = """
UPDATE streamhub_hub.webhook_queues SET again_to = $2
 WHERE endpoint = ANY ($1::uuid[]) AND again_to IS NOT NULL  -- null: it will be beyond
"""
_SKIP: Final = "UPDATE streamhub_hub.webhook_queues SET skipped_from = $2 WHERE endpoint = ANY ($1::uuid[])"
_ROWS: Final = """
  FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::bigint[], $5::boolean[], $6::boolean[])
    AS r (endpoint, event, type, resource_key, in_order, behind)
"""
_DUE: Final = f"""
CASE WHEN r.in_order AND (r.behind OR {HAS_OLDER.format("r")}) THEN 'infinity' ELSE clock_timestamp() END
"""
_INSERT: Final = f"""
INSERT INTO streamhub_hub.webhook_deliveries (endpoint, event, type, resource_key, due_at)
SELECT r.endpoint, r.event, r.type, r.resource_key, {_DUE} {_ROWS} ON CONFLICT DO NOTHING
"""
# What waits behind what is not known before it is known which of them are delivered already.
_INSERT_AGAIN: Final = f"""
WITH failed AS (
  DELETE FROM streamhub_hub.webhook_finished WHERE endpoint = ($1::uuid[])[1] AND event = ANY ($2::uuid[])
   AND state = 'failed'
  RETURNING event, log, created_at
)
INSERT INTO streamhub_hub.webhook_deliveries (endpoint, event, type, resource_key, due_at, log, created_at)
SELECT r.endpoint, r.event, r.type, r.resource_key,
       CASE WHEN r.in_order THEN 'infinity' ELSE clock_timestamp() END,
       coalesce(f.log, '[]'), coalesce(f.created_at, clock_timestamp())
{_ROWS} LEFT JOIN failed AS f ON f.event = r.event
 WHERE NOT EXISTS (SELECT FROM streamhub_hub.webhook_finished AS d
                    WHERE d.endpoint = r.endpoint AND d.event = r.event AND d.state = 'delivered')
ON CONFLICT DO NOTHING
"""
_WAKE: Final = f"""
WITH due AS (
  UPDATE streamhub_hub.webhook_queues SET due_at = clock_timestamp()
   WHERE endpoint = ANY ($1::uuid[]) AND node IS NULL AND (due_at IS NULL OR due_at > clock_timestamp()))
SELECT pg_notify(c.webhooks, $2) FROM ({CHANNELS}) AS c
"""
# In one statement: each one more is a delay of all deliveries.
_WAKE_AND_MOVE: Final = f"""
WITH moved AS (UPDATE streamhub_hub.webhook_cursor SET position = $3), {_WAKE.removeprefix(chr(10) + "WITH ")}
"""
_WAITING: Final = """
  FROM streamhub_hub.webhook_queues
 WHERE (again_from IS NOT NULL OR skipped_from IS NOT NULL) AND again_to IS NOT NULL AND endpoint = ANY ($1::uuid[])
"""
# In turn, so that a long stretch of one is in the way of no other.
_TAKE_AGAIN: Final = f"""
SELECT endpoint::text, again_from::text, again_to::text {_WAITING}
 ORDER BY endpoint <= $2, endpoint LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED
"""
_ARE_WAITING: Final = f"SELECT EXISTS (SELECT {_WAITING})"
_AGAIN_TO: Final = """
UPDATE streamhub_hub.webhook_queues
   SET again_from = CASE WHEN $2 THEN NULL ELSE $3::uuid END, again_to = CASE WHEN $2 THEN NULL ELSE again_to END
 WHERE endpoint = $1
"""


class Pass(NamedTuple):
    """One step. `more`: another step has something to do; `again`: so has `step_again`. `due`: endpoint, event and key
    of the resource of new deliveries that are due, those of endpoints with an order left out."""

    deliveries: int = 0
    more: bool = False
    again: bool = False
    due: Sequence[tuple[str, str, int | None]] = ()


class FanOut:
    """Of one process; any number may try."""

    def __init__(self, pool: Pool, endpoints: Endpoints, bodies: Bodies) -> None:
        self._pool = pool
        self._endpoints = endpoints
        self._bodies = bodies
        self._indexes: dict[tuple[int, bool], Index[str]] = {}
        self._flags_of = -1  # the version whose flags were looked at
        self._turn = ids.MIN_ID  # the endpoint that was looked at again last

    async def step(self) -> Pass:
        """Move the cursor by a page. Raises what asyncpg raises; nothing was moved then."""
        try:
            return await self._step()
        except BaseException:
            self._flags_of = -1  # what was written of them is not
            raise

    async def _step(self) -> Pass:
        async with self._pool.acquire() as connection, connection.transaction(isolation="read_committed"):
            row = await connection.fetchrow(_LOCK, timeout=TIMEOUT)
            if row is None:
                return Pass()
            position, version = row["position"], row["version"]
            if version != self._endpoints.version:
                await self._endpoints.load(connection)
            self._rebuild()
            newest = head.head_of(row)
            if position is None:  # the first time
                position = newest
                await connection.execute(_MOVE, position, timeout=TIMEOUT)
            again = await self._flag(connection, position)
            if position >= newest:
                return Pass(again=again)
            organizations = sorted({organization for organization, _ in self._indexes})
            events, read_to = await journal.page(connection, organizations, position, newest)
            rows, read_to = self._rows(events, read_to)
            written = await self._write(connection, rows, position, read_to)
        due = [(row[0], row[1], row[3]) for row in written if not self._endpoints.by_id[row[0]].in_order]
        return Pass(len(written), read_to < newest, again, due)

    async def step_again(self) -> Pass:
        """Look through a page of history for one endpoint that was disabled, or is to recover. Nothing was done, but
        `again`: another process has those that wait."""
        known = self._endpoints.enabled
        if not known:
            return Pass()
        async with self._pool.acquire() as connection, connection.transaction(isolation="read_committed"):
            row = await connection.fetchrow(_TAKE_AGAIN, known, self._turn, timeout=TIMEOUT)
            if row is None:
                return Pass(again=await connection.fetchval(_ARE_WAITING, known, timeout=TIMEOUT))
            id_, after, until = row
            self._turn = id_
            endpoint = self._endpoints.by_id[id_]
            events, read_to = await journal.page(connection, [endpoint.organization], after, until)
            rows = _in_batch([(endpoint, each) for each in events if _matches(endpoint, each)])
            if rows:
                await connection.execute(_INSERT_AGAIN, *zip(*rows, strict=True), timeout=60)
                in_order = [row for row in rows if row[4]]
                await ordering.hold_newer(connection, [(row[0], row[3], row[1]) for row in in_order])
                await ordering.free_oldest(connection, [(row[0], row[3]) for row in in_order])
                await connection.execute(_WAKE, [id_], f"again {id_}", timeout=TIMEOUT)
            await connection.execute(_AGAIN_TO, id_, read_to >= until, read_to, timeout=TIMEOUT)
        return Pass(len(rows), again=True)

    def _rebuild(self) -> None:
        for place in self._endpoints.changed:
            index: Index[str] = Index()
            for endpoint in self._endpoints.by_id.values():
                if (endpoint.organization, endpoint.test) == place and endpoint.choice is not None:
                    index.add(endpoint.id, endpoint.choice.types, endpoint.choice.filters)
            if len(index):
                self._indexes[place] = index
            else:
                self._indexes.pop(place, None)
        self._endpoints.changed.clear()

    async def _flag(self, connection: AnyConnection, position: str) -> bool:
        """Whether history is to be looked through once more for some endpoint."""
        if self._flags_of == self._endpoints.version:
            return False
        rows = await connection.fetch(_FLAGGED, timeout=TIMEOUT)
        again = [
            row["endpoint"]
            for row in rows
            if row["endpoint"] in self._endpoints.by_id
            and (
                (row["skipped_from"] is not None and self._endpoints.by_id[row["endpoint"]].enabled)
                or (row["again_from"] is not None and row["again_to"] is None)
            )
        ]
        if again:
            await connection.execute(_AGAIN, again, position, timeout=TIMEOUT)
        self._flags_of = self._endpoints.version
        return any(row["again_from"] is not None for row in rows) or bool(again)

    def _rows(self, events: Sequence[StoredEvent], read_to: str) -> tuple[list[tuple[Any, ...]], str]:
        """The rows, and up to which event they are."""
        matches: list[tuple[Endpoint, StoredEvent]] = []
        for n, event in enumerate(events):
            index = self._indexes.get((event.organization, event.test))
            if index is None:
                continue
            if len(matches) >= MOST_ROWS:
                return _in_batch(matches), events[n - 1].id
            view = View(frames.data_of(event.frame))
            found = index.matching(event.type, view)
            for id_ in found:
                endpoint = self._endpoints.by_id[id_]
                if event.id > endpoint.starts_after and _has_path(endpoint, view):
                    matches.append((endpoint, event))
            if found:
                self._bodies.keep(event.id, event.frame)
        return _in_batch(matches), read_to

    async def _write(
        self, connection: AnyConnection, rows: list[tuple[Any, ...]], position: str, read_to: str
    ) -> list[tuple[Any, ...]]:
        """Write the rows and move the cursor; which rows those were."""
        if not rows:
            await connection.execute(_MOVE, read_to, timeout=TIMEOUT)
            return []
        asked = sorted({row[0] for row in rows})
        there = {row["endpoint"]: row for row in await connection.fetch(_SHARE, asked, timeout=TIMEOUT)}
        enabled = {id_ for id_ in there if self._endpoints.by_id[id_].enabled}
        skipping = [id_ for id_, row in there.items() if id_ not in enabled and not row["skipped"]]
        if skipping:
            await connection.execute(_SKIP, skipping, position, timeout=TIMEOUT)
        later = [id_ for id_ in enabled if there[id_]["again"] and self._endpoints.by_id[id_].in_order]
        if later:
            await connection.execute(_LATER, later, read_to, timeout=TIMEOUT)
            enabled.difference_update(later)
        written = [row for row in rows if row[0] in enabled]
        if written:
            await connection.execute(_INSERT, *zip(*written, strict=True), timeout=60)
            await connection.execute(_WAKE_AND_MOVE, sorted(enabled), payload_of(enabled), read_to, timeout=TIMEOUT)
        else:
            await connection.execute(_MOVE, read_to, timeout=TIMEOUT)
        return written


def payload_of(endpoints: Collection[str]) -> str:
    """What dispatchers are told: the endpoints, or `deliveries` where they are too many to name. After `again`: the
    order of what was read may have changed."""
    return " ".join(endpoints) if len(endpoints) <= MOST_NAMED else "deliveries"


def _in_batch(matches: Sequence[tuple[Endpoint, StoredEvent]]) -> list[tuple[Any, ...]]:
    seen: set[tuple[str, int]] = set()
    rows = []
    for endpoint, event in matches:
        key = None
        if event.resource_id is not None:
            key = resource_key(event.organization, event.resource_type or "", event.resource_id)
        in_order = endpoint.in_order and key is not None
        behind = False
        if in_order and key is not None:
            behind = (endpoint.id, key) in seen
            seen.add((endpoint.id, key))
        rows.append((endpoint.id, event.id, event.type, key, in_order, behind))
    return rows


def _matches(endpoint: Endpoint, event: StoredEvent) -> bool:
    choice = endpoint.choice
    if choice is None or event.test != endpoint.test:
        return False
    if choice.types is not None and not choice.types.matches(event.type):
        return False
    view = View(frames.data_of(event.frame))
    return choice.filters.matches(view) and _has_path(endpoint, view)


def _has_path(endpoint: Endpoint, view: View) -> bool:
    prefix = None if endpoint.choice is None else endpoint.choice.path_prefix
    return prefix is None or any(path.startswith(prefix) for path in paths_in(view))
