r"""The text forms of PostgreSQL's composite types and arrays, as their output functions write them.

See "Composite Type Input and Output Syntax" and "Array Input and Output Syntax" in PostgreSQL's manual. In a record,
nothing between two commas is null, and a quotation mark or a backslash within quotation marks is doubled; in an array,
NULL without quotation marks is null, and a backslash stands before them.
"""

import re
from typing import Any, Final

# A field, and what ends it. Possessive, so that a long one costs no stack.
_FIELD: Final = re.compile(r'(?:"((?:[^"\\]++|""|\\\\)*+)"|([^",()\\]*+))([,)])', re.DOTALL)
_BOUNDS: Final = re.compile(r"(?:\[-?\d+:-?\d+\])+=")
_QUOTED: Final = re.compile(r'"((?:[^"\\]++|\\.)*+)"', re.DOTALL)


def fields(text: str) -> list[str | None]:
    """The values of a record.

    >>> fields('(1,,"a ""b"" c","")')
    ['1', None, 'a "b" c', '']

    Raises ValueError for any other text.
    """
    found: list[str | None] = []
    position, end = 1, ","
    while end == ",":
        match = _FIELD.match(text, position)
        if match is None:
            raise ValueError("no record")
        quoted, bare, end = match.groups()
        if quoted is not None:
            found.append(quoted.replace('""', '"').replace("\\\\", "\\"))
        else:
            found.append(bare or None)
        position = match.end()
    if text[0] != "(" or position != len(text):
        raise ValueError("no record")
    return found


def _unescaped(text: str) -> str:
    """Without the backslash before each quotation mark and each backslash."""
    return "\\".join(part.replace('\\"', '"') for part in text.split("\\\\"))


def simple_elements(text: str, delimiter: str = ",") -> list[str] | None:
    """The elements of an array of one dimension none of which stands in quotation marks, NULL among them as it is
    written; None for any other. Found in a hundredth of the time."""
    if text.startswith("{") and text.endswith("}") and '"' not in text and "{" not in text[1:]:
        return text[1:-1].split(delimiter) if len(text) > 2 else []
    return None


def elements(text: str, delimiter: str = ",") -> list[Any]:
    """The elements of an array, one of several dimensions as lists of lists; None for null.

    >>> elements('{{1,NULL},{"a,b","NULL"}}')
    [['1', None], ['a,b', 'NULL']]

    Raises ValueError for any other text.
    """
    bounds = _BOUNDS.match(text)
    start = bounds.end() if bounds else 0
    if not text.startswith("{", start):
        raise ValueError("no array")
    bare = re.compile(rf'[^"{{}}\\{re.escape(delimiter)}]+')
    found: list[Any] = []
    open_: list[list[Any]] = [found]
    position = start + 1
    while open_:
        if position >= len(text):
            raise ValueError("an array without an end")
        character = text[position]
        if character == "{":
            inner: list[Any] = []
            open_[-1].append(inner)
            open_.append(inner)
            position += 1
        elif character == "}":
            open_.pop()
            position += 1
        elif character == delimiter:
            position += 1
        elif match := _QUOTED.match(text, position):
            open_[-1].append(_unescaped(match[1]))
            position = match.end()
        elif match := bare.match(text, position):
            open_[-1].append(None if match[0] == "NULL" else match[0])
            position = match.end()
        else:
            raise ValueError("no array")
    if position != len(text):
        raise ValueError("something behind an array")
    return found
