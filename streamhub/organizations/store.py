"""The registry of organizations: who the tenants are, and the slugs they are called by.

An organization has an id, which tokens and captured rows carry, and a slug, which paths carry. One that a captured row
names before it was registered is registered then, with a slug made from its id.
"""

from __future__ import annotations

import contextlib
import difflib
import re
from collections.abc import Collection, Sequence
from typing import NamedTuple

import asyncpg

from streamhub.errors import UserError
from streamhub.postgres.connections import AnyConnection, Pool

SLUG = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
LONGEST_SLUG = 63
LONGEST_ID = 255
MOST_COMPARED = 2_000  # slugs

_ATTEMPTS = 20
_COLUMNS = "key, id, slug, slug_is_made, enterprise"

ORGANIZATIONS = f"SELECT {_COLUMNS} FROM streamhub_hub.organizations"
"""All of them, for other statements to embed."""
_ALIKE = """
SELECT slug FROM streamhub_hub.organizations
 WHERE starts_with(slug, $1) OR abs(length(slug) - length($1)) <= 2 ORDER BY NOT starts_with(slug, left($1, 1)), slug
 LIMIT $2
"""
_TAKE_SLUG = """
UPDATE streamhub_hub.organizations SET slug = $2, slug_is_made = false
 WHERE id = $1 AND slug_is_made AND NOT EXISTS (SELECT FROM streamhub_hub.organizations WHERE slug = $2)
"""


class Organization(NamedTuple):
    """A row of the registry. `key` is what history is keyed by; `slug_is_made`: made from the id, not chosen."""

    key: int
    id: str
    slug: str
    slug_is_made: bool
    enterprise: bool


async def add(conn: AnyConnection, slug: str, id: str | None = None, enterprise: bool = True) -> Organization:
    """Register one under a chosen slug; `id` is the slug unless given. UserError where either is taken or no good."""
    _check_slug(slug)
    id = slug if id is None else id
    if not 0 < len(id) <= LONGEST_ID or not id.isprintable() or id != id.strip():
        raise UserError(
            f"{id!r} is no organization id: 1 to {LONGEST_ID} printable characters without a space at its edges, "
            "for example org_42"
        )
    row = await conn.fetchrow(
        f"""INSERT INTO streamhub_hub.organizations (id, slug, slug_is_made, enterprise) VALUES ($1, $2, false, $3)
            ON CONFLICT DO NOTHING RETURNING {_COLUMNS}""",
        id,
        slug,
        enterprise,
    )
    if row is not None:
        return Organization(*row)
    known = await with_id(conn, id)
    if known is not None:
        raise UserError(
            f"the organization id {id!r} is registered already, with the slug {known.slug!r}: "
            f"streamhub org set {known.slug} changes it"
        )
    raise UserError(f"the slug {slug!r} is taken{await _by_whom(conn, slug)}: choose another one, for example {slug}-2")


async def list_(conn: AnyConnection) -> list[Organization]:
    """All, by slug."""
    return [Organization(*row) for row in await conn.fetch(f"{ORGANIZATIONS} ORDER BY slug")]


async def with_slug(conn: AnyConnection, slug: str) -> Organization | None:
    row = await conn.fetchrow(f"{ORGANIZATIONS} WHERE slug = $1", slug)
    return None if row is None else Organization(*row)


async def require(conn: AnyConnection, slug: str) -> Organization:
    """As `with_slug`. Raises UserError where no organization has this slug."""
    found = await with_slug(conn, slug)
    if found is None:
        near = await _nearest(conn, slug)
        likely = f"did you mean {near}? streamhub" if near else "streamhub"
        raise UserError(f"there is no organization {slug!r}: {likely} org add {slug} registers it")
    return found


async def with_id(conn: AnyConnection, id: str) -> Organization | None:
    row = await conn.fetchrow(f"{ORGANIZATIONS} WHERE id = $1", id)
    return None if row is None else Organization(*row)


async def set_(
    conn: AnyConnection, slug: str, *, new_slug: str | None = None, enterprise: bool | None = None
) -> Organization:
    """Change the one that has this slug. UserError where there is none, or the new slug is taken or no good."""
    if new_slug is not None:
        _check_slug(new_slug)
    try:
        row = await conn.fetchrow(
            f"""UPDATE streamhub_hub.organizations
                   SET slug = coalesce($2, slug),
                       slug_is_made = slug_is_made AND $2::text IS NULL,
                       enterprise = coalesce($3, enterprise)
                 WHERE slug = $1 RETURNING {_COLUMNS}""",
            slug,
            new_slug,
            enterprise,
        )
    except asyncpg.UniqueViolationError:
        raise UserError(f"the slug {new_slug!r} is taken{await _by_whom(conn, new_slug or '')}") from None
    if row is None:
        near = await _nearest(conn, slug)
        likely = f"did you mean {near}? streamhub" if near else "streamhub"
        raise UserError(f"there is no organization {slug!r}: {likely} org list shows them all")
    return Organization(*row)


async def _nearest(conn: AnyConnection, slug: str) -> str | None:
    """The slug that an operator may have meant: one that is spelled alike, or goes on where this one ends. It tells of
    other tenants, so it is for who reads the database alone."""
    rows = await conn.fetch(_ALIKE, slug, MOST_COMPARED)
    slugs = [row["slug"] for row in rows]
    spelled = difflib.get_close_matches(slug, slugs, n=1, cutoff=0.7)
    return next(iter(spelled or [each for each in slugs if slug and each.startswith(f"{slug}-")]), None)


async def with_ids(conn: AnyConnection, ids: Collection[str]) -> dict[str, Organization]:
    """Those that are registered, by id."""
    rows = await conn.fetch(f"{ORGANIZATIONS} WHERE id = ANY ($1::text[])", ids)
    return {row["id"]: Organization(*row) for row in rows}


async def keys_of(pool: Pool, ids: Collection[str], timeout: float) -> dict[str, int]:
    """The keys of those that are registered, by id. `timeout` in seconds; raises what asyncpg raises."""
    rows = await pool.fetch(f"{ORGANIZATIONS} WHERE id = ANY ($1::text[])", ids, timeout=timeout)
    return {row["id"]: row["key"] for row in rows}


async def take_slug(pool: Pool | AnyConnection, id: str, slug: str, timeout: float) -> None:
    """Replace a made slug by this one, where it is free. `timeout` in seconds; raises what asyncpg raises."""
    with contextlib.suppress(asyncpg.UniqueViolationError):
        await pool.execute(_TAKE_SLUG, id, slug, timeout=timeout)


async def lock(conn: AnyConnection, key: int) -> None:
    """Until the transaction ends: for what an organization may have a number of. Raises what asyncpg raises."""
    await conn.execute("SELECT FROM streamhub_hub.organizations WHERE key = $1 FOR NO KEY UPDATE", key)


async def count(conn: AnyConnection) -> tuple[int, int]:
    """How many there are, and how many of them are enterprise."""
    row = await conn.fetchrow("SELECT count(*), count(*) FILTER (WHERE enterprise) FROM streamhub_hub.organizations")
    assert row is not None, "an aggregate gives one row"
    return row[0], row[1]


async def register_on_first_sight(conn: AnyConnection, ids: Collection[str]) -> dict[str, Organization]:
    """The organizations with these ids; each that was not known yet is registered as enterprise under a made slug.

    Three round trips, however many there are. Safe against others doing the same, and within a transaction: no
    statement of it can fail on a conflict.
    """
    known = await with_ids(conn, ids)
    for _ in range(_ATTEMPTS):
        new = [id for id in dict.fromkeys(ids) if id not in known]
        if not new:
            return known
        rows = await conn.fetch(
            f"""INSERT INTO streamhub_hub.organizations (id, slug, slug_is_made, enterprise)
                SELECT id, slug, true, true FROM unnest($1::text[], $2::text[]) AS new (id, slug)
                ON CONFLICT DO NOTHING RETURNING {_COLUMNS}""",
            new,
            await _free_slugs(conn, [slug_for(id) for id in new]),
        )
        known |= {row["id"]: Organization(*row) for row in rows}
        if len(rows) < len(new):  # others registered an id, or took a slug, at the same moment
            known |= await with_ids(conn, new)
    raise RuntimeError(f"{new[0]!r} and others were not registered: each slug that was free was taken meanwhile")


def slug_for(id: str) -> str:
    """A slug made from an id: lower case, every other character a dash, trimmed; `org` where nothing is left."""
    return re.sub(r"[^a-z0-9]", "-", id.lower()).strip("-")[:LONGEST_SLUG].rstrip("-") or "org"


async def _free_slugs(conn: AnyConnection, wanted: Sequence[str]) -> list[str]:
    """For each the first of `wanted`, `wanted-2`, … that is not taken, no two alike."""
    taken = {
        row["slug"]
        for row in await conn.fetch(
            """SELECT slug FROM streamhub_hub.organizations WHERE slug = ANY ($1::text[])
               UNION ALL
               SELECT slug FROM unnest($2::text[]) AS stem
               JOIN streamhub_hub.organizations ON slug > (stem || '-') COLLATE "C" AND slug < (stem || '.') COLLATE "C"
               """,  # "." comes after "-", and no slug holds it
            wanted,
            list({_stem(slug) for slug in wanted}),
        )
    }
    free = []
    numbers: dict[str, int] = {}
    for slug in wanted:
        candidate, stem = slug, _stem(slug)
        while candidate in taken:
            numbers[stem] = number = numbers.get(stem, 1) + 1
            candidate = f"{stem}-{number}"
        taken.add(candidate)
        free.append(candidate)
    return free


def _stem(slug: str) -> str:
    """What a number is put behind."""
    return slug[: LONGEST_SLUG - 10]


def _check_slug(slug: str) -> None:
    if SLUG.fullmatch(slug) is None:
        raise UserError(
            f"{slug!r} is no slug: 1 to {LONGEST_SLUG} lower-case letters, digits and dashes, no dash first or last, "
            f"for example {slug_for(slug)}"
        )


async def _by_whom(conn: AnyConnection, slug: str) -> str:
    holder = await with_slug(conn, slug)
    return "" if holder is None else f" by the organization with the id {holder.id!r}"
