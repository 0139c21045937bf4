"""An event as filters see it: values by path, taken from the event's bytes once however many filters look at them.

A path is a root (`resource`, `delta`, `who` or `data`) and names, joined with dots. Where a name holds a dot itself,
the longest name that is there is taken at each step.
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import Final

import msgspec

from streamhub.core.decimals import Number, number

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

_event: Final = msgspec.json.Decoder(_Event)
_members: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_string: Final = msgspec.json.Decoder(str)
_REFUSED: Final = (msgspec.DecodeError, UnicodeError, RecursionError)
_NOTHING: Final[_Members] = {}


class View:
    """One event. `data` is the object behind `data:` in its frame.

    It raises nothing: where no decoder takes the bytes, every value is absent. The relay has published such an event
    without its row already.
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
                self._event = _Event()
        found: msgspec.Raw = getattr(self._event, name, _NULL)
        return found

    def _members(self, taken: str, raw: msgspec.Raw) -> _Members:
        members = self._objects.get(taken)
        if members is None:
            members = _NOTHING
            if memoryview(raw)[0] == _BRACE:
                try:
                    members = _members.decode(raw)
                except _REFUSED:
                    members = _NOTHING
            self._objects[taken] = members
        return members


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
        try:
            return Value(_string.decode(raw), is_string=True)
        except _REFUSED:
            return _ABSENT
    if first in (_BRACE, _BRACKET):
        return _NESTED
    if first == _N:
        return _ABSENT
    return Value(bytes(raw).decode())
