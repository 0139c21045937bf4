"""What a captured row's text means: which column each JSON member is, and which values are spelled another way.

A *shape* is the list of a table's columns as they once were. Exclusion goes by the column's number in the captured
root, so a renamed column stays excluded. A text carries the names that its columns had, in the order of their
positions, and beside it stands `natts`, how many columns the table had ever had. Positions are never used again, so
between two additions of a column the set of live ones only shrinks: `natts` and the number of members together name
the set, and the n-th member is the n-th of it, however it was called. Where no shape of that set was ever seen, what
was before and after it narrows it down (`ShapeBook.tie`), and a member that could still be one of several columns is
left out: exclusion fails closed.

A kind says how a value is spelled, and is kept as JSON: ``null`` as it stands; ``"number"`` (bigint, numeric) as a
JSON string, so that no client rounds it; ``"bytea"`` as base64; ``["array", kind]`` each element;
``["composite", {field: kind}]`` each field. A ``"virtual"`` generated column is never shown: a trigger sees it as null.
"""

import binascii
from collections.abc import Callable, Collection, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

import msgspec

Kind: TypeAlias = str | list[Any] | None
Respelling: TypeAlias = Callable[[msgspec.Raw], msgspec.Raw]

VIRTUAL: Final = "virtual"
MOST_ALIKE: Final = 16
NULL: Final = msgspec.Raw(b"null")

_array = msgspec.json.Decoder(list[msgspec.Raw])
_object = msgspec.json.Decoder(dict[str, msgspec.Raw])
_encode = msgspec.json.Encoder().encode


class Column(NamedTuple):
    """`number` is the attribute number in the captured root; `position` the one in the table the text came from."""

    name: str
    number: int
    position: int
    kind: Kind


class Shape(NamedTuple):
    """The columns of one table (a leaf, where there are partitions), in the order of their positions."""

    relation: int
    filenode: int
    natts: int
    columns: tuple[Column, ...]


class Tie(NamedTuple):
    """The columns of a text, by the names in it, and the names that could not be tied to one (left out)."""

    columns: tuple[Column, ...]
    untied: tuple[str, ...]


class ShapeBook:
    """Every shape seen of every captured table, newest last."""

    def __init__(self) -> None:
        self._shapes: dict[int, list[Shape]] = {}

    def add(self, shape: Shape) -> bool:
        """Remember a shape as the newest of its table; false where it was known.

        Every TRUNCATE and rewrite gives a table another filenode; of shapes that differ in that alone a few are kept.
        """
        known = self._shapes.setdefault(shape.relation, [])
        if shape in known:
            return False
        alike = [other for other in known if (other.natts, other.columns) == (shape.natts, shape.columns)]
        if len(alike) >= MOST_ALIKE:
            known.remove(alike[0])
        known.append(shape)
        return True

    def exact(self, relation: int, filenode: int, natts: int | None, names: tuple[str, ...]) -> Tie | None:
        """The tie of a text written in a state of the table that was seen, or None."""
        for shape in reversed(self._shapes.get(relation, [])):
            if (shape.filenode, shape.natts, len(shape.columns)) == (filenode, natts, len(names)):
                return Tie(tuple(map(_called, shape.columns, names)), ())
        return None

    def tie(self, relation: int, filenode: int, natts: int | None, names: tuple[str, ...]) -> Tie:
        """The most that can be proved: exact, else by position, else (`natts` unknown) by name."""
        exact = self.exact(relation, filenode, natts, names)
        if exact is not None:
            return exact
        known = self._shapes.get(relation, [])
        # In another state of the file a type may differ, so a shape of the same state is asked first.
        known = sorted(known, key=lambda shape: shape.filenode == filenode)
        columns = _by_name(known, names) if natts is None else _by_position(known, natts, names)
        tied = {column.name for column in columns}
        return Tie(columns, tuple(name for name in names if name not in tied))

    def tie_some(self, relation: int, numbers: Collection[int], names: tuple[str, ...]) -> Tie:
        """The tie of a text that has only the columns with these numbers, in the order of their positions."""
        found = {
            column.number: column
            for shape in self._shapes.get(relation, [])
            for column in shape.columns
            if column.number in numbers
        }
        if len(found) != len(names):
            return self.tie_names(relation, names)
        columns = sorted(found.values(), key=lambda column: column.position)
        return Tie(tuple(map(_called, columns, names)), ())

    def tie_names(self, relation: int, names: tuple[str, ...]) -> Tie:
        """The names that every known shape of a table gives to the same column. Good to tell whose a row is, and no
        more: a name may have been another column's for a while.
        """
        known = self._shapes.get(relation, [])
        columns = tuple(_agreed(known, names).values())
        return Tie(columns, tuple(name for name in names if name not in {column.name for column in columns}))


def _called(column: Column, name: str) -> Column:
    return column if column.name == name else column._replace(name=name)


def _by_position(known: Sequence[Shape], natts: int, names: tuple[str, ...]) -> tuple[Column, ...]:
    """Columns whose place among the members is the same in every set of live columns that is possible.

    What a later shape has was live, and what an earlier one lacks was not. In the last of `known` stands what counts.
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


def _by_name(known: Sequence[Shape], names: tuple[str, ...]) -> tuple[Column, ...]:
    """The names that every known shape gives to the same column.

    Positions never come back once a column is dropped, and a text lists its members by position. So where the tied
    ones are out of order, or more unknown names stand between two of them than there are columns known between their
    positions, a name must have moved from one column to another, and nothing in the text can be trusted.
    """
    tied = _agreed(known, names)
    positions = {column.position for shape in known for column in shape.columns}
    last, unknown = 0, 0
    for name in names:
        column = tied.get(name)
        if column is None:
            unknown += 1
            continue
        room = sum(1 for position in positions if last < position < column.position)
        if column.position <= last or unknown > room:
            return ()
        last, unknown = column.position, 0
    return tuple(tied.values())


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


class UnknownFieldError(LookupError):
    """A composite value has a field that its type had not when the shape was read."""


def respelling(kind: Kind) -> Respelling | None:
    """What turns a raw value of this kind into the one that is sent; None where it is sent as it stands.

    What is given back raises UnknownFieldError.
    """
    if kind == "number":
        return _number
    if kind == "bytea":
        return _bytea
    if isinstance(kind, list) and kind[0] == "array":
        element = respelling(kind[1])
        return None if element is None else lambda raw: _elements(element, raw)
    if isinstance(kind, list) and kind[0] == "composite":
        fields = {name: respelling(field) for name, field in kind[1].items()}
        return lambda raw: _fields(fields, raw)
    return None


def _number(raw: msgspec.Raw) -> msgspec.Raw:
    text = _encode(raw)
    return raw if text[0] in b'n"' else msgspec.Raw(b'"%b"' % text)  # NaN and infinities are strings already


def _bytea(raw: msgspec.Raw) -> msgspec.Raw:
    text = _encode(raw)
    if not text.startswith(b'"\\\\x'):
        return raw
    return msgspec.Raw(b'"%b"' % binascii.b2a_base64(binascii.unhexlify(text[4:-1]), newline=False))


def _elements(change: Respelling, raw: msgspec.Raw) -> msgspec.Raw:
    """Arrays of several dimensions are arrays of arrays in JSON."""
    if not _opens_with(raw, b"["):
        return raw
    items = _array.decode(raw)
    return msgspec.Raw(
        _encode([(_elements(change, item) if _opens_with(item, b"[") else change(item)) for item in items])
    )


def _fields(changes: dict[str, Respelling | None], raw: msgspec.Raw) -> msgspec.Raw:
    if not _opens_with(raw, b"{"):
        return raw
    members = _object.decode(raw)
    for name, value in members.items():
        if name not in changes:
            raise UnknownFieldError(name)
        change = changes[name]
        if change is not None:
            members[name] = change(value)
    return msgspec.Raw(_encode(members))


def _opens_with(raw: msgspec.Raw, bracket: bytes) -> bool:
    return bytes(memoryview(raw)[:1]) == bracket
