"""An event as filters see it: values by path, taken from the event's bytes once however many filters look at them.

A path is a root (`resource`, `delta`, `who` or `data`) and names, joined with dots. Where a name holds a dot itself,
the longest name that is there is taken at each step.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Final, TypeVar

import msgspec

from streamhub.core import scan
from streamhub.core.decimals import Number, number

S = TypeVar("S")

LONGEST_SCANNED: Final = 64 * 1024  # bytes; a scan is slow, and it is made on the event loop
_QUOTE, _BRACE, _BRACKET, _N = b'"{[n'
_UNREAD: Final[Number] = (0, 0, Decimal(0))


class Value:
    """What stands at a path. `text` is a string's content, or a number or boolean as it is spelled; None for null,
    objects, arrays and what is absent. `is_there` is false for null and what is absent."""

    __slots__ = ("_number", "is_string", "is_there", "text")

    def __init__(self, text: str | None, *, is_string: bool = False, is_there: bool = True) -> None:
        self.text = text
        self.is_string = is_string
        self.is_there = is_there
        self._number: Number | None = _UNREAD

    @property
    def number(self) -> Number | None:
        """None where the value is neither a number nor a string of JSON's number form."""
        if self._number is _UNREAD:
            self._number = None if self.text is None else number(self.text)
        return self._number


_ABSENT: Final = Value(None, is_there=False)
_NESTED: Final = Value(None)


_NULL: Final = msgspec.Raw(b"null")


class _Event(msgspec.Struct, gc=False):
    resource: msgspec.Raw = _NULL
    delta: msgspec.Raw = _NULL
    who: msgspec.Raw = _NULL
    data: msgspec.Raw = _NULL
    resource_type: msgspec.Raw = _NULL
    resource_id: msgspec.Raw = _NULL


_Members = Mapping[str, msgspec.Raw]
_ROOTS: Final = _Event.__struct_fields__

_event: Final = msgspec.json.Decoder(_Event)
_members: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_elements: Final = msgspec.json.Decoder(list[msgspec.Raw])
_string: Final = msgspec.json.Decoder(str)
_REFUSED: Final = (msgspec.DecodeError, UnicodeError, RecursionError)
_NOTHING: Final[_Members] = {}


class View:
    """One event. `data` is the object behind `data:` in its frame.

    It raises nothing. What no decoder takes (a lone surrogate, nesting without end) is read by `core/scan.py`, so that
    the rest of such an event is there; where that is longer than LONGEST_SCANNED its values are absent.
    """

    __slots__ = ("_data", "_event", "_objects", "_values")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._event: _Event | None = None
        self._objects: dict[str, _Members] = {}
        self._values: dict[str, Value] = {}

    def at(self, path: str) -> Value:
        """The value at a path, such as `resource.status`; also at `resource_type` and `resource_id` themselves."""
        value = self._values.get(path)
        if value is None:
            value = self._values[path] = self._read(path)
        return value

    def in_delta(self, column: str) -> bool:
        """Whether the column is one of those that changed."""
        return column in self._members("delta", self._root("delta"))

    def raw(self, root: str) -> msgspec.Raw:
        """The bytes of a root; `null` where it is absent."""
        return self._root(root)

    def _read(self, path: str) -> Value:
        taken, dot, rest = path.partition(".")
        raw = self._root(taken)
        while dot:
            members = self._members(taken, raw)
            name = _longest(rest, members)
            if name is None:
                return _ABSENT
            raw = members[name]
            # By the rule of the longest name, one text taken leads to one object alone.
            taken = f"{taken}.{name}"
            dot, rest = rest[len(name) : len(name) + 1], rest[len(name) + 1 :]
        return _value(raw)

    def _root(self, name: str) -> msgspec.Raw:
        if self._event is None:
            try:
                self._event = _event.decode(self._data)
            except _REFUSED:
                found_by_scan = members_of(msgspec.Raw(self._data))
                self._event = _Event(**{name: found_by_scan[name] for name in _ROOTS if name in found_by_scan})
        found: msgspec.Raw = getattr(self._event, name, _NULL)
        return found

    def _members(self, taken: str, raw: msgspec.Raw) -> _Members:
        members = self._objects.get(taken)
        if members is None:
            members = self._objects[taken] = members_of(raw)
        return members


def members_of(raw: msgspec.Raw) -> _Members:
    """The members of an object, the last one of a name; none where it is no object."""
    if bytes(memoryview(raw)[:1]) != b"{":
        return _NOTHING
    try:
        return _members.decode(raw)
    except _REFUSED:
        return {name: msgspec.Raw(value.encode()) for name, value in (_scanned(raw, scan.members) or {}).items()}


def elements_of(raw: msgspec.Raw) -> Sequence[msgspec.Raw]:
    """The elements of an array; none where it is no array."""
    if memoryview(raw)[0] != _BRACKET:
        return ()
    try:
        return _elements.decode(raw)
    except _REFUSED:
        return [msgspec.Raw(value.encode()) for value in _scanned(raw, scan.elements) or ()]


def _scanned(raw: msgspec.Raw, read: Callable[[str], S]) -> S | None:
    text = bytes(raw)
    if len(text) > LONGEST_SCANNED:
        return None
    try:
        return read(text.decode())
    except ValueError:  # no JSON at all
        return None


def string_of(raw: msgspec.Raw) -> str | None:
    """The content of a string; None where it is no string."""
    if memoryview(raw)[0] != _QUOTE:
        return None
    try:
        return _string.decode(raw)
    except _REFUSED:
        found: str = json.loads(bytes(raw))  # which takes a lone surrogate
        return found


def _longest(names: str, members: _Members) -> str | None:
    """The longest of the names at the beginning that is a member."""
    end = len(names)
    while end >= 0:
        name = names[:end]
        if name in members:
            return name
        end = names.rfind(".", 0, end)
    return None


def _value(raw: msgspec.Raw) -> Value:
    first = memoryview(raw)[0]
    if first == _QUOTE:
        return Value(string_of(raw), is_string=True)
    if first in (_BRACE, _BRACKET):
        return _NESTED
    if first == _N:
        return _ABSENT
    return Value(bytes(raw).decode())
