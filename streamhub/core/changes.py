"""What the relay is given to work with: a row of the outbox, what it is about, and how its table is captured."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final, NamedTuple

import msgspec

# The flags of an origin; see streamhub.origin in sql/source.
BACKFILL: Final = "b"
DESCRIBED: Final = "d"
TOO_LARGE: Final = "l"
LINK: Final = "n"
UNREAD_TRUNCATE: Final = "t"

_described = msgspec.json.Decoder(list[list[Any]]).decode


class DescribedColumn(NamedTuple):
    """A column of a record's text: its position in the table that the text came from, its name, its type's oid (0 for a
    virtual column, None where it could not be told) and, of a composite type, its fields."""

    position: int
    name: str
    type: int | None = None
    fields: Any = None


class Origin(NamedTuple):
    """What a change is about, and how it was written; see streamhub.origin in sql/source.

    `attachment` is 0 for a table that is captured itself. `columns` is None but for the text of a record.
    """

    capture: int
    relation: int
    filenode: int
    natts: int
    flags: str
    attachment: int
    columns: tuple[DescribedColumn, ...] | None

    @classmethod
    @lru_cache(maxsize=10_000)
    def of(cls, text: str) -> "Origin":
        """The outbox's text; any other is of no capture that there is."""
        try:
            capture, relation, filenode, natts, flags, attachment, described = text.split(":", 6)
            numbers = int(capture), int(relation), int(filenode), int(natts)
            columns = tuple(DescribedColumn(*column) for column in _described(described)) if described else None
            return cls(*numbers, flags, int(attachment or 0), columns)
        except (ValueError, TypeError, msgspec.DecodeError):
            return cls(0, 0, 0, 0, "", 0, None)

    @property
    def backfill(self) -> bool:
        return BACKFILL in self.flags

    @property
    def is_nameless(self) -> bool:
        """The text of a record, of which a shape has to tell the columns."""
        return DESCRIBED in self.flags and self.columns is None

    @property
    def types(self) -> frozenset[int]:
        """The oids of all types in the description, those of fields too."""
        return frozenset(_types(self.columns or ()))


def _types(columns: Any) -> list[int]:
    """Of columns and of fields: both end with a type and what it is made of."""
    found = []
    for *_, type_, fields in columns:
        found += [type_] if type_ else []
        found += _types(fields or ())
    return found


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
    """How a table is captured; columns by their number in the captured root.

    `natts` and `column_names` are of the moment at which it was captured: how many columns the table had ever had, and
    the names of the columns that are told here by number.
    """

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
    natts: int = 0
    column_names: Mapping[int, str] = {}
    fault: str | None = None  # why no row of it can be rendered, in one sentence
