"""What is done with every text of one capture and one set of columns: worked out once, used for each row."""

from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias

import msgspec

from streamhub.core import frames
from streamhub.core.changes import Capture, Origin
from streamhub.core.kinds import (  # fmt: skip
    NULL,
    PADDED,
    UNKNOWN,
    VIRTUAL,
    Kind,
    Respelling,
    Types,
    is_known,
    respelling,
    spelled,
)
from streamhub.core.shapes import Column, ShapeBook, Tie
from streamhub.core.texts import is_text, readable

REDACTED: Final = msgspec.Raw(b'"[REDACTED]"')

Members: TypeAlias = dict[str, msgspec.Raw]
Identity: TypeAlias = tuple[str | None, bool, str | None]
"""Organization, environment, resource: None for an organization that is null, and a key all of whose parts are."""

_QUOTE, _BACKSLASH = b'"\\'
_text = msgspec.json.Decoder(str).decode
_encode = msgspec.json.Encoder().encode


class Difference(msgspec.Struct, frozen=True, gc=False):
    """What a delta tells of a member."""

    was: msgspec.Raw = msgspec.field(name="from")
    is_: msgspec.Raw = msgspec.field(name="to")


class EventKind:
    """What all events of one kind share: the beginning of their frames and of their objects (core/frames.py)."""

    __slots__ = ("frame_start", "head", "resource_type", "type")

    def __init__(self, event: str, type_: str, resource_type: str | None) -> None:
        self.type = type_
        self.resource_type = resource_type
        self.frame_start = frames.start_of(event)
        self.head = frames.head_of(type_, event, resource_type)


class Plan:
    """Everything about a text that follows from its origin and its names alone.

    `fault` says why no values of such a row can be sent. `attributable` is false where not even an event without values
    can be: nothing tells whose the row is.
    """

    def __init__(
        self, capture: Capture, book: ShapeBook, origin: Origin, layout: "tuple[str, ...] | int",
        types: Mapping[int, Kind], events: Sequence[str],
    ) -> None:  # fmt: skip
        """`layout`: the names in a row's JSON, or how many fields a record's text has."""
        self.capture = capture
        self.backfill = origin.backfill
        self.fault = capture.fault
        self._fields: Sequence[tuple[str, Kind]] = ()
        if isinstance(layout, int):
            columns = fields_of_record(capture, book, origin, layout, types)
            self._fields = [(column.name, column.kind) for column in columns]
            names = tuple(column.name for column in columns)
            tied = tuple(column for column in columns if column.number)
            tie = Tie(tied, tuple(column.name for column in columns if not column.number))
        else:
            tie, names = book.tie(origin, layout), layout
        if not tie.columns:
            tie = book.tie_names(capture.id, names)
            self.fault = self.fault or "nothing is known any more of the columns that the row had"
        self._tell_whose(capture, tie)
        self._show(capture, book, tie, names)
        self.counted = ("untied_members",) if tie.untied else ()
        self.untied = frozenset(tie.untied)
        type_ = capture.resource_type
        self.kinds = {
            event: EventKind(event, capture.type_names.get(event, f"{type_}.{event}"), type_) for event in events
        }

    def _tell_whose(self, capture: Capture, tie: Tie) -> None:
        by_number = {column.number: column for column in tie.columns}
        # A column that was added since, under the name of one that tells whose a row is, stands in its place now.
        newer = {column.name for column in tie.columns if column.number > capture.natts}
        replaced = {number for number, name in capture.column_names.items() if name in newer}

        def named(number: int | None) -> str | None:
            return by_number[number].name if number in by_number else None

        keys = [by_number.get(number) for number in capture.key_columns]
        self.keys = [(None, None) if key is None else (key.name, _of_key(key.kind)) for key in keys]
        self.lone_key = self.keys[0][0] if len(self.keys) == 1 and self.keys[0][1] is None else None
        self.organization = named(capture.organization_column)
        organization = by_number.get(capture.organization_column or 0)
        self.organization_is_padded = organization is not None and organization.kind == PADDED
        self.test = named(capture.test_column)
        self.anonymization = named(capture.anonymization_column)
        names = (*(name for name, _ in self.keys), self.organization, self.test)
        self.identifying = frozenset(name for name in names if name is not None)
        self.attributable = all(name is not None for name, _ in self.keys) and (
            capture.organization_id is not None
            or (self.organization is not None and capture.organization_column not in replaced)
        )
        if not self.attributable:
            self.fault = "a column that tells whose row it is has gone"
        elif not replaced.isdisjoint(capture.key_columns):
            self.fault = "its key was replaced by a column of the same name"
        test = by_number.get(capture.test_column or 0)
        self._test_is_told = capture.test_column is None or (
            test is not None and test.kind == "boolean" and capture.test_column not in replaced
        )
        self._test = capture.test if self._test_is_told else True  # where no member tells it
        if not self._test_is_told:
            # No value goes out, and the event is one of the test environment unless a column of that name says no.
            self.fault = self.fault or "the column that tells its environment has gone, or is no boolean"
            name = capture.column_names.get(capture.test_column or 0)
            self.test = name if name in {column.name for column in tie.columns} else None

    def _show(self, capture: Capture, book: ShapeBook, tie: Tie, names: tuple[str, ...]) -> None:
        def hidden(column: Column, numbers: frozenset[int], once: set[str]) -> bool:
            return column.number in numbers or (column.number > capture.natts and column.name in once)

        def once(numbers: frozenset[int]) -> set[str]:
            return book.names_of(capture.id, numbers) | {
                name for number, name in capture.column_names.items() if number in numbers
            }

        excluded, redacted = once(capture.excluded_columns), once(capture.redacted_columns)
        shown = {
            column.name: column
            for column in tie.columns
            if column.name in names
            and column.kind != VIRTUAL
            and not hidden(column, capture.excluded_columns, excluded)
        }
        self.hidden = frozenset(name for name in names if name not in shown)
        self.changes: dict[str, Respelling] = {}
        for name, column in shown.items():
            if hidden(column, capture.redacted_columns, redacted):
                self.changes[name] = _redact
            elif not is_known(column.kind):
                self.fault = self.fault or "the types that its columns had are not known any more"
            elif not self._fields and (change := respelling(column.kind)) is not None:
                self.changes[name] = change

    def read(self, values: Sequence[str | None]) -> Members:
        """The members of a record. Raises ValueError and msgspec.DecodeError where one cannot be read."""
        members = {}
        for (name, kind), value in zip(self._fields, values, strict=True):
            if name in self.hidden and name not in self.identifying:
                kind = None  # noqa: PLW2901 - it is compared and not shown
            members[name] = msgspec.Raw(spelled(kind, value))
        return members

    def read_identity(self, values: Sequence[str | None]) -> Members:
        """The members of a record that tell whose it is, whatever the others are. Raises as `read` does."""
        wanted = self.identifying | {self.test, self.anonymization}
        members = {}
        for (name, kind), value in zip(self._fields, values, strict=True):
            if name in wanted:
                if name == self.organization and not is_text(value):
                    raise ValueError("the organization's id is no text")
                value = None if value is None else readable(value)  # noqa: PLW2901
                members[name] = msgspec.Raw(spelled(kind if is_known(kind) else None, value))
        return members

    def identity(self, row: Members) -> Identity:
        capture = self.capture
        organization = capture.organization_id
        if self.organization is not None and organization is None:
            organization = _plain(row[self.organization])
            if self.organization_is_padded and organization is not None:
                organization = organization.rstrip(" ")
        if self.test is None:
            test = self._test
        elif self._test_is_told:
            test = _encode(row[self.test]) == b"true"
        else:
            test = _encode(row[self.test]) not in (b"false", b'"f"')
        if self.lone_key is not None:
            return organization, test, _plain(row[self.lone_key])
        parts = [
            None if name is None else _plain(row[name] if change is None else change(row[name]))
            for name, change in self.keys
        ]
        return organization, test, None if not any(parts) and None in parts else ":".join(part or "" for part in parts)

    def show(self, row: Members, text: str) -> bytes:
        """Make `row` what readers see: hidden members gone, values respelled or covered. The same as JSON.

        `text` is the row as it was written, which where nothing is to be done is the JSON.
        """
        if not self.hidden and not self.changes and not self._fields:
            return text.encode()
        for name in self.hidden:
            del row[name]
        for name, change in self.changes.items():
            row[name] = change(row[name])
        return _encode(row)

    def delta(self, old: Members, new: Members, changed: Sequence[str]) -> dict[str, Difference]:
        """`new` is shown already, `old` is as it was written."""
        delta = {}
        for name in changed:
            change = self.changes.get(name)
            was = old[name]
            delta[name] = Difference(was if change is None else change(was), new[name])
        return delta


def fields_of_record(
    capture: Capture, book: ShapeBook, origin: Origin, size: int, types: Mapping[int, Kind]
) -> Sequence[Column]:
    """The columns of a record's fields, in order; with number 0 where it cannot be told which one it is.

    Raises ValueError where the description is not of so many.
    """
    if origin.columns is None:
        return book.fields_of_record(origin, size)
    if len(origin.columns) != size:
        raise ValueError(f"{size} values for {len(origin.columns)} columns")
    own = origin.relation == capture.relation
    numbers = {} if own else book.numbers_of(origin)
    at_the_time = book.kinds_at(origin) if any(column.type is None for column in origin.columns) else {}
    told = Types(types, origin.made)
    columns = []
    for position, name, type_ in origin.columns:
        if type_ is None:
            kind = at_the_time.get(position, UNKNOWN)
        elif type_ == 0:
            kind = VIRTUAL
        else:
            kind = told.kind(type_)
        columns.append(Column(name, position if own else numbers.get(position, 0), position, kind))
    return columns


def _of_key(kind: Kind) -> Respelling | None:
    return _unpadded if kind == PADDED else respelling(kind)


def _unpadded(raw: msgspec.Raw) -> msgspec.Raw:
    text = _plain(raw)
    return raw if text is None else msgspec.Raw(_encode(text.rstrip(" ")))


def _redact(raw: msgspec.Raw) -> msgspec.Raw:
    return raw if raw == NULL else REDACTED


def _plain(raw: msgspec.Raw) -> str | None:
    """A JSON value as a plain text: a string's content, anything else as it is spelled, None for null."""
    data = _encode(raw)
    if data[0] == _QUOTE:
        if _BACKSLASH not in data:
            return data[1:-1].decode()
        text = _text(data)
        return text if "\0" not in text else data[1:-1].decode()  # no text in PostgreSQL holds a NUL: as it is spelled
    return None if data == b"null" else data.decode()
