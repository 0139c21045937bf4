"""Which column each member of a captured row's text is.

A *shape* is the list of a table's columns as they once were, under one capture. Exclusion goes by the column's number
in the captured table, so a renamed column stays excluded. The JSON of a row carries the names that its columns had, in
the order of their positions, and beside it stands `natts`, how many columns the table had ever had. Positions are
never used again, so between two additions of a column the set of live ones only shrinks: `natts` and the number of
members together name the set, and the n-th member is the n-th of it, however it was called. Where no shape of that set
was ever seen, what was before and after it narrows it down (`ShapeBook.tie`), and a member that could still be one of
several columns is left out: exclusion fails closed. The text of a record brings the positions of its columns with it
(core/changes.py).

A partition's positions are tied to the numbers of the captured table's columns by name, which PostgreSQL keeps the same
while it is attached. Once it is detached either may be renamed, so shapes hold for one attachment alone.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Final, NamedTuple

from streamhub.core.changes import Origin
from streamhub.core.kinds import UNKNOWN, Kind

MOST_ALIKE: Final = 16


class Column(NamedTuple):
    """`number` is the attribute number in the captured table; `position` the one in the table the text came from."""

    name: str
    number: int
    position: int
    kind: Kind


class Shape(NamedTuple):
    """The columns of one table (a leaf, where there are partitions) under a capture, in the order of their positions.

    `attachment` is 0 for the captured table itself. `form` and `expands` are for the trigger: see sql/source.
    """

    capture: int
    relation: int
    attachment: int
    filenode: int
    natts: int
    form: str
    expands: bool
    columns: tuple[Column, ...]


class Tie(NamedTuple):
    """The columns of a text, by the names in it, and the names that could not be tied to one (left out)."""

    columns: tuple[Column, ...]
    untied: tuple[str, ...]


_Place = tuple[int, int, int]  # capture, relation, attachment


class ShapeBook:
    """Every shape seen of every captured table, newest last."""

    def __init__(self) -> None:
        self._shapes: dict[_Place, list[Shape]] = {}

    def add(self, shape: Shape) -> bool:
        """Remember a shape as the newest of its table; false where it was known.

        Every TRUNCATE and rewrite gives a table another file node; of shapes that differ in that alone a few are kept.
        """
        known = self._shapes.setdefault((shape.capture, shape.relation, shape.attachment), [])
        if shape in known:
            return False
        alike = [other for other in known if (other.natts, other.columns) == (shape.natts, shape.columns)]
        if len(alike) >= MOST_ALIKE:
            known.remove(alike[0])
        known.append(shape)
        return True

    def fields_of_record(self, origin: Origin, size: int) -> Sequence[Column]:
        """The columns of a record's text with so many fields, which has no names: they are called as they were seen
        last.

        One that could be several columns has the number 0.
        """
        shape = self._of_state(origin, size)
        if shape is not None:
            return shape.columns
        fields = [Column(f"\0{n}", 0, 0, UNKNOWN) for n in range(size)]
        called = {column.position: column.name for column in self._all_columns(origin)}
        for column in self.tie(origin, tuple(field.name for field in fields)).columns:
            fields[int(column.name[1:])] = _called(column, called[column.position])
        return fields

    def is_called(self, capture: int, relation: int, names: tuple[str, ...]) -> bool:
        """The newest shape of a relation under a capture has these names."""
        return any(
            tuple(column.name for column in shapes[-1].columns) == names
            for place, shapes in self._shapes.items()
            if place[:2] == (capture, relation)
        )

    def renamed(self, origin: Origin, names: tuple[str, ...]) -> Shape | None:
        """The shape of a text in which columns have names that they were never seen under, remembered from now on: an
        excluded one's name stays excluded."""
        shape = self._of_state(origin, len(names))
        if shape is None:
            return None
        called = shape._replace(columns=tuple(map(_called, shape.columns, names)))
        place = self._shapes[_place(origin)]
        if any((each.natts, each.columns) == (called.natts, called.columns) for each in place):
            return None
        place.insert(0, called)  # not the newest: those that were read tell how columns are called now
        return called

    def has_state(self, origin: Origin, size: int) -> bool:
        """A shape of the table as it was when a text with `size` columns was written."""
        return self._of_state(origin, size) is not None

    def exact(self, origin: Origin, names: tuple[str, ...]) -> Tie | None:
        """The tie of a text written in a state of the table that was seen, or None."""
        shape = self._of_state(origin, len(names))
        return None if shape is None else Tie(tuple(map(_called, shape.columns, names)), ())

    def tie(self, origin: Origin, names: tuple[str, ...]) -> Tie:
        """The most that can be proved: exact, else by position."""
        exact = self.exact(origin, names)
        if exact is not None:
            return exact
        known = self._shapes.get(_place(origin), [])
        kinds = self.kinds_at(origin)
        columns = tuple(
            column._replace(kind=kinds.get(column.position, UNKNOWN))
            for column in _by_position(known, origin.natts, names)
        )
        tied = {column.name for column in columns}
        return Tie(columns, tuple(name for name in names if name not in tied))

    def tie_names(self, capture: int, names: tuple[str, ...]) -> Tie:
        """The names that every known shape of a capture gives to the same column. Good to tell whose a row is, and no
        more: a name may have been another column's for a while.
        """
        columns = tuple(_agreed(self._of_capture(capture), names).values())
        return Tie(columns, tuple(name for name in names if name not in {column.name for column in columns}))

    def kinds_at(self, origin: Origin) -> Mapping[int, Kind]:
        """By position. A column's type is the same for as long as the file node is: another one makes a rewrite."""
        return {
            column.position: column.kind
            for shapes in self._shapes.values()
            for shape in shapes
            if (shape.relation, shape.filenode) == (origin.relation, origin.filenode)
            for column in shape.columns
        }

    def numbers_of(self, origin: Origin) -> Mapping[int, int]:
        """The number in the captured table for each position of a partition's column, as long as it is attached."""
        return {column.position: column.number for column in self._all_columns(origin)}

    def names_of(self, capture: int, numbers: Collection[int]) -> set[str]:
        """Every name that these columns were seen under."""
        return {
            column.name for shape in self._of_capture(capture) for column in shape.columns if column.number in numbers
        }

    def _of_state(self, origin: Origin, size: int) -> Shape | None:
        state = (origin.filenode, origin.natts, size)
        for shape in reversed(self._shapes.get(_place(origin), [])):
            if (shape.filenode, shape.natts, len(shape.columns)) == state:
                return shape
        return None

    def _all_columns(self, origin: Origin) -> Sequence[Column]:
        return [column for shape in self._shapes.get(_place(origin), []) for column in shape.columns]

    def _of_capture(self, capture: int) -> Sequence[Shape]:
        return [shape for place, shapes in self._shapes.items() if place[0] == capture for shape in shapes]


def _place(origin: Origin) -> _Place:
    return origin.capture, origin.relation, origin.attachment


def _called(column: Column, name: str) -> Column:
    return column if column.name == name else column._replace(name=name)


def _by_position(known: Sequence[Shape], natts: int, names: tuple[str, ...]) -> tuple[Column, ...]:
    """Columns whose place among the members is the same in every set of live columns that is possible.

    What a later shape has was live, and what an earlier one lacks was not.
    """
    size = len(names)
    live: set[int] = set()
    possible = set(range(1, natts + 1))
    for shape in known:
        positions = {column.position for column in shape.columns}
        if shape.natts > natts or (shape.natts == natts and len(positions) <= size):
            live |= {position for position in positions if position <= natts}
        if shape.natts < natts or (shape.natts == natts and len(positions) >= size):
            possible &= positions | set(range(shape.natts + 1, natts + 1))
    if not live <= possible or not len(live) <= size <= len(possible):
        return ()
    if len(possible) == size:
        live = possible
    columns = {column.position: column for shape in known for column in shape.columns}
    tied = []
    for position in sorted(live & set(columns)):
        lowest = max(sum(p < position for p in live), size - 1 - sum(p > position for p in possible))
        highest = min(sum(p < position for p in possible), size - 1 - sum(p > position for p in live))
        if lowest == highest:
            tied.append(_called(columns[position], names[lowest]))
    return tuple(tied)


def _agreed(known: Sequence[Shape], names: tuple[str, ...]) -> dict[str, Column]:
    if not known:
        return {}
    by_name = [{column.name: column for column in shape.columns} for shape in known]
    newest = by_name[-1]
    return {
        name: newest[name]
        for name in names
        if name in newest
        and all(name in columns and columns[name].number == newest[name].number for columns in by_name)
    }
