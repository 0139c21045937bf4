"""Events into the outbox of the hub's own database: what streamhub.publish does, for many at once."""

import time
from collections.abc import Sequence
from typing import Any, Final

import asyncpg
from aiohttp import web

from streamhub import organizations
from streamhub.backoff import jittered, rest
from streamhub.gateway import budget
from streamhub.gateway.gateway import Gateway
from streamhub.gateway.publishing.request import Event
from streamhub.web.auth import Claims
from streamhub.web.bodies import Bodies
from streamhub.web.problems import ApiError, Fault, unavailable
from streamhub.web.turns import Turns

MOST_WAITING: Final = 1_000  # requests
MOST_TRIES: Final = 3
SLUG_TAKEN_WITHIN: Final = 5.0  # seconds

LOCKED_WITHIN: Final = 2.0  # seconds, for a publish_id that an application's transaction is publishing just now
LOCKED_PAUSE: Final = 0.2  # seconds; other requests have their turns meanwhile

_LOCK_AT_ONCE: Final = "SET LOCAL lock_timeout = '20ms'"
# PostgreSQL reads the JSON once more: what it refuses gets no further.
_WRITE: Final = """
SELECT streamhub.write_published(
  $1, $2, $3::text[], ARRAY(SELECT d::json::text FROM unnest($4::text[]) WITH ORDINALITY AS e (d, n) ORDER BY n),
  $5::text[], $6::text[], $7::text[])
"""


class Publishing:
    """What the requests of one process share."""

    def __init__(self, gateway: Gateway) -> None:
        self.bodies = Bodies()
        self._hub = gateway.hub
        self._metrics = gateway.metrics
        self._turns = Turns(budget.PUBLISHING, MOST_WAITING)

    async def store(self, claims: Claims, registered: bool, events: Sequence[Event]) -> None:
        """All of them, durably. Raises ApiError: 403, 422, 503."""
        give_up = time.monotonic() + LOCKED_WITHIN
        while True:
            try:
                return await self._store(claims, registered, events)
            except asyncpg.LockNotAvailableError:
                if time.monotonic() > give_up:
                    raise _in_use() from None
            await rest(jittered(LOCKED_PAUSE))

    async def _store(self, claims: Claims, registered: bool, events: Sequence[Event]) -> None:
        async with self._turns.turn(), self._hub.acquire() as connection:
            if not registered:
                await self._register(connection, claims)
            for tries_left in reversed(range(MOST_TRIES)):
                try:
                    await _write(connection, claims, events)
                    self._metrics.posted(len(events))
                    return
                except asyncpg.DeadlockDetectedError:
                    # With a transaction that publishes several in an order of its own. The server waited
                    # deadlock_timeout before it said so, which is the pause.
                    if not tries_left:
                        raise _in_use() from None
                except (asyncpg.DataError, asyncpg.StatementTooComplexError) as error:
                    detail = f"The database refuses an event: {str(error)[:200]}."
                    raise ApiError(Fault("INVALID_EVENT", detail, {"pointer": ""})) from None

    async def _register(self, connection: "asyncpg.pool.PoolConnectionProxy[Any]", claims: Claims) -> None:
        """On first sight, under the token's slug where it is free."""
        id_ = claims.organization_id
        known = (await organizations.register_on_first_sight(connection, [id_]))[id_]
        if not known.enterprise:
            raise not_enterprise(claims)
        if known.slug_is_made and known.slug != claims.slug:
            await organizations.take_slug(connection, id_, claims.slug, SLUG_TAKEN_WITHIN)


async def _write(connection: "asyncpg.pool.PoolConnectionProxy[Any]", claims: Claims, events: Sequence[Event]) -> None:
    async with connection.transaction(isolation="read_committed"):
        await connection.execute(_LOCK_AT_ONCE)
        await connection.execute(_WRITE, claims.organization_id, claims.test, *zip(*events, strict=True))


def not_enterprise(claims: Claims) -> ApiError:
    """403."""
    return ApiError(Fault("NOT_ENTERPRISE", f"The organization {claims.slug!r} is not enterprise."))


def _in_use() -> ApiError:
    return unavailable("Another transaction is publishing one of these publish_ids just now; try again in 5 s.")


PUBLISHING: Final = web.AppKey("PUBLISHING", Publishing)
