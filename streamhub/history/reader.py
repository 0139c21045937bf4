"""History, read in pages of whole frames that PostgreSQL has joined.

A page is one row with one bytea: a Record per event would cost Python ten times what the whole page does. It is
bounded by rows and by bytes, whatever the size of an event: `octet_length` of a stored bytea reads no TOAST table,
so frames beyond the bound are never fetched. Adding the sizes up takes PostgreSQL as long as all the rest, so a walk
whose frames are small asks for so many rows as were about a page before, each of them no larger than SMALL. Such a
page has at most three times its bound in bytes.
"""

import asyncio
import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Final, NamedTuple

import asyncpg

from streamhub.core.events import resource_key
from streamhub.core.frames import first_id, last_id
from streamhub.history.ahead import one_ahead
from streamhub.postgres.connections import Pool

PAGE_BYTES: Final = 1_000_000
PAGE_ROWS: Final = 1_500
SMALL: Final = 2_000  # bytes of a frame that is joined without a look at the others
LEAST_ROWS: Final = PAGE_ROWS // 32
TIMEOUT: Final = 120.0  # seconds for one page; a rare type in a long window is a long index scan

# The inner ORDER BY is the order in which the aggregates receive their rows (a WindowAgg keeps its input's order).
# PAGE_ROWS stands in the text: with a LIMIT that it does not know, a generic plan would sort the whole window.
_PAGE: Final = """
SELECT string_agg(frame, ''::bytea) FILTER (WHERE bytes_before < ${bound}) AS frames,
       count(*) FILTER (WHERE bytes_before < ${bound}) AS events,
       count(*) AS scanned, coalesce(bool_or(cut), false) AS cut, max(octet_length(frame)) AS largest
  FROM (SELECT frame, cut, sum(octet_length(frame)) OVER (ORDER BY id ROWS UNBOUNDED PRECEDING)
               - octet_length(frame) AS bytes_before
          FROM ({scan}) AS scanned) AS measured
"""
_PAGE_OF_SMALL: Final = f"""
SELECT string_agg(frame, ''::bytea) FILTER (WHERE octet_length(frame) <= {SMALL}) AS frames, count(*) AS events,
       count(*) AS scanned, false AS cut, max(octet_length(frame)) AS largest
  FROM ({{scan}}) AS scanned
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


class _Look(NamedTuple):
    """A page, and the bytes of the largest frame that was looked at."""

    page: Page
    largest: int


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
        return (await self._measured(selection, after, until, max_bytes, max_rows)).page

    async def _measured(self, selection: Selection, after: str, until: str, max_bytes: int, max_rows: int) -> _Look:
        query, arguments = _page_query(selection, after, until, max_bytes, max_rows)
        return _look(await self._fetch(query, arguments), until, max_rows)

    async def _small(self, selection: Selection, after: str, until: str, max_rows: int) -> _Look | None:
        """None where a frame is not small."""
        query, arguments = _small_query(selection, after, until, max_rows)
        row = await self._fetch(query, arguments)
        return None if (row["largest"] or 0) > SMALL else _look(row, until, max_rows)

    async def _fetch(self, query: str, arguments: Sequence[object]) -> asyncpg.Record:
        async with self._slots:
            row = await self._pool.fetchrow(query, *arguments, timeout=TIMEOUT)
        assert row is not None, "a statement that gives one row"
        return row

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
        rows = 0  # that may be expected to be a page of small frames; 0 where that is not known
        for end in ends:
            complete = after >= end
            while not complete:
                look = await self._small(selection, after, end, rows) if rows else None
                look = look or await self._measured(selection, after, end, max_bytes, PAGE_ROWS)
                rows = _rows_of(look, max_bytes) if selection.resource_ids is None else 0
                after, complete = look.page.read_to, look.page.complete
                yield look.page

    async def _ends(self, after: str, until: str) -> list[str]:
        """Where to cut (after, until] so that each piece lies in one partition, or outside them all."""
        async with self._slots:
            expressions = await self._pool.fetch(_PARTITION_BOUNDS, timeout=TIMEOUT)
        bounds = {bound for (text,) in expressions for bound in _BOUND.findall(text or "")}
        return [*sorted(bound for bound in bounds if after < bound < until), until]


def _look(row: asyncpg.Record, until: str, max_rows: int) -> _Look:
    frames, events, scanned, cut, largest = row
    if not events:
        return _Look(Page(b"", 0, None, None, until, complete=True), 0)
    last = last_id(frames)
    complete = events == scanned and scanned < max_rows and not cut
    return _Look(Page(frames, events, first_id(frames), last, until if complete else last, complete), largest)


def _rows_of(look: _Look, max_bytes: int) -> int:
    """How many rows the next page of small frames may have: of a few numbers, as each is a statement of its own."""
    if not look.page.events or look.largest > SMALL:
        return 0
    rows = PAGE_ROWS
    while rows * len(look.page.frames) > max_bytes * look.page.events or rows * SMALL > 3 * max_bytes:
        rows //= 2
    return rows if rows >= LEAST_ROWS else 0


def _small_query(selection: Selection, after: str, until: str, rows: int) -> tuple[str, list[object]]:
    conditions, arguments = _conditions(selection, after, until)
    return _PAGE_OF_SMALL.format(scan=_SCAN.format(conditions=" AND ".join(conditions), rows=rows)), arguments


def _page_query(
    selection: Selection, after: str, until: str, max_bytes: int, max_rows: int
) -> tuple[str, list[object]]:
    conditions, arguments = _conditions(selection, after, until)

    def add(argument: object) -> str:
        arguments.append(argument)
        return f"${len(arguments)}"

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


def _conditions(selection: Selection, after: str, until: str) -> tuple[list[str], list[object]]:
    """Of all but the resource ids, and their arguments."""
    conditions = ["organization + 0 = $1" if selection.resource_ids is not None else "organization = $1"]
    conditions += ["id > $2", "id <= $3"]
    arguments: list[object] = [selection.organization, after, until]
    if selection.test is not None:
        arguments.append(selection.test)
        conditions.append(f"test = ${len(arguments)}")
    if selection.resource_type is not None:
        arguments.append(selection.resource_type)
        conditions.append(f"resource_type = ${len(arguments)}")
    return conditions, arguments
