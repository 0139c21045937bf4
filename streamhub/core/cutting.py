"""Two rows of one table, as JSON objects, cut into their values and compared in one pass over their bytes.

There is no rule in here: it gives what a decoder would give, or None for any text that is less plain than nearly all
are. Compiled it is quicker than decoding, interpreted many times slower, so it is used where it is compiled.
"""

from collections.abc import Sequence
from typing import Final

COMPILED: Final = not __file__.endswith(".py")
DEPTH: Final = 32  # of nested arrays and objects

# Bytes, as numbers.
_QUOTE, _BACKSLASH, _COMMA, _COLON, _DOT, _MINUS, _ZERO, _NINE, _N, _T = b'"\\,:.-09nt'
_OPEN_OBJECT, _CLOSE_OBJECT, _OPEN_ARRAY, _CLOSE_ARRAY = b"{}[]"
_SPACE: Final = 0x20
_NOT_PLAIN: Final = -1

Cut = tuple[list[bytes], list[bytes], list[int]]


def compared(old: str, new: str, openings: Sequence[bytes]) -> Cut | None:
    """The values of both objects, and the places in which they differ; None where another way has to be gone.

    `openings` are what stands before each value: ``{"id":``, ``,"code":``, …
    """
    try:
        return _compared(old.encode(), new.encode(), openings)
    except (IndexError, UnicodeError):  # the text ends within a value; it holds what was no text
        return None


def _compared(old: bytes, new: bytes, openings: Sequence[bytes]) -> Cut | None:
    old_values, new_values, changed = [], [], []
    at_old = at_new = 0
    for place, opening in enumerate(openings):
        if not old.startswith(opening, at_old) or not new.startswith(opening, at_new):
            return None
        at_old += len(opening)
        at_new += len(opening)
        end = _end_of_value(new, at_new, DEPTH)
        if end < 0:
            return None
        value = _part(new, at_new, end)
        at_new = end
        new_values.append(value)
        if old.startswith(value, at_old) and old[at_old + len(value)] in b",}":
            at_old += len(value)
        else:
            behind = _end_of_value(old, at_old, DEPTH)
            if behind < 0:
                return None
            value = _part(old, at_old, behind)
            at_old = behind
            changed.append(place)
        old_values.append(value)
    if not _is_the_end(old, at_old) or not _is_the_end(new, at_new):
        return None
    return old_values, new_values, changed


def _part(text: bytes, start: int, end: int) -> bytes:
    return text[start:end]


def _is_the_end(text: bytes, at: int) -> bool:
    return at + 1 == len(text) and text[at] == _CLOSE_OBJECT


def _end_of_value(text: bytes, at: int, depth: int) -> int:
    """The index behind the value that begins at `at`; negative where it is none, or not a plain one."""
    byte = text[at]
    if byte == _QUOTE:
        return _end_of_string(text, at)
    if byte in (_OPEN_OBJECT, _OPEN_ARRAY):
        return _end_of_nested(text, at, depth)
    if byte == _MINUS or _ZERO <= byte <= _NINE:
        return _end_of_number(text, at)
    for expected in b"null" if byte == _N else b"true" if byte == _T else b"false":
        if text[at] != expected:
            return _NOT_PLAIN
        at += 1
    return at


def _end_of_string(text: bytes, at: int) -> int:
    while True:
        at += 1
        byte = text[at]
        if byte == _QUOTE:
            return at + 1
        if byte == _BACKSLASH:
            at += 1
            if text[at] not in b'"\\/bfnrt':  # a \u may be half of a character
                return _NOT_PLAIN
        elif byte < _SPACE:
            return _NOT_PLAIN


def _end_of_number(text: bytes, at: int) -> int:
    if text[at] == _MINUS:
        at += 1
    at = at + 1 if text[at] == _ZERO else _end_of_digits(text, at)
    if at >= 0 and text[at] == _DOT:
        at = _end_of_digits(text, at + 1)
    return _NOT_PLAIN if at < 0 or text[at] in b"eE" else at


def _end_of_digits(text: bytes, at: int) -> int:
    start = at
    while _ZERO <= text[at] <= _NINE:
        at += 1
    return at if at > start else _NOT_PLAIN


def _end_of_nested(text: bytes, at: int, depth: int) -> int:
    """Of an object or an array."""
    if depth == 0:
        return _NOT_PLAIN
    is_object = text[at] == _OPEN_OBJECT
    closing = _CLOSE_OBJECT if is_object else _CLOSE_ARRAY
    at = _behind_space(text, at + 1)
    if text[at] == closing:
        return at + 1
    while True:
        if is_object:
            at = _end_of_string(text, at) if text[at] == _QUOTE else _NOT_PLAIN
            if at < 0:
                return at
            at = _behind_space(text, at)
            if text[at] != _COLON:
                return _NOT_PLAIN
            at = _behind_space(text, at + 1)
        at = _end_of_value(text, at, depth - 1)
        if at < 0:
            return at
        at = _behind_space(text, at)
        if text[at] == closing:
            return at + 1
        if text[at] != _COMMA:
            return _NOT_PLAIN
        at = _behind_space(text, at + 1)


def _behind_space(text: bytes, at: int) -> int:
    while text[at] in b" \t\r\n":
        at += 1
    return at
