"""Organizations: who the tenants are, the slugs they are called by, and a cache of them."""

from streamhub.organizations.store import (
    LONGEST_ID,
    LONGEST_SLUG,
    ORGANIZATIONS,
    SLUG,
    Organization,
    add,
    count,
    keys_of,
    list_,
    register_on_first_sight,
    set_,
    slug_for,
    take_slug,
    with_id,
    with_ids,
    with_slug,
)

__all__ = [
    "LONGEST_ID",
    "LONGEST_SLUG",
    "ORGANIZATIONS",
    "SLUG",
    "Organization",
    "add",
    "count",
    "keys_of",
    "list_",
    "register_on_first_sight",
    "set_",
    "slug_for",
    "take_slug",
    "with_id",
    "with_ids",
    "with_slug",
]
