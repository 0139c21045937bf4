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

PUBLISHED: Final = "published"
"""The origin of an event that an application published; see streamhub.publish in sql/source."""


class _Described(msgspec.Struct):
    columns: list[list[Any]]
    types: dict[int, Any]


_described = msgspec.json.Decoder(_Described).decode


class DescribedColumn(NamedTuple):
    """A column of a record's text: its position in the table that the text came from, its name, and its type's oid (0
    for a virtual column, None where it could not be told)."""

    position: int
    name: str
    type: int | None = None


class Origin(NamedTuple):
    """What a change is about, and how it was written; see streamhub.origin in sql/source.

    `attachment` is 0 for a table that is captured itself. `columns` is None but for a text that is described; `made`
    has what types of users' own are made of: see streamhub.described.
    """

    capture: int
    relation: int
    filenode: int
    natts: int
    flags: str
    attachment: int
    columns: tuple[DescribedColumn, ...] | None = None
    made: Mapping[int, Any] = {}

    @classmethod
    @lru_cache(maxsize=10_000)
    def of(cls, text: str) -> "Origin":
        """The outbox's text; any other is of no capture that there is."""
        try:
            capture, relation, filenode, natts, flags, attachment, described = text.split(":", 6)
            numbers = int(capture), int(relation), int(filenode), int(natts)
            attached = int(attachment or 0)
            if not described:
                return cls(*numbers, flags, attached)
            told = _described(described)
            columns = tuple(DescribedColumn(*column) for column in told.columns)
            return cls(*numbers, flags, attached, columns, told.types)
        except (ValueError, TypeError, msgspec.DecodeError):
            return cls(0, 0, 0, 0, "", 0)

    @property
    def backfill(self) -> bool:
        return BACKFILL in self.flags

    @property
    def is_nameless(self) -> bool:
        """The text of a record, of which a shape has to tell the columns."""
        return DESCRIBED in self.flags and self.columns is None

    @property
    def types(self) -> frozenset[int]:
        """The oids of all types in the description."""
        found = {column.type for column in self.columns or () if column.type}
        for type_, made in self.made.items():
            inner = (
                (field for _, field in made)
                if isinstance(made, list)
                else [made["array"] if isinstance(made, dict) else made]
            )
            found |= {type_, *inner}
        return frozenset(found)


FIELDS: Final = ("seq", "xid", "created_at", "origin", "chained", "who", "old_row", "new_row")


class Change:
    """One row of the outbox; see sql/source for what each column is. `created_at` is in microseconds of the Unix epoch,
    and `origin` is read by `Origin.of`. As FIELDS, in order."""

    __slots__ = FIELDS

    def __init__(
        self, seq: int, xid: int, created_at: int, origin: str, chained: bool | None, who: str | None,
        old_row: str | None, new_row: str | None,
    ) -> None:  # fmt: skip
        self.seq = seq
        self.xid = xid
        self.created_at = created_at
        self.origin = origin
        self.chained = chained
        self.who = who
        self.old_row = old_row
        self.new_row = new_row

    def with_rows(self, old_row: str | None, new_row: str | None) -> "Change":
        """The same change of other rows."""
        return Change(self.seq, self.xid, self.created_at, self.origin, self.chained, self.who, old_row, new_row)


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
