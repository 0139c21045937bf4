"""Incidents: what happened that an operator should know of. Written by the relay, bounded, shown by `doctor`."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final

import asyncpg

from streamhub.postgres.connections import Connection

TIMEOUT: Final = 10.0  # seconds
MOST_SHOWN: Final = 5
STEP: Final = 5_000  # rows deleted at once
TABLE: Final = "streamhub_hub.incidents"

_REPORT: Final = "INSERT INTO streamhub_hub.incidents (kind, source, detail) VALUES ($1, $2, $3)"
_LATEST: Final = f"""
SELECT kind, source, detail, at, count(*) OVER () AS all FROM streamhub_hub.incidents
 WHERE at > clock_timestamp() - $1::interval ORDER BY id DESC LIMIT {MOST_SHOWN}
"""
OF_LAST_DAY: Final = """
SELECT count(*) FROM streamhub_hub.incidents WHERE at > clock_timestamp() - interval '1 day'
"""
FORGET: Final = f"""
DELETE FROM streamhub_hub.incidents WHERE ctid = ANY (ARRAY(
  SELECT ctid FROM streamhub_hub.incidents WHERE id <= (SELECT max(id) FROM streamhub_hub.incidents) - $1
   ORDER BY id LIMIT {STEP}))
"""
"""Deletes some of those that are older than the newest so many."""


async def report(
    hub: "asyncpg.Pool[Any] | asyncpg.Connection[Any]", kind: str, source: str | None, detail: str
) -> None:
    """Raises what asyncpg raises."""
    await hub.execute(_REPORT, kind, source, detail, timeout=TIMEOUT)


async def latest(hub: Connection, within: timedelta) -> "Sequence[asyncpg.Record]":
    """The newest: kind, source, detail, at, and how many there are in `all`."""
    return await hub.fetch(_LATEST, within)
