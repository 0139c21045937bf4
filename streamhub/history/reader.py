"""History, read in pages of whole frames that PostgreSQL has joined.

A page is one row with one bytea: a Record per event would cost Python ten times what the whole page does. It is
bounded by rows and by bytes, whatever the size of an event: `octet_length` of a stored bytea reads no TOAST table,
so frames beyond the bound are never fetched.
"""

import asyncio
import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Final, NamedTuple

from streamhub.core import sse
from streamhub.core.events import resource_key
from streamhub.database import Pool

PAGE_BYTES: Final = 1_000_000
PAGE_ROWS: Final = 1_500
TIMEOUT: Final = 120.0  # seconds for one page; a rare type in a long window is a long index scan

# The inner ORDER BY is the order in which the aggregates receive their rows (a WindowAgg keeps its input's order).
# PAGE_ROWS stands in the text: with a LIMIT that it does not know, a generic plan would sort the whole window.
_PAGE: Final = """
SELECT string_agg(frame, ''::bytea) FILTER (WHERE bytes_before < ${bound}), \
count(*) FILTER (WHERE bytes_before < ${bound}), count(*)
  FROM (SELECT frame, sum(octet_length(frame)) OVER (ORDER BY id ROWS UNBOUNDED PRECEDING)
               - octet_length(frame) AS bytes_before
          FROM (SELECT id, frame FROM streamhub_hub.history
                 WHERE {conditions} ORDER BY id LIMIT {rows}) AS scanned) AS measured
"""

_PARTITION_BOUNDS: Final = """
SELECT pg_get_expr(c.relpartbound, c.oid) FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
 WHERE i.inhparent = 'streamhub_hub.history'::regclass
"""
_BOUND: Final = re.compile(r"'([0-9a-f-]{36})'")


class Selection(NamedTuple):
    """Which events: of one organization (the registry's key), and of one environment, type, set of resources."""

    organization: int
    test: bool | None = None
    resource_type: str | None = None
    resource_ids: Sequence[str] | None = None


class Page(NamedTuple):
    """Whole frames in id order. `read_to` is the id up to which nothing is left to read; `complete`: nothing more
    was there up to the end asked for, and `read_to` is that end."""

    frames: bytes
    events: int
    first_id: str | None
    last_id: str | None
    read_to: str
    complete: bool


class Reader:
    """Reads pages through a pool, at most `slots` at a time, so that readers never starve the pool's other users."""

    def __init__(self, pool: Pool, slots: int = 2) -> None:
        self._pool = pool
        self._slots = asyncio.Semaphore(slots)

    async def page(
        self, selection: Selection, after: str, until: str, max_bytes: int = PAGE_BYTES, max_rows: int = PAGE_ROWS
    ) -> Page:
        """The next frames with `after` < id <= `until`: at most `max_rows`, and no further one once there are
        `max_bytes`. Raises what asyncpg raises, TimeoutError too."""
        if after >= until:
            return Page(b"", 0, None, None, until, complete=True)
        query, arguments = _page_query(selection, after, until, max_bytes, max_rows)
        async with self._slots:
            row = await self._pool.fetchrow(query, *arguments, timeout=TIMEOUT)
        assert row is not None
        frames, count, scanned = row
        if not count:
            return Page(b"", 0, None, None, until, complete=True)
        last = sse.last_id(frames)
        complete = count == scanned and scanned < max_rows
        return Page(frames, count, sse.first_id(frames), last, until if complete else last, complete)

    async def pages(
        self, selection: Selection, after: str, until: str, max_bytes: int = PAGE_BYTES
    ) -> AsyncGenerator[Page, None]:
        """All pages with `after` < id <= `until`. While the caller is busy with one page the next one is read; no more.

        A selection by resource ids is walked from partition to partition, so that what PostgreSQL has to sort is
        what one week holds of these resources.
        """
        ends = [until] if selection.resource_ids is None else await self._ends(after, until)
        async with aclosing(self._one_by_one(selection, after, ends, max_bytes)) as pages:

            async def following() -> Page | None:
                return await anext(pages, None)

            coming = asyncio.create_task(following())
            try:
                while (page := await coming) is not None:
                    coming = asyncio.create_task(following())
                    yield page
            finally:
                coming.cancel()
                await asyncio.gather(coming, return_exceptions=True)

    async def _one_by_one(
        self, selection: Selection, after: str, ends: Sequence[str], max_bytes: int
    ) -> AsyncGenerator[Page, None]:
        for end in ends:
            complete = after >= end
            while not complete:
                page = await self.page(selection, after, end, max_bytes)
                after, complete = page.read_to, page.complete
                yield page

    async def _ends(self, after: str, until: str) -> list[str]:
        """Where to cut (after, until] so that each piece lies in one partition, or outside them all."""
        async with self._slots:
            expressions = await self._pool.fetch(_PARTITION_BOUNDS, timeout=TIMEOUT)
        bounds = {bound for (text,) in expressions for bound in _BOUND.findall(text or "")}
        return [*sorted(bound for bound in bounds if after < bound < until), until]


def _page_query(
    selection: Selection, after: str, until: str, max_bytes: int, max_rows: int
) -> tuple[str, list[object]]:
    conditions = ["organization = $1", "id > $2", "id <= $3"]
    arguments: list[object] = [selection.organization, after, until]

    def add(condition: str, argument: object) -> None:
        arguments.append(argument)
        conditions.append(condition.format(f"${len(arguments)}"))

    if selection.test is not None:
        add("test = {}", selection.test)
    if selection.resource_type is not None:
        add("resource_type = {}", selection.resource_type)
    if selection.resource_ids is not None:
        resource_type = selection.resource_type
        assert resource_type is not None, "resource ids are ids of a type"
        keys = [resource_key(selection.organization, resource_type, each) for each in selection.resource_ids]
        add("resource_key = ANY ({}::bigint[])", keys)
        add("resource_id = ANY ({}::text[])", list(selection.resource_ids))
    arguments.append(max_bytes)
    return _PAGE.format(bound=len(arguments), conditions=" AND ".join(conditions), rows=max_rows), arguments
