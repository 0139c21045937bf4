"""The registry of organizations: who the tenants are, and the slugs they are called by.

An organization has an id, which tokens and captured rows carry, and a slug, which paths carry. One that a captured row
names before anybody registered it is registered then, with a slug made from its id.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import count
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import asyncpg

from streamhub.errors import UserError

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

    Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]"

SLUG = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
LONGEST_SLUG = 63
LONGEST_ID = 255

_COLUMNS = "key, id, slug, slug_is_made, enterprise"


class Organization(NamedTuple):
    """A row of the registry. `key` is what history is keyed by; `slug_is_made`: nobody chose the slug."""

    key: int
    id: str
    slug: str
    slug_is_made: bool
    enterprise: bool


async def add(conn: Connection, slug: str, id: str | None = None, enterprise: bool = True) -> Organization:
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


async def list_(conn: Connection) -> list[Organization]:
    """All, by slug."""
    return [
        Organization(*row)
        for row in await conn.fetch(f"SELECT {_COLUMNS} FROM streamhub_hub.organizations ORDER BY slug")
    ]


async def with_slug(conn: Connection, slug: str) -> Organization | None:
    row = await conn.fetchrow(f"SELECT {_COLUMNS} FROM streamhub_hub.organizations WHERE slug = $1", slug)
    return None if row is None else Organization(*row)


async def with_id(conn: Connection, id: str) -> Organization | None:
    row = await conn.fetchrow(f"SELECT {_COLUMNS} FROM streamhub_hub.organizations WHERE id = $1", id)
    return None if row is None else Organization(*row)


async def set_(
    conn: Connection, slug: str, *, new_slug: str | None = None, enterprise: bool | None = None
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
        raise UserError(f"there is no organization {slug!r}: streamhub org list shows them all")
    return Organization(*row)


async def register_on_first_sight(conn: Connection, id: str) -> Organization:
    """The organization with this id; registered as enterprise under a made slug if it was not known yet.

    Safe against others doing the same, and within a transaction: no statement of it can fail on a conflict.
    """
    known = await with_id(conn, id)
    if known is not None:
        return known
    for slug in await _free_slugs(conn, slug_for(id)):
        row = await conn.fetchrow(
            f"""INSERT INTO streamhub_hub.organizations (id, slug, slug_is_made, enterprise) VALUES ($1, $2, true, true)
                ON CONFLICT DO NOTHING RETURNING {_COLUMNS}""",
            id,
            slug,
        )
        if row is not None:
            return Organization(*row)
        known = await with_id(conn, id)
        if known is not None:
            return known
    raise AssertionError("the slugs that may be tried have no end")


def slug_for(id: str) -> str:
    """A slug made from an id: lower case, every other character a dash, trimmed; `org` where nothing is left."""
    return re.sub(r"[^a-z0-9]", "-", id.lower()).strip("-")[:LONGEST_SLUG].rstrip("-") or "org"


async def _free_slugs(conn: Connection, wanted: str) -> Iterator[str]:
    """`wanted`, `wanted-2`, …, without those that are taken now."""
    stem = wanted[: LONGEST_SLUG - 10]
    taken = {
        row["slug"]
        for row in await conn.fetch("SELECT slug FROM streamhub_hub.organizations WHERE starts_with(slug, $1)", stem)
    }
    candidates = (wanted if number == 1 else f"{stem}-{number}" for number in count(1))
    return (slug for slug in candidates if slug not in taken)


def _check_slug(slug: str) -> None:
    if SLUG.fullmatch(slug) is None:
        raise UserError(
            f"{slug!r} is no slug: 1 to {LONGEST_SLUG} lower-case letters, digits and dashes, no dash first or last, "
            f"for example {slug_for(slug)}"
        )


async def _by_whom(conn: Connection, slug: str) -> str:
    holder = await with_slug(conn, slug)
    return "" if holder is None else f" by the organization with the id {holder.id!r}"
