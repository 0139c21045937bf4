"""What is done with every text of one capture and one set of columns: worked out once, used for each row."""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import msgspec

from streamhub.core.changes import Capture, Origin
from streamhub.core.kinds import PADDED, UNKNOWN, VIRTUAL, Kind, Types, is_known, respelling, spelled
from streamhub.core.rows import NULL, EventKind, Layout, Respelling, Values, redacted, unpadded
from streamhub.core.shapes import Column, ShapeBook, Tie
from streamhub.core.texts import is_text, readable

Members: TypeAlias = dict[str, msgspec.Raw]

_encode = msgspec.json.Encoder().encode


class Plan(Layout):
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
        self.names = tuple(dict.fromkeys(names))
        self._places = {name: place for place, name in enumerate(self.names)}
        self._tell_whose(capture, tie)
        self._show(capture, book, tie)
        self.counted = ("untied_members",) if tie.untied else ()
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

        def placed(name: str | None) -> int | None:
            return None if name is None else self._places[name]

        keys = [by_number.get(number) for number in capture.key_columns]
        self.keys = [(None, None) if key is None else (placed(key.name), _of_key(key.kind)) for key in keys]
        self.lone_key = self.keys[0][0] if len(self.keys) == 1 and self.keys[0][1] is None else None
        self.organization = named(capture.organization_column)
        self.organization_place = placed(self.organization) if capture.organization_id is None else None
        organization = by_number.get(capture.organization_column or 0)
        self.organization_is_padded = organization is not None and organization.kind == PADDED
        test_name = named(capture.test_column)
        self.anonymization_place = placed(named(capture.anonymization_column))
        identifying = {*(place for place, _ in self.keys), placed(self.organization), placed(test_name)}
        self.identifying = [place in identifying for place in range(len(self.names))]
        self.attributable = None not in keys and (
            capture.organization_id is not None
            or (self.organization is not None and capture.organization_column not in replaced)
        )
        if not self.attributable:
            self.fault = "a column that tells whose row it is has gone"
        elif not replaced.isdisjoint(capture.key_columns):
            self.fault = "its key was replaced by a column of the same name"
        test = by_number.get(capture.test_column or 0)
        self.test_is_told = capture.test_column is None or (
            test is not None and test.kind == "boolean" and capture.test_column not in replaced
        )
        self.test_otherwise = capture.test if self.test_is_told else True  # where no member tells it
        if not self.test_is_told:
            # No value goes out, and the event is one of the test environment unless a column of that name says no.
            self.fault = self.fault or "the column that tells its environment has gone, or is no boolean"
            name = capture.column_names.get(capture.test_column or 0)
            test_name = name if name in {column.name for column in tie.columns} else None
        self.test_place = placed(test_name)

    def _show(self, capture: Capture, book: ShapeBook, tie: Tie) -> None:
        def hidden(column: Column, numbers: frozenset[int], once: set[str]) -> bool:
            return column.number in numbers or (column.number > capture.natts and column.name in once)

        def once(numbers: frozenset[int]) -> set[str]:
            return book.names_of(capture.id, numbers) | {
                name for number, name in capture.column_names.items() if number in numbers
            }

        excluded, redacted_once = once(capture.excluded_columns), once(capture.redacted_columns)
        shown = {
            column.name: column
            for column in tie.columns
            if column.name in self._places
            and column.kind != VIRTUAL
            and not hidden(column, capture.excluded_columns, excluded)
        }
        changes: dict[str, Respelling] = {}
        for name, column in shown.items():
            if hidden(column, capture.redacted_columns, redacted_once):
                changes[name] = redacted
            elif not is_known(column.kind):
                self.fault = self.fault or "the types that its columns had are not known any more"
            elif not self._fields and (change := respelling(column.kind)) is not None:
                changes[name] = change
        openings = [b",%b:" % _encode(readable(name)) for name in self.names]
        self.openings = _around_values(openings)[:-1:2]
        self.changes = [changes.get(name) for name in self.names]
        self.changing_places = [place for place, change in enumerate(self.changes) if change is not None]
        self.telling = [name in shown or name in tie.untied for name in self.names]
        self.delta_openings = [
            b'%b{"from":' % opening[1:] if name in shown else None
            for name, opening in zip(self.names, openings, strict=True)
        ]
        self.shown_places = [place for name, place in self._places.items() if name in shown]
        self.around = _around_values([openings[place] for place in self.shown_places])
        self.as_written = len(shown) == len(self.names) and not changes and not self._fields

    def values(self, members: Members) -> Values:
        """Of the JSON of a row. Raises KeyError where it has other members."""
        if tuple(members) == self.names:
            return [*map(_encode, members.values())]
        return [_encode(members[name]) for name in self.names]

    def compared(self, old: Members, new: Members) -> tuple[Values, Values, list[int]]:
        """The values of both rows, and the places in which they differ. Raises KeyError where `old` has others."""
        values = [*map(_encode, new.values())]
        were, changed = values.copy(), []
        for name, value in new.items():
            was = old[name]
            if was != value:
                place = self._places[name]
                were[place] = _encode(was)
                changed.append(place)
        return were, values, changed

    def read(self, values: Sequence[str | None]) -> Values:
        """The values of a record. Raises ValueError and msgspec.DecodeError where one cannot be read."""
        read = {}
        for (name, kind), value in zip(self._fields, values, strict=True):
            place = self._places[name]
            if self.delta_openings[place] is None and not self.identifying[place]:
                kind = None  # noqa: PLW2901 - it is compared and not shown
            read[place] = spelled(kind, value)
        return [*read.values()]

    def read_identity(self, values: Sequence[str | None]) -> Values:
        """Those of a record that tell whose it is, whatever the others are. Raises as `read` does."""
        read = [NULL] * len(self.names)
        for (name, kind), value in zip(self._fields, values, strict=True):
            place = self._places[name]
            if self.identifying[place] or place in (self.test_place, self.anonymization_place):
                if name == self.organization and not is_text(value):
                    raise ValueError("the organization's id is no text")
                value = None if value is None else readable(value)  # noqa: PLW2901
                read[place] = spelled(kind if is_known(kind) else None, value)
        return read


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


def _around_values(openings: Sequence[bytes]) -> list[bytes]:
    """The pieces of an object, with an empty one in the place of each value. `openings` are ``,"id":`` and so on."""
    if not openings:
        return [b"{}"]
    pieces = [piece for opening in openings for piece in (opening, b"")]
    return [b"{" + pieces[0][1:], *pieces[1:], b"}"]


def _of_key(kind: Kind) -> Respelling | None:
    return unpadded if kind == PADDED else respelling(kind)
