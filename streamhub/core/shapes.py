"""What a captured row's text means: which column each JSON member is, and which values are spelled another way.

A *shape* is the list of a table's columns as they once were. The text of a row carries names only; it is tied to the
shape that has exactly its names, in their order. Exclusion goes by the column's number in the captured root, so a
renamed column stays excluded; a text that no shape fits loses every member that cannot be proved to be a certain
column (`ShapeBook.tie`): exclusion fails closed.

A kind says how a value is spelled, and is kept as JSON: ``null`` as it stands; ``"number"`` (bigint, numeric) as a
JSON string, so that no client rounds it; ``"bytea"`` as base64; ``["array", kind]`` each element;
``["composite", {field: kind}]`` each field. A ``"virtual"`` generated column is never shown: a trigger sees it as null.
"""

import binascii
from collections.abc import Callable, Sequence
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
    columns: tuple[Column, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)


class Tie(NamedTuple):
    """The columns of a text, and the names in it that could not be tied to one (left out of the event)."""

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
        alike = [other for other in known if other.columns == shape.columns]
        if len(alike) >= MOST_ALIKE:
            known.remove(alike[0])
        known.append(shape)
        return True

    def exact(self, relation: int, filenode: int, names: tuple[str, ...]) -> Tie | None:
        """The tie of a text written in this very state of the table, or None where that state was never seen."""
        for shape in reversed(self._shapes.get(relation, [])):
            if shape.filenode == filenode and shape.names == names:
                return Tie(shape.columns, ())
        return None

    def tie(self, relation: int, filenode: int, names: tuple[str, ...]) -> Tie:
        """The best tie that leaks nothing: exact, else by the same names in order, else member by member."""
        exact = self.exact(relation, filenode, names)
        if exact is not None:
            return exact
        known = self._shapes.get(relation, [])
        for shape in reversed(known):
            if shape.names == names:
                return Tie(shape.columns, ())
        return _tie_members(known, names)


def _tie_members(known: Sequence[Shape], names: tuple[str, ...]) -> Tie:
    """Tie the names that every known shape gives to the same column.

    Positions never come back once a column is dropped, and a text lists its members by position. So where the tied
    ones are out of order, or more unknown names stand between two of them than there are columns known between their
    positions, a name must have moved from one column to another, and nothing in the text can be trusted.
    """
    if not known:
        return Tie((), names)
    by_name = [{column.name: column for column in shape.columns} for shape in known]
    newest = by_name[-1]
    tied = {
        name: newest[name]
        for name in names
        if name in newest
        and all(name in columns and columns[name].number == newest[name].number for columns in by_name)
    }
    positions = {column.position for shape in known for column in shape.columns}
    last, unknown = 0, 0
    for name in names:
        column = tied.get(name)
        if column is None:
            unknown += 1
            continue
        room = sum(1 for position in positions if last < position < column.position)
        if column.position <= last or unknown > room:
            return Tie((), names)
        last, unknown = column.position, 0
    return Tie(tuple(tied.values()), tuple(name for name in names if name not in tied))


def respelling(kind: Kind) -> Respelling | None:
    """What turns a raw value of this kind into the one that is sent; None where it is sent as it stands."""
    if kind == "number":
        return _number
    if kind == "bytea":
        return _bytea
    if isinstance(kind, list) and kind[0] == "array":
        element = respelling(kind[1])
        return None if element is None else lambda raw: _elements(element, raw)
    if isinstance(kind, list) and kind[0] == "composite":
        fields = {name: change for name, field in kind[1].items() if (change := respelling(field)) is not None}
        return None if not fields else lambda raw: _fields(fields, raw)
    return None


def _number(raw: msgspec.Raw) -> msgspec.Raw:
    text = bytes(raw)
    return raw if text[0] in b'n"' else msgspec.Raw(b'"%b"' % text)  # NaN and infinities are strings already


def _bytea(raw: msgspec.Raw) -> msgspec.Raw:
    text = bytes(raw)
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


def _fields(changes: dict[str, Respelling], raw: msgspec.Raw) -> msgspec.Raw:
    if not _opens_with(raw, b"{"):
        return raw
    members = _object.decode(raw)
    for name, change in changes.items():
        if name in members:
            members[name] = change(members[name])
    return msgspec.Raw(_encode(members))


def _opens_with(raw: msgspec.Raw, bracket: bytes) -> bool:
    return bytes(memoryview(raw)[:1]) == bracket
