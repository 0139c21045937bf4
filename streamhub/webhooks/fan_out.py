"""From history into deliveries: one cursor over all organizations, moved by one process at a time.

    lock the cursor ─▶ read a page of history ─▶ one look an event into its organization's index ─▶ rows, cursor: commit

The endpoints are those of the newest version at the moment of the lock, so that none is passed over by a process that
has not heard of it. Events of a disabled endpoint are not made deliveries of: where that began stands in its queue, and
once it is enabled that stretch of history is looked through for it alone (`again`), as it is for a recovery. With order
`resource`, newer events wait until that look has come to them.

A transaction of another that has an endpoint locked holds up that one alone. The first step that meets it waits
LOCKED_WITHIN, then the endpoint is left behind: the cursor's row says from where on, and once the lock is gone that
stretch is as one that was skipped.
"""

import logging
from collections.abc import Collection, Sequence
from typing import Any, Final, NamedTuple

import asyncpg
import orjson

from streamhub.core import frames, ids
from streamhub.core.events import StoredEvent, resource_key
from streamhub.core.filter_index import Index
from streamhub.core.paths import paths_in
from streamhub.core.view import View
from streamhub.history import head, journal
from streamhub.postgres.channels import CHANNELS
from streamhub.postgres.connections import DATABASE_ERRORS, AnyConnection, Pool
from streamhub.webhooks import ordering
from streamhub.webhooks.behind import FREE, Behind
from streamhub.webhooks.bodies import Bodies
from streamhub.webhooks.deliveries import LOCKED_WITHIN, TIMEOUT, Endpoint, Endpoints, disable
from streamhub.webhooks.ordering import HAS_OLDER

log = logging.getLogger(__name__)

MOST_ROWS: Final = 20_000  # deliveries in one transaction
MOST_NAMED: Final = 150  # endpoints in a notification, which has less than 8,000 bytes

_LOCK: Final = f"""
SELECT c.position::text, c.behind, v.version::bigint, h.*, {LOCKED_WITHIN}
  FROM streamhub_hub.webhook_cursor AS c, (SELECT sum(version) AS version FROM streamhub_hub.webhook_version) AS v,
       ({head.HEAD}) AS h
 WHERE c.only_row FOR UPDATE OF c SKIP LOCKED
"""
_MOVE: Final = "UPDATE streamhub_hub.webhook_cursor SET position = $1"
_FLAGGED: Final = """
SELECT endpoint::text, skipped_from::text, again_from::text, again_to::text FROM streamhub_hub.webhook_queues
 WHERE again_from IS NOT NULL OR skipped_from IS NOT NULL
"""
_AGAIN: Final = f"""{FREE}
UPDATE streamhub_hub.webhook_queues AS q
   SET again_from = least(again_from, skipped_from), again_to = greatest(again_to, $2), skipped_from = NULL
  FROM free WHERE q.endpoint = free.endpoint
RETURNING q.endpoint::text
"""
# FOR SHARE: what gives up a queue waits until the deliveries are there to be seen.
_SHARE: Final = """
SELECT q.endpoint::text, q.skipped_from IS NOT NULL AS skipped, q.again_from IS NOT NULL AS again
  FROM streamhub_hub.webhook_queues AS q
 WHERE q.endpoint = ANY ($1::uuid[]) ORDER BY q.endpoint FOR SHARE
"""
# After it no statement waits: a row that refers to the endpoint locks it FOR KEY SHARE.
_SHARE_FREE: Final = """
SELECT q.endpoint::text, q.skipped_from IS NOT NULL AS skipped, q.again_from IS NOT NULL AS again
  FROM streamhub_hub.webhook_queues AS q JOIN streamhub_hub.webhook_endpoints AS e ON e.id = q.endpoint
 WHERE q.endpoint = ANY ($1::uuid[])
 ORDER BY q.endpoint FOR NO KEY UPDATE OF q SKIP LOCKED FOR KEY SHARE OF e SKIP LOCKED
"""
_LATER: Final = """
UPDATE streamhub_hub.webhook_queues SET again_to = $2
 WHERE endpoint = ANY ($1::uuid[]) AND again_to IS NOT NULL  -- null: it will be beyond
"""
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
  FROM streamhub_hub.webhook_queues AS q JOIN streamhub_hub.webhook_endpoints AS e ON e.id = q.endpoint
 WHERE (q.again_from IS NOT NULL OR q.skipped_from IS NOT NULL) AND q.again_to IS NOT NULL
   AND q.endpoint = ANY ($1::uuid[])
"""
# In turn, so that a long stretch of one is in the way of no other.
_TAKE_AGAIN: Final = f"""
SELECT q.endpoint::text, q.again_from::text, q.again_to::text, {LOCKED_WITHIN} {_WAITING}
 ORDER BY q.endpoint <= $2, q.endpoint LIMIT 1 FOR NO KEY UPDATE OF q SKIP LOCKED FOR KEY SHARE OF e SKIP LOCKED
"""
_ARE_WAITING: Final = f"SELECT EXISTS (SELECT {_WAITING})"
_AGAIN_TO: Final = """
UPDATE streamhub_hub.webhook_queues
   SET again_from = CASE WHEN $2 THEN NULL ELSE $3::uuid END, again_to = CASE WHEN $2 THEN NULL ELSE again_to END
 WHERE endpoint = $1
"""


class Pass(NamedTuple):
    """One step, and how many deliveries it made. `more`: the same step has more to do at once; `again`: `step_again`
    has something to do. `due`: endpoint, event and key of the resource of new deliveries that are due, those of
    endpoints with an order left out."""

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
        self._broken: dict[str, str] = {}  # endpoints that are to be disabled, and why

    async def step(self) -> Pass:
        """Move the cursor by a page. Raises what asyncpg raises; nothing was moved then."""
        try:
            try:
                found = await self._step(waits=True)
            except asyncpg.LockNotAvailableError:
                self._flags_of = -1  # what was written of them is not
                found = await self._step(waits=False)
        except BaseException:
            self._flags_of = -1
            raise
        await self._disable_broken()
        return found

    async def _step(self, *, waits: bool) -> Pass:
        """`waits`: for endpoints that are locked; else they are left behind. Raises LockNotAvailableError."""
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
            behind = Behind(connection, position, orjson.loads(row["behind"]))
            if behind.endpoints and await behind.catch_up():
                self._flags_of = -1
            again = await self._flag(connection, position, behind)
            if position >= newest:
                await behind.write()
                return Pass(again=again)
            organizations = sorted({organization for organization, _ in self._indexes})
            events, read_to = await journal.page(connection, organizations, position, newest)
            rows, read_to = self._rows(events, read_to)
            await behind.skip(self._broken)
            written = await self._write(connection, rows, read_to, behind, waits=waits)
            await behind.write()
        due = [(row[0], row[1], row[3]) for row in written if not self._endpoints.by_id[row[0]].in_order]
        return Pass(len(written), read_to < newest, again, due)

    async def step_again(self) -> Pass:
        """Look through a page of history for one endpoint that was disabled, or is to recover. Without `more` nothing
        was done: with `again` another transaction has those that wait."""
        try:
            return await self._step_again()
        except asyncpg.LockNotAvailableError:  # the others have their turns
            return Pass(again=True)

    async def _step_again(self) -> Pass:
        known = self._endpoints.enabled
        if not known:
            return Pass()
        async with self._pool.acquire() as connection, connection.transaction(isolation="read_committed"):
            row = await connection.fetchrow(_TAKE_AGAIN, known, self._turn, timeout=TIMEOUT)
            if row is None:
                return Pass(again=await connection.fetchval(_ARE_WAITING, known, timeout=TIMEOUT))
            id_, after, until, _ = row
            self._turn = id_
            endpoint = self._endpoints.by_id[id_]
            events, read_to = await journal.page(connection, [endpoint.organization], after, until)
            try:
                rows = _in_batch([(endpoint, each) for each in events if _matches(endpoint, each)])
            except Exception as error:  # noqa: BLE001 - of one endpoint: the others have their turns
                self._breaks(endpoint, error)
                return Pass(more=True, again=True)
            made = 0
            if rows:
                made = int((await connection.execute(_INSERT_AGAIN, *zip(*rows, strict=True), timeout=60)).split()[-1])
                in_order = [row for row in rows if row[4]]
                await ordering.hold_newer(connection, [(row[0], row[3], row[1]) for row in in_order])
                await ordering.free_oldest(connection, [(row[0], row[3]) for row in in_order])
                await connection.execute(_WAKE, [id_], f"again {id_}", timeout=TIMEOUT)
            await connection.execute(_AGAIN_TO, id_, read_to >= until, read_to, timeout=TIMEOUT)
        return Pass(made, more=True, again=True)

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

    async def _flag(self, connection: AnyConnection, position: str, behind: Behind) -> bool:
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
        noted = await connection.fetch(_AGAIN, again, position, timeout=TIMEOUT) if again else []
        await behind.skip(each.id for each in self._endpoints.by_id.values() if each.wrong is not None)
        if len(noted) == len(again):  # else one is locked: the next step tries once more
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
            try:
                found = [each for each in map(self._endpoints.by_id.__getitem__, index.matching(event.type, view))
                         if event.id > each.starts_after and _has_path(each, view)]  # fmt: skip
            except Exception:  # noqa: BLE001 - of one endpoint: the others get their events
                found = self._matching_each(event)
            matches += [(each, event) for each in found]
            if found:
                self._bodies.keep(event.id, event.frame)
        return _in_batch(matches), read_to

    def _matching_each(self, event: StoredEvent) -> list[Endpoint]:
        """Endpoints that the event matches, each asked alone. One that raises is disabled."""
        found = []
        for each in list(self._endpoints.by_id.values()):
            if each.organization != event.organization or event.id <= each.starts_after:
                continue
            try:
                if _matches(each, event):
                    found.append(each)
            except Exception as error:  # noqa: BLE001
                self._breaks(each, error)
        return found

    def _breaks(self, endpoint: Endpoint, error: Exception) -> None:
        """Nothing more is matched with it before its row has changed."""
        reason = f"an event could not be matched with its filters ({type(error).__name__})"
        log.warning("webhook endpoint %s is disabled: %s: %r", endpoint.id, reason, error)
        if endpoint.enabled:
            self._broken[endpoint.id] = reason
        self._endpoints.by_id[endpoint.id] = endpoint._replace(enabled=False, choice=None, wrong=reason)
        self._endpoints.changed.add((endpoint.organization, endpoint.test))

    async def _disable_broken(self) -> None:
        if self._broken:
            try:
                locked = await disable(self._pool, self._broken)
            except DATABASE_ERRORS as error:  # the next step tries again; it is disabled in this process already
                log.warning("webhook endpoints %s were not disabled yet: %r", ", ".join(self._broken), error)
            else:
                for id_ in self._broken.keys() - locked:
                    if (known := self._endpoints.by_id.get(id_)) is not None:
                        # Its owner may enable it before it was read as disabled: then its row is as it was known.
                        self._endpoints.by_id[id_] = known._replace(key=())
                self._broken = {id_: why for id_, why in self._broken.items() if id_ in locked}

    async def _write(
        self, connection: AnyConnection, rows: list[tuple[Any, ...]], read_to: str, behind: Behind, *, waits: bool
    ) -> list[tuple[Any, ...]]:
        """Write the rows and move the cursor; which rows those were."""
        asked = sorted({row[0] for row in rows} - behind.endpoints.keys())
        if not asked:
            await connection.execute(_MOVE, read_to, timeout=TIMEOUT)
            return []
        share = _SHARE if waits else _SHARE_FREE
        there = {row["endpoint"]: row for row in await connection.fetch(share, asked, timeout=TIMEOUT)}
        if not waits:
            await behind.leave(set(asked) - there.keys())
        free = {id_ for id_, row in there.items() if not row["skipped"]}
        if any(self._endpoints.by_id[id_].enabled for id_ in there.keys() - free):
            self._flags_of = -1  # it was locked when it was to be flagged, or another process has skipped for it
        enabled = {id_ for id_ in free if self._endpoints.by_id[id_].enabled}
        await behind.skip(free - enabled)
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
