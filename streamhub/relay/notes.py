"""Which rows of a source were appended before: what a relay of another database asks before it appends.

Appends note who their rows are (`streamhub_hub.consumed`), in their own transactions. An append may still be under way
when a relay begins, one whose COMMIT comes late over a connection that was given up, say. Every append holds the row of
`log_epoch`, so `begin` takes it once: then all earlier ones have ended, and later ones of this epoch and source are the
relay's own. Rows with numbers above the highest that was noted by then are new. Numbers below come again after a crash,
and where a standby that was behind was promoted; or their transaction just took long.
"""

import asyncio
from collections.abc import Iterable, Sequence
from operator import itemgetter, sub
from typing import Any, Final

import asyncpg

from streamhub.core.identities import Identity, common, pack
from streamhub.history import head

MOST_SPANS: Final = 8  # of numbers in one look: what is between two is not read
_AT_ONCE: Final = 20  # notes in memory
_STEP: Final = 5_000  # rows deleted at once

_HIGHEST: Final = "SELECT last_seq FROM streamhub_hub.consumed WHERE source = $1 ORDER BY last_seq DESC LIMIT 1"
_PLAN: Final = "SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off"
_NOTES: Final = """
SELECT note.identities FROM unnest($2::bigint[], $3::bigint[]) AS span (low, high), LATERAL (
  SELECT identities FROM streamhub_hub.consumed WHERE source = $1 AND last_seq >= low AND first_seq <= high OFFSET 0
) AS note
"""
_NOTE: Final = """
INSERT INTO streamhub_hub.consumed (source, first_seq, last_seq, rows, identities) VALUES ($1, $2, $3, $4, $5)
"""
FORGET: Final = f"""
DELETE FROM streamhub_hub.consumed WHERE ctid = ANY (ARRAY(
  SELECT ctid FROM streamhub_hub.consumed WHERE consumed_at < clock_timestamp() - $1::interval
   ORDER BY consumed_at LIMIT {_STEP}))
"""
"""Deletes some of the notes that are older than an interval."""


async def note(connection: "asyncpg.Connection[Any]", source: str, identities: Sequence[Identity]) -> None:
    """Note these rows as appended, in the append's own transaction. `identities` ascend."""
    first, last = identities[0].seq, identities[-1].seq
    await connection.execute(_NOTE, source, first, last, len(identities), pack(identities))


class Notes:
    """Those of one source, over the connection that appends; not to be asked while that is at work."""

    def __init__(self, hub: "asyncpg.Connection[Any]", source: str, epoch: int) -> None:
        self._hub = hub
        self._source = source
        self._epoch = epoch
        self._highest = 0

    async def begin(self) -> None:
        """Wait for the append that is under way. Raises FencedError where another leader has taken over."""
        await head.wait_for_appends(self._hub, self._epoch)
        self._highest = await self._hub.fetchval(_HIGHEST, self._source) or 0

    def may_have(self, numbers: Iterable[int]) -> bool:
        return min(numbers, default=self._highest + 1) <= self._highest

    async def among(self, identities: Iterable[Identity]) -> set[Identity]:
        """Those that were noted. What is read and kept meanwhile follows from these, not from how many notes there are
        after them."""
        wanted = {identity for identity in identities if identity.seq <= self._highest}
        numbers = {identity.seq for identity in wanted}
        low, high = _spans(sorted(numbers))
        noted: set[Identity] = set()
        async with self._hub.transaction():
            await self._hub.execute(_PLAN)
            async for note in self._hub.cursor(_NOTES, self._source, low, high, prefetch=_AT_ONCE):
                noted |= common(note["identities"], numbers, wanted)
                await asyncio.sleep(0)
        return noted


def _spans(numbers: Sequence[int]) -> tuple[Sequence[int], Sequence[int]]:
    """Both ends of each span that holds some of these ascending numbers, parted at the widest gaps.

    >>> _spans([1, 2, 9])
    ([1, 9], [2, 9])
    """
    gaps = sorted(enumerate(map(sub, numbers[1:], numbers)), key=itemgetter(1), reverse=True)[: MOST_SPANS - 1]
    ends = sorted(i for i, gap in gaps if gap > 1)
    return [numbers[0], *(numbers[i + 1] for i in ends)], [*(numbers[i] for i in ends), numbers[-1]]
