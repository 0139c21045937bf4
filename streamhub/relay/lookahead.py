"""The order of a transaction's changes where a read of the outbox cuts it: what must come first may stand further on.

Within a read, `core/ordering.py` moves the maker of a row version up to before the change that replaced it. Where the
outbox holds more than one read, the maker may be beyond its end. `chained` tells which changes replaced a version of
their own transaction, or of another one with a higher id; most of their makers are in the same read or were consumed
shortly before. For the rest one look at the whole outbox is made. It is good for every transaction that it saw, so
that looks, which cost as much as the outbox is long, come once in as many changes.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from operator import itemgetter
from typing import Any, Final, NamedTuple, TypeAlias

import asyncpg

from streamhub.core.changes import FIELDS, Origin
from streamhub.core.ordering import Version, by_version_chain

MOST_LATE: Final = 100_000  # pairs that one look keeps
MOST_REMEMBERED: Final = 100_000  # row versions
_EVER: Final = 2**63

Row: TypeAlias = Sequence[Any]  # the values of a Change, then old_ctid and new_ctid
Place: TypeAlias = tuple[int, int, tuple[int, int]]  # relation, file node, ctid: of a row version

SEQ, XID, ORIGIN, CHAINED = (FIELDS.index(name) for name in ("seq", "xid", "origin", "chained"))
OLD_CTID, NEW_CTID = len(FIELDS), len(FIELDS) + 1
_chained = itemgetter(CHAINED)
_making = itemgetter(ORIGIN, NEW_CTID, XID)

_SNAPSHOT: Final = "SELECT pg_current_snapshot()"
# The outbox's statistics are those of a nearly empty table; nested loops over a long one would not end.
_PLAN: Final = (
    "SET LOCAL enable_nestloop = off; SET LOCAL enable_mergejoin = off; SET LOCAL enable_seqscan = on; "
    "SET LOCAL work_mem = '32MB'"
)
_MAKERS: Final = """
SELECT after.seq, before.seq AS maker, coalesce(octet_length(before.old_row), 0)
       + coalesce(octet_length(before.new_row), 0) + coalesce(octet_length(before.who), 0) AS octets
FROM streamhub.outbox AS after
JOIN streamhub.outbox AS before ON before.new_ctid = after.old_ctid AND before.xid = after.xid
 AND split_part(before.origin, ':', 2) = split_part(after.origin, ':', 2)  -- the relation
 AND split_part(before.origin, ':', 3) = split_part(after.origin, ':', 3)  -- its file node
WHERE after.chained AND after.seq >= $1 AND before.seq > $1 AND {condition}
ORDER BY after.seq LIMIT $2
"""
_LATE: Final = _MAKERS.format(condition="before.seq > after.seq")
_FURTHER: Final = _MAKERS.format(condition="after.seq = ANY($3::bigint[])")


class Look(NamedTuple):
    """What one look at the outbox found: for changes from `since` to `until`, of the transactions in its snapshot, the
    maker of the version that a change replaced, where that comes later; and how many bytes each maker has."""

    xmax: int
    running: frozenset[int]
    since: int
    until: int
    makers: dict[int, int]
    octets: dict[int, int]

    def covers(self, row: Row) -> bool:
        """No maker of this change is later that is not told here."""
        seen = row[XID] < self.xmax and row[XID] not in self.running
        return seen and self.since <= row[SEQ] <= self.until


class Remembered:
    """Who made the row versions of recent reads: put down as they come, and sorted once that is asked for."""

    def __init__(self) -> None:
        self._reads: deque[Sequence[tuple[str, tuple[int, int] | None, int]]] = deque()
        self._unsorted = 0
        self._makers: dict[Place, int] = {}

    def add(self, rows: Iterable[Row]) -> None:
        read = [*map(_making, rows)]
        self._reads.append(read)
        self._unsorted += len(read)
        while self._unsorted > MOST_REMEMBERED:
            self._unsorted -= len(self._reads.popleft())

    def clear(self) -> None:
        self._reads.clear()
        self._unsorted = 0
        self._makers.clear()

    def maker(self, place: Place) -> int | None:
        """The id of the last transaction that made this version."""
        while self._reads:
            for origin, ctid, xid in self._reads.popleft():
                if ctid is not None:
                    its = Origin.of(origin)
                    self._makers[its.relation, its.filenode, ctid] = xid
        self._unsorted = 0
        while len(self._makers) > MOST_REMEMBERED:
            del self._makers[next(iter(self._makers))]
        return self._makers.get(place)


class Lookahead:
    """Over the connection on which the outbox is read. A read has at most `most` rows and about `most_bytes`."""

    def __init__(self, connection: "asyncpg.Connection[Any]", most: int, most_bytes: int) -> None:
        self._connection = connection
        self._most = most
        self._most_bytes = most_bytes
        self._remembered = Remembered()
        self._look: Look | None = None

    def consumed(self, rows: Sequence[Row], cut: bool) -> None:
        """What a read gave in the end, none where it held nothing to look at. Where it was not `cut`, it had its
        transactions whole."""
        if cut and rows:
            self._remembered.add(rows)
        elif not cut:
            self._remembered.clear()
            self._look = None

    async def wanted(self, rows: Sequence[Row]) -> tuple[Sequence[Row], list[int]]:
        """Of a read that was cut: the rows that it may give, and the numbers of those that must come along with them,
        since they made what these replaced. The rows are fewer where too many would come along."""
        while open_ended := self._open_ended(rows):
            if not self._covered(open_ended):
                self._look = await self._looked(rows[0][SEQ])
            numbers = self._late(rows, self._look) if self._covered(open_ended) else None
            if numbers is not None:
                return rows, numbers
            rows = rows[: (len(rows) + 1) // 2]
        return rows, []

    def _covered(self, rows: Iterable[Row]) -> bool:
        return self._look is not None and all(map(self._look.covers, rows))

    def ordered(self, rows: Sequence[Row]) -> Sequence[Row]:
        """The rows, each behind the one that made the version which it replaced."""
        nested = {row[XID] for row in filter(_chained, rows)}
        inside = [i for i, row in enumerate(rows) if row[XID] in nested]
        result = [*rows]
        for i, row in zip(inside, by_version_chain([rows[i] for i in inside], self._version), strict=True):
            result[i] = row
        return result

    def _version(self, row: Row) -> Version:
        origin = Origin.of(row[ORIGIN])
        return Version((origin.relation, origin.filenode, row[XID]), row[OLD_CTID], row[NEW_CTID])

    def _open_ended(self, rows: Sequence[Row]) -> list[Row]:
        """The changes whose maker may be further on. It is not where the version was made in this read, or before it
        by the same transaction, which uses no place twice, or by one with a higher id: nothing that such a one made is
        removed, and its place used again, before this one has ended."""
        made: dict[Place, int] = {}
        for row in rows:
            if row[NEW_CTID] is not None:
                origin = Origin.of(row[ORIGIN])
                place = (origin.relation, origin.filenode, row[NEW_CTID])
                made[place] = max(row[XID], made.get(place, 0))
        open_ended = []
        for row in filter(_chained, rows):
            origin = Origin.of(row[ORIGIN])
            place = (origin.relation, origin.filenode, row[OLD_CTID])
            if made.get(place, 0) < row[XID] and (self._remembered.maker(place) or 0) < row[XID]:
                open_ended.append(row)
        return open_ended

    def _late(self, rows: Sequence[Row], look: Look | None) -> list[int] | None:
        """The numbers of what must come along; None where that is too much for one read."""
        assert look is not None
        last = rows[-1][SEQ]
        numbers: dict[int, None] = {}
        octets = 0
        for row in rows:
            maker = look.makers.get(row[SEQ])
            while maker is not None and maker > last and maker not in numbers:
                numbers[maker] = None
                octets += look.octets[maker]
                maker = look.makers.get(maker)
            if len(rows) > 1 and (len(numbers) > self._most or octets > self._most_bytes):
                return None
        return list(numbers)

    async def _looked(self, since: int) -> Look:
        _, xmax, running = await self._connection.fetchval(_SNAPSHOT)
        async with self._connection.transaction():
            await self._connection.execute(_PLAN)
            found = await self._connection.fetch(_LATE, since, MOST_LATE)
            until = found[-1]["seq"] if len(found) == MOST_LATE else _EVER
            makers: dict[int, int] = {}
            octets: dict[int, int] = {}
            asked: set[int] = set()
            while found:
                for seq, maker, its_octets in found:
                    makers[seq] = maker
                    octets[maker] = its_octets
                # What made the version that a late one replaced may stand before it, and still further on than a read.
                further = octets.keys() - makers.keys() - asked
                asked |= further
                found = await self._connection.fetch(_FURTHER, since, MOST_LATE, further) if further else []
        return Look(xmax, frozenset(running), since, until, makers, octets)
