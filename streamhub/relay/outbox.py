"""Reading an outbox in order, and deleting from it exactly what was read.

A poll gives every visible row above the floor that is not in hand, in the order of sequence numbers: never "all after
the last one", because a transaction may commit after others with higher numbers.
"""

from collections.abc import Iterable, Sequence
from operator import itemgetter
from typing import Any, Final, NamedTuple

import asyncpg

from streamhub.core.changes import Change, Origin
from streamhub.core.floor import Floor, Marks
from streamhub.core.ordering import Version, by_version_chain

MOST_BYTES: Final = 32 * 1024 * 1024  # of row texts in one read, unless a single change has more
# Bytes of a text that is read without adding up sizes, which makes a read twice as dear: two in each of the relay's
# 2,000 rows are less than MOST_BYTES.
SMALL: Final = 8_000
MOST_RANGES: Final = 64  # of numbers in hand while the next rows are read

_HEADER: Final = "seq, xid, created_at, origin, chained, who"
_COLUMNS: Final = f"{_HEADER}, old_row, new_row"

# octet_length of a stored text reads its length alone, so what is left out is never fetched.
_READ_SMALL: Final = f"""
SELECT {_HEADER},
       CASE WHEN octet_length(old_row) <= {SMALL} THEN old_row WHEN old_row IS NOT NULL THEN '' END,
       CASE WHEN octet_length(new_row) <= {SMALL} THEN new_row WHEN new_row IS NOT NULL THEN '' END
FROM streamhub.outbox WHERE seq > $1 {{condition}} ORDER BY seq LIMIT $2
"""
_READ_LARGE: Final = f"""
SELECT {_COLUMNS} FROM (
  SELECT *, sum(coalesce(octet_length(old_row), 0) + coalesce(octet_length(new_row), 0))
            OVER (ORDER BY seq ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS bytes_before
  FROM (SELECT * FROM streamhub.outbox WHERE seq > $1 {{condition}} ORDER BY seq LIMIT $2) AS first_rows
) AS summed
WHERE coalesce(bytes_before, 0) <= {MOST_BYTES}
ORDER BY seq
"""
_NOT_IN_HAND: Final = """
AND NOT EXISTS (SELECT FROM unnest($3::bigint[], $4::bigint[]) AS hand (low, high)
                WHERE seq BETWEEN hand.low AND hand.high)
"""
_MARKS: Final = """
SELECT CASE WHEN is_called THEN last_value ELSE last_value - 1 END AS last_value,
       pg_snapshot_xmin(snapshot) AS xmin, CASE WHEN $1 THEN pg_current_xact_id() END AS own
FROM streamhub.outbox_seq_seq, pg_current_snapshot() AS snapshot
"""
# Changes of one transaction whose row version was made by a change with a higher number.
_PREDECESSORS: Final = """
SELECT after.xid, after.seq AS successor, before.seq AS predecessor FROM streamhub.outbox AS after
JOIN streamhub.outbox AS before ON before.new_ctid = after.old_ctid AND before.xid = after.xid
 AND split_part(before.origin, ':', 2) = split_part(after.origin, ':', 2)  -- the relation
 AND split_part(before.origin, ':', 3) = split_part(after.origin, ':', 3)  -- its file node
WHERE after.xid = ANY($1::xid8[]) AND before.xid = ANY($1::xid8[]) AND after.seq > $2 AND before.seq > $2
  AND {condition}
ORDER BY after.seq LIMIT $3
"""
_LATE_PREDECESSORS: Final = _PREDECESSORS.format(condition="before.seq > after.seq")
_FURTHER_PREDECESSORS: Final = _PREDECESSORS.format(condition="after.seq = ANY($4::bigint[])")
_VERSIONS: Final = "SELECT seq, old_ctid, new_ctid FROM streamhub.outbox WHERE seq = ANY($1::bigint[])"
MOST_LATE: Final = 100_000
_EVER: Final = 2**63
_DELETE: Final = """
DELETE FROM streamhub.outbox USING unnest($1::bigint[], $2::bigint[]) AS hand (low, high)
WHERE seq BETWEEN hand.low AND hand.high
"""


_chained, _old_row, _new_row = (itemgetter(Change._fields.index(name)) for name in ("chained", "old_row", "new_row"))
_MICROSECONDS_TO_2000: Final = 946_684_800_000_000  # from 1970: PostgreSQL counts from 2000


async def read_times_as_integers(connection: "asyncpg.Connection[Any]") -> None:
    """From now on a timestamptz comes as microseconds of the Unix epoch, which is cheaper than a datetime."""
    await connection.set_type_codec(
        "timestamptz",
        schema="pg_catalog",
        encoder=lambda microseconds: (microseconds - _MICROSECONDS_TO_2000,),
        decoder=lambda fields: fields[0] + _MICROSECONDS_TO_2000,
        format="tuple",
    )


class LostRowsError(Exception):
    """The outbox no longer had all that was read from it: somebody else consumes it."""


class Ranges(NamedTuple):
    """Runs of successive sequence numbers, both ends included."""

    low: Sequence[int]
    high: Sequence[int]

    @classmethod
    def of(cls, numbers: Iterable[int]) -> "Ranges":
        low: list[int] = []
        high: list[int] = []
        for number in sorted(numbers):
            if high and number == high[-1] + 1:
                high[-1] = number
            else:
                low.append(number)
                high.append(number)
        return cls(low, high)

    @classmethod
    def joined(cls, parts: Iterable["Ranges"]) -> "Ranges":
        low: list[int] = []
        high: list[int] = []
        for part in parts:
            low += part.low
            high += part.high
        return cls(low, high)


class Outbox:
    """The outbox of one source, read over one connection. `most` bounds the rows of a read."""

    def __init__(self, connection: "asyncpg.Connection[Any]", most: int) -> None:
        self._connection = connection
        self._most = most
        self._floor = Floor()
        self._late: dict[int, _Late] = {}
        self._large = False  # the last read held a text that was not small, so the next one may as well

    @property
    def floor(self) -> int:
        return self._floor.value

    async def read(self, in_hand: Ranges | None = None) -> tuple[list[Change], bool]:
        """(the next changes in order, whether there may be more of them). `in_hand`: read before, not yet deleted."""
        rows = [] if self._large else await self._fetch(_READ_SMALL, in_hand)
        more = len(rows) == self._most
        if self._large or "" in map(_old_row, rows) or "" in map(_new_row, rows):
            rows.clear()
            rows = await self._fetch(_READ_LARGE, in_hand)
            lengths = [len(text) for row in rows for text in (_old_row(row), _new_row(row)) if text is not None]
            # A character has four bytes at most.
            more = len(rows) == self._most or sum(lengths) > MOST_BYTES // 5
            self._large = max(lengths, default=0) > SMALL // 4
        changes = [*map(Change._make, rows)]
        if any(map(_chained, rows)):
            changes = await self._in_order_of_versions(changes, more)
        return changes, more

    async def _fetch(self, query: str, in_hand: Ranges | None) -> "list[asyncpg.Record]":
        query = query.format(condition="" if in_hand is None else _NOT_IN_HAND)
        return await self._connection.fetch(query, self._floor.value, self._most, *(in_hand or ()))

    async def observe(self) -> None:
        """Note how far the sequence is and who is still writing; call it before a read."""
        marks = await self._connection.fetchrow(_MARKS, self._floor.wants_id)
        self._floor.observe(Marks(*marks))  # type: ignore[misc]

    def drained(self) -> None:
        """All that the last full read gave is consumed."""
        self._floor.drained()

    async def _in_order_of_versions(self, changes: list[Change], cut: bool) -> list[Change]:
        nested = {change.xid for change in changes if change.chained}
        versions = await self._versions([change for change in changes if change.xid in nested])
        if cut:
            # Only a transaction that replaced a version made outside of this read can have its maker further on.
            made = {(version.place, version.new) for version in versions.values()}
            open_ended = {
                change.xid
                for change in changes
                if change.chained and (versions[change.seq].place, versions[change.seq].old) not in made
            }
            if late := await self._late_predecessors(changes, open_ended):
                versions |= await self._versions(late)
                changes = [*changes, *late]
        inside = [i for i, change in enumerate(changes) if change.xid in nested]
        chained = by_version_chain([changes[i] for i in inside], lambda change: versions[change.seq])
        for i, change in zip(inside, chained, strict=True):
            changes[i] = change
        return changes

    async def _versions(self, changes: Sequence[Change]) -> dict[int, Version]:
        """By sequence number. Few transactions need them, so they are not read with the rest."""
        rows = await self._connection.fetch(_VERSIONS, [change.seq for change in changes])
        ctids = {row["seq"]: (row["old_ctid"], row["new_ctid"]) for row in rows}
        versions = {}
        for change in changes:
            origin = Origin.of(change.origin)
            versions[change.seq] = Version((origin.relation, origin.filenode, change.xid), *ctids[change.seq])
        return versions

    async def _late_predecessors(self, changes: list[Change], nested: set[int]) -> list[Change]:
        """The changes further on that made a row version which one of these replaced."""
        last = changes[-1].seq
        present = {change.seq for change in changes}
        unseen = [xid for xid in nested if xid not in self._late or self._late[xid].until < last]
        if unseen:
            await self._read_late(unseen, changes[0].seq - 1)
        wanted: set[int] = set()
        for xid in nested:
            predecessors = self._late[xid].predecessors
            for seq in present & predecessors.keys():
                predecessor = predecessors.get(seq)
                while predecessor is not None and predecessor > last and predecessor not in wanted:
                    wanted.add(predecessor)
                    predecessor = predecessors.get(predecessor)
        for xid in list(self._late):
            if xid not in nested and len(self._late) > 100:
                del self._late[xid]
        if not wanted:
            return []
        rows = await self._connection.fetch(
            f"SELECT {_COLUMNS} FROM streamhub.outbox WHERE seq = ANY($1::bigint[]) ORDER BY seq", list(wanted)
        )
        return [Change._make(row) for row in rows]

    async def _read_late(self, xids: Sequence[int], after: int) -> None:
        """Look at the rest of transactions: once, unless more of one is out of order than is kept in memory."""
        async with self._connection.transaction():
            # The outbox's statistics are those of a nearly empty table; nested loops over a long one would not end.
            await self._connection.execute("SET LOCAL enable_nestloop = off; SET LOCAL enable_mergejoin = off")
            rows = await self._connection.fetch(_LATE_PREDECESSORS, xids, after, MOST_LATE)
            cut = len(rows) == MOST_LATE
            until = rows[-1]["successor"] if cut else _EVER
            late = {xid: _Late({}, until) for xid in xids}
            seen: set[int] = set()
            while rows:
                for row in rows:
                    late[row["xid"]].predecessors[row["successor"]] = row["predecessor"]
                    seen.add(row["successor"])
                # What made the version that a late one replaced may stand before it, and still further on than these.
                further = {row["predecessor"] for row in rows} - seen
                if not further:
                    break
                rows = await self._connection.fetch(_FURTHER_PREDECESSORS, xids, after, MOST_LATE, list(further))
        if cut and len(xids) > 1:
            for xid in xids:
                await self._read_late([xid], after)
            return
        self._late |= late


class _Late(NamedTuple):
    """Of one transaction: what made the version that a change replaced, for changes with numbers up to `until`."""

    predecessors: dict[int, int]
    until: int


async def delete(connection: "asyncpg.Connection[Any]", ranges: Ranges, count: int) -> None:
    """Delete these rows within the caller's transaction. Raises LostRowsError where not all of them were there."""
    tag = await connection.execute(_DELETE, ranges.low, ranges.high)
    deleted = int(tag.rpartition(" ")[2])
    if deleted != count:
        raise LostRowsError(f"{count} rows were read from the outbox and {deleted} of them were there to delete")
