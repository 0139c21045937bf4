"""An organization's place in the hub: its key in the registry, with the hub's `now` from the same read."""

import asyncio
import logging
from collections.abc import Sequence
from typing import Final, NamedTuple

from streamhub import organizations
from streamhub.backoff import rest
from streamhub.cancellation import ended
from streamhub.core import ids
from streamhub.history.head import HEAD, head_of
from streamhub.organizations import ORGANIZATIONS
from streamhub.postgres.connections import Pool
from streamhub.postgres.together import Together
from streamhub.web.auth import Claims
from streamhub.web.scopes import mismatch

log = logging.getLogger(__name__)

TIMEOUT: Final = 5.0  # seconds
LOOK_EVERY: Final = 0.5  # seconds

_FIND: Final = f"""
SELECT o.id, o.key, o.slug, o.slug_is_made, o.enterprise, h.last_ms, h.last_counter, clock_timestamp() AS clock
  FROM ({HEAD}) h LEFT JOIN ({ORGANIZATIONS}) o ON o.id = ANY ($1::text[])
"""


class Place(NamedTuple):
    """`key` and `enterprise` are None for an organization not registered yet. `now_ms`: the later of the hub's clock,
    rounded up to a millisecond, and the time of the last id given. `head`: the last id given."""

    key: int | None
    enterprise: bool | None
    now_ms: int
    head: str


class Found(NamedTuple):
    """What the registry knows of an organization, and where the hub is; `slug` is None where it is not registered."""

    slug: str | None
    slug_is_made: bool
    place: Place


class Finder:
    """Looks organizations up, those of many requests at once."""

    def __init__(self, pool: Pool, own_statements: asyncio.Semaphore) -> None:
        """`own_statements` bounds the connections of requests that need one each."""
        self._pool = pool
        self._own_statements = own_statements
        self._together: Together[str, Found] = Together(self._find, "organizations of requests")

    async def find(self, organization_id: str) -> Found:
        """Raises TimeoutError after TIMEOUT in all: where the database is gone, the statement under way takes as long,
        and a request must not wait for that and then for its own."""
        async with asyncio.timeout(TIMEOUT):
            return await self._together.answer(organization_id)

    async def rename(self, organization_id: str, slug: str) -> None:
        """A slug that was made gives way to a token's, unless another organization has that."""
        async with self._own_statements:
            await organizations.take_slug(self._pool, organization_id, slug, TIMEOUT)

    async def stop(self) -> None:
        await self._together.stop()

    async def _find(self, organization_ids: Sequence[str]) -> list[Found]:
        rows = await self._pool.fetch(_FIND, organization_ids, timeout=TIMEOUT)
        assert rows, "log_head has a row from the migration on"
        known = {row["id"]: row for row in rows}
        head = head_of(rows[0])
        now_ms = max(ids.ceil_ms(rows[0]["clock"]), rows[0]["last_ms"])
        unknown = Found(None, False, Place(None, None, now_ms, head))

        def found(organization_id: str) -> Found:
            row = known.get(organization_id)
            if row is None:
                return unknown
            return Found(row["slug"], row["slug_is_made"], Place(row["key"], row["enterprise"], now_ms, head))

        return [*map(found, organization_ids)]


async def find(finder: Finder, claims: Claims) -> Place:
    """Raises ApiError (403) where the registry knows the organization by another slug, set by hand."""
    found = await finder.find(claims.organization_id)
    if found.slug is not None and found.slug != claims.slug:
        if not found.slug_is_made:
            raise mismatch(
                f"The organization {claims.organization_id[:100]!r} is registered under the slug {found.slug!r}, "
                f"not {claims.slug!r}."
            )
        await finder.rename(claims.organization_id, claims.slug)
    return found.place


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
                found = await organizations.keys_of(self._pool, list(self._waiting), TIMEOUT)
                for organization_id, key in found.items():
                    for future in self._waiting.pop(organization_id, ()):
                        if not future.done():
                            future.set_result(key)
            except Exception as error:  # noqa: BLE001 - whatever it is, streams wait for the next look
                log.warning("the organizations cannot be read, retrying in %g s: %r", LOOK_EVERY, error)
            await rest(LOOK_EVERY)

    async def stop(self) -> None:
        await ended(self._task)
