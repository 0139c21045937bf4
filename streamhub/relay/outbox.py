"""Reading an outbox in order, and deleting from it exactly what was read.

A poll gives every visible row above the floor that is not in hand, in the order of sequence numbers: never "all after
the last one", because a transaction may commit after others with higher numbers.

While nothing comes the server itself looks again and again, within one statement (`wait`): a poll from here wakes this
process twice and the server's once, which costs far more than the look.
"""

from collections.abc import Iterable, Sequence
from operator import itemgetter
from typing import Any, Final, NamedTuple

import asyncpg

from streamhub.core.changes import FIELDS, Change
from streamhub.core.floor import Floor, Marks
from streamhub.core.texts import is_text, readable
from streamhub.history.consumption import Consumption, NotConsumedError, consume
from streamhub.postgres.ownership import ForeignSourceError, owner
from streamhub.relay.lookahead import CHAINED, SEQ, Lookahead, Row
from streamhub.relay.texts import codec_of, decoded

MOST_BYTES: Final = 32 * 1024 * 1024  # of texts in one read, unless a single change has more
# Bytes of a text that is read without adding up sizes, which makes a read twice as dear: all three in each of the
# relay's 2,000 rows are less than MOST_BYTES.
SMALL: Final = 7_000
SMALL_WHO: Final = 2_500
MOST_RANGES: Final = 64  # of numbers in hand while the next rows are read
LONGEST_WAIT: Final = 1.0  # seconds; it is sent again after that, so that a server notices a relay that is gone
# To begin a wait costs as much as some ten looks, so where only shorter ones go unnoticed there is none.
SHORTEST_WAIT: Final = 0.2

_HEADER: Final = "seq, xid, created_at, origin, chained"  # a Change, up to its texts

# octet_length of a stored text reads its length alone, so what is left out is never fetched. An empty `who` is none;
# here an empty text is one that is not small.
_READ_SMALL: Final = f"""
SELECT {_HEADER},
       CASE WHEN octet_length(who) <= {SMALL_WHO} THEN nullif(who, '') WHEN who IS NOT NULL THEN '' END,
       CASE WHEN octet_length(old_row) <= {SMALL} THEN old_row WHEN old_row IS NOT NULL THEN '' END,
       CASE WHEN octet_length(new_row) <= {SMALL} THEN new_row WHEN new_row IS NOT NULL THEN '' END
       {{versions}}
FROM streamhub.outbox WHERE seq > $1 {{condition}} ORDER BY seq LIMIT $2
"""
_READ: Final = f"SELECT {_HEADER}, nullif(who, ''), old_row, new_row {{versions}}"
# The bytes as they are stored: textsend converts to the client's encoding, which is none while these are read.
_READ_RAW: Final = f"SELECT {_HEADER}, textsend(nullif(who, '')), textsend(old_row), textsend(new_row) {{versions}}"
_LARGE: Final = f"""
{{read}} FROM (
  SELECT *, sum(coalesce(octet_length(old_row), 0) + coalesce(octet_length(new_row), 0)
                + coalesce(octet_length(who), 0))
            OVER (ORDER BY seq ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS bytes_before
  FROM (SELECT * FROM streamhub.outbox WHERE seq > $1 {{condition}} ORDER BY seq LIMIT $2) AS first_rows
) AS summed
WHERE coalesce(bytes_before, 0) <= {MOST_BYTES}
ORDER BY seq
"""
_VERSIONS: Final = ", old_ctid, new_ctid"
_THESE: Final = "{read} FROM streamhub.outbox WHERE seq = ANY ($1::bigint[]) ORDER BY seq"
_NOT_IN_HAND: Final = """
AND NOT EXISTS (SELECT FROM unnest($3::bigint[], $4::bigint[]) AS hand (low, high)
                WHERE seq BETWEEN hand.low AND hand.high)
"""
_MARKS: Final = """
SELECT CASE WHEN is_called THEN last_value ELSE last_value - 1 END AS last_value,
       pg_snapshot_xmin(snapshot) AS xmin, CASE WHEN $1 THEN pg_current_xact_id() END AS own
FROM streamhub.outbox_seq_seq, pg_current_snapshot() AS snapshot
"""
# Seconds from which on the server logs a statement; 0 or less: all or none.
_TELL_FLOOR: Final = """
SELECT extract(epoch FROM current_setting('log_min_duration_statement')::interval)::float8
FROM set_config('streamhub.floor', $1, false)
"""
# The transaction ends before each pause: no lock is held meanwhile, and no snapshot older than a pause. The text is
# always the same, so that statistics of statements have it once.
_WAIT: Final = """
DO $$
DECLARE
  floor CONSTANT bigint := current_setting('streamhub.floor');
  ends CONSTANT timestamptz := clock_timestamp() + interval '{longest} s';
BEGIN
  FOR look IN 1 .. {looks} LOOP  -- whatever the clock does
    COMMIT;
    PERFORM pg_sleep({pause});
    EXIT WHEN clock_timestamp() >= ends OR EXISTS (SELECT FROM streamhub.outbox WHERE seq > floor);
  END LOOP;
END $$
"""
# Another hub that takes the outbox over waits for this transaction, or this one finds that it has.
_DELETE: Final = """
WITH ours AS (SELECT FROM streamhub.relay_mark WHERE hub = {2} FOR SHARE)
DELETE FROM streamhub.outbox USING unnest({0}::bigint[], {1}::bigint[]) AS hand (low, high)
WHERE seq BETWEEN hand.low AND hand.high AND EXISTS (SELECT FROM ours)
"""


_TEXTS: Final = tuple(FIELDS.index(name) for name in ("who", "old_row", "new_row"))
_WIDTH: Final = len(FIELDS)
_texts = itemgetter(*_TEXTS)
_each_text: Final = tuple(map(itemgetter, _TEXTS))
_chained = itemgetter(CHAINED)
# What a text that is none fails a read with: asyncpg's, or the server's that converts it.
_NO_TEXT: Final = (UnicodeDecodeError, asyncpg.CharacterNotInRepertoireError, asyncpg.UntranslatableCharacterError)
# No DO is ours, or a proxy made it part of a transaction.
_NO_WAIT: Final = (asyncpg.InsufficientPrivilegeError, asyncpg.InvalidTransactionTerminationError)
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
        numbers = sorted(numbers)
        if numbers and numbers[-1] - numbers[0] == len(numbers) - 1:  # a single run: nearly all of a backlog
            return cls([numbers[0]], [numbers[-1]])
        low: list[int] = []
        high: list[int] = []
        for number in numbers:
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

    def above(self, number: int) -> "Ranges | None":
        """Those that reach above it; None for none."""
        kept = [run for run in zip(self.low, self.high, strict=True) if run[1] > number]
        return Ranges(*map(list, zip(*kept, strict=True))) if kept else None


class Outbox:
    """The outbox of one source, read over one connection. `most` bounds the rows of a read."""

    def __init__(self, connection: "asyncpg.Connection[Any]", most: int) -> None:
        self._connection = connection
        self._most = most
        self._floor = Floor()
        self._lookahead = Lookahead(connection, most, MOST_BYTES)
        self._nested = False  # the last read held a change that needs a look at versions, so the next one may as well
        self._large = False  # … a text that was not small
        self._raw = False  # … a text that was none
        self._told: int | None = None  # the floor that the server knows of
        self._longest_wait = LONGEST_WAIT
        self._waits = True

    @property
    def floor(self) -> int:
        return self._floor.value

    @property
    def large(self) -> bool:
        """The last read held texts that are not small."""
        return self._large

    async def read(self, in_hand: Ranges | None = None) -> tuple[list[Change], bool]:
        """(the next changes in order, whether there may be more of them). `in_hand`: read before, not yet deleted.

        The floor moves with what is read, so a reader that gives up what it has in hand starts over."""
        rows, more = await self._first(in_hand)
        if not self._nested and any(map(_chained, rows)):
            self._nested = True
            rows, more = await self._first(in_hand)
        if not self._nested:
            self._lookahead.consumed((), more)
            if rows:
                self._floor.read_to(rows[-1][SEQ])
            return [Change(*row) for row in rows], more
        self._nested = any(map(_chained, rows))
        if self._nested:
            if more:
                kept, further = await self._lookahead.wanted(rows)
                rows = [*kept, *await self._fetch(_THESE, further)] if further else kept
            rows = self._lookahead.ordered(rows)
        self._lookahead.consumed(rows, more)
        return [Change(*row[:_WIDTH]) for row in rows], more

    async def _first(self, in_hand: Ranges | None) -> tuple[Sequence[Row], bool]:
        """The first rows by number, and whether there may be more."""
        in_hand = None if in_hand is None else in_hand.above(self._floor.value)
        condition = "" if in_hand is None else _NOT_IN_HAND
        arguments = (self._floor.value, self._most, *(in_hand or ()))
        if not self._large and not self._raw:
            try:
                query = _READ_SMALL.format(condition=condition, versions=_VERSIONS if self._nested else "")
                rows: Sequence[Row] = await self._connection.fetch(query, *arguments)
            except _NO_TEXT:
                self._raw = True
            else:
                if not any("" in map(text, rows) for text in _each_text):
                    return rows, len(rows) == self._most
        rows = await self._fetch(_LARGE.replace("{condition}", condition), *arguments)
        lengths = [len(text) for row in rows for text in _texts(row) if text is not None]
        self._large = max(lengths, default=0) > SMALL_WHO // 4
        # A character has four bytes at most.
        return rows, len(rows) == self._most or sum(lengths) > MOST_BYTES // 5

    async def _fetch(self, query: str, *arguments: Any) -> Sequence[Row]:
        """Rows of this query, whatever bytes their texts hold."""
        versions = _VERSIONS if self._nested else ""
        if not self._raw:
            try:
                return await self._connection.fetch(query.format(read=_READ.format(versions=versions)), *arguments)
            except _NO_TEXT:
                self._raw = True
        async with self._connection.transaction():
            codec = codec_of(await self._connection.fetchval("SELECT getdatabaseencoding()"))
            await self._connection.execute("SET LOCAL client_encoding = 'SQL_ASCII'")
            found = await self._connection.fetch(query.format(read=_READ_RAW.format(versions=versions)), *arguments)
        rows = []
        self._raw = False
        for row in found:
            who, old, new = (decoded(text, codec) for text in _texts(row))
            self._raw = self._raw or not (is_text(who) and is_text(old) and is_text(new))
            rows.append((*row[: _TEXTS[0]], readable(who), old, new, *row[_WIDTH:]))
        return rows

    async def observe(self) -> None:
        """Note how far the sequence is and who is still writing; call it before a read."""
        marks = await self._connection.fetchrow(_MARKS, self._floor.wants_id)
        self._floor.observe(Marks(*marks))  # type: ignore[misc]

    async def wait(self, pause: float) -> bool:
        """Return once there is a row above the floor, or after a while; the server looks each `pause` seconds. Nothing
        may be in hand. False, and at once, where the server is not to wait: it would log that as slow, or its owner
        lets us have no DO."""
        if not self._waits:
            return False
        if self._told != self._floor.value:
            logged: float = await self._connection.fetchval(_TELL_FLOOR, str(self._floor.value))
            self._told = self._floor.value
            self._longest_wait = min(LONGEST_WAIT, logged / 2) if logged > 0 else LONGEST_WAIT
        if self._longest_wait < SHORTEST_WAIT:
            return False
        try:
            longest = self._longest_wait
            await self._connection.execute(_WAIT.format(longest=longest, looks=int(longest / pause), pause=pause))
        except _NO_WAIT:
            self._waits = False
        return self._waits

    def drained(self) -> None:
        """All that the last full read gave is consumed."""
        self._floor.drained()

    def start_over(self) -> None:
        """Something that was read is perhaps still there: read from the beginning."""
        self._floor = Floor()


def consumption(ranges: Ranges, rows: int, hub: str) -> Consumption:
    """Deleting these rows, for the hub of this id."""
    return Consumption(_DELETE, (ranges.low, ranges.high, hub), rows)


async def delete(connection: "asyncpg.Connection[Any]", ranges: Ranges, count: int, hub: str) -> None:
    """Delete these rows within the caller's transaction, for the hub of this id. Raises what `not_deleted` gives."""
    try:
        await consume(connection, consumption(ranges, count, hub))
    except NotConsumedError as error:
        raise await not_deleted(connection, hub, error) from error


async def not_deleted(
    connection: "asyncpg.Connection[Any]", hub: str, error: NotConsumedError
) -> LostRowsError | ForeignSourceError:
    """Why rows were not there to delete: the outbox is another hub's by now, or somebody else consumes it."""
    found = await owner(connection)
    return LostRowsError(f"the outbox: {error}") if found == hub else ForeignSourceError(found)
