"""The types of events that organizations have had lately: noted beside the appends, never within one.

The leader remembers the types of what it appends, and writes those that are new, or were last written an hour ago, into
a table of their own. What a leader could not write before it died, the next one finds at the end of history.
"""

from collections.abc import Iterable
from datetime import timedelta
from typing import Any, Final

import asyncpg

from streamhub.core import ids, window
from streamhub.history import head
from streamhub.organizations import ORGANIZATIONS
from streamhub.postgres.connections import AnyConnection, Pool

LISTED: Final = timedelta(days=30)
MOST_LISTED: Final = 1_000
WRITTEN_EVERY_MS: Final = 3_600_000  # of one type
MOST_WRITTEN: Final = 1_000  # types of one organization and environment in that time
MOST_NOTED: Final = 10_000  # organizations' environments; one that is forgotten has its types written once more
UNWRITTEN: Final = timedelta(minutes=1)  # what a leader that died may have appended and not written
TIMEOUT: Final = 5.0  # seconds

# An hour more, as a row may be so much older than the last event of its type.
_LIST: Final = f"""
SELECT type FROM streamhub_hub.event_types
 WHERE organization = $1 AND test = $2 AND seen_at > clock_timestamp() - $3::interval - interval '1 hour'
 ORDER BY type LIMIT {MOST_LISTED}
"""
_WRITE: Final = """
INSERT INTO streamhub_hub.event_types AS t (organization, test, type, seen_at)
SELECT organization, test, type, to_timestamp(ms / 1000.0)
  FROM unnest($1::integer[], $2::boolean[], $3::text[], $4::bigint[]) AS seen (organization, test, type, ms)
ON CONFLICT (organization, test, type) DO UPDATE SET seen_at = greatest(t.seen_at, excluded.seen_at)
"""
_RECENT: Final = f"""
SELECT o.key, e.test, e.type, max(e.id::text)
  FROM ({ORGANIZATIONS}) o
 CROSS JOIN LATERAL (SELECT h.id, h.test, h.type FROM streamhub_hub.history h
                      WHERE h.organization = o.key AND h.id > $1 ORDER BY h.id DESC LIMIT 1000) AS e
 GROUP BY 1, 2, 3
"""
FORGET: Final = """
DELETE FROM streamhub_hub.event_types WHERE ctid = ANY (ARRAY(
  SELECT ctid FROM streamhub_hub.event_types WHERE seen_at < clock_timestamp() - $1::interval - interval '1 hour'
   LIMIT 5000))
"""


async def seen_lately(hub: Pool | AnyConnection, organization: int, *, test: bool) -> list[str]:
    """The types of an organization's events (the registry's key) in the last 30 days, in order, at most MOST_LISTED."""
    rows = await hub.fetch(_LIST, organization, test, LISTED, timeout=TIMEOUT)
    return [row["type"] for row in rows]


class SeenTypes:
    """What one leader has appended. `note` each append; `write` now and then."""

    def __init__(self) -> None:
        self._noted: dict[tuple[int, bool], dict[str, int]] = {}
        self._waiting: dict[tuple[int, bool, str], int] = {}
        self._has_read = False

    def note(self, types: Iterable[tuple[int, bool, str]], ms: int) -> None:
        """(organization, test, type) once for each that one append had, and its time."""
        for organization, test, type_ in types:
            self._note(organization, type_, ms, test=test)

    def _note(self, organization: int, type_: str, ms: int, *, test: bool) -> None:
        noted = self._noted.pop((organization, test), {})
        self._noted[organization, test] = noted  # behind all others: the first is the one without events for longest
        if len(self._noted) > MOST_NOTED:
            del self._noted[next(iter(self._noted))]
        written_at = noted.get(type_)
        if written_at is not None and ms - written_at < WRITTEN_EVERY_MS:
            return
        if written_at is None and len(noted) >= MOST_WRITTEN:
            for old in [each for each, at in noted.items() if ms - at >= WRITTEN_EVERY_MS]:
                del noted[old]
            if len(noted) >= MOST_WRITTEN:
                return
        noted[type_] = self._waiting[organization, test, type_] = ms

    async def write(self, connection: "asyncpg.Connection[Any]") -> None:
        """Raises what asyncpg raises; then all of it is written the next time."""
        if not self._has_read:
            since = window.before(await head.now_ms(connection) - UNWRITTEN // timedelta(milliseconds=1))
            for organization, test, type_, id_ in await connection.fetch(_RECENT, since):
                self._note(organization, type_, ids.milliseconds(id_), test=test)
            self._has_read = True
        if self._waiting:
            writing = dict(self._waiting)
            organizations, tests, types = zip(*writing, strict=True)
            await connection.execute(_WRITE, organizations, tests, types, list(writing.values()))
            for key in writing:
                del self._waiting[key]
