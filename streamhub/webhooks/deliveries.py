"""The rows of deliveries as dispatchers read and write them.

An endpoint's queue is held by one node at a time (`take`), while that node's row holds. What is read of the queue is
kept in the process's memory: an attempt that is under way is written nowhere, so that after a crash it is made again.
"""

import logging
from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from typing import Any, Final, NamedTuple

import asyncpg
import orjson

from streamhub.leases.nodes import ALIVE
from streamhub.postgres.channels import CHANNELS
from streamhub.postgres.connections import AnyConnection, Pool
from streamhub.webhooks import endpoint, ordering
from streamhub.webhooks.ordering import HAS_OLDER
from streamhub.webhooks.store import MOST_TESTS

log = logging.getLogger(__name__)

TIMEOUT: Final = 10.0  # seconds
MOST_TAKEN: Final = 50  # endpoints at once, so that several processes share them
MOST_READ: Final = 200  # deliveries of one endpoint at once
MOST_PAUSES: Final = 20  # of WEBHOOK_SCHEDULE: no delivery that is pending has been attempted more often
KEPT: Final = timedelta(days=30)

LOCKED_WITHIN: Final = "set_config('lock_timeout', '300ms', true)"
"""As a column of a transaction's first statement: how long it waits for a lock at most. Then it raises
asyncpg.LockNotAvailableError, and what it was for is done without the endpoints that are locked."""

# Of one moment: the version tells whether another read would give another answer.
_ENDPOINTS: Final = """
SELECT v.version::bigint, e.id::text, e.organization, e.test, e.url, e.events, e.filters, e.secret, e.old_secrets,
       e."order", e.max_in_flight, e.rate, e.headers, e.auto_disable, e.enabled, q.starts_after::text
  FROM (SELECT sum(version) AS version FROM streamhub_hub.webhook_version) AS v
  LEFT JOIN (streamhub_hub.webhook_endpoints AS e JOIN streamhub_hub.webhook_queues AS q ON q.endpoint = e.id) ON true
"""
# Times are compared with the statement's own, which an index can be searched by; clock_timestamp() changes within one.
# A queue that is held keeps the `due_at` it was taken at, so it is free at once where its node dies.
_FREE: Final = f"q.due_at <= statement_timestamp() AND (q.node IS NULL OR q.node = $1 OR q.node NOT IN ({ALIVE}))"
# Of each organization the first, then of each the second: many endpoints of one delay no other.
TAKE: Final = f"""
WITH due AS (
  SELECT endpoint, row_number() OVER (PARTITION BY e.organization ORDER BY q.due_at) AS turn
    FROM streamhub_hub.webhook_queues AS q JOIN streamhub_hub.webhook_endpoints AS e ON e.id = q.endpoint
   WHERE {_FREE} AND q.endpoint = ANY ($2::uuid[])
), free AS (
  SELECT q.endpoint FROM due JOIN streamhub_hub.webhook_queues AS q USING (endpoint) WHERE {_FREE}
   ORDER BY due.turn, q.due_at LIMIT {MOST_TAKEN} FOR NO KEY UPDATE OF q SKIP LOCKED)
UPDATE streamhub_hub.webhook_queues AS q SET node = $1 FROM free WHERE q.endpoint = free.endpoint
RETURNING q.endpoint::text, q.failures
"""
_DELIVERY: Final = """
SELECT d.endpoint::text, d.event::text, d.attempts, d.resource_key, d.body,
       extract(epoch FROM d.created_at)::float8 AS created_at"""
# Of each endpoint the oldest that are due, by its own stretch of the index.
READ: Final = f"""{_DELIVERY}
  FROM unnest($1::uuid[], $2::integer[]) AS wanted (endpoint, most)
 CROSS JOIN LATERAL (
   SELECT * FROM streamhub_hub.webhook_deliveries AS d
    WHERE d.endpoint = wanted.endpoint AND d.due_at <= statement_timestamp()
    ORDER BY d.due_at, d.event LIMIT wanted.most
 ) AS d
"""
# Of each endpoint the one that has most attempts of those that are due; of several such the oldest. The index of what
# was tried gives it by a search for each number of attempts, however many are pending.
READ_MOST_TRIED: Final = f"""{_DELIVERY}
  FROM unnest($1::uuid[]) AS wanted (endpoint)
 CROSS JOIN LATERAL (
   SELECT d.* FROM generate_series({MOST_PAUSES}, 1, -1) AS tried (attempts)
    CROSS JOIN LATERAL (
      SELECT * FROM streamhub_hub.webhook_deliveries AS d
       WHERE d.endpoint = wanted.endpoint AND d.attempts = tried.attempts AND d.attempts > 0
         AND d.due_at <= statement_timestamp()
       ORDER BY d.due_at, d.event LIMIT 1
    ) AS d
    ORDER BY tried.attempts DESC LIMIT 1
 ) AS d
"""
# By an index of their own, which is as short as they are few.
READ_TESTS: Final = f"""{_DELIVERY}
  FROM unnest($1::uuid[]) AS wanted (endpoint)
 CROSS JOIN LATERAL (
   SELECT * FROM streamhub_hub.webhook_deliveries AS d WHERE d.endpoint = wanted.endpoint AND d.body IS NOT NULL
    ORDER BY d.event LIMIT {MOST_TESTS}
 ) AS d
"""
# A fan-out that is about to commit holds the rows FOR SHARE, so its deliveries are seen by the statement after this.
_LOCK: Final = f"""
WITH within AS MATERIALIZED (SELECT {LOCKED_WITHIN})
SELECT q.endpoint::text FROM within, streamhub_hub.webhook_queues AS q
 WHERE q.endpoint = ANY ($1::uuid[]) AND q.node = $2 ORDER BY q.endpoint FOR NO KEY UPDATE OF q
"""
# After it no statement waits: a row that refers to the endpoint locks it FOR KEY SHARE.
_LOCK_FREE: Final = f"""
WITH within AS MATERIALIZED (SELECT {LOCKED_WITHIN})
SELECT q.endpoint::text
  FROM within, streamhub_hub.webhook_queues AS q JOIN streamhub_hub.webhook_endpoints AS e ON e.id = q.endpoint
 WHERE q.endpoint = ANY ($1::uuid[]) AND q.node = $2
 ORDER BY q.endpoint FOR NO KEY UPDATE OF q SKIP LOCKED FOR KEY SHARE OF e SKIP LOCKED
"""
# Of results their rows, and what follows in their resource ($3, $4): the endpoints of which one is locked. Of the two
# oldest of a resource one is the oldest once the other is gone.
_ROWS_LOCKED: Final = """
WITH wanted AS (
  SELECT d.endpoint, d.event FROM unnest($1::uuid[], $2::uuid[]) AS r (endpoint, event)
    JOIN streamhub_hub.webhook_deliveries AS d USING (endpoint, event)
   UNION
  SELECT r.endpoint, w.event FROM unnest($3::uuid[], $4::bigint[]) AS r (endpoint, resource_key)
   CROSS JOIN LATERAL (SELECT event FROM streamhub_hub.webhook_deliveries AS w
                        WHERE w.endpoint = r.endpoint AND w.resource_key = r.resource_key ORDER BY w.event LIMIT 2) AS w
), locked AS (
  SELECT d.endpoint, d.event FROM wanted JOIN streamhub_hub.webhook_deliveries AS d USING (endpoint, event)
     FOR UPDATE OF d SKIP LOCKED)
SELECT DISTINCT endpoint::text FROM wanted LEFT JOIN locked USING (endpoint, event) WHERE locked.endpoint IS NULL
"""
_OURS: Final = "SELECT endpoint::text FROM streamhub_hub.webhook_queues WHERE endpoint = ANY ($1::uuid[]) AND node = $2"
GIVE_UP: Final = """
UPDATE streamhub_hub.webhook_queues AS q
   SET node = NULL, failures = given.failures,
       due_at = (SELECT d.due_at FROM streamhub_hub.webhook_deliveries AS d
                  WHERE d.endpoint = q.endpoint AND d.due_at < 'infinity' ORDER BY d.due_at LIMIT 1)
  FROM unnest($1::uuid[], $2::integer[]) AS given (endpoint, failures) WHERE q.endpoint = given.endpoint
"""
SETTLE: Final = f"""
WITH results AS (
  SELECT r.*, a.value::jsonb AS attempt
    FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::float8[], $5::boolean[]) WITH ORDINALITY
      AS r (endpoint, event, state, pause, in_order, n)
    JOIN json_array_elements($6::text::json) WITH ORDINALITY AS a (value, n) USING (n)
), gone AS (
  DELETE FROM streamhub_hub.webhook_deliveries AS d USING results AS r
   WHERE d.endpoint = r.endpoint AND d.event = r.event AND r.state <> 'pending'
  RETURNING d.*, r.state, r.attempt
), kept AS (
  INSERT INTO streamhub_hub.webhook_finished (endpoint, event, type, resource_key, state, log, body, created_at)
  SELECT endpoint, event, type, resource_key, state, log || attempt, body, created_at FROM gone
  ON CONFLICT (endpoint, event) DO UPDATE
     SET state = excluded.state, log = excluded.log, finished_at = excluded.finished_at
)
UPDATE streamhub_hub.webhook_deliveries AS d
   SET attempts = d.attempts + 1, log = d.log || r.attempt,
       not_before = clock_timestamp() + make_interval(secs => r.pause),
       due_at = CASE WHEN r.in_order AND {HAS_OLDER.format("d")} THEN 'infinity'
                     ELSE clock_timestamp() + make_interval(secs => r.pause) END
  FROM results AS r WHERE d.endpoint = r.endpoint AND d.event = r.event AND r.state = 'pending'
"""
_FAILURES: Final = """
UPDATE streamhub_hub.webhook_queues AS q SET failures = given.failures
  FROM unnest($1::uuid[], $2::integer[]) AS given (endpoint, failures)
 WHERE q.endpoint = given.endpoint AND q.failures <> given.failures
"""
# Before its queue, as a change of an endpoint locks the two. An open transaction delays its own endpoint alone.
_LOCK_ENDPOINTS: Final = """
SELECT id::text FROM streamhub_hub.webhook_endpoints WHERE id = ANY ($1::uuid[]) ORDER BY id
   FOR NO KEY UPDATE SKIP LOCKED
"""
_LOCK_WHOLE: Final = """
SELECT e.id::text FROM streamhub_hub.webhook_endpoints AS e JOIN streamhub_hub.webhook_queues AS q ON q.endpoint = e.id
 WHERE e.id = ANY ($1::uuid[]) ORDER BY e.id FOR NO KEY UPDATE SKIP LOCKED
"""
_ARE_THERE: Final = "SELECT id::text FROM streamhub_hub.webhook_endpoints WHERE id = ANY ($1::uuid[])"
_DISABLE: Final = """
WITH disabled AS (
  UPDATE streamhub_hub.webhook_endpoints AS e SET enabled = false, disabled_reason = given.reason
    FROM unnest($1::uuid[], $2::text[]) AS given (endpoint, reason) WHERE e.id = given.endpoint AND e.enabled
  RETURNING e.id
)
UPDATE streamhub_hub.webhook_queues AS q SET notice_due_at = clock_timestamp(), notice_attempts = 0
  FROM disabled WHERE q.endpoint = disabled.id
"""
_FORGET: Final = """
DELETE FROM streamhub_hub.webhook_finished WHERE ctid = ANY (ARRAY(
  SELECT ctid FROM streamhub_hub.webhook_finished WHERE finished_at < clock_timestamp() - $1::interval
  ORDER BY finished_at LIMIT 5000 FOR UPDATE SKIP LOCKED))
"""
_CHANNEL: Final = f"SELECT c.webhooks FROM ({CHANNELS}) AS c"


class Endpoint(NamedTuple):
    """An endpoint as dispatchers use it. `wrong` says why the row cannot be used: then it is not `enabled`, and has no
    `choice`. `key` is what the row held."""

    id: str
    organization: int
    test: bool
    url: str
    choice: endpoint.Choice | None
    secrets: tuple[tuple[str, float], ...]  # and until when each is valid, the oldest first
    in_order: bool
    max_in_flight: int
    rate: int | None
    headers: Mapping[str, str]
    auto_disable: bool
    enabled: bool
    starts_after: str
    key: tuple[Any, ...]
    wrong: str | None = None

    def valid_secrets(self, now: float) -> list[str]:
        return [secret for secret, until in self.secrets if until > now]


class Delivery(NamedTuple):
    """One that is due. `created_at` in seconds of the Unix epoch. A test has its `body` with it."""

    endpoint: str
    event: str
    attempts: int
    resource_key: int | None
    body: bytes | None
    created_at: float

    @property
    def is_test(self) -> bool:
        return self.body is not None


class Result(NamedTuple):
    """What came of an attempt. `state`: delivered, failed (given up) or pending, due again after `pause` seconds.
    `disables`: why the endpoint is disabled by it."""

    delivery: Delivery
    state: str
    pause: float
    attempt: Mapping[str, Any]
    disables: str | None = None


async def channel(connection: AnyConnection) -> str:
    return str(await connection.fetchval(_CHANNEL, timeout=TIMEOUT))


class Endpoints:
    """All of them, as this process has seen them last."""

    def __init__(self) -> None:
        self.version = -1
        self.by_id: dict[str, Endpoint] = {}
        self.changed: set[tuple[int, bool]] = set()  # organizations and environments of which some changed

    async def load(self, connection: Pool | AnyConnection) -> None:
        """Raises what asyncpg raises."""
        rows = await connection.fetch(_ENDPOINTS, timeout=TIMEOUT)
        found: dict[str, Endpoint] = {}
        for row in rows:
            if row["id"] is None:
                continue
            known = self.by_id.get(row["id"])
            key = tuple(map(repr, tuple(row.values())[1:]))
            found[row["id"]] = known if known is not None and known.key == key else compiled(row, key)
        for id_ in {*found, *self.by_id}:
            one, other = found.get(id_), self.by_id.get(id_)
            if one is not None and one.wrong is not None and (other is None or one.wrong != other.wrong):
                log.warning("webhook endpoint %s is treated as disabled, its events are kept: %s", id_, one.wrong)
            if one is not other:
                self.changed |= {(each.organization, each.test) for each in (one, other) if each is not None}
        self.version, self.by_id = rows[0]["version"], found

    @property
    def enabled(self) -> list[str]:
        return [each.id for each in self.by_id.values() if each.enabled]


def compiled(row: asyncpg.Record, key: tuple[Any, ...]) -> Endpoint:
    read = endpoint.of_row(row)
    return Endpoint(
        row["id"], row["organization"], row["test"], row["url"], read.choice, read.secrets, row["order"] == "resource",
        row["max_in_flight"], row["rate"], read.headers, row["auto_disable"], row["enabled"] and read.wrong is None,
        row["starts_after"], key, read.wrong,
    )  # fmt: skip


async def take(pool: Pool, node: str, endpoints: Collection[str]) -> dict[str, int]:
    """Which of these endpoints this node has from now on, and how many attempts in a row have failed."""
    rows = await pool.fetch(TAKE, node, list(endpoints), timeout=TIMEOUT)
    return {row["endpoint"]: row["failures"] for row in rows}


async def read(pool: Pool, wanted: Mapping[str, int]) -> list[Delivery]:
    """The oldest that are due of each endpoint, up to so many; what is under way is among them."""
    rows = await pool.fetch(READ, list(wanted), list(wanted.values()), timeout=TIMEOUT)
    return [Delivery(*row) for row in rows]


async def read_most_tried(pool: Pool, endpoints: Collection[str]) -> list[Delivery]:
    """Of each endpoint the one that has most attempts of those that are due, if one has any; the oldest of several."""
    rows = await pool.fetch(READ_MOST_TRIED, list(endpoints), timeout=TIMEOUT)
    return [Delivery(*row) for row in rows]


async def read_tests(pool: Pool, endpoints: Collection[str]) -> list[Delivery]:
    """Their tests that are pending, the oldest MOST_TESTS of each."""
    rows = await pool.fetch(READ_TESTS, list(endpoints), timeout=TIMEOUT)
    return [Delivery(*row) for row in rows]


async def give_up(pool: Pool, node: str, failures: Mapping[str, int]) -> None:
    """These endpoints are free for any node once something of them is due. One that is locked stays this node's, which
    takes it once more."""
    async with pool.acquire() as connection, connection.transaction():
        ours = [row[0] for row in await connection.fetch(_LOCK_FREE, list(failures), node, timeout=TIMEOUT)]
        await connection.execute(GIVE_UP, ours, [failures[each] for each in ours], timeout=TIMEOUT)


class Settled(NamedTuple):
    """`ours`: the endpoints that this node still has; `busy`: those that a transaction has locked, of which nothing was
    written."""

    ours: set[str]
    busy: set[str]


async def disable(pool: Pool, reasons: Mapping[str, str]) -> set[str]:
    """Endpoint → why; those that are still to be disabled, as a transaction has them locked. Raises what asyncpg
    raises."""
    async with pool.acquire() as connection, connection.transaction():
        free = [row[0] for row in await connection.fetch(_LOCK_WHOLE, list(reasons), timeout=TIMEOUT)]
        await connection.execute(_DISABLE, free, [reasons[each] for each in free], timeout=TIMEOUT)
        there = await connection.fetch(_ARE_THERE, list(reasons), timeout=TIMEOUT)
    return {row[0] for row in there}.difference(free)


async def settle(
    pool: Pool, node: str, results: Sequence[Result], failures: Mapping[str, int], in_order: Collection[str],
    *, waits: bool,
) -> Settled:  # fmt: skip
    """Write down what came of attempts. Of endpoints that this node does not have any more nothing is written.

    `failures`: in a row, of the endpoints of which it is known; `in_order`: those with order `resource`. `waits`: for
    endpoints that are locked, and raises LockNotAvailableError where one stays so; else they are `busy`, as are those
    of which a delivery is locked.
    """
    reasons = {each.delivery.endpoint: each.disables for each in results if each.disables is not None}
    asked = {each.delivery.endpoint for each in results}
    async with pool.acquire() as connection, connection.transaction():
        busy: set[str] = set()
        if reasons:
            locked = {row[0] for row in await connection.fetch(_LOCK_ENDPOINTS, list(reasons), timeout=TIMEOUT)}
            if len(locked) < len(reasons):  # else it was deleted
                there = await connection.fetch(_ARE_THERE, list(reasons), timeout=TIMEOUT)
                busy = {row[0] for row in there} - locked
        lock, asked = _LOCK if waits else _LOCK_FREE, asked - busy
        ours = {row[0] for row in await connection.fetch(lock, list(asked), node, timeout=TIMEOUT)}
        ended = [
            (each.delivery.endpoint, each.delivery.resource_key)
            for each in results
            if each.state != "pending" and each.delivery.endpoint in in_order and each.delivery.resource_key is not None
        ]
        if not waits:
            ours -= await _rows_locked(connection, [each for each in results if each.delivery.endpoint in ours], ended)
            busy |= {row[0] for row in await connection.fetch(_OURS, list(asked), node, timeout=TIMEOUT)} - ours
        written = [each for each in results if each.delivery.endpoint in ours]
        if not written:
            return Settled(ours, busy)
        await connection.execute(
            SETTLE,
            [each.delivery.endpoint for each in written],
            [each.delivery.event for each in written],
            [each.state for each in written],
            [each.pause for each in written],
            [each.delivery.endpoint in in_order for each in written],
            orjson.dumps([each.attempt for each in written]).decode(),
            timeout=TIMEOUT,
        )
        counted = [each for each in ours if each in failures]
        await connection.execute(_FAILURES, counted, [failures[each] for each in counted], timeout=TIMEOUT)
        await ordering.free_oldest(connection, [each for each in ended if each[0] in ours])
        disabled = [each for each in reasons if each in ours]
        if disabled:
            await connection.execute(_DISABLE, disabled, [reasons[each] for each in disabled], timeout=TIMEOUT)
    return Settled(ours, busy)


async def _rows_locked(
    connection: AnyConnection, results: Sequence[Result], ended: Sequence[tuple[str, int]]
) -> set[str]:
    """Endpoints of which another transaction has locked what the results change."""
    given = (
        [each.delivery.endpoint for each in results],
        [each.delivery.event for each in results],
        [endpoint for endpoint, _ in ended],
        [resource_key for _, resource_key in ended],
    )
    return {row[0] for row in await connection.fetch(_ROWS_LOCKED, *given, timeout=TIMEOUT)}


async def forget(pool: Pool) -> bool:
    """Delete some of what ended KEPT ago; whether there was none."""
    return await pool.execute(_FORGET, KEPT, timeout=60) == "DELETE 0"
