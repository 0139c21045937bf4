"""How a column's values are spelled in an event, whichever of the two forms of the outbox they come in.

A kind says it, and is kept as JSON: ``null`` for a JSON string; ``"plain"`` for a JSON number as it stands;
``"number"`` (bigint, numeric) for a JSON string, so that no client rounds it; ``"boolean"``; ``"json"``; ``"bytea"``
as base64; ``"padded"`` (char(n)) for a string that loses its padding where it tells whose a row is; ``"timestamp"``
and ``"timestamptz"``; ``["array", kind]``, with its delimiter where that is no comma; ``["vector", kind]``, whose
elements have a space between them; ``["composite", {field: kind}]``. A ``"virtual"`` generated column is never shown:
a trigger sees it as null. ``"unknown"`` is a type that is gone.

In JSON that row_to_json wrote, most are as they should be; `respelling` gives what changes the others. In the text of
a record every value is what its type's output function writes; `spelled` makes JSON of it, the same that row_to_json
does.
"""

import binascii
import re
from collections.abc import Mapping
from typing import Any, Final, TypeAlias

import msgspec

from streamhub.core import literals
from streamhub.core.rows import Respelling, number

Kind: TypeAlias = str | list[Any] | None

VIRTUAL: Final = "virtual"
UNKNOWN: Final = "unknown"
PADDED: Final = "padded"

_array = msgspec.json.Decoder(list[msgspec.Raw])
_raw = msgspec.json.Decoder(msgspec.Raw).decode
_encode = msgspec.json.Encoder().encode
# 2026-11-22 10:00:00.5+00, with " BC" behind years before 1; infinity has no space.
_TIMESTAMP: Final = re.compile(r"(\S+) ([^\s+]+)(\+00)?( BC)?")


def is_known(kind: Kind) -> bool:
    """False where a value of this kind could be spelled wrongly."""
    if isinstance(kind, list):
        return kind[0] == "composite" or is_known(kind[1])
    return kind != UNKNOWN


class Types:
    """The kinds of types by their oids: those that are `known`, and those that a row's description tells of, whose
    fields may have been others before."""

    def __init__(self, known: Mapping[int, Kind], described: Mapping[int, Any]) -> None:
        self._known = known
        self._described = described
        self._kinds: dict[int, Kind] = {}

    def kind(self, type_: int) -> Kind:
        if type_ not in self._kinds:
            self._kinds[type_] = self._kind(type_)
        return self._kinds[type_]

    def _kind(self, type_: int) -> Kind:
        made = self._described.get(type_)
        known = self._known.get(type_, UNKNOWN)
        if isinstance(made, list):
            return ["composite", {name: self.kind(field) for name, field in made}]
        if made is None or is_known(known):
            return known
        if isinstance(made, dict):
            return ["array", self.kind(made["array"]), *(known[2:] if isinstance(known, list) else ())]
        return self.kind(made)


def respelling(kind: Kind) -> Respelling | None:
    """What turns a raw value that row_to_json wrote into the one that is sent; None where it is sent as it stands."""
    if kind == "number":
        return number
    if kind == "bytea":
        return _bytea
    if isinstance(kind, list) and kind[0] == "array":
        element = respelling(kind[1])
        return None if element is None else lambda value: _elements(element, value)
    return None


def _bytea(value: bytes) -> bytes:
    return _base64(value[4:-1]) if value.startswith(b'"\\\\x') else value


def _elements(change: Respelling, value: bytes) -> bytes:
    """Arrays of several dimensions are arrays of arrays in JSON."""
    if value[:1] != b"[":
        return value
    if change is number and (quick := _simple_numbers(value)) is not None:
        return quick
    return b"[%b]" % b",".join(
        [_elements(change, item) if item[:1] == b"[" else change(item) for item in _items(value)]
    )


def _items(array: bytes) -> list[bytes]:
    return [_encode(item) for item in _array.decode(array)]


def _simple_numbers(text: bytes) -> bytes | None:
    """Of numbers alone and nulls, in one dimension: the same as strings."""
    if b'"' in text or b"[" in text[1:] or len(text) < 3:
        return None
    return (b'["%b"]' % text[1:-1].replace(b",", b'","')).replace(b'"null"', b"null")


def spelled(kind: Kind, text: str | None) -> bytes:
    """The JSON of a value that an output function wrote; None is SQL's null.

    Raises ValueError (a literal that is none, another number of fields) and msgspec.DecodeError (no JSON).
    """
    if text is None:
        return b"null"
    if kind == "boolean":
        return b"true" if text == "t" else b"false"
    if kind == "plain":
        return text.encode() if text[-1].isdigit() else _encode(text)  # NaN and infinities are strings
    if kind == "bytea":
        return _base64(text[2:])
    if kind == "json":
        return bytes(_raw(text)).strip()
    if kind in ("timestamp", "timestamptz"):
        return _encode(_TIMESTAMP.sub(_iso_8601, text))
    if isinstance(kind, list):
        if kind[0] == "array":
            simple = literals.simple_elements(text, *kind[2:]) if kind[1] in ("plain", "number") else None
            if simple is not None and (kind[1] == "number" or not any(map(_is_word, simple))):
                return _spelled_simply(kind[1], simple)
            return _spelled_elements(kind[1], literals.elements(text, *kind[2:]))
        if kind[0] == "vector":
            return b"[%b]" % b",".join(spelled(kind[1], each) for each in text.split())
        values, fields = literals.fields(text), kind[1]
        if len(values) != len(fields):
            raise ValueError(f"{len(values)} values for {len(fields)} fields")
        members = zip(fields.items(), values, strict=True)
        return b"{%b}" % b",".join(b"%b:%b" % (_encode(name), spelled(its, value)) for (name, its), value in members)
    return _encode(text)


def _is_word(element: str) -> bool:
    """NaN or an infinity; NULL is none of them."""
    return not element[-1].isdigit() and element != "NULL"


def _spelled_simply(kind: str, elements: list[str]) -> bytes:
    quote = '"' if kind == "number" else ""
    joined = f"{quote},{quote}".join(elements)
    if "NULL" in joined:
        joined = f"{quote}{joined}{quote}".replace(f"{quote}NULL{quote}", "null")
    elif elements:
        joined = f"{quote}{joined}{quote}"
    return b"[%b]" % joined.encode()


def _spelled_elements(kind: Kind, elements: list[Any]) -> bytes:
    return b"[%b]" % b",".join(
        _spelled_elements(kind, each) if isinstance(each, list) else spelled(kind, each) for each in elements
    )


def _base64(digits: str | bytes) -> bytes:
    return b'"%b"' % binascii.b2a_base64(binascii.unhexlify(digits), newline=False)


def _iso_8601(match: "re.Match[str]") -> str:
    date, time, zone, era = match.groups("")
    return f"{date}T{time}{'+00:00' if zone else ''}{era}"
