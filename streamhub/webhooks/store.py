"""Endpoints and what their owners do with them. Every statement names the organization and the environment.

What changes something waits LOCKED_WITHIN for a row that another transaction has locked, then it raises
asyncpg.LockNotAvailableError: nothing was changed.
"""

import os
import re
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

import asyncpg
import orjson

from streamhub import organizations
from streamhub.core import ids, signing, window
from streamhub.core.unseen_types import unseen
from streamhub.core.window import timestamp
from streamhub.history import types
from streamhub.postgres.channels import CHANNELS
from streamhub.postgres.connections import AnyConnection
from streamhub.webhooks import endpoint, ordering
from streamhub.webhooks.endpoint import Wrong
from streamhub.webhooks.ordering import HAS_OLDER

MOST_ENDPOINTS: Final = 1_000  # of one organization and environment
MOST_JUDGED: Final = 100_000
MOST_OLD_SECRETS: Final = 4
LATEST: Final = 253_402_300_799  # the last second of the year 9999
OVERLAP: Final = timedelta(hours=24)
MOST_TESTS: Final = 20  # pending, of one endpoint
MOST_LISTED: Final = 100
MOST_LOGGED: Final = 20  # attempts of one delivery, over all of its retries
LOCKED_WITHIN: Final = "500ms"  # a request waits with a connection of the pool
FAILING_FROM: Final = 10  # attempts that failed in a row

_UUID: Final = re.compile(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")
_JSON: Final = ("filters", "headers")
_QUOTED: Final = {"order": '"order"'}
_SELECT: Final = f"""
SELECT e.id::text, o.slug, e.organization, e.test, e.url, e.events, e.filters, e."order", e.max_in_flight, e.rate,
       e.headers, e.auto_disable, e.description, e.owner_email, e.enabled, e.disabled_reason, e.created_at,
       e.secret, e.old_secrets, q.failures
  FROM streamhub_hub.webhook_endpoints AS e
  JOIN ({organizations.ORGANIZATIONS}) AS o ON o.key = e.organization
  JOIN streamhub_hub.webhook_queues AS q ON q.endpoint = e.id
"""
_OWN: Final = "e.organization = $1 AND e.test = $2"
_DELIVERIES: Final = """
SELECT event::text, type, state, attempts, due_at, log, created_at, finished_at FROM (
  (SELECT event, type, 'pending' AS state, attempts, due_at, log, created_at, NULL::timestamptz AS finished_at
     FROM streamhub_hub.webhook_deliveries WHERE endpoint = $1 AND event < $2 AND coalesce($4::text = 'pending', true)
    ORDER BY event DESC LIMIT $3)
  UNION ALL
  (SELECT event, type, state, jsonb_array_length(log), NULL, log, created_at, finished_at
     FROM streamhub_hub.webhook_finished
    WHERE endpoint = $1 AND event < $2 AND coalesce(state = $4::text, true) ORDER BY event DESC LIMIT $3)
) AS found ORDER BY event DESC LIMIT $3
"""
# By an index of their own: among all that ended they are few.
_FAILED: Final = """
SELECT event::text, type, state, jsonb_array_length(log) AS attempts, NULL::timestamptz AS due_at, log, created_at,
       finished_at
  FROM streamhub_hub.webhook_finished WHERE endpoint = $1 AND event < $2 AND state = 'failed'
 ORDER BY event DESC LIMIT $3
"""
_PENDING_ERROR: Final = f"""
SELECT d.log->-1->>'error'
  FROM streamhub_hub.webhook_endpoints AS e JOIN streamhub_hub.webhook_deliveries AS d ON d.endpoint = e.id
 WHERE {_OWN} AND e.id = $3 AND d.attempts > 0 ORDER BY d.attempts, d.due_at, d.event LIMIT 1
"""
_AT_ONCE: Final = f"""
UPDATE streamhub_hub.webhook_deliveries AS d
   SET attempts = 0, not_before = NULL,
       due_at = CASE WHEN $3 AND {HAS_OLDER.format("d")} THEN 'infinity' ELSE clock_timestamp() END
 WHERE endpoint = $1 AND event = $2 RETURNING true
"""
_WAKE: Final = f"SELECT pg_notify(c.webhooks, $1) FROM ({CHANNELS}) AS c"
_LOCK_QUEUE: Final = "SELECT FROM streamhub_hub.webhook_queues WHERE endpoint = $1 FOR NO KEY UPDATE"
_TESTS: Final = "SELECT count(*) FROM streamhub_hub.webhook_deliveries WHERE endpoint = $1 AND body IS NOT NULL"
_DUE_NOW: Final = """
UPDATE streamhub_hub.webhook_queues SET due_at = clock_timestamp() WHERE endpoint = $1 AND node IS NULL
"""


class Scope(NamedTuple):
    """Whose endpoints: the registry's key of the organization, and its environment."""

    organization: int
    test: bool


class TooManyEndpoints(ValueError):  # noqa: N818 - what it is
    """The organization has MOST_ENDPOINTS."""


@asynccontextmanager
async def _changing(connection: AnyConnection) -> AsyncIterator[None]:
    async with connection.transaction():
        await connection.execute(f"SET LOCAL lock_timeout = '{LOCKED_WITHIN}'")
        yield


class TooManySecrets(ValueError):  # noqa: N818 - what it is
    """The endpoint has MOST_OLD_SECRETS that are still valid. `until` is when one of them is not any more, in words for
    its owner."""

    def __init__(self, until: str) -> None:
        self.until = until
        super().__init__(
            f"{MOST_OLD_SECRETS} secrets from before are still valid, the most there may be: the secret can be "
            f"replaced once more from {until} on."
        )


class TooManyTests(ValueError):  # noqa: N818 - what it is
    """The endpoint has MOST_TESTS events `webhook.test` pending."""


def is_id(text: str) -> bool:
    return _UUID.fullmatch(text) is not None


async def create(connection: AnyConnection, scope: Scope, fields: Mapping[str, Any]) -> dict[str, Any]:
    """The new endpoint with its secret, which is shown this once. `fields` are what `endpoint.read` returned."""
    secret = signing.secret_of(os.urandom(32))
    values = {**_values(fields), "organization": scope.organization, "test": scope.test, "secret": secret}
    names = ", ".join(_QUOTED.get(name, name) for name in values)
    places = ", ".join(_place(n, name) for n, name in enumerate(values, 1))
    async with _changing(connection):
        await organizations.lock(connection, scope.organization)  # no two endpoints are both the last there may be
        count = await connection.fetchval(
            "SELECT count(*) FROM streamhub_hub.webhook_endpoints AS e WHERE " + _OWN, *scope
        )
        if count >= MOST_ENDPOINTS:
            raise TooManyEndpoints
        id_ = await connection.fetchval(
            f"INSERT INTO streamhub_hub.webhook_endpoints ({names}) VALUES ({places}) RETURNING id", *values.values()
        )
        found = await _one(connection, scope, str(id_))
    assert found is not None, "it was made just now"
    return {**found, "secret": secret}


async def unseen_events(connection: AnyConnection, scope: Scope, fields: Mapping[str, Any]) -> list[Wrong]:
    """Of the `events` that are given, those of which the organization had none lately. An endpoint may ask for them."""
    if "events" not in fields:
        return []
    seen = await types.seen_lately(connection, scope.organization, test=scope.test)
    if len(seen) >= types.MOST_LISTED:  # there may be more
        return []
    return [Wrong(f"/events/{n}", words) for n, words in unseen(fields["events"], seen)]


async def list_(connection: AnyConnection, scope: Scope) -> list[dict[str, Any]]:
    rows = await connection.fetch(f"{_SELECT} WHERE {_OWN} ORDER BY e.created_at, e.id LIMIT {MOST_ENDPOINTS}", *scope)
    return [_document(row) for row in rows]


async def unusable(connection: AnyConnection) -> list[tuple[str, str, str]]:
    """Of all endpoints those whose rows cannot be used: id, organization's slug, and why. At most MOST_JUDGED are read,
    the newest."""
    rows = await connection.fetch(f"{_SELECT} ORDER BY e.created_at DESC LIMIT {MOST_JUDGED}")
    judged = [(row["id"], row["slug"], endpoint.of_row(row).wrong) for row in rows]
    return [(id_, slug, wrong) for id_, slug, wrong in judged if wrong is not None]


async def get(connection: AnyConnection, scope: Scope, id_: str) -> dict[str, Any] | None:
    return await _one(connection, scope, id_)


async def find(connection: AnyConnection, id_: str) -> tuple[Scope, str] | None:
    """The scope and the slug of an endpoint, for an operator's command."""
    row = await connection.fetchrow(f"{_SELECT} WHERE e.id = $1", id_) if is_id(id_) else None
    return None if row is None else (Scope(row["organization"], row["test"]), row["slug"])


async def change(connection: AnyConnection, scope: Scope, id_: str, fields: Mapping[str, Any]) -> dict[str, Any] | None:
    """None where there is none."""
    values = _values(fields)
    sets = [f"{_QUOTED.get(name, name)} = {_place(n, name)}" for n, name in enumerate(values, 4)]
    if "enabled" in values:
        sets.append("disabled_reason = NULL")
    if sets:
        async with _changing(connection):
            await connection.execute(
                f"UPDATE streamhub_hub.webhook_endpoints AS e SET {', '.join(sets)} WHERE {_OWN} AND e.id = $3",
                *scope, id_, *values.values(),
            )  # fmt: skip
    return await _one(connection, scope, id_)


async def delete(connection: AnyConnection, scope: Scope, id_: str) -> bool:
    async with _changing(connection):
        tag = await connection.execute(
            f"DELETE FROM streamhub_hub.webhook_endpoints AS e WHERE {_OWN} AND e.id = $3", *scope, id_
        )
    return tag == "DELETE 1"


async def rotate_secret(connection: AnyConnection, scope: Scope, id_: str) -> dict[str, Any] | None:
    """The endpoint with its new secret, shown this once. The ones before stay valid for OVERLAP from when they were
    replaced. Raises TooManySecrets, where one would have to end earlier."""
    async with _changing(connection):
        row = await connection.fetchrow(
            f"SELECT secret, old_secrets FROM streamhub_hub.webhook_endpoints AS e WHERE {_OWN} AND e.id = $3 "
            "FOR NO KEY UPDATE", *scope, id_,
        )  # fmt: skip
        if row is None:
            return None
        now = time.time()
        known = endpoint.old_secrets(row["old_secrets"]) or []
        old = [(each, until) for each, until in known if until > now]
        if endpoint.is_secret(row["secret"]):  # else nothing was signed with it
            old.append((row["secret"], now + OVERLAP.total_seconds()))
        if len(old) > MOST_OLD_SECRETS:
            until = sorted(until for _, until in old)[-MOST_OLD_SECRETS - 1]
            raise TooManySecrets(timestamp(int(min(until, LATEST) * 1_000)))
        secret = signing.secret_of(os.urandom(32))
        await connection.execute(
            "UPDATE streamhub_hub.webhook_endpoints SET secret = $2, old_secrets = $3::text::jsonb WHERE id = $1",
            id_, secret, orjson.dumps([{"secret": each, "valid_until": until} for each, until in old]).decode(),
        )  # fmt: skip
        found = await _one(connection, scope, id_)
    assert found is not None, "it is locked"
    return {**found, "secret": secret}


async def recover(connection: AnyConnection, scope: Scope, id_: str, since_ms: int) -> dict[str, Any] | None:
    """Enable the endpoint, and have what failed or was missed since then (milliseconds of the Unix epoch)
    delivered, as far as it was appended after the endpoint was made. None where there is none."""
    after = window.before(max(1, since_ms))
    async with _changing(connection):
        found = await change(connection, scope, id_, {"enabled": True})
        if found is None:
            return None
        await connection.execute(
            "UPDATE streamhub_hub.webhook_queues SET again_to = NULL, "
            "again_from = least(again_from, greatest(starts_after, $2::uuid)) WHERE endpoint = $1", id_, after,
        )  # fmt: skip
        await connection.execute(_WAKE, "deliveries")
    return found


async def send_test(connection: AnyConnection, scope: Scope, id_: str) -> dict[str, Any] | None:
    """A delivery of an event `webhook.test`: one attempt, which waits for no other delivery. None where there is no
    such endpoint. Raises TooManyTests."""
    async with _changing(connection):
        found = await _one(connection, scope, id_)
        if found is None:
            return None
        await connection.execute(_LOCK_QUEUE, id_)
        if await connection.fetchval(_TESTS, id_) >= MOST_TESTS:
            raise TooManyTests
        now = time.time_ns() // 1_000_000
        event = ids.event_id(now, int.from_bytes(os.urandom(7)))
        at = timestamp(now)
        body = orjson.dumps({
            "id": event, "type": "webhook.test", "created_at": at,
            "data": {"endpoint": id_, "organization": found["organization"], "test": scope.test},
        })  # fmt: skip
        await connection.execute(
            "INSERT INTO streamhub_hub.webhook_deliveries (endpoint, event, type, due_at, body) "
            "VALUES ($1, $2, 'webhook.test', clock_timestamp(), $3)", id_, event, body,
        )  # fmt: skip
        await connection.execute(_DUE_NOW, id_)
        await connection.execute(_WAKE, f"again {id_}")
    return {"id": event, "type": "webhook.test", "state": "pending"}


async def retry(connection: AnyConnection, scope: Scope, id_: str, event: str) -> dict[str, Any] | None:
    """Deliver an event to the endpoint once more, with all attempts of a new one; one that is under way goes on. None
    where there is no such delivery."""
    async with _changing(connection):
        await connection.execute(_LOCK_QUEUE, id_)
        found = await _one(connection, scope, id_)
        if found is None:
            return None
        in_order = found["order"] == "resource"
        row = await connection.fetchrow(
            "DELETE FROM streamhub_hub.webhook_finished WHERE endpoint = $1 AND event = $2 "
            "RETURNING type, resource_key, log, body, created_at", id_, event,
        )  # fmt: skip
        if row is not None:
            kept = orjson.loads(row["log"])[-MOST_LOGGED:]
            await connection.execute(
                "INSERT INTO streamhub_hub.webhook_deliveries "
                "(endpoint, event, type, resource_key, due_at, log, body, created_at) "
                "VALUES ($1, $2, $3, $4, clock_timestamp(), $5::text::jsonb, $6, $7)",
                id_, event, row["type"], row["resource_key"], orjson.dumps(kept).decode(), row["body"],
                row["created_at"],
            )  # fmt: skip
        if await connection.fetchval(_AT_ONCE, id_, event, in_order) is None:
            return None
        if row is not None and in_order and row["resource_key"] is not None:
            await ordering.hold_newer(connection, [(id_, row["resource_key"], event)])
        await connection.execute(_DUE_NOW, id_)
        await connection.execute(_WAKE, f"again {id_}")
    return {"id": event, "state": "pending"}


async def pending_error(connection: AnyConnection, scope: Scope, id_: str) -> str | None:
    """Why the last attempt of a pending delivery failed: of the one with fewest, so a late one. None: none failed."""
    return await connection.fetchval(_PENDING_ERROR, *scope, id_)  # type: ignore[no-any-return]


async def deliveries(
    connection: AnyConnection, scope: Scope, id_: str, *, before: str | None, limit: int, state: str | None
) -> list[dict[str, Any]] | None:
    """The newest first, those of events before the id `before`. None where there is no such endpoint."""
    if await _one(connection, scope, id_) is None:
        return None
    given = (id_, before or ids.MAX_ID, limit)
    if state == "failed":
        rows = await connection.fetch(_FAILED, *given)
    else:
        rows = await connection.fetch(_DELIVERIES, *given, state)
    return [
        {
            "id": row["event"],
            "type": row["type"],
            "state": row["state"],
            "attempts": orjson.loads(row["log"]),
            "next_attempt_at": _time(row["due_at"])
            if row["due_at"] is not None and row["due_at"].year < 9999
            else None,
            "created_at": _time(row["created_at"]),
            "finished_at": _time(row["finished_at"]),
        }
        for row in rows
    ]


async def _one(connection: AnyConnection, scope: Scope, id_: str) -> dict[str, Any] | None:
    row = await connection.fetchrow(f"{_SELECT} WHERE {_OWN} AND e.id = $3", *scope, id_) if is_id(id_) else None
    return None if row is None else _document(row)


def _document(row: asyncpg.Record) -> dict[str, Any]:
    wrong = endpoint.of_row(row).wrong
    is_disabled = wrong is not None or not row["enabled"]
    state = "disabled" if is_disabled else "failing" if row["failures"] >= FAILING_FROM else "ok"
    return {
        "id": row["id"],
        "organization": row["slug"],
        "test": row["test"],
        "url": row["url"],
        "events": list(row["events"]),
        "filters": orjson.loads(row["filters"]),
        "order": row["order"],
        "max_in_flight": row["max_in_flight"],
        "rate": row["rate"],
        "headers": orjson.loads(row["headers"]),
        "auto_disable": row["auto_disable"],
        "description": row["description"],
        "owner_email": row["owner_email"],
        "enabled": row["enabled"],
        "state": state,
        "disabled_reason": wrong or row["disabled_reason"],
        "created_at": _time(row["created_at"]),
    }


def _values(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: orjson.dumps(value).decode() if name in _JSON else value for name, value in fields.items()}


def _place(n: int, name: str) -> str:
    return f"${n}::text::jsonb" if name in _JSON else f"${n}"


def _time(when: datetime | None) -> str | None:
    return None if when is None else timestamp(ids.ms_of(when))
