"""The hub's view of who asks: the organization of a token in the registry, with the hub's `now` from the same read."""

import asyncio
import contextlib
import logging
from typing import Final, NamedTuple

import asyncpg

from streamhub.core import ids
from streamhub.postgres.connections import Pool
from streamhub.web.auth import Claims, mismatch

log = logging.getLogger(__name__)

TIMEOUT: Final = 5.0  # seconds
LOOK_EVERY: Final = 0.5  # seconds

_FIND: Final = """
SELECT o.key, o.slug, o.slug_is_made, h.last_ms, h.last_counter, clock_timestamp() AS clock
  FROM streamhub_hub.log_head h LEFT JOIN streamhub_hub.organizations o ON o.id = $1
"""
_RENAME: Final = """
UPDATE streamhub_hub.organizations SET slug = $2, slug_is_made = false
 WHERE id = $1 AND slug_is_made AND NOT EXISTS (SELECT FROM streamhub_hub.organizations WHERE slug = $2)
"""
_KEYS: Final = "SELECT id, key FROM streamhub_hub.organizations WHERE id = ANY ($1::text[])"


class Place(NamedTuple):
    """`key` is None for an organization not registered yet. `now_ms`: the later of the hub's clock, rounded up to a
    millisecond, and the time of the last id given. `head`: the last id given."""

    key: int | None
    now_ms: int
    head: str


async def find(pool: Pool, claims: Claims) -> Place:
    """Raises ApiError (403) where the registry knows the organization by another slug, set by hand."""
    row = await pool.fetchrow(_FIND, claims.organization_id, timeout=TIMEOUT)
    assert row is not None, "log_head has a row from the migration on"
    if row["key"] is not None and row["slug"] != claims.slug:
        if not row["slug_is_made"]:
            raise mismatch(
                f"The organization {claims.organization_id[:100]!r} is registered under the slug {row['slug']!r}, "
                f"not {claims.slug!r}."
            )
        with contextlib.suppress(asyncpg.UniqueViolationError):
            await pool.execute(_RENAME, claims.organization_id, claims.slug, timeout=TIMEOUT)
    now_ms = max(ids.ceil_ms(row["clock"]), row["last_ms"])
    return Place(row["key"], now_ms, ids.event_id(row["last_ms"], row["last_counter"]))


class Registrations:
    """Streams of organizations that are not registered yet wait here; one look a while for all of them."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._waiting: dict[str, set[asyncio.Future[int]]] = {}
        self._task: asyncio.Task[None] | None = None

    async def key_of(self, organization_id: str) -> int:
        """Wait until it is registered."""
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(organization_id, set()).add(future)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._look(), name="registrations")
        try:
            return await future
        finally:
            # A stream that ends leaves the one that comes after it waiting.
            others = self._waiting.get(organization_id)
            if others is not None:
                others.discard(future)
                if not others:
                    del self._waiting[organization_id]

    async def _look(self) -> None:
        while self._waiting:
            try:
                for organization_id, key in await self._pool.fetch(_KEYS, list(self._waiting), timeout=TIMEOUT):
                    for future in self._waiting.pop(organization_id, ()):
                        if not future.done():
                            future.set_result(key)
            except Exception as error:  # noqa: BLE001 - whatever it is, streams wait for the next look
                log.warning("the registry cannot be read just now: %r", error)
            await asyncio.sleep(LOOK_EVERY)

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
