"""What the relay is given to work with: a row of the outbox, what it is about, and how its table is captured."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Final, NamedTuple

# The flags of an origin, in this order.
BACKFILL: Final = "b"
TOO_LARGE: Final = "l"  # the texts hold only the columns that tell whose row it is


class Origin(NamedTuple):
    """What a change is about, and how it was written; see streamhub.origin in sql/source."""

    capture: int
    relation: int
    filenode: int
    natts: int | None
    too_large: bool
    backfill: bool

    @classmethod
    @lru_cache(maxsize=10_000)
    def of(cls, text: str) -> "Origin":
        """The outbox's text; any other is of no capture that there is."""
        try:
            capture, relation, filenode, natts, flags = text.split(":")
            numbers = int(capture), int(relation), int(filenode), int(natts) if natts else None
        except ValueError:
            return cls(0, 0, 0, None, False, False)
        return cls(*numbers, TOO_LARGE in flags, BACKFILL in flags)


class Change(NamedTuple):
    """One row of the outbox; see sql/source for what each column is. `created_at` in microseconds of the Unix epoch."""

    seq: int
    xid: int
    created_at: int
    origin: str  # `Origin.of` reads it
    chained: bool | None
    who: str | None
    old_row: str | None
    new_row: str | None


class Capture(NamedTuple):
    """How a table is captured; columns by their number in the captured root."""

    id: int
    relation: int
    resource_type: str
    key_columns: tuple[int, ...]
    organization_column: int | None
    organization_id: str | None
    test_column: int | None
    test: bool
    excluded_columns: frozenset[int]
    redacted_columns: frozenset[int]
    anonymization_column: int | None
    type_names: Mapping[str, str]
    fault: str | None = None  # why no row of it can be rendered, in one sentence

    @property
    def identifying(self) -> frozenset[int]:
        """The columns that a row without its values still has."""
        numbers = (*self.key_columns, self.organization_column, self.test_column, self.anonymization_column)
        return frozenset(number for number in numbers if number is not None)
