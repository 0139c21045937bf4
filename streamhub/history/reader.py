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

from streamhub.core.events import resource_key
from streamhub.core.frames import first_id, last_id
from streamhub.history.ahead import one_ahead
from streamhub.postgres.connections import Pool

PAGE_BYTES: Final = 1_000_000
PAGE_ROWS: Final = 1_500
TIMEOUT: Final = 120.0  # seconds for one page; a rare type in a long window is a long index scan

# The inner ORDER BY is the order in which the aggregates receive their rows (a WindowAgg keeps its input's order).
# PAGE_ROWS stands in the text: with a LIMIT that it does not know, a generic plan would sort the whole window.
_PAGE: Final = """
SELECT string_agg(frame, ''::bytea) FILTER (WHERE bytes_before < ${bound}), \
count(*) FILTER (WHERE bytes_before < ${bound}), count(*), coalesce(bool_or(cut), false)
  FROM (SELECT frame, cut, sum(octet_length(frame)) OVER (ORDER BY id ROWS UNBOUNDED PRECEDING)
               - octet_length(frame) AS bytes_before
          FROM ({scan}) AS scanned) AS measured
"""
_SCAN: Final = """
SELECT id, frame, false AS cut FROM streamhub_hub.history WHERE {conditions} ORDER BY id LIMIT {rows}
"""
# Of each resource the next few, by its own stretch of the index; where one has more of them, the page is cut at the
# last one taken, as what follows of it may come before others. No organization in the conditions: the key is of one,
# and the resource's id is compared, so its index is the only one that fits.
_SCAN_RESOURCES: Final = """
SELECT id, frame, cut IS NOT NULL AS cut
  FROM (SELECT h.id, h.frame, min(h.id::text COLLATE "C") FILTER (WHERE h.nth = {each}) OVER () AS cut
          FROM unnest({keys}::bigint[]) AS wanted (resource_key)
         CROSS JOIN LATERAL (
           SELECT id, frame, row_number() OVER (ORDER BY id) AS nth
             FROM (SELECT id, frame FROM streamhub_hub.history
                    WHERE resource_key = wanted.resource_key AND {conditions} ORDER BY id LIMIT {each}) AS next) AS h
       ) AS found
 WHERE cut IS NULL OR id <= cut::uuid ORDER BY id LIMIT {rows}
"""
LEAST_OF_EACH: Final = 50  # events of one resource in a look; a page of many resources looks at four pages of rows

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
        frames, count, scanned, cut = row
        if not count:
            return Page(b"", 0, None, None, until, complete=True)
        last = last_id(frames)
        complete = count == scanned and scanned < max_rows and not cut
        return Page(frames, count, first_id(frames), last, until if complete else last, complete)

    async def pages(
        self, selection: Selection, after: str, until: str, max_bytes: int = PAGE_BYTES
    ) -> AsyncGenerator[Page, None]:
        """All pages with `after` < id <= `until`. While the caller is busy with one page the next one is read; no more.

        A selection by resource ids is walked from partition to partition, so that each resource is looked for in one
        week at a time.
        """
        ends = [until] if selection.resource_ids is None else await self._ends(after, until)
        async with aclosing(one_ahead(self._one_by_one(selection, after, ends, max_bytes))) as pages:
            async for page in pages:
                yield page

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
    conditions = ["organization + 0 = $1" if selection.resource_ids is not None else "organization = $1"]
    conditions += ["id > $2", "id <= $3"]
    arguments: list[object] = [selection.organization, after, until]

    def add(argument: object) -> str:
        arguments.append(argument)
        return f"${len(arguments)}"

    if selection.test is not None:
        conditions.append(f"test = {add(selection.test)}")
    if selection.resource_type is not None:
        conditions.append(f"resource_type = {add(selection.resource_type)}")
    if selection.resource_ids is None:
        scan = _SCAN.format(conditions=" AND ".join(conditions), rows=max_rows)
    else:
        resource_type = selection.resource_type
        assert resource_type is not None, "resource ids are ids of a type"
        wanted = list(dict.fromkeys(selection.resource_ids))
        keys = add([resource_key(selection.organization, resource_type, each) for each in wanted])
        conditions.append(f"resource_id = ANY ({add(wanted)}::text[])")
        each = min(max_rows, max(LEAST_OF_EACH, 4 * max_rows // max(1, len(wanted))))
        scan = _SCAN_RESOURCES.format(conditions=" AND ".join(conditions), rows=max_rows, each=each, keys=keys)
    return _PAGE.format(bound=add(max_bytes)[1:], scan=scan), arguments
