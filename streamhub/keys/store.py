"""The rows of API keys. A row holds the hash of a key, never the key: it is shown once, when it is made."""

import difflib
import math
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from streamhub.errors import UserError
from streamhub.keys import key
from streamhub.organizations import ORGANIZATIONS, Organization
from streamhub.postgres.connections import AnyConnection, Pool

SCOPES: Final = ("events:read", "analytics:read", "events:write", "webhooks:manage")
LONGEST: Final = timedelta(days=36_500)

_CREATE: Final = """
INSERT INTO streamhub_hub.api_keys AS k (id, organization, hash, scopes, test, expires_at)
VALUES ($1, $2, $3, $4::text[], $5, clock_timestamp() + $6::interval)
"""
STATES: Final = ("active", "expired", "revoked")
_STATE: Final = """
CASE WHEN k.revoked_at IS NOT NULL THEN 'revoked' WHEN k.expires_at <= clock_timestamp() THEN 'expired'
     ELSE 'active' END
"""
COUNTS: Final = f"""
SELECT {", ".join(f"count(*) FILTER (WHERE {_STATE} = '{state}') AS {state}_keys" for state in STATES)}
  FROM streamhub_hub.api_keys AS k
"""
"""One row, for other statements to embed."""
_LIST: Final = f"""
SELECT k.id, o.slug, k.scopes, k.test, k.created_at, k.expires_at, k.revoked_at, k.last_used_at, {_STATE} AS state
  FROM streamhub_hub.api_keys AS k JOIN ({ORGANIZATIONS}) AS o ON o.key = k.organization
"""
_REVOKE: Final = """
UPDATE streamhub_hub.api_keys SET revoked_at = coalesce(revoked_at, clock_timestamp()) WHERE id = $1
"""
_NOTE_USE: Final = """
UPDATE streamhub_hub.api_keys SET last_used_at = clock_timestamp()
 WHERE id = ANY ($1::text[]) AND (last_used_at < clock_timestamp() - interval '1 hour' OR last_used_at IS NULL)
"""
_FIND: Final = f"""
SELECT k.id, k.hash, o.id AS organization_id, o.slug, o.enterprise, k.scopes, k.test,
       extract(epoch FROM k.expires_at)::float8 AS expires_at, k.revoked_at IS NOT NULL AS revoked
  FROM streamhub_hub.api_keys AS k JOIN ({ORGANIZATIONS}) AS o ON o.key = k.organization
 WHERE k.id = ANY ($1::text[])
"""


class Listed(NamedTuple):
    """A key as lists show it, never its hash. `state`: active, expired or revoked. `last_used_at` is up to an hour
    before the last use, None where there was none."""

    id: str
    slug: str
    scopes: Sequence[str]
    test: bool
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None
    state: str


class Stored(NamedTuple):
    """A key as requests are judged by it, with what the registry says of its organization. `expires_at` in seconds of
    the Unix epoch, infinite where it never does."""

    id: str
    hash: bytes
    organization_id: str
    slug: str
    enterprise: bool
    scopes: frozenset[str]
    test: bool
    expires_at: float
    revoked: bool

    def is_good(self, now: float) -> bool:
        """Neither revoked nor expired, in seconds of the Unix epoch."""
        return not self.revoked and now < self.expires_at


def wrong_scopes(scopes: Collection[str]) -> str | None:
    """What is wrong with the scopes of a key, if anything."""
    for scope in scopes:
        if scope not in SCOPES:
            nearest = difflib.get_close_matches(scope[:64], SCOPES, n=1, cutoff=0.5)
            hint = f"did you mean {nearest[0]}?" if nearest else f"the scopes are {', '.join(SCOPES)}"
            return f"there is no scope {key.masked(scope[:64])!r}; {hint}"
    return None if scopes else f"a key needs a scope; the scopes are {', '.join(SCOPES)}"


async def create(
    conn: AnyConnection, organization: Organization, scopes: Collection[str], *, test: bool, lifetime: timedelta | None
) -> str:
    """Make a key and return it: it cannot be read again. `lifetime` is None for a key that never expires.

    Raises UserError for no scope, or one that is not among SCOPES, and for a lifetime over LONGEST.
    """
    wrong = wrong_scopes(scopes)
    if wrong is not None:
        raise UserError(wrong)
    if lifetime is not None and not timedelta(0) < lifetime <= LONGEST:
        raise UserError(f"a key lasts at most {LONGEST.days} days: leave the end out for one that never expires")
    made = key.new()
    presented = key.read(made)
    assert presented is not None, "what is made is of a key's form"
    granted = [scope for scope in SCOPES if scope in scopes]
    await conn.execute(_CREATE, presented.id, organization.key, presented.hash, granted, test, lifetime)
    return made


async def list_(conn: AnyConnection, slug: str | None = None) -> list[Listed]:
    """All keys, or those of the organization with this slug, by organization and time."""
    rows = await conn.fetch(f"{_LIST} WHERE o.slug = coalesce($1, o.slug) ORDER BY o.slug, k.created_at, k.id", slug)
    return [Listed(**row) for row in rows]


async def revoke(conn: AnyConnection, id: str) -> Listed:
    """Revoke a key for good; one that is revoked stays as it is. Raises UserError where there is none."""
    await conn.execute(_REVOKE, id)
    row = await conn.fetchrow(f"{_LIST} WHERE k.id = $1", id)
    if row is None:
        raise UserError(f"there is no API key {id[:64]!r}: streamhub key list shows the id of each")
    return Listed(**row)


async def find(pool: Pool, ids: Collection[str], timeout: float) -> dict[str, Stored]:
    """Those that there are, by id. `timeout` in seconds; raises what asyncpg raises."""
    rows: Sequence[Any] = await pool.fetch(_FIND, list(ids), timeout=timeout)
    return {row["id"]: _stored(row) for row in rows}


async def note_use(pool: Pool, ids: Collection[str], timeout: float) -> None:
    """These keys are in use. Raises what asyncpg raises."""
    await pool.execute(_NOTE_USE, list(ids), timeout=timeout)


def _stored(row: Any) -> Stored:
    expires_at = math.inf if row["expires_at"] is None else row["expires_at"]
    return Stored(**{**row, "scopes": frozenset(row["scopes"]), "expires_at": expires_at})
